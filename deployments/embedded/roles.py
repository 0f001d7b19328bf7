"""Roles and databases of the embedded clusters.

An environment's cluster has three roles, each with its own password in `secrets/<cluster>.<role>`:

- `postgres`, the superuser. Only this module works as it.
- `chatbot`, the application. It owns the database `chatbot_<environment>` and nothing else; it cannot make databases.
- `runbook`, the release tool. Not a superuser. What it may do, and why:
  - member of `chatbot`: it may act as the owner of the application's objects, so it can dump, migrate and rename the
    database, restore into a scratch one with `CREATE DATABASE … OWNER chatbot`, and clone it as a template;
  - CREATEDB: a scratch database needs it, and so does a rename;
  - pg_read_all_data: dumps do not fail on a table that somebody else made;
  - pg_monitor (with pg_read_all_stats): sessions, locks and statistics of all roles, pg_control_system for identity;
  - pg_signal_backend: it can cancel and terminate sessions that block it, though never a superuser's.

pg_stat_statements is created in the maintenance database `postgres` only; its view shows the statements of all
databases from there. Inside the application's database it would be part of every dump, and a restore by anybody but a
superuser would fail on it.

Passwords reach the server as SCRAM verifiers, so that no log can hold one.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from deployments.embedded.cluster import SUPERUSER
from deployments.embedded.ports import LOOPBACK

APPLICATION = "chatbot"
OPERATOR = "runbook"
PREFECT = "prefect"
_OPERATOR_MEMBERSHIPS = (APPLICATION, "pg_read_all_data", "pg_monitor", "pg_signal_backend")


def prepare_environment(port: int, environment: str, passwords: Mapping[str, str]) -> None:
    """Bring roles, database and extension of an environment's cluster to what the module describes; safe to repeat.

    Args:
        port: the cluster's port on 127.0.0.1.
        environment: names the database, `chatbot_<environment>`.
        passwords: by role, the superuser's among them.

    Raises:
        psycopg.Error: the server refused.
    """
    with _connect(port, passwords[SUPERUSER]) as connection:
        _role(connection, APPLICATION, passwords[APPLICATION], createdb=False)
        _role(connection, OPERATOR, passwords[OPERATOR], createdb=True)
        for group in _OPERATOR_MEMBERSHIPS:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(OPERATOR)))
        _database(connection, database_name(environment), APPLICATION)
        if connection.execute("SHOW shared_preload_libraries").fetchone() == ("pg_stat_statements",):
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")


def prepare_prefect(port: int, passwords: Mapping[str, str]) -> None:
    """Make Prefect's role and database; safe to repeat.

    Raises:
        psycopg.Error: the server refused.
    """
    with _connect(port, passwords[SUPERUSER]) as connection:
        _role(connection, PREFECT, passwords[PREFECT], createdb=False)
        _database(connection, PREFECT, PREFECT)


def database_name(environment: str) -> str:
    """Return the name of the application's database in an environment."""
    return f"{APPLICATION}_{environment}"


def _connect(port: int, password: str) -> psycopg.Connection:
    return psycopg.connect(
        host=LOOPBACK,
        port=port,
        user=SUPERUSER,
        password=password,
        dbname="postgres",
        application_name="runbook up",
        connect_timeout=10,
        options="-c statement_timeout=30s",
        autocommit=True,
    )


def _role(connection: psycopg.Connection, name: str, password: str, *, createdb: bool) -> None:
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
    connection.execute(
        sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEROLE NOREPLICATION {} PASSWORD {}").format(
            sql.SQL("ALTER" if known else "CREATE"),
            sql.Identifier(name),
            sql.SQL("CREATEDB" if createdb else "NOCREATEDB"),
            sql.Literal(verifier.decode()),
        )
    )


def _database(connection: psycopg.Connection, name: str, owner: str) -> None:
    # Only made when there is none: a rollback by rename may have put another database of this name there.
    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner)))
