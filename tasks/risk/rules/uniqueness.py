"""Unique constraints, primary keys and exclusions: an index built while nobody may write, and rows that break it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tasks.release.risk import Finding
from tasks.risk import rendered
from tasks.risk.asking import Said, changed, known_as, made_in, row_count, rows_say, runs, sql_now
from tasks.risk.django_code import field_code, field_operation, operation_code, run_sql
from tasks.risk.facts import Answer, Count
from tasks.risk.rule import Case, Rule
from tasks.risk.unique_index import Unique, unique_of
from tasks.risk.weight import weigh

_EXCLUSION = "exclusion constraint"


@dataclass(frozen=True)
class _Added:
    table: str
    name: str  # as messages call it
    unique: Unique | None  # None: not known
    sql: str = ""  # of the constraint or the index that sees to it, as the migration has it
    new_column: bool = False
    what: str = "unique constraint"

    @property
    def is_index(self) -> bool:
        """Whether it is a CREATE UNIQUE INDEX, which lets readers in."""
        return self.sql.startswith("CREATE ")


def _added(case: Case) -> list[_Added]:
    operation, kind = case.operation, case.operation["kind"]
    table, (old, new), constraint = operation["table"], changed(case), operation["constraint"]
    if kind == "AddConstraint" and constraint["kind"] == "UniqueConstraint":
        sql = constraint["sql"] or ""
        plain = Unique(tuple(constraint["columns"])) if constraint["columns"] and not constraint["condition"] else None
        return [_Added(table, constraint["name"], unique_of(sql) or plain, sql)]
    if kind == "AddConstraint" and constraint["kind"] == "ExclusionConstraint":
        return [_Added(table, constraint["name"], None, what=_EXCLUSION)]
    if kind == "AlterUniqueTogether":
        together = operation["together"]
        added = [tuple(columns) for columns in together["new"] if columns not in together["old"]]
        return [
            _Added(table, f"{table}.{', '.join(columns)}", Unique(columns), _clause(case, table, columns))
            for columns in added
        ]
    if new is None or new["type"] is None or kind not in ("AddField", "AlterField"):
        return []
    asked = new["unique"] or new["primary_key"]
    had = old is not None and (old["unique"] or old["primary_key"])
    what = "primary key" if new["primary_key"] and not (old and old["primary_key"]) else "unique constraint"
    if asked and (not had or (what == "primary key" and old is not None)):
        column, sql = new["column"], _clause(case, table, (new["column"],))
        return [_Added(table, f"{table}.{column}", Unique((column,)), sql, new_column=old is None, what=what)]
    return []


def _clause(case: Case, table: str, columns: tuple[str, ...]) -> str:
    """The constraint that the migration adds over columns, `CONSTRAINT "x" UNIQUE (...)`; "" where it is not told."""
    start, keys = f"ALTER TABLE {rendered.quoted(table)} ADD ", f"({', '.join(map(rendered.quoted, columns))})"
    for statement in rendered.statements(case.migration):
        clause = statement.removeprefix(start).rstrip(";")
        if clause != statement and clause.startswith("CONSTRAINT ") and f" {keys}" in clause:
            return clause
    return ""


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
        for added in _added(case):
            heavy = weigh(case, added.table).felt
            if heavy is None:
                continue
            who = "write to" if added.is_index else "read or write"
            yield self.finding(
                case,
                f"Nobody can {who} {known_as(case, added.table)} while the index of {added.what} {added.name} is "
                "built.",
                evidence=heavy,
                mitigation=self._steps(case, added),
                subject=added.name,
            )

    @staticmethod
    def _steps(case: Case, added: _Added) -> tuple[str, ...]:
        if added.what == _EXCLUSION:
            return ("There is no way to add one without the lock: apply it within a maintenance window.",)
        table, columns = rendered.quoted(added.table), added.unique.columns if added.unique else ()
        if added.is_index:
            built, adopt = rendered.concurrently(added.sql), []
        else:
            given = re.match(r'CONSTRAINT ("[^"]+")', added.sql)
            name = given[1] if given else rendered.quoted(f"{added.table}_{'_'.join(columns)}_uniq".replace('"."', "_"))
            equal = " NULLS NOT DISTINCT" if added.unique and added.unique.nulls_equal else ""
            keys = ", ".join(map(rendered.quoted, columns))
            built = f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({keys}){equal}"
            later = added.sql[added.sql.find(" DEFERRABLE") :] if " DEFERRABLE" in added.sql else ""
            kind = "PRIMARY KEY" if added.what == "primary key" else "UNIQUE"
            constrain = f"ALTER TABLE {table} ADD CONSTRAINT {name} {kind} USING INDEX {name}{later}"
            adopt = [run_sql(constrain, f"ALTER TABLE {table} DROP CONSTRAINT {name}")]
        # Of text there is an index for LIKE besides, unless the column had an index before.
        alone = added.is_index or len(columns) != 1 or (changed(case)[0] or {}).get("index")
        beside = [] if alone else rendered.indexes(case.migration, added.table, columns[0])
        built_first = [built, *(rendered.concurrently(one) for one in beside)]
        first = ", ".join(run_sql(one, rendered.dropping(one)) for one in built_first)
        as_it_is = operation_code(case)
        if added.new_column:
            names = f'"{str(case.operation["model"]).lower()}", "{case.operation["fields"][0]["name"]}"'
            as_it_is = f"migrations.AlterField({names}, {field_code(case)})"
        steps = (
            f"In a migration of its own with atomic = False: {first}.",
            (
                f"In the one after: migrations.SeparateDatabaseAndState(database_operations=[{', '.join(adopt)}], "
                f"state_operations=[{as_it_is}])."
            ),
        )
        if added.new_column:
            return (f"Add the column without it: {field_operation(case, without=('unique',))}.", *steps)
        return steps


class DuplicateValues(Rule):
    """Rows that are there may be equal already."""

    id = "duplicate-values"
    catches = "Rows that a new unique or exclusion constraint does not allow, so that the migration fails."
    severity = "blocked"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Of a column that the same operation adds, its default decides; another rule tells."""
        if not runs(case):
            return
        for added in _added(case):
            if added.what == _EXCLUSION:
                yield from self._excluded(case, added)
            elif not added.new_column:
                yield from self._unique(case, added)

    def _excluded(self, case: Case, added: _Added) -> Iterable[Finding]:
        rows = row_count(case, added.table)
        if rows is not None and rows < 2:
            return
        table = known_as(case, added.table)
        yield self.finding(
            case,
            f"The migration fails if rows of {table} exclude each other by {added.name}, which was not looked at.",
            evidence=[case.facts.rows(table).evidence],
            mitigation=("Rehearse it on the restored backup: only that shows.", "Mend such rows before it."),
            subject=added.name,
            severity="unknown",
        )

    def _unique(self, case: Case, added: _Added) -> Iterable[Finding]:
        unique = added.unique
        text = " ".join((*unique.expressions, unique.condition)) if unique else ""
        plain = unique.columns if unique else ()

        def ask(table: str, columns: list[str]) -> Answer[Count]:
            if unique is None:
                return Answer(None, f"what is unique by {added.name} is not understood")
            return case.facts.duplicates(
                table,
                columns[: len(plain)],
                expressions=[sql_now(case, added.table, one) for one in unique.expressions],
                where=sql_now(case, added.table, unique.condition),
                nulls_equal=unique.nulls_equal,
            )

        said = rows_say(case, added.table, [*plain, *made_in(case, added.table, text)], ask)
        if said.said is Said.HELD:
            return
        table, what = known_as(case, added.table), str(unique) if unique else added.name
        broken, known = said.said is Said.BROKEN, said.said is not Said.NOT_ASKED
        keys = ", ".join((*map(rendered.quoted, plain), *(unique.expressions if unique else ())))
        yield self.finding(
            case,
            f"The migration fails: rows of {table} have the same {what}."
            if broken
            else f"The migration fails if rows of {table} have the same {what}, which is not known here.",
            evidence=said.evidence if known else [],
            mitigation=(
                f"Look at them: {rendered.repeating(added.table, keys or '...', unique.condition if unique else '')}",
                "Let running code make no new ones; merge those there are, in a migration before this one.",
            ),
            subject=added.name,
            severity="blocked" if broken else "unknown",
        )


RULES: tuple[Rule, ...] = (AddUnique(), DuplicateValues())
