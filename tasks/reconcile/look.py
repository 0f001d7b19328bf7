"""Looking: everything that a sweep decides from, each part on its own, so that one that fails hides no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from tasks.backup.scratch import shut_scratch
from tasks.database.lock import holder_of
from tasks.database.sessions import sessions_of
from tasks.reconcile.runs import prefect_api, state_of
from tasks.reconcile.trouble import Facts, last_sign
from tasks.release.environment import Environment
from tasks.release.errors import RunbookError
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger

T = TypeVar("T")
LOOKED_AT = 20  # records, the newest ones: what is older was closed when a newer release was opened
WATCHES = "watches"  # where the states of watches lie in the bucket


def look(environment: Environment, ledger: Ledger, migrating: str, at: datetime) -> Facts:
    """Find out how things are; nothing is changed.

    Args:
        environment: Where.
        ledger: Its releases.
        migrating: How the application_name of a migrating session begins.
        at: This moment.

    Raises:
        StoreError: The bucket cannot be listed.
    """
    unseen: dict[str, str] = {}

    def ask(part: str, question: Callable[[], T], otherwise: T) -> T:
        try:
            return question()
        except RunbookError as error:
            unseen[part] = error.message
            return otherwise

    def is_free() -> bool | None:
        return ask("the release lock", lambda: holder_of(environment.database, "release") is None, None)

    # The lock is looked at before and after: a run takes it before it says so in the record, and writes its end before
    # it lets go. What runs in a record between two looks at a free lock is dead.
    free = is_free()
    records, unreadable = _records(ledger)
    free = free and is_free()
    return Facts(
        at=at,
        records=records,
        lock_is_free=free,
        runs=ask("the Prefect server", lambda: _runs(records), {}),
        heartbeats=ask("the watches", lambda: _heartbeats(ledger.bucket, records), {}),
        shut_scratch=ask("scratch databases", lambda: shut_scratch(environment), ()) if free else (),
        migrating=ask("sessions", lambda: sessions_of(environment.database, migrating), ()) if free else (),
        unreadable=unreadable,
        unseen=unseen,
    )


def _runs(records: tuple[Release, ...]) -> dict[str, str]:
    asking = [one.asked.flow_run_id for one in records if one.status == "waiting" and one.asked]
    if not asking:
        return {}
    with prefect_api() as api:
        return {run: state_of(api, run) for run in asking}


def _heartbeats(bucket: Bucket, records: tuple[Release, ...]) -> dict[str, datetime]:
    return {one.id: heartbeat_of(bucket, one) for one in records if one.status == "watching"}


def heartbeat_of(bucket: Bucket, release: Release) -> datetime:
    """When something was seen last of a release's watch: its state was written, or it was about to begin.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    written = bucket.written_at(bucket.storage.key(WATCHES, f"{release.id}.json"))
    return written or last_sign(release)


def _records(ledger: Ledger) -> tuple[tuple[Release, ...], dict[str, str]]:
    records: list[Release] = []
    unreadable: dict[str, str] = {}
    for release_id in ledger.ids()[:LOOKED_AT]:
        try:
            records.append(ledger.load(release_id))
        except RunbookError as error:
            unreadable[release_id] = error.message
    return tuple(records), unreadable
