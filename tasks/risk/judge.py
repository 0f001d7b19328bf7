"""The judgement: every rule over every operation of every pending migration, in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tasks.release.plan import Plan
from tasks.release.risk import Finding, MigrationLevel, Risk, level_of
from tasks.risk.facts import Facts
from tasks.risk.history import History
from tasks.risk.rule import Case
from tasks.risk.rules import MIGRATION_RULES, OPERATION_RULES


def judge(
    plan: Plan, facts: Facts, source: Path, serving: Path | None = None, more: Sequence[Finding] = ()
) -> Risk:
    """Judge a plan.

    Args:
        plan: The pending migrations.
        facts: Of the database that they are meant for.
        source: The checkout with the migrations' files, whose code runs after the release.
        serving: The checkout whose code runs during it.
        more: Findings that are made elsewhere (what is wrong with the plan itself); they count like the rules' own.
    """
    findings = list(more)
    history = History()
    for migration in plan.pending:
        history.begin(migration)
        for rule in MIGRATION_RULES:
            findings += rule.judge(Case(migration, {}, history, facts, source, serving))
        for operation in migration.operations:
            for rule in OPERATION_RULES:
                findings += rule.judge(Case(migration, operation, history, facts, source, serving))
            history.note(migration, operation)
    return Risk(
        level=level_of(findings),
        migrations=tuple(
            MigrationLevel(
                migration=migration.label,
                level=level_of(finding for finding in findings if finding.migration == migration.label),
            )
            for migration in plan.pending
        ),
        findings=tuple(findings),
        facts=facts.asked(),
        assessed_at=datetime.now(UTC),
    )
