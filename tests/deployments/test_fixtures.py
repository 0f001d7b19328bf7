"""What the fixtures of the servers promise to the tests."""

from __future__ import annotations

import os

import psycopg

from deployments.embedded.account import BINARIES_VARIABLE
from tests.fix_postgres import PostgresServer


def test_a_server_of_another_version_leaves_the_bundled_one_in_use(postgres15: PostgresServer) -> None:
    assert postgres15.bin.is_relative_to("/usr/lib/postgresql/15")
    assert BINARIES_VARIABLE not in os.environ


def test_a_role_that_exists_may_make_databases_when_asked(postgres: PostgresServer) -> None:
    for createdb in (False, True, False):  # the last changes nothing: another test was promised that it may
        postgres.create_role("makes_databases", createdb=createdb)
    with psycopg.connect(postgres.dsn(user="makes_databases"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE made")
    postgres.drop_database("made")
