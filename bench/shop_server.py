"""A throw-away PostgreSQL server with the shop's database in several sizes, each filled once and copied per case."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bench.migrations.case import PREVIOUS, Case
from bench.migrations.shop import FILL, release
from bench.place import SETTINGS
from bench.projects import interpreter, variables, write_release
from deployments.embedded.throwaway import throwaway_server

INSIDE = Path(__file__).with_name("inside.py")
COMMAND_S = 300
Row = tuple[Any, ...]


@dataclass
class Shop:
    """The server, the interpreter and the releases' directories."""

    home: Path
    python: Path
    deferred: bool  # django-deferred-migrations is there
    place: dict[str, str]  # the variables of projects.ENVIRONMENT, but the database
    keep: bool  # leave every case's database
    initial: str = ""  # the first migration's text
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def old(self) -> Path:
        """The release that serves."""
        return self.home / "old"

    def connect(self, dbname: str) -> psycopg.Connection[Row]:
        """A connection in autocommit."""
        dsn = make_conninfo(
            host=self.place["SHOP_HOST"],
            port=self.place["SHOP_PORT"],
            user=self.place["SHOP_USER"],
            password=self.place["SHOP_PASSWORD"],
            dbname=dbname,
            application_name="bench",
            connect_timeout=10,
            options="-c statement_timeout=5min",
        )
        return psycopg.connect(dsn, autocommit=True)

    def begin(self, sizes: tuple[int, ...]) -> None:
        """Write the old release and fill a template of each size."""
        write_release(self.old, release(), {})
        for rows in sizes:
            name = f"shop_{rows}"
            with self.connect("postgres") as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            if not self.initial:
                self.manage(self.old, name, "makemigrations", "shop")
                self.initial = (self.old / "shop" / "migrations" / f"{PREVIOUS}.py").read_text()
            self.manage(self.old, name, "migrate")
            with self.connect(name) as connection:
                for statement in FILL:
                    connection.execute(statement.format(rows=rows).encode())

    def manage(self, directory: Path, dbname: str, *arguments: str) -> str:
        """Run a management command; its standard output.

        Raises:
            RuntimeError: It failed.
        """
        done = subprocess.run(
            [str(self.python), "manage.py", *arguments],
            cwd=directory,
            env=variables(self.place, dbname),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"manage.py {' '.join(arguments)}: {done.stdout[-500:]}{done.stderr[-2000:]}")
        return done.stdout

    def new(self, case: Case, *, later: bool = False) -> Path:
        """The release with a case's migrations; `later`: with the models of the one after it."""
        directory = self.home / f"{'later' if later else 'new'}_{case.name}"
        models = release(*case.models, *(case.later if later else ()))
        return write_release(directory, models, {PREVIOUS: self.initial, **case.files()})

    @contextlib.contextmanager
    def database(self, rows: int, name: str) -> Iterator[str]:
        """A copy of the filled database."""
        dbname = f"{name}_{next(self.numbers)}"[-60:]
        with self.connect("postgres") as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(dbname), sql.Identifier(f"shop_{rows}"))
            )
        try:
            yield dbname
        finally:
            if not self.keep:
                with self.connect("postgres") as connection:
                    connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(dbname)))

    @contextlib.contextmanager
    def inside(self, directory: Path, dbname: str) -> Iterator[Inside]:
        """A process in the application that does as it is told (bench/inside.py)."""
        with subprocess.Popen(
            [str(self.python), str(INSIDE)],
            cwd=directory,
            env=variables(self.place, dbname),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield Inside(process)
            finally:
                process.kill()


@dataclass
class Inside:
    """A process inside the application."""

    process: subprocess.Popen[str]

    def __call__(self, do: str, **arguments: object) -> dict[str, Any]:
        """Have it do something; its answer.

        Raises:
            RuntimeError: It died.
        """
        assert self.process.stdin and self.process.stdout and self.process.stderr  # noqa: S101, PT018 - they are pipes
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{do}: {self.process.stderr.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def shop(keep: bool) -> Iterator[Shop]:
    """Start the server and make the interpreter; all of it goes at the end.

    Raises:
        ServiceNotStarted: The server did not start.
        subprocess.CalledProcessError: Django or a linter cannot be installed.
    """
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        python, deferred = interpreter(home / "python")
        server = stack.enter_context(throwaway_server(SETTINGS))
        password = server.password.get_secret_value() if server.password else ""
        reached = {
            "SHOP_HOST": server.host,
            "SHOP_PORT": str(server.port),
            "SHOP_USER": server.user,
            "SHOP_PASSWORD": password,
        }
        yield Shop(home, python, deferred, reached, keep)
