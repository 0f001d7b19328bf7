"""Rules over hand-written constraints: NOT NULL, CHECK, UNIQUE, foreign keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tasks.release.risk import Finding, Severity
from tasks.risk import rendered
from tasks.risk.asking import made_in, sql_now, writers, writes_no_null
from tasks.risk.facts import Answer, Count
from tasks.risk.rule import Case
from tasks.risk.rules.sql_rule import ALONE, SqlRule, now_in, weight_of
from tasks.risk.spots import Spot
from tasks.risk.sql_actions import Action, understood
from tasks.risk.unique_index import Unique, unique_of


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
            yield from self._validated(case, spot)
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
        filled = writers(case, table) or column_now is None
        checked = case.facts.checked_not_null(now, column_now or column)
        cheap = checked.value or (table, column) in case.history.not_null_checked or _checks(spot, column)
        kept = writes_no_null(case, table, column) or column in _refused(spot)
        steps = [
            (
                f"SQL: ALTER TABLE {table} ADD CONSTRAINT {column}_not_null CHECK ({column} IS NOT NULL) NOT VALID; in"
                f" a later migration VALIDATE CONSTRAINT {column}_not_null; SET NOT NULL needs no scan then; drop it"
            ),
            f"before: fill the NULLs of {column} in batches, and let the running code write a value",
        ]
        if nulls.value is not None and nulls.value.count and not filled:
            words = f"{table}.{column} holds NULLs: SET NOT NULL fails"
            yield self.found(case, spot, words, steps, evidence=[nulls.evidence], severity="blocked", harm="fails")
            return
        if _is_open(case, table, nulls) and not filled:
            words = f"whether {table}.{column} holds NULLs is not known here: if any row does, SET NOT NULL fails"
            yield self.found(case, spot, words, steps, evidence=[nulls.evidence], severity="unknown", harm="fails")
        scan = f"{table} is scanned under ACCESS EXCLUSIVE while everybody waits" if not (cheap or weight.small) else ""
        evidence = [*weight.evidence, nulls.evidence, checked.evidence]
        if not kept:
            words = f"{table}.{column} becomes NOT NULL: running code that writes no value there fails"
            words += f", and {scan}" if scan else ""
            yield self.found(case, spot, words, steps, evidence=evidence, severity="high", harm="old code")
        elif scan:
            yield self.found(case, spot, f"{table}.{column} becomes NOT NULL: {scan}", steps, evidence=evidence)

    def _checked(self, case: Case, spot: Spot) -> Iterable[Finding]:
        action, weight = spot.action, weight_of(case, spot)
        table = action.table
        for column in sorted(rendered.not_null_columns(action.text) if action.kind == "add-check" else ()):
            if not writes_no_null(case, table, column):
                words = f"{action.name or 'the constraint'} refuses NULL in {table}.{column} from then on, also where"
                words += " running code writes no value there"
                steps = [f"release code first that always gives {column} a value, or SET DEFAULT … in the database"]
                yield self.found(case, spot, words, steps, severity="high", harm="old code")
        if "not valid" in action.marks:
            return
        foreign = action.kind == "add-foreign-key"
        found = self._broken(case, table, action)
        wait = f"all readers and writers of {table} wait"
        if foreign:
            wait = f"writers of {table} and {action.text.partition(' ')[0]} wait"
        fails = found.value is not None and found.value.count > 0 and not writers(case, table)
        if _is_open(case, table, found):
            words = f"whether rows of {table} violate {action.name or 'the constraint'} is not known here: it fails if"
            yield self.found(
                case,
                spot,
                f"{words} any do",
                [f"find those of {table} that do, and mend them in batches before it"],
                evidence=[found.evidence],
                severity="unknown",
                harm="fails",
            )
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
            harm="fails" if fails else None,
        )

    def _validated(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """Rows that break a constraint that was added NOT VALID: now, by this migration or by a pending one before."""
        table, name = spot.action.table, spot.action.name
        added = [each for each in spot.before if (each.table, each.name) == (table, name)]
        constraint = added[-1] if added else case.history.not_valid.get((table, name))
        constraint = constraint or _in_database(case, table, name)
        found = self._broken(case, table, constraint) if constraint is not None else None
        if found is None or found.value is None or not found.value.count:
            return
        mended = writers(case, table)
        words = f"{name} {'may fail' if mended else 'fails'} to be validated: rows of {table} violate it"
        steps = [f"mend the rows of {table} that violate {name} before it, in batches"]
        evidence = [found.evidence, f"{', '.join(mended)} may change that before" if mended else ""]
        severity: Severity = "unknown" if mended else "blocked"
        yield self.found(case, spot, words, steps, evidence=evidence, severity=severity, harm="fails")

    @staticmethod
    def _broken(case: Case, table: str, constraint: Action) -> Answer[Count]:
        """Rows that a CHECK or a foreign key refuses."""
        if constraint.kind == "add-check":
            return case.facts.violators(now_in(case, table), constraint.text)
        to_table, _, to_columns = constraint.text.partition(" ")
        columns = tuple(case.history.column_now(table, name) or name for name in constraint.columns)
        return case.facts.orphans(
            now_in(case, table), columns, now_in(case, to_table), tuple(filter(None, to_columns.split(",")))
        )


def _is_open(case: Case, table: str, answer: Answer[Count]) -> bool:
    """Whether nobody could say what the rows are like; those that a pending migration writes are its affair."""
    there_are = case.facts.rows(now_in(case, table)).value != 0
    return answer.value is None and there_are and not writers(case, table)


def _in_database(case: Case, table: str, name: str) -> Action | None:
    """A constraint of that name that is there and not validated; None: there is none, or it is not known."""
    definition = case.facts.index(name).value or ""
    if not definition.startswith(("CHECK ", "FOREIGN KEY ")) or not definition.endswith(", not validated"):
        return None
    text = definition.rpartition(" on ")[0]
    [[_, [found, *_]], *_] = understood(f'ALTER TABLE "{now_in(case, table)}" ADD CONSTRAINT "{name}" {text}')
    return replace(found, table=table) if found.kind in ("add-check", "add-foreign-key") else None


def _refused(spot: Spot) -> set[str]:
    """Columns from which an earlier CHECK of the same migration takes NULL, as is said there."""
    checks = [each for each in spot.before if each.kind == "add-check" and each.table == spot.action.table]
    return {column for each in checks for column in rendered.not_null_columns(each.text)}


def duplicates(rule: SqlRule, case: Case, spot: Spot, columns: Sequence[str]) -> Iterable[Finding]:
    """A finding where rows equal each other in what becomes unique, or nobody can say."""
    action = spot.action
    table = now_in(case, action.table)
    unique = unique_of(spot.statement.text)
    if unique is None or action.kind != "create-index":  # one ALTER TABLE may add several
        unique = Unique(tuple(columns), nulls_equal=unique is not None and unique.nulls_equal)
    empty = set(unique.columns) & _empty_columns(case, spot)
    written = writers(case, action.table)
    if case.facts.rows(table).value == 0 or (empty and not written and not unique.nulls_equal):
        return
    text = " ".join((*unique.expressions, unique.condition))
    now = [case.history.column_now(action.table, column) for column in unique.columns]
    if not unique.columns and not unique.expressions:
        found = Answer[Count](None, f"what is unique by {action.name} is not understood")
    elif written or None in now or made_in(case, action.table, text) or _added(spot, unique.columns):
        found = Answer(None, f"a pending migration makes or fills what is unique by {action.name}")
    else:
        found = case.facts.duplicates(
            table,
            [name for name in now if name],
            expressions=[sql_now(case, action.table, one) for one in unique.expressions],
            where=sql_now(case, action.table, unique.condition),
            nulls_equal=unique.nulls_equal,
        )
    if found.value is not None and not found.value.count:
        return
    keys = ", ".join((*map(rendered.quoted, unique.columns), *unique.expressions))
    steps = [f"clean up before it what this finds: {rendered.repeating(table, keys, unique.condition)}"]
    if found.value is None:
        words = (
            f"whether rows of {table} equal each other in {unique} is not known here: if any do, {action.name} fails"
        )
        yield rule.found(case, spot, words, steps, evidence=[found.evidence], severity="unknown", harm="fails")
    else:
        words = f"rows of {table} equal each other in {unique}: {action.name} cannot be built"
        yield rule.found(case, spot, words, steps, evidence=[found.evidence], severity="blocked", harm="fails")


def _added(spot: Spot, columns: Sequence[str]) -> list[Action]:
    """Earlier statements of the same migration that add one of some columns."""
    return [each for each in spot.before if each.kind == "add-column" and each.table == spot.action.table
            and each.name in columns]  # fmt: skip


def _empty_columns(case: Case, spot: Spot) -> set[str]:
    """Columns of the table that are NULL in every row, since a pending migration adds them without a value."""
    table = spot.action.table
    added = {each.name: each.marks for each in spot.before if each.kind == "add-column" and each.table == table}
    filled = {"default", "volatile", "generated"}
    empty = {name for of, name in case.history.columns_empty if of == table}
    return empty | {name for name, marks in added.items() if not marks & filled}


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
