"""A run of production may die at any step: the next one with the same ref finishes it, and the application is open."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import get_args

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.follow import Run
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
    died: list[StageName] = []
    for stage in STAGES:
        if _finished(site, stage):  # the run before went on for a moment, until it was hit
            continue
        since, run = datetime.now(UTC), server.start("v1.1")
        until(lambda: _begun(site, stage, since) or _ended(server, run), f"{stage} began", PATIENCE_S)  # noqa: B023
        if _ended(server, run):  # it was faster than the hand that was to end it
            break
        if next(deaths) == "flow killed":
            server.kill(run)
        else:
            server.stop_worker()
            server.serve(site)
        until(lambda: _ended(server, run), "the run is known to be dead")  # noqa: B023
        died.append(stage)
    assert {"backup", "verification", "rehearsal", "maintenance", "applied", "smoke"} <= set(died)

    _finish(server, site)
    _is_true(site)


@pytest.mark.timeout(400)
def test_a_worker_that_is_killed_leaves_nothing_half_done(served: tuple[PrefectServer, Site]) -> None:
    """Its run may go on without it, or end; either way the next one finishes the release."""
    server, site = served
    since = datetime.now(UTC)
    run = server.start("v1.1")
    until(lambda: _begun(site, "maintenance", since), "maintenance mode is on its way", PATIENCE_S)
    server.kill_worker()
    until(lambda: next(site.ledger.newest()).status == "finished" or _ended(server, run), "the run ends", PATIENCE_S)
    server.serve(site)
    _finish(server, site)
    _is_true(site)


def _finish(server: PrefectServer, site: Site) -> None:
    """Run it once more, unless the last run died after its last word."""
    if next(site.ledger.newest()).status != "finished":
        server.finish(server.start("v1.1"))


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


def _begun(site: Site, stage: StageName, since: datetime) -> bool:
    """Whether a stage was begun, or ended, after a moment."""
    release: Release | None = next(site.ledger.newest(), None)
    run = release.stages.get(stage) if release else None
    return run is not None and run.began_at >= since


def _finished(site: Site, stage: StageName) -> bool:
    release: Release | None = next(site.ledger.newest(), None)
    return release is not None and release.result(stage) is not None


def _ended(server: PrefectServer, run: Run) -> bool:
    return server.state_of(run) in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
