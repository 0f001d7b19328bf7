"""The guard against the wrong database: what counts is what the application's own connection reaches."""

from __future__ import annotations

import pytest

from tasks.app.guard import check_identity
from tasks.app.probing import plan
from tasks.database.connection import connect
from tasks.database.identity import identify
from tasks.release.errors import AppError, DatabaseError, WrongDatabaseError
from tests.builders import identity
from tests.fix_app import Site
from tests.fix_postgres import PostgresServer


def point_application(site: Site, **values: object) -> None:
    """Change the env file of the application, as a slip of the hand would."""
    file = site.app / ".env"
    lines = dict(line.split("=", 1) for line in file.read_text().splitlines())
    file.write_text("".join(f"{key}={value}\n" for key, value in (lines | values).items()))


def test_the_right_database_passes_by_whatever_name(staging_site: Site) -> None:
    point_application(staging_site, DATABASE_HOST="localhost")
    environment = staging_site.environment
    session = plan(environment, staging_site.checkout).database
    assert session.host == "localhost"
    assert session.user != environment.database.user
    with connect(environment.database, "test") as connection:
        backed_up = identify(connection)
    check_identity(environment, session, backed_up)


def test_another_database_of_the_same_server_is_refused(staging_site: Site, postgres: PostgresServer) -> None:
    other = postgres.create_database("chatbot")
    try:
        point_application(staging_site, DATABASE_NAME=other)
        session = plan(staging_site.environment, staging_site.checkout).database
        with pytest.raises(WrongDatabaseError, match=rf"the application reaches database {other} ") as caught:
            check_identity(staging_site.environment, session)
    finally:
        postgres.drop_database(other)
    assert f"database {staging_site.database} (oid" in caught.value.message
    assert "[database] of staging" in caught.value.message
    assert staging_site.server.password not in str(caught.value)
    assert not caught.value.retryable


def test_another_server_with_a_database_of_the_same_name_is_refused(
    staging_site: Site, postgres15: PostgresServer
) -> None:
    """The classic: the settings say localhost, and a tunnel to production listens there."""
    session = plan(staging_site.environment, staging_site.checkout).database
    postgres15.create_role("runbook")
    postgres15.execute(f'CREATE DATABASE "{staging_site.database}"')
    (staging_site.directory / "postgres15").write_text(postgres15.password)
    environment = staging_site.configure(
        database={"port": postgres15.port, "user": "postgres", "password": {"file": "postgres15"}}
    )
    with pytest.raises(WrongDatabaseError, match="which is not"):
        check_identity(environment, session)


def test_the_server_that_is_meant_can_be_named(staging_site: Site) -> None:
    session = plan(staging_site.environment, staging_site.checkout).database
    assert session.system_identifier is not None
    check_identity(staging_site.configure(database={"system_identifier": session.system_identifier}), session)
    with pytest.raises(WrongDatabaseError, match="not on 1234") as caught:
        check_identity(staging_site.configure(database={"system_identifier": "1234"}), session)
    assert "system_identifier" in caught.value.hint


def test_a_physical_copy_of_the_server_is_refused(staging_site: Site) -> None:
    """A restored snapshot keeps identifier, oid and name; the moment of its start is its own."""
    session = plan(staging_site.environment, staging_site.checkout).database
    copy = session.model_copy(update={"server_started": "1763780400.123456"})
    with pytest.raises(WrongDatabaseError, match="a physical copy of"):
        check_identity(staging_site.environment, copy)


def test_another_database_than_the_one_backed_up_is_refused(staging_site: Site) -> None:
    session = plan(staging_site.environment, staging_site.checkout).database
    with pytest.raises(WrongDatabaseError, match="which is not the database that was backed up"):
        check_identity(staging_site.environment, session, identity())


def test_a_server_that_does_not_tell_cannot_refute_but_name_and_oid_must_agree(staging_site: Site) -> None:
    session = plan(staging_site.environment, staging_site.checkout).database.model_copy(
        update={"system_identifier": None}
    )
    check_identity(staging_site.environment, session)
    for difference in ({"database": "other"}, {"database_oid": 1}):
        with pytest.raises(WrongDatabaseError):
            check_identity(staging_site.environment, session.model_copy(update=difference))


def test_an_application_on_another_engine_is_refused(staging_site: Site) -> None:
    (staging_site.app / "config" / "settings" / "elsewhere.py").write_text(
        "from config.settings.staging import *\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}\n"
    )
    environment = staging_site.configure(app={"settings": "config.settings.elsewhere"})
    with pytest.raises(WrongDatabaseError, match="is sqlite, not PostgreSQL") as caught:
        plan(environment, staging_site.checkout)
    assert "config.settings.elsewhere" in caught.value.hint


def test_a_database_that_cannot_be_asked_is_no_yes(staging_site: Site) -> None:
    session = plan(staging_site.environment, staging_site.checkout).database
    with pytest.raises(DatabaseError) as caught:
        check_identity(staging_site.configure(database={"name": "no_such_database"}), session)
    assert not caught.value.retryable
    point_application(staging_site, DATABASE_NAME="no_such_database")
    with pytest.raises(AppError, match="no_such_database"):
        plan(staging_site.environment, staging_site.checkout)
