"""A state directory of its own for each test, from which nothing is left afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.embedded import Status, delete

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A state directory that does not exist yet; its services are ended and deleted after the test."""
    directory = tmp_path / ".runbook"
    yield directory
    delete(directory)
    assert processes_of(directory) == []


def processes_of(state_dir: Path) -> list[str]:
    """Return the command lines of all living processes that name the directory in arguments or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            if words and str(state_dir).encode() in words + (entry / "environ").read_bytes():
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def named(statuses: list[Status], name: str) -> Status:
    """Return the status of one service."""
    return next(status for status in statuses if status.name == name)


def wait_until(condition: Callable[[], bool], within_s: float = 30) -> None:
    """Wait for a condition, and fail when it does not come in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come in time"
        time.sleep(0.02)


def start_up(state_dir: Path, *names: str) -> subprocess.Popen[str]:
    """Run `up` in a process of its own."""
    program = "import sys, pathlib, deployments.embedded as e; e.up(sys.argv[2:], pathlib.Path(sys.argv[1]))"
    return subprocess.Popen(
        [sys.executable, "-c", program, str(state_dir), *names],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
