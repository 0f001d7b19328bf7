"""Fixtures of the judgement's tests: Django, and the plans of every case of migration_cases over filled tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from tasks.app.probing import understood
from tasks.release.environment import Database
from tasks.release.plan import Plan
from tests.fix_postgres import PostgresServer
from tests.tasks.app.django_projects import Project, django_python, project
from tests.tasks.risk.migration_cases import CASES
from tests.tasks.risk.one_case import BASE, FILL

__all__ = ["django_python", "project"]

HEAD = """
import uuid
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.operations import AddConstraintNotValid, AddIndexConcurrently, ValidateConstraint
from django.db.models import functions

def fill(apps, schema_editor):
    Thing = apps.get_model("{app}", "Thing")
    Thing.objects.filter(half=None).update(half=0)

def fill_owners(apps, schema_editor):
    apps.get_model("{app}", "Owner").objects.filter(name="").update(name="nobody")

def make():
    return str(uuid.uuid4())
"""


@dataclass(frozen=True)
class Cases:
    """What the probe says of every case's migrations, and the database that they are meant for."""

    whole: Plan
    database: Database
    home: Path

    def plan(self, name: str) -> Plan:
        """The plan of one case alone."""
        mine = tuple(migration for migration in self.whole.pending if migration.app == name)
        assert mine, name
        return self.whole.model_copy(update={"pending": mine})


@pytest.fixture(scope="session")
def cases(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, django_python: Callable[[str], Path]
) -> Iterator[Cases]:
    """The plans of all cases, rendered by one call of the probe."""
    name = postgres.create_database()
    made = Project(tmp_path_factory.mktemp("cases") / "project", django_python("5.2"), postgres, name)
    for case in CASES:
        made.app(case.name, "")
        made.migration(case.name, "m0", BASE)
    made.manage("migrate", "--verbosity=0")
    with psycopg.connect(postgres.dsn(name), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # foreign keys hold, and need not be checked
        for case in CASES:
            for text in filter(None, (FILL, case.sql)):
                connection.execute(text.replace("{app}", case.name).encode())
        connection.execute("ANALYZE")
    for case in CASES:
        for number, operations in enumerate(case.operations, start=1):
            made.migration(
                case.name,
                f"m{number}",
                operations.replace("{app}", case.name),
                after=f"m{number - 1}",
                head=HEAD.replace("{app}", case.name),
                body="" if case.atomic else "atomic = False",
            )
    told = made.probe("identity", "plan")
    assert told["error"] is None, told["error"]
    database = Database(
        host=postgres.host,
        port=postgres.port,
        name=name,
        user=postgres.superuser,
        password=SecretStr(postgres.password),
    )
    yield Cases(understood(told), database, made.home)
    postgres.drop_database(name)
