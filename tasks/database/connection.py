"""Connections: each with a name, a connect timeout and a statement timeout."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from tasks.release.environment import Database
from tasks.release.errors import DatabaseError

# SQLSTATE classes after which the same call may succeed: connection loss, resources, shutdown or restart, lock races.
PASSING_CLASSES = ("08", "53", "57P", "40", "55P03")
# The same in words, where there is no SQLSTATE: a connection that could not be made, and programs of others. Only what
# is known to pass is tried again, since a server tells a wrong password in its own language.
PASSING = re.compile(
    r"connection refused|no such file or directory\s+is the server running|timeout expired|timed out|connection reset|"
    r"broken pipe|no route to host|network is unreachable|temporary failure in name resolution|"
    r"server closed the connection|terminating connection|the connection is (lost|closed)|"
    r"could not (receive data from|send data to) server|SSL SYSCALL error|SSL connection has been closed|"
    r"unexpected eof|the database system is (starting up|shutting down|in recovery mode|not)|"
    r"too many (clients|connections)|remaining connection slots|lock timeout|deadlock detected",
    re.IGNORECASE,
)
# A connection that is dead is noticed after a minute, not after the two hours of the operating system; so is one on
# which something was sent and nothing acknowledged, where keepalives are not sent.
KEEPALIVES: dict[str, Any] = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
HINT = "check host, port, user, password, database name and sslmode in the environment file"
POOLER_HINT = (
    "a pooler such as PgBouncer is in between: let host and port in the environment file name the server itself, whose"
    " sessions keep snapshots, locks and settings"
)


def connect(
    database: Database,
    purpose: str,
    *,
    dbname: str | None = None,
    statement_timeout_s: float = 60,
    autocommit: bool = False,
) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection.

    Args:
        database: Where to and as whom.
        purpose: Shown in pg_stat_activity as `runbook: <purpose>`.
        dbname: Another database of the same server.
        statement_timeout_s: Limit of every statement, in seconds; 0 for none.
        autocommit: Whether every statement is a transaction of its own.

    Raises:
        DatabaseError: The server cannot be reached or refuses; retryable when the cause is known to pass.
    """
    parameters = parameters_of(database, purpose, dbname=dbname)
    try:
        return psycopg.connect(
            **parameters,
            options=f"-c statement_timeout={int(statement_timeout_s * 1000)} -c lock_timeout=10s",
            autocommit=autocommit,
        )
    except psycopg.Error as error:
        raise explained(error, f"cannot connect to {name_of(database, dbname)}") from None


def parameters_of(database: Database, purpose: str, *, dbname: str | None = None) -> dict[str, Any]:
    """Keyword arguments of libpq for a database; the password is in it in clear."""
    return {
        "host": database.host,
        "port": database.port,
        "dbname": dbname or database.name,
        "user": database.user,
        "password": database.password.get_secret_value() if database.password else None,
        "sslmode": database.sslmode,
        "connect_timeout": database.connect_timeout_s,
        "application_name": f"runbook: {purpose}"[:63],
        "client_encoding": "UTF8",  # in a SQL_ASCII database psycopg would hand names out as bytes
        **KEEPALIVES,
    }


def variables_of(database: Database, purpose: str, *, dbname: str | None = None) -> dict[str, str]:
    """Environment variables by which libpq's programs (pg_dump, psql) reach a database: no password in `ps`."""
    variables = {
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGDATABASE": dbname or database.name,
        "PGUSER": database.user,
        "PGSSLMODE": database.sslmode,
        "PGCONNECT_TIMEOUT": str(database.connect_timeout_s),
        "PGAPPNAME": f"runbook: {purpose}"[:63],
    }
    if database.password:
        variables["PGPASSWORD"] = database.password.get_secret_value()
    return variables


def conninfo_of(dbname: str) -> str:
    """What the environment of libpq's programs has no variable for, for their `--dbname`; no password is in it."""
    return make_conninfo(dbname=dbname, **KEEPALIVES)


def name_of(database: Database, dbname: str | None = None) -> str:
    """How a database is called in messages."""
    return f"{dbname or database.name} at {database.host}:{database.port} as {database.user}"


def explained(error: psycopg.Error, what: str) -> DatabaseError:
    """Our error for one of psycopg's: what was being done, the server's own words, and whether it may pass."""
    state = error.sqlstate
    words = str(error).strip() or type(error).__name__
    if state is None:
        # No SQLSTATE: the connection itself failed, or libpq refused before the server spoke.
        if is_passing(words):
            return DatabaseError(f"{what}: {words}", retryable=True)
        hint = HINT if isinstance(error, psycopg.OperationalError) else ""
        return DatabaseError(f"{what}: {words}", hint=POOLER_HINT if "startup parameter" in words else hint)
    if "max_locks_per_transaction" in words:  # said in the hint; waiting does not bring them back
        return DatabaseError(f"{what}: {words}", sqlstate=state, hint="raise max_locks_per_transaction on the server")
    return DatabaseError(f"{what}: {words}", sqlstate=state, retryable=state.startswith(PASSING_CLASSES))


def is_passing(words: str) -> bool:
    """Whether what libpq, a server or a client program said is known to pass: a lost connection, a restart, a lock.

    Of a host with several addresses, each refuses in its own words; where a server was reached, its words count.
    """
    return bool(PASSING.search(words.rpartition("FATAL:")[2]))
