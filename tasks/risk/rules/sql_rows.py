"""Rules over hand-written SQL that changes rows, takes locks or changes the session."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks.release.risk import Finding, Severity
from tasks.risk.asking import writers
from tasks.risk.batches import batched_statement
from tasks.risk.rule import Case, Rule
from tasks.risk.rules.sql_rule import SqlRule, now_in, weight_of
from tasks.risk.spots import Spot, spots
from tasks.risk.weight import SMALL_ROWS

_LIMITS = frozenset({"lock_timeout", "statement_timeout", "transaction_timeout"})
_WEAK_LOCKS = frozenset({"ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE"})
# Trigger functions that come with PostgreSQL.
_BUILT_IN_TRIGGERS = frozenset(
    {"tsvector_update_trigger", "tsvector_update_trigger_column", "suppress_redundant_updates_trigger"}
)


class ChangeRows(SqlRule):
    """UPDATE and DELETE without a limit."""

    id = "sql-unbatched-change"
    catches = "One statement, or one transaction, changes as many rows as the table has."
    severity = "high"
    harm = "blocks"
    kinds = frozenset({"update", "delete"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """Rows that stay locked until all are changed."""
        action, weight = spot.action, weight_of(case, spot)
        limited = "limited" in action.marks and not (spot.looped and spot.held)
        if limited or weight.small or _few_nulls(case, spot):
            return
        verb = action.kind.upper()
        yield self.found(
            case,
            spot,
            f"{verb} of {action.table or 'a table'} goes over as many rows as there are in one"
            " transaction: each row stays"
            " locked against the running code's UPDATE and DELETE until the last one is done, and"
            " that takes the longer the"
            " more rows there are",
            batched_statement(case, spot),
            evidence=weight.evidence,
        )


class LoseRows(SqlRule):
    """DELETE, TRUNCATE, and UPDATE of what was there."""

    id = "sql-lose-rows"
    catches = "Rows or values are lost that the reversal does not bring back."
    severity = "high"
    harm = "loss"
    kinds = frozenset({"delete", "update", "truncate"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """DELETE and TRUNCATE; UPDATE of values that were there, where the reverse is a noop."""
        action, weight = spot.action, weight_of(case, spot)
        rows = case.facts.rows(now_in(case, action.table))
        if weight.new or rows.value == 0:
            return
        if action.kind == "truncate":
            others = ", and of every table that refers to it," if "cascade" in action.marks else ""
            words = (
                f"TRUNCATE takes every row of {action.table}{others} away for good, and keeps all"
                " readers and writers waiting"
                " until the migration ends"
            )
            steps = [f"delete in batches what is not needed, after CREATE TABLE {action.table}_kept AS SELECT …"]
            yield self.found(case, spot, words, steps, evidence=weight.evidence)
            return
        if not _reverses_nothing(case):
            return
        if action.kind == "delete":
            words = f"the rows that are deleted from {action.table} do not come back when the migration is reversed"
            steps = [f"keep them first: CREATE TABLE {action.table}_removed AS SELECT * FROM {action.table} WHERE …"]  # noqa: S608 - shown to people, never executed
            severity = None if not weight.small and "limited" not in action.marks else "medium"
            yield self.found(case, spot, words, steps, evidence=weight.evidence, severity=severity)  # type: ignore[arg-type]
            return
        if "limited" in action.marks or weight.small:
            return
        lost = [column for column in action.columns if column and _had_values(case, spot, column)]
        if lost:
            names = ", ".join(f"{action.table}.{column}" for column in lost)
            words = f"the values of {names} are overwritten, and do not come back when the migration is reversed"
            steps = [
                f"write into a new column, or keep the old one: ADD COLUMN {lost[0]}_before, and use it in the reverse"
            ]
            yield self.found(case, spot, words, steps, evidence=weight.evidence, severity="medium")


class Lock(SqlRule):
    """LOCK TABLE and REFRESH MATERIALIZED VIEW."""

    id = "sql-lock"
    catches = "A lock is taken by hand, or for as long as a refresh takes."
    severity = "high"
    harm = "blocks"
    kinds = frozenset({"lock", "refresh"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """LOCK TABLE and REFRESH."""
        action, weight = spot.action, weight_of(case, spot)
        if weight.new or action.text in _WEAK_LOCKS or "refreshes concurrently" in action.marks:
            return
        if action.kind == "lock":
            words = (
                f"LOCK TABLE {action.table} IN {action.text} MODE is held until the migration ends: others wait so long"
            )
            steps = [
                f"leave it out: each statement on {action.table} takes the lock that it needs, for as long as it runs"
            ]
        else:
            if any(each.kind == "create-materialized-view" and each.table == action.table for each in spot.before):
                return
            words = f"REFRESH keeps every reader of {action.table} waiting until it is computed"
            steps = [f"REFRESH MATERIALIZED VIEW CONCURRENTLY {action.table}; it needs a unique index on it"]
        yield self.found(case, spot, words, steps, evidence=weight.evidence)


class Session(SqlRule):
    """BEGIN, COMMIT and SET."""

    id = "sql-session"
    catches = "SQL opens or ends the migration's transaction, or lifts the limits that protect the running code."
    severity = "high"
    harm = "blocks"
    kinds = frozenset({"transaction", "set"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """BEGIN, COMMIT, ROLLBACK, and SET of the runner's limits."""
        action = spot.action
        if action.kind == "transaction":
            if case.migration.atomic or not _is_balanced(case):
                words = (
                    f"{action.name} in a migration ends or opens a transaction that Django knows"
                    " nothing of: what was done"
                    " stays when the rest fails, or the rest is never committed"
                )
                yield self.found(
                    case, spot, words, ["leave it out; write `atomic = False` if it must not be one transaction"]
                )
            return
        if action.name.lower() in _LIMITS:
            shorter = _milliseconds(action.text)
            if shorter is not None and 0 < shorter <= SHORT_MS:
                return
            words = (
                f"SET {action.name} = {action.text} replaces the limit under which the migration"
                " runs: it may wait for a lock,"
                " with the whole application queued behind it, for longer than agreed"
            )
            steps = [f"leave {action.name} alone; [migrate] in the environment file sets it"]
            yield self.found(case, spot, words, steps)
        elif action.name.lower() == "session_replication_role":
            words = "session_replication_role switches triggers and foreign keys off: rows may come to refer to nothing"
            yield self.found(case, spot, words, ["leave it out; make the rows fit the constraints"])


