"""A pooler such as PgBouncer: it hands a session's statements to whichever server process is free."""

from __future__ import annotations

import psycopg

from tasks.app.residence import Hello
from tasks.database.connection import connect, explained, name_of
from tasks.release.environment import Database, Environment
from tasks.release.plan import Reached

HARM = "session settings (lock_timeout, statement_timeout) and advisory locks do not hold across it"


def poolers(environment: Environment, reached: Reached, hello: Hello | None) -> tuple[str, ...]:
    """Where a pooler is in between, a sentence each.

    Args:
        environment: Whose [database] is looked at.
        reached: What the application's own connection to the live database reported.
        hello: What the application told of the scratch database.

    Raises:
        DatabaseError: The database cannot be reached.
    """
    found = []
    if reached.pooled:
        found.append(f"the application reaches {reached.database} at {reached.host}:{reached.port} through a pooler")
    if is_pooled(environment.database):
        found.append(f"[database] {name_of(environment.database)} is a pooler, not the server itself")
    scratch = environment.backup.scratch_server
    if scratch and hello and hello.pooled:
        found.append(f"[backup.scratch_server] {name_of(scratch)} is a pooler, not the server itself")
    return tuple(f"{sentence}: {HARM}; migrate by a connection to the server itself" for sentence in found)


def is_pooled(database: Database) -> bool:
    """Whether the process that answers is another one than the one that was connected to.

    Raises:
        DatabaseError: The database cannot be reached.
    """
    with connect(database, "rehearsal: pooler") as connection:
        try:
            row = connection.execute("select pg_backend_pid()").fetchone()
        except psycopg.Error as error:
            raise explained(error, "cannot ask which process answers") from None
        return row is not None and row[0] != connection.info.backend_pid
