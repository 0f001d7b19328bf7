"""Runs of the approving flow: in this process, as a worker would do it, or by a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_sync

from tasks.release.release import Release
from tests.fix_app import Kit, Site
from tests.fix_prefect import PrefectServer
from tests.tasks.approve.approving import approving


@dataclass
class Deployed:
    """The approving flow on a server, and the site that it releases to."""

    site: Site
    api: httpx.Client
    deployment: str

    def ask(self, ref: str = "v1.1", **parameters: Any) -> str:
        """A new flow run, up to its suspension; its id."""
        run = self.create(ref, **parameters)
        self.suspends(run)
        return run

    def create(self, ref: str = "v1.1", **parameters: Any) -> str:
        body = {"parameters": {"ref": ref, **parameters}, "state": {"type": "SCHEDULED"}}
        answer = self.api.post(f"/deployments/{self.deployment}/create_flow_run", json=body)
        return str(answer.raise_for_status().json()["id"])

    def go_on(self, run: str) -> None:
        """What a worker's child does: run the flow from the top, until its end or until it is suspended."""
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(UUID(run))
        run_flow_sync(approving, flow_run=flow_run, parameters=flow_run.parameters)

    def suspends(self, run: str) -> None:
        with pytest.raises(Pause):
            self.go_on(run)
        assert self.release.status == "waiting"

    def answer(self, run: str, **values: Any) -> str:
        """Answer by REST; what the server says to it."""
        answer = self.api.post(f"/flow_runs/{run}/resume", json={"run_input": values}).raise_for_status().json()
        return str(answer["status"])

    @property
    def release(self) -> Release:
        """The newest release."""
        return next(self.site.ledger.newest())

    def state_of(self, run: str) -> str:
        return str(self.api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]["name"])


def deploy(api: httpx.Client, pool: str | None) -> str:
    """Register the approving flow; the deployment's id."""
    flow = api.post("/flows/", json={"name": "approving"}).raise_for_status().json()["id"]
    body = {
        "name": pool or "nowhere",
        "flow_id": flow,
        "entrypoint": "tests.tasks.approve.approving.approving",
        "work_pool_name": pool,
        "parameters": {"environment": "production"},
        "pull_steps": [],
    }
    return str(api.post("/deployments/", json=body).raise_for_status().json()["id"])


@pytest.fixture
def production(kit: Kit, tmp_path: Path, chatbot_repository: Path) -> Iterator[Site]:
    """A production at v1.0; its service is not started."""
    with kit.site("production", tmp_path, chatbot_repository) as site:
        yield site


@pytest.fixture
def asking(prefect_server: PrefectServer, production: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    """The approving flow, run in this process."""
    monkeypatch.setenv("RUNBOOK_ENVIRONMENTS", str(production.directory))
    with (
        prefect_server.runs_here(),
        httpx.Client(base_url=prefect_server.api, timeout=30) as api,
    ):
        yield Deployed(production, api, deploy(api, None))
