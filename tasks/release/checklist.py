"""The checklist of §4.1, ticked by facts: each box with its evidence and with what would turn it to yes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tasks.release.environment import Risk as Limits
from tasks.release.plan import Plan
from tasks.release.record import Record
from tasks.release.rehearsal import MigrationRehearsal, Rehearsal
from tasks.release.risk import LEVELS, Finding, Harm, Level, Risk, level_of

Tick = Literal["yes", "no", "unknown"]
NOT_REHEARSED = "not rehearsed on the restored backup"
MAINTENANCE: Literal["maintenance window"] = "maintenance window"  # the demand to shut the application
LOST = ("gone", "changed")  # kinds of loss that are one; rows that a handler of `migrate` adds are not


class Box(Record):
    """One line of the checklist."""

    question: str
    tick: Tick
    evidence: tuple[str, ...]
    mend: str  # what would turn it to yes; "" where it is


class Checklist(Record):
    """The boxes, the level that follows from findings and rehearsal, and what the environment demands for it."""

    boxes: tuple[Box, ...]
    level: Level
    demands: tuple[str, ...]  # "nothing", windows, an approval, or "no deployment"


def checklist(plan: Plan, risk: Risk, rehearsal: Rehearsal | None = None) -> Checklist:
    """Tick the boxes of a release.

    What the rehearsal measured counts before what was judged: it settles findings that nobody could decide, and it
    raises the level where the migration did on the backup what it must not do to the database.

    Args:
        plan: The pending migrations.
        risk: Their judgement; the limits are those that it was made with.
        rehearsal: How they went on the restored backup; None: they were not tried.
    """
    limits = risk.limits
    tried = {one.migration: one for one in rehearsal.migrations} if rehearsal else {}
    records = [tried.get(migration.label) for migration in plan.pending]
    open_findings = [finding for finding in risk.findings if finding.suppressed is None]
    boxes = (
        _backward_compatible(records, open_findings),
        _no_loss(records, open_findings),
        _in_time(limits, records, open_findings),
        _way_back(records, open_findings),
        Box(
            question="Team members on standby",
            tick="unknown",
            evidence=("no program knows",),
            mend="a person says so when the release is approved",
        ),
    )
    levels = [
        level_of(finding for finding in open_findings if not _settled(finding, tried)),
        *(_measured_level(limits, record) for record in tried.values()),
    ]
    level = max(levels, key=LEVELS.index)
    return Checklist(boxes=boxes, level=level, demands=_demands(limits, level, boxes[2]))


def _demands(limits: Limits, level: Level, in_time: Box) -> tuple[str, ...]:
    if level == "blocked":
        return ("no deployment",)
    of_level = {"low": "nothing", "medium": limits.medium, "high": limits.high}[level]
    demands = [of_level] if of_level != "nothing" else []
    # An environment that demands nothing for a high risk is one where nobody is kept waiting.
    if in_time.tick == "no" and limits.high != "nothing":
        demands.append(MAINTENANCE)
    return tuple(dict.fromkeys(demands)) or ("nothing",)


def _settled(finding: Finding, tried: dict[str, MigrationRehearsal]) -> bool:
    """Whether the rehearsal answered what a finding left open."""
    record = tried.get(finding.migration)
    return finding.severity == "unknown" and record is not None and record.again_identical is True


def _measured_level(limits: Limits, record: MigrationRehearsal) -> Level:
    if record.error:
        return "blocked"
    if record.seconds is None:
        return "high"
    if record.backward_compatible is False or _lost(record) or (record.blocking_s or 0) > limits.blocking_s:
        return "high"
    if record.reversible is False or record.schema_restored is False or record.again_identical is False:
        return "medium"
    return "low"


def _box(
    question: str, records: list[MigrationRehearsal | None], against: list[str], favour: str, mend: str, unsure: str
) -> Box:
    """No where anything speaks against it, unknown where not all was tried, else yes."""
    if against:
        return Box(question=question, tick="no", evidence=tuple(against), mend=mend)
    if not records:
        return Box(question=question, tick="yes", evidence=("no migration is pending",), mend="")
    if unsure:
        return Box(question=question, tick="unknown", evidence=(unsure,), mend="rehearse them on a restored backup")
    return Box(question=question, tick="yes", evidence=(favour,), mend="")


def _backward_compatible(records: list[MigrationRehearsal | None], findings: list[Finding]) -> Box:
    against = [
        f"{record.migration}: {broken.what} of the previous release fails: {broken.error}"
        for record in _there(records)
        for broken in record.broken
    ] or _said(findings, "old code")
    return _box(
        "Migration is backward compatible",
        records,
        against,
        "every query of the previous release still works on the migrated copy",
        "split it: first a release whose code needs neither the old nor the new form, then the migration",
        "" if all(record and record.backward_compatible for record in records) else NOT_REHEARSED,
    )


def _no_loss(records: list[MigrationRehearsal | None], findings: list[Finding]) -> Box:
    against = [
        f"{record.migration}: after its reversal {_told(loss.count, loss.column, loss.relation, loss.kind)}"
        for record in _there(records)
        for loss in record.losses
        if loss.kind in LOST
    ] or _said(findings, "loss")
    return _box(
        "No data loss risk",
        records,
        against,
        "after the reversal every row and value was what it was before",
        "keep a copy of what is dropped or rewritten, and drop it in a later release",
        "" if all(record and record.reversible for record in records) else NOT_REHEARSED,
    )


def _in_time(limits: Limits, records: list[MigrationRehearsal | None], findings: list[Finding]) -> Box:
    there = [record for record in records if record and record.seconds is not None]
    seconds = sum(record.seconds or 0 for record in there)
    blocking = max((record.blocking_s or 0 for record in there), default=0)
    measured = (
        f"{seconds:.2f} s in all on the restored backup, of which a table was blocked for {blocking:.2f} s at most"
    )
    # A concurrent index build may take an hour and keeps nobody waiting: that calls for no window.
    late = blocking > limits.blocking_s or (seconds > limits.execution_s and blocking > 0)
    against = [f"{measured}; allowed are {limits.execution_s:g} s and {limits.blocking_s:g} s"] if late else []
    complete = len(there) == len(records)
    return _box(
        f"Estimated execution time < {limits.execution_s:g} s (or maintenance window scheduled)",
        records,
        against or ([] if complete else _said(findings, "blocks")),
        measured,
        "schedule a maintenance window, or let it work without the lock (concurrently, NOT VALID, in batches)",
        "" if complete else NOT_REHEARSED,
    )


def _way_back(records: list[MigrationRehearsal | None], findings: list[Finding]) -> Box:
    against = []
    for record in _there(records):
        if record.reversible is False:
            against.append(f"{record.migration} cannot be reversed: {record.irreversible_because}")
        if record.schema_restored is False:
            told = "; ".join(record.schema_differences)
            against.append(f"{record.migration}: after its reversal the schema is another one: {told}")
        if record.again_identical is False:
            told = "; ".join(record.again_differences)
            against.append(f"{record.migration}: applied a second time it leaves another schema: {told}")
        if record.error:
            against.append(f"{record.migration} could not be applied: {record.error}")
    tried = all(record and record.reversible and record.again_identical for record in records)
    return _box(
        "Rollback procedure tested",
        records,
        against or ([] if tried else _said(findings, "way back")),
        "each was reversed and applied again; the schema was the same each time",
        "give the migration a reverse that brings back what was there",
        "" if tried else NOT_REHEARSED,
    )


def _there(records: Iterable[MigrationRehearsal | None]) -> list[MigrationRehearsal]:
    return [record for record in records if record]


def _lost(record: MigrationRehearsal) -> bool:
    return any(loss.kind in LOST for loss in record.losses)


def _said(findings: list[Finding], harm: Harm) -> list[str]:
    return [f"{finding.migration}: {finding.message}" for finding in findings if finding.harm == harm]


def _told(count: int, column: str | None, relation: str, kind: str) -> str:
    what = "rows" if column is None else f"values of {column}"
    return f"{count:,} {what} in {relation} are {kind}"
