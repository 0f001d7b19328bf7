"""Which migration a loss comes from, and which tables a migration touched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tasks.app.residence import MigrationRecord
from tasks.release.plan import Migration
from tasks.release.rehearsal import Loss

# Written by handlers of `post_migrate`, after the last migration, whatever that one did.
OF_HANDLERS = ("django_content_type", "auth_permission")
# Locks that reading takes: who holds no stronger one has written nothing.
READERS = ("AccessShareLock", "RowShareLock")
_RELATION = re.compile(r'^(?:(?:"(?:[^"]|"")*"|[^".]+)\.)?(?:"((?:[^"]|"")*)"|([^".]+))$')


@dataclass
class Touched:
    """What a migration laid hands on, applied and reversed."""

    migration: Migration | None  # None: not of the plan
    tables: set[str] = field(default_factory=set)  # as `schema.table`, quoted where need be
    written: set[str] = field(default_factory=set)  # those of them whose rows it changed

    def note(self, record: MigrationRecord) -> None:
        """Add what a record of it says."""
        self.written |= {relation for relation, rows in record.rows.items() if rows}
        self.tables |= self.written | set(record.rewrites)
        self.tables |= {lock.relation for lock in record.locks if lock.mode not in READERS}

    def note_catalogue(self, before: dict[str, str], after: dict[str, str]) -> None:
        """Add the tables that are new, gone or other than they were."""
        changed = {name for name, _ in before.items() ^ after.items()}
        self.tables |= {name.removeprefix("table ") for name in changed if name.startswith("table ")}

    @property
    def plain_tables(self) -> set[str]:
        """Its tables as Django names them: without schema and quotes; those that its operations name, too."""
        named = {operation["table"] for operation in self.migration.operations} if self.migration else set()
        return {name for name in named if name} | {plain(relation) for relation in self.tables}

    def names(self, relation: str, column: str | None) -> bool:
        """Whether an operation of it is about a column."""
        if self.migration is None or column is None:
            return False
        return any(
            operation["table"] == plain(relation) and column in _columns(operation)
            for operation in self.migration.operations
        )


def blame(losses: Iterable[Loss], reversed_: Sequence[Touched]) -> list[tuple[Loss, Touched]]:
    """Each loss with the migration it comes from.

    That is the last one with an operation on the column; else the last one that changed rows of the table; else the
    last one that touched it; else the last one.

    Args:
        losses: What was found after the reversal.
        reversed_: The migrations that were reversed, in the order in which they were applied; at least one.
    """
    found = []
    for loss in losses:
        ranked = max(
            enumerate(reversed_),
            key=lambda entry: (
                entry[1].names(loss.relation, loss.column),
                loss.relation in entry[1].written,
                loss.relation in entry[1].tables,
                entry[0],
            ),
        )
        found.append((loss, ranked[1]))
    return found


def plain(relation: str) -> str:
    """A table's own name, without schema and quotes."""
    found = _RELATION.match(relation)
    if not found:
        return relation
    return found[2] if found[1] is None else found[1].replace('""', '"')


def _columns(operation: dict[str, object]) -> set[object]:
    columns: set[object] = {operation.get("column"), operation.get("old_name"), operation.get("new_name")}
    fields = operation.get("fields")
    for pair in fields if isinstance(fields, (list, tuple)) else ():
        for side in (pair.get("old"), pair.get("new")):
            columns.add(side.get("column") if side else None)
    return columns - {None}
