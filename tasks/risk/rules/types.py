"""Column types that change: what is rewritten, what does not fit, what running code no longer understands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tasks.release.risk import Finding, Harm, Severity
from tasks.risk import rendered
from tasks.risk.asking import Said, changed, field_path, is_known, known_as, rows_say, runs
from tasks.risk.facts import Answer, Count
from tasks.risk.rule import Case, Rule
from tasks.risk.type_changes import Cost, Fit, Type, cost, fit, holders, is_other_kind, misfit_condition
from tasks.risk.weight import weigh

_WHAT_BECOMES = {
    Fit.REFUSED: "are too long or out of range, and the migration fails on them",
    Fit.CHANGED: "are cut or rounded without a word",
    Fit.EITHER: "cannot be held as they are: the migration fails on them, or cuts or rounds them",
}


@dataclass(frozen=True)
class _Change:
    table: str
    column: str
    old: str
    new: str
    own: bool = True  # the altered field's; else a column that refers to it


def _change(case: Case) -> _Change | None:
    """The change of type that an operation makes to its own column."""
    old, new = changed(case)
    if case.operation["kind"] != "AlterField" or old is None or new is None or not (old["type"] and new["type"]):
        return None
    table = case.operation["table"]
    return _Change(table, new["column"], _type_now(case, table, old["column"]) or old["type"], new["type"])


def _type_now(case: Case, table: str, column: str) -> str | None:
    """The type that the database has, where no pending migration has changed it."""
    now, column_now = case.history.table_now(table), case.history.column_now(table, column)
    if now is None or column_now is None or (table, column) in case.history.types_changed:
        return None
    told = case.facts.column(now, column_now).value
    return told.type if told else None


def _followers(case: Case, own: _Change) -> list[_Change]:
    """Columns of other tables that refer to an altered key and change with it."""
    old = changed(case)[0]
    return [
        _Change(one.table, one.column, _type_now(case, one.table, one.column) or (old or {})["type"], one.type, False)
        for one in rendered.type_changes(case.migration)
        if old is not None and (old["primary_key"] or old["unique"])
        if one.table != own.table and Type.of(one.type) == Type.of(own.new)
        if not any(entry["table"] == one.table and entry["kind"] == "AlterField" for entry in case.migration.operations)
    ]


def _two_columns(case: Case, change: _Change) -> tuple[str, ...]:
    table, column = rendered.quoted(change.table), rendered.quoted(change.column)
    if change.own and (changed(case)[0] or {}).get("primary_key"):
        beside = rendered.quoted(f"{change.column}_new")
        return (
            (
                f"Add {change.column}_new beside it, and a trigger that copies {column} into it on every INSERT: "
                f"ALTER TABLE {table} ADD COLUMN {beside} {change.new};"
            ),
            (
                f"Copy {column} in batches; CREATE UNIQUE INDEX CONCURRENTLY on {beside}; CHECK ({beside} IS NOT NULL) "
                "NOT VALID and VALIDATE; the same for every column that refers to it."
            ),
            (
                "Then exchange the two columns' names and the primary key (ADD PRIMARY KEY USING INDEX) in one short "
                "transaction, with the sequence; or apply the migration as it is within a maintenance window."
            ),
        )
    field = field_path(case) if change.own else f"the field of {change.table}.{change.column}"
    return (
        (
            f"Add a column of type {change.new} beside it: ALTER TABLE {table} ADD COLUMN "
            f"{rendered.quoted(change.column + '_new')} {change.new} NULL; (AddField with null=True)."
        ),
        f"Release code (or a trigger) that writes both; copy {column} in batches; read the new one.",
        f"In a later release drop the old column and give {field} the new one by db_column.",
    )


class RewriteColumnType(Rule):
    """Most changes of type write every row and every index anew."""

    id = "rewrite-column-type"
    catches = "A column gets a type that is stored otherwise, so that the table is rewritten under ACCESS EXCLUSIVE."
    severity = "high"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Longer varchar, varchar to text and more digits at the same scale cost nothing."""
        own = _change(case) if runs(case) else None
        if own is None:
            return
        for change in [own, *_followers(case, own)]:
            costs = cost(change.old, change.new)
            heavy = weigh(case, change.table).felt if costs in (Cost.REWRITE, Cost.UNKNOWN) else None
            if heavy is None:
                continue
            perhaps = " if the types are not stored alike" if costs is Cost.UNKNOWN else ""
            follows = "" if change.own else f" (it refers to {own.table}.{own.column})"
            yield self.finding(
                case,
                f"Nobody can read or write {change.table} while it and its indexes are written anew{perhaps}: "
                f"{change.column}{follows} goes from {change.old} to {change.new}.",
                evidence=heavy,
                mitigation=_two_columns(case, change),
                subject=f"{change.table}.{change.column}",
                severity="unknown" if costs is Cost.UNKNOWN else "high",
            )


