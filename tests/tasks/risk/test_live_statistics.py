"""What the server's statistics say of use, and what else runs on the server."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from deployments.embedded.account import prepare_place, server_account
from deployments.embedded.cluster import Cluster
from tasks.risk.live import LiveFacts
from tests.fix_postgres import PostgresServer
from tests.tasks.risk.live_databases import target

DEADLINE_S = 30.0
SETTINGS = {"fsync": "off", "shared_preload_libraries": "pg_stat_statements", "wal_level": "logical"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of its own, that remembers statements and can be followed."""
    home = tmp_path_factory.mktemp("statistics")
    place = prepare_place(home, server_account())
    cluster = Cluster("statistics", place.clusters / "statistics", place.bin, place.account, SETTINGS)
    server = PostgresServer(cluster, home, secrets.token_urlsafe(18))
    try:
        cluster.create(server.password, {}, durable=False)
        server.start()
        yield server
    finally:
        server.stop()
        if place.outside is not None:
            shutil.rmtree(place.outside, ignore_errors=True)


@pytest.fixture
def name(server: PostgresServer) -> Iterator[str]:
    name = server.create_database()
    yield name
    server.drop_database(name)


@pytest.fixture
def old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take statistics of a second for telling: the server has just been started."""
    monkeypatch.setattr("tasks.risk.statistics.YOUNGEST_S", 0.0)


def run(server: PostgresServer, name: str, *statements: str) -> None:
    """Run statements in a session that ends, and so hands in its counters."""
    with psycopg.connect(server.dsn(name), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def wait_until(server: PostgresServer, name: str, condition: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    with psycopg.connect(server.dsn(name), autocommit=True) as connection:
        while connection.execute(f"select {condition}".encode()).fetchone() != (True,):
            assert time.monotonic() < deadline, f"not true in time: {condition}"
            time.sleep(0.05)


def counted(table: str, what: str = "seq_scan + n_tup_ins") -> str:
    return f"(select {what} > 0 from pg_stat_user_tables where relname = '{table}')"


def test_young_statistics_are_unknown(server: PostgresServer, name: str) -> None:
    run(server, name, "create table t (id int)", "select pg_stat_reset()")
    with LiveFacts(target(server, name), "public") as facts:
        for answer in (facts.traffic("t"), facts.usage("t"), facts.usage("t", "id")):
            assert answer.value is None
            assert "less than 5 minutes ago" in answer.evidence


def test_counting_is_sure_since_the_servers_start(server: PostgresServer, name: str, old_enough: None) -> None:
    run(server, name, "create table t (id int)")
    with LiveFacts(target(server, name), "public") as facts:
        for answer in (facts.traffic("t"), facts.usage("t")):
            assert answer.value is not None
            assert "the server's start; what was counted before it is included" in answer.evidence
    run(server, name, "select pg_stat_reset()")
    with LiveFacts(target(server, name), "public") as facts:
        assert "the server's start" not in facts.usage("t").evidence


def test_whether_a_table_was_used(server: PostgresServer, name: str, old_enough: None) -> None:
    run(server, name, "create table used (id int)", "create table idle (id int)", "create view v as select 1 as id")
    run(server, name, "create table parted (id int) partition by range (id)")
    run(server, name, "create table part partition of parted for values from (0) to (9)")
    run(server, name, "select pg_stat_reset()")
    run(server, name, "insert into used values (1), (2)", "select * from used", "insert into parted values (1)")
    wait_until(server, name, counted("used", "seq_scan"))
    wait_until(server, name, counted("part", "n_tup_ins"))
    with LiveFacts(target(server, name), "public") as facts:
        facts.rows("idle")  # a scan of our own
        run(server, name, "select pg_stat_force_next_flush()")
        used, idle, parted = facts.usage("used"), facts.usage("idle"), facts.usage("parted")
        assert used.value is not None
        assert used.value.used
        assert "2 rows changed" in used.evidence
        assert "the last at" in used.evidence
        assert idle.value is not None
        assert not idle.value.used
        assert idle.value.since is not None
        assert f"not used since {idle.value.since:%Y-%m-%d}" in idle.evidence
        assert parted.value is not None
        assert parted.value.used  # by way of its partition
        column = facts.usage("idle", "id").value
        assert column is not None
        assert not column.used  # nobody looked at the table
        assert facts.usage("v").value is None
        traffic, none = facts.traffic("used").value, facts.traffic("idle").value
        assert traffic is not None
        assert traffic.writes_per_s > 0
        assert traffic.reads_per_s > 0
        assert none is not None
        assert (none.reads_per_s, none.writes_per_s) == (0, 0)


def test_whether_a_column_was_used(server: PostgresServer, name: str, old_enough: None) -> None:
    run(server, name, "create table t (id int, total int, subtotal int, code text)", "insert into t (id) values (1)")
    wait_until(server, name, counted("t"))
    with LiveFacts(target(server, name), "public") as facts:
        unknown = facts.usage("t", "total")
        assert unknown.value is None
        assert "pg_stat_statements" in unknown.evidence
    run(server, name, "create schema ext", "create extension pg_stat_statements schema ext")
    run(server, name, "select ext.pg_stat_statements_reset()", 'select "t"."subtotal" from "t" where "t"."id" = 3')
    run(server, name, "alter table t alter column code set default 'x'")
    with LiveFacts(target(server, name), "public") as facts:
        facts.nulls("t", "total")  # a question of our own names it
    with LiveFacts(target(server, name), "public") as facts:
        for column, expected in (("subtotal", True), ("id", True), ("total", False), ("code", False)):
            answer = facts.usage("t", column)
            assert answer.value is not None, answer.evidence
            assert answer.value.used is expected
    run(server, name, "select * from t")
    with LiveFacts(target(server, name), "public") as facts:
        assert facts.usage("t", "total").value is None  # one of the columns that were read
    server.create_role("little_seen")
    run(server, name, "grant usage on schema ext to little_seen")
    with LiveFacts(target(server, name, "little_seen"), "public") as facts:
        answer = facts.usage("t", "subtotal")
        assert answer.value is None
        assert "pg_read_all_stats" in answer.evidence


def test_the_oldest_transaction(server: PostgresServer, name: str) -> None:
    run(server, name, "create table t (id int)")
    with LiveFacts(target(server, name), "public") as facts:
        assert facts.longest_transaction().value == 0
    with psycopg.connect(server.dsn(name)) as connection:
        connection.execute("select 'secret' from t")
        process = connection.info.backend_pid
        time.sleep(0.2)  # how old it is, is what is measured
        with LiveFacts(target(server, name), "public") as facts:
            oldest = facts.longest_transaction()
    assert oldest.value is not None
    assert 0.2 <= oldest.value < DEADLINE_S
    assert f"tests, idle in transaction, process {process}" in oldest.evidence
    assert "secret" not in oldest.evidence


@contextmanager
def follower(server: PostgresServer, directory: Path) -> Iterator[None]:
    """Somebody who receives the server's log as a standby does, by its slot."""
    environment = {"PGPASSWORD": server.password, "PGAPPNAME": "follower"}
    command = [str(server.bin / "pg_receivewal"), "-h", server.host, "-p", str(server.port), "-U", server.superuser]
    process = subprocess.Popen([*command, "-D", str(directory), "-S", "standby_1", "-n"], env=environment)
    try:
        wait_until(server, "postgres", "exists (select from pg_stat_replication where state = 'streaming')")
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        wait_until(server, "postgres", "not exists (select from pg_replication_slots where active)")


def test_who_follows_a_table(server: PostgresServer, name: str, tmp_path: Path) -> None:
    run(server, name, "create table t (id int)", "create table other (id int)")
    run(server, name, "create table p (id int) partition by list (id)", "create table p1 partition of p default")
    run(server, name, "create publication pub for table t, p")
    with LiveFacts(target(server, name), "public") as facts:
        assert facts.replicas("t").value == ()  # published, and nobody subscribes
    run(server, name, "select pg_create_logical_replication_slot('sub', 'pgoutput')")
    run(server, name, "select pg_create_physical_replication_slot('standby_1', true)")
    try:
        with LiveFacts(target(server, name), "public") as facts:
            away = ("standby with slot standby_1, away now",)
            assert facts.replicas("other").value == away
            assert facts.replicas("t").value == ("publication pub (slot sub, away now)", *away)
            assert facts.replicas("p").value == facts.replicas("p1").value == facts.replicas("t").value
        with follower(server, tmp_path), LiveFacts(target(server, name), "public") as facts:
            assert facts.replicas("other").value == ("standby follower",)
    finally:
        run(server, name, "select pg_drop_replication_slot('sub')", "select pg_drop_replication_slot('standby_1')")
