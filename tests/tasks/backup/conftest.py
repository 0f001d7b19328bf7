"""A place to back up: a database with a bit of everything, and the role that the runbook works as."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, Protocol

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from tasks.release.environment import Environment, parse
from tasks.store.bucket import Bucket

SCHEMA = Path(__file__).with_name("everything.sql").read_text(encoding="utf-8")


class Server(Protocol):
    host: str
    port: int
    password: str

    def dsn(self, dbname: str = ..., user: str | None = ...) -> str: ...
    def execute(self, *statements: sql.Composed | LiteralString, dbname: str = ...) -> None: ...
    def create_role(self, name: str, *, createdb: bool = ...) -> None: ...
    def create_database(self, owner: str | None = ...) -> str: ...
    def drop_database(self, name: str) -> None: ...


@dataclass
class Place:
    server: Server
    dbname: str
    bucket: Bucket
    content: dict[str, Any]

    def environment(self, **backup: Any) -> Environment:
        return parse(self.content | {"backup": backup}, Path("/somewhere/shop.toml"))

    def as_user(self, user: str) -> Environment:
        return parse(
            self.content | {"database": self.content["database"] | {"user": user}}, Path("/somewhere/shop.toml")
        )

    def execute(self, *statements: LiteralString) -> None:
        self.server.execute(*statements, dbname=self.dbname)

    def connect(self, user: str = "shop") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.server.dsn(self.dbname, user), autocommit=True, client_encoding="utf8")

    def stored(self) -> list[str]:
        return list(self.bucket.keys("shop/"))

    def unfinished(self) -> list[str]:
        answer = self.bucket.client.list_multipart_uploads(Bucket=self.bucket.name)
        return [entry["Key"] for entry in answer.get("Uploads", [])]

    def databases(self) -> set[str]:
        with psycopg.connect(self.server.dsn()) as connection:
            return {row[0] for row in connection.execute("select datname from pg_database")}


def prepare_roles(server: Server) -> None:
    """The runbook's role as docs ask for it: no superuser, but it may read everything and become the application."""
    server.create_role("shop")
    server.create_role("runbook", createdb=True)
    server.execute(
        "GRANT shop, pg_read_all_data, pg_monitor, pg_signal_backend TO runbook",
    )


def place_on(server: Server, dbname: str, s3: Any, bucket: str) -> Place:
    content = {
        "name": "shop",
        "kind": "staging",
        "app": {"directory": ".", "branch": "main", "reload": []},
        "database": {
            "host": server.host,
            "port": server.port,
            "name": dbname,
            "user": "runbook",
            "password": SecretStr(server.password),
        },
        "storage": {
            "endpoint": s3.endpoint,
            "bucket": bucket,
            "prefix": "shop",
            "access_key": SecretStr(s3.access_key),
            "secret_key": SecretStr(s3.secret_key),
        },
        "smoke": {"base_url": "http://127.0.0.1:1", "endpoints": [{"path": "/"}]},
    }
    environment = parse(content, Path("/somewhere/shop.toml"))
    return Place(server, dbname, Bucket(environment.storage), content)


def _settled(server: Server, s3: Any, bucket: str) -> Iterator[Place]:
    prepare_roles(server)
    dbname = server.create_database("shop")
    yield place_on(server, dbname, s3, bucket)
    server.drop_database(dbname)


@pytest.fixture
def place(postgres: Server, s3: Any, bucket: str) -> Iterator[Place]:
    """An empty database of the application, and a bucket."""
    yield from _settled(postgres, s3, bucket)


@pytest.fixture
def full(place: Place) -> Place:
    """A database with a bit of everything."""
    fill(place)
    return place


@pytest.fixture
def full15(postgres15: Server, s3: Any, bucket: str) -> Iterator[Place]:
    """The same on PostgreSQL 15."""
    for place in _settled(postgres15, s3, bucket):
        fill(place)
        yield place


@pytest.fixture
def small(place: Place) -> Place:
    """A database with one table."""
    with place.connect() as connection:
        connection.execute(
            "create table item as select g as id, repeat('x', g % 50) as name from generate_series(1, 500) g"
        )
    return place


def fill(place: Place) -> None:
    with place.connect() as connection:
        connection.execute(SCHEMA.encode())
