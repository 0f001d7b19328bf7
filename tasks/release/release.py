"""Release: the record of one deployment, from its plan to its end.

The record lives in the bucket, not in the database that may be rolled back and not in Prefect. Its methods are pure:
each returns the record as it is after something happened; tasks/store/ledger.py writes it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

from pydantic import Field

from tasks.release.backup import Backup, Verification
from tasks.release.decisions import Approved, Asked, Closed, Delivery, Gated, Reopened, Told
from tasks.release.errors import RefusedError
from tasks.release.plan import Applied, Plan
from tasks.release.record import Record
from tasks.release.rehearsal import Rehearsal
from tasks.release.risk import Risk
from tasks.release.watch import Verdict

StageName = Literal[
    "plan", "gate", "risk", "announced", "approval", "backup", "verification", "rehearsal", "maintenance", "code",
    "applied", "reloaded", "reopened", "smoke", "told",
]  # fmt: skip
# waiting: for a person; watching: it serves and is watched; convicted: the watch speaks against it
Status = Literal["running", "waiting", "watching", "finished", "failed", "convicted"]
SERVING: frozenset[Status] = frozenset({"watching", "finished", "convicted"})
ID_PATTERN = r"^[a-z0-9][a-z0-9.-]{0,79}$"
TIMELINE_LIMIT = 2_000  # entries; a record that nobody can open helps nobody


class Deployed(Record):
    """The code that now serves."""

    previous: str  # commit
    commit: str
    installed: bool  # the requirements were installed, since their files differ


class Reloaded(Record):
    """The service was told to run the checked-out code."""

    commit: str
    told: bool  # False where no command is configured


class Answer(Record):
    """What one endpoint answered."""

    name: str
    ok: bool
    status: int | None  # None: no answer
    seconds: float
    problem: str
    head: str  # the first bytes of the body, when something is wrong with it


class Smoked(Record):
    """The smoke test that passed."""

    answers: tuple[Answer, ...]
    round_trip_s: float  # a row written, read back and rolled back


Result = (
    Plan | Gated | Risk | Told | Approved | Backup | Verification | Rehearsal | Closed | Deployed | Applied | Reloaded
    | Reopened | Smoked
)  # fmt: skip


class Happening(Record):
    """One line of the timeline."""

    at: datetime
    what: str
    stage: StageName | None = None


class StageRun(Record):
    """How the attempts at one stage went."""

    attempts: int
    began_at: datetime  # the attempt that counts: the last one
    ended_at: datetime | None = None
    error: str = ""
    hint: str = ""  # what to do about the error

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took; None while it runs or when it died."""
        return (self.ended_at - self.began_at).total_seconds() if self.ended_at else None


