"""Beside a sweep: other sweeps, and releases that start."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from flows.reconcile import HANDS
from tasks.database.lock import SWEEP, advisory_lock
from tasks.reconcile.memory import Entry
from tasks.reconcile.trouble import Trouble
from tasks.reconcile.turn import take_on
from tasks.release.errors import ConflictError
from tests.builders import release
from tests.fix_app import Site


def test_of_many_sweeps_at_once_one_acts(staging_site: Site) -> None:
    staging_site.ledger.create(release())
    now = datetime.now(UTC)
    take_on(staging_site.environment, staging_site.ledger, HANDS, now - timedelta(minutes=5))
    start = threading.Barrier(6)
    acted: list[tuple[Trouble, Entry]] = []

    def one() -> None:
        start.wait()
        try:
            acted.extend(take_on(staging_site.environment, staging_site.ledger, HANDS, now).tasks)
        except ConflictError:
            return

    threads = [threading.Thread(target=one) for _ in range(start.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [trouble.kind for trouble, _ in acted] == ["dead run"]


def test_a_release_that_starts_beside_a_sweep_waits_for_it(staging_site: Site) -> None:
    database, got = staging_site.environment.database, threading.Event()

    def deploy() -> None:
        with advisory_lock(database, "release", "v1.1 by somebody"):
            got.set()

    with advisory_lock(database, "release", SWEEP):
        thread = threading.Thread(target=deploy)
        thread.start()
        assert not got.wait(1)
    assert got.wait(10)
    thread.join()
