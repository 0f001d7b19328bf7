"""Throw-away PostgreSQL servers: `postgres` (the bundled version), `postgres15` (Debian's), and a fresh `database`."""

from __future__ import annotations

import itertools
import secrets
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from deployments.embedded.account import BINARIES_VARIABLE, Place, prepare_place, server_account
from deployments.embedded.cluster import SUPERUSER, Cluster
from deployments.embedded.errors import ServiceNotStarted
from deployments.embedded.ports import LOOPBACK, any_free
from deployments.embedded.processes import Process
from deployments.embedded.starting import Files

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_FAST = {"fsync": "off", "full_page_writes": "off", "log_min_duration_statement": "-1"}
_numbers = itertools.count(1)


@dataclass
class PostgresServer:
    """A running server. Every role made by `create_role` has the superuser's password."""

    cluster: Cluster
    home: Path
    password: str = field(repr=False)
    port: int = 0
    process: Process | None = None
    host: str = LOOPBACK
    superuser: str = SUPERUSER

    @property
    def bin(self) -> Path:
        """Directory of pg_dump, pg_restore and psql of the server's version."""
        return self.cluster.bin

    @property
    def log(self) -> Path:
        return self.home / "server.log"

    def start(self) -> None:
        """Start the server; after `stop` or `kill` on the port it had."""
        for attempt in range(5):
            port = self.port or any_free(1)[0]
            try:
                self.process = self.cluster.start(port, Files(self.home / "pid.json", self.log, {}))
            except ServiceNotStarted as error:  # somebody took the port between the choice and the start
                if self.port or not error.port_taken or attempt == 4:
                    raise
                continue
            self.port = port
            return

    def stop(self) -> None:
        if self.process is not None:
            self.cluster.stop(self.process)

    def kill(self) -> None:
        """End the server as a power cut would."""
        assert self.process is not None
        self.process.signal(signal.SIGKILL)
        self.process.wait(10)

    def dsn(self, dbname: str = "postgres", user: str | None = None) -> str:
        """Return a connection string, of the superuser unless another role is named."""
        return make_conninfo(
            host=self.host,
            port=self.port,
            user=user or self.superuser,
            password=self.password,
            dbname=dbname,
            application_name="tests",
            connect_timeout=10,
            options="-c statement_timeout=60s",
        )

    def execute(self, *statements: sql.Composed | LiteralString, dbname: str = "postgres") -> None:
        """Run statements as the superuser, each in a transaction of its own."""
        with psycopg.connect(self.dsn(dbname), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def create_role(self, name: str, *, createdb: bool = False) -> None:
        """Make a role that may log in, unless it exists; one that exists may make databases from now on if asked."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            role = sql.Identifier(name)
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(self.password)))
            if createdb:
                connection.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(role))

    def create_database(self, owner: str | None = None) -> str:
        """Make an empty database and return its name; an owner that does not exist is made."""
        name = f"test_{next(_numbers)}_{secrets.token_hex(3)}"
        if owner is not None:
            self.create_role(owner)
        self.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner or self.superuser))
        )
        return name

    def drop_database(self, name: str) -> None:
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _server(name: str, home: Path, place: Place) -> PostgresServer:
    cluster = Cluster(name, place.clusters / name, place.bin, place.account, _FAST)
    server = PostgresServer(cluster, home, secrets.token_urlsafe(18))
    cluster.create(server.password, {}, durable=False)
    server.start()
    return server


def _lifetime(name: str, home: Path, place: Place) -> Iterator[PostgresServer]:
    server: PostgresServer | None = None
    try:
        server = _server(name, home, place)
        yield server
    finally:
        if server is not None:
            server.stop()
        if place.outside is not None:
            shutil.rmtree(place.outside, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of the bundled version, shared by the whole session."""
    home = tmp_path_factory.mktemp("postgres")
    yield from _lifetime("postgres", home, prepare_place(home, server_account()))


@pytest.fixture(scope="session")
def postgres15(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of PostgreSQL 15 from Debian's package."""
    if not (DEBIAN_15 / "postgres").exists():
        pytest.skip(f"needs the package postgresql-15 ({DEBIAN_15})")
    home = tmp_path_factory.mktemp("postgres15")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BINARIES_VARIABLE, str(DEBIAN_15))
        place = prepare_place(home, server_account())
    yield from _lifetime("postgres15", home, place)


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """The name of a fresh database on `postgres`, dropped afterwards."""
    name = postgres.create_database()
    yield name
    postgres.drop_database(name)
