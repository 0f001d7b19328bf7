"""Columns and tables that go: running code that still uses them, and what was in them."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.release.risk import Finding
from tasks.risk import rendered
from tasks.risk.asking import changed, is_known, known_as, runs
from tasks.risk.django_code import operation_code, run_sql
from tasks.risk.loosened import is_loosened
from tasks.risk.references import told
from tasks.risk.rule import Case, Rule
from tasks.risk.rules.references import serving_uses


def _dropped_column(case: Case) -> str | None:
    old = changed(case)[0]
    if case.operation["kind"] == "AlterOrderWithRespectTo":
        start = f'ALTER TABLE {rendered.quoted(str(case.operation["table"]))} DROP COLUMN "_order"'
        return "_order" if any(one.startswith(start) for one in rendered.statements(case.migration)) else None
    if case.operation["kind"] != "RemoveField" or old is None or old["type"] is None:
        return None
    return str(old["column"])


def _dropped_tables(case: Case) -> list[str]:
    """Tables that an operation drops: a model's, and those behind its many-to-many fields."""
    if case.operation["kind"] not in ("DeleteModel", "RemoveField"):
        return []
    behind = [told["old"]["many_to_many_table"] for told in case.operation["fields"] if told["old"]]
    # A model behind such a field is dropped, and told, by an operation of its own.
    models = {entry["table"] for entry in case.migration.operations if entry["kind"] == "DeleteModel"}
    dropped = [table for table in behind if table and rendered.drops_table(case.migration, table)]
    dropped = [table for table in dropped if table not in models]
    own = [case.operation["table"]] if case.operation["kind"] == "DeleteModel" else []
    gone = case.history.gone - case.history.made
    return [table for table in dict.fromkeys((*own, *dropped)) if table not in gone]


def is_out_of_use(case: Case) -> bool:
    """Whether the code that serves is known not to name what goes."""
    uses = serving_uses(case)
    return uses is not None and not any(use.certain for use in uses)


class RemoveColumn(Rule):
    """Django names every column in every statement."""

    id = "remove-column"
    catches = "A column is dropped that running code still reads and writes."
    severity = "high"
    harm = "old code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A column that an earlier pending migration adds is unknown to running code."""
        if not runs(case) or (column := _dropped_column(case)) is None:
            return
        table = case.operation["table"]
        column_now = case.history.column_now(table, column)
        if not is_known(case, table) or column_now is None or is_out_of_use(case):
            return
        now = known_as(case, table)
        alter, old = f"ALTER TABLE {rendered.quoted(table)}", changed(case)[0]
        add_back = f"{alter} ADD COLUMN {rendered.quoted(column)} {(old or {}).get('type') or 'integer'} NULL"
        usage, dependents = case.facts.usage(now, column_now), case.facts.dependents(now, column_now)
        yield self.finding(
            case,
            f"Every SELECT and INSERT of the running release on {now} fails: Django names {column_now} in each.",
            evidence=[
                *told(serving_uses(case) or ()),
                usage.evidence if usage.value is not None else "",
                f"DROP COLUMN ... CASCADE takes along: {dependents.evidence}" if dependents.value else "",
            ],
            mitigation=(
                (
                    "Release code without the field first: migrations.SeparateDatabaseAndState(state_operations=["
                    f"{operation_code(case)}]), after making {column} nullable or giving it a database default."
                ),
                f"Drop it in the release after: {run_sql(f'{alter} DROP COLUMN {rendered.quoted(column)}', add_back)}.",
            ),
            subject=f"{table}.{column}",
        )