class RebuildIndex(Rule):
    """Where the order of values changes, or an index holds an expression, indexes are built anew."""

    id = "rebuild-index"
    catches = "A change of type or collation that builds indexes anew under ACCESS EXCLUSIVE."
    severity = "medium"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A column without indexes costs nothing."""
        change = _change(case) if runs(case) else None
        if change is None:
            return
        costs = cost(change.old, change.new)
        indexes = self._rebuilt(case, change, costs) if costs in (Cost.NOTHING, Cost.INDEXES) else None
        heavy = weigh(case, change.table).felt if indexes else None
        if heavy is None or not indexes:
            return
        yield self.finding(
            case,
            f"Nobody can read or write {change.table} while its indexes on {change.column} are built anew: {indexes}.",
            evidence=heavy,
            mitigation=(
                (
                    f"Before it, in a migration with atomic = False, drop the indexes of {change.column} CONCURRENTLY "
                    "(RemoveIndexConcurrently); after it build them again (AddIndexConcurrently)."
                ),
            ),
            subject=f"{change.table}.{change.column}",
        )

    @staticmethod
    def _rebuilt(case: Case, change: _Change, costs: Cost) -> str:
        """The indexes that are built anew, in words; "" for none."""
        old = changed(case)[0] or {}
        table, column = rendered.quoted(change.table), rendered.quoted(change.column)
        altered = [
            one
            for one in rendered.statements(case.migration)
            if one.startswith(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE ")
        ]
        now = case.history.table_now(change.table)
        column_now = case.history.column_now(change.table, old.get("column", change.column))
        told = case.facts.column(now, column_now).value if now and column_now else None
        declared = old.get("index") or old.get("unique") or old.get("primary_key")
        if costs is Cost.INDEXES or any(" COLLATE " in one for one in altered):
            return ", ".join(told.indexed) if told else "those that Django made" if declared else ""
        if not altered or told is None or change.old == change.new or Type.of(change.old) == Type.of(change.new):
            return ""
        definitions = {name: case.facts.index(name).value or "" for name in told.indexed}
        return ", ".join(name for name, sql in definitions.items() if _is_more_than_columns(sql))


def _is_more_than_columns(definition: str) -> bool:
    """Whether an index has a condition or an expression, which PostgreSQL does not compare when a type changes."""
    made = next((one for one in definition.split("; ") if one.startswith("CREATE ")), "")
    return " WHERE " in made or bool(re.search(r"USING \w+ \(.*\(", made))


class ImpossibleCast(Rule):
    """Some types cannot become each other."""

    id = "impossible-cast"
    catches = "A change of type for which PostgreSQL has no cast, so that the migration fails."
    severity = "blocked"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """It fails on an empty table too."""
        change = _change(case) if runs(case) else None
        if change is None or cost(change.old, change.new) is not Cost.IMPOSSIBLE:
            return
        yield self.finding(
            case,
            f"The migration fails: {change.table}.{change.column} cannot be cast from {change.old} to {change.new}.",
            mitigation=_two_columns(case, change),
            subject=f"{change.table}.{change.column}",
        )


class NarrowColumnType(Rule):
    """Values may not fit a narrower type."""

    id = "narrow-column-type"
    catches = "A column gets a type that cannot hold all that the old one could."
    severity = "high"
    harm = "old code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Even where every row fits, running code may still write what does not."""
        change = _change(case) if runs(case) else None
        if change is None or case.history.is_new(change.table) or cost(change.old, change.new) is Cost.IMPOSSIBLE:
            return
        fits = fit(change.old, change.new)
        if fits is Fit.ALL or cost(change.old, change.new) is Cost.UNKNOWN:
            return
        old = changed(case)[0] or {}

        def ask(table: str, columns: list[str]) -> Answer[Count]:
            return case.facts.misfits(table, columns[0], change.new)

        said = rows_say(case, change.table, [old["column"]], ask)
        where = f"{known_as(case, change.table)}.{change.column}"
        column = rendered.quoted(change.column)
        broken = said.said is Said.BROKEN
        harm: Harm = self.harm
        if said.said is Said.HELD:
            if case.history.column_now(change.table, old["column"]) is None:
                return
            message = f"All values of {where} fit {change.new}, but running code may still write some that do not."
            severity: Severity = "medium"
        elif broken:
            message = f"Values of {where} that do not fit {change.new} {_WHAT_BECOMES[fits]}."
            severity, harm = ("blocked", "fails") if fits is Fit.REFUSED else ("high", "loss")
        else:
            message = f"Values of {where} that do not fit {change.new}, if there are any, {_WHAT_BECOMES[fits]}."
            severity = "unknown"
        misfits = misfit_condition(column, change.old, change.new)
        yield self.finding(
            case,
            message,
            evidence=said.evidence if said.said is not Said.NOT_ASKED else [],
            mitigation=(
                "Let the release before it write only what fits, and mend the rest"
                + (f": {rendered.selecting(change.table, misfits)}" if misfits else " in batches."),
                f"Or leave the type as it is and validate the length or range in Python: {field_path(case)}.",
            ),
            subject=f"{change.table}.{change.column}",
            severity=severity,
            harm=harm,
        )


