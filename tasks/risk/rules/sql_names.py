"""Rules over hand-written SQL that drops or renames what running code may use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.release.risk import Finding
from tasks.risk.references import Named, Reference, examine, told
from tasks.risk.rule import Case, Rule
from tasks.risk.rules.references import serving_names
from tasks.risk.rules.sql_rule import SqlRule, now_in, weight_of
from tasks.risk.spots import Spot, runs, written_as_sql
from tasks.risk.sql_actions import Action

_MAKING = frozenset({"create-table", "rename-table", "add-column", "rename-column"})


class Remove(SqlRule):
    """DROP of what running code may use."""

    id = "sql-remove"
    catches = "A table, view or column that running code may still use is dropped, with everything in it."
    severity = "high"
    harm = "old code"
    kinds = frozenset({"drop-column", "drop-table", "drop-view", "drop-cascade", "drop-function"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """What is gone afterwards."""
        action = spot.action
        made = [each for each in spot.before if each.kind.startswith("create-")]
        if any(action.name in (each.table, each.name) for each in made) or weight_of(case, spot).new:
            return
        if action.kind in ("drop-table", "drop-view") and case.facts.exists(now_in(case, action.table)).value is False:
            return
        if action.kind in ("drop-view", "drop-function") and self._comes_back(case, spot):
            return
        uses = _uses(case, spot) if action.kind in ("drop-column", "drop-table") else None
        if _is_out_of_use(uses):
            yield from self._lost(case, spot)
            return
        usage = list(told(uses or ()))
        if action.table:
            column = action.name if action.kind == "drop-column" else None
            usage.append(case.facts.usage(now_in(case, action.table), column).evidence)
        if action.kind == "drop-cascade":
            words = f"DROP {action.text} {action.name} CASCADE drops whatever depends on it, tables and columns too"
            steps = ["drop by name what is meant to go, and then the rest without CASCADE"]
        elif action.kind == "drop-column":
            words = (
                f"{action.table}.{action.name} is dropped: running code that names it fails, and its values are lost"
            )
            steps = [
                (
                    "first release: SeparateDatabaseAndState(state_operations=[RemoveField(…)]), and ALTER COLUMN"
                    f" {action.name} DROP NOT NULL where it is NOT NULL"
                ),
                f"next release, when no running code names it: ALTER TABLE {action.table} DROP COLUMN {action.name}",
            ]
        else:
            what = action.kind.removeprefix("drop-")
            lost = ", and its rows are lost" if what == "table" else ""
            words = f"the {what} {action.name} is dropped: running code that uses it fails{lost}"
            steps = [
                "first release: take it out of the code (DeleteModel as a state operation only)",
                f"next release: DROP {what.upper()} {action.name}, after a backup of it",
            ]
        yield self.found(case, spot, words, steps, evidence=usage)

    def _lost(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """What no running code names: its rows or values are lost all the same."""
        action = spot.action
        table, column = case.history.table_now(action.table), None
        if action.kind == "drop-column":
            column = case.history.column_now(action.table, action.name)
        if table is None or (action.kind == "drop-column" and column is None):
            return
        rows = case.facts.rows(table)
        nulls = case.facts.nulls(table, column).value if column else None
        empty = nulls is not None and not nulls.sampled and 0 < nulls.of == nulls.count
        if rows.value == 0 or empty:
            return
        what = f"the values of {action.table}.{action.name}" if column else f"the rows of {action.table}"
        steps = [f"keep them first: CREATE TABLE {action.table}_kept AS TABLE {action.table}; or be sure of the backup"]
        words = f"{what} are lost; no running code names them"
        yield self.found(case, spot, words, steps, evidence=[rows.evidence], harm="loss")

    @staticmethod
    def _comes_back(case: Case, spot: Spot) -> bool:
        """Whether a later statement of the same atomic migration makes it again."""
        texts = [text for each in case.migration.operations for text in each["sql"] or ()]
        words = [" ".join(text.lower().replace('"', " ").split()) for text in texts]
        name = spot.action.name.lower()
        made = [f"create {what}{name}" for what in ("view ", "or replace view ", "materialized view ", "function ")]
        return case.migration.atomic and any(each in text for text in words for each in made)


class Rename(SqlRule):
    """A name that running code looks for in vain."""

    id = "sql-rename"
    catches = "A table or column that running code knows gets another name."
    severity = "high"
    harm = "old code"
    kinds = frozenset({"rename-table", "rename-column"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """Names that the running code looks for in vain."""
        action = spot.action
        uses = None if weight_of(case, spot).new else _uses(case, spot)
        if weight_of(case, spot).new or _is_out_of_use(uses):
            return
        what = f"{action.table}.{action.name}" if action.name else action.table
        yield self.found(
            case,
            spot,
            f"{what} is called {action.text} from then on: every query of the running code that names it fails",
            [
                (
                    f"keep the name in the database: db_{'column' if action.name else 'table'} = "
                    f"{(action.name or action.table)!r} in the model"
                ),
                "or expand and contract: a new one beside it, both written, the old one dropped a release later",
            ],
            evidence=told(uses or ()),
        )


class StillNamed(SqlRule):
    """Code that fails after the release, since what it names is gone."""

    id = "sql-still-named"
    catches = "The new code still names a column or a table that hand-written SQL drops or renames."
    severity = "high"
    harm = "new code"
    kinds = frozenset({"drop-column", "drop-table", "rename-column", "rename-table"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """Only what is certain counts; what another pending operation makes (again) under that name is there."""
        action = spot.action
        if case.migration.backwards or _is_made(case, action):
            return
        references = self._in_new_code(case, action)
        certain = [reference for reference in references if reference.certain]
        if not certain:
            return
        column = action.name if action.kind.endswith("column") else ""
        what = f"{action.table}.{column}" if column else action.table
        verb = "drops" if action.kind.startswith("drop") else "renames"
        lines = "1 line of the new code still names" if len(certain) == 1 else (
            f"{len(certain)} lines of the new code still name"
        )  # fmt: skip
        files = ", ".join(dict.fromkeys(reference.file for reference in certain))
        yield self.found(
            case,
            spot,
            f"{lines} {what}, which this migration {verb}: they fail once it is applied",
            [f"take it out of {files}", f"or leave {what} as it is until a release whose code does not name it"],
            evidence=told(references),
        ).model_copy(update={"file": certain[0].file, "line": certain[0].line})

    @staticmethod
    def _in_new_code(case: Case, action: Action) -> Sequence[Reference]:
        app, table = case.migration.app, action.table
        if not action.kind.endswith("column"):
            return examine(case.source, Named(app, None, table)).references
        column = action.name
        found = examine(case.source, Named(app, None, table, None, column)).references
        if any(reference.certain for reference in found):
            return found
        # The model has no such field any more: queries and attributes may still say its name.
        field = column.removesuffix("_id")
        return examine(case.source, Named(app, None, table, field, column)).references


def _is_made(case: Case, action: Action) -> bool:
    """Whether a pending operation makes a table or column of the name of one that is dropped or renamed."""
    column = action.name if action.kind.endswith("column") else ""
    for operation in (each for migration in case.pending for each in migration.operations if runs(each)):
        if operation["kind"] == "CreateModel" and operation["table"] == action.table:
            return True
        fields = operation["fields"] if operation["table"] == action.table and column else []
        if any(each["new"] and each["new"]["column"] == column for each in fields if not each["old"]):
            return True
        for made in written_as_sql(operation):
            table, name = (made.text, "") if made.kind == "rename-table" else (made.table, made.name)
            name = made.text if made.kind == "rename-column" else name
            if made.kind in _MAKING and (table, name) == (action.table, column):
                return True
    return False


def _uses(case: Case, spot: Spot) -> Sequence[Reference] | None:
    """How the running code names the table or column of an action; None: that is not known."""
    action = spot.action
    table = case.history.table_now(action.table)
    column = action.name if action.kind in ("drop-column", "rename-column") else None
    if column is not None:
        column = case.history.column_now(action.table, column)
    if table is None or (column is None and action.kind in ("drop-column", "rename-column")):
        return ()  # a pending migration makes it
    return serving_names(case, Named(case.migration.app, None, table, None, column))


def _is_out_of_use(uses: Sequence[Reference] | None) -> bool:
    return uses is not None and not any(use.certain for use in uses)


RULES: tuple[Rule, ...] = (Remove(), Rename(), StillNamed())
