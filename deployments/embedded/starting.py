"""Start a server and wait for its first answer, or for its last words."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.embedded.errors import ServiceNotStarted
from deployments.embedded.processes import Process, start_daemon, stop_daemon

_LAST_WORDS = 6  # lines
_PORT_TAKEN = ("address already in use", "address in use")


@dataclass(frozen=True)
class Files:
    """Where a server's traces go: `record` holds the identity of its process, `log` its output.

    `marks` are environment variables by which the server, and whatever it starts, is known later.
    """

    record: Path
    log: Path
    marks: Mapping[str, str]


def start_server(
    service: str,
    command: Sequence[str],
    *,
    files: Files,
    environment: Mapping[str, str],
    directory: Path | str,
    ready: Callable[[Process], bool],
    within_s: float,
) -> Process:
    """Start a server and return its process once `ready` says so.

    Args:
        service: its name, for messages.
        command: program and arguments.
        files: where its traces go.
        environment: its environment, to which the marks are added.
        directory: its working directory.
        ready: tells whether the server answers.
        within_s: the longest that this may take, in seconds.

    Raises:
        ServiceNotStarted: it ended, or was not ready in time and has been ended.
    """
    beginning = files.log.stat().st_size if files.log.exists() else 0
    process = start_daemon(
        command, record=files.record, log=files.log, directory=directory, environment={**environment, **files.marks}
    )
    deadline = time.monotonic() + within_s
    pause_s = 0.02
    while True:
        answered = ready(process)
        if not process.alive():  # asked last: with our server gone, it was another one that answered
            said = _said(files.log, beginning)
            taken = any(words in said.lower() for words in _PORT_TAKEN)
            last = " / ".join(said.splitlines()[-_LAST_WORDS:]) or "it ended without a word"
            raise ServiceNotStarted(service, last, hint=f"its log is {files.log}", port_taken=taken)
        if answered:
            return process
        if time.monotonic() > deadline:
            stop_daemon(process, how=signal.SIGTERM, timeout_s=5)
            raise ServiceNotStarted(service, f"no answer in {within_s:.0f} s", hint=f"its log is {files.log}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.3, 0.25)


def _said(log: Path, beginning: int) -> str:
    with log.open("rb") as file:
        file.seek(beginning)
        return file.read().decode(errors="replace").strip()
