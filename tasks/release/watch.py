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
