"""Answering the question of a suspended release over Prefect's REST API."""

from __future__ import annotations

from typing import Any

import httpx

from tasks.approve.question import described
from tasks.release.errors import RefusedError, RunbookError
from tasks.release.release import Release
from tasks.store.ledger import Ledger, now


def waiting(ledger: Ledger) -> Release:
    """The release of an environment that waits for an approval: the newest one, since no other is opened meanwhile.

    Raises:
        RefusedError: None waits, or its question has expired.
    """
    release = next(ledger.newest(), None)
    if release is None or release.status != "waiting" or release.asked is None:
        raise RefusedError(
            f"no release of {ledger.environment} waits for an approval",
            hint=f"`runbook releases {ledger.environment}` lists them with their states",
        )
    if release.asked.expired(now()):
        raise RefusedError(
            f"the question of release {release.id} expired at {release.asked.expires_at:%Y-%m-%d %H:%M:%S} UTC",
            hint="deploy the same ref again, which asks again",
        )
    return release


def question_of(release: Release) -> str:
    """The question in Markdown, as the form shows it."""
    return described(release, release.asked) if release.asked else ""


def answer(api: httpx.Client, release: Release, values: dict[str, Any]) -> None:
    """Give an answer to the run that waits for it; its own checks follow when it goes on.

    Raises:
        RefusedError: The server did not take it: the status code says 200 to that too.
    """
    if release.asked is None:
        raise RefusedError(f"release {release.id} asks for nothing")
    said = api.post(f"/flow_runs/{release.asked.flow_run_id}/resume", json={"run_input": values})
    ruling = said.raise_for_status().json()
    if ruling["status"] == "ACCEPT":
        return
    reason = (ruling.get("details") or {}).get("reason") or ruling["status"]
    if ruling["status"] == "ABORT":
        raise RefusedError(
            f"the run that asked about release {release.id} waits no more: {reason}",
            hint="somebody may have answered just now; `runbook report` shows it",
        )
    raise RunbookError(f"the answer was not taken: {reason}", hint="mend it and answer again")
