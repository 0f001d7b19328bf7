"""One management command that changes the database at a time, killed parents included."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.release.errors import ReleaseInProgressError

POLL_S = 0.2


@contextmanager
def alone_in(directory: Path, within_s: float, report: Callable[[str], None]) -> Iterator[int]:
    """Lock a checkout for a command that inherits the lock.

    A command outlives a flow that is killed, and has no session on the server while it still starts: the database
    alone cannot tell that it is on its way. The kernel drops the lock when the last process that has it ends.

    Args:
        directory: The checkout.
        within_s: How long a command of an earlier attempt is waited for, in seconds.
        report: Takes a line for the log.

    Yields:
        A descriptor; the command must inherit it.

    Raises:
        ReleaseInProgressError: A command of an earlier attempt is still at work after that time.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + within_s
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ReleaseInProgressError(
                        f"a command of an earlier attempt is still at work in {directory} after {within_s:.0f} s",
                        hint=f"`fuser -v {directory}` shows it; end it when you are sure, then run the release again",
                    ) from None
                if not told:
                    report(f"a command of an earlier attempt is still at work in {directory}; waiting for it to end")
                    told = True
                time.sleep(POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)
