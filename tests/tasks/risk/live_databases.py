"""Facts of a test's own database, and statements run in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from pydantic import SecretStr

from tasks.release.environment import Database
from tasks.risk.live import LiveFacts
from tests.fix_postgres import PostgresServer


def target(server: PostgresServer, name: str, user: str | None = None) -> Database:
    return Database(
        host=server.host,
        port=server.port,
        name=name,
        user=user or server.superuser,
        password=SecretStr(server.password),
    )


@pytest.fixture
def run(postgres: PostgresServer, database: str) -> Callable[[str], None]:
    """Run statements in the test's database."""

    def execute(statements: str) -> None:
        with psycopg.connect(postgres.dsn(database), autocommit=True) as connection:
            for statement in statements.split(";;"):
                connection.execute(statement.encode())

    return execute


@pytest.fixture
def facts(postgres: PostgresServer, database: str) -> Iterator[LiveFacts]:
    """Facts of the test's database: nothing is asked of it before the test does."""
    with LiveFacts(target(postgres, database), "public") as opened:
        yield opened
