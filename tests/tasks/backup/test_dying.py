"""Whatever dies in the middle of a backup, there is no backup afterwards, and nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from tasks.backup.create import create
from tasks.backup.manifest import load
from tasks.backup.verify import verify
from tasks.release.errors import BackupError, DatabaseError, RunbookError, StoreError
from tests.tasks.backup.conftest import Place, Server

QUIET: list[str] = []
DEADLINE_S = 30
COPYING = "application_name = 'runbook: backup' and query like 'COPY %bulk%'"


@pytest.fixture
def bulk(small: Place) -> Place:
    """A table that takes pg_dump a while: zstd cannot make it smaller."""
    small.execute(
        "create extension pgcrypto",
        "create table bulk (b bytea)",
        "alter table bulk alter b set storage external",
        "insert into bulk select gen_random_bytes(1000) || gen_random_bytes(1000) from generate_series(1, 20000)",
        "alter table bulk owner to shop",
    )
    return small


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.002)


def programs(*words: str) -> list[int]:
    """The client programs that this process started and that still run."""
    found = []
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = (directory / "stat").read_text().rpartition(")")[2].split()
            line = (directory / "cmdline").read_bytes().decode()
            if int(status[1]) == os.getpid() and status[0] != "Z" and all(word in line for word in words):
                found.append(int(directory.name))
    return found


def sessions(server: Server, where: LiteralString) -> list[int]:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        query: LiteralString = "select pid from pg_stat_activity where pid <> pg_backend_pid() and "
        return [row[0] for row in connection.execute(query + where)]


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something beside the block, and see that it was done."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 -- raised in the test's own thread
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if failed:
            raise failed[0]


def no_backup(place: Place) -> None:
    assert load(place.bucket, "r1") is None
    assert place.stored() == []
    assert place.unfinished() == []
    assert programs("pg_dump") == []
    until(lambda: sessions(place.server, "application_name like 'runbook: %'") == [])


def test_pg_dump_is_killed(bulk: Place) -> None:
    def kill() -> None:
        until(lambda: sessions(bulk.server, COPYING) != [])
        os.kill(programs("pg_dump")[0], signal.SIGKILL)

    with meanwhile(kill), pytest.raises(BackupError, match="signal 9") as caught:
        create(bulk.environment(), bulk.bucket, "r1", QUIET.append)
    assert "shop/backups/r1/database.dump" in str(caught.value)
    no_backup(bulk)
    # The same id can be tried again.
    backup = create(bulk.environment(), bulk.bucket, "r1", QUIET.append)
    verify(bulk.environment(), bulk.bucket, backup, "read", QUIET.append)


def test_one_of_several_dumps_is_cut_in_the_middle(bulk: Place) -> None:
    def cut() -> None:
        until(lambda: sessions(bulk.server, COPYING) != [])
        [pid] = sessions(bulk.server, COPYING)
        bulk.execute(f"select pg_terminate_backend({pid})")

    with meanwhile(cut), pytest.raises(BackupError) as caught:
        create(bulk.environment(table_groups=3), bulk.bucket, "r1", QUIET.append)
    assert "connection" in str(caught.value)  # terminated, or closed: whichever of the two pg_dump reads
    assert "shop/backups/r1/" in str(caught.value)
    assert caught.value.retryable
    no_backup(bulk)


def test_the_snapshot_is_lost(bulk: Place) -> None:
    def lose() -> None:
        until(lambda: sessions(bulk.server, COPYING) != [])
        [pid] = sessions(bulk.server, "application_name = 'runbook: backup snapshot'")
        bulk.execute(f"select pg_terminate_backend({pid})")

    with meanwhile(lose), pytest.raises(RunbookError) as caught:
        create(bulk.environment(), bulk.bucket, "r1", QUIET.append)
    assert isinstance(caught.value, BackupError | DatabaseError)
    assert caught.value.retryable
    assert load(bulk.bucket, "r1") is None


def test_a_fingerprint_that_fails_ends_the_dump(small: Place) -> None:
    """The dump waits for a lock; it is ended instead of waited for."""
    fingerprinting: LiteralString = "application_name = 'runbook: fingerprints' and wait_event_type = 'Lock'"
    dumping: LiteralString = "application_name = 'runbook: backup' and wait_event_type = 'Lock'"

    def fail() -> None:
        until(lambda: sessions(small.server, fingerprinting) != [])
        until(lambda: sessions(small.server, dumping) != [])
        [pid] = sessions(small.server, fingerprinting)
        small.execute(f"select pg_cancel_backend({pid})")

    began = time.monotonic()
    with small.connect() as holder:

        def lock(told: str) -> None:
            if told.startswith("dumping"):
                holder.execute("begin; lock table item in access exclusive mode")

        with meanwhile(fail), pytest.raises(DatabaseError, match=r"public\.item"):
            create(small.environment(), small.bucket, "r1", lock)
    assert time.monotonic() - began < DEADLINE_S
    no_backup(small)


def test_our_own_process_is_killed(bulk: Place, tmp_path: Path) -> None:
    """pg_dump does not outlive it, and the next attempt cleans up."""
    script = tmp_path / "back_up.py"
    script.write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        "from tasks.backup.create import create\n"
        "from tasks.release.environment import parse\n"
        "from tasks.store.bucket import Bucket\n"
        "environment = parse(json.load(sys.stdin), Path('/somewhere/shop.toml'))\n"
        "create(environment, Bucket(environment.storage), 'r1', print)\n"
    )
    secrets = {"PG": bulk.server.password, "AK": "", "SK": ""}
    storage = bulk.bucket.storage
    assert storage.access_key
    assert storage.secret_key
    secrets |= {"AK": storage.access_key.get_secret_value(), "SK": storage.secret_key.get_secret_value()}
    content: dict[str, Any] = bulk.content | {
        "database": bulk.content["database"] | {"password": {"env": "PG"}},
        "storage": bulk.content["storage"] | {"access_key": {"env": "AK"}, "secret_key": {"env": "SK"}},
    }
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        env=os.environ | secrets | {"PYTHONPATH": str(Path(__file__).parents[3])},
        text=True,
    )
    assert process.stdin
    process.stdin.write(json.dumps(content))
    process.stdin.close()
    try:
        until(lambda: sessions(bulk.server, COPYING) != [])
    finally:
        process.kill()
        process.wait()
    until(lambda: sessions(bulk.server, "application_name like 'runbook: %'") == [])
    assert load(bulk.bucket, "r1") is None
    backup = create(bulk.environment(), bulk.bucket, "r1", QUIET.append)
    verify(bulk.environment(), bulk.bucket, backup, "read", QUIET.append)
    assert bulk.unfinished() == []


def test_the_store_is_killed(bulk: Place, s3: Any) -> None:
    def kill() -> None:
        until(lambda: sessions(bulk.server, COPYING) != [])
        s3.kill()

    try:
        with meanwhile(kill), pytest.raises(StoreError, match=r"shop/backups/r1/database\.dump") as caught:
            create(bulk.environment(), bulk.bucket, "r1", QUIET.append)
        assert caught.value.retryable
        assert caught.value.key == "shop/backups/r1/database.dump"
        assert programs("pg_dump") == []
    finally:
        s3.start()
    assert load(bulk.bucket, "r1") is None
    assert bulk.stored() == []
