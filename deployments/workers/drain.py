"""Let a worker finish before it is stopped: `python -m deployments.workers.drain pause|resume POOL`.

A process worker that is stopped kills its flow runs at once and leaves them Running for ever (PrefectHQ/prefect #16746,
#22528). So the systemd unit pauses the pool first, waits until this worker works on nothing, and resumes the pool
afterwards; a pool that somebody else had paused before stays paused. For runs there is no deadline here: systemd's
TimeoutStopSec is it. A Prefect API that stays away does not hold up a worker that works on nothing: after a minute of
silence both actions give up, with a line on standard error. A pause of ours that is left then is ended by the next
`resume`.

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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tasks.release.prefect_api import client, may_pass

_POLL_S = 2.0
_SILENCE_S = 60.0  # of the API
_MARK = b"PREFECT__FLOW_RUN_ID="
_QUIET_LOOKS = 2  # a run that was handed out just before the pause gets its process a moment later


class _SilentError(Exception):
    """The API did not answer for too long."""


def pause(api: httpx.Client, pool: str, note: Path, worker: int, *, silence_s: float = _SILENCE_S) -> None:
    """Pause a work pool and wait until a worker of it works on no flow run.

    Without an answer of the API the pool is not paused; then it is enough that the worker works on nothing.

    Args:
        api: client of the Prefect API.
        pool: name of the work pool.
        note: file that is made when this call, and nobody before, paused the pool.
        worker: process id of the worker.
        silence_s: the shortest time without an answer, in seconds, after which the API is given up.

    Raises:
        httpx.HTTPStatusError: the API refused. A lost connection or a 5xx is tried again: a server restarts too.
    """

    def idle() -> bool:
        return not _works(worker)

    try:
        if not _ask(api, "GET", f"/work_pools/{pool}", silence_s=silence_s, idle=idle)["is_paused"]:
            note.touch()
            _ask(api, "PATCH", f"/work_pools/{pool}", {"is_paused": True}, silence_s=silence_s, idle=idle)
    except _SilentError as silent:
        sys.stderr.write(f"{pool} may not be paused, but its worker works on nothing: {silent}\n")
        return
    quiet = 0
    while quiet < _QUIET_LOOKS:
        quiet = 0 if _works(worker) else quiet + 1
        time.sleep(_POLL_S)


def resume(api: httpx.Client, pool: str, note: Path, *, silence_s: float = _SILENCE_S) -> None:
    """Resume a work pool that `pause` paused, or give up when the API does not answer for `silence_s` seconds.

    Raises:
        httpx.HTTPStatusError: the API refused.
    """
    if not note.exists():
        return
    try:
        _ask(api, "PATCH", f"/work_pools/{pool}", {"is_paused": False}, silence_s=silence_s, idle=lambda: True)
    except _SilentError as silent:
        sys.stderr.write(f"{pool} may still be paused; `resume` again, or resume it by hand: {silent}\n")
        return
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


def _ask(
    api: httpx.Client,
    method: str,
    path: str,
    content: dict[str, Any] | None = None,
    *,
    silence_s: float,
    idle: Callable[[], bool],
) -> Any:
    """Ask until there is an answer, or none for `silence_s` seconds and `idle` in several looks."""
    begun, quiet = time.monotonic(), 0
    while True:
        try:
            answer = api.request(method, path, json=content).raise_for_status()
        except httpx.HTTPError as error:
            if not may_pass(error):
                raise
            quiet = quiet + 1 if idle() else 0
            silent_s = time.monotonic() - begun
            if silent_s >= silence_s and quiet >= _QUIET_LOOKS:
                raise _SilentError(f"no answer from Prefect in {silent_s:.0f} s ({error})") from error
            time.sleep(_POLL_S)
            continue
        return answer.json() if answer.content else None


if __name__ == "__main__":
    main(*sys.argv[1:])
