"""The pieces of work that are measured, by name; `python -m bench.ways NAME` is the process that carries one out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from bench import ours, peers
from bench.measure import work
from bench.place import Place

BACKUPS: dict[str, Callable[[Place], None]] = {
    "runbook": peers.runbook_backup,
    "custom": peers.custom_backup,
    "directory": peers.directory_backup,
    "stream": ours.stream,
    "stage": ours.stage,
}
RESTORES: dict[str, Callable[[Place], None]] = {
    "runbook": peers.runbook_restore,
    "custom": peers.custom_restore,
    "directory": peers.directory_restore,
    "stage": ours.restore,
}


def main(direction: str, name: str) -> None:
    """Carry out one piece of work in this process, under observation."""
    piece = (BACKUPS if direction == "backup" else RESTORES)[name]

    def carry_out(task: dict[str, Any]) -> None:
        piece(Place(**task))

    work(carry_out)


if __name__ == "__main__":
    main(*sys.argv[1:])
