"""What a release risks: every finding with the fact that proves it, and the level that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Literal

from tasks.release.environment import Risk as Limits
from tasks.release.record import Record

# `unknown` is a finding that no fact could settle: it is never taken for safe.
Severity = Literal["medium", "unknown", "high", "blocked"]
Level = Literal["low", "medium", "high", "blocked"]

# Which promise of the runbook's checklist a finding breaks; "open": nobody could tell.
Harm = Literal["fails", "old code", "new code", "loss", "blocks", "way back", "open"]

LEVEL_OF: dict[Severity, Level] = {"medium": "medium", "unknown": "high", "high": "high", "blocked": "blocked"}
LEVELS: tuple[Level, ...] = ("low", "medium", "high", "blocked")


class Suppression(Record):
    """A finding that somebody has looked at and lives with, until a day."""

    rule: str
    migration: str  # app.name
    reason: str
    expires: date  # the last day on which it holds
    file: str  # where it is written, next to the migration's code
    line: int


class Finding(Record):
    """One thing that happens to somebody when a migration is applied or reversed."""

    rule: str
    migration: str  # app.name
    severity: Severity
    message: str  # what happens to whom, in a sentence or two
    evidence: tuple[str, ...]  # the facts it rests on, each with where it is from
    mitigation: tuple[str, ...]  # steps for the table and the column at hand
    file: str | None = None
    line: int | None = None
    harm: Harm = "open"
    subject: str = ""  # the relation, column or index it is about: "shop_order.total"
    suppressed: Suppression | None = None


class MigrationLevel(Record):
    """How much one migration risks."""

    migration: str
    level: Level


class Risk(Record):
    """The judgement of all pending migrations of a release."""

    limits: Limits  # of the environment, when it was judged
    level: Level
    migrations: tuple[MigrationLevel, ...]  # in the order of the plan
    findings: tuple[Finding, ...]  # suppressed ones too
    facts: tuple[str, ...]  # what was asked of the database and what it said; what could not be read, and why
    assessed_at: datetime

    def with_more(self, findings: Iterable[Finding]) -> Risk:
        """With more findings, and the levels that follow from all of them."""
        everything = (*self.findings, *findings)
        return self.model_copy(
            update={
                "findings": everything,
                "level": level_of(everything),
                "migrations": levels_of((one.migration for one in self.migrations), everything),
            }
        )


def levels_of(labels: Iterable[str], findings: Sequence[Finding]) -> tuple[MigrationLevel, ...]:
    """The level of each migration."""
    return tuple(
        MigrationLevel(migration=label, level=level_of(finding for finding in findings if finding.migration == label))
        for label in labels
    )


def level_of(findings: Iterable[Finding]) -> Level:
    """The highest level of findings that are not suppressed."""
    levels = [LEVEL_OF[finding.severity] for finding in findings if finding.suppressed is None]
    return max(levels, key=LEVELS.index, default="low")
