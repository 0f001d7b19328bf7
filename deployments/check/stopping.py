"""Ctrl-C and SIGTERM: noted at any moment, obeyed where nothing is half made."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Stopping:
    """Whether somebody asked for the end, and the places where that is obeyed.

    A signal that comes while something is made or removed is noted; one that comes inside `waiting` breaks that off,
    once, so that nothing disturbs the cleaning up.
    """

    def __init__(self) -> None:
        self.asked = False
        self._waits = False

    def listen(self) -> None:
        """Take over SIGINT and SIGTERM, until the process ends."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """What may be broken off at any moment.

        Raises:
            KeyboardInterrupt: The end is asked for, or was already.
        """
        self._waits = True
        try:
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._waits = False

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self._waits:
            self._waits = False
            raise KeyboardInterrupt
