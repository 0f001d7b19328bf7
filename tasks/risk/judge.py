"""The judgement: every rule over every operation of every pending migration, in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from tasks.release.environment import Risk as Limits
from tasks.release.plan import Plan
from tasks.release.risk import Finding, Risk, level_of, levels_of
from tasks.risk.facts import Facts
from tasks.risk.history import History
from tasks.risk.rule import Case, readable
from tasks.risk.rules import MIGRATION_RULES, OPERATION_RULES
from tasks.risk.suppressions import apply, suppressions


def judge(
    plan: Plan,
    facts: Facts,
    source: Path,
    serving: Path | None = None,
    more: Sequence[Finding] = (),
    limits: Limits | None = None,
    today: date | None = None,
) -> Risk:
    """Judge a plan.

    Args:
        plan: The pending migrations.
        facts: Of the database that they are meant for.
        source: The checkout with the migrations' files, whose code runs after the release.
        serving: The checkout whose code runs during it.
        limits: What the environment allows and demands; goes into the record. None: the defaults.
        today: Suppressions hold up to their last day; None: the day in UTC.
        more: Findings that are made elsewhere (what is wrong with the plan itself); they count like the rules' own.
    """
    findings = list(more)
    history = History()
    for migration in plan.pending:
        history.begin(migration)
        for rule in MIGRATION_RULES:
            findings += rule.judge(Case(migration, {}, history, facts, source, serving, plan.pending))
        for operation in migration.operations:
            for rule in OPERATION_RULES:
                findings += rule.judge(Case(migration, operation, history, facts, source, serving, plan.pending))
            history.note(migration, operation)
    # A migration that cannot be loaded is in no plan, but it is judged.
    labels = [migration.label for migration in plan.pending]
    labels += [finding.migration for finding in more if finding.migration]
    known = {rule.id for rule in (*MIGRATION_RULES, *OPERATION_RULES)} | {finding.rule for finding in findings}
    valid, about_them = suppressions(source, plan, today or datetime.now(UTC).date(), known)
    findings = [*apply(findings, valid), *about_them]
    return Risk(
        limits=limits or Limits(),
        level=level_of(findings),
        migrations=levels_of(dict.fromkeys(labels), findings),
        findings=tuple(findings),
        facts=tuple(readable(sentence) for sentence in facts.asked()),
        assessed_at=datetime.now(UTC),
    )
