"""A site under a small load, with a past: what a watch needs."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tasks.monitor import watch as watching
from tasks.monitor.conclude import conclude
from tasks.monitor.watch import Watch
from tasks.release.environment import Environment
from tasks.release.release import Release, StageRun
from tasks.release.watch import Verdict
from tasks.signals import history, tally
from tasks.signals.sample import Sample, binned
from tasks.store.bucket import Bucket
from tests.builders import migration as one_migration
from tests.builders import plan, rehearsal, release
from tests.fix_app import Site

PATHS = {"/api/documents": 2, "/api/documents/7": 1, "/api/health": 3}
ROUTES = {"/api/documents/7": "/api/documents/<int:document_id>"}
INTERVAL_S = 0.5
DEADLINE_S = 60


@contextmanager
def load(site: Site, pause_s: float = 0.004) -> Iterator[None]:
    """Requests to the site, one after the other, until the block ends."""
    over = threading.Event()
    choice = random.Random(7)
    paths = [path for path, weight in PATHS.items() for _ in range(weight)]

    def ask() -> None:
        with httpx.Client(base_url=site.url, trust_env=False, timeout=10) as client:
            while not over.wait(pause_s):
                try:
                    client.get(choice.choice(paths))
                except httpx.HTTPError:
                    time.sleep(0.05)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measured(site: Site, count: int = 40) -> dict[str, list[float]]:
    """How long each route takes now."""
    found: dict[str, list[float]] = {}
    with httpx.Client(base_url=site.url, trust_env=False, timeout=10) as client:
        for path in PATHS:
            took = []
            for _ in range(count):
                began = time.monotonic()
                client.get(path).raise_for_status()
                took.append(time.monotonic() - began)
            found[ROUTES.get(path, path)] = took
    return found


def past(site: Site, until: datetime, *, days: int = 8, every_s: int = 600) -> None:
    """Give the site a history that says: it always was as it is now."""
    seconds = measured(site)
    rate = 15.0  # a second; requests come one after the other here, so a slow machine also lowers it
    samples = []
    noise = random.Random(3)
    at = until - timedelta(days=days)
    while at < until:
        slower = noise.lognormvariate(0, 0.25)  # no two intervals of a real service are alike
        of_route = {route: binned(slower * one for one in took) for route, took in seconds.items()}
        whole: Counter[int] = Counter()
        for bins in of_route.values():
            whole.update(bins)
        total = sum(whole.values())
        samples += [
            Sample("log.errors", "events", at, 60, bad=0, total=total),
            Sample("log.latency", "latency", at, 60, total=total, bins=whole),
            Sample("log.requests", "gauge", at, 60, value=rate),
        ]
        for route, bins in of_route.items():
            requests = sum(bins.values())
            samples += [
                Sample(f"log.errors:{route}", "events", at, 60, bad=0, total=requests),
                Sample(f"log.latency:{route}", "latency", at, 60, total=requests, bins=bins),
            ]
        at += timedelta(seconds=every_s)
    history.append(Bucket(site.environment.storage), samples, until)


def talked_about(site: Site) -> None:
    """Give the newest documents many conversations, which v1.2-slow reads one document after the other."""
    site.psql(
        "INSERT INTO conversations_conversation SELECT r.* FROM (SELECT * FROM conversations_conversation LIMIT 1) c,"
        " (SELECT id FROM documents_document ORDER BY created_at DESC, id DESC LIMIT 10) d, generate_series(1, 5000) n,"
        " jsonb_populate_record(NULL::conversations_conversation,"
        " to_jsonb(c) || jsonb_build_object('id', gen_random_uuid(), 'document_id', d.id, 'title', 'Talk ' || n)) r"
    )
    site.psql("ANALYZE conversations_conversation")


def configured(site: Site, **settings: Any) -> Environment:
    """The site, watched in short intervals."""
    log = {"path": str(site.app.with_name(f"{site.app.name}-django.log"))}
    monitor = {"watch_s": 30, "least_s": 5, "interval_s": INTERVAL_S, "logs": [log], "history_days": 28}
    return site.configure(monitor={**monitor, "latency_tolerance": 2, **settings})


def released(site: Site, ref: str, migration: str) -> Release:
    """The record of a release whose migration of documents_document is applied and whose code serves."""
    commit, previous = site.commit_of(ref), site.checkout.commit
    if previous != commit or site.service is None:
        serve(site, ref)
    now = datetime.now(UTC)
    operation = {"operation": "AddField", "table": "documents_document"}
    record = release(
        id=f"{now:%Y%m%d-%H%M%S}-{ref}-{commit[:6]}",
        environment=site.name,
        ref=ref,
        commit=commit,
        previous_commit=previous,
        checked_out=previous,
        plan=plan(pending=(one_migration(f"documents.{migration}", operations=(operation,)),)),
        rehearsal=rehearsal(routes={"/api/documents": ("documents_document",), "/api/health": ()}),
        status="watching",
        stages={"reloaded": StageRun(attempts=1, began_at=now, ended_at=now)},
    )
    return site.ledger.create(record)


def serve(site: Site, ref: str) -> None:
    """Let the site serve a version, with its migrations."""
    site.stop_service()
    site.check_out(ref)
    site.manage("migrate", "--no-input")
    site.start_service()


def watched(site: Site, record: Release, each: Callable[[Watch], None] = lambda _: None) -> Verdict:
    """Watch to the end."""
    watch = Watch.open(site.environment, record)
    watch.begin(datetime.now(UTC))
    deadline = time.monotonic() + DEADLINE_S
    while not watch.ended:
        assert time.monotonic() < deadline, watch.described()
        time.sleep(max(0.0, watch.due_s(datetime.now(UTC))))
        watch.advance(datetime.now(UTC))
        each(watch)
    return conclude(watch, site.ledger, watch.ended, datetime.now(UTC))


def settle_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of this machine are written at once: nothing has to be waited for."""
    monkeypatch.setattr(tally, "GRACE_S", 0.2)
    monkeypatch.setattr(watching, "SETTLED_S", 0.4)
