"""Where a benchmark runs: a throw-away PostgreSQL cluster and a throw-away S3 server, and how they are reached."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from deployments.embedded.account import prepare_place, server_account
from deployments.embedded.cluster import SUPERUSER, Cluster
from deployments.embedded.errors import ServiceNotStarted
from deployments.embedded.ports import LOOPBACK, any_free
from deployments.embedded.processes import Process
from deployments.embedded.starting import Files
from deployments.embedded.storage import INTERNAL_PORTS, REGION, Storage, forget_sockets

BUCKET = "bench"
ATTEMPTS = 5
# Steady rather than fast: no background work that falls to whichever way runs just then, no waiting for a shared disk.
SETTINGS = {
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "8GB",
    "autovacuum": "off",
    "fsync": "off",
    "log_min_duration_statement": "-1",
}


@dataclass(frozen=True)
class Place:
    """Everything that a way of backing up needs to know; goes as JSON to the measured process."""

    bin: str
    host: str
    port: int
    user: str
    password: str
    source: str
    target: str  # an empty database to restore into
    endpoint: str
    region: str
    bucket: str
    access_key: str
    secret_key: str
    prefix: str

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's client programs."""
        return str(Path(self.bin, name))

    def key(self, name: str) -> str:
        """An object key below the prefix."""
        return f"{self.prefix}/{name}"

    def connect(self, dbname: str) -> psycopg.Connection[tuple[object, ...]]:
        """A connection in autocommit; its statements may take as long as making a gigabyte of rows takes."""
        dsn = make_conninfo(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=dbname,
            application_name="bench",
            connect_timeout=10,
            options="-c statement_timeout=20min",
        )
        return psycopg.connect(dsn, autocommit=True)

    def create(self, dbname: str) -> None:
        """Make an empty database in the place of any other of that name."""
        self.drop(dbname)
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(dbname)))

    def drop(self, dbname: str) -> None:
        """Remove a database, if it is there."""
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(dbname)))

    def settle(self) -> None:
        """Have the server write what earlier work left it to write."""
        with self.connect("postgres") as connection:
            connection.execute("CHECKPOINT")


@contextlib.contextmanager
def servers() -> Iterator[tuple[Place, Path]]:
    """Start both servers; yields how to reach them and a directory for temporary files. All of it goes at the end.

    Raises:
        ServiceNotStarted: A server did not start; the error carries its last words.
    """
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        home.chmod(0o711)
        place = prepare_place(home, server_account())
        if place.outside is not None:
            stack.callback(shutil.rmtree, place.outside, ignore_errors=True)
        password = secrets.token_urlsafe(18)
        cluster = Cluster("postgres", place.clusters / "postgres", place.bin, place.account, SETTINGS)
        cluster.create(password, {}, durable=False)

        postgres = Files(home / "postgres.pid", home / "postgres.log", {})
        [port] = _started(
            stack,
            1,
            start=lambda ports: cluster.start(ports[0], postgres),
            stop=lambda process, _: cluster.stop(process),
            record=postgres.record,
        )
        storage = Storage("s3", home / "s3", secrets.token_hex(10), secrets.token_urlsafe(30))
        s3 = Files(home / "s3.pid", home / "s3.log", {})
        s3_port, *_ = _started(
            stack,
            1 + INTERNAL_PORTS,
            start=lambda ports: storage.start(ports[0], ports[1:], s3),
            stop=_kill,
            record=s3.record,
        )
        storage.client(s3_port).create_bucket(Bucket=BUCKET)
        (temporary := home / "temporary").mkdir()
        yield (
            Place(
                bin=str(place.bin),
                host=LOOPBACK,
                port=port,
                user=SUPERUSER,
                password=password,
                source="source",
                target="target",
                endpoint=f"http://{LOOPBACK}:{s3_port}",
                region=REGION,
                bucket=BUCKET,
                access_key=storage.access_key,
                secret_key=storage.secret_key,
                prefix="",
            ),
            temporary,
        )


def _started(
    stack: contextlib.ExitStack,
    count: int,
    *,
    start: Callable[[list[int]], Process],
    stop: Callable[[Process, list[int]], object],
    record: Path,
) -> list[int]:
    """Start a server on free ports, again when somebody took one between the choice and the start; its ports."""
    for attempt in range(ATTEMPTS):
        ports = any_free(count)

        def end(ports: list[int] = ports) -> None:
            if process := Process.read(record):
                stop(process, ports)

        stack.callback(end)  # before the start, which may be interrupted
        try:
            start(ports)
        except ServiceNotStarted as error:
            if not error.port_taken or attempt == ATTEMPTS - 1:
                raise
        else:
            return ports
    raise AssertionError("unreachable")


def _kill(s3: Process, ports: list[int]) -> None:
    """End the S3 server at once: nothing of it is kept, and an orderly end takes up to 20 s."""
    s3.signal(signal.SIGKILL)
    s3.wait(10)
    forget_sockets(ports)
