"""Facts that are hard to get: privileges, locks, time, lost connections, writers, older servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tasks.risk.facts import Answer
from tasks.risk.live import LiveFacts
from tests.fix_postgres import PostgresServer
from tests.tasks.risk.live_databases import facts, run, target

__all__ = ["facts", "run"]  # fixtures


@contextmanager
def locked(server: PostgresServer, name: str, table: str) -> Iterator[None]:
    with psycopg.connect(server.dsn(name)) as connection:
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
        yield


def test_without_a_privilege_the_catalogue_answers(
    postgres: PostgresServer, database: str, run: Callable[[str], None]
) -> None:
    postgres.create_role("nobody_much")
    run("create table t (id int, total int);;insert into t select i, i from generate_series(1, 5000) i;;analyze t")
    run("create table fresh (id int);;insert into fresh values (1)")
    run("create table shielded (id int);;insert into shielded values (1), (2)")
    run("alter table shielded enable row level security;;grant select on shielded to nobody_much")
    with LiveFacts(target(postgres, database, "nobody_much"), "public") as facts:
        rows = facts.rows("t")
        assert (rows.value, "estimate" in rows.evidence) == (5000, True)
        assert facts.rows("fresh").value is None
        nulls = facts.nulls("t", "total")
        assert nulls.value is None
        assert "permission denied for table t" in nulls.evidence
        # A policy would show this role no row at all.
        hidden = facts.nulls("shielded", "id")
        assert hidden.value is None
        assert "row-level security" in hidden.evidence
        for answer in (facts.longest_transaction(), facts.replicas("t")):
            assert answer.value is None
            assert "pg_monitor" in answer.evidence
        assert facts.column("t", "total").value is not None


def test_a_schema_that_the_role_may_not_use(
    postgres: PostgresServer, database: str, run: Callable[[str], None]
) -> None:
    postgres.create_role("nobody_much")
    run("create schema closed;;create table closed.t (id int, total int)")
    with LiveFacts(target(postgres, database, "nobody_much"), "closed") as facts:
        assert facts.exists("t").value is True
        assert facts.column("t", "total").value is not None
        assert facts.nulls("t", "total").value is None


def test_a_locked_table_does_not_keep_anybody_waiting(
    postgres: PostgresServer, database: str, run: Callable[[str], None]
) -> None:
    run("create table t (id int);;create table free (id int)")
    with LiveFacts(target(postgres, database), "public") as facts, locked(postgres, database, "t"):
        answer = facts.nulls("t", "id")
        assert answer.value is None
        assert "locked by somebody else" in answer.evidence
        assert facts.rows("free").value == 0


def test_statements_and_their_sum_are_bounded(
    postgres: PostgresServer, database: str, run: Callable[[str], None]
) -> None:
    run("create table t (id int);;insert into t values (1)")
    began = time.monotonic()
    with LiveFacts(target(postgres, database), "public", statement_timeout_s=0.3, total_s=1) as facts:
        slow = facts.violators("t", "pg_sleep(30) is null")
        assert slow.value is None
        assert "no answer within 0.3 s" in slow.evidence
        assert facts.rows("t").value == 1
        for number in range(10):
            last = facts.violators("t", f"pg_sleep(30 + {number}) is null")
        assert last.value is None
        assert "not asked: the time for facts is used up" in last.evidence
    assert time.monotonic() - began < 10


def test_what_is_asked_again_is_not_asked_again(facts: LiveFacts, run: Callable[[str], None]) -> None:
    run("create table t (id int)")
    first = facts.rows("t")
    run("insert into t values (1)")
    assert facts.rows("t") is first
    facts.exists("t")
    facts.rows("t")
    assert facts.asked() == ("t has 0 rows (counted)", "t is there, in schema public")


def test_a_lost_connection_is_made_anew(
    postgres: PostgresServer, database: str, facts: LiveFacts, run: Callable[[str], None]
) -> None:
    run("create table t (id int)")
    assert facts.exists("t").value is True
    run("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'runbook: facts'")
    lost = facts.rows("t")
    assert lost.value is None
    assert facts.nulls("t", "id").value is None or facts.size_bytes("t").value == 0
    assert facts.partitions("t").value == ()
    assert postgres.password not in " ".join(facts.asked())


def test_nothing_can_be_written(facts: LiveFacts, run: Callable[[str], None]) -> None:
    run("create table t (id int);;insert into t values (1)")
    run("create function remove() returns bool language plpgsql as 'begin delete from t; return true; end'")
    for check in (
        "remove()",
        "true); delete from t; select (true",
        "set_config('transaction_read_only', 'off', false) = 'off' and remove()",
    ):
        assert facts.violators("t", check).value is None
    rows = facts.rows("t")
    assert rows.value == 1


def test_a_writer_is_not_disturbed(postgres: PostgresServer, database: str, run: Callable[[str], None]) -> None:
    run(
        "create table t (id serial primary key, total int);;"
        "insert into t (total) select i from generate_series(1, 500) i"
    )
    stop, failed = threading.Event(), list[Exception]()
    written = 0

    def write() -> None:
        nonlocal written
        try:
            with psycopg.connect(postgres.dsn(database), autocommit=True) as connection:
                while not stop.is_set():
                    connection.execute("insert into t (total) values (null)")
                    connection.execute("update t set total = 1 where id = 1")
                    written += 1
        except psycopg.Error as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with LiveFacts(target(postgres, database), "public") as facts:
            nulls = facts.nulls("t", "total").value
            rows = facts.rows("t").value
            duplicates = facts.duplicates("t", ["id"]).value
    finally:
        stop.set()
        writer.join(30)
    assert not failed
    assert written > 0
    assert rows is not None
    assert rows >= 500
    assert nulls is not None
    assert nulls.of - nulls.count == 500
    assert duplicates is not None
    assert duplicates.count == 0


def test_older_servers_are_understood(postgres15: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.risk.statistics.YOUNGEST_S", 0.0)
    name = postgres15.create_database()
    postgres15.execute(
        "create table t (id int primary key, code varchar(20), n int, constraint c check (n is not null))",
        "insert into t select i, 'code-' || i, i from generate_series(1, 200000) i",
        "analyze t",
        dbname=name,
    )
    try:
        with LiveFacts(target(postgres15, name), "public") as facts:
            answers: list[Answer[Any]] = [
                facts.exists("t"),
                facts.rows("t"),
                facts.size_bytes("t"),
                facts.traffic("t"),
                facts.usage("t"),
                facts.column("t", "code"),
                facts.nulls("t", "code"),
                facts.duplicates("t", ["code"]),
                facts.orphans("t", ("n",), "t", ("id",)),
                facts.misfits("t", "code", "varchar(11)"),
                facts.misfits("t", "code", "integer"),
                facts.violators("t", "n > 1"),
                facts.checked_not_null("t", "n"),
                facts.index("t_pkey"),
                facts.dependents("t", "code"),
                facts.referenced_by("t"),
                facts.partitions("t"),
                facts.replicas("t"),
                facts.longest_transaction(),
            ]
            assert not [answer.evidence for answer in answers if answer.value is None]
            assert "can only be tried" in facts.misfits("t", "code", "uuid").evidence
    finally:
        postgres15.drop_database(name)
