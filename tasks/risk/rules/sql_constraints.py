"""Rules over hand-written constraints: NOT NULL, CHECK, UNIQUE, foreign keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.release.risk import Finding
from tasks.risk.rule import Case
from tasks.risk.rules.sql_rule import ALONE, SqlRule, now_in, weight_of
from tasks.risk.spots import Spot


class Constraint(SqlRule):
    """ADD CONSTRAINT, VALIDATE CONSTRAINT and SET NOT NULL."""

    id = "sql-add-constraint"
    catches = "A constraint is checked over all rows while writers, or everybody, wait; or rows violate it."
    severity = "medium"
    harm = "blocks"
    kinds = frozenset({"set-not-null", "add-check", "add-foreign-key", "add-unique", "validate"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """Scans and violations."""
        action, weight = spot.action, weight_of(case, spot)
        if weight.new or "using index" in action.marks:
            return
        table = action.table
        if action.kind == "validate":
            added = [each for each in spot.together if (each.table, each.name) == (table, action.name)]
            if added and not weight.small:
                words = (
                    f"{action.name} is validated in the transaction that added it, whose strong lock on {table} is held"
                    " until the scan is done"
                )
                steps = [
                    f"put VALIDATE CONSTRAINT {action.name} into a migration of its own: alone it lets others work"
                ]
                yield self.found(case, spot, words, steps, evidence=weight.evidence)
        elif action.kind == "set-not-null":
            yield from self._not_null(case, spot)
        elif action.kind == "add-unique":
            if not weight.small:
                words = (
                    f"the constraint {action.name} builds its index on {table} under ACCESS EXCLUSIVE: everybody waits"
                )
                columns = ", ".join(action.columns)
                steps = [
                    f"SQL: CREATE UNIQUE INDEX CONCURRENTLY {action.name} ON {table} ({columns}), {ALONE}",
                    f"next migration: ALTER TABLE {table} ADD CONSTRAINT … UNIQUE USING INDEX {action.name}",
                ]
                yield self.found(case, spot, words, steps, evidence=weight.evidence)
            yield from duplicates(self, case, spot, action.columns)
        else:
            yield from self._checked(case, spot)

    def _not_null(self, case: Case, spot: Spot) -> Iterable[Finding]:
        table, column = spot.action.table, spot.action.name
        weight = weight_of(case, spot)
        now, column_now = now_in(case, table), case.history.column_now(table, column)
        nulls = case.facts.nulls(now, column_now or column)
        filled = case.history.writers(table) or column_now is None
        checked = case.facts.checked_not_null(now, column_now or column)
        cheap = checked.value or (table, column) in case.history.not_null_checked or _checks(spot, column)
        steps = [
            (
                f"SQL: ALTER TABLE {table} ADD CONSTRAINT {column}_not_null CHECK ({column} IS NOT NULL) NOT VALID; in"
                f" a later migration VALIDATE CONSTRAINT {column}_not_null; SET NOT NULL needs no scan then; drop it"
            ),
            f"before: fill the NULLs of {column} in batches, and let the running code write a value",
        ]
        if nulls.value is not None and nulls.value.count and not filled:
            words = f"{table}.{column} holds NULLs: SET NOT NULL fails"
            yield self.found(case, spot, words, steps, evidence=[nulls.evidence], severity="blocked")
        elif not cheap:
            scan = "" if weight.small else f", and {table} is scanned under ACCESS EXCLUSIVE while everybody waits"
            words = f"{table}.{column} becomes NOT NULL: running code that writes no value there fails{scan}"
            evidence = [*weight.evidence, nulls.evidence, checked.evidence]
            yield self.found(case, spot, words, steps, evidence=evidence, severity="high")

    def _checked(self, case: Case, spot: Spot) -> Iterable[Finding]:
        action, weight = spot.action, weight_of(case, spot)
        if "not valid" in action.marks:
            return
        table = action.table
        foreign = action.kind == "add-foreign-key"
        if foreign:
            to_table, _, to_column = action.text.partition(" ")
            found = case.facts.orphans(now_in(case, table), ",".join(action.columns), to_table, to_column or "id")
            wait = f"writers of {table} and {to_table} wait"
        else:
            found = case.facts.violators(now_in(case, table), action.text)
            wait = f"all readers and writers of {table} wait"
        fails = found.value is not None and found.value.count > 0 and not case.history.writers(table)
        if weight.small and not fails:
            return
        words = f"{action.name or 'the constraint'} fails: rows of {table} violate it" if fails else (
            f"{action.name or 'the constraint'} is checked against every row of {table}, and {wait} until that is done"
        )  # fmt: skip
        steps = [
            f"SQL: write NOT VALID at the end of ADD CONSTRAINT {action.name}",
            f"next migration: ALTER TABLE {table} VALIDATE CONSTRAINT {action.name}, which lets others work",
            "Django: AddConstraintNotValid, and ValidateConstraint in the next migration" if not foreign else "",
        ]
        yield self.found(
            case,
            spot,
            words,
            [step for step in steps if step],
            evidence=[*weight.evidence, found.evidence],
            severity="blocked" if fails else None,
        )


def duplicates(rule: SqlRule, case: Case, spot: Spot, columns: Sequence[str]) -> Iterable[Finding]:
    """A finding where rows equal each other in columns that become unique."""
    table = now_in(case, spot.action.table)
    if not columns or case.history.writers(spot.action.table) or "partial" in spot.action.marks:
        return
    found = case.facts.duplicates(table, columns)
    if found.value is not None and found.value.count:
        words = f"rows of {table} equal each other in {', '.join(columns)}: {spot.action.name} cannot be built"
        steps = [f"clean up {table} first: SELECT {', '.join(columns)}, count(*) … GROUP BY … HAVING count(*) > 1"]
        yield rule.found(case, spot, words, steps, evidence=[found.evidence], severity="blocked")


def _checks(spot: Spot, column: str) -> bool:
    """Whether a valid CHECK of earlier statements says that a column is not NULL."""
    wanted = f"{column} IS NOT NULL".upper()
    named = {each.name for each in spot.before if each.kind == "validate"}
    return any(
        each.kind == "add-check"
        and each.text.replace('"', "").upper().strip("() ") == wanted
        and ("not valid" not in each.marks or each.name in named)
        for each in spot.before
    )
