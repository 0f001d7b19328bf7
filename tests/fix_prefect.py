"""A real Prefect server with its deployments registered, and a worker that serves whatever site a test points it at."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from deployments import embedded
from deployments.embedded.account import outside_directory
from deployments.embedded.ports import any_free
from deployments.embedded.state import Entry, State
from deployments.register import register
from flows.follow import Run, follow, start
from tests.fix_app import Site

DEADLINE_S = 90


@dataclass
class PrefectServer:
    """The server, and the worker of the pool of the site that is served.

    `state_dir` holds its data, logs and secrets; `database` is a connection string of its own database.
    """

    state_dir: Path
    url: str
    serves: str = "staging"

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    @property
    def database(self) -> str:
        state = State(self.state_dir)
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1",
            port=state.entry("postgres-prefect").port,
            user="prefect",
            dbname="prefect",
            password=state.secret("postgres-prefect.prefect"),
        )

    def pause_schedules(self) -> None:
        """Let nothing run but what a test asks for."""
        with httpx.Client(base_url=self.api, timeout=30) as api:
            found = api.post("/deployments/filter", json={}).raise_for_status().json()
            for deployment in found:
                api.post(f"/deployments/{deployment['id']}/pause_deployment").raise_for_status()

    @contextmanager
    def runs_here(self) -> Iterator[None]:
        """Let flows of this process run against the server.

        Their log lines stay here: Prefect sends them from a thread that does not know of these settings, and starts
        a server of its own for them.
        """
        with temporary_settings({PREFECT_API_URL: self.api, PREFECT_LOGGING_TO_API_ENABLED: False}):
            yield

    def serve(self, site: Site) -> None:
        """Start the worker, with the environments of a site."""
        environments = self.state_dir / "environments"
        environments.unlink(missing_ok=True)
        environments.symlink_to(site.directory)
        self.serves = site.name
        embedded.up([self.worker], self.state_dir)

    @property
    def worker(self) -> str:
        return f"worker-{self.serves}"

    def stop_worker(self) -> None:
        """Stop the worker as `runbook down` does, by SIGTERM; its runs die with it."""
        embedded.down([self.worker], self.state_dir)

    def kill_worker(self) -> None:
        """End the worker by SIGKILL; its runs go on without it."""
        running = State(self.state_dir).running(self.worker)
        assert running is not None
        assert running.process is not None
        running.process.signal(signal.SIGKILL)
        until(lambda: not running.process.alive(), "the worker is gone")  # type: ignore[union-attr]

    def start(self, ref: str, **parameters: Any) -> Run:
        """Ask for a run of the deployment that is served."""
        with httpx.Client(base_url=self.api, timeout=30) as api:
            return start(api, f"{self.serves}/{self.serves}", f"test-{ref}", {"ref": ref, **parameters})

    def finish(self, run: Run) -> tuple[Run, list[str]]:
        """Wait for a run's end; the run and its log lines. A run that does not complete raises."""
        lines: list[str] = []
        with httpx.Client(base_url=self.api, timeout=30) as api:
            return follow(api, run, lines.append), lines

    def state_of(self, run: Run) -> str:
        answer = httpx.get(f"{self.api}/flow_runs/{run.id}", timeout=30).raise_for_status().json()
        return str(answer["state"]["type"])

    def kill(self, run: Run) -> None:
        """End a run's process by SIGKILL, as the kernel does when memory runs out."""
        mark = f"PREFECT__FLOW_RUN_ID={run.id}".encode()
        killed = 0
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
                    killed += 1
            except OSError:  # another user's, or gone
                continue
        assert killed, f"no process of run {run.name} was found"


def until(holds: Callable[[], bool], what: str, within_s: float = DEADLINE_S) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server on free ports, shared by the whole session; no worker runs yet."""
    state_dir = tmp_path_factory.mktemp("prefect") / "state"
    state = State(state_dir)
    state.prepare()
    # The server of the tests' other half may stand, or be about to, on the ports that they would prefer.
    names = ("prefect", "postgres-prefect")
    for name, port in zip(names, any_free(len(names)), strict=True):
        state.remember(Entry(name, port=port))
    try:
        embedded.up(["prefect"], state_dir)
        server = PrefectServer(state_dir, embedded.services(state_dir)["prefect"].url)
        register(server.api, lambda _: None)
        server.pause_schedules()
        yield server
    finally:
        (state_dir / "environments").unlink(missing_ok=True)
        embedded.delete(state_dir)
        assert not outside_directory(state_dir).exists()


@pytest.fixture
def served_by_worker(prefect_server: PrefectServer, served_site: Site) -> Iterator[tuple[PrefectServer, Site]]:
    """A site that serves v1.0, and a worker that can deploy to it."""
    prefect_server.serve(served_site)
    yield prefect_server, served_site
    prefect_server.stop_worker()
