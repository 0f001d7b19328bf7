"""What the pending migrations before an operation have done: a table that they made is nobody's table yet."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.release.plan import Migration
from tasks.risk import rendered
from tasks.risk.sql_actions import Action, understood

Operation = dict[str, Any]  # as the docstring of tasks/app/probe.py describes it

_WRITES = re.compile(r'\b(?:UPDATE(?: ONLY)?|INSERT INTO|DELETE FROM(?: ONLY)?|COPY|MERGE INTO)\s+([\w".]+)', re.I)
_RENAMING = {"RenameModel", "AlterModelTable"}


@dataclass
class History:
    """The way from the database as it is to the moment before an operation.

    Tables and columns are named as they are at that moment; `table_now` and `column_now` say what the database calls
    them now, before any pending migration.
    """

    made: set[str] = field(default_factory=set)  # tables that a pending migration creates
    gone: set[str] = field(default_factory=set)  # tables that a pending migration drops or renames
    columns_made: set[tuple[str, str]] = field(default_factory=set)
    columns_empty: set[tuple[str, str]] = field(default_factory=set)  # of those made, such as are NULL in every row
    columns_unset: set[tuple[str, str]] = field(default_factory=set)  # of those made, such as an old INSERT leaves NULL
    types_changed: set[tuple[str, str]] = field(default_factory=set)  # columns to which a pending migration gave one
    tables: dict[str, str] = field(default_factory=dict)  # new name to the name in the database
    columns: dict[tuple[str, str], str] = field(default_factory=dict)  # (table, new name) to the name in the database
    not_null_checked: set[tuple[str, str]] = field(default_factory=set)  # by a CHECK that a pending migration validates
    null_refused: set[tuple[str, str]] = field(default_factory=set)  # by what a pending migration adds
    written: dict[str, list[str]] = field(default_factory=dict)  # table ("" for any) to the migrations that write it
    within: list[Operation] = field(default_factory=list)  # earlier operations of the same migration
    not_valid: dict[tuple[str, str], Action] = field(default_factory=dict)  # constraints added so: (table, name)
    dropped: set[str] = field(default_factory=set)  # views, functions, triggers and policies that SQL drops

    def is_new(self, table: str) -> bool:
        """Whether no running code knows the table, since a pending migration makes it."""
        return table in self.made

    def table_now(self, table: str) -> str | None:
        """What the database calls a table now; None: it is not there yet."""
        return None if table in self.made else self.tables.get(table, table)

    def column_now(self, table: str, column: str) -> str | None:
        """What the database calls a column now; None: it is not there yet."""
        if table in self.made or (table, column) in self.columns_made:
            return None
        return self.columns.get((table, column), column)

    def writers(self, table: str) -> tuple[str, ...]:
        """Pending migrations before this one that may have changed the rows of a table."""
        return tuple(dict.fromkeys([*self.written.get(table, []), *self.written.get("", [])]))

    def begin(self, _migration: Migration) -> None:
        """Note that a migration begins."""
        self.within = []

    def note(self, migration: Migration, operation: Operation) -> None:
        """Note that an operation is done."""
        self.within.append(operation)
        if not operation["allowed"] or operation["state_only"]:
            return
        kind, table = operation["kind"], operation["table"]
        if kind == "CreateModel":
            self.made.add(table)
        elif kind == "DeleteModel":
            self._forget(table)
        elif kind in _RENAMING and operation["old_name"] != operation["new_name"]:
            self._rename_table(operation["old_name"], operation["new_name"])
        if kind in _RENAMING:
            for rename in rendered.renames(migration):
                if rename.column is None and rename.table.startswith(f"{operation['old_name']}_"):
                    self._rename_table(rename.table, rename.new)
        for told in operation["fields"]:
            self._note_field(migration, kind, table, told["old"], told["new"])
        self._note_constraint(kind, table, operation["constraint"])
        self._note_data(migration, operation)

    def _note_field(
        self, migration: Migration, kind: str, table: str, old: Operation | None, new: Operation | None
    ) -> None:
        behind, behind_new = (told["many_to_many_table"] if told else None for told in (old, new))
        self._note_table_behind(migration, behind, behind_new)
        before, after = (told["column"] if told and told["type"] else None for told in (old, new))
        if kind == "AddField" and after and table not in self.made:
            self.columns_made.add((table, after))
            if new and not (new["db_default"] or new["generated"]):
                self.columns_unset.add((table, after))
            if new and new["null"] and not (new["default"] or new["db_default"] or new["generated"]):
                self.columns_empty.add((table, after))
        elif kind == "RemoveField" and before:
            self._forget_column(table, before)
        elif before and after and before != after:
            self._rename_column(table, before, after)
        if old and new and after and old["type"] != new["type"]:
            self.types_changed.add((table, after))

    def _note_table_behind(self, migration: Migration, old: str | None, new: str | None) -> None:
        """Note what becomes of the table behind a many-to-many field."""
        if old and new:
            if old != new:
                self._rename_table(old, new)
        elif new and rendered.creates_table(migration, new):
            self.made.add(new)
        elif old and rendered.drops_table(migration, old):
            # A model behind the field goes by an operation of its own.
            models = {each["table"] for each in migration.operations if each["kind"] == "DeleteModel"}
            if old not in models:
                self._forget(old)

    def _rename_column(self, table: str, old: str, new: str) -> None:
        now = self.column_now(table, old)
        self.columns.pop((table, old), None)
        if now is not None:
            self.columns[table, new] = now
        for names in self._sets_of_columns():
            if (table, old) in names:
                names.remove((table, old))
                names.add((table, new))

    def _rename_table(self, old: str, new: str) -> None:
        if old in self.made:
            self.made.remove(old)
            self.made.add(new)
        elif old not in self.gone:
            self.tables[new] = self.tables.pop(old, old)
        self.gone.add(old)
        self.gone.discard(new)
        for names in self._sets_of_columns():
            moved = {name for name in names if name[0] == old}
            names.difference_update(moved)
            names.update((new, column) for _, column in moved)
        self.columns = {(new if table == old else table, name): now for (table, name), now in self.columns.items()}
        if old in self.written:
            self.written[new] = self.written.pop(old)

    def _sets_of_columns(self) -> tuple[set[tuple[str, str]], ...]:
        return (
            self.columns_made,
            self.columns_empty,
            self.columns_unset,
            self.types_changed,
            self.not_null_checked,
            self.null_refused,
        )

    def _forget_column(self, table: str, column: str) -> None:
        self.columns.pop((table, column), None)
        for names in self._sets_of_columns():
            names.discard((table, column))

    def _forget(self, table: str) -> None:
        self.made.discard(table)
        self.tables.pop(table, None)
        self.gone.add(table)

    def _note_constraint(self, kind: str, table: str, constraint: Operation | None) -> None:
        if constraint is None or constraint["kind"] != "CheckConstraint":
            return
        check = rendered.check_of(constraint["sql"]) or ""
        if kind == "RemoveConstraint":
            self.not_null_checked -= _not_null(table, check)
            self.null_refused -= _not_null(table, check)
            self.not_valid.pop((table, constraint["name"]), None)
        elif kind == "AddConstraintNotValid":
            self._add_constraint(Action("add-check", table, constraint["name"], check, frozenset({"not valid"})))
        else:
            self._add_constraint(Action("add-check", table, constraint["name"], check))

    def _add_constraint(self, action: Action) -> None:
        columns = _not_null(action.table, action.text) if action.kind == "add-check" else set()
        self.null_refused |= columns
        if "not valid" in action.marks:
            self.not_valid[action.table, action.name] = action
        else:
            self.not_valid.pop((action.table, action.name), None)
            self.not_null_checked |= columns

    def _note_data(self, migration: Migration, operation: Operation) -> None:
        if operation["code"] is not None and not operation["code"]["name"].endswith("RunPython.noop"):
            self._write("", migration)
        for statement in operation["sql"] or ():
            for table in _WRITES.findall(statement):
                self._write(_bare(table), migration)
            for written, actions in understood(statement):
                for action in actions:
                    self._note_action(action, maybe=" IF NOT EXISTS " in " ".join(written.text.upper().split()))

    def _note_action(self, action: Action, *, maybe: bool) -> None:  # noqa: C901, PLR0912 - one branch for each form
        """Note what hand-written SQL does; `maybe`: only where it is not there yet."""
        table, column = action.table, action.name
        match action.kind:
            case "create-table":
                self.made.add(table)
            case "drop-table":
                self._forget(table)
            case "rename-table":
                self._rename_table(table, _in_schema_of(table, action.text))
            case "rename-column":
                self._rename_column(table, column, action.text)
            case "drop-column":
                self._forget_column(table, column)
            case "alter-type":
                self.types_changed.add((table, column))
            case "set-not-null":
                self.null_refused.add((table, column))
                self.not_null_checked.add((table, column))
            case "drop-not-null":
                self.null_refused.discard((table, column))
                self.not_null_checked.discard((table, column))
            case "add-check" | "add-foreign-key":
                self._add_constraint(action)
            case "validate" if (table, column) in self.not_valid:
                self._add_constraint(replace(self.not_valid[table, column], marks=frozenset()))
            case "drop-view" | "drop-function" | "drop-of-table":
                self.dropped.add(action.name)
            case "add-column" if table not in self.made and not maybe:
                self.columns_made.add((table, column))
                if not action.marks & {"default", "volatile", "generated"}:
                    self.columns_unset.add((table, column))
                    self.columns_empty |= {(table, column)} if "not null" not in action.marks else set()

    def _write(self, table: str, migration: Migration) -> None:
        self.written.setdefault(table, []).append(migration.label)


def _bare(name: str) -> str:
    """A name from handwritten SQL as Django writes it."""
    return name.replace('"', "").rpartition(".")[2]


def _not_null(table: str, check: str) -> set[tuple[str, str]]:
    return {(table, column) for column in rendered.not_null_columns(check)}


def _in_schema_of(table: str, new: str) -> str:
    """The new name of a table as Django writes it: in the old one's schema where none is named."""
    schema, dot, _ = table.rpartition('"."')
    return new.replace(".", '"."', 1) if "." in new else f"{schema}{dot}{new}"
