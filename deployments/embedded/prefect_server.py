"""The Prefect server and its process workers.

Nothing here imports Prefect: that costs seconds, and its REST API does all that is needed. The server listens on the
loopback address without a password, so that the UI opens at once; its database URL holds one and is passed by the
environment, never on a command line. Of the caller's environment every PREFECT_* variable is left out: a profile or a
Cloud key of the person who types `runbook up` must not lead these processes elsewhere.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from deployments.embedded.catalogue import POOLS
from deployments.embedded.ports import LOOPBACK, listens, unproxied
from deployments.embedded.processes import Process, stop_daemon
from deployments.embedded.starting import Files, start_server

REPOSITORY = Path(__file__).parents[2]
_START_S = 180.0  # imports and, the first time, a hundred migrations of its database
_SERVER_STOP_S = 10.0  # it waits for open connections of browsers without end
_WORKER_STOP_S = 30.0
_POLL_S = "2"  # between two looks for work; Prefect's default is 10


def api_url(port: int) -> str:
    """Return the address of the API of a server on this port."""
    return f"http://{LOOPBACK}:{port}/api"


def start_prefect(name: str, port: int, database_url: str, home: Path, files: Files) -> Process:
    """Start the server, wait until it answers, and make its work pools.

    Args:
        name: the service's name.
        port: its port on 127.0.0.1.
        database_url: SQLAlchemy URL of its database, with the password.
        home: its PREFECT_HOME.
        files: where its traces go.

    Raises:
        ServiceNotStarted: it ended or did not answer in time.
        httpx.HTTPError: it refused to make a work pool.
    """
    home.mkdir(parents=True, exist_ok=True)
    environment = {
        **client_environment(port, home),
        "PREFECT_API_DATABASE_CONNECTION_URL": database_url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),  # the default lies in the installation: perhaps not writable
    }
    process = start_server(
        name,
        [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)],
        files=files,
        environment=environment,
        directory=home,
        ready=lambda process: listens(process.pid, port) and _healthy(port),
        within_s=_START_S,
    )
    create_pools(port)
    return process


def create_pools(port: int) -> None:
    """Make the process work pool of every environment and the one for rollbacks; those that exist stay as they are.

    Raises:
        httpx.HTTPError: the server refused.
    """
    with httpx.Client(base_url=api_url(port), timeout=30, trust_env=False) as api:
        known = {pool["name"] for pool in _answer(api.post("/work_pools/filter", json={}))}
        missing = [pool for pool in POOLS if pool not in known]
        if not missing:
            return
        kinds = _answer(api.get("/collections/views/aggregate-worker-metadata"))
        template = kinds["prefect"]["process"]["default_base_job_configuration"]
        for pool in missing:
            _answer(api.post("/work_pools/", json={"name": pool, "type": "process", "base_job_template": template}))


def start_worker(name: str, pool: str, port: int, state_dir: Path, home: Path, files: Files) -> Process:
    """Start the worker of a pool and wait until the server knows it.

    Args:
        name: the service's name, also the worker's.
        pool: its work pool.
        port: the Prefect server's port on 127.0.0.1.
        state_dir: the state directory, for RUNBOOK_ENVIRONMENTS.
        home: its PREFECT_HOME.
        files: where its traces go.

    Raises:
        ServiceNotStarted: it ended or was not known in time.
    """
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    environment = {
        **client_environment(port, home),
        "TMPDIR": str(temporary),  # Prefect's runner shares one directory in /tmp, which is the first user's alone
        "PREFECT_WORKER_QUERY_SECONDS": _POLL_S,
        "RUNBOOK_ENVIRONMENTS": str(state_dir / "environments"),
    }
    begun = datetime.now(UTC)
    return start_server(
        name,
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", name],
        files=files,
        environment=environment,
        directory=REPOSITORY,
        ready=lambda _: _seen(port, pool, name, begun),
        within_s=_START_S,
    )


def running_runs(port: int, pool: str) -> list[str]:
    """Return the names of the flow runs that run in a work pool; none when the server does not answer."""
    wanted = {
        "work_pools": {"name": {"any_": [pool]}},
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}},
    }
    try:
        answer = httpx.post(f"{api_url(port)}/flow_runs/filter", json=wanted, timeout=5, trust_env=False)
        return [run["name"] for run in _answer(answer)]
    except httpx.HTTPError:
        return []


def end_runs(port: int, pool: str) -> None:
    """Tell the server that the runs of a work pool are dead: their only worker was stopped, and they with it.

    Prefect leaves such runs "Running" for ever, and whoever follows one waits for ever (PrefectHQ/prefect #16746).
    """
    states = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    wanted = {"work_pools": {"name": {"any_": [pool]}}, "flow_runs": states}
    crashed = {"state": {"type": "CRASHED", "message": "its worker was stopped"}, "force": True}
    try:
        with httpx.Client(base_url=api_url(port), timeout=10, trust_env=False) as api:
            for run in _answer(api.post("/flow_runs/filter", json=wanted)):
                _answer(api.post(f"/flow_runs/{run['id']}/set_state", json=crashed))
    except httpx.HTTPError:
        return  # the server goes down too; the records in the bucket know what was done


def stop_prefect(process: Process) -> bool:
    """End the server; False when force was needed. All it knows is in its database."""
    return stop_daemon(process, how=signal.SIGTERM, timeout_s=_SERVER_STOP_S)


def stop_worker(process: Process) -> bool:
    """End a worker, which ends its flow runs; False when force was needed."""
    return stop_daemon(process, how=signal.SIGTERM, timeout_s=_WORKER_STOP_S)


def client_environment(port: int, home: Path) -> dict[str, str]:
    """Return an environment in which Prefect's programs, and those of this installation, speak to our server."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    return {
        **inherited,
        **unproxied(inherited),
        "PATH": programs,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api_url(port),
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"{api_url(port)}/health", timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _seen(port: int, pool: str, name: str, begun: datetime) -> bool:
    try:
        address = f"{api_url(port)}/work_pools/{pool}/workers/filter"
        workers = _answer(httpx.post(address, json={}, timeout=5, trust_env=False))
    except httpx.HTTPError:
        return False
    return any(
        worker["name"] == name and datetime.fromisoformat(worker["last_heartbeat_time"]) >= begun for worker in workers
    )


def _answer(response: httpx.Response) -> Any:
    response.raise_for_status()
    return response.json()