class LoseColumn(Rule):
    """Django's way back makes the column, not the values."""

    id = "lose-column"
    catches = "A column is dropped that has values, which no reversal brings back."
    severity = "high"
    harm = "loss"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A column without values, or of a table without rows, loses nothing."""
        if not runs(case) or (column := _dropped_column(case)) is None:
            return
        table = case.operation["table"]
        now, column_now = case.history.table_now(table), case.history.column_now(table, column)
        if now is None or column_now is None:
            return
        rows = case.facts.rows(now)
        nulls = case.facts.nulls(now, column_now)
        empty = nulls.value is not None and not nulls.value.sampled and 0 < nulls.value.of == nulls.value.count
        if rows.value == 0 or empty:
            return
        old = changed(case)[0]
        bare = old is not None and not (old["null"] or old["default"] or old["db_default"] or old["generated"])
        if old is not None and old["generated"]:
            return
        kept = f"{table}_{column}"
        way_back = "fails where there are rows" if bare else "makes the column without its values"
        yield self.finding(
            case,
            f"The values of {now}.{column_now} are lost; reversing the migration {way_back}.",
            evidence=[
                rows.evidence if rows.value is not None else "",
                # Of a column that is NOT NULL nobody counted: every row has a value.
                nulls.evidence if nulls.value is not None and nulls.value.of else "",
            ],
            mitigation=(
                f"Keep them: CREATE TABLE {rendered.quoted(kept)} AS TABLE {rendered.quoted(table)};",
                "Or be sure of the backup.",
            ),
            subject=f"{table}.{column}",
        )


class RemoveTable(Rule):
    """Running code still reads and writes a table."""

    id = "remove-table"
    catches = "A table is dropped that running code still uses."
    severity = "high"
    harm = "old code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A table that an earlier pending migration makes is unknown to running code."""
        if not runs(case):
            return
        for table in [] if is_out_of_use(case) else _dropped_tables(case):
            if not is_known(case, table):
                continue
            now = case.history.table_now(table) or table
            usage, dependents, keys = (
                case.facts.usage(now),
                case.facts.dependents(now),
                case.facts.referenced_by(now),
            )
            yield self.finding(
                case,
                f"Every statement of the running release on {now} fails once it is dropped.",
                evidence=[
                    *told(serving_uses(case) or ()),
                    usage.evidence if usage.value is not None else "",
                    f"DROP TABLE ... CASCADE takes along: {dependents.evidence}" if dependents.value else "",
                    f"DROP TABLE ... CASCADE drops foreign keys: {keys.evidence}" if keys.value else "",
                ],
                mitigation=(
                    (
                        "Release code without it first: migrations.SeparateDatabaseAndState(state_operations=["
                        f"{operation_code(case)}])."
                    ),
                    (
                        f"Drop it in the release after: migrations.RunSQL('DROP TABLE {rendered.quoted(table)}'), "
                        "which nothing takes back."
                    ),
                ),
                subject=table,
            )


class LoseTable(Rule):
    """Django's way back makes the table, not the rows."""

    id = "lose-table"
    catches = "A table is dropped that has rows, which no reversal brings back."
    severity = "high"
    harm = "loss"

    def judge(self, case: Case) -> Iterable[Finding]:
        """An empty table loses nothing."""
        if not runs(case):
            return
        for table in _dropped_tables(case):
            now = case.history.table_now(table)
            rows = case.facts.rows(now) if now is not None else None
            if now is None or rows is None or rows.value == 0:
                continue
            yield self.finding(
                case,
                f"The rows of {now} are lost; reversing the migration makes an empty table.",
                evidence=[rows.evidence],
                mitigation=(
                    f"Keep them: ALTER TABLE {rendered.quoted(table)} RENAME TO {rendered.quoted(f'{table}_old')};",
                    "Drop that when nobody misses it; or be sure of the backup.",
                ),
                subject=table,
            )


class ForgetRequiredColumn(Rule):
    """The new release no longer names a column that the database still wants."""

    id = "forget-required-column"
    catches = "A field is taken out of the state alone, and the new code cannot insert: its column is NOT NULL."
    severity = "high"
    harm = "new code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A column that takes NULL or has a default, or that the release drops or loosens, is left alone."""
        operation, old = case.operation, changed(case)[0]
        if operation["kind"] != "RemoveField" or not operation["state_only"] or not operation["allowed"]:
            return
        if old is None or old["type"] is None or case.migration.backwards:
            return
        table, column = operation["table"], old["column"]
        table_now, column_now = case.history.table_now(table), case.history.column_now(table, column)
        if table_now is None or column_now is None or is_loosened(case, table, column):
            return
        there = case.facts.column(table_now, column_now)
        required = not (old["null"] or old["db_default"] or old["generated"])
        if there.value is not None:
            required = there.value.not_null and not there.value.has_default
        if not required:
            return
        alter = f"ALTER TABLE {rendered.quoted(table)} ALTER COLUMN {rendered.quoted(column)}"
        yield self.finding(
            case,
            f"Every INSERT of the new release into {table} fails: it does not name {column}, which stays in the "
            "database, NOT NULL and without a default.",
            evidence=[there.evidence if there.value is not None else ""],
            mitigation=(
                (
                    "Beside it: migrations.SeparateDatabaseAndState(database_operations=["
                    f"{run_sql(f'{alter} DROP NOT NULL', f'{alter} SET NOT NULL')}], state_operations=["
                    f"{operation_code(case)}])."
                ),
                (f"Or, where a value is wanted: {run_sql(f'{alter} SET DEFAULT <value>', f'{alter} DROP DEFAULT')}."),
            ),
            subject=f"{table}.{column}",
        )


RULES: tuple[Rule, ...] = (RemoveColumn(), LoseColumn(), RemoveTable(), LoseTable(), ForgetRequiredColumn())
