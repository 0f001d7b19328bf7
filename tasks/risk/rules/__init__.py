"""Every rule there is."""

from __future__ import annotations

from tasks.risk.rule import Rule

MIGRATION_RULES: tuple[Rule, ...] = ()
OPERATION_RULES: tuple[Rule, ...] = ()
