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
LONG_TRANSACTION_S = 2  # about the lock timeout: older ones make a migration wait for its lock
BUSY_PER_S = 1  # scans or changed rows per second worth telling
NOT_NAMED = "which table it is cannot be told from the code"


@dataclass(frozen=True)
class Weight:
    """What is known about a table's size and use."""

    new: bool  # a pending migration makes it: no running code knows it
    small: bool  # new, or at most SMALL_ROWS rows by the facts
    evidence: tuple[str, ...]

    @property
    def felt(self) -> tuple[str, ...] | None:
        """What makes reading or writing every row of it felt; None: it is dealt with at once."""
        return None if self.small else self.evidence


def weigh(case: Case, table: str) -> Weight:
    """What a table weighs; an unknown one is heavy."""
    if not table:
        return Weight(False, False, (NOT_NAMED,))
    now = case.history.table_now(table)
    if now is None:
        return Weight(True, True, (f"{table} is made by a pending migration",))
    rows, facts = case.facts.rows(now), case.facts
    if rows.value is None and '"' not in now:
        there = facts.exists(now)
        if there.value is False:  # hand-written SQL of a pending migration makes it, or the statement fails
            return Weight(True, True, (there.evidence,))
    if rows.value is None:
        unknown = rows.evidence if now in rows.evidence else f"rows of {table}: unknown, {rows.evidence}"
        return Weight(False, now in SMALL_BY_NATURE, (unknown, *_use(case, now)))
    if rows.value <= SMALL_ROWS:
        return Weight(False, True, (rows.evidence,))
    return Weight(False, False, (rows.evidence, *_use(case, now)))


def _use(case: Case, table: str) -> tuple[str, ...]:
    """Who feels a lock on a table, and what makes the lock come late."""
    facts = case.facts
    traffic, longest = facts.traffic(table), facts.longest_transaction()
    evidence = [listed.evidence for listed in (facts.partitions(table), facts.replicas(table)) if listed.value]
    if traffic.value is not None and max(traffic.value.reads_per_s, traffic.value.writes_per_s) >= BUSY_PER_S:
        evidence.insert(0, traffic.evidence)
    if longest.value is not None and longest.value > LONG_TRANSACTION_S:
        evidence.append(longest.evidence)
    return tuple(evidence)
