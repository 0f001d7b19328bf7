"""A database is the same one whatever it is called, and another one however alike."""

from __future__ import annotations

import psycopg
from psycopg import sql

from tasks.database.identity import identify, major, same_database
from tasks.release.backup import DatabaseIdentity
from tests.fix_postgres import PostgresServer


def identity(server: PostgresServer, dbname: str, user: str | None = None) -> DatabaseIdentity:
    with psycopg.connect(server.dsn(dbname, user)) as connection:
        return identify(connection)


def test_a_database_is_itself(postgres: PostgresServer, database: str) -> None:
    one = identity(postgres, database)
    assert one.name == database
    assert one.system_identifier
    assert major(one.server_version) == 17
    assert same_database(one, identity(postgres, database))
    assert not same_database(one, identity(postgres, "postgres"))


def test_a_rename_keeps_it_and_a_copy_does_not(postgres: PostgresServer, database: str) -> None:
    before = identity(postgres, database)
    old, new = sql.Identifier(database), sql.Identifier(f"{database}_renamed")
    postgres.execute(
        sql.SQL("alter database {} rename to {}").format(old, new),
        sql.SQL("create database {} template {}").format(old, new),
    )
    try:
        assert same_database(before, identity(postgres, f"{database}_renamed"))
        assert not same_database(before, identity(postgres, database))
    finally:
        postgres.drop_database(f"{database}_renamed")


def test_another_cluster(postgres: PostgresServer, postgres15: PostgresServer) -> None:
    assert not same_database(identity(postgres, "postgres"), identity(postgres15, "postgres"))


def test_a_server_that_does_not_tell(postgres: PostgresServer, database: str) -> None:
    postgres.create_role("nobody_special")
    postgres.execute("revoke execute on function pg_control_system() from public", dbname=database)
    one = identity(postgres, database, "nobody_special")
    assert one.system_identifier is None
    # Where only one side tells, name and oid have to do.
    assert same_database(one, identity(postgres, database))
    assert not same_database(one, identity(postgres, "postgres"))
