"""A run of production may die at any step: the next one with the same ref finishes it, and the application is open."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import get_args

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.staging import staging
from tasks.release.release import Release, StageName
from tests.fix_app import Site
from tests.fix_prefect import PrefectServer, until

STAGES: tuple[StageName, ...] = get_args(StageName)
PATIENCE_S = 120


@pytest.fixture
def served(
    prefect_server: PrefectServer, staging_site: Site, production_site: Site, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[PrefectServer, Site]]:
    """A production that takes what staging has proved, asks nobody, and has to be shut for it."""
    monkeypatch.setenv("RUNBOOK_ENVIRONMENTS", str(production_site.directory))
    staging_site.start_service()
    with temporary_settings({PREFECT_API_URL: prefect_server.api}):
        assert staging("v1.1", return_state=True).is_completed()
    staging_site.stop_service()
    production_site.configure(approval={"ask": "never"}, risk={"blocking_s": 0.000001})
    prefect_server.serve(production_site)
    yield prefect_server, production_site
    prefect_server.stop_worker()


@pytest.mark.timeout(900)
def test_production_survives_a_death_at_every_step(served: tuple[PrefectServer, Site]) -> None:
    server, site = served
    deaths = itertools.cycle(("flow killed", "worker stopped"))
    died = []
    for stage in STAGES:
        run = server.start("v1.1")
        until(lambda: stage in _stages(site) or _ended(server, run.id), f"{stage} began", PATIENCE_S)  # noqa: B023
        if _ended(server, run.id):  # it was faster than the hand that was to end it
            assert stage == STAGES[-1]
            break
        if next(deaths) == "flow killed":
            server.kill(run)
        else:
            server.stop_worker()
            server.serve(site)
        until(lambda: _ended(server, run.id), "the run is known to be dead")  # noqa: B023
        died.append(stage)
    assert len(died) >= len(STAGES) - 1

    server.finish(server.start("v1.1"))
    _is_true(site)


@pytest.mark.timeout(400)
def test_a_run_goes_on_without_its_worker(served: tuple[PrefectServer, Site]) -> None:
    server, site = served
    run = server.start("v1.1")
    until(lambda: "maintenance" in _stages(site), "maintenance mode is on its way", PATIENCE_S)
    server.kill_worker()
    server.serve(site)
    server.finish(run)
    _is_true(site)


def _is_true(site: Site) -> None:
    """The application is open and serves the release, and nothing that was only for the time of it is left."""
    [release] = site.ledger.newest()
    assert release.status == "finished"
    assert release.maintenance is not None
    assert release.maintenance.needed
    assert release.reopened is not None
    assert site.applied() >= {"documents.0002_document_category", "documents.0003_category_index"}
    assert httpx.get(f"{site.url}/api/documents").status_code == 200
    assert httpx.get(f"{site.url}/api/health").json()["release"] == release.commit
    assert "MAINTENANCE_MODE" not in (site.app / ".env").read_text(encoding="utf-8")
    assert not site.psql("SELECT datname FROM pg_database WHERE datname LIKE 'rb\\_scratch%%'")
    assert not site.psql("SELECT 1 FROM pg_index WHERE NOT indisvalid")
    assert not site.psql("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'runbook: lock%%'")


def _stages(site: Site) -> set[str]:
    release: Release | None = next(site.ledger.newest(), None)
    return set(release.stages) if release else set()


def _ended(server: PrefectServer, run_id: str) -> bool:
    answer = httpx.get(f"{server.api}/flow_runs/{run_id}", timeout=30).raise_for_status().json()
    return answer["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
