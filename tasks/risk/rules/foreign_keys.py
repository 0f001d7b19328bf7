"""Foreign keys: rows that are compared under the tables' locks, and rows that refer to nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks.release.risk import Finding
from tasks.risk import rendered
from tasks.risk.asking import Said, changed, row_count, rows_say, runs, writers
from tasks.risk.django_code import field_operation, run_sql
from tasks.risk.facts import Answer, Count
from tasks.risk.rule import Case, Rule
from tasks.risk.weight import weigh


def _target(told: dict[str, Any] | None) -> tuple[str, str] | None:
    """Table and column that a constraint of a column refers to."""
    references = told["references"] if told else None
    return (references["table"], references["column"]) if references and references["constraint"] else None


def _made(case: Case) -> tuple[str, str, tuple[str, str], bool] | None:
    """Table, column, target, and whether it is another target than before, of a foreign key whose rows are checked."""
    (old, new), kind, table = changed(case), case.operation["kind"], case.operation["table"]
    target = _target(new)
    if new is None or target is None:
        return None
    if kind == "AddField":
        # Without a value there is nothing to check: the server knows that the new column is NULL everywhere.
        return (table, new["column"], target, False) if new["default"] or new["db_default"] else None
    if kind != "AlterField":
        return None
    other = _target(old) is None or case.history.tables.get(target[0], target[0]) != case.history.tables.get(
        (_target(old) or target)[0], (_target(old) or target)[0]
    )
    if other or rendered.adds_foreign_key(case.migration, table, new["column"]):
        return table, new["column"], target, other
    return None


class AddForeignKey(Rule):
    """Every row is looked up in the other table."""

    id = "add-foreign-key"
    catches = "A foreign key is added (or dropped and made anew by Django) and every row checked under lock."
    severity = "medium"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Of a new column that is NULL everywhere nothing is checked."""
        made = _made(case) if runs(case) else None
        heavy = weigh(case, made[0]).felt if made else None
        if made is None or heavy is None:
            return
        table, column, (to_table, to_column), other = made
        why = "" if other or case.operation["kind"] == "AddField" else ", since Django drops it and makes it anew"
        key = rendered.quoted(f"{table}_{column}_fk".replace('"."', "_"))
        alter = f"ALTER TABLE {rendered.quoted(table)}"
        constrain = (
            f"{alter} ADD CONSTRAINT {key} FOREIGN KEY ({rendered.quoted(column)}) REFERENCES "
            f"{rendered.quoted(to_table)} ({rendered.quoted(to_column)}) DEFERRABLE INITIALLY DEFERRED NOT VALID"
        )
        if case.operation["kind"] == "AddField":
            without = field_operation(case, db_constraint="False", null="True")
        else:
            without = field_operation(case, db_constraint="False")
        yield self.finding(
            case,
            f"Nobody can write to {table} and {to_table}, nor read {table}, while every row is checked for the foreign "
            f"key of {column}{why}.",
            evidence=heavy,
            mitigation=(
                f"Without the constraint here: {without}.",
                f"{run_sql(constrain, f'{alter} DROP CONSTRAINT {key}')}.",
                f"In a migration after it: {run_sql(f'{alter} VALIDATE CONSTRAINT {key}')}.",
                (
                    "Then the field without db_constraint=False, in "
                    "migrations.SeparateDatabaseAndState(state_operations=[...])."
                ),
            ),
            subject=f"{table}.{column}",
        )


class Orphans(Rule):
    """Rows that are there may refer to nothing."""

    id = "orphans"
    catches = "Rows whose value the referred table does not have, so that a new foreign key fails."
    severity = "blocked"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A foreign key that was there before has none."""
        made = _made(case) if runs(case) else None
        if made is not None and case.operation["kind"] == "AddField":
            yield from self._value(case, *made[:3])
        if made is None or not made[3]:
            return
        table, column, (to_table, to_column), _ = made
        old = changed(case)[0] or {}
        to_now = case.history.table_now(to_table)

        def ask(now: str, columns: list[str]) -> Answer[Count]:
            if to_now is None:
                return Answer(None, f"{to_table} is made by an earlier pending migration")
            return case.facts.orphans(now, tuple(columns), to_now, (to_column,))

        said = rows_say(case, table, [old.get("column", column)], ask)
        if said.said is Said.HELD:
            return
        broken, known = said.said is Said.BROKEN, said.said is not Said.NOT_ASKED
        keys = [rendered.quoted(name) for name in (column, to_column, to_table)]
        there = f"SELECT FROM {keys[2]} b WHERE b.{keys[1]} = a.{keys[0]}"
        nowhere = f"{keys[0]} IS NOT NULL AND NOT EXISTS ({there})"
        yield self.finding(
            case,
            f"The migration fails: {table}.{column} has values that {to_table}.{to_column} does not have."
            if broken
            else f"The migration fails if {table}.{column} has values that {to_table}.{to_column} does not have, which "
            "is not known here.",
            evidence=said.evidence if known else [],
            mitigation=(
                f"Look at them: {rendered.selecting(table, nowhere)}",
                "Set them to NULL or delete them, in a migration before this one.",
            ),
            subject=f"{table}.{column}",
            severity="blocked" if broken else "unknown",
        )

    def _value(self, case: Case, table: str, column: str, target: tuple[str, str]) -> Iterable[Finding]:
        """A new column's one value, which the referred table must have as soon as there are rows."""
        rows, (to_table, to_column) = row_count(case, table), target
        value = rendered.default_of(case.migration, table, column)
        if rows == 0:
            return
        to_now = case.history.table_now(to_table)
        there = case.facts.has_value(to_now, to_column, value) if to_now and value else None
        mended = there is not None and there.value is False and bool(writers(case, to_table))
        if there is not None and there.value:
            return
        missing = there is not None and there.value is False and bool(rows) and not mended
        words = f"gets {value or 'one value'} as {column}"
        yield self.finding(
            case,
            f"The migration fails: every row of {table} {words}, which no row of {to_table} has."
            if missing
            else f"The migration fails if no row of {to_table} has what every row of {table} gets as {column} "
            f"({value or 'one value'}).",
            evidence=[
                there.evidence if there is not None and there.value is not None else "",
                f"{', '.join(writers(case, to_table))} may change that before: the rehearsal decides" if mended else "",
            ],
            mitigation=(
                f"Without a value: {field_operation(case, without=('default', 'db_default'), null='True')}.",
                f"Then fill it in batches with what {to_table} has.",
            ),
            subject=f"{table}.{column}",
            severity="blocked" if missing else "unknown",
        )


RULES: tuple[Rule, ...] = (AddForeignKey(), Orphans())
