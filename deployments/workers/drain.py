"""Let a worker finish before it is stopped: `python -m deployments.workers.drain pause|resume POOL`.

A process worker that is stopped kills its flow runs at once and leaves them Running for ever (PrefectHQ/prefect #16746,
#22528). So the systemd unit pauses the pool first, waits until this worker works on nothing, and resumes the pool
afterwards; a pool that somebody else had paused before stays paused. There is no deadline here: systemd's
TimeoutStopSec is it.

What a worker works on is read from the machine, not from the server: its runs are its child processes, and Prefect
gives each the variable PREFECT__FLOW_RUN_ID. The server's list of unfinished runs also holds those of other workers,
and those of dead workers, which never finish.

The API and its password or key are Prefect's own settings (PREFECT_API_URL, PREFECT_API_AUTH_STRING, PREFECT_API_KEY).
systemd gives MAINPID, the worker, and RUNTIME_DIRECTORY, where it is noted that the pause is ours.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tasks.release.prefect_api import client, may_pass

_POLL_S = 2.0
_MARK = b"PREFECT__FLOW_RUN_ID="
_QUIET_LOOKS = 2  # a run that was handed out just before the pause gets its process a moment later


def pause(api: httpx.Client, pool: str, note: Path, worker: int) -> None:
    """Pause a work pool and wait until a worker of it works on no flow run.

    Args:
        api: client of the Prefect API.
        pool: name of the work pool.
        note: file that is made when this call, and nobody before, paused the pool.
        worker: process id of the worker.

    Raises:
        httpx.HTTPStatusError: the API refused. A lost connection or a 5xx is tried again: a server restarts too.
    """
    if not _ask(api, "GET", f"/work_pools/{pool}")["is_paused"]:
        note.touch()
        _ask(api, "PATCH", f"/work_pools/{pool}", {"is_paused": True})
    quiet = 0
    while quiet < _QUIET_LOOKS:
        quiet = 0 if _works(worker) else quiet + 1
        time.sleep(_POLL_S)


def resume(api: httpx.Client, pool: str, note: Path) -> None:
    """Resume a work pool that `pause` paused.

    Raises:
        httpx.HTTPStatusError: the API refused.
    """
    if note.exists():
        _ask(api, "PATCH", f"/work_pools/{pool}", {"is_paused": False})
        note.unlink()


def main(action: str, pool: str) -> None:
    """Run one action with the settings of the environment."""
    note = Path(os.environ.get("RUNTIME_DIRECTORY", "."), f"{pool}.paused")
    with client() as api:
        if action == "pause":
            pause(api, pool, note, int(os.environ.get("MAINPID") or 0))  # none: it has ended by itself
        else:
            resume(api, pool, note)


def _works(worker: int) -> bool:
    """Whether a process of a flow run is a child of this worker."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"\nPPid:\t{worker}\n" in status.read_text() and _MARK in status.with_name("environ").read_bytes():
                return True
        except OSError:  # gone
            continue
    return False


def _ask(api: httpx.Client, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
    while True:
        try:
            answer = api.request(method, path, json=content).raise_for_status()
        except httpx.HTTPError as error:
            if not may_pass(error):
                raise
            time.sleep(_POLL_S)
            continue
        return answer.json() if answer.content else None


if __name__ == "__main__":
    main(*sys.argv[1:])
