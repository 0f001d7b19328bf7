"""Daemons: start them apart from their starter, know them again, stop them and all they started.

A process is ours only when its id, its start time and the boot of the machine are those that were recorded when it was
started: a recycled process id is somebody else's. What a daemon itself started is known by its session or, where it
opened a session of its own, by two variables that every daemon of ours passes on to its children.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_S = 0.02
_ROUNDS = 20  # of ending what a dying process had just started
_RECORD_DEADLINE_S = 20.0
STATE_VARIABLE = "RUNBOOK_STATE"
SERVICE_VARIABLE = "RUNBOOK_SERVICE"


@dataclass(frozen=True)
class Process:
    """One process, recognised for as long as it lives.

    `started` is the kernel's start time in clock ticks since boot, `boot` the id of that boot.
    """

    pid: int
    started: int
    boot: str

    @classmethod
    def read(cls, record: Path) -> Self | None:
        """Return the process that a record names, dead or alive; None without a readable record."""
        try:
            found = json.loads(record.read_text())
            return cls(int(found["pid"]), int(found["started"]), str(found["boot"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, record: Path) -> None:
        """Keep this identity in a file that only its owner reads."""
        record.touch(mode=0o600)
        record.write_text(json.dumps(asdict(self)))

    def alive(self) -> bool:
        """Tell whether this very process still runs (one that only waits to be reaped does not)."""
        stat = _stat(self.pid)
        return stat is not None and stat.lives and stat.started == self.started and self.boot == boot_id()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process is gone; False when it is still there after the time."""
        deadline = time.monotonic() + timeout_s
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True


@dataclass(frozen=True)
class _Stat:
    state: str
    session: int
    threads: int
    started: int

    @property
    def lives(self) -> bool:
        """Not merely waiting to be reaped: a dead first thread with others still ending holds on to its ports."""
        return self.state not in "ZX" or self.threads > 1


def _stat(pid: int) -> _Stat | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return _Stat(fields[0], int(fields[3]), int(fields[17]), int(fields[19]))


def boot_id() -> str:
    """Return the id of the machine's current boot: start times are comparable within one boot only."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_daemon(
    command: Sequence[str],
    *,
    record: Path,
    log: Path,
    directory: Path | str = "/",
    environment: Mapping[str, str],
) -> Process:
    """Start a program in a session of its own, its output appended to `log`, and record who it is.

    Args:
        command: the program and its arguments.
        record: file that will hold the process's identity before the program begins.
        log: file for standard output and standard error.
        directory: working directory of the program.
        environment: the program's whole environment.

    Raises:
        OSError: the log or the record cannot be written.
    """
    record.unlink(missing_ok=True)
    launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(record), str(directory), *command]
    log.touch(mode=0o600)
    with log.open("ab") as output:
        child = subprocess.Popen(
            launcher,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
        )
    deadline = time.monotonic() + _RECORD_DEADLINE_S
    while (process := Process.read(record)) is None:
        if child.poll() is not None or time.monotonic() > deadline:
            raise OSError(f"{command[0]} could not be launched; see {log}")
        time.sleep(0.002)
    return process


def stop_daemon(process: Process, *, how: signal.Signals, timeout_s: float) -> bool:
    """Ask a daemon to end; after `timeout_s` seconds end it and its session by force. False when force was needed."""
    members = session_members(process)
    process.signal(how)
    asked = process.wait(timeout_s)
    if not asked:
        members |= session_members(process)
        process.signal(signal.SIGKILL)
        process.wait(5)
    end_all(members)
    return asked


def session_members(leader: Process) -> set[Process]:
    """Return the living processes of a daemon's session; none when the leader is not the recorded process any more."""
    if not leader.alive():
        return set()
    boot = boot_id()
    return {
        Process(pid, stat.started, boot)
        for pid, stat in _processes()
        if stat.session == leader.pid and pid != leader.pid and stat.lives
    }


def marked(state_dir: Path, service: str) -> set[Process]:
    """Return the living processes that carry the marks of a service: it started them, in whatever session they are.

    The caller itself is never among them, so that a program run by a worker can stop that worker.
    """
    marks = {f"{STATE_VARIABLE}={state_dir}".encode(), f"{SERVICE_VARIABLE}={service}".encode()}
    boot, found = boot_id(), set()
    for pid, stat in _processes():
        if pid == os.getpid() or not stat.lives:
            continue
        try:
            environment = set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
        except OSError:  # another user's, or gone
            continue
        if marks <= environment:
            found.add(Process(pid, stat.started, boot))
    return found


def working_in(directory: Path, program: str) -> set[Process]:
    """Return the living processes that run a program of this name in a working directory."""
    boot, wanted, found = boot_id(), directory.resolve(), set()
    for pid, stat in _processes():
        try:
            place, running = Path(f"/proc/{pid}/cwd").readlink(), Path(f"/proc/{pid}/exe").readlink().name
        except OSError:  # another user's, or gone
            continue
        if stat.lives and place == wanted and running.removesuffix(" (deleted)") == program:
            found.add(Process(pid, stat.started, boot))
    return found


def end_marked(state_dir: Path, service: str) -> None:
    """End every process that carries the marks of a service, those too that one of them starts meanwhile."""
    for _ in range(_ROUNDS):
        remains = marked(state_dir, service)
        if not remains:
            return
        end_all(remains)


def end_all(processes: set[Process], *, grace_s: float = 0.5) -> None:
    """End processes by force once they had `grace_s` seconds to end by themselves, and wait until they are gone."""
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(process.alive() for process in processes):
        time.sleep(_POLL_S)
    for process in processes:
        process.signal(signal.SIGKILL)
    for process in processes:
        process.wait(5)


def _processes() -> Iterator[tuple[int, _Stat]]:
    for entry in os.listdir("/proc"):  # noqa: PTH208 - a thousand Path objects for nothing
        if entry.isdigit() and (stat := _stat(int(entry))) is not None:
            yield int(entry), stat
