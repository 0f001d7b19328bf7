"""What cannot be connected to: whether it may pass, and what to do."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from deployments.embedded.ports import any_free
from tasks.database.connection import connect, explained
from tasks.release.environment import Database
from tasks.release.errors import DatabaseError
from tests.fix_postgres import PostgresServer

AT = 'connection to server at "db" (10.0.0.1), port 5432 failed: '

PERMANENT = [
    "FATAL:  password authentication failed for user",
    "FATAL:  Passwort-Authentifizierung für Benutzer »runbook« fehlgeschlagen",
    "FATAL:  no pg_hba.conf entry for host",
    'FATAL:  database "shop" does not exist',
    'FATAL:  permission denied for database "shop"',
    "FATAL:  certificate authentication failed for user",
    "fe_sendauth: no password supplied",
    "server does not support SSL, but SSL was required",
    "SSL error: certificate verify failed",
    'root certificate file "/root.crt" does not exist',
    'could not open certificate file "/root.crt": No such file or directory',
    "Permission denied\n\tIs the server running locally and accepting connections on that socket?",
    "failed to resolve host 'db': [Errno -2] Name or service not known",
    'could not translate host name "db" to address: Name or service not known',
    # One of a host's two addresses has nobody; the other one spoke.
    f"Connection refused\n{AT}FATAL:  Passwort-Authentifizierung fehlgeschlagen",
]
PASSING = [
    "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
    "No such file or directory\n\tIs the server running locally and accepting connections on that socket?",
    "timeout expired",
    "Connection timed out",
    "could not receive data from server: Connection reset by peer",
    "No route to host",
    "FATAL:  the database system is starting up",
    "FATAL:  the database system is shutting down",
    "FATAL:  the database system is not yet accepting connections",
    "FATAL:  sorry, too many clients already",
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
    "server closed the connection unexpectedly",
    "SSL SYSCALL error: EOF detected",
    "SSL connection has been closed unexpectedly",
    "the connection is lost",
    "failed to resolve host 'db': [Errno -3] Temporary failure in name resolution",
]


@pytest.mark.parametrize("words", PERMANENT)
def test_what_stays_as_it_is_fails_at_once(words: str) -> None:
    error = explained(psycopg.OperationalError(AT + words), "cannot connect to shop")
    assert not error.retryable
    assert "user, password, database name and sslmode" in error.hint


@pytest.mark.parametrize("words", PASSING)
def test_what_may_pass_is_tried_again(words: str) -> None:
    assert explained(psycopg.OperationalError(AT + words), "cannot connect to shop").retryable


def test_a_pooler_is_named() -> None:
    words = f"{AT}FATAL:  unsupported startup parameter in options: statement_timeout"
    error = explained(psycopg.OperationalError(words), "cannot connect to shop")
    assert not error.retryable
    assert "PgBouncer" in error.hint


@pytest.mark.parametrize(
    ("change", "retryable"),
    [
        ({"password": SecretStr("wrong")}, False),
        ({"password": None}, False),
        ({"sslmode": "require"}, False),
        ({"name": "not_there"}, False),
        ({"host": "/not/there"}, True),
        ({"port": None}, True),
    ],
)
def test_a_real_server_says_so(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], retryable: bool
) -> None:
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    if "port" in change:
        change = {"port": any_free(1)[0]}
    known = {"host": postgres.host, "port": postgres.port, "name": "postgres", "user": postgres.superuser}
    database = Database.model_validate(known | {"password": SecretStr(postgres.password)})
    connect(database, "tests").close()
    with pytest.raises(DatabaseError) as caught:
        connect(database.model_copy(update=change), "tests")
    assert caught.value.retryable is retryable
    assert bool(caught.value.hint) is not retryable
    assert postgres.password not in str(caught.value)
