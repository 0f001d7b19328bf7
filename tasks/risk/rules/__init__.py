"""Every rule there is."""

from __future__ import annotations

from tasks.risk.rule import Rule
from tasks.risk.rules import (
    checks,
    columns,
    foreign_keys,
    indexes,
    nullability,
    python,
    references,
    removals,
    renames,
    sql,
    squawk,
    types,
    uniqueness,
    whole,
)

MIGRATION_RULES: tuple[Rule, ...] = whole.RULES
OPERATION_RULES: tuple[Rule, ...] = (
    *columns.RULES,
    *removals.RULES,
    *renames.RULES,
    *references.RULES,
    *nullability.RULES,
    *types.RULES,
    *indexes.RULES,
    *uniqueness.RULES,
    *checks.RULES,
    *foreign_keys.RULES,
    *python.RULES,
    *sql.RULES,
    *squawk.RULES,
)
