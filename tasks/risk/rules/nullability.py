"""NULL to NOT NULL: rows that are read under the table's lock, rows that break it, and code that still writes NULL.

A CHECK (column IS NOT NULL) refuses NULL from the moment it is there, validated or not: validated it makes SET NOT NULL
cheap, but only where it is in the database before the release does it show that running code writes no NULL.
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks.release.risk import Finding
from tasks.risk import rendered
from tasks.risk.asking import Said, changed, field_path, is_known, rows_say, runs, writes_no_null
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
    field = field_path(case).rpartition(".")[2]
    name = rendered.quoted(f"{table}_{column}_not_null")
    return (
        (
            f"AddConstraintNotValid('{case.operation['model']}', CheckConstraint(condition=Q({field}__isnull=False), "
            f"...)): ALTER TABLE {rendered.quoted(table)} ADD CONSTRAINT {name} "
            f"CHECK ({rendered.quoted(column)} IS NOT NULL) NOT VALID;"
        ),
        f"ValidateConstraint in a migration after it: ALTER TABLE {rendered.quoted(table)} VALIDATE CONSTRAINT {name};",
        f"Then AlterField('{field_path(case)}', null=False), which reads no row any more, and RemoveConstraint.",
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
            f"An INSERT or UPDATE of the running release that leaves {table}.{column} NULL fails."
            if there
            else f"Every INSERT of the running release into {table} fails: it does not know {column}, and leaves it"
            " NULL.",
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
        filled = new["default"] in ("constant", "callable", "now") or new["db_default"]
        if said.said is Said.HELD or said.said is Said.NOT_ASKED or (filled and weigh(case, table).felt is None):
            return
        if filled and said.said is Said.OPEN:
            return
        if filled:
            yield self.finding(
                case,
                f"Nobody can read or write {table} while one UPDATE gives every row without {column} its default.",
                evidence=said.evidence,
                mitigation=(f"Fill them before, in batches: {rendered.filling(table, column)}",),
                subject=f"{table}.{column}",
                severity="high",
            )
            return
        broken = said.said is Said.BROKEN
        yield self.finding(
            case,
            f"The migration {'fails' if broken else 'may fail'}: rows of {table} "
            f"{'have' if broken else 'may have'} NULL in {column}.",
            evidence=said.evidence,
            mitigation=(f"Fill them before, in batches: {rendered.filling(table, column)}",),
            subject=f"{table}.{column}",
            severity="blocked" if broken else "unknown",
        )


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
