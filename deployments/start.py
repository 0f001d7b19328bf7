"""The `runbook` command's first lines: imports take a second or two, and Ctrl-C is obeyed meanwhile too."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

STOPPED = 130  # what a shell says of a program that Ctrl-C ended


def main() -> None:
    """Import the command and run it."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, _stop) for number in signals}
    from deployments import cli  # noqa: PLC0415 - after the handlers are there

    if sys.argv[1:2] != ["check"]:  # which goes on importing, and takes the signals over
        for number, handler in before.items():
            signal.signal(number, handler)
    cli.main()


def _stop(_number: int, _frame: FrameType | None) -> None:
    """End at once: nothing has been started yet, and an exception could be caught by what is being imported."""
    os.write(sys.stderr.fileno(), b"stopped\n")
    os._exit(STOPPED)


if __name__ == "__main__":
    main()
