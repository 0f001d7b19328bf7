"""Evidence is found by the migration set it is about, by whoever asks for just that set."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tasks.release.errors import RefusedError, StoreError
from tasks.release.evidence import evidence_of
from tasks.release.migration_set import hash_of
from tasks.store.bucket import Bucket
from tasks.store.evidence import keep, newest
from tests.builders import finding, plan, reached, rehearsal, rehearsed, release, risk
from tests.fix_s3 import S3Server
from tests.tasks.store.test_bucket import storage

LABEL = "documents.0002_document_category"
PLAN = plan(LABEL)


@pytest.fixture
def place(s3: S3Server, bucket: str) -> Bucket:
    return Bucket(storage(s3, bucket))


def test_evidence_of_a_set_is_found_again(place: Bucket) -> None:
    proved = evidence_of(release(plan=PLAN, risk=risk(labels=(LABEL,)), rehearsal=rehearsal()))
    assert proved.passed
    assert newest(place, proved.migration_set) is None
    keep(place, proved)
    assert keep(place, proved)  # a later attempt of the same release
    assert newest(place, hash_of(PLAN)) == proved
    other_major = plan(LABEL, database=reached(server_version_num=180001))
    assert newest(place, hash_of(other_major)) is None


def test_the_newest_counts(place: Bucket) -> None:
    first = evidence_of(release(plan=PLAN, risk=risk(labels=(LABEL,)), rehearsal=rehearsal()))
    later = first.model_copy(update={"release_id": "0-earlier-name", "kept_at": first.kept_at + timedelta(hours=1)})
    keep(place, later)
    keep(place, first)
    assert newest(place, first.migration_set) == later


def test_what_failed_or_is_blocked_has_not_passed() -> None:
    failed = rehearsal(rehearsed(error="duplicate key"))
    assert not evidence_of(release(plan=PLAN, risk=risk(labels=(LABEL,)), rehearsal=failed)).passed
    blocked = risk(finding(severity="blocked"))
    assert not evidence_of(release(plan=PLAN, risk=blocked, rehearsal=rehearsal())).passed


def test_nothing_is_proved_before_the_rehearsal() -> None:
    with pytest.raises(RefusedError):
        evidence_of(release(plan=PLAN, risk=risk(labels=(LABEL,))))


def test_something_else_in_its_place_is_told(place: Bucket) -> None:
    place.write(place.storage.key("evidence", "abc", "x.json"), b"{}")
    with pytest.raises(StoreError, match="no evidence"):
        newest(place, "abc")
