"""Columns that are added: what old code cannot insert into, what one value cannot fill, what rewrites the table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tasks.release.risk import Finding
from tasks.risk import rendered
from tasks.risk.asking import changed, is_known, known_as, row_count, runs
from tasks.risk.django_code import field_operation, run_sql
from tasks.risk.loosened import is_loosened
from tasks.risk.rule import Case, Rule
from tasks.risk.weight import weigh

# What a default may call without being evaluated for each row.
_STABLE = {
    *("now", "statement_timestamp", "transaction_timestamp", "current_timestamp", "localtimestamp", "date_trunc"),
    *("lower", "upper", "coalesce", "concat", "cast", "abs", "round", "greatest", "least", "to_jsonb", "jsonb"),
    *("json_build_object", "jsonb_build_object", "json_build_array", "jsonb_build_array", "make_date", "make_interval"),
    *("varchar", "numeric", "char", "interval", "timestamp", "array", "md5", "length", "trim", "replace", "power"),
}
_VOLATILE = re.compile(
    r"\b(gen_random_uuid|uuid_generate_v\w+|uuidv\d|random\w*|clock_timestamp|timeofday|nextval|gen_random_bytes)\b",
    re.I,
)
_CALLED = re.compile(r"\b([a-z_]\w*)\s*\(", re.I)


def _is_auto(told: dict[str, Any]) -> bool:
    return str(told["class"]).endswith("AutoField")


def _has_value_without_code(told: dict[str, Any]) -> bool:
    """Whether the database fills a column that an INSERT does not name."""
    return bool(told["null"] or told["db_default"] or told["generated"] or _is_auto(told))


class AddNotNullColumn(Rule):
    """Code that does not know a column cannot give it a value."""

    id = "add-not-null-column"
    catches = "A new NOT NULL column without a default in the database, which running code cannot insert into."
    severity = "high"
    harm = "old code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Django fills the rows that exist and then drops the default again; a later SET DEFAULT mends it."""
        if not runs(case) or not is_known(case, case.operation["table"]):
            return
        column, table = self._column(case), case.operation["table"]
        if column is None or is_loosened(case, table, column):
            return
        now = known_as(case, table)
        alter = f"ALTER TABLE {rendered.quoted(table)} ALTER COLUMN {rendered.quoted(column)}"
        mitigation: tuple[str, ...]
        if case.operation["kind"] == "AddField":
            mitigation = (
                (
                    f"Let NULL be there for this release: {field_operation(case, without=('default',), null='True')}; "
                    "or give the field a db_default (Django 5.0 and newer)."
                ),
                f"Release code that fills {now}.{column}, then fill the older rows in batches.",
                (
                    f"In a later release take NULL away: AddConstraintNotValid with {column} IS NOT NULL, "
                    "ValidateConstraint in a migration after it, and only then AlterField."
                ),
            )
        else:
            default = run_sql(f"{alter} SET DEFAULT 0", f"{alter} DROP DEFAULT")
            mitigation = (f"Give the column a default until the old release is gone; after the operation: {default}.",)
        yield self.finding(
            case,
            f"Every INSERT of the running release into {now} fails: it does not know {column}, which is NOT NULL "
            "and has no default in the database (Django drops the one it fills old rows with).",
            mitigation=mitigation,
            subject=f"{table}.{column}",
        )

    @staticmethod
    def _column(case: Case) -> str | None:
        kind, new = case.operation["kind"], changed(case)[1]
        if kind == "AddField" and new is not None and new["type"] is not None and not _has_value_without_code(new):
            return str(new["column"])
        table = rendered.quoted(str(case.operation["table"]))
        added = any(
            one.startswith(f'ALTER TABLE {table} ADD COLUMN "_order"') for one in rendered.statements(case.migration)
        )
        return "_order" if kind == "AlterOrderWithRespectTo" and added else None


