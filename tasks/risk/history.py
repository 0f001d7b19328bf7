"""What the pending migrations before an operation have done: a table that they made is nobody's table yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks.release.plan import Migration

Operation = dict[str, Any]  # as the docstring of tasks/app/probe.py describes it


@dataclass
class History:
    """The way from the database as it is to the moment before an operation.

    Tables and columns are named as they are at that moment; `table_now` and `column_now` say what the database calls
    them now, before any pending migration.
    """

    made: set[str] = field(default_factory=set)  # tables that a pending migration creates
    columns_made: set[tuple[str, str]] = field(default_factory=set)
    tables: dict[str, str] = field(default_factory=dict)  # new name to the name in the database
    columns: dict[tuple[str, str], str] = field(default_factory=dict)  # (table, new name) to the name in the database
    not_null_checked: set[tuple[str, str]] = field(default_factory=set)  # by a CHECK that a pending migration validates
    written: dict[str, list[str]] = field(default_factory=dict)  # table ("" for any) to the migrations that write it
    within: list[Operation] = field(default_factory=list)  # earlier operations of the same migration

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
        raise NotImplementedError
