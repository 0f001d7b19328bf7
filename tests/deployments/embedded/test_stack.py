"""Prefect on PostgreSQL with one worker: its pools, its UI, its secrets, and a worker that is drained and stopped."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.embedded import down, status, up
from deployments.embedded.catalogue import POOLS, with_dependents
from deployments.workers import drain
from flows.follow import start
from tests.deployments.embedded.conftest import named, processes_of, wait_until
from tests.fix_prefect import PrefectServer

NAME, POOL = "worker-rollback", "rollback"
FLOW = """
import pathlib, time
from prefect import flow

@flow
def waits():
    pathlib.Path("{here}/began").touch()
    while not pathlib.Path("{here}/go").exists():
        time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def api(prefect_server: PrefectServer) -> Iterator[httpx.Client]:
    """The API of a server with a worker in the pool for rollbacks."""
    up([NAME], prefect_server.state_dir)
    with httpx.Client(base_url=prefect_server.api, timeout=30) as client:
        yield client
    told: list[str] = []
    down([NAME], prefect_server.state_dir, told.append)
    assert told[-1] == f"{NAME}: stopped"
    assert [line for line in processes_of(prefect_server.state_dir) if f"--name {NAME}" in line] == []


@pytest.fixture
def deployment(api: httpx.Client, tmp_path: Path) -> Iterator[str]:
    """The id of a deployment whose flow touches `began` and waits for `go`."""
    (tmp_path / "waiting.py").write_text(FLOW.format(here=tmp_path))
    flow = api.post("/flows/", json={"name": "waits"}).raise_for_status().json()
    wanted = {
        "name": "drained",
        "flow_id": flow["id"],
        "work_pool_name": POOL,
        "path": str(tmp_path),
        "entrypoint": "waiting.py:waits",
    }
    made = api.post("/deployments/", json=wanted).raise_for_status().json()
    yield made["id"]
    api.delete(f"/deployments/{made['id']}")


def test_pools_workers_and_ui(api: httpx.Client, prefect_server: PrefectServer) -> None:
    pools = {pool["name"]: pool for pool in api.post("/work_pools/filter", json={}).json()}
    assert {name for name, pool in pools.items() if pool["type"] == "process"} == set(POOLS)
    assert all(pool["base_job_template"]["variables"]["properties"] for pool in pools.values())
    assert httpx.get(prefect_server.url, timeout=30).status_code == httpx.codes.OK  # the UI
    workers = api.post(f"/work_pools/{POOL}/workers/filter", json={}).json()
    assert [worker["name"] for worker in workers] == [NAME]

    password = (prefect_server.state_dir / "secrets" / "postgres-prefect.prefect").read_text()
    arguments = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert password not in arguments
    assert password not in "".join(log.read_text() for log in (prefect_server.state_dir / "logs").iterdir())


def test_a_worker_is_stopped_before_its_server() -> None:
    assert [service.name for service in with_dependents(["prefect"])][-1] == "prefect"
    assert {service.name for service in with_dependents(["prefect"])} == {"prefect", *(f"worker-{p}" for p in POOLS)}


def test_draining_waits_for_the_runs_of_this_worker_and_no_other(
    api: httpx.Client,
    deployment: str,
    prefect_server: PrefectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain, "_POLL_S", 0.1)
    for state in ("PENDING", "RUNNING"):  # left by a worker that died
        abandon(api, deployment, state)
    run = start(api, "waits/drained", "drained", {})
    wait_until((tmp_path / "began").exists)

    worker, note = named(status(prefect_server.state_dir), NAME).pid, tmp_path / "paused"
    assert worker is not None
    pausing = threading.Thread(target=drain.pause, args=(api, POOL, note, worker))
    pausing.start()
    wait_until(lambda: is_paused(api))
    pausing.join(1.5)
    assert pausing.is_alive()
    (tmp_path / "go").touch()
    pausing.join(20)
    assert not pausing.is_alive()
    assert prefect_server.state_of(run) == "COMPLETED"

    drain.resume(api, POOL, note)
    assert not is_paused(api)
    api.patch(f"/work_pools/{POOL}", json={"is_paused": True})  # by a person, who wants it so
    drain.pause(api, POOL, note, worker)
    drain.resume(api, POOL, note)
    assert is_paused(api)
    api.patch(f"/work_pools/{POOL}", json={"is_paused": False})


def abandon(api: httpx.Client, deployment: str, state: str) -> None:
    """Make a run that is in a state and that nobody works on."""
    later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
    made = api.post(f"/deployments/{deployment}/create_flow_run", json={"state": later}).raise_for_status().json()
    forced: dict[str, Any] = {"state": {"type": state}, "force": True}
    api.post(f"/flow_runs/{made['id']}/set_state", json=forced).raise_for_status()


def is_paused(api: httpx.Client) -> bool:
    return bool(api.get(f"/work_pools/{POOL}").raise_for_status().json()["is_paused"])
