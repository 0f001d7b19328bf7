"""What a release leaves behind where people and rules decide: gate, question, approval, notices, maintenance."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from tasks.release.checklist import Tick
from tasks.release.people import Occasion
from tasks.release.record import Record
from tasks.release.rehearsal import Rehearsal
from tasks.release.risk import Level


class Check(Record):
    """One prerequisite of §4 and what was found."""

    name: str  # such as "staging evidence"
    tick: Tick  # unknown stops a release as no does
    evidence: str
    mend: str = ""  # what would turn it to yes


class Gated(Record):
    """The prerequisites of §4, all of which held."""

    checks: tuple[Check, ...]
    evidence_release: str | None  # the release of the environment before, whose rehearsal counts
    rehearsal: Rehearsal | None = None  # what that release measured
    checked_at: datetime


class Delivery(Record):
    """One notice to one channel or contact."""

    to: str  # the channel's or the contact's name
    occasion: Occasion
    subject: str
    ok: bool
    tries: int
    error: str = ""
    at: datetime


class Told(Record):
    """Notices that were sent, or could not be."""

    deliveries: tuple[Delivery, ...]


class Asked(Record):
    """A question that waits for a person."""

    flow_run_id: str  # the one that is suspended
    level: Level  # of the checklist that the person is shown
    demands: tuple[str, ...]
    asked_at: datetime
    expires_at: datetime
    told: tuple[str, ...] = ()  # contacts, in the order in which they were told

    def expired(self, at: datetime) -> bool:
        """Whether an answer comes too late."""
        return at >= self.expires_at

    @property
    def key(self) -> str:
        """Names the question within its flow run, for Prefect: letters, digits and dashes."""
        return f"approval-{self.asked_at:%Y%m%d-%H%M%S-%f}"


class Approved(Record):
    """What a person answered, or that nobody had to be asked."""

    asked: bool  # False: the environment asks nobody for this level
    by: str = ""  # what the person typed: Prefect itself knows no users
    standby: str = ""  # who stands by
    comment: str = ""
    maintenance_window: bool = False  # the person allows maintenance mode now
    level: Level  # up to which it holds: a worse rehearsal asks again
    answered_at: datetime


class Closed(Record):
    """Maintenance mode was switched on, and seen."""

    since: datetime
    how: str  # "flag in /app/.env", "command", "request"
    needed: bool  # False: the checklist did not demand it, nothing was switched


class Reopened(Record):
    """Maintenance mode was switched off, and seen to be off."""

    at: datetime
    by: Literal["the release", "a later run", "the sweep"]
