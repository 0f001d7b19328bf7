"""What is stopped ends soon, even where the server is gone, and the first error is the one that is told."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from tasks.backup.contents import Table, tables_of
from tasks.backup.create import client_for, create
from tasks.backup.dump import Dump, Dumper
from tasks.backup.fingerprints import Fingerprinter
from tasks.backup.manifest import load
from tasks.backup.restore import restore
from tasks.backup.scratch import scratch
from tasks.backup.side_by_side import run_side_by_side
from tasks.backup.snapshot import exported, reading
from tasks.release.errors import BackupError, DatabaseError
from tests.tasks.backup.conftest import Place
from tests.tasks.backup.relay import Relay, relay

QUIET: list[str] = []
DEADLINE_S = 30
WAITING: LiteralString = "select pid from pg_stat_activity where wait_event_type = 'Lock' and application_name = "


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def command_lines(word: str) -> list[str]:
    """Of the processes that this one started."""
    found = []
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = (directory / "stat").read_text().rpartition(")")[2].split()
            line = (directory / "cmdline").read_bytes().decode()
            if int(status[1]) == os.getpid() and status[0] != "Z" and word in line:
                found.append(line)
    return found


def waiting(place: Place, name: LiteralString) -> list[Any]:
    with psycopg.connect(place.server.dsn()) as connection:
        return connection.execute(f"{WAITING} 'runbook: {name}'").fetchall()


@pytest.fixture
def tables(small: Place) -> tuple[Table, ...]:
    with reading(small.environment().database, "look") as connection:
        return tables_of(connection)


@pytest.fixture
def way(small: Place) -> Iterator[Relay]:
    with relay(small.server.port) as way:
        yield way


@pytest.fixture
def locked(small: Place, tables: tuple[Table, ...]) -> Iterator[None]:
    """Somebody holds the table for as long as the test runs."""
    assert tables
    with small.connect() as holder:
        holder.execute("begin; lock table item in access exclusive mode")
        yield


def test_the_first_error_is_told_when_the_others_cannot_be_stopped() -> None:
    end = threading.Event()

    def fail() -> None:
        raise DatabaseError("the server is gone", retryable=True)

    def stop() -> None:
        end.set()
        raise psycopg.OperationalError("nobody there")

    with pytest.raises(DatabaseError, match="the server is gone") as caught:
        run_side_by_side([lambda: bool(end.wait(DEADLINE_S)), fail], stop)
    assert caught.value.retryable
    assert caught.value.__notes__ == ["the other jobs could not be stopped: nobody there"]


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("how", ["mute", "refuse"])
def test_a_server_that_is_gone_can_be_stopped(
    small: Place, way: Relay, tables: tuple[Table, ...], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("tasks.backup.fingerprints.CANCEL_TIMEOUT_S", 0.2)
    database = small.environment().database.model_copy(update={"port": way.port})
    fingerprinter = Fingerprinter(database, tables)
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(job) for job in fingerprinter.jobs()]
        try:
            until(lambda: waiting(small, "fingerprints"))
            way.mute() if how == "mute" else way.refuse()
            breaker = threading.Timer(DEADLINE_S / 3, way.cut)
            breaker.start()
            began = time.monotonic()
            fingerprinter.stop()
            assert time.monotonic() - began < DEADLINE_S / 4
        finally:
            breaker.cancel()
            way.cut()
        errors = [future.exception() for future in futures if future.exception()]
    assert errors
    for error in errors:
        assert isinstance(error, DatabaseError)
        assert error.retryable


def test_a_snapshot_that_may_not_be_exported(small: Place) -> None:
    small.execute("revoke execute on function pg_export_snapshot() from public")
    with (
        pytest.raises(DatabaseError, match=f"cannot export a snapshot of {small.dbname}") as caught,
        exported(small.environment().database),
    ):
        pass
    assert caught.value.sqlstate == "42501"
    assert not caught.value.retryable


@pytest.mark.usefixtures("locked")
def test_a_dump_has_a_deadline(
    small: Place, way: Relay, tables: tuple[Table, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the server does not answer any more: pg_dump waits for it even to cancel, and is killed."""
    monkeypatch.setattr("tasks.backup.client.GRACE_S", 0.2)
    environment = small.environment()
    database = environment.database.model_copy(update={"port": way.port})
    client = client_for(environment, 170000)
    dumper = Dumper(client, database, None, small.bucket, "shop/backups/r1/", part_bytes=5 * 2**20, timeout_s=2)
    with ThreadPoolExecutor() as pool:
        breaker = threading.Timer(DEADLINE_S, way.cut)
        breaker.start()
        try:
            future = pool.submit(dumper.run, Dump("database", ()))
            until(lambda: waiting(small, "backup"))
            [line] = command_lines("pg_dump")
            way.mute()
            with pytest.raises(BackupError, match="pg_dump ran out of time") as caught:
                future.result(DEADLINE_S / 2)
        finally:
            breaker.cancel()
            way.cut()
    assert "[backup] timeout_s" in caught.value.hint
    assert not caught.value.retryable
    assert command_lines("pg_dump") == []
    assert small.stored() == small.unfinished() == []
    # A connection that is dead is noticed by itself, and nobody reads the password in `ps`.
    assert "keepalives_idle=30" in line
    assert small.server.password not in line


def test_a_restore_has_a_deadline(small: Place) -> None:
    create(small.environment(), small.bucket, "r1", QUIET.append)
    manifest = load(small.bucket, "r1")
    assert manifest is not None
    environment = small.environment(timeout_s=0.001)
    with (
        scratch(environment, manifest, QUIET.append) as dbname,
        pytest.raises(BackupError, match="pg_restore ran out of time") as caught,
    ):
        restore(environment, small.bucket, manifest, dbname, QUIET.append)
    assert "[backup] timeout_s" in caught.value.hint
    assert not caught.value.retryable
