"""A worker is drained although Prefect does not answer, once it works on nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.workers import drain
from tests.deployments.embedded.conftest import wait_until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once."""
    monkeypatch.setattr(drain, "_POLL_S", 0.01)


@pytest.fixture
def nobody() -> Iterator[httpx.Client]:
    """A client of an API that is away."""
    with httpx.Client(base_url="http://127.0.0.1:9/api", trust_env=False) as client:
        yield client


def test_a_worker_without_runs_does_not_wait_for_a_silent_api(
    nobody: httpx.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drain.pause(nobody, "pool", tmp_path / "note", 0, silence_s=0.1)
    assert "pool may not be paused, but its worker works on nothing" in capsys.readouterr().err


def test_a_run_is_waited_for_although_the_api_is_silent(nobody: httpx.Client, tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env={**os.environ, "PREFECT__FLOW_RUN_ID": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert run.stdout is not None
    run.stdout.readline()
    pausing = threading.Thread(
        target=drain.pause, args=(nobody, "pool", tmp_path / "note", os.getpid()), kwargs={"silence_s": 0.1}
    )
    pausing.start()
    pausing.join(1)
    assert pausing.is_alive()
    run.communicate(b"\n")
    wait_until(lambda: not pausing.is_alive(), within_s=10)


def test_resume_gives_up_and_keeps_its_note(
    nobody: httpx.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = tmp_path / "note"
    note.touch()
    drain.resume(nobody, "pool", note, silence_s=0.1)
    assert note.exists()
    assert "pool may still be paused" in capsys.readouterr().err
