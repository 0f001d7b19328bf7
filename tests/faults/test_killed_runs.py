"""A run of production may die at any step: the next one with the same ref finishes it, and the application is open."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import get_args

import httpx
import psycopg
import pytest

from flows.follow import Run
from flows.staging import staging
from tasks.release.release import Release, StageName
from tasks.store.bucket import Bucket
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
    with prefect_server.runs_here():
        assert staging("v1.1", return_state=True).is_completed()
    staging_site.stop_service()
    # A migration waits for a lock until it is killed.
    production_site.configure(
        approval={"ask": "never"}, risk={"blocking_s": 0.000001}, migrate={"lock_timeout_s": 60, "patience_s": 120}
    )
    prefect_server.serve(production_site)
    yield prefect_server, production_site
    prefect_server.stop_worker()


@pytest.mark.timeout(900)
def test_production_survives_a_death_at_every_step(served: tuple[PrefectServer, Site]) -> None:
    """The flow is killed and the worker stopped, in turns; at one step the worker is killed and its run goes on."""
    server, site = served
    turns = itertools.cycle(("flow killed", "worker stopped"))
    died: list[StageName] = []
    for stage in STAGES:
        if _finished(site, stage):  # the run before went on for a moment, until it was hit
            continue
        with HELD.get(stage, _nothing)(site):
            since, run = datetime.now(UTC), server.start("v1.1")
            until(lambda: _at_work(site, stage, since) or _ended(server, run), f"{stage} at work", PATIENCE_S)  # noqa: B023
            if _ended(server, run):  # it was faster than the hand that was to end it
                break
            _end("worker killed" if stage == "smoke" else next(turns), server, site, run)
            until(
                lambda: _ended(server, run) or _status(site) == "finished",  # noqa: B023
                "the run is known to be dead, or has ended without its worker",
                PATIENCE_S,
            )
            assert stage not in HELD or (_status(site) == "running" and not _finished(site, stage))
        server.serve(site)
        died.append(stage)
    assert HELD.keys() <= set(died)
    assert len(died) > len(STAGES) / 2

    if _status(site) != "finished":
        server.finish(server.start("v1.1"))
    _is_true(site)


def _end(how: str, server: PrefectServer, site: Site, run: Run) -> None:
    match how:
        case "flow killed":
            server.kill(run)
        case "worker stopped":
            server.stop_worker()
            server.serve(site)
        case _:
            server.kill_worker()


def _is_true(site: Site) -> None:
    """The application is open and serves the release, the record says so, and nothing else is left."""
    [release] = site.ledger.newest()
    assert release.status == "finished"
    assert {stage for stage, run in release.stages.items() if run.attempts > 1} >= HELD.keys()
    assert release.maintenance is not None
    assert release.maintenance.needed
    assert release.reopened is not None
    assert site.applied() >= {"documents.0002_document_category", "documents.0003_category_index"}
    assert httpx.get(f"{site.url}/api/documents").status_code == 200
    assert httpx.get(f"{site.url}/api/health").json()["release"] == release.commit
    assert "MAINTENANCE_MODE" not in (site.app / ".env").read_text(encoding="utf-8")
    bucket = Bucket(site.environment.storage)
    manifests = [key for key in bucket.keys(site.environment.storage.prefix) if key.endswith("manifest.json")]
    assert len(manifests) == 1
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=site.environment.storage.prefix)
    assert not uploads.get("Uploads")
    assert not site.psql("SELECT datname FROM pg_database WHERE datname LIKE 'rb\\_scratch%%'")
    assert not site.psql("SELECT 1 FROM pg_index WHERE NOT indisvalid")
    assert not site.psql("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'runbook: lock%%'")


def _at_work(site: Site, stage: StageName, since: datetime) -> bool:
    """Whether a stage was begun, or ended, after a moment; one that is held waits for what holds it."""
    release: Release | None = next(site.ledger.newest(), None)
    run = release.stages.get(stage) if release else None
    if run is None or run.began_at < since:
        return False
    if stage in ("backup", "applied"):
        return bool(site.psql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
    return True


def _finished(site: Site, stage: StageName) -> bool:
    release: Release | None = next(site.ledger.newest(), None)
    return release is not None and release.result(stage) is not None


def _status(site: Site) -> str:
    return next(site.ledger.newest()).status


def _ended(server: PrefectServer, run: Run) -> bool:
    return server.state_of(run) in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@contextmanager
def _table_locked(site: Site) -> Iterator[None]:
    """Nobody can read the documents: a dump of them waits."""
    with psycopg.connect(site.server.dsn(site.database)) as connection:
        connection.execute("LOCK TABLE documents_document IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def _reader(site: Site) -> Iterator[None]:
    """Somebody reads the documents and does not end: a change of the table waits."""
    with psycopg.connect(site.server.dsn(site.database)) as connection:
        connection.execute("SELECT 1 FROM documents_document LIMIT 1")
        yield


def _nothing(_site: Site) -> AbstractContextManager[None]:
    return nullcontext()


# What keeps a step at work until it dies there; the others are too short for more than a try.
HELD: dict[StageName, Callable[[Site], AbstractContextManager[None]]] = {
    "backup": _table_locked,
    "applied": _reader,
}
