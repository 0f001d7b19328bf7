"""Advisory locks: one release, and one migration, at a time per database."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from tasks.database.connection import connect, explained
from tasks.release.environment import Database
from tasks.release.errors import ReleaseInProgressError

# pg_locks shows a key of 64 bits in two halves; objsubid 1 says that it is one.
_OF_KEY: LiteralString = (
    "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND ((classid::bigint << 32) | objid::bigint) = %s"
)
_IS_OURS: LiteralString = "SELECT EXISTS (SELECT " + _OF_KEY + " AND pid = pg_backend_pid())"
_WHOSE: LiteralString = (
    "SELECT application_name, backend_start, coalesce(host(client_addr), 'a local socket') " + _OF_KEY
)

SWEEP = "the sweep"  # a holder that looks after the dead and is soon gone: nobody is refused for its sake
SWEEP_PATIENCE_S = 300.0  # longer than it takes to switch maintenance mode off
POLL_S = 0.2


@dataclass(frozen=True)
class Held:
    """An advisory lock that was taken, and the connection that it depends on."""

    connection: psycopg.Connection[tuple[Any, ...]]
    key: int
    name: str

    def is_held(self) -> bool:
        """Whether the lock is still ours."""
        try:
            return self.connection.execute(_IS_OURS, [self.key]).fetchone() == (True,)
        except psycopg.Error:
            return False

    def check(self) -> None:
        """Refuse to go on when the lock is gone: the server was restarted, or a pooler moved the session.

        Raises:
            ReleaseInProgressError: It is not held any more; somebody else may hold it by now.
        """
        if not self.is_held():
            raise ReleaseInProgressError(
                f"the {self.name} was lost: its connection ended, or goes through a pooler in transaction mode",
                hint="run it again; [database] must reach the server itself, not a pooler",
            )


@contextmanager
def advisory_lock(database: Database, subject: str, holder: str) -> Iterator[Held]:
    """Hold an advisory lock on a connection of its own for as long as the block runs.

    The lock lies in the maintenance database: an advisory lock belongs to one database, and a rollback gives the
    application's database another name. PostgreSQL drops it when this process dies, however it dies.
    Where the sweep holds it, it is waited for.

    Args:
        database: The application's database, as configured.
        subject: What only one may do at a time, such as `release` or `migrate`.
        holder: Who holds it, told to whoever comes second.

    Raises:
        ReleaseInProgressError: Somebody holds it, the message says who and since when; or a pooler is in the way.
        DatabaseError: The server cannot be reached.
    """
    key = _key(database.name, subject)
    # Not "migrate …": it must not be taken for a migrating session where both databases are one.
    purpose = f"lock of {subject} {holder}"
    with connect(database, purpose, dbname=database.maintenance_database, autocommit=True) as connection:
        try:
            connection.execute("SET idle_session_timeout = 0")
            if not _taken(connection, key, f"lock of {subject} {SWEEP}"):
                raise ReleaseInProgressError(
                    f"another {subject} is under way on {database.name}: {_holder(connection, key)}",
                    hint="wait for it to end; when its process is gone the lock is gone too",
                )
        except psycopg.Error as error:
            raise explained(error, f"cannot take the {subject} lock of {database.name}") from None
        held = Held(connection, key, f"{subject} lock of {database.name}")
        held.check()
        yield held


def holder_of(database: Database, subject: str) -> str | None:
    """Who holds an advisory lock, found out without taking it; None: nobody.

    Raises:
        DatabaseError: The server cannot be reached.
    """
    with connect(
        database, "look at locks", dbname=database.maintenance_database, statement_timeout_s=10, autocommit=True
    ) as connection:
        try:
            row = connection.execute(_WHOSE, [_key(database.name, subject)]).fetchone()
        except psycopg.Error as error:
            raise explained(error, f"cannot look at the {subject} lock of {database.name}") from None
    return _described(row) if row else None


def _taken(connection: psycopg.Connection[tuple[Any, ...]], key: int, momentary: str) -> bool:
    """Whether the lock was had; a holder of this purpose is waited for."""
    deadline = time.monotonic() + SWEEP_PATIENCE_S
    while connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone() != (True,):
        row = connection.execute(_WHOSE, [key]).fetchone()
        if (row and row[0] != f"runbook: {momentary}") or time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _key(dbname: str, subject: str) -> int:
    digest = hashlib.sha256(f"runbook/{subject}/{dbname}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _holder(connection: psycopg.Connection[tuple[Any, ...]], key: int) -> str:
    row = connection.execute(_WHOSE, [key]).fetchone()
    if row is None:
        return "it ended just now; run this again"
    return _described(row)


def _described(row: tuple[Any, ...]) -> str:
    name, since, address = row
    if since is None:
        return f"{name}, of another role"  # the server tells no more of it to this one
    return f"{name}, since {since:%Y-%m-%d %H:%M:%S %Z}, from {address}"
