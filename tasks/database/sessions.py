"""Sessions: finding those that an earlier attempt left running on the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import psycopg

from tasks.database.connection import connect, explained
from tasks.release.environment import Database
from tasks.release.errors import DatabaseError

POLL_S = 0.5


@dataclass(frozen=True)
class Session:
    """A session on the server, without what it is at: a statement may hold rows, or a password."""

    pid: int
    name: str
    state: str
    since: datetime  # when it connected


def sessions_of(database: Database, prefix: str) -> tuple[Session, ...]:
    """The sessions in a database whose application_name begins with `prefix`.

    Raises:
        DatabaseError: The server cannot be reached.
    """
    with connect(database, "look for sessions left behind", statement_timeout_s=10, autocommit=True) as connection:
        try:
            rows = connection.execute(
                "SELECT pid, application_name, coalesce(state, 'unknown'), backend_start FROM pg_stat_activity"
                " WHERE datname = current_database() AND starts_with(application_name, %s)"
                " AND backend_start IS NOT NULL ORDER BY backend_start",
                [prefix],
            ).fetchall()
        except psycopg.Error as error:
            raise explained(error, "cannot look for sessions left behind") from None
    return tuple(Session(*row) for row in rows)


def wait_until_gone(database: Database, prefix: str, timeout_s: float, report: Callable[[str], None]) -> None:
    """Wait until no session whose application_name begins with `prefix` works in the database any more.

    A killed `migrate` leaves its server process at work until the running statement ends: starting the next one beside
    it would run the same migration twice.

    Raises:
        DatabaseError: One is still there after `timeout_s` seconds; the message says which.
    """
    deadline = time.monotonic() + timeout_s
    told = False
    with connect(database, "look for sessions left behind", autocommit=True) as connection:
        while True:
            try:
                row = connection.execute(
                    "SELECT pid, state, coalesce(query_start, backend_start) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND starts_with(application_name, %s)",
                    [prefix],
                ).fetchone()
            except psycopg.Error as error:
                raise explained(error, "cannot look for sessions left behind") from None
            if row is None:
                return
            pid, state, since = row
            # Not what it is at: a statement may hold rows, or a password.
            what = f"server process {pid} of an earlier attempt is {state}, its statement began {since:%d %H:%M:%S %Z}"
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"{what}, still after {timeout_s:.0f} s", hint=f"SELECT pg_terminate_backend({pid}), then run again"
                )
            if not told:
                report(f"{what}; waiting for it to end")
                told = True
            time.sleep(POLL_S)
