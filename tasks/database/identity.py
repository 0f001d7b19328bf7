"""Which database is at the other end, whatever name or address it was reached by."""

from __future__ import annotations

from typing import Any

import psycopg

from tasks.database.connection import explained
from tasks.release.backup import DatabaseIdentity


def identify(connection: psycopg.Connection[tuple[Any, ...]]) -> DatabaseIdentity:
    """Ask a connection which database it is in.

    Raises:
        DatabaseError: The server does not answer.
    """
    try:
        row = connection.execute(
            "select oid, datname, current_setting('server_version_num')::int,"
            " has_function_privilege('pg_control_system()', 'execute')"
            " from pg_database where datname = current_database()"
        ).fetchone()
        assert row is not None  # noqa: S101 -- the current database has its row
        oid, name, version, may_ask = row
        # Managed services take the function away from ordinary roles.
        system = connection.execute("select system_identifier::text from pg_control_system()") if may_ask else None
        identifier = system.fetchone() if system else None
    except psycopg.Error as error:
        raise explained(error, "cannot identify the database") from None
    return DatabaseIdentity(
        system_identifier=identifier[0] if identifier else None, oid=oid, name=name, server_version=version
    )


def server_started(connection: psycopg.Connection[tuple[Any, ...]]) -> str:
    """When the server at the other end was started, in seconds since 1970, to the microsecond.

    Raises:
        DatabaseError: The server does not answer.
    """
    try:
        row = connection.execute("select extract(epoch from pg_postmaster_start_time())::text").fetchone()
    except psycopg.Error as error:
        raise explained(error, "cannot ask when the server was started") from None
    return str(row[0]) if row else ""


def same_database(one: DatabaseIdentity, other: DatabaseIdentity) -> bool:
    """Whether both are the same database: a rename keeps it the same, a restore elsewhere or a copy does not.

    Where a server does not tell its system identifier, the name has to stand in for it.
    """
    if one.system_identifier is None or other.system_identifier is None:
        return (one.oid, one.name) == (other.oid, other.name)
    return (one.system_identifier, one.oid) == (other.system_identifier, other.oid)


def major(server_version: int) -> int:
    """The major version of a server_version_num."""
    return server_version // 10000
