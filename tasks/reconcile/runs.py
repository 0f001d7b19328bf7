"""Flow runs, asked for and changed over Prefect's REST API."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tasks.release.errors import ServiceError
from tasks.release.prefect_api import client, may_pass

GONE = "GONE"  # in place of a state's type: the server knows no such run
WAITING_FOR_A_WORKER = frozenset({"SCHEDULED", "PENDING"})
TIMEOUT_S = 15.0  # of one request
LIMIT = 50  # runs looked at


@dataclass(frozen=True)
class FlowRun:
    """A flow run that Prefect shows as running."""

    id: str
    name: str
    pid: str  # of its process on the worker's machine; "" where Prefect does not know it


@contextmanager
def prefect_api() -> Iterator[httpx.Client]:
    """A client of the Prefect server of this process.

    Raises:
        ServiceError: The server does not answer, or refuses; retryable when it may pass.
        ConfigurationError: None is known.
    """
    with client(timeout_s=TIMEOUT_S) as api:
        try:
            yield api
        except httpx.HTTPError as error:
            answer = f" answered {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else ""
            raise ServiceError(
                f"the Prefect server at {api.base_url}{answer or f' does not answer: {type(error).__name__}'}",
                hint="is the server up, and was everything registered? `runbook register`",
                retryable=may_pass(error),
            ) from None


def state_of(api: httpx.Client, run: str) -> str:
    """The type of a flow run's state; GONE when the server does not know it."""
    answer = api.get(f"/flow_runs/{run}")
    if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.UNPROCESSABLE_ENTITY):  # the latter: not even an id
        return GONE
    return str((answer.raise_for_status().json().get("state") or {}).get("type") or "SCHEDULED")


def cancel_suspended(api: httpx.Client, run: str, why: str) -> bool:
    """Cancel a flow run that is suspended; whether it was one, also at the moment of asking.

    A suspended run has no process, so that nothing goes on behind its state.
    """
    if state_of(api, run) != "PAUSED":
        return False
    return _set(api, run, {"type": "CANCELLED", "message": why}, force=False)


def left_running(api: httpx.Client, kind: str, environment: str, before: datetime) -> tuple[FlowRun, ...]:
    """The releases of an environment that Prefect shows as running since before a moment; dry runs left out."""
    wanted: dict[str, Any] = {
        "flows": {"name": {"any_": [kind]}},
        "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}, "start_time": {"before_": before.isoformat()}},
        "limit": LIMIT,
    }
    found = api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
    return tuple(
        FlowRun(run["id"], run["name"], run.get("infrastructure_pid") or "")
        for run in found
        if run["parameters"].get("environment", kind) == environment and not run["parameters"].get("dry_run")
    )


def mark_crashed(api: httpx.Client, run: FlowRun) -> bool:
    """Say of a run whose process is gone that it crashed; False: whether it is gone cannot be known here.

    Only of this machine's processes: Prefect does not tell on which one a run was started. A deploy works in the
    application's checkout, and so does the sweep, on one machine.
    """
    if not _is_gone(run):
        return False
    why = f"the sweep: its process {run.pid} is not on {socket.gethostname()} any more, and the release lock is free"
    return _set(api, run.id, {"type": "CRASHED", "message": why}, force=True)


def start_again(api: httpx.Client, deployment: str, parameters: dict[str, str], key: str, name: str) -> str:
    """Create a flow run of a deployment; the id of the one of this key, where there is one already."""
    found = api.get(f"/deployments/name/{deployment}").raise_for_status().json()
    body = {"parameters": parameters, "idempotency_key": key, "name": name, "state": {"type": "SCHEDULED"}}
    return str(api.post(f"/deployments/{found['id']}/create_flow_run", json=body).raise_for_status().json()["id"])


def _set(api: httpx.Client, run: str, state: dict[str, str], *, force: bool) -> bool:
    answer = api.post(f"/flow_runs/{run}/set_state", json={"state": state, "force": force}).raise_for_status()
    # Prefect's rules may answer with 200 and a status such as REJECT or ABORT.
    return bool(answer.json()["status"] == "ACCEPT")


def _is_gone(run: FlowRun) -> bool:
    if not run.pid.isdigit() or not Path("/proc/self").exists():
        return False
    try:
        environment = Path("/proc", run.pid, "environ").read_bytes()
        state = Path("/proc", run.pid, "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:  # another user's process, that may be the run
        return False
    if not environment:  # one that is becoming another program at this moment shows none, as the dead do
        return state == "Z"
    return f"PREFECT__FLOW_RUN_ID={run.id}".encode() not in environment.split(b"\0")
