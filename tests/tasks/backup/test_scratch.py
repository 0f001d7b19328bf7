"""Scratch databases: dropped whatever happens, and found when it could not be done."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from tasks.backup.create import create
from tasks.backup.manifest import load
from tasks.backup.scratch import create_database, drop_leftover_scratch, scratch, scratch_name
from tasks.backup.verify import verify
from tasks.release.backup import Manifest
from tasks.release.errors import BackupError, DatabaseError
from tests.tasks.backup.conftest import Place

QUIET: list[str] = []
SCRATCH = scratch_name("shop", "R-2026.11")


@pytest.fixture
def manifest(small: Place) -> Manifest:
    create(small.environment(), small.bucket, "R-2026.11", QUIET.append)
    manifest = load(small.bucket, "R-2026.11")
    assert manifest is not None
    return manifest


def test_names() -> None:
    assert SCRATCH.startswith("rb_scratch_r_2026_11_")
    backups = ["v1.1", "v1-1", "V1.1", "v1_1", *("x" * 80 + end for end in "ab")]
    names = {scratch_name(environment, backup) for environment in ("shop", "other") for backup in backups}
    assert len(names) == 2 * len(backups)
    assert max(map(len, names)) == 63


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_it_is_dropped_on_an_error(small: Place, manifest: Manifest, error: type[BaseException]) -> None:
    environment = small.environment()
    with pytest.raises(error), scratch(environment, manifest, QUIET.append) as dbname:  # noqa: PT012 -- the block is what raises
        assert dbname in small.databases()
        # Somebody who looks at it does not keep it.
        look = psycopg.connect(small.server.dsn(dbname, "shop"))
        raise error
    assert SCRATCH not in small.databases()
    with pytest.raises(psycopg.OperationalError):
        look.execute("select 1")
    look.close()


@pytest.mark.parametrize(
    ("encoding", "provider"),
    [("LATIN1", ""), ("UTF8", " locale_provider builtin builtin_locale 'C.UTF-8'"), ("SQL_ASCII", "")],
)
def test_it_is_made_like_the_source(small: Place, encoding: str, provider: str) -> None:
    name = f"{small.dbname}_like"
    statement = f"create database {name} owner shop template template0 encoding '{encoding}' locale 'C'{provider}"
    small.server.execute(sql.SQL(statement))  # type: ignore[arg-type]
    try:
        content = small.content | {"database": small.content["database"] | {"name": name}}
        like = Place(small.server, name, small.bucket, content)
        with like.connect() as connection:
            connection.execute("create table maß (t text, u text)")
            connection.execute("insert into maß select 'ä' || g from generate_series(1, 9) g")
            connection.execute("create table plain as select 1 as x")
        environment = like.environment(table_groups=3)
        backup = create(environment, like.bucket, "r1", QUIET.append)
        verify(environment, like.bucket, backup, "restored", QUIET.append)
    finally:
        small.server.drop_database(name)


def test_a_scratch_that_cannot_be_dropped_is_told(small: Place, manifest: Manifest) -> None:
    environment = small.environment()
    told: list[str] = []
    with scratch(environment, manifest, told.append) as dbname:
        superuser = psycopg.connect(small.server.dsn(dbname))
    assert any(f"{dbname} is left behind" in sentence for sentence in told)
    with pytest.raises(DatabaseError, match="end that session"), scratch(environment, manifest, told.append):
        pass
    superuser.close()
    with scratch(environment, manifest, QUIET.append):
        pass
    assert dbname not in small.databases()


def test_a_leftover_of_the_same_backup_is_replaced(small: Place, manifest: Manifest) -> None:
    environment = small.environment()
    mark = '{"runbook": "scratch", "environment": "shop", "backup": "R-2026.11", "made_at": "2026-11-22T00:00:00Z"}'
    create_database(environment.database, manifest, SCRATCH, mark)
    with psycopg.connect(small.server.dsn(SCRATCH, "shop"), autocommit=True) as connection:
        connection.execute("create table item (left_over int)")
        with (
            scratch(environment, manifest, QUIET.append) as dbname,
            psycopg.connect(small.server.dsn(dbname, "shop")) as other,
        ):
            assert other.execute("select to_regclass('item')").fetchone() == (None,)


def test_one_that_was_not_opened_yet_is_replaced(small: Place, manifest: Manifest) -> None:
    """As it is left by a run that died between making and marking it."""
    half_made = sql.SQL("create database {} owner shop allow_connections false")
    small.server.execute(half_made.format(sql.Identifier(SCRATCH)))
    with scratch(small.environment(), manifest, QUIET.append) as dbname:
        assert dbname == SCRATCH
    assert SCRATCH not in small.databases()


def test_one_that_cannot_be_marked_is_dropped(small: Place, manifest: Manifest) -> None:
    with pytest.raises(DatabaseError, match="cannot mark"):
        create_database(small.environment().database, manifest, SCRATCH, "no comment holds a \0")
    assert SCRATCH not in small.databases()


@pytest.mark.parametrize(
    "mark", ["keep this", '{"runbook": "scratch", "environment": "another", "backup": "R-2026.11", "made_at": ""}']
)
def test_a_database_of_somebody_else_is_kept(small: Place, manifest: Manifest, mark: str) -> None:
    environment = small.environment()
    create_database(environment.database, manifest, SCRATCH, mark)
    try:
        with psycopg.connect(small.server.dsn(SCRATCH, "shop"), autocommit=True) as connection:
            connection.execute("create table theirs (id int)")
        with pytest.raises(DatabaseError, match="was not made for") as caught, scratch(environment, manifest, print):
            pass
        assert SCRATCH in caught.value.message
        assert not caught.value.retryable
        assert SCRATCH in small.databases()
    finally:
        small.server.drop_database(SCRATCH)


def test_a_database_that_somebody_else_made_meanwhile_is_kept(
    small: Place, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = small.environment()
    # Between the look and the making: the name is taken by then.
    monkeypatch.setattr(
        "tasks.backup.scratch._drop_leftover",
        lambda *_: create_database(environment.database, manifest, SCRATCH, "of another run"),
    )
    try:
        with pytest.raises(DatabaseError) as caught, scratch(environment, manifest, QUIET.append):
            pass
        assert caught.value.sqlstate == "42P04"
        assert SCRATCH in small.databases()
    finally:
        small.server.drop_database(SCRATCH)


def test_the_one_that_another_run_has_made_since_is_kept(small: Place, manifest: Manifest) -> None:
    environment = small.environment()
    try:
        with scratch(environment, manifest, QUIET.append):
            small.server.drop_database(SCRATCH)
            create_database(environment.database, manifest, SCRATCH, "of another run")
        assert SCRATCH in small.databases()
    finally:
        small.server.drop_database(SCRATCH)


def test_an_owner_that_nothing_can_be_given_to(small: Place) -> None:
    """From PostgreSQL 16 on a member may be kept from becoming the role."""
    small.server.create_role("landlord")
    small.execute(
        "grant landlord to runbook with set false, inherit true",
        "alter table item owner to landlord",
    )
    small.server.execute(sql.SQL("alter database {} owner to landlord").format(sql.Identifier(small.dbname)))
    environment = small.environment()
    backup = create(environment, small.bucket, "r1", QUIET.append)
    verification = verify(environment, small.bucket, backup, "restored", QUIET.append)
    assert any("cannot become landlord" in finding for finding in verification.findings)


def test_a_sweep_finds_what_is_old_and_ours(small: Place, manifest: Manifest) -> None:
    environment = small.environment()
    name = "rb_scratch_of_mine"
    made_at = datetime.now(UTC) - timedelta(hours=3)
    mark = f'{{"runbook": "scratch", "environment": "%s", "backup": "x", "made_at": "{made_at.isoformat()}"}}'
    create_database(environment.database, manifest, name, mark % "shop")
    create_database(environment.database, manifest, "rb_scratch_of_another", mark % "another")
    create_database(environment.database, manifest, "rb_scratch_by_hand", "keep this")
    try:
        assert drop_leftover_scratch(environment, timedelta(hours=4)) == ()
        assert drop_leftover_scratch(environment, timedelta(hours=2)) == (name,)
        assert {"rb_scratch_of_another", "rb_scratch_by_hand"} <= small.databases()
        with scratch(environment, manifest, QUIET.append) as dbname:
            assert drop_leftover_scratch(environment, timedelta(0)) == (dbname,)
    finally:
        small.server.drop_database("rb_scratch_of_another")
        small.server.drop_database("rb_scratch_by_hand")


def test_a_restore_that_fails_leaves_no_scratch(small: Place) -> None:
    """The dump holds what this role cannot restore: said in pg_restore's words, and the scratch database is gone."""
    small.execute(
        "create function untrusted() returns int language internal as 'pg_backend_pid'",
        "alter function untrusted() owner to shop",
    )
    environment = small.environment()
    backup = create(environment, small.bucket, "r1", QUIET.append)
    before = small.databases()
    with pytest.raises(BackupError, match="permission denied for language internal") as caught:
        verify(environment, small.bucket, backup, "restored", QUIET.append)
    assert scratch_name("shop", "r1") in str(caught.value)
    assert small.server.password not in str(caught.value)
    assert small.databases() == before


def test_the_server_goes_away_while_restoring(small: Place) -> None:
    with small.connect() as connection:
        connection.execute("insert into item select g, repeat('y', 400) from generate_series(1, 50000) g")
    environment = small.environment()
    backup = create(environment, small.bucket, "r1", QUIET.append)
    done = threading.Event()

    def terminate() -> None:
        with psycopg.connect(small.server.dsn(), autocommit=True) as connection:
            while not done.is_set():
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
                    " and application_name = 'runbook: restore' and query like 'COPY %%'",
                    [scratch_name("shop", "r1")],
                )

    thread = threading.Thread(target=terminate)
    thread.start()
    try:
        with pytest.raises(BackupError) as caught:
            verify(environment, small.bucket, backup, "restored", QUIET.append)
    finally:
        done.set()
        thread.join()
    assert caught.value.retryable
    assert scratch_name("shop", "r1") not in small.databases()
    verify(environment, small.bucket, backup, "restored", QUIET.append)
