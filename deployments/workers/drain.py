"""Let a worker finish before it is stopped: `python -m deployments.workers.drain pause|resume POOL`.

A process worker that is stopped kills its flow runs at once and leaves them Running for ever (PrefectHQ/prefect #16746,
#22528). So the systemd unit pauses the pool first, waits until nothing of it runs, and resumes the pool afterwards; a
pool that somebody else had paused before stays paused. There is no deadline here: systemd's TimeoutStopSec is it.

The API and its password are Prefect's own settings, PREFECT_API_URL and PREFECT_API_AUTH_STRING; RUNTIME_DIRECTORY,
which systemd sets, is where it is noted that the pause is ours.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx

_POLL_S = 2.0
_UNFINISHED = ["PENDING", "RUNNING", "CANCELLING"]


def pause(api: httpx.Client, pool: str, note: Path) -> None:
    """Pause a work pool and wait until none of its flow runs is unfinished.

    Args:
        api: client of the Prefect API.
        pool: name of the work pool.
        note: file that is made when this call, and nobody before, paused the pool.

    Raises:
        httpx.HTTPStatusError: the API refused. A lost connection is tried again: a server restarts too.
    """
    if not _ask(api, "GET", f"/work_pools/{pool}")["is_paused"]:
        note.touch()
        _ask(api, "PATCH", f"/work_pools/{pool}", {"is_paused": True})
    wanted = {
        "work_pools": {"name": {"any_": [pool]}},
        "flow_runs": {"state": {"type": {"any_": _UNFINISHED}}},
    }
    while _ask(api, "POST", "/flow_runs/filter", wanted):
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
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    note = Path(os.environ.get("RUNTIME_DIRECTORY", "."), f"{pool}.paused")
    auth = (user, password) if user else None
    with httpx.Client(base_url=os.environ["PREFECT_API_URL"], auth=auth, timeout=30) as api:
        {"pause": pause, "resume": resume}[action](api, pool, note)


def _ask(api: httpx.Client, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
    while True:
        try:
            answer = api.request(method, path, json=content)
        except httpx.TransportError:
            time.sleep(_POLL_S)
            continue
        answer.raise_for_status()
        return answer.json() if answer.content else None


if __name__ == "__main__":
    main(*sys.argv[1:])