class Trigger(SqlRule):
    """Triggers on tables that are in use."""

    id = "sql-trigger"
    catches = "A trigger is switched off, or a new one may refuse what running code writes."
    severity = "high"
    harm = "old code"
    kinds = frozenset({"disable-trigger", "create-trigger"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """Triggers on tables that are written to."""
        action, weight = spot.action, weight_of(case, spot)
        if weight.new:
            return
        if action.kind == "disable-trigger":
            words = (
                f"a trigger of {action.table} is off: what the running code writes meanwhile is not checked or derived"
            )
            steps = [f"leave it out; where it must be, ENABLE TRIGGER {action.name} in the same transaction"]
            yield self.found(case, spot, words, steps, evidence=weight.evidence)
            return
        if action.text in _BUILT_IN_TRIGGERS:
            return
        bodies = [
            each.text.upper() for each in spot.before if each.kind == "create-function" and each.name == action.text
        ]
        words = ""
        severity: Severity = self.severity
        if not bodies:
            words, severity = f"what the trigger function {action.text}() does to writes is not known here", "unknown"
        elif "RAISE EXCEPTION" in bodies[-1]:
            words = f"the trigger {action.name} refuses some of what the running code writes to {action.table}"
        elif "before" in action.marks and "RETURN NULL" in bodies[-1]:
            words = f"the trigger {action.name} drops some of what the running code writes to {action.table}"
        if words:
            steps = ["create the trigger after the running code keeps to what it demands"]
            yield self.found(case, spot, words, steps, evidence=weight.evidence, severity=severity)


def _is_balanced(case: Case) -> bool:
    """Whether every transaction that the SQL of an operation opens is ended by it."""
    names = [each.action.name for each in spots(case) if each.action.kind == "transaction"]
    opened = [name in ("BEGIN", "START") for name in names]
    return len(opened) % 2 == 0 and opened == [True, False] * (len(opened) // 2)


SHORT_MS = 5000  # a limit of its own that a migration may set without harm


def _milliseconds(text: str) -> float | None:
    """A setting of time in milliseconds; None for what is none."""
    match = re.fullmatch(r"\s*(\d+)\s*(us|ms|s|min|h|d)?\s*", text.replace("'", ""), re.IGNORECASE)
    if match is None:
        return None
    factor = {"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
    return int(match[1]) * factor[(match[2] or "ms").lower()]


def _few_nulls(case: Case, spot: Spot) -> bool:
    """Whether the condition asks for NULLs of which the facts know only a few."""
    for mark in spot.action.marks:
        column = mark.removeprefix("null:")
        if column != mark and case.history.column_now(spot.action.table, column) is not None:
            nulls = case.facts.nulls(now_in(case, spot.action.table), column)
            if nulls.value is not None and not nulls.value.sampled and nulls.value.count <= SMALL_ROWS:
                return not writers(case, spot.action.table)
    return False


def _had_values(case: Case, spot: Spot, column: str) -> bool:
    """Whether a column that is written may hold values already."""
    table = spot.action.table
    added = any(each.kind == "add-column" and (each.table, each.name) == (table, column) for each in spot.before)
    if added or f"null:{column}" in spot.action.marks or case.history.column_now(table, column) is None:
        return False
    nulls = case.facts.nulls(now_in(case, table), column)
    return nulls.value is None or nulls.value.count == 0 or nulls.value.count < nulls.value.of


def _reverses_nothing(case: Case) -> bool:
    """Whether the reversal is formally there and does nothing; one that is missing has a finding of its own."""
    operation = case.operation
    if operation["code"] is not None:
        return bool(operation["reverse_code"]) and operation["reverse_code"]["name"].endswith("RunPython.noop")
    return not any(str(text).strip() for text in operation["reverse_sql"] or ())


RULES: tuple[Rule, ...] = (ChangeRows(), LoseRows(), Lock(), Session(), Trigger())
