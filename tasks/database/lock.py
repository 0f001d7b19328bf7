"""Advisory locks: one release, and one migration, at a time per database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tasks.database.connection import connect, explained
from tasks.release.environment import Database
from tasks.release.errors import ReleaseInProgressError


@contextmanager
def advisory_lock(database: Database, subject: str, holder: str) -> Iterator[None]:
    """Hold an advisory lock on a connection of its own for as long as the block runs.

    The lock lies in the maintenance database: an advisory lock belongs to one database, and a rollback gives the
    application's database another name. PostgreSQL drops it when this process dies, however it dies.

    Args:
        database: The application's database, as configured.
        subject: What only one may do at a time, such as `release` or `migrate`.
        holder: Who holds it, told to whoever comes second.

    Raises:
        ReleaseInProgressError: Somebody holds it; the message says who and since when.
        DatabaseError: The server cannot be reached.
    """
    key = _key(database.name, subject)
    with connect(database, f"{subject} {holder}", dbname=database.maintenance_database, autocommit=True) as connection:
        try:
            connection.execute("SET idle_session_timeout = 0")
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
            if row != (True,):
                raise ReleaseInProgressError(
                    f"another {subject} is under way on {database.name}: {_holder(connection, key)}",
                    hint="wait for it to end; when its process is gone the lock is gone too",
                )
        except psycopg.Error as error:
            raise explained(error, f"cannot take the {subject} lock of {database.name}") from None
        yield


def _key(dbname: str, subject: str) -> int:
    digest = hashlib.sha256(f"runbook/{subject}/{dbname}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _holder(connection: psycopg.Connection[tuple[object, ...]], key: int) -> str:
    row = connection.execute(
        """
        SELECT a.application_name, a.backend_start, coalesce(host(a.client_addr), 'a local socket')
        FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
          AND ((l.classid::bigint << 32) | l.objid::bigint) = %s
        """,
        [key],
    ).fetchone()
    if row is None:
        return "it ended just now; run this again"
    name, since, address = row
    if since is None:
        return f"{name}, of another role"  # the server tells no more of it to this one
    return f"{name}, since {since:%Y-%m-%d %H:%M:%S %Z}, from {address}"
