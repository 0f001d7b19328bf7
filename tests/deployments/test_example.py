"""The example application's database is emptied only when it is ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from deployments.embedded.roles import APPLICATION, database_name
from deployments.embedded.state import Entry, State
from deployments.example import Example
from tasks.release.errors import RefusedError
from tests.fix_app import git
from tests.fix_postgres import PostgresServer

ENVIRONMENT = "example"
DATABASE = database_name(ENVIRONMENT)


@pytest.fixture
def example(postgres: PostgresServer, tmp_path: Path) -> Iterator[Example]:
    """A checkout whose manage.py does nothing, and a database that holds nothing."""
    state = State(tmp_path / "state")
    state.prepare()
    state.remember(Entry(f"postgres-{ENVIRONMENT}", port=postgres.port))
    state.secret_file(f"postgres-{ENVIRONMENT}.{APPLICATION}").write_text(postgres.password)
    postgres.create_role(APPLICATION)
    postgres.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*map(sql.Identifier, (DATABASE, APPLICATION))))
    example = Example(state, ENVIRONMENT)
    example.python.parent.mkdir(parents=True)
    example.python.symlink_to(sys.executable)
    git(example.directory, "init", "--quiet")
    (example.directory / "manage.py").write_text("")
    git(example.directory, "add", "manage.py")
    git(example.directory, "commit", "--quiet", "--message", "nothing")
    git(example.directory, "tag", "v1")
    yield example
    postgres.drop_database(DATABASE)


def reset(example: Example) -> None:
    example.reset("v1", "small", lambda _: None)


def relations(postgres: PostgresServer) -> list[str]:
    """What lies in the database's schemas."""
    with psycopg.connect(postgres.dsn(DATABASE)) as connection:
        found = connection.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'v')"
        )
        return sorted(name for (name,) in found)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("CREATE TABLE orders (id int)", "orders"),
        ("CREATE SCHEMA shop CREATE TABLE orders (id int)", "shop.orders"),
        ("CREATE TABLE django_migrations (id int)", "django_migrations"),
        ("CREATE VIEW orders AS SELECT 1 AS id", "orders"),
    ],
)
def test_a_database_with_something_in_it_is_left_alone(
    example: Example, postgres: PostgresServer, content: LiteralString, name: str
) -> None:
    postgres.execute(content, "COMMENT ON DATABASE chatbot_example IS 'a person''s'", dbname=DATABASE)
    with pytest.raises(RefusedError, match="holds data that the demo did not put there"):
        reset(example)
    assert relations(postgres) == [name]


def test_an_empty_one_becomes_ours_and_may_be_emptied_again(example: Example, postgres: PostgresServer) -> None:
    reset(example)
    postgres.execute("CREATE TABLE django_migrations (id int)", "CREATE TABLE notes (id int)", dbname=DATABASE)
    assert relations(postgres) == ["django_migrations", "notes"]
    reset(example)
    assert relations(postgres) == []
