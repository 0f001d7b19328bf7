"""What one piece of work costs its client: wall time, processor time, memory and temporary disk.

Every measured piece of work is a fresh process: `measure` observes it, `work` is the process itself. They speak by
lines, so that imports are not timed and secrets are not on a command line. Wall and processor time are taken by the
process itself, memory and disk by the observer, which sees the programs that the work starts as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

SAMPLES_PER_SECOND = 20
_DISK_EVERY = 5  # samples: files grow slowly, and each has to be asked for
_BEGIN, _READY, _RESULT = "begin", "ready", "result "
_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Cost:
    """What a piece of work took; a process's share of shared pages counts once over all processes (PSS)."""

    wall_s: float
    cpu_s: float  # user and system, of the process and everything it started
    peak_memory_bytes: int
    peak_disk_bytes: int


class WorkError(Exception):
    """The measured process failed; the message holds its last words."""


def measure(command: Sequence[str], task: dict[str, Any], temporary: Path) -> Cost:
    """Run a piece of work in a fresh process and observe it.

    Args:
        command: The process; it calls `work` below.
        task: Handed to it on its standard input, so it may hold secrets.
        temporary: An empty directory that becomes the process's TMPDIR; its growth is the temporary disk.

    Raises:
        WorkError: The process failed or took longer than half an hour.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,  # so that what it started can be ended with it
    )
    observer = _Observer(process.pid, temporary)
    limit = threading.Timer(_TIMEOUT_S, process.kill)
    words: list[str] = []
    listener = threading.Thread(target=lambda: words.extend(process.stderr or ()), daemon=True)
    listener.start()
    limit.start()
    try:
        assert process.stdin is not None  # noqa: S101 - for the type checker: both are pipes
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        result = None
        for line in process.stdout:
            if line.strip() == _READY:
                observer.start()
                process.stdin.write(_BEGIN + "\n")
                process.stdin.flush()
            elif line.startswith(_RESULT):
                result = json.loads(line.removeprefix(_RESULT))
                observer.stop()
        process.wait()
    except BrokenPipeError:
        result = None
    finally:
        limit.cancel()
        observer.stop()
        _end(process)
        listener.join(5)
    if result is None or process.returncode != 0:
        raise WorkError(f"{command[-1]} ended with {process.returncode}: {''.join(words)[-2000:].strip()}")
    return Cost(**result, peak_memory_bytes=observer.memory, peak_disk_bytes=observer.disk)


def work(piece: Callable[[dict[str, Any]], None]) -> None:
    """Be the measured process.

    Args:
        piece: The work to be timed: takes the task that `measure` was given.
    """
    task = json.loads(sys.stdin.readline())
    _say(_READY)
    if sys.stdin.readline().strip() != _BEGIN:
        sys.exit("the observer has gone")
    cpu, begun = _cpu_s(), time.perf_counter()
    piece(task)
    wall = time.perf_counter() - begun
    _say(_RESULT + json.dumps({"wall_s": wall, "cpu_s": _cpu_s() - cpu}))


class _Observer:
    """Samples memory and disk in a thread of its own."""

    def __init__(self, pid: int, directory: Path) -> None:
        self.memory = 0
        self.disk = 0
        self._pid = pid
        self._directory = directory
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        sample = 0
        while not self._over.wait(1 / SAMPLES_PER_SECOND):
            self.memory = max(self.memory, sum(map(_pss_bytes, _family(self._pid))))
            if sample % _DISK_EVERY == 0:
                self.disk = max(self.disk, _disk_bytes(self._directory, _family(self._pid)))
            sample += 1


def _family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:  # that thread has just ended
                continue
    return found


def _pss_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:  # the process has just ended
        pass
    return 0


def _disk_bytes(directory: Path, processes: list[int]) -> int:
    """What lies in a directory, and what processes hold open of files that have no name any more or never had one."""
    found: dict[tuple[int, int], int] = {}
    opened = (path for pid in processes for path in Path(f"/proc/{pid}/fd").glob("*"))
    for path, has_name in chain(((path, True) for path in directory.rglob("*")), ((path, False) for path in opened)):
        try:
            status = path.stat()
        except OSError:  # the file or the process has just gone
            continue
        if stat.S_ISREG(status.st_mode) and (has_name or status.st_nlink == 0):
            found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def _cpu_s() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _end(process: subprocess.Popen[str]) -> None:
    """End the process and everything it started, if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
