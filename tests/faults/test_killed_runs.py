"""A run may die anywhere: the next one with the same ref finishes it, and one record tells the truth."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from flows.follow import Run
from tasks.release.release import Release, StageName
from tasks.store.bucket import Bucket
from tests.fix_app import Site
from tests.fix_prefect import PrefectServer, until


def _kill_the_flow(server: PrefectServer, _site: Site, run: Run) -> None:
    server.kill(run)


def _stop_the_worker(server: PrefectServer, site: Site, _run: Run) -> None:
    server.stop_worker()
    server.serve(site)


@pytest.mark.timeout(700)
def test_a_release_survives_a_death_in_every_long_stage(served_by_worker: tuple[PrefectServer, Site]) -> None:
    server, site = served_by_worker
    deaths = itertools.cycle((_kill_the_flow, _stop_the_worker))
    # Long enough that a migration waits for a lock until it is killed.
    site.configure(migrate={"lock_timeout_s": 60})

    for stage, held in (
        ("backup", _table_locked),
        ("verification", _nothing),
        ("rehearsal", _nothing),
        ("applied", _reader),
        ("smoke", _frozen),
    ):
        with held(site):
            run = server.start("v1.1")
            _until_amid(server, run, site, stage)  # type: ignore[arg-type]
            next(deaths)(server, site, run)
        until(lambda run=run: server.state_of(run) == "CRASHED", "the run is known to be dead")  # type: ignore[misc]
        release = _only_release(site)
        assert release.status == "running"
        assert release.result(stage) is None  # type: ignore[arg-type]

    server.finish(server.start("v1.1"))

    release = _only_release(site)
    assert release.status == "finished"
    attempts = {stage: run.attempts for stage, run in release.stages.items()}
    assert attempts == {
        "plan": 1, "risk": 1, "backup": 2, "verification": 2, "rehearsal": 2,
        "code": 1, "applied": 2, "reloaded": 1, "smoke": 2,
    }  # fmt: skip
    assert site.applied() >= {"documents.0002_document_category", "documents.0003_category_index"}
    assert httpx.get(f"{site.url}/api/health").json()["release"] == release.commit
    bucket = Bucket(site.environment.storage)
    manifests = [key for key in bucket.keys(site.environment.storage.prefix) if key.endswith("manifest.json")]
    assert len(manifests) == 1
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=site.environment.storage.prefix)
    assert not uploads.get("Uploads")
    assert not site.psql("SELECT datname FROM pg_database WHERE datname LIKE 'rb\\_scratch%%'")
    assert not site.psql("SELECT 1 FROM pg_index WHERE NOT indisvalid")


def _only_release(site: Site) -> Release:
    [release] = site.ledger.newest()
    return release


def _until_amid(server: PrefectServer, run: Run, site: Site, stage: StageName) -> None:
    """Wait until a stage is at work on what it is there for."""

    def at_work() -> bool:
        assert server.state_of(run) not in ("FAILED", "COMPLETED"), f"the run ended before {stage}"
        release = next(site.ledger.newest(), None)
        if release is None or stage not in release.stages or release.stages[stage].ended_at is not None:
            return False
        if stage == "verification":
            return bool(site.psql("SELECT 1 FROM pg_database WHERE datname LIKE 'rb\\_scratch%%'"))
        if stage in ("backup", "applied"):
            return bool(site.psql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        return True

    until(at_work, f"{stage} at work", within_s=150)


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


@contextmanager
def _frozen(site: Site) -> Iterator[None]:
    """The service does not answer; it does again afterwards."""
    assert site.service is not None
    os.killpg(site.service.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(site.service.pid, signal.SIGCONT)


@contextmanager
def _nothing(_site: Site) -> Iterator[None]:
    yield
