"""Prefect on PostgreSQL with one worker: from nothing to a pool that is served, drained and stopped."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from deployments.embedded import down, status, up
from deployments.embedded.catalogue import POOLS
from deployments.workers.drain import pause, resume
from tests.deployments.embedded.conftest import named, processes_of

NAME = "worker-rollback"


@pytest.mark.timeout(300)
def test_worker_brings_up_what_it_needs(state_dir: Path, tmp_path: Path) -> None:
    up([NAME], state_dir)
    running = {found.name for found in status(state_dir) if found.state == "running"}
    assert running == {"postgres-prefect", "prefect", NAME}
    server = named(status(state_dir), "prefect")
    with httpx.Client(base_url=f"{server.url}/api", timeout=30) as api:
        pools = {pool["name"]: pool for pool in api.post("/work_pools/filter", json={}).json()}
        assert {name for name, pool in pools.items() if pool["type"] == "process"} == set(POOLS)
        assert all(pool["base_job_template"]["variables"]["properties"] for pool in pools.values())
        assert api.get(server.url).status_code == httpx.codes.OK  # the UI
        workers = api.post(f"/work_pools/{POOLS[-1]}/workers/filter", json={}).json()
        assert [worker["name"] for worker in workers] == [NAME]

        note = tmp_path / "paused"
        pause(api, "rollback", note)
        assert api.get("/work_pools/rollback").json()["is_paused"]
        resume(api, "rollback", note)
        assert not api.get("/work_pools/rollback").json()["is_paused"]
        api.patch("/work_pools/rollback", json={"is_paused": True})  # by a person, who wants it so
        pause(api, "rollback", note)
        resume(api, "rollback", note)
        assert api.get("/work_pools/rollback").json()["is_paused"]

    password = (state_dir / "secrets" / "postgres-prefect.prefect").read_text()
    arguments = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert password not in arguments
    assert password not in "".join(log.read_text() for log in (state_dir / "logs").iterdir())

    told: list[str] = []
    down(["prefect"], state_dir, told.append)
    assert told == [f"{NAME}: stopped", "prefect: stopped"]
    assert [found.name for found in status(state_dir) if found.state == "running"] == ["postgres-prefect"]
    down([], state_dir)
    assert processes_of(state_dir) == []
