"""A project whose database is filled, and a copy of that database as the target of a resident."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from tasks.app.command import Checkout
from tasks.app.residence import Residence, Target, resident
from tasks.release.environment import Environment
from tests import builders
from tests.fix_postgres import PostgresServer
from tests.tasks.app.django_projects import Project


@dataclass
class Scratch:
    """The copy of a project's database."""

    project: Project
    name: str

    @property
    def server(self) -> PostgresServer:
        return self.project.server

    def environment(self, **app: Any) -> Environment:
        password = self.project.home / "password"
        password.write_text(self.server.password)
        return builders.environment(
            app={
                "directory": str(self.project.home),
                "python": str(self.project.python),
                "settings": "site_settings",
                "start_timeout_s": 60,
                **app,
            },
            database={
                "host": self.server.host,
                "port": self.server.port,
                "name": self.project.database,
                "user": self.server.superuser,
                "password": {"file": str(password)},
            },
        )

    def target(self, **changes: Any) -> Target:
        oid, system = self.ask(
            "select oid, (select system_identifier::text from pg_control_system()) from pg_database"
            " where datname = current_database()"
        )[0]
        fields = {
            "database": self.environment().database,
            "dbname": self.name,
            "oid": oid,
            "system_identifier": system,
            "alias": "default",
        }
        return Target(**{**fields, **changes})

    @contextlib.contextmanager
    def resident(self, target: Target | None = None, **app: Any) -> Iterator[Residence]:
        checkout = Checkout(self.project.home, self.project.python, "0" * 40)
        with resident(self.environment(**app), checkout, target or self.target(), print) as opened:
            yield opened

    def ask(self, query: LiteralString, dbname: str | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.server.dsn(dbname or self.name)) as connection:
            return connection.execute(query).fetchall()

    def sessions(self) -> int:
        """How many sessions the live database has."""
        query = sql.SQL("select count(*)::int from pg_stat_activity where datname = {}").format(
            sql.Literal(self.project.database)
        )
        with psycopg.connect(self.server.dsn()) as connection:
            [(count,)] = connection.execute(query).fetchall()
        return int(count)


@pytest.fixture
def scratch_of() -> Iterator[Callable[[Project], Scratch]]:
    """Return a function that migrates a project's database and copies it; what is written later is pending."""
    made: list[Scratch] = []

    def copy(project: Project, *fill: LiteralString) -> Scratch:
        project.manage("migrate", "--no-input", "-v0")
        project.server.execute(*fill, dbname=project.database)
        made.append(Scratch(project, f"{project.database}_scratch"))
        project.server.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(made[-1].name), sql.Identifier(project.database)
            )
        )
        return made[-1]

    yield copy
    for scratch in made:
        scratch.server.drop_database(scratch.name)
