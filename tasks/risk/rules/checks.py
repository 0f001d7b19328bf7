"""CHECK constraints: rows that are read under the table's lock, and rows that break them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.release.risk import Finding
from tasks.risk import rendered
from tasks.risk.asking import Said, changed, field_path, known_as, made_in, rows_say, runs, sql_now
from tasks.risk.django_code import operation_code
from tasks.risk.facts import Answer, Count
from tasks.risk.rule import Case, Rule
from tasks.risk.weight import weigh


@dataclass(frozen=True)
class _Check:
    table: str
    name: str
    expression: str | None
    of_field: bool  # of a PositiveIntegerField and its like
    new_column: bool = False


def _declared(case: Case) -> _Check | None:
    constraint = case.operation["constraint"]
    if constraint is None or constraint["kind"] != "CheckConstraint":
        return None
    return _Check(case.operation["table"], constraint["name"], rendered.check_of(constraint["sql"]), of_field=False)


def _added(case: Case) -> _Check | None:
    kind, table = case.operation["kind"], case.operation["table"]
    if kind == "AddConstraint":
        return _declared(case)
    new = changed(case)[1]
    if kind not in ("AddField", "AlterField") or new is None or new["type"] is None:
        return None
    for statement in rendered.of_column(case.migration, table, new["column"]):
        start = f"ALTER TABLE {rendered.quoted(table)} "
        added = start + (f"ADD COLUMN {rendered.quoted(new['column'])} " if kind == "AddField" else "ADD CONSTRAINT ")
        if statement.startswith(added) and " CHECK (" in statement:
            name = f"{table}.{new['column']}"
            return _Check(table, name, rendered.check_of(statement.split(";")[0]), True, kind == "AddField")
    return None


class AddCheck(Rule):
    """Every row is checked while nobody may read or write."""

    id = "add-check"
    catches = "A CHECK constraint is added and every row read under ACCESS EXCLUSIVE."
    severity = "medium"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Added NOT VALID and validated in a transaction of its own, it lets everybody go on."""
        check = _added(case) if runs(case) else None
        heavy = weigh(case, check.table).felt if check else None
        if check is None or heavy is None:
            return
        table, name = rendered.quoted(check.table), rendered.quoted(check.name)
        if check.of_field:
            name = rendered.quoted(f"{check.name.rpartition('.')[2]}_check")
        if check.of_field:
            steps: tuple[str, ...] = (
                (
                    f"Give {field_path(case)} a class without a CHECK (IntegerField for PositiveIntegerField), and add "
                    "that as a constraint in a migration after it, by AddConstraintNotValid: "
                    f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({check.expression}) NOT VALID;"
                ),
                (
                    "ValidateConstraint in one after that, which lets everybody read and write: "
                    f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};"
                ),
            )
        else:
            steps = (
                (
                    f"django.contrib.postgres.operations: {operation_code(case, 'AddConstraintNotValid')}, which is "
                    f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({check.expression or '...'}) NOT VALID;"
                ),
                (
                    f'ValidateConstraint("{case.operation["model"]}", "{check.name}") in a migration after it, which '
                    f"lets everybody read and write: ALTER TABLE {table} VALIDATE CONSTRAINT {name};"
                ),
            )
        yield self.finding(
            case,
            f"Nobody can read or write {check.table} while every row is checked for {check.name}.",
            evidence=heavy,
            mitigation=steps,
            subject=check.name,
        )


class ValidateInSameTransaction(Rule):
    """The lock of ADD CONSTRAINT is held until the transaction ends."""

    id = "validate-in-same-transaction"
    catches = "A constraint is validated in the transaction that adds it, under the lock that NOT VALID was to avoid."
    severity = "medium"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """In a migration of its own, or one that is not atomic, it disturbs nobody."""
        if not runs(case) or case.operation["kind"] != "ValidateConstraint" or not case.migration.atomic:
            return
        table, name = case.operation["table"], case.operation["constraint"]["name"]
        together = any(
            entry["kind"] == "AddConstraintNotValid" and entry["constraint"]["name"] == name
            for entry in case.history.within
        )
        heavy = weigh(case, table).felt if together else None
        if heavy is None:
            return
        yield self.finding(
            case,
            f"Nobody can read or write {table} while every row is checked for {name}: the migration's transaction "
            "still holds the lock under which it was added.",
            evidence=heavy,
            mitigation=(f"Move ValidateConstraint('{case.operation['model']}', '{name}') to a migration of its own.",),
            subject=name,
        )


class CheckViolated(Rule):
    """Rows that are there may not satisfy it."""

    id = "check-violated"
    catches = "Rows that a new CHECK does not allow, so that the migration fails."
    severity = "blocked"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """NOT VALID looks at no row."""
        if not runs(case):
            return
        check = _declared(case) if case.operation["kind"] == "ValidateConstraint" else _added(case)
        if check is None or check.new_column or check.expression is None:
            return
        expression = check.expression

        def ask(table: str, _columns: list[str]) -> Answer[Count]:
            return case.facts.violators(table, sql_now(case, check.table, expression))

        asked = made_in(case, check.table, expression)
        ruled_out = not rendered.not_null_columns(expression).isdisjoint(asked)
        said = rows_say(case, check.table, asked, ask, Said.BROKEN if ruled_out else Said.HELD)
        # VALIDATE by itself is how it is done: where it fails, nobody was kept waiting.
        if said.said is Said.HELD or (said.said is Said.NOT_ASKED and case.operation["kind"] == "ValidateConstraint"):
            return
        broken, known = said.said is Said.BROKEN, said.said is not Said.NOT_ASKED
        table = known_as(case, check.table)
        yield self.finding(
            case,
            f"The migration fails: rows of {table} violate {check.name}."
            if broken
            else f"The migration fails if rows of {table} violate {check.name}, which is not known here.",
            evidence=said.evidence if known else [],
            mitigation=(
                f"Look at them: {rendered.selecting(check.table, f'NOT ({expression})')}",
                "AddConstraintNotValid keeps new ones out; mend those there are in batches; ValidateConstraint after.",
            ),
            subject=check.name,
            severity="blocked" if broken else "unknown",
        )


RULES: tuple[Rule, ...] = (AddCheck(), ValidateInSameTransaction(), CheckViolated())
