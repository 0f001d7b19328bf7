"""Copies of a restored database: whole, marked, and dropped whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from tasks.backup.create import create
from tasks.backup.manifest import load
from tasks.backup.scratch import clone, drop_leftover_scratch, scratch
from tasks.backup.verify import Copy, proved_copy
from tasks.release.errors import DatabaseError
from tests.tasks.backup.conftest import Place

QUIET: list[str] = []


@pytest.fixture
def copy(small: Place) -> Iterator[Copy]:
    backup = create(small.environment(), small.bucket, "r1", QUIET.append)
    with proved_copy(small.environment(), small.bucket, backup, QUIET.append) as made:
        yield made


def rows(place: Place, dbname: str) -> int:
    with psycopg.connect(place.server.dsn(dbname)) as connection:
        [(count,)] = connection.execute("select count(*) from item").fetchall()
        return int(count)


def test_a_copy_holds_everything_and_is_dropped(small: Place, copy: Copy) -> None:
    somebody = psycopg.connect(small.server.dsn(copy.dbname, "shop"))
    with clone(small.environment(), copy.manifest, copy.dbname, QUIET.append) as dbname:
        assert rows(small, dbname) == 500
        with psycopg.connect(small.server.dsn(dbname)) as connection:
            connection.execute("delete from item")
            owner, comment = connection.execute(  # type: ignore[misc]
                "select pg_get_userbyid(datdba), shobj_description(oid, 'pg_database') from pg_database"
                " where datname = current_database()"
            ).fetchone()
            assert owner == "shop"
            assert json.loads(comment)["backup"] == "r1"
    assert dbname not in small.databases()
    assert rows(small, copy.dbname) == 500
    with pytest.raises(psycopg.OperationalError):
        somebody.execute("select 1")


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_it_is_dropped_on_an_error(small: Place, copy: Copy, error: type[BaseException]) -> None:
    names = []
    with pytest.raises(error), clone(small.environment(), copy.manifest, copy.dbname, QUIET.append) as dbname:  # noqa: PT012
        names.append(dbname)
        raise error
    assert not set(names) & small.databases()


def test_what_a_run_that_died_has_left_is_found(small: Place, copy: Copy) -> None:
    environment = small.environment()
    # Killed: what the blocks would have done at their end is not done.
    dead = clone(environment, copy.manifest, copy.dbname, QUIET.append)
    left = dead.__enter__()
    with clone(environment, copy.manifest, copy.dbname, QUIET.append) as dbname:
        assert dbname == left
        assert rows(small, dbname) == 500
        assert left in drop_leftover_scratch(environment, timedelta(0))
    assert left not in small.databases()


def test_what_a_run_that_died_has_not_marked_yet_is_replaced(small: Place, copy: Copy) -> None:
    """The server completes a copy that nobody waits for any more."""
    environment = small.environment()
    with clone(environment, copy.manifest, copy.dbname, QUIET.append) as dbname:
        pass
    half_made = sql.SQL("create database {} owner shop template {} allow_connections false")
    small.server.execute(half_made.format(sql.Identifier(dbname), sql.Identifier(copy.dbname)))
    with clone(environment, copy.manifest, copy.dbname, QUIET.append) as again:
        assert again == dbname
        assert rows(small, again) == 500


def test_a_superuser_who_looks_at_it_keeps_it_from_being_copied(small: Place) -> None:
    environment = small.environment()
    create(environment, small.bucket, "r1", QUIET.append)
    manifest = load(small.bucket, "r1")
    assert manifest is not None
    with scratch(environment, manifest, QUIET.append) as empty:
        with (
            psycopg.connect(small.server.dsn(empty)),
            pytest.raises(DatabaseError, match="being accessed by other users") as caught,
            clone(environment, manifest, empty, QUIET.append),
        ):
            pass
        assert caught.value.retryable
        assert "end that session" in caught.value.hint
        # It is open again.
        with clone(environment, manifest, empty, QUIET.append) as dbname:
            assert dbname in small.databases()
        psycopg.connect(small.server.dsn(empty, "shop")).close()


def test_the_live_database_is_never_copied_from(small: Place, copy: Copy) -> None:
    """To be copied, a database is shut to everybody: a wrong name must not reach that far."""
    live = small.environment().database.name
    with psycopg.connect(small.server.dsn(live, "shop")) as somebody:
        with (
            pytest.raises(DatabaseError, match="no scratch database of ours"),
            clone(small.environment(), copy.manifest, live, QUIET.append),
        ):
            pass
        assert somebody.execute("select 1").fetchone() == (1,)
        assert somebody.execute(
            "select datallowconn from pg_database where datname = current_database()"
        ).fetchone() == (True,)
