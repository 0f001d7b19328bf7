"""Ctrl-C and SIGTERM: whenever they come, nothing of the check is left, and one line says so."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.deployments.check.shop import command, commit
from tests.tasks.app.django_projects import Project

DEADLINE_S = 60
SLEEP = "import time\ntime.sleep(300)\n"


def begun(project: Project, scratch: Path, *options: str) -> subprocess.Popen[str]:
    scratch.mkdir()
    return subprocess.Popen(
        command(project, "--base", "main", *options),
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def mentioning(text: str) -> list[str]:
    """Command lines and working directories of processes in which a text occurs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = f"{(process / 'cmdline').read_bytes().decode(errors='replace')} {(process / 'cwd').readlink()}"
        except OSError:
            continue
        if text in told:
            found.append(told)
    return found


def assert_stopped(process: subprocess.Popen[str], scratch: Path) -> None:
    _output, told = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == "stopped"
    assert told.count("stopped") == 1
    assert "Traceback" not in told
    assert list(scratch.iterdir()) == []
    deadline = time.monotonic() + DEADLINE_S
    while left := mentioning(str(scratch)):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"it never said {words}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_a_migration_is_tried(shop: Project, tmp_path: Path, number: signal.Signals) -> None:
    marker = tmp_path / "begun"
    head = f"""
        import time


        def wait(apps, schema_editor):
            open({str(marker)!r}, "w").close()
            time.sleep(300)
        """
    run = "migrations.RunPython(wait, migrations.RunPython.noop),"
    shop.migration("shop", "0002_wait", run, after="0001_initial", head=head)
    commit(shop, "patience")
    scratch = tmp_path / "scratch"
    process = begun(shop, scratch)
    deadline = time.monotonic() + DEADLINE_S
    while not marker.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: children of the same group are hit too
    else:
        process.send_signal(number)
    assert_stopped(process, scratch)


def test_while_the_application_starts(shop: Project, tmp_path: Path) -> None:
    shop.write("shop/__init__.py", SLEEP)
    commit(shop, "a slow start")
    scratch = tmp_path / "scratch"
    process = begun(shop, scratch, "--base", "HEAD")
    wait_for(process, "migrating a throw-away database")
    process.send_signal(signal.SIGTERM)
    assert_stopped(process, scratch)


@pytest.mark.parametrize("after_s", [0.15, 0.4, 0.8, 1.6])
def test_early(shop: Project, tmp_path: Path, after_s: float) -> None:
    """The moment is not known to anybody outside: whichever it is, the end is the same."""
    scratch = tmp_path / "scratch"
    process = begun(shop, scratch)
    deadline = time.monotonic() + DEADLINE_S
    status = Path(f"/proc/{process.pid}/status")
    while not _catches(status, signal.SIGTERM):  # Python itself is up; before, nobody could answer
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    assert_stopped(process, scratch)


def _catches(status: Path, number: signal.Signals) -> bool:
    [mask] = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt")]
    return bool(int(mask, 16) & 1 << (number - 1))
