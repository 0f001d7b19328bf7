"""The window of a release: shut when it is needed, and open again in every outcome."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prefect import flow

from tasks.database.lock import Held, advisory_lock
from tasks.maintenance.flag import remove_flag
from tasks.maintenance.stage import close_application, open_application, open_in_every_outcome
from tasks.maintenance.window import may_be_on, put_right
from tasks.release.decisions import Closed, Reopened
from tasks.release.errors import RefusedError
from tasks.release.order import Order, Preview
from tasks.release.release import Release
from tasks.store.ledger import now
from tests import builders
from tests.fix_app import Site
from tests.fix_prefect import PrefectServer


@pytest.fixture
def site(production_site: Site, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("RUNBOOK_ENVIRONMENTS", str(production_site.directory))
    with prefect_server.runs_here():
        yield production_site


@flow
def closing(order: Order) -> Closed | Preview:
    return close_application(order)


@flow
def opening(order: Order) -> Reopened | Preview:
    return open_application(order)


def opened(site: Site, *, window: bool) -> Order:
    """A release whose person has, or has not, allowed maintenance mode."""
    approval = {"asked": True, "by": "ada", "maintenance_window": window, "level": "high", "answered_at": builders.AT}
    release = builders.release(environment=site.name, approval=approval)
    site.ledger.create(Release.model_validate(release.model_dump()))
    return order(site, release)


def order(site: Site, release: Release, **changes: Any) -> Order:
    fields = {"environment": site.name, "ref": release.ref, "commit": release.commit, "release_id": release.id}
    return Order.model_validate(fields | {"dry_run": False} | changes)


@flow
def failing(order: Order, lock: Held) -> None:
    with open_in_every_outcome(order, lock):
        raise RuntimeError("it fails")


def status(site: Site) -> int:
    return httpx.get(f"{site.url}/api/documents", timeout=5, trust_env=False).status_code


def test_the_application_is_shut_and_opened_and_the_record_says_so(site: Site) -> None:
    env_file = site.app / ".env"
    before = env_file.read_bytes()
    work = opened(site, window=True)

    closed = closing(work)
    assert isinstance(closed, Closed)
    assert closed.needed
    assert status(site) == 503
    assert may_be_on(site.ledger.load(work.release_id))

    env_file.write_bytes(before)  # somebody ends it; the release is taken up again, and needs it still
    assert status(site) == 200
    closing(work)
    assert status(site) == 503

    opening(work)
    assert status(site) == 200
    assert env_file.read_bytes() == before
    record = site.ledger.load(work.release_id)
    assert record.reopened
    assert record.reopened.by == "the release"
    assert not may_be_on(record)
    assert opening(work) == record.reopened  # twice is once


def test_a_release_that_needs_none_touches_nothing(site: Site) -> None:
    work = opened(site, window=False)
    before = (site.app / ".env").stat()
    closed = closing(work)
    assert isinstance(closed, Closed)
    assert not closed.needed
    opening(work)
    assert (site.app / ".env").stat() == before


def test_without_a_switch_it_is_refused_before_anything_is_begun(site: Site) -> None:
    content = site.file.read_text()
    site.file.write_text(content.partition("[maintenance]")[0])
    work = opened(site, window=True)
    with pytest.raises(RefusedError, match="has no way to switch it"):
        closing(work)
    assert not may_be_on(site.ledger.load(work.release_id))


def test_a_dry_run_says_what_it_would_do(site: Site) -> None:
    work = order(site, builders.release(), release_id="", dry_run=True)
    closed, reopened = closing(work), opening(work)
    assert isinstance(closed, Preview)
    assert isinstance(reopened, Preview)
    assert f"flag in {site.app / '.env'}" in closed.would
    assert closed.findings == ()
    assert status(site) == 200


def test_what_a_dead_release_left_on_is_put_right(site: Site) -> None:
    """Killed after the flag was set: the stage is begun in the record, and that is all that is known."""
    work = opened(site, window=True)
    site.ledger.update(work.release_id, lambda record: record.began("maintenance", now()))
    with (site.app / ".env").open("a") as file:
        file.write("MAINTENANCE_MODE=true\n")
    assert status(site) == 503
    assert put_right(site.environment, site.ledger, work.release_id, "the sweep", lambda _: None)
    assert status(site) == 200
    assert not put_right(site.environment, site.ledger, work.release_id, "the sweep", lambda _: None)
    record = site.ledger.load(work.release_id)
    assert record.timeline[-1].what == "maintenance mode was switched off by the sweep"

    closing(work)  # whoever takes it up again must shut the application anew
    assert status(site) == 503

    def brought_out(record: Release) -> Release:
        for stage, result in (("applied", builders.applied()), ("reloaded", builders.reloaded())):
            record = record.began(stage, now()).finished(stage, result, now())  # type: ignore[arg-type]
        return record

    site.ledger.update(work.release_id, brought_out)
    remove_flag(site.app / ".env", "MAINTENANCE_MODE=true")
    closing(work)  # nothing is left to do behind a shut door
    assert status(site) == 200
    assert put_right(site.environment, site.ledger, work.release_id, "a later run", lambda _: None)
    assert status(site) == 200
    reopened = site.ledger.load(work.release_id).reopened
    assert reopened
    assert reopened.by == "a later run"


def test_who_lost_the_lock_opens_nothing_that_another_run_has_shut(site: Site) -> None:
    work = opened(site, window=True)
    closing(work)
    with advisory_lock(site.environment.database, "release", "the first") as lost:
        pass
    with (
        advisory_lock(site.environment.database, "release", "the second"),
        pytest.raises(RuntimeError, match="it fails"),
    ):
        failing(work, lost)
    assert status(site) == 503
    with pytest.raises(RuntimeError, match="it fails"):
        failing(work, lost)  # nobody else has it: then it is opened at once
    assert status(site) == 200
