"""Following a flow run over Prefect's REST API, which starts in a tenth of the time that importing Prefect takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from tasks.release.errors import ConfigurationError, RunbookError

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
PAGE = 200  # log lines that the API gives at a time


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
        ConfigurationError: It is not set, or nobody answers there.
    """
    address = address or os.environ.get("PREFECT_API_URL")
    if not address:
        raise ConfigurationError(
            "no Prefect server is known", hint="`runbook up` starts one; PREFECT_API_URL names another"
        )
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    key = os.environ.get("PREFECT_API_KEY")
    try:
        with httpx.Client(
            base_url=address,
            auth=(user, password) if user else None,
            headers={"authorization": f"Bearer {key}"} if key else None,
            timeout=30,
            transport=httpx.HTTPTransport(retries=3),
        ) as client:
            yield client
    except httpx.TransportError as error:
        raise ConfigurationError(
            f"the Prefect server at {address} does not answer: {type(error).__name__}", hint="`runbook status` shows it"
        ) from None
    except httpx.HTTPStatusError as error:
        answer = error.response
        raise ConfigurationError(
            f"{answer.request.method} {answer.request.url} answered {answer.status_code}: {answer.text[:500]}",
            hint="was everything registered? `runbook register`",
        ) from None


def start(api: httpx.Client, deployment: str, name: str, parameters: dict[str, Any]) -> Run:
    """Create a flow run of a deployment.

    Args:
        api: See `prefect_api`.
        deployment: `flow/name`.
        name: The run's name.
        parameters: The flow's.
    """
    found = api.get(f"/deployments/name/{deployment}").raise_for_status().json()
    body = {"name": name, "parameters": parameters, "state": {"type": "SCHEDULED"}}
    made = api.post(f"/deployments/{found['id']}/create_flow_run", json=body).raise_for_status().json()
    return _run(made)


def follow(api: httpx.Client, run: Run, say: Callable[[str], None]) -> Run:
    """Tell every log line of a run as it comes, until the run ends.

    Raises:
        RunbookError: It ended in another way than completed.
    """
    told: set[str] = set()
    began = time.monotonic()
    warned = False
    while True:
        now = _run(api.get(f"/flow_runs/{run.id}").raise_for_status().json())
        for line in _new_lines(api, run, told):
            say(line)
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


def markdown_of(api: httpx.Client, run: Run) -> list[str]:
    """The Markdown artifacts that a run published, such as its report."""
    found = api.post(
        "/artifacts/filter",
        json={"artifacts": {"flow_run_id": {"any_": [run.id]}, "type": {"any_": ["markdown"]}}},
    )
    return [artifact["data"] for artifact in found.raise_for_status().json()]


def _new_lines(api: httpx.Client, run: Run, told: set[str]) -> Iterator[str]:
    """Log lines not told before. Lines may arrive late and out of order, so all are read and the known ones skipped."""
    offset = 0
    while True:
        page = api.post(
            "/logs/filter",
            json={
                "logs": {"flow_run_id": {"any_": [run.id]}, "level": {"ge_": 20}},
                "sort": "TIMESTAMP_ASC",
                "limit": PAGE,
                "offset": offset,
            },
        )
        lines = page.raise_for_status().json()
        for line in lines:
            if line["id"] not in told:
                told.add(line["id"])
                if line["message"].startswith(LEFT_OUT):
                    continue
                message = line["message"].partition("\nTraceback (most recent call last)")[0]
                at = datetime.fromisoformat(line["timestamp"]).astimezone(UTC)
                yield f"{at:%H:%M:%S} {message}"
        if len(lines) < PAGE:
            return
        offset += PAGE


def _run(answer: dict[str, Any]) -> Run:
    state = answer.get("state") or {}
    return Run(answer["id"], answer["name"], state.get("type") or "SCHEDULED", state.get("message") or "")
