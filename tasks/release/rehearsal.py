"""What a rehearsal measured: the release's migrations applied, reversed and applied again on the restored backup."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from tasks.release.record import Record


class Statement(Record):
    """A statement of a migration; the same text issued many times is one entry."""

    sql: str  # as sent, without its parameters; at most 2,000 characters
    count: int
    began_s: float  # of the first one, from the beginning of the migration
    seconds: float  # of all of them
    rows: int  # touched, as the server counted them
    locks: dict[str, str]  # relation that was there before to the lock that this statement took first or made stronger
    rewrites: tuple[str, ...]  # relations and indexes that were there before and got a new file


class HeldLock(Record):
    """The strongest lock on a relation that was there before the migration."""

    relation: str
    mode: str  # such as AccessExclusiveLock
    held_s: float  # from the statement that took it to the end of its transaction
    blocks: str  # "reads and writes", "writes", "writes to the changed rows" or "": what it keeps waiting


class Broken(Record):
    """Something that the previous release does and that fails on the migrated database."""

    what: str  # "select documents.Document", "insert documents.Document", "GET /api/health"
    query: str  # the statement, or the request
    error: str


class Loss(Record):
    """Rows or values that are not what they were, after the migration was reversed."""

    relation: str
    column: str | None  # None: whole rows
    kind: str  # "gone", "changed" or "added"
    count: int


class MigrationRehearsal(Record):
    """One migration on the restored backup."""

    migration: str  # app.name
    seconds: float | None  # None: it was not reached
    blocking_s: float | None  # the longest that one relation's readers or writers would have waited
    statements: tuple[Statement, ...]
    locks: tuple[HeldLock, ...]
    rewrites: tuple[str, ...]
    rows: dict[str, int]  # relation to rows inserted, updated and deleted
    error: str = ""  # why it could not be applied
    not_tried: str = ""  # why it could not be tried here, which says nothing about the real database
    backward_compatible: bool | None = None  # None: could not be found out
    broken: tuple[Broken, ...] = ()  # what the previous release cannot do any more, once this one is applied
    reversible: bool | None = None
    irreversible_because: str = ""
    reverse_s: float | None = None
    schema_restored: bool | None = None  # after the reversal the schema was what it was before
    schema_differences: tuple[str, ...] = ()
    losses: tuple[Loss, ...] = ()
    again_identical: bool | None = None  # applied a second time, the schema was what it was after the first
    again_differences: tuple[str, ...] = ()


class Rehearsal(Record):
    """All pending migrations of a release on its restored backup."""

    migrations: tuple[MigrationRehearsal, ...]  # in the order of the plan
    previous_commit: str  # whose queries were tried
    restored_bytes: int  # size of the copy on the server
    seconds: float  # of the rehearsal, without the restore
    needs: tuple[Broken, ...] | None = None  # what the new code cannot do before the migrations; None: not tried
    # Path or route of a request of the smoke test to the relations that its statements named, in the previous release.
    routes: dict[str, tuple[str, ...]] = Field({})
    findings: tuple[str, ...]  # what could not be tried, and what is worth knowing (a pooler in between, ...)
    rehearsed_at: datetime

    @property
    def passed(self) -> bool:
        """Whether every migration was applied, twice."""
        return all(migration.error == "" and migration.seconds is not None for migration in self.migrations)
