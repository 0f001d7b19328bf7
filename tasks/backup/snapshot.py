"""One exported snapshot, which the dump and every fingerprint see the database through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import IsolationLevel, sql

from tasks.database.connection import connect, explained, name_of
from tasks.release.environment import Database
from tasks.release.errors import BackupError

Connection = psycopg.Connection[tuple[Any, ...]]

# Text forms must be equal on both sides of a restore, and a long dump must not end on a timeout of role or database.
PINNED = {
    "search_path": "pg_catalog",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "row_security": "off",
    "quote_all_identifiers": "off",
    "statement_timeout": "0",
    "lock_timeout": "60s",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",  # PostgreSQL 17 and newer
}


class Snapshot(NamedTuple):
    """An exported snapshot and the connection that keeps it."""

    id: str
    connection: Connection


@contextmanager
def exported(database: Database) -> Iterator[Snapshot]:
    """Take a snapshot and hold it.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
        BackupError: The connection that holds the snapshot was lost meanwhile.
    """
    with reading(database, "backup snapshot") as connection:
        try:
            row = connection.execute("select pg_export_snapshot()").fetchone()
        except psycopg.Error as error:
            raise explained(error, f"cannot export a snapshot of {name_of(database)}") from None
        assert row is not None  # noqa: S101 -- one row by definition
        yield Snapshot(row[0], connection)
        try:
            connection.execute("select 1")
        except psycopg.Error as error:
            raise BackupError(
                f"the connection that held the backup's snapshot was lost: {str(error).strip()}",
                hint="was the server restarted, or the session ended by somebody or by a proxy's idle timeout?",
                retryable=True,
            ) from None


def join(connection: Connection, snapshot: str | None) -> None:
    """Begin a transaction of a connection on an exported snapshot; without one it begins with its first statement."""
    if snapshot:
        connection.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))


@contextmanager
def reading(
    database: Database, purpose: str, *, dbname: str | None = None, snapshot: str | None = None
) -> Iterator[Connection]:
    """A read-only connection with pinned settings, in one transaction, on a snapshot of its own or an exported one.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    connection = connect(database, purpose, dbname=dbname, statement_timeout_s=0, autocommit=True)
    try:
        try:
            connection.execute(
                "select set_config(name, v, false) from unnest(%s::text[], %s::text[]) as pinned(n, v)"
                " join pg_settings on lower(name) = lower(n)",
                [list(PINNED), list(PINNED.values())],
            )
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            connection.autocommit = False
            join(connection, snapshot)
        except psycopg.Error as error:
            raise explained(error, f"cannot read in a snapshot of {dbname or database.name}") from None
        yield connection
    finally:
        connection.close()
