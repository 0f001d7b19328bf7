"""Whether a table is heavy enough that its size and its users matter."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.risk.rule import Case

SMALL_ROWS = 1000  # such a table is scanned, rewritten or locked whole in a few milliseconds
# Django's own tables that hold a row per model, permission or site, whatever the application's size.
SMALL_BY_NATURE = frozenset(
    {
        "django_content_type",
        "auth_permission",
        "auth_group",
        "auth_group_permissions",
        "django_site",
        "django_migrations",
    }
)
NOT_NAMED = "which table it is cannot be told from the code"


@dataclass(frozen=True)
class Weight:
    """What is known about a table's size."""

    new: bool  # a pending migration makes it: no running code knows it
    small: bool  # new, or at most SMALL_ROWS rows by the facts
    evidence: tuple[str, ...]


def weigh(case: Case, table: str) -> Weight:
    """What a table weighs; an unknown one is heavy."""
    if not table:
        return Weight(False, False, (NOT_NAMED,))
    now = case.history.table_now(table)
    if now is None:
        return Weight(True, True, (f"{table} is made by a pending migration",))
    rows = case.facts.rows(now)
    if rows.value is None and '"' not in now:
        there = case.facts.exists(now)
        if there.value is False:  # hand-written SQL of a pending migration makes it, or the statement fails
            return Weight(True, True, (there.evidence,))
    if rows.value is None:
        return Weight(False, now in SMALL_BY_NATURE, (f"rows of {table}: unknown, {rows.evidence}",))
    if rows.value <= SMALL_ROWS:
        return Weight(False, True, (rows.evidence,))
    traffic = case.facts.traffic(now)
    return Weight(False, False, (rows.evidence, *([traffic.evidence] if traffic.value is not None else [])))
