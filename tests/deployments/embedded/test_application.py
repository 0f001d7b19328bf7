"""A pidfile that a killed gunicorn left behind: neither believed at a start nor at a reload."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.embedded.application import _forget_dead_pid
from tests.deployments.embedded.conftest import REPOSITORY


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A checkout with as much of the application as a reload needs."""
    directory = tmp_path / "app"
    (directory / "config").mkdir(parents=True)
    source = REPOSITORY / "examples" / "chatbot" / "app" / "config" / "reload.py"
    shutil.copy(source, directory / "config")
    (directory / "config" / "environment.py").write_text("import os\nsetting = os.environ.__getitem__\n")
    return directory


@pytest.fixture
def elsewhere() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is not the application's."""
    with subprocess.Popen(["sleep", "300"], cwd="/") as process:
        yield process
        process.kill()


def reload(application: Path, pidfile: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "config/reload.py"],
        cwd=application,
        env={**os.environ, "PIDFILE": str(pidfile)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_reload_tells_the_process_of_this_application(application: Path, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "300"], cwd=application) as server:
        (tmp_path / "pid").write_text(f"{server.pid}\n")
        done = reload(application, tmp_path / "pid")
        assert (done.returncode, done.stderr) == (0, "")
        assert server.wait(10) == -signal.SIGHUP


def test_reload_leaves_a_stranger_alone(application: Path, tmp_path: Path, elsewhere: subprocess.Popen[bytes]) -> None:
    (tmp_path / "pid").write_text(f"{elsewhere.pid}\n")
    done = reload(application, tmp_path / "pid")
    assert done.returncode == 1
    assert f"process {elsewhere.pid} of {tmp_path / 'pid'} works in /, not in {application}" in done.stderr
    assert elsewhere.poll() is None


@pytest.mark.parametrize("content", ["", "99999999\n", None])
def test_reload_of_nothing_says_so(application: Path, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "pid").write_text(content)
    done = reload(application, tmp_path / "pid")
    assert done.returncode == 1
    assert done.stderr.startswith("gunicorn does not run: ")


def test_a_start_forgets_a_pid_that_is_not_the_applications(
    application: Path, tmp_path: Path, elsewhere: subprocess.Popen[bytes]
) -> None:
    pidfile = tmp_path / "pid"
    for content in ("", "99999999\n", f"{elsewhere.pid}\n"):
        pidfile.write_text(content)
        _forget_dead_pid(pidfile, application)
        assert not pidfile.exists()
    _forget_dead_pid(pidfile, application)
    with subprocess.Popen(["sleep", "300"], cwd=application) as server:
        pidfile.write_text(f"{server.pid}\n")
        _forget_dead_pid(pidfile, application)
        assert pidfile.exists()
        server.kill()
