"""Following a flow run over Prefect's REST API, which starts in a tenth of the time that importing Prefect takes."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tasks.release.errors import ConfigurationError, RunbookError
from tasks.release.order import ASKED_BY
from tasks.release.prefect_api import client, may_pass

POLL_S = 0.7
ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
WAITS_LONG_S = 30.0  # after so long without a worker, say what is missing
# Said by Prefect of each task, of the way a run takes to its worker, and of an error that is told at the end.
LEFT_OUT = (
    "Finished in state",
    "Downloading flow code",
    "Worker '",
    "Flow run '",
    "Encountered exception during execution",
    "Engine execution exited",
)
REPORTS = ("release-", "dry-run-")  # how the keys of reports begin
PAGE = 200  # log lines that the API gives at a time
# Prefect sends the lines of a process in batches, and several processes write one log: a line can arrive after a later
# one was read. Looks overlap by this much; the last look, after the end, reads everything once more.
OVERLAP = timedelta(seconds=30)
NO_API = "PREFECT_API_URL ends with /api"  # without it the UI answers: its HTML to a GET, 405 to a POST
NOT_REGISTERED = "was everything registered? `runbook register`"
PATIENCE_S = 120.0  # a server that restarts is waited for


@dataclass(frozen=True)
class Run:
    """A flow run as it was seen last."""

    id: str
    name: str
    state: str  # its type, such as COMPLETED
    message: str


@contextmanager
def prefect_api(address: str | None = None) -> Iterator[httpx.Client]:
    """A client of a Prefect API; none: of the one that PREFECT_API_URL names.

    Raises:
        ConfigurationError: It is not set, or nobody answers there, or something that is no Prefect API.
    """
    with client(address) as api:
        try:
            yield api
        except httpx.TransportError as error:
            raise ConfigurationError(
                f"the Prefect server at {api.base_url} does not answer: {type(error).__name__}",
                hint="`runbook status` shows it",
            ) from None
        except httpx.HTTPStatusError as error:
            answer = error.response
            raise ConfigurationError(
                f"{answer.request.method} {answer.request.url} answered {answer.status_code}: {answer.text[:500]}",
                hint=NO_API if answer.status_code == httpx.codes.METHOD_NOT_ALLOWED else NOT_REGISTERED,
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError):  # such as the UI's HTML, which it gives for any path
            raise ConfigurationError(f"{api.base_url} does not answer as a Prefect API", hint=NO_API) from None


def start(api: httpx.Client, deployment: str, name: str, parameters: dict[str, Any]) -> Run:
    """Create a flow run of a deployment.

    Args:
        api: See `prefect_api`.
        deployment: `flow/name`.
        name: The run's name.
        parameters: The flow's.

    Raises:
        ConfigurationError: No worker would take it.
    """
    found = api.get(f"/deployments/name/{deployment}").raise_for_status().json()
    pool = found["work_pool_name"]
    workers = api.post(f"/work_pools/{pool}/workers/filter", json={}).raise_for_status().json()
    if not any(worker["status"] == "ONLINE" for worker in workers):
        raise ConfigurationError(
            f"no worker is online in the work pool {pool}: the run would wait, and start when nobody expects it",
            hint=f"`runbook up worker-{pool}` starts the embedded one, `prefect worker start --pool {pool}` another",
        )
    body = {
        "name": name,
        "parameters": parameters,
        "tags": [f"{ASKED_BY}{_user()}@{socket.gethostname()}"],
        "state": {"type": "SCHEDULED"},
    }
    made = api.post(f"/deployments/{found['id']}/create_flow_run", json=body).raise_for_status().json()
    return _run(made)


def follow(api: httpx.Client, run: Run, say: Callable[[str], None]) -> Run:
    """Tell every log line of a run as it comes, until the run ends.

    Raises:
        RunbookError: It ended in another way than completed, or the server was away for longer than two minutes.
    """
    log = _Log(api, run)
    began = time.monotonic()
    lost_at: float | None = None
    warned = False
    while True:
        try:
            now = _run(api.get(f"/flow_runs/{run.id}").raise_for_status().json())
            for line in log.new_lines(all_of_them=now.state in ENDED):
                say(line)
        except httpx.HTTPError as error:
            lost_at = lost_at or time.monotonic()
            if not may_pass(error):
                raise
            if time.monotonic() - lost_at > PATIENCE_S:
                raise RunbookError(
                    f"the Prefect server did not answer for {PATIENCE_S:.0f} s ({_told(error)}); flow run {run.name}"
                    " was not touched and may go on",
                    hint="its end will be in the Prefect UI and in `runbook report`",
                ) from None
            time.sleep(POLL_S)
            continue
        lost_at = None
        if now.state in ENDED:
            break
        if now.state == "SCHEDULED" and not warned and time.monotonic() - began > WAITS_LONG_S:
            say("no worker took the run yet; `runbook status` shows whether one is up")
            warned = True
        time.sleep(POLL_S)
    if now.state != "COMPLETED":
        message = now.message.removeprefix("Flow run encountered an exception: ")
        hint = "" if now.state == "FAILED" else "run the same command again: it goes on where this one ended"
        raise RunbookError(f"flow run {now.name} {now.state.lower()}: {message}", hint=hint)
    return now


def withdraw(api: httpx.Client, run: Run) -> bool:
    """Cancel a run that no worker has begun; whether it was one, also at the moment of asking."""
    now = _run(api.get(f"/flow_runs/{run.id}").raise_for_status().json())
    if now.state != "SCHEDULED":
        return False
    body = {"state": {"type": "CANCELLED", "message": "withdrawn before it began"}}
    # Its rules may answer with 200 and a status such as REJECT or ABORT: a worker took the run meanwhile.
    answer = api.post(f"/flow_runs/{run.id}/set_state", json=body).raise_for_status().json()
    return bool(answer["status"] == "ACCEPT")


def reports_of(api: httpx.Client, run: Run) -> list[str]:
    """The report that a run published; what single stages have published is part of it."""
    found = api.post(
        "/artifacts/filter",
        json={"artifacts": {"flow_run_id": {"any_": [run.id]}, "type": {"any_": ["markdown"]}}},
    )
    artifacts = found.raise_for_status().json()
    return [artifact["data"] for artifact in artifacts if artifact["key"].startswith(REPORTS)]


class _Log:
    """The log of a run, of which each line is given once."""

    def __init__(self, api: httpx.Client, run: Run) -> None:
        self.api = api
        self.run = run
        self.told: set[str] = set()
        self.newest: datetime | None = None

    def new_lines(self, *, all_of_them: bool) -> Iterator[str]:
        """Lines not given before, of those that are about as new as the newest one, or of all.

        The lines before are not asked for again, or a run of hours would be read anew at every look.
        """
        chosen: dict[str, Any] = {"flow_run_id": {"any_": [self.run.id]}, "level": {"ge_": 20}}
        if self.newest is not None and not all_of_them:
            chosen["timestamp"] = {"after_": (self.newest - OVERLAP).isoformat()}
        for line in self._pages(chosen):
            if line["id"] in self.told:
                continue
            self.told.add(line["id"])
            at = datetime.fromisoformat(line["timestamp"]).astimezone(UTC)
            self.newest = max(at, self.newest or at)
            if not line["message"].startswith(LEFT_OUT):
                message = line["message"].partition("\nTraceback (most recent call last)")[0]
                yield f"{at:%H:%M:%S} {message}"

    def _pages(self, chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            wanted = {"logs": chosen, "sort": "TIMESTAMP_ASC", "limit": PAGE, "offset": offset}
            lines = self.api.post("/logs/filter", json=wanted).raise_for_status().json()
            yield from lines
            if len(lines) < PAGE:
                return
            offset += PAGE


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in passwd; OSError since Python 3.13
        return f"uid {os.getuid()}"


def _told(error: httpx.HTTPError) -> str:
    return str(error.response.status_code) if isinstance(error, httpx.HTTPStatusError) else type(error).__name__


def _run(answer: dict[str, Any]) -> Run:
    state = answer.get("state") or {}
    return Run(answer["id"], answer["name"], state.get("type") or "SCHEDULED", state.get("message") or "")
