"""The ledger: no transition is lost, no finished stage is repeated, no record of somebody else is touched."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.release.errors import ConflictError, DatabaseError, RefusedError, ReleaseInProgressError, StoreError
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger, now
from tests.builders import deployed, release
from tests.fix_s3 import S3Server
from tests.tasks.store.test_bucket import storage

ID = "20261122-030000-v1.1-3f2a1b"


@pytest.fixture
def ledger(s3: S3Server, bucket: str) -> Ledger:
    return Ledger(Bucket(storage(s3, bucket)), "staging")


@pytest.fixture
def opened(ledger: Ledger) -> Release:
    return ledger.create(release(id=ID))


def test_a_record_comes_back_as_it_was_written(ledger: Ledger, opened: Release) -> None:
    assert ledger.load(ID) == opened
    assert list(ledger.bucket.keys("")) == [f"staging/releases/{ID}.json"]


def test_a_record_is_created_once(ledger: Ledger, opened: Release) -> None:
    with pytest.raises(ConflictError):
        ledger.create(release(id=ID, requested_by="somebody else"))
    assert ledger.load(ID).requested_by == opened.requested_by


def test_eight_writers_at_once_lose_nothing(ledger: Ledger, opened: Release) -> None:
    def note(number: int) -> None:
        ledger.update(ID, lambda record: record.noted(f"by {number}", now()))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(note, range(8)))
    assert sorted(entry.what for entry in ledger.load(ID).timeline) == sorted(f"by {number}" for number in range(8))


def test_one_who_always_comes_second_is_told(ledger: Ledger, opened: Release) -> None:
    def change(record: Release) -> Release:
        Ledger(ledger.bucket, "staging").update(ID, lambda other: other.noted("faster", now()))
        return record.noted("slower", now())

    with pytest.raises(ConflictError, match="changes faster than it can be written") as caught:
        ledger.update(ID, change)
    assert caught.value.retryable
    assert {entry.what for entry in ledger.load(ID).timeline} == {"faster"}


def test_a_stage_runs_once(ledger: Ledger, opened: Release) -> None:
    told: list[str] = []
    seen: list[int] = []

    def work(record: Release) -> object:
        seen.append(record.stages["code"].attempts)
        return deployed()

    first = ledger.carry_out(ID, "code", work, told.append)  # type: ignore[type-var]
    second = ledger.carry_out(ID, "code", work, told.append)  # type: ignore[type-var]
    assert first == second == deployed()
    assert seen == [1]
    assert told == ["code: finished before, not repeated"]
    assert [entry.what for entry in ledger.load(ID).timeline] == ["code began", "code finished"]


def test_a_failure_is_written_down_and_raised(ledger: Ledger, opened: Release) -> None:
    def lost(_: Release) -> object:
        raise DatabaseError("the server closed the connection", sqlstate="57P01", retryable=True)

    with pytest.raises(DatabaseError, match="closed the connection"):
        ledger.carry_out(ID, "code", lost, print)  # type: ignore[type-var]
    run = ledger.load(ID).stages["code"]
    assert (run.attempts, run.error) == (1, "the server closed the connection")
    assert run.ended_at is not None

    with pytest.raises(KeyboardInterrupt):
        ledger.carry_out(ID, "code", _interrupted, print)  # type: ignore[type-var]
    assert ledger.load(ID).stages["code"].error == "KeyboardInterrupt: stop"
    ledger.carry_out(ID, "code", lambda _: deployed(), print)
    assert ledger.load(ID).stages["code"].attempts == 3


def _interrupted(_: Release) -> object:
    raise KeyboardInterrupt("stop")


def test_a_failure_that_cannot_be_written_down_does_not_hide_the_first(ledger: Ledger, opened: Release) -> None:
    told: list[str] = []

    def work(_: Release) -> object:
        ledger.bucket.client.delete_object(Bucket=ledger.bucket.name, Key=f"staging/releases/{ID}.json")
        raise DatabaseError("the first error")

    with pytest.raises(DatabaseError, match="the first error"):
        ledger.carry_out(ID, "code", work, told.append)  # type: ignore[type-var]
    assert "code: its failure could not be written down either: there is no release" in told[0]


def test_a_stage_that_died_is_begun_again(ledger: Ledger, opened: Release) -> None:
    ledger.update(ID, lambda record: record.began("code", now()))
    ledger.carry_out(ID, "code", lambda _: deployed(), print)
    assert "the one before died" in ledger.load(ID).timeline[1].what


def test_the_newest_comes_first_and_strange_objects_are_left_alone(ledger: Ledger) -> None:
    for second in (1, 3, 2):
        ledger.create(release(id=f"20261122-03000{second}-v1-3f2a1b"))
    ledger.bucket.write("staging/releases/notes.txt", b"by hand")
    assert [record.id[14] for record in ledger.newest()] == ["3", "2", "1"]


@pytest.mark.parametrize("bad", ["", "../production/releases/x", "UPPER", f"{ID}\n", "x" * 81, "a/b", "-x"])
def test_what_is_no_id_is_refused(ledger: Ledger, opened: Release, bad: str) -> None:
    with pytest.raises(RefusedError, match="is not a release id"):
        ledger.load(bad)


def test_a_release_that_is_not_there_is_refused(ledger: Ledger) -> None:
    with pytest.raises(RefusedError, match="there is no release nothing in staging") as caught:
        ledger.load("nothing")
    assert "runbook releases" in caught.value.hint


def test_a_record_of_another_environment_is_refused(ledger: Ledger, opened: Release) -> None:
    other = Ledger(ledger.bucket, "production")
    with pytest.raises(RefusedError, match="belongs to staging, not to production"):
        other.load(ID)
    with pytest.raises(RefusedError, match="belongs to staging, not to production"):
        other.update(ID, lambda record: record.noted("x", now()))
    assert ledger.load(ID) == opened


@pytest.mark.parametrize(
    ("change", "told"),
    [({"format": 2}, "the first at format"), ({"weather": "fine"}, "the first at weather")],
)
def test_a_record_of_a_newer_runbook_is_left_alone(
    ledger: Ledger, opened: Release, change: dict[str, object], told: str
) -> None:
    key = f"staging/releases/{ID}.json"
    stored = ledger.bucket.read(key)
    assert stored is not None
    newer = json.dumps(json.loads(stored.body) | change).encode()
    ledger.bucket.write(key, newer, etag=stored.etag)
    with pytest.raises(StoreError, match=told) as caught:
        ledger.update(ID, lambda record: record.noted("x", now()))
    assert "newer runbook" in caught.value.hint
    assert not caught.value.retryable
    again = ledger.bucket.read(key)
    assert again is not None
    assert again.body == newer


def test_a_run_that_lost_its_stage_to_another_one_does_not_speak_for_it(ledger: Ledger, opened: Release) -> None:
    told: list[str] = []

    def overtaken(_: Release) -> object:
        ledger.update(ID, lambda record: record.began("code", now()))
        return deployed()

    with pytest.raises(ReleaseInProgressError, match="taken up by another run"):
        ledger.carry_out(ID, "code", overtaken, told.append)  # type: ignore[type-var]

    def overtaken_and_failed(_: Release) -> object:
        ledger.update(ID, lambda record: record.began("code", now()))
        raise DatabaseError("gone")

    with pytest.raises(DatabaseError):
        ledger.carry_out(ID, "code", overtaken_and_failed, told.append)  # type: ignore[type-var]
    record = ledger.load(ID)
    assert record.code is None
    assert record.stages["code"].ended_at is None
    assert "could not be written down either" in told[-1]


def test_what_is_no_record_is_passed_over(ledger: Ledger, opened: Release) -> None:
    ledger.bucket.write("staging/releases/notes of Monday.json", b"{}")
    assert [record.id for record in ledger.newest()] == [ID]
