"""NULL to NOT NULL: rows that are read under the table's lock, rows that break it, and code that still writes NULL.

A CHECK (column IS NOT NULL) refuses NULL from the moment it is there, validated or not: validated it makes SET NOT NULL
cheap, but only where it is in the database before the release does it show that running code writes no NULL.
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks.release.risk import Finding
from tasks.risk import rendered
from tasks.risk.asking import Said, changed, field_path, is_known, known_as, rows_say, runs, writes_no_null
from tasks.risk.django_code import operation_code
from tasks.risk.rule import Case, Rule
from tasks.risk.weight import weigh


def _forbidden(case: Case) -> tuple[str, str] | None:
    """Table and column from which an operation takes NULL."""
    old, new = changed(case)
    if case.operation["kind"] != "AlterField" or old is None or new is None or new["type"] is None:
        return None
    return (case.operation["table"], new["column"]) if old["null"] and not new["null"] else None


def _now(case: Case, table: str, column: str) -> tuple[str | None, str | None]:
    """The names in the database; the history is of the moment before, when the column had its old name."""
    old = changed(case)[0]
    return case.history.table_now(table), case.history.column_now(table, old["column"] if old else column)


def _is_checked(case: Case, table: str, column: str) -> bool:
    """Whether no row has NULL: by a validated CHECK of this release or of the database, or by the column."""
    if (table, column) in case.history.not_null_checked:
        return True
    table_now, column_now = _now(case, table, column)
    if table_now is None or column_now is None:
        return False
    told = case.facts.column(table_now, column_now)
    return case.facts.checked_not_null(table_now, column_now).value is True or bool(told.value and told.value.not_null)


def _checked(case: Case) -> list[tuple[str, str]]:
    """Table and columns from which a CHECK that an operation adds takes NULL."""
    constraint = case.operation["constraint"]
    if case.operation["kind"] not in ("AddConstraint", "AddConstraintNotValid") or constraint is None:
        return []
    if constraint["kind"] != "CheckConstraint":
        return []
    columns = rendered.not_null_columns(rendered.check_of(constraint["sql"]))
    return [(case.operation["table"], column) for column in sorted(columns)]


def _steps(case: Case, table: str, column: str) -> tuple[str, ...]:
    field, model = case.operation["fields"][0]["name"], str(case.operation["model"]).lower()
    called = f"{table}_{column}_not_null".replace('"."', "_")
    name = rendered.quoted(called)
    return (
        (
            f'django.contrib.postgres.operations: AddConstraintNotValid("{model}", models.CheckConstraint('
            f'condition=models.Q({field}__isnull=False), name="{called}")) (check= before Django 5.1), which is '
            f"ALTER TABLE {rendered.quoted(table)} ADD CONSTRAINT {name} "
            f"CHECK ({rendered.quoted(column)} IS NOT NULL) NOT VALID;"
        ),
        (
            f'ValidateConstraint("{model}", "{called}") in a migration after it, which is '
            f"ALTER TABLE {rendered.quoted(table)} VALIDATE CONSTRAINT {name};"
        ),
        (
            f"Then {operation_code(case)}, which reads no row any more, and "
            f'migrations.RemoveConstraint("{model}", "{called}").'
        ),
    )


class SetNotNull(Rule):
    """SET NOT NULL reads every row."""

    id = "set-not-null"
    catches = "A column becomes NOT NULL and every row is read under ACCESS EXCLUSIVE."
    severity = "medium"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """After a validated CHECK (column IS NOT NULL) the server does not look."""
        told = _forbidden(case) if runs(case) else None
        if told is None or _is_checked(case, *told):
            return
        table, column = told
        heavy = weigh(case, table).felt
        if heavy is None:
            return
        yield self.finding(
            case,
            f"Nobody can read or write {table} while every row is checked for NULL in {column}.",
            evidence=heavy,
            mitigation=_steps(case, table, column),
            subject=f"{table}.{column}",
        )


class NullInsert(Rule):
    """Code that knows the column as nullable leaves it out or writes NULL."""

    id = "null-insert"
    catches = "NULL is taken from a column, by NOT NULL or a CHECK, while running code inserts it for want of better."
    severity = "high"
    harm = "old code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A default of the old field, or a database that refuses NULL already, shows that it does not."""
        if not runs(case):
            return
        told, old, new = _forbidden(case), *changed(case)
        if told is not None and old is not None and new is not None:
            filled = new["db_default"] or old["db_default"]
            kept = _now(case, *told)[1] is not None and old["default"] in ("constant", "callable", "now")
            if not (filled or kept or told in case.history.null_refused):
                yield from self._refused(case, *told, *_now(case, *told))
        for table, column in _checked(case):
            now = case.history.table_now(table), case.history.column_now(table, column)
            if not writes_no_null(case, table, column):
                yield from self._refused(case, table, column, *now)

    def _refused(
        self, case: Case, table: str, column: str, table_now: str | None, column_now: str | None
    ) -> Iterable[Finding]:
        if not is_known(case, table):
            return
        there = table_now is not None and column_now is not None
        if table_now and column_now and case.facts.refuses_null(table_now, column_now).value:
            return
        nulls = case.facts.nulls(table_now, column_now) if table_now and column_now else None
        yield self.finding(
            case,
            f"An INSERT or UPDATE of the running release that leaves {known_as(case, table)}.{column} NULL fails."
            if there
            else f"Every INSERT of the running release into {known_as(case, table)} fails: it does not know {column}, "
            "and leaves it NULL.",
            evidence=[nulls.evidence if nulls and nulls.value is not None else ""],
            mitigation=(
                (
                    f"Release code first that always gives {column} of {table} a value (a field with a default), "
                    f"or let the database: ALTER TABLE {rendered.quoted(table)} ALTER COLUMN {rendered.quoted(column)} "
                    "SET DEFAULT ...; (db_default, Django 5.0 and newer)."
                ),
                "Take NULL away in the release after it.",
            ),
            subject=f"{table}.{column}",
        )


