"""Where the throw-away databases of a check are made: on a server of its own, or on one that is named."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr, ValidationError

from deployments.embedded.throwaway import throwaway_server
from tasks.database.connection import connect, explained
from tasks.release.environment import Database
from tasks.release.errors import ConfigurationError, DatabaseError

CREATE_S = 300  # the longest that a copy of the base's schema may take
MAINTENANCE = "postgres"
FORM = "postgresql://user@host:5432/name"


@dataclass(frozen=True)
class Option:
    """An option that names a database, for messages."""

    name: str
    variable: str

    def __str__(self) -> str:
        return f"{self.name} ({self.variable})"


DATABASE_URL = Option("--database-url", "RUNBOOK_CHECK_DATABASE_URL")
SERVER_URL = Option("--server-url", "RUNBOOK_CHECK_SERVER_URL")


@dataclass
class Server:
    """A server and the databases that a check has made on it."""

    database: Database  # its `name` is where they are made from
    named: bool  # by an option: others may use it too
    made: list[str] = field(default_factory=list)
    _check: str = field(default_factory=lambda: secrets.token_hex(4))

    def create(self, purpose: str, template: str = "template1") -> str:
        """Make a database, and return its name.

        Raises:
            DatabaseError: The server refuses.
        """
        name = f"check_{self._check}_{purpose}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        with connect(self.database, "check", statement_timeout_s=CREATE_S, autocommit=True) as connection:
            self.made.append(name)  # before it is there: a lost connection does not say
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                told = explained(error, f"cannot create the throw-away database {name}")
                hint = f"the role of {SERVER_URL} needs CREATEDB" if self.named else told.hint
                raise DatabaseError(told.message, sqlstate=told.sqlstate, hint=hint) from None
        return name

    def drop(self) -> None:
        """Remove what was made.

        Raises:
            DatabaseError: The server refuses, or is gone.
        """
        with connect(self.database, "check", statement_timeout_s=CREATE_S, autocommit=True) as connection:
            while self.made:
                name = self.made[-1]
                try:
                    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
                except psycopg.Error as error:
                    raise explained(error, f"cannot drop the throw-away database {name}") from None
                self.made.pop()


@contextlib.contextmanager
def scratch_server(named: Database | None, report: Callable[[str], None]) -> Iterator[Server]:
    """The server that is named, else the bundled one; afterwards no database of this check is left.

    Raises:
        ServiceError: The bundled one cannot be started.
    """
    if named is None:
        with throwaway_server() as database:
            yield Server(database, named=False)  # goes with everything on it
        return
    server = Server(named, named=True)
    try:
        yield server
    finally:
        try:
            server.drop()
        except DatabaseError as error:  # told beside the error that may be on its way
            report(f"left on the server: {', '.join(server.made)}: {error.message}")


def database_of(url: str, option: Option, default_name: str | None = None) -> Database:
    """The database that a libpq URL or connection string names.

    Raises:
        ConfigurationError: It is none; the message does not repeat it, since a password may be in it.
    """
    try:
        parts = {"dbname": default_name, **conninfo_to_dict(url)}
    except psycopg.Error:
        raise ConfigurationError(f"{option} is not a connection string of PostgreSQL", hint=FORM) from None
    if not (parts.get("host") and parts.get("user") and parts["dbname"]):
        raise ConfigurationError(f"{option} names no host, user or database", hint=FORM)
    password = parts.get("password") or os.environ.get("PGPASSWORD")
    known = {key: parts[key] for key in ("host", "port", "user", "sslmode") if key in parts}
    try:
        return Database.model_validate(
            {
                **known,
                "name": parts["dbname"],
                "maintenance_database": parts["dbname"],
                "password": SecretStr(str(password)) if password else None,
            }
        )
    except ValidationError as error:
        told = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors(include_input=False))
        raise ConfigurationError(f"{option} is not understood: {told}", hint=FORM) from None


def reached(database: Database, option: Option) -> None:
    """Connect once, before anything is built.

    Raises:
        DatabaseError: The database cannot be reached or refuses.
    """
    try:
        connect(database, "check").close()
    except DatabaseError as error:
        hint = f"it is the one of {option}: check host, port, user, database and password (PGPASSWORD counts too)"
        raise DatabaseError(error.message, sqlstate=error.sqlstate, hint=hint) from None
