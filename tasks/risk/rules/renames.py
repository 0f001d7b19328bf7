"""Names that change in the database while running code uses the old ones."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.release.risk import Finding
from tasks.risk import rendered
from tasks.risk.asking import changed, field_path, is_known, known_as, runs
from tasks.risk.django_code import run_sql
from tasks.risk.references import told
from tasks.risk.rule import Case, Rule
from tasks.risk.rules.references import serving_uses
from tasks.risk.rules.removals import is_out_of_use


class RenameColumn(Rule):
    """Django names every column in every statement."""

    id = "rename-column"
    catches = "A column gets another name while running code uses the old one."
    severity = "high"
    harm = "old code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Where only the field's name changes (db_column keeps the column's) nothing happens."""
        if not runs(case) or is_out_of_use(case):
            return
        for table, old, new in self._renamed(case):
            # Renamed once more, it is a name that the running release never knew: the first one was told.
            if not is_known(case, table) or case.history.column_now(table, old) != old:
                continue
            now = known_as(case, table)
            usage = case.facts.usage(now, old)
            yield self.finding(
                case,
                f"Every SELECT and INSERT of the running release on {now} fails: {old} is then called {new}.",
                evidence=[*told(serving_uses(case) or ()), usage.evidence if usage.value is not None else ""],
                mitigation=(
                    f'Keep the column: give {field_path(case)} db_column="{old}" and rename only the field, in Python.',
                    (
                        f"Or add {new} beside it, write both, copy the values in batches, read {new}, and drop {old} "
                        "in a later release: AddField, then RemoveField."
                    ),
                ),
                subject=f"{table}.{old}",
            )

    @staticmethod
    def _renamed(case: Case) -> list[tuple[str, str, str]]:
        old, new = changed(case)
        kind = case.operation["kind"]
        if kind in ("RenameField", "AlterField") and old and new and old["type"] and new["type"]:
            return [(case.operation["table"], old["column"], new["column"])] if old["column"] != new["column"] else []
        if kind != "RenameModel":
            return []
        # A column behind a many-to-many field is named after the model at its other end; a table that itself gets
        # another name is told as such.
        moved = {rename.table for rename in rendered.renames(case.migration) if rename.column is None}
        moved |= {rename.new for rename in rendered.renames(case.migration) if rename.column is None}
        asked = {
            entry["table"] for entry in case.migration.operations if entry["kind"] in ("RenameField", "AlterField")
        }
        return [
            (rename.table, rename.column, rename.new)
            for rename in rendered.renames(case.migration)
            if rename.column is not None and rename.table not in moved | asked
        ]


class RenameTable(Rule):
    """Running code uses the old name."""

    id = "rename-table"
    catches = "A table gets another name while running code uses the old one."
    severity = "high"
    harm = "old code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Where only the model's name changes (db_table keeps the table's) nothing happens."""
        if not runs(case) or is_out_of_use(case):
            return
        for old, new in self._renamed(case):
            # Renamed once more, it is a name that the running release never knew: the first one was told.
            if not is_known(case, old) or known_as(case, old) != old:
                continue
            usage, was = case.facts.usage(old), rendered.quoted(old)
            yield self.finding(
                case,
                f"Every statement of the running release on {old} fails: the table is then called {new}.",
                evidence=[*told(serving_uses(case) or ()), usage.evidence if usage.value is not None else ""],
                mitigation=(
                    f'Keep the table: db_table = "{old}" in Meta of the model, and rename only the model, in Python.',
                    (
                        "Or leave a view under the old name until the old release is gone, which takes INSERTs too: "
                        f"{run_sql(f'CREATE VIEW {was} AS TABLE {rendered.quoted(new)}', f'DROP VIEW {was}')}."
                    ),
                ),
                subject=old,
            )

    @staticmethod
    def _renamed(case: Case) -> list[tuple[str, str]]:
        kind, old_name, new_name = (case.operation[key] for key in ("kind", "old_name", "new_name"))
        if kind in ("RenameModel", "AlterModelTable"):
            found = [(old_name, new_name)] if old_name != new_name else []
            own = {entry["old_name"] for entry in case.migration.operations}
            return found + [
                (one.table, one.new)
                for one in rendered.renames(case.migration)
                if one.column is None and one.table.startswith(f"{old_name}_") and one.table not in own
            ]
        old, new = changed(case)
        tables = [told and told["many_to_many_table"] for told in (old, new)]
        if kind in ("RenameField", "AlterField") and tables[0] and tables[1] and tables[0] != tables[1]:
            return [(tables[0], tables[1])]
        return []


RULES: tuple[Rule, ...] = (RenameColumn(), RenameTable())
