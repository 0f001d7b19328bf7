"""The record of a release: whatever happens in whatever order, a finished stage is finished once and for all."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tasks.release.decisions import Approved, Closed, Gated, Reopened, Told
from tasks.release.errors import RefusedError
from tasks.release.release import ID_PATTERN, TIMELINE_LIMIT, Release, Result, StageName, Status, new_id
from tests.builders import (
    AT,
    COMMIT,
    applied,
    backup,
    deployed,
    finding,
    plan,
    rehearsal,
    release,
    reloaded,
    risk,
    smoked,
    verification,
)

STAGES: tuple[StageName, ...] = get_args(StageName)
RESULTS: dict[StageName, Result] = {
    "plan": plan("documents.0002_document_category"),
    "gate": Gated(checks=(), evidence_release=None, checked_at=AT),
    "risk": risk(finding()),
    "announced": Told(deliveries=()),
    "approval": Approved(asked=False, level="low", answered_at=AT),
    "backup": backup(started_at=AT, finished_at=AT),
    "verification": verification(),
    "rehearsal": rehearsal(),
    "maintenance": Closed(since=AT, how="flag", needed=True),
    "code": deployed(),
    "applied": applied("documents.0002_document_category"),
    "reloaded": reloaded(),
    "reopened": Reopened(at=AT, by="the release"),
    "smoke": smoked(),
    "told": Told(deliveries=()),
}
stages = st.sampled_from(STAGES)


class Deployment(RuleBasedStateMachine):
    """Anything may be tried at any time; what the record says is compared with a list of what was let through."""

    @initialize()
    def open(self) -> None:
        self.record = release()
        self.time: datetime = AT
        self.begun: dict[str, int] = {}
        self.done: set[str] = set()

    def at(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time

    @rule(stage=stages)
    def begin(self, stage: StageName) -> None:
        if stage in self.done:
            with pytest.raises(RefusedError, match="never repeated"):
                self.record.began(stage, self.at())
            return
        self.record = self.record.began(stage, self.at())
        self.begun[stage] = self.begun.get(stage, 0) + 1
        assert self.record.status == "running"
        assert self.record.stages[stage].seconds is None

    @rule(stage=stages)
    def finish(self, stage: StageName) -> None:
        if stage in self.done or stage not in self.begun:
            with pytest.raises(RefusedError):
                self.record.finished(stage, RESULTS[stage], self.at())
            return
        self.record = self.record.finished(stage, RESULTS[stage], self.at())
        self.done.add(stage)
        assert self.record.stages[stage].error == ""

    @rule(stage=stages, error=st.text(max_size=30))
    def fail(self, stage: StageName, error: str) -> None:
        if stage in self.done or stage not in self.begun:
            with pytest.raises(RefusedError):
                self.record.failed(stage, error, self.at())
            return
        self.record = self.record.failed(stage, error, self.at())
        assert self.record.stages[stage].error == error

    @rule(status=st.sampled_from(get_args(Status)))
    def close(self, status: Status) -> None:
        self.record = self.record.closed(status, "closed", self.at())
        assert self.record.status == status

    @rule()
    def note(self) -> None:
        self.record = self.record.noted("noted", self.at())

    @invariant()
    def results_are_those_that_finished(self) -> None:
        assert {stage for stage in STAGES if self.record.result(stage) is not None} == self.done

    @invariant()
    def attempts_are_counted(self) -> None:
        assert {stage: run.attempts for stage, run in self.record.stages.items()} == self.begun

    @invariant()
    def it_comes_back_from_json(self) -> None:
        assert Release.model_validate_json(self.record.model_dump_json()) == self.record

    @invariant()
    def time_goes_forward(self) -> None:
        moments = [entry.at for entry in self.record.timeline]
        assert moments == sorted(moments)


TestDeployment = Deployment.TestCase
TestDeployment.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_a_record_never_grows_beyond_what_can_be_opened() -> None:
    record = release()
    for number in range(TIMELINE_LIMIT + 5):
        record = record.noted(f"line {number}", AT)
    assert len(record.timeline) == TIMELINE_LIMIT
    assert record.timeline[-1].what == f"line {TIMELINE_LIMIT + 4}"


def test_an_attempt_that_died_is_told_from_one_that_failed() -> None:
    died = release().began("code", AT).began("code", AT)
    assert died.timeline[-1].what == "code began (attempt 2, the one before died)"
    failed = release().began("code", AT).failed("code", "no", AT).began("code", AT)
    assert failed.timeline[-1].what == "code began (attempt 2)"


def test_nothing_of_a_record_changes_in_place() -> None:
    before = release()
    after = before.began("plan", AT)
    assert before.stages == {}
    assert after is not before
    with pytest.raises(ValueError, match="frozen"):
        after.status = "finished"  # type: ignore[misc]


@given(st.text(min_size=1), st.datetimes())
def test_every_ref_gives_an_id_that_can_be_a_key(ref: str, at: datetime) -> None:
    assert re.fullmatch(ID_PATTERN, new_id(ref, COMMIT, at))


def test_ids_sort_by_time_and_say_what_they_are_about() -> None:
    early, late = new_id("origin/Feature/X y", COMMIT, AT), new_id("a", COMMIT, AT + timedelta(seconds=1))
    assert early == "20261122-030000-feature-x-y-3f2a1b"
    assert early < late
