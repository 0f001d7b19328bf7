"""Unique constraints, primary keys and exclusions: an index built while nobody may write, and rows that break it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.release.risk import Finding
from tasks.risk import rendered
from tasks.risk.asking import Said, changed, rows_say, runs
from tasks.risk.rule import Case, Rule
from tasks.risk.weight import weigh


@dataclass(frozen=True)
class _Unique:
    table: str
    columns: tuple[str, ...]
    name: str
    whole: bool  # columns of all rows: neither a condition nor expressions
    index: bool  # CREATE UNIQUE INDEX, which lets readers in
    new_column: bool = False
    what: str = "unique constraint"


def _added(case: Case) -> list[_Unique]:
    operation, kind = case.operation, case.operation["kind"]
    table, (old, new), constraint = operation["table"], changed(case), operation["constraint"]
    if kind == "AddConstraint" and constraint["kind"] == "UniqueConstraint":
        index = "UNIQUE INDEX" in (constraint["sql"] or "")
        whole = bool(constraint["columns"]) and not constraint["condition"]
        return [_Unique(table, tuple(constraint["columns"]), constraint["name"], whole, index)]
    if kind == "AddConstraint" and constraint["kind"] == "ExclusionConstraint":
        return [_Unique(table, (), constraint["name"], whole=False, index=False, what="exclusion constraint")]
    if kind == "AlterUniqueTogether":
        together = operation["together"]
        added = [columns for columns in together["new"] if columns not in together["old"]]
        return [
            _Unique(table, tuple(columns), f"{table}.{', '.join(columns)}", whole=True, index=False)
            for columns in added
        ]
    if new is None or new["type"] is None or kind not in ("AddField", "AlterField"):
        return []
    asked = new["unique"] or new["primary_key"]
    had = old is not None and (old["unique"] or old["primary_key"])
    what = "primary key" if new["primary_key"] and not (old and old["primary_key"]) else "unique constraint"
    if asked and (not had or (what == "primary key" and old is not None)):
        name = f"{table}.{new['column']}"
        return [_Unique(table, (new["column"],), name, whole=True, index=False, new_column=old is None, what=what)]
    return []


class AddUnique(Rule):
    """A unique index is built under the table's lock."""

    id = "add-unique"
    catches = "A unique or exclusion constraint whose index is built while nobody may write."
    severity = "medium"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Added with an index that was built CONCURRENTLY, it takes a moment."""
        if not runs(case):
            return
        for unique in _added(case):
            heavy = weigh(case, unique.table).felt
            if heavy is None:
                continue
            who = "write to" if unique.index else "read or write"
            yield self.finding(
                case,
                f"Nobody can {who} {unique.table} while the index of {unique.what} {unique.name} is built.",
                evidence=heavy,
                mitigation=self._steps(unique),
                subject=unique.name,
            )

    @staticmethod
    def _steps(unique: _Unique) -> tuple[str, ...]:
        if unique.what == "exclusion constraint":
            return ("There is no way to add one without the lock: apply it within a maintenance window.",)
        table, names = rendered.quoted(unique.table), ", ".join(rendered.quoted(name) for name in unique.columns)
        index = rendered.quoted(f"{unique.table}_{'_'.join(unique.columns) or 'key'}_uniq")
        adopt = "PRIMARY KEY" if unique.what == "primary key" else "UNIQUE"
        return (
            (
                "In a migration of its own with atomic = False: "
                f"RunSQL('CREATE UNIQUE INDEX CONCURRENTLY {index} ON {table} ({names or '...'})')."
            ),
            "In the one after: SeparateDatabaseAndState(database_operations=["
            + (
                "], "
                if unique.index
                else f"RunSQL('ALTER TABLE {table} ADD CONSTRAINT {index} {adopt} USING INDEX {index}')], "
            )
            + "state_operations=[<this operation>]).",
        )


class DuplicateValues(Rule):
    """Rows that are there may be equal already."""

    id = "duplicate-values"
    catches = "Rows that a new unique constraint does not allow, so that the migration fails."
    severity = "blocked"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Of a column that the same operation adds, its default decides; another rule tells."""
        if not runs(case):
            return
        for unique in _added(case):
            if not unique.whole or unique.new_column:
                continue
            said = rows_say(case, unique.table, unique.columns, case.facts.duplicates)
            if said.said not in (Said.BROKEN, Said.OPEN):
                continue
            names = ", ".join(rendered.quoted(column) for column in unique.columns)
            broken = said.said is Said.BROKEN
            yield self.finding(
                case,
                f"The migration {'fails' if broken else 'may fail'}: rows of {unique.table} "
                f"{'have' if broken else 'may have'} the same {', '.join(unique.columns)}.",
                evidence=said.evidence,
                mitigation=(
                    f"Look at them: {rendered.repeating(unique.table, names)}",
                    "Let running code make no new ones; merge those there are, in a migration before this one.",
                ),
                subject=unique.name,
                severity="blocked" if broken else "unknown",
            )


RULES: tuple[Rule, ...] = (AddUnique(), DuplicateValues())
