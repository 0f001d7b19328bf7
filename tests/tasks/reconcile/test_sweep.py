"""What counts as wrong, when something is done about it, and what is remembered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.reconcile import HANDS
from tasks.database.sessions import Session
from tasks.reconcile.memory import Memory
from tasks.reconcile.sweep import due_now, forgotten_after, noticed, settled, stale_after, tried, troubles
from tasks.reconcile.trouble import AGAIN, GRACE, Facts, Trouble
from tasks.release.decisions import Asked, Closed, Reopened
from tasks.release.environment import Environment
from tasks.release.release import Release, Status
from tests.builders import environment, release

BEGAN = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
NOW = BEGAN + timedelta(hours=1)
RUN = "00000000-0000-0000-0000-000000000001"
CONTACTS = [
    {"name": "Ada", "email": "ada@example.com", "answer_within_s": 600},
    {"name": "Ben", "email": "ben@example.com", "answer_within_s": 600},
]


@pytest.fixture
def place() -> Environment:
    return environment(contacts=CONTACTS, monitor={"watch_s": 7200, "interval_s": 60})


def running(**changes: Any) -> Release:
    return release(**changes).began("backup", BEGAN)


def closing() -> Release:
    return running().began("maintenance", BEGAN)


def waiting(told: tuple[str, ...] = (), **changes: Any) -> Release:
    fields: dict[str, Any] = {
        "flow_run_id": RUN, "level": "high", "demands": ("approval",), "asked_at": BEGAN,
        "expires_at": NOW + timedelta(hours=3), "told": told,
    }  # fmt: skip
    return release().asks(Asked.model_validate(fields | changes))


def watching() -> Release:
    return release().closed("watching", "is watched", BEGAN)


def kinds(place: Environment, *records: Release, **facts: Any) -> set[str]:
    found = troubles(place, Facts(at=NOW, records=records, **{"lock_is_free": True} | facts), Memory(), HANDS)
    return {trouble.kind for trouble in found}


@pytest.mark.parametrize("free", [False, None])
def test_what_holds_the_lock_or_may_hold_it_is_left_alone(place: Environment, free: bool | None) -> None:
    session = Session(7, "runbook: migrate x", "active", BEGAN)
    assert not kinds(place, closing(), lock_is_free=free, migrating=(session,))


def test_a_run_without_the_lock_is_dead_and_its_maintenance_mode_is_on(place: Environment) -> None:
    assert kinds(place, running()) == {"dead run"}
    assert kinds(place, closing()) == {"dead run", "maintenance"}


@pytest.mark.parametrize("status", ["failed", "finished"])
def test_maintenance_mode_is_a_matter_whatever_became_of_the_release(place: Environment, status: Status) -> None:
    """It is over when it was seen off, or was never needed."""
    closed = closing().finished("maintenance", Closed(since=BEGAN, how="flag", needed=True), BEGAN)
    assert kinds(place, closed.closed(status, "ended", BEGAN)) == {"maintenance"}
    opened = closed.began("reopened", BEGAN).finished("reopened", Reopened(at=BEGAN, by="the release"), BEGAN)
    assert not kinds(place, opened.closed(status, "ended", BEGAN))
    unneeded = closing().finished("maintenance", Closed(since=BEGAN, how="", needed=False), BEGAN)
    assert not kinds(place, unneeded.closed(status, "ended", BEGAN))


def test_maintenance_mode_that_no_release_began_is_nobodys_business(place: Environment) -> None:
    assert not kinds(place, release().closed("finished", "finished", BEGAN))


def test_only_the_newest_release_that_switched_counts(place: Environment) -> None:
    newest = release(id="20261123-030000-v1.2-3f2a1b").began("maintenance", BEGAN)
    newest = newest.began("reopened", BEGAN).finished("reopened", Reopened(at=BEGAN, by="the release"), BEGAN)
    assert not kinds(place, newest.closed("finished", "ended", BEGAN), closing().closed("failed", "ended", BEGAN))


@pytest.mark.parametrize(
    ("record", "state", "expected"),
    [
        (waiting(told=("Ada", "Ben")), "PAUSED", None),
        (waiting(told=("Ada",)), "PAUSED", "unanswered"),
        (waiting(), "RUNNING", None),  # it was answered
        (waiting(), "CANCELLED", "abandoned"),
        (waiting(), "GONE", "abandoned"),
        (waiting(expires_at=NOW), "PAUSED", "expired"),
        (waiting(expires_at=NOW), "FAILED", "expired"),
        (waiting(expires_at=NOW), "SCHEDULED", None),  # an answer of the last second is on its way
        (waiting(expires_at=NOW - timedelta(hours=1)), "SCHEDULED", "expired"),
        (waiting(expires_at=NOW).closed("failed", "rejected", NOW), "FAILED", None),
    ],
)
def test_questions(place: Environment, record: Release, state: str, expected: str | None) -> None:
    assert kinds(place, record, runs={RUN: state}) == ({expected} if expected else set())
    assert not kinds(place, record), "a server that does not answer says nothing of a question"


def test_the_next_contact_is_told_when_the_one_before_had_time_to_answer(place: Environment) -> None:
    def contacts(record: Release, at: datetime) -> tuple[str, ...]:
        found = troubles(place, Facts(at=at, records=(record,), runs={RUN: "PAUSED"}), Memory(), HANDS)
        return found[0].contacts if found else ()

    assert contacts(waiting(), BEGAN) == ("Ada",)
    assert contacts(waiting(told=("Ada",)), BEGAN + timedelta(seconds=599)) == ()
    assert contacts(waiting(told=("Ada",)), BEGAN + timedelta(seconds=600)) == ("Ben",)
    assert contacts(waiting(), BEGAN + timedelta(seconds=600)) == ("Ada", "Ben")


def test_a_watch_that_nothing_is_seen_of_is_stale_after_three_intervals(place: Environment) -> None:
    record = watching()
    fresh = {record.id: NOW - stale_after(place)}
    stale = {record.id: NOW - stale_after(place) - timedelta(seconds=1)}
    assert stale_after(place) == timedelta(seconds=3 * 60 + 60)
    assert not kinds(place, record, heartbeats=fresh)
    assert kinds(place, record, heartbeats=stale) == {"watch"}
    assert kinds(place, record, heartbeats=stale, lock_is_free=False) == {"watch"}  # it needs no lock


def test_restarts_of_a_watch_are_counted_until_it_has_lived_for_long(place: Environment) -> None:
    record, memory, at = watching(), Memory(), NOW
    key = f"watch/{record.id}"

    def swept(heartbeat: datetime) -> bool:
        nonlocal memory
        facts = Facts(at=at, records=(record,), lock_is_free=True, heartbeats={record.id: heartbeat})
        found = troubles(place, facts, memory, HANDS)
        memory = noticed(memory, found, facts, forgotten_after(place))
        due = due_now(found, memory, at)
        memory = tried(memory, [trouble.key for trouble in due], at)
        return bool(due)

    assert swept(BEGAN)
    at += timedelta(minutes=1)
    assert not swept(BEGAN), "the monitor that was started a minute ago must be given time"
    at += stale_after(place)
    assert swept(BEGAN)
    at += timedelta(minutes=10)
    assert not swept(at)  # it lives
    assert memory.entries[key].times == 2
    heartbeat, at = at, at + timedelta(minutes=10)
    assert swept(heartbeat)  # not for long
    assert memory.entries[key].times == 3
    at += forgotten_after(place)
    assert not swept(at)
    assert key not in memory.entries


def told(memory: Memory, trouble: Trouble, at: datetime, *, done: bool) -> tuple[Memory, bool]:
    """One sweep that finds this; whether it does something about it."""
    memory = noticed(memory, [trouble], Facts(at=at), timedelta(0))
    due = due_now([trouble], memory, at)
    memory = tried(memory, [one.key for one in due], at)
    return (settled(memory, {trouble.key: {"done": done}}) if due else memory), bool(due)


def test_people_are_told_after_a_grace_and_once(place: Environment) -> None:
    [trouble] = troubles(place, Facts(at=NOW, records=(running(),), lock_is_free=True), Memory(), HANDS)
    acted = []
    memory = Memory()
    for after in (timedelta(0), GRACE / 2, GRACE, 2 * GRACE, timedelta(days=3)):
        memory, did = told(memory, trouble, NOW + after, done=True)
        acted.append(did)
    assert acted == [False, False, True, False, False]


def test_what_could_not_be_told_is_told_later() -> None:
    trouble = Trouble("record", "record/x", "it cannot be read")
    memory, _ = told(Memory(), trouble, NOW, done=False)
    acted = []
    for after in (GRACE, GRACE + AGAIN / 2, GRACE + AGAIN):
        memory, did = told(memory, trouble, NOW + after, done=False)
        acted.append(did)
    assert acted == [True, False, True]


def test_a_release_that_dies_again_is_another_matter(place: Environment) -> None:
    def key(record: Release, kind: str = "dead run") -> str:
        found = troubles(place, Facts(at=NOW, records=(record,), lock_is_free=True), Memory(), HANDS)
        return next(one.key for one in found if one.kind == kind)

    dead = running()
    assert key(dead) == key(dead.noted("the sweep: its run died; told somebody", NOW))
    assert key(dead) == key(dead.began("maintenance", BEGAN).opened_early("the sweep", NOW))
    assert key(dead) != key(dead.noted("taken up again by somebody", NOW))
    again = closing().opened_early("the sweep", NOW).began("maintenance", NOW)
    assert key(closing(), "maintenance") != key(again, "maintenance")


def test_what_is_well_is_forgotten_unless_it_could_not_be_seen() -> None:
    trouble = Trouble("session", "session/7", "a session")
    memory, _ = told(Memory(), trouble, NOW, done=True)
    blind = Facts(at=NOW, unseen={"sessions": "no connection"})
    assert noticed(memory, [], blind, timedelta(0)) == memory
    assert not noticed(memory, [], Facts(at=NOW), timedelta(0)).entries


def test_what_cannot_be_seen_is_told(place: Environment) -> None:
    assert kinds(place, unseen={"the release lock": "no connection"}, unreadable={"x": "written by a newer one"}) == {
        "blind", "record",
    }  # fmt: skip