class AddColumnWithoutValue(Rule):
    """A NOT NULL column for rows that nothing gives a value."""

    id = "add-column-without-value"
    catches = "A new NOT NULL column without any default on a table that has rows."
    severity = "blocked"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Nothing is wrong with it on an empty table."""
        new = changed(case)[1]
        if not runs(case) or case.operation["kind"] != "AddField" or new is None or new["type"] is None:
            return
        table = case.operation["table"]
        if _has_value_without_code(new) or new["default"] or not is_known(case, table):
            return
        rows = row_count(case, table)
        if rows == 0:
            return
        yield self.finding(
            case,
            f"The migration fails where {table} has rows: {new['column']} is NOT NULL and nothing fills it.",
            evidence=[case.facts.rows(case.history.table_now(table) or table).evidence],
            mitigation=(f"{field_operation(case, null='True')}; fill it in batches, make it NOT NULL later.",),
            subject=f"{table}.{new['column']}",
            severity="blocked" if rows else "unknown",
        )


class OneValueForAll(Rule):
    """A callable default is called once."""

    id = "one-value-for-all"
    catches = "A callable default or a unique column, whose one value fills every row there is."
    severity = "high"
    harm = "loss"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Of a unique column the migration fails as soon as there are two rows."""
        new = changed(case)[1]
        if not runs(case) or case.operation["kind"] != "AddField" or new is None or new["type"] is None:
            return
        table, column = case.operation["table"], new["column"]
        rows = row_count(case, table)
        filled = new["default"] or new["db_default"] == "constant"
        unique = (new["unique"] or new["primary_key"]) and filled and not _is_auto(new)
        by_call = new["default"] == "callable" and not new["db_default"] and not self._is_plain(new["default_callable"])
        if not (unique or by_call) or not is_known(case, table) or (rows is not None and rows < 2):
            return
        if new["null"] and new["default"] in (None, "empty"):
            return
        evidence = [case.facts.rows(case.history.table_now(table) or table).evidence]
        steps = (
            (
                f"{field_operation(case, without=('default', 'db_default', 'unique'), null='True')}; then RunPython "
                f"that gives each row of {table} its own {column}, in batches; then AlterField to the final definition."
            ),
            "https://docs.djangoproject.com/en/stable/howto/writing-migrations/#migrations-that-add-unique-fields",
        )
        if unique:
            yield self.finding(
                case,
                f"The migration fails: every row of {table} gets the same {column}, which must be unique.",
                evidence=evidence,
                mitigation=steps,
                subject=f"{table}.{column}",
                severity="blocked" if rows else "high",
                harm="fails",
            )
        else:
            yield self.finding(
                case,
                f"{new['default_callable']} is called once: every row of {table} gets the same {column}.",
                evidence=evidence,
                mitigation=steps,
                subject=f"{table}.{column}",
            )

    @staticmethod
    def _is_plain(name: str | None) -> bool:
        """Whether a callable's value is the same each time, or meant to be the moment of the migration."""
        plain = {"builtins.dict", "builtins.list", "builtins.str", "builtins.int", "builtins.bool", "builtins.float"}
        return name in plain or (name or "").endswith(("timezone.now", "datetime.now", "date.today", "datetime.utcnow"))


class VolatileDefault(Rule):
    """A default that differs from row to row is written into every row at once."""

    id = "volatile-default"
    catches = "A new column whose database default is volatile, which rewrites the table."
    severity = "high"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Defaults that are evaluated once are kept in the catalogue and cost nothing."""
        new = changed(case)[1]
        if not runs(case) or case.operation["kind"] != "AddField" or new is None or new["generated"]:
            return
        table, column = case.operation["table"], new["column"]
        sql = new["db_default_sql"] or ""
        called = {name.lower() for name in _CALLED.findall(re.sub(r"'(?:[^']|'')*'", "''", sql))}
        volatile = bool(_VOLATILE.search(sql))
        if new["db_default"] != "expression" or not (volatile or called - _STABLE or not sql):
            return
        heavy = weigh(case, table).felt
        if heavy is None:
            return
        yield self.finding(
            case,
            f"Nobody can read or write {table} while every row is rewritten with its own {column} ({sql or 'unknown'})"
            + ("." if volatile else ", unless that is evaluated once."),
            evidence=heavy,
            mitigation=(
                (
                    f"{field_operation(case, without=('db_default', 'default'), null='True')}; "
                    f"AlterField adds db_default for new rows: ALTER TABLE {rendered.quoted(table)} ALTER "
                    f"{rendered.quoted(column)} SET DEFAULT {sql};"
                ),
                "Fill the rows that exist in batches, then make it NOT NULL by a validated CHECK.",
            ),
            subject=f"{table}.{column}",
            severity="high" if volatile else "unknown",
        )


class GeneratedColumn(Rule):
    """The server computes a stored column or a number for each row at once."""

    id = "generated-column"
    catches = "A new stored generated column, identity or serial column, which rewrites the table."
    severity = "high"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A virtual column (PostgreSQL 18) is computed when it is read."""
        new = changed(case)[1]
        if not runs(case) or case.operation["kind"] != "AddField" or new is None:
            return
        if new["generated"] != "stored" and not _is_auto(new):
            return
        table, column = case.operation["table"], new["column"]
        heavy = weigh(case, table).felt
        if heavy is None:
            return
        yield self.finding(
            case,
            f"Nobody can read or write {table} while it is rewritten with a value of {column} for every row.",
            evidence=heavy,
            mitigation=(
                (
                    f"Add {column} as a plain column with null=True, have the application or a trigger fill it, fill "
                    "the rows that exist in batches."
                ),
                "Or apply the migration within a maintenance window.",
            ),
            subject=f"{table}.{column}",
        )


RULES: tuple[Rule, ...] = (
    AddNotNullColumn(),
    AddColumnWithoutValue(),
    OneValueForAll(),
    VolatileDefault(),
    GeneratedColumn(),
)