class NullValues(Rule):
    """Rows that are there may have NULL."""

    id = "null-values"
    catches = "Rows with NULL in a column that becomes NOT NULL, so that the migration fails."
    severity = "blocked"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A default in the migration fills them, all in one statement under the table's lock."""
        told = _forbidden(case) if runs(case) else None
        new = changed(case)[1]
        if told is None or new is None or _is_checked(case, *told):
            return
        table, column = told
        old = changed(case)[0] or new
        said = rows_say(case, table, [old["column"]], lambda now, names: case.facts.nulls(now, names[0]), Said.BROKEN)
        if said.said is Said.HELD:
            return
        broken, known = said.said is Said.BROKEN, said.said is not Said.NOT_ASKED
        evidence, table_now = said.evidence if known else (), known_as(case, table)
        mitigation = (f"Fill them before, in batches: {rendered.filling(table, column)}",)
        if not _is_filled(case, table, column):
            yield self.finding(
                case,
                f"The migration fails: rows of {table_now} have NULL in {column}."
                if broken
                else f"The migration fails if rows of {table_now} have NULL in {column}, which is not known here.",
                evidence=evidence,
                mitigation=mitigation,
                subject=f"{table}.{column}",
                severity="blocked" if broken else "unknown",
            )
        elif weigh(case, table).felt is not None:
            yield self.finding(
                case,
                f"Nobody can read or write {table_now} while one UPDATE gives every row without {column} its default"
                + (" (how many there are is not known here)" if not broken else "")
                + "; after a reversal nobody knows which rows had none.",
                evidence=evidence,
                mitigation=mitigation,
                subject=f"{table}.{column}",
                severity="high" if broken else "unknown",
                harm="blocks",
            )


def _is_filled(case: Case, table: str, column: str) -> bool:
    """Whether the migration itself gives a value to rows that have NULL."""
    if case.migration.sql.forward.statements is not None:
        start = f"UPDATE {rendered.quoted(table)} SET {rendered.quoted(column)} = "  # noqa: S608 - compared, not run
        return any(statement.startswith(start) for statement in rendered.statements(case.migration))
    new = changed(case)[1] or {}
    return new["default"] in ("constant", "callable") or bool(new["db_default"])


class DropDefault(Rule):
    """Code that leaves a value to the database inserts the keyword DEFAULT."""

    id = "drop-default"
    catches = "A NOT NULL column loses the database default that running code relies on."
    severity = "high"
    harm = "old code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A default that only Python has is none of the database."""
        old, new = changed(case)
        if not runs(case) or case.operation["kind"] != "AlterField" or old is None or new is None:
            return
        table, column = case.operation["table"], new["column"]
        lost = old["db_default"] and not new["db_default"] and not new["null"]
        if not lost or not is_known(case, table) or case.history.column_now(table, old["column"]) is None:
            return
        yield self.finding(
            case,
            f"Every INSERT of the running release into {table} that leaves {column} to the database fails: it becomes "
            "NULL without the default.",
            mitigation=(
                f"Release code first that always gives {field_path(case)} a value.",
                f"Then drop it: ALTER TABLE {rendered.quoted(table)} ALTER {rendered.quoted(column)} DROP DEFAULT;",
            ),
            subject=f"{table}.{column}",
        )


RULES: tuple[Rule, ...] = (SetNotNull(), NullInsert(), NullValues(), DropDefault())
