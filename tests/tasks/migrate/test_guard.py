"""The guard: nobody waits for a migration longer than the budget, and it finishes as soon as it can without that."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tasks.migrate.apply import apply
from tasks.migrate.look import made_to_wait, without_literals
from tasks.migrate.sqlstate import Traceback, ended_by
from tasks.release.decisions import Closed
from tasks.release.errors import MigrationError
from tasks.release.plan import Applied
from tasks.release.release import Release
from tests.builders import AT
from tests.fix_app import Site
from tests.fix_prefect import until
from tests.tasks.migrate.conftest import Ready

TABLE = "documents_document"
REACTION_S = 0.6  # the guard's look, the cancelling and a busy machine


def migrated(site: Site, wanted: Release, told: list[str], blocking_s: float = 2, **migrate: Any) -> Applied:
    environment = site.configure(migrate=migrate, risk={"blocking_s": blocking_s})
    return apply(environment, wanted, lambda *_: None, told.append)


def published(
    site: Site, ready: Ready, operations: str, *, head: str = "", atomic: bool = True, **more: Any
) -> Release:
    """A release of v1.0 with one more migration."""
    text = (
        f"import time\nfrom django.db import migrations\n{head}\nclass Migration(migrations.Migration):\n"
        f"    atomic = {atomic}\n    dependencies = [('documents', '0001_initial')]\n    operations = [{operations}]\n"
    )
    tag = f"t{time.monotonic_ns()}"
    site.publish({"apps/documents/migrations/0002_guarded.py": text}, on="v1.0", tag=tag)
    return ready(tag, **more)


def session(site: Site, name: str, user: str | None = "chatbot") -> psycopg.Connection[Any]:
    return psycopg.connect(site.server.dsn(site.database, user), application_name=name, autocommit=False)


@contextmanager
def requests(site: Site, query: str) -> Iterator[list[float]]:
    """Requests of the application, one after the other while the block runs; the seconds that each took."""
    took: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        with psycopg.connect(site.server.dsn(site.database, "chatbot"), autocommit=True) as connection:
            while not ended.is_set():
                began = time.monotonic()
                connection.execute(query.encode())
                took.append(time.monotonic() - began)
                ended.wait(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        ended.set()
        thread.join()


def test_a_reader_that_holds_the_table_stalls_nobody(staging_site: Site, ready: Ready, told: list[str]) -> None:
    wanted = ready()
    with (
        session(staging_site, "reader") as reader,
        requests(staging_site, f"SELECT id FROM {TABLE} LIMIT 1") as took,
    ):
        reader.execute(f"SELECT 1 FROM {TABLE}".encode())

        def report(line: str) -> None:
            told.append(line)
            if "gave up waiting" in line:
                threading.Timer(1, reader.rollback).start()

        made = apply(staging_site.environment, wanted, lambda *_: None, report)
    assert max(took) < 0.5 + REACTION_S
    first, *_, last = made.attempts
    assert (first.ended_by, first.sqlstate, last.ended_by) == ("lock timeout", "55P03", "done")
    [holder] = first.holders
    assert (holder.application_name, holder.relation) == ("reader", TABLE)
    assert 0.2 < holder.waited_s < 0.5 + REACTION_S
    assert first.blocked_others_s > 0.2
    assert first.blocked_sessions == 1
    assert any(f"AccessExclusiveLock on {TABLE}" in statement.locks for statement in first.statements)


def test_who_idles_in_a_transaction_is_named_and_ended_only_where_allowed(
    staging_site: Site, ready: Ready, told: list[str]
) -> None:
    wanted = ready()
    with session(staging_site, "forgotten") as forgotten:
        forgotten.execute(f"SELECT 1 FROM {TABLE}".encode())
        with pytest.raises(MigrationError, match=r"for idle in transaction, process \d+ \(forgotten\)"):
            migrated(staging_site, wanted, told, patience_s=0.5)
        forgotten.execute(b"SELECT 1")  # it lives
        made = migrated(
            staging_site, wanted, told, patience_s=60, end_holders=["idle in transaction"], idle_holder_s=0.1
        )
        assert made.attempts[-1].ended_by == "done"
        with pytest.raises(psycopg.OperationalError):
            forgotten.execute(b"SELECT 1")
    assert "ended, as end_holders allows: idle in transaction" in "".join(told)


WORK = {
    "sql": (f"migrations.RunSQL(\"UPDATE {TABLE} SET title = 'secret'; SELECT pg_sleep(4)\")", ""),
    "python": (
        "migrations.RunPython(work)",
        (
            "def work(apps, schema_editor):\n"
            f"    schema_editor.execute('UPDATE {TABLE} SET title = title')\n"
            "    time.sleep(4)\n"
        ),
    ),
}


@pytest.mark.parametrize("kind", WORK)
def test_a_migration_that_blocks_by_its_own_work_is_cancelled_and_refused(
    staging_site: Site, ready: Ready, told: list[str], kind: str
) -> None:
    operations, head = WORK[kind]
    wanted = published(staging_site, ready, operations, head=head)
    with (
        requests(staging_site, f"UPDATE {TABLE} SET title = title WHERE id = 1") as took,
        pytest.raises(MigrationError, match=r"the guard cancelled it after .* 1 session waited") as caught,
    ):
        migrated(staging_site, wanted, told, blocking_s=0.5, patience_s=60 if kind == "sql" else 0)
    assert max(took) < 0.5 + REACTION_S
    if kind == "sql":
        assert "3 attempts" in str(caught.value)
        assert "its own work" in caught.value.hint
    assert not caught.value.retryable
    assert "secret" not in "".join(told) + str(caught.value)
    assert staging_site.psql(f"SELECT count(*) FROM {TABLE} WHERE title = 'secret'") == [(0,)]


def test_inside_maintenance_mode_it_takes_as_long_as_it_takes(
    staging_site: Site, ready: Ready, told: list[str]
) -> None:
    work = f"migrations.RunSQL(\"UPDATE {TABLE} SET title = 'done'; SELECT pg_sleep(1.5)\")"
    closed = Closed(since=AT, how="command", needed=True)
    wanted = published(staging_site, ready, work, maintenance=closed)
    with requests(staging_site, f"UPDATE {TABLE} SET title = title WHERE id = 1"):
        made = migrated(staging_site, wanted, told, blocking_s=0.3)
    [only] = made.attempts
    assert only.cancelled == 0
    assert only.blocked_others_s > 1
    assert any("pg_sleep(?)" in statement.text and "done" not in statement.text for statement in only.statements)


def test_a_deadlock_is_tried_again(staging_site: Site, ready: Ready, told: list[str]) -> None:
    lock = "migrations.RunSQL('LOCK TABLE {} IN ACCESS EXCLUSIVE MODE')"
    operations = f"{lock.format(TABLE)}, migrations.RunSQL('SELECT pg_sleep(0.7)'), {lock.format('auth_group')}"
    wanted = published(staging_site, ready, operations)

    def meet() -> None:
        with session(staging_site, "other", None) as other:
            other.execute(b"SET deadlock_timeout = '30s'")  # so that the migration is the one that is given up
            other.execute(b"LOCK TABLE auth_group")
            until(lambda: _holds(staging_site), "the migration holds its first table", 30)
            other.execute(f"LOCK TABLE {TABLE}".encode())

    thread = threading.Thread(target=meet)
    thread.start()
    made = migrated(staging_site, wanted, told, blocking_s=20, lock_timeout_s=15)
    thread.join()
    assert [one.ended_by for one in made.attempts] == ["deadlock", "done"]
    assert made.attempts[0].sqlstate == "40P01"


def _holds(site: Site) -> bool:
    return bool(
        site.psql(
            "SELECT 1 FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' AND relation = %s::regclass", TABLE
        )
    )


def test_a_concurrent_index_that_is_cut_off_is_dropped_and_built_anew(
    staging_site: Site, ready: Ready, told: list[str]
) -> None:
    wanted = ready()
    staging_site.manage("migrate", "documents", "0002")  # or the writer would be in its way
    building = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"
    with session(staging_site, "writer") as writer:
        writer.execute(f"UPDATE {TABLE} SET title = title WHERE id = 1".encode())

        def cut() -> None:
            until(lambda: bool(staging_site.psql(building)), "the index is being built", 30)
            staging_site.psql(f"SELECT pg_terminate_backend(pid) FROM ({building}) b")
            until(lambda: not staging_site.psql(building), "it was cut off", 30)
            writer.rollback()

        thread = threading.Thread(target=cut)
        thread.start()
        made = migrated(staging_site, wanted, told)
        thread.join()
    assert [one.ended_by for one in made.attempts] == ["connection lost", "done"]
    assert "documents_category_idx was left invalid by an earlier attempt: dropped" in "".join(told)
    assert staging_site.psql("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


def test_half_of_a_migration_without_transaction_is_not_tried_again(
    staging_site: Site, ready: Ready, told: list[str]
) -> None:
    operations = f"migrations.RunSQL('CREATE TABLE half ()'), migrations.RunSQL('ALTER TABLE {TABLE} ADD x int')"
    wanted = published(staging_site, ready, operations, atomic=False)
    with session(staging_site, "reader") as reader:
        reader.execute(f"SELECT 1 FROM {TABLE}".encode())
        with pytest.raises(MigrationError, match="lock timeout") as caught:
            migrated(staging_site, wanted, told)
    assert not caught.value.retryable
    assert "0002_guarded is not atomic and may have left one half behind" in caught.value.hint
    assert staging_site.psql("SELECT to_regclass('half') IS NOT NULL") == [(True,)]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("UPDATE a SET b = 'it''s', c = 12.5", "UPDATE a SET b = ?, c = ?"),
        (r"SELECT E'\'x' , $q$y $ z$q$, t1", "SELECT ? , ?, t1"),
        ("SELECT 'cut off by the ser", "SELECT ?"),
    ],
)
def test_no_value_is_kept(query: str, shown: str) -> None:
    assert without_literals(query) == shown


def test_who_waits_behind_others_is_made_to_wait_too() -> None:
    # 1 migrates and waits for 9; 2 is queued behind it, 3 behind 2; 4 waits for 9 alone.
    assert made_to_wait({1: [9], 2: [1, 9], 3: [2], 4: [9]}, [1]) == {2, 3}


@pytest.mark.parametrize(
    ("lines", "by_the_guard", "reason"),
    [
        (["psycopg.errors.LockNotAvailable: Verklemmung"], False, "lock timeout"),
        (["psycopg2.errors.DeadlockDetected: x"], False, "deadlock"),
        (["psycopg.errors.QueryCanceled: statement timeout"], False, "error"),
        (["psycopg.errors.QueryCanceled: user request"], True, "guard"),
        (["psycopg.errors.UniqueViolation: due to lock timeout"], True, "error"),
        (
            ["psycopg.OperationalError: x", "django.db.utils.OperationalError: the connection is lost"],
            False,
            "connection lost",
        ),
        (["ValueError: x"], False, "error"),
    ],
)
def test_the_class_of_the_exception_tells_why(lines: list[str], by_the_guard: bool, reason: str) -> None:
    traceback = Traceback()
    for line in lines:
        traceback.line(line)
    assert ended_by(traceback.sqlstate, lines[-1], by_the_guard=by_the_guard) == reason