class Release(Record):
    """One deployment of one commit to one environment."""

    format: Literal[1] = 1
    id: str
    environment: str
    ref: str
    commit: str
    previous_commit: str  # what served when the release was opened
    checked_out: str  # what lay in the directory then: another commit after a release that failed before its reload
    commits: tuple[str, ...] = ()  # hash and subject of what this brings, newest first
    created_at: datetime
    requested_by: str
    status: Status = "running"
    stages: dict[StageName, StageRun] = Field({})
    timeline: tuple[Happening, ...] = ()
    plan: Plan | None = None
    gate: Gated | None = None
    risk: Risk | None = None
    announced: Told | None = None
    asked: Asked | None = None
    approval: Approved | None = None
    backup: Backup | None = None
    verification: Verification | None = None
    rehearsal: Rehearsal | None = None
    maintenance: Closed | None = None
    code: Deployed | None = None
    applied: Applied | None = None
    reloaded: Reloaded | None = None
    reopened: Reopened | None = None
    smoke: Smoked | None = None
    verdict: Verdict | None = None
    told: Told | None = None
    notices: tuple[Delivery, ...] = ()  # each as it was sent, whatever its occasion

    def result(self, stage: StageName) -> Result | None:
        """What a finished stage left; None when it is not finished."""
        value: Result | None = getattr(self, stage)
        return value

    @property
    def tried(self) -> Rehearsal | None:
        """What is known of the migrations by trying them: here, or until then where they were released before."""
        return self.rehearsal or (self.gate.rehearsal if self.gate else None)

    @property
    def migrations_schema(self) -> str | None:
        """The schema of django_migrations, as the application's session found it last; None: nobody knows one."""
        if self.applied and self.applied.migrations_schema:
            return self.applied.migrations_schema
        return self.plan.database.migrations_schema if self.plan else None

    def noted(self, what: str, at: datetime, stage: StageName | None = None) -> Release:
        """With one more line of the timeline."""
        return self._with(timeline=(*self.timeline, Happening(at=at, what=what, stage=stage))[-TIMELINE_LIMIT:])

    def began(self, stage: StageName, at: datetime) -> Release:
        """With an attempt at a stage begun.

        Raises:
            RefusedError: The stage is finished: it is never repeated.
        """
        self._refuse_if_finished(stage)
        before = self.stages.get(stage)
        attempts = before.attempts + 1 if before else 1
        died = before is not None and before.ended_at is None
        run = StageRun(attempts=attempts, began_at=at)
        what = f"{stage} began" + (f" (attempt {attempts}{', the one before died' if died else ''})" * (attempts > 1))
        return self._with(stages={**self.stages, stage: run}, status="running").noted(what, at, stage)

    def finished(self, stage: StageName, result: Result, at: datetime) -> Release:
        """With a stage finished.

        Raises:
            RefusedError: The stage was not begun, or is finished.
        """
        self._refuse_if_finished(stage)
        run = self._running(stage).model_copy(update={"ended_at": at, "error": "", "hint": ""})
        changed = self._with(**{"stages": {**self.stages, stage: run}, stage: result})
        return changed.noted(f"{stage} finished", at, stage)

    def failed(self, stage: StageName, error: str, at: datetime, hint: str = "") -> Release:
        """With an attempt at a stage ended by an error.

        Raises:
            RefusedError: The stage was not begun, or is finished.
        """
        self._refuse_if_finished(stage)
        run = self._running(stage).model_copy(update={"ended_at": at, "error": error, "hint": hint})
        return self._with(stages={**self.stages, stage: run}).noted(f"{stage} failed: {error}", at, stage)

    def asks(self, question: Asked) -> Release:
        """With a question put to a person; an approval that was given before counts no longer.

        Raises:
            RefusedError: The code, or anything after it, was begun: whoever said no now would say it too late.
        """
        if "code" in self.stages:
            raise RefusedError(f"release {self.id} is being deployed: nobody can be asked about it any more")
        at = question.asked_at
        run = self.stages.get("approval")
        asking = self._with(approval=None)
        if run is None or run.ended_at:
            asking = asking.began("approval", at)
        what = f"waits for an approval of a {question.level} risk until {question.expires_at:%Y-%m-%d %H:%M} UTC"
        return asking._with(status="waiting", asked=question).noted(what, at, "approval")

    def delivered(self, delivery: Delivery) -> Release:
        """With a notice sent, or not."""
        return self._with(notices=(*self.notices, delivery)[-TIMELINE_LIMIT:])

    def opened_early(self, by: str, at: datetime) -> Release:
        """With maintenance mode ended before its work was done: whoever takes the release up switches it on again."""
        stages = {stage: run for stage, run in self.stages.items() if stage not in ("maintenance", "reopened")}
        changed = self._with(stages=stages, maintenance=None, reopened=None)
        return changed.noted(f"maintenance mode was switched off by {by}", at, "reopened")

    def closed(self, status: Status, what: str, at: datetime) -> Release:
        """With the release's end, or its being taken up again."""
        return self._with(status=status).noted(what, at)

    def judged(self, verdict: Verdict, at: datetime) -> Release:
        """With the end of its watch."""
        status: Status = "convicted" if verdict.outcome == "convicted" else "finished"
        return self._with(verdict=verdict).closed(status, f"watched, {verdict.outcome}: {verdict.sentence}", at)

    def _running(self, stage: StageName) -> StageRun:
        if stage not in self.stages:
            raise RefusedError(f"the stage {stage!r} of release {self.id} was not begun")
        return self.stages[stage]

    def _refuse_if_finished(self, stage: StageName) -> None:
        if self.result(stage) is not None:
            raise RefusedError(f"the stage {stage!r} of release {self.id} is finished and is never repeated")

    def _with(self, **changes: object) -> Release:
        return self.model_copy(update=changes)


def new_id(ref: str, commit: str, at: datetime) -> str:
    """An id that sorts by time and says what it is about: `20261122-104512-v1.1-3f2a1b`.

    Two runs that start within one second collide, and the ledger's conditional write lets one of them win.
    """
    slug = re.sub(r"[^a-z0-9.]+", "-", ref.lower().removeprefix("origin/")).strip("-.")[:40] or "release"
    return f"{at:%Y%m%d-%H%M%S}-{slug}-{commit[:6]}"
