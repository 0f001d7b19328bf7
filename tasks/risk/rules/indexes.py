"""Indexes: built while nobody may write, or in a way that a transaction does not allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.release.risk import Finding
from tasks.risk import rendered
from tasks.risk.asking import changed, runs
from tasks.risk.django_code import field_operation, operation_code, run_sql
from tasks.risk.rule import Case, Rule
from tasks.risk.weight import weigh


@dataclass(frozen=True)
class _Built:
    table: str
    columns: tuple[str, ...]
    name: str | None = None


def _built(case: Case) -> list[_Built]:
    """The plain indexes that an operation builds on a table that is there."""
    operation, kind = case.operation, case.operation["kind"]
    table, (old, new) = operation["table"], changed(case)
    if kind == "AddIndex":
        index = operation["index"]
        return [_Built(table, tuple(index["columns"]), index["name"])]
    if kind == "AlterIndexTogether":
        together = operation["together"]
        return [_Built(table, tuple(columns)) for columns in together["new"] if columns not in together["old"]]
    if new is None or new["type"] is None or kind not in ("AddField", "AlterField"):
        return []
    asked = new["index"] and not new["unique"]
    if kind == "AlterField" and old is not None:
        had = old["index"] and not old["unique"]
        # Of text there is an index for LIKE besides, which Django makes anew when varchar becomes text.
        anew = (old["unique"] or not new["unique"]) and rendered.makes_index(case.migration, table, new["column"])
        asked = (asked and not had) or anew
    return [_Built(table, (new["column"],))] if asked else []


class AddIndex(Rule):
    """CREATE INDEX lets nobody write until it is built."""

    id = "add-index"
    catches = "An index is built on a table with rows while nobody may write to it."
    severity = "medium"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Built CONCURRENTLY, or on a table that is small or new, it disturbs nobody."""
        if not runs(case):
            return
        for index in _built(case):
            heavy = weigh(case, index.table).felt
            if heavy is None:
                continue
            names = ", ".join(index.columns) or "an expression"
            # Within one transaction an ALTER TABLE before it keeps readers out too, until the index is built.
            altered = case.migration.atomic and case.operation["kind"] in ("AddField", "AlterField")
            who = "Nobody can read or write" if altered else "Nobody can write to"
            yield self.finding(
                case,
                f"{who} {index.table} while an index on {names} is built.",
                evidence=heavy,
                mitigation=self._steps(case, index),
                subject=index.name or f"{index.table}.{index.columns[0] if index.columns else ''}",
            )

    @staticmethod
    def _steps(case: Case, index: _Built) -> tuple[str, ...]:
        written = rendered.indexes(case.migration, index.table, None if index.name else index.columns[0], index.name)
        alone = "In a migration of its own with atomic = False"
        built = "; ".join(rendered.concurrently(statement) for statement in written)
        if case.operation["kind"] == "AddIndex":
            django = operation_code(case, "django.contrib.postgres.operations.AddIndexConcurrently")
            return (f"{alone}: {django}" + (f", which is {built};" if built else "."),)
        run = ", ".join(run_sql(rendered.concurrently(one), rendered.dropping(one)) for one in written)
        state = f"migrations.SeparateDatabaseAndState(state_operations=[{operation_code(case)}])"
        if case.operation["kind"] != "AddField":
            return (f"{alone}: {run or 'CREATE INDEX CONCURRENTLY'}; and after it {state}.",)
        return (
            f"Without the index here: {field_operation(case, db_index='False')}.",
            (
                f"{alone}: {run or 'CREATE INDEX CONCURRENTLY'}; and after it the field with its index, in "
                "migrations.SeparateDatabaseAndState(state_operations=[...])."
            ),
        )


class ConcurrentlyInTransaction(Rule):
    """CONCURRENTLY works in transactions of its own."""

    id = "concurrently-in-transaction"
    catches = "An index is built or dropped CONCURRENTLY in an atomic migration, which fails at once."
    severity = "blocked"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Django refuses it before the server would."""
        if not runs(case) or not case.migration.atomic or not case.operation["kind"].endswith("Concurrently"):
            return
        name = (case.operation["index"] or {}).get("name") or str(case.operation["table"])
        yield self.finding(
            case,
            f"The migration fails: {case.operation['kind']} of {name} cannot run inside its transaction.",
            mitigation=("Write atomic = False in the Migration class, and leave nothing else in that migration.",),
            subject=name,
        )


RULES: tuple[Rule, ...] = (AddIndex(), ConcurrentlyInTransaction())