class ChangeColumnKind(Rule):
    """Code that knows a number sends and expects numbers."""

    id = "change-column-kind"
    catches = "A column becomes of another kind (text, number, time, ...) than running code sends and expects."
    severity = "high"
    harm = "old code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Numbers of other sizes, and texts of other lengths, are understood."""
        change = _change(case) if runs(case) else None
        if change is None or not is_known(case, change.table) or not is_other_kind(change.old, change.new):
            return
        old = changed(case)[0] or {}
        if case.history.column_now(change.table, old["column"]) is None:
            return
        if cost(change.old, change.new) in (Cost.IMPOSSIBLE, Cost.UNKNOWN):
            return
        yield self.finding(
            case,
            f"Statements of the running release on {change.table}.{change.column} fail or are misread: it sends and "
            f"expects {change.old}, and the column is then {change.new}.",
            mitigation=_two_columns(case, change),
            subject=f"{change.table}.{change.column}",
        )


class ViewNeedsType(Rule):
    """A view holds the types of its columns; so do policies, triggers and generated columns."""

    id = "view-needs-type"
    catches = (
        "A change of type of a column that a view, policy, trigger or generated column uses, which PostgreSQL refuses."
    )
    severity = "blocked"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A function whose text names the column does not hinder."""
        change = _change(case) if runs(case) else None
        if change is None or Type.of(change.old) == Type.of(change.new):
            return
        old = changed(case)[0] or {}
        now = case.history.table_now(change.table)
        column_now = case.history.column_now(change.table, old["column"])
        told = case.facts.dependents(now, column_now) if now and column_now else None
        held = holders((told.value if told else None) or (), case.history.dropped)
        if told is None or not held:
            return
        yield self.finding(
            case,
            f"The migration fails: {', '.join(held)} uses {change.table}.{change.column}, so its type cannot change.",
            evidence=[told.evidence],
            mitigation=(
                f"RunSQL before it that drops {', '.join(held)}, and after it makes it again, in the same migration.",
            ),
            subject=f"{change.table}.{change.column}",
        )


RULES: tuple[Rule, ...] = (
    RewriteColumnType(),
    RebuildIndex(),
    ImpossibleCast(),
    NarrowColumnType(),
    ChangeColumnKind(),
    ViewNeedsType(),
)
