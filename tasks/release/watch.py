"""What the watch of a release found (§3.5, §4.7)."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from tasks.release.record import Record

Outcome = Literal["passed", "convicted", "inconclusive", "superseded"]


class Blame(Record):
    """What a verdict holds responsible."""

    migration: str | None  # app.name; None: the code, or nothing that could be named
    relation: str | None
    what: str  # the statement or endpoint that became worse
    began_at: datetime | None


class Finding(Record):
    """Something that a look into the catalogue found, without statistics."""

    rule: Literal["invalid-index", "unvalidated", "no-statistics", "sequence-end", "index-scans-gone"]
    subject: str  # the index, constraint, column, sequence or table
    what: str
    remedy: str  # the statement, or what to do
    mended: bool = False  # the watch did it
    convicts: bool = False


class Watched(Record):
    """What became of one metric."""

    metric: str
    evidence: float  # against the release; 1: none either way
    observed: float | None  # share of bad events over the whole watch; None: no events
    tolerated: float | None  # the largest share that is no harm
    share: float  # of the evidence against the release, 0 to 1
    general: bool = False  # what the release does not touch became as bad: not held against it


class Placebo(Record):
    """The same judge on past days, as if a migration had happened then: every conviction there is a false alarm."""

    replays: int
    false_alarms: int
    since: datetime
    until: datetime

    @property
    def clean(self) -> bool:
        """Whether there were replays, and not one false alarm among them."""
        return self.replays > 0 and self.false_alarms == 0


class Verdict(Record):
    """How a watch ended."""

    outcome: Outcome
    sentence: str  # that a manager understands
    metric: str | None  # the one that decided
    blame: Blame | None
    may_roll_back: bool  # automatic rollback is allowed
    why_not: str  # "" where it is
    began_at: datetime
    ended_at: datetime
    intervals: int = 0  # that were judged
    silent: int = 0  # of these, without any traffic
    maintained: int = 0  # of the silent ones, in maintenance mode
    watched: tuple[Watched, ...] = ()  # the strongest evidence first
    findings: tuple[Finding, ...] = ()
    power: str = ""  # what could have been seen with this traffic
    placebo: Placebo | None = None  # None: nothing was replayed yet
    pictures: tuple[str, ...] = ()  # keys in the bucket
