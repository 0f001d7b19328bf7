"""What a person is told while bytes go by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Report = Callable[[str], None]
"""Told what is going on, a sentence at a time."""

EVERY_S = 10.0


class Volume:
    """Tells how many bytes went by, not more often than every `EVERY_S` seconds.

    Args:
        report: Told.
        verb: What is done to the bytes, such as "dumped".
    """

    def __init__(self, report: Report, verb: str) -> None:
        self._report = report
        self._verb = verb
        self._reached: dict[str, int] = {}
        self._told_at = time.monotonic()
        self._lock = threading.Lock()

    def reached(self, name: str, count: int) -> None:
        """Note that `count` bytes of `name` are done; from any thread."""
        with self._lock:
            self._reached[name] = count
            now = time.monotonic()
            if now - self._told_at < EVERY_S:
                return
            self._told_at = now
            total = sum(self._reached.values())
        self._report(f"{self._verb} {total / 2**20:,.0f} MiB")
