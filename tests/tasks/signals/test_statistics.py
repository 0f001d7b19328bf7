"""PostgreSQL's counters become what changed, and never something that did not happen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from pydantic import SecretStr

from deployments.embedded.account import prepare_place, server_account
from deployments.embedded.cluster import Cluster
from tasks.release.environment import Database
from tasks.signals.changes import changes
from tasks.signals.sample import Sample
from tasks.signals.statistics import Series, Snapshot, digest_of, take_snapshot
from tests.fix_postgres import PostgresServer

NOON = 1_772_452_800.0  # 2026-03-02 12:00 UTC
DEADLINE_S = 20


@pytest.fixture
def shop(postgres: PostgresServer, database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.dsn(database), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id serial PRIMARY KEY, note text)")
        connection.execute("INSERT INTO orders (note) SELECT 'n' || g FROM generate_series(1, 5000) g")
        connection.execute("ANALYZE orders")
        yield connection


def place(postgres: PostgresServer, database: str, user: str = "") -> Database:
    return Database(
        host=postgres.host,
        port=postgres.port,
        name=database,
        user=user or postgres.superuser,
        password=SecretStr(postgres.password),
    )


def when(holds: Callable[[], bool], what: str) -> None:
    """The server tells what its sessions counted within a second or so."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def by_name(samples: Iterator[Sample]) -> dict[str, Sample]:
    return {sample.metric: sample for sample in samples}


def test_what_happened_between_two_snapshots(postgres: PostgresServer, database: str, shop: psycopg.Connection) -> None:
    where = place(postgres, database)
    shop.execute("SELECT pg_stat_force_next_flush()")
    shop.execute("SELECT count(*) FROM orders")
    when(lambda: "table:public.orders" in take_snapshot(where, NOON)[0].series, "the table is counted")
    before, problems = take_snapshot(where, NOON + 0.3)
    assert problems == []
    for number in range(1, 11):
        shop.execute("SELECT note FROM orders WHERE id = %s", [number], prepare=True)
    with pytest.raises(psycopg.Error):
        shop.execute("SELECT 1 / 0 FROM orders")
    shop.execute("SELECT pg_stat_force_next_flush()")
    found: dict[str, Sample] = {}

    def told() -> bool:
        found.clear()
        found.update(by_name(changes(before, take_snapshot(where, NOON + 60.3)[0], 60)))
        scans = found.get("index.scans:public.orders_pkey")
        return scans is not None and (scans.value or 0) * 60 >= 10

    when(told, "ten index scans")
    scans = found["index.scans:public.orders_pkey"]
    assert scans.value is not None
    assert round(scans.value * scans.interval_s) == 10
    assert scans.at.timestamp() == NOON
    assert scans.interval_s == pytest.approx(60)
    assert found["database.rollbacks"].bad >= 1
    assert found["database.rollbacks"].total > found["database.rollbacks"].bad
    assert found["database.connections"].at.timestamp() == NOON, "a gauge is of the interval that ends"
    assert found["sequence.used:public.orders_id_seq"].value == pytest.approx(5000 / (2**31 - 1))
    assert found["database.deadlocks"].bad == 0


def test_a_rewrite_begins_a_new_series(postgres: PostgresServer, database: str, shop: psycopg.Connection) -> None:
    where = place(postgres, database)
    shop.execute("SELECT count(*) FROM orders")
    shop.execute("SELECT pg_stat_force_next_flush()")
    when(lambda: "table:public.orders" in take_snapshot(where, NOON)[0].series, "the table is counted")
    before, _ = take_snapshot(where, NOON)
    shop.execute("ALTER TABLE orders ALTER COLUMN id TYPE bigint")
    after, _ = take_snapshot(where, NOON + 60)
    found = by_name(changes(before, after, 60))
    assert not [metric for metric in found if metric.endswith((":public.orders", ":public.orders_pkey"))]
    assert "database.rollbacks" in found


def test_counters_that_went_down_or_were_reset_tell_nothing() -> None:
    def at(at_s: float, identity: str, scans: float) -> Snapshot:
        return Snapshot(at_s, {"index:public.i": Series(identity, {"scans": scans})})

    assert [one.value for one in changes(at(0, "1", 5), at(60, "1", 65), 60)] == [1.0]
    assert list(changes(at(0, "1", 5), at(60, "1", 4), 60)) == []
    assert list(changes(at(0, "1", 5), at(60, "2", 65), 60)) == []
    assert list(changes(at(0, "1", 0), at(60, "1", 0), 60)) == [], "never used"
    assert list(changes(None, at(60, "1", 4), 60)) == []


def test_a_wait_and_a_long_transaction_are_seen(
    postgres: PostgresServer, database: str, shop: psycopg.Connection
) -> None:
    where = place(postgres, database)
    with (
        psycopg.connect(postgres.dsn(database)) as holder,
        psycopg.connect(postgres.dsn(database), autocommit=True) as waiter,
    ):
        holder.execute("LOCK TABLE orders")
        waiter.execute("SET lock_timeout = '15s'")
        pid = waiter.info.backend_pid
        connection = waiter.pgconn
        connection.send_query(b"SELECT 1 FROM orders")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
        when(lambda: shop.execute(waiting, [pid]).fetchone() == (1,), "somebody waits")
        gauges = take_snapshot(where, NOON)[0].gauges
        assert gauges["database.waiting_locks"] >= 1
        assert 0 < gauges["database.longest_transaction_s"] < 60
        holder.rollback()
        while connection.get_result() is not None:
            pass


def test_a_role_without_rights_is_told_and_the_rest_goes_on(
    postgres: PostgresServer, database: str, shop: psycopg.Connection
) -> None:
    postgres.create_role("plain")
    snapshot, problems = take_snapshot(place(postgres, database, "plain"), NOON)
    assert ["pg_read_all_stats" in problem for problem in problems] == [True]
    assert "database" in snapshot.series
    assert "database.longest_transaction_s" not in snapshot.gauges


def test_a_server_that_is_away_is_a_sentence_without_the_password() -> None:
    nowhere = Database(host="127.0.0.1", port=1, name="shop", user="runbook", password=SecretStr("hush-hush"))
    snapshot, problems = take_snapshot(nowhere, NOON)
    assert len(problems) == 1
    assert "hush-hush" not in problems[0]
    assert snapshot.series == {}


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server that counts statements."""
    home = tmp_path_factory.mktemp("counting")
    place = prepare_place(home, server_account())
    settings = {"fsync": "off", "shared_preload_libraries": "'pg_stat_statements'"}
    cluster = Cluster("counting", place.clusters / "counting", place.bin, place.account, settings)
    server = PostgresServer(cluster, home, "counting")
    cluster.create(server.password, {}, durable=False)
    server.start()
    yield server
    server.stop()
    if place.outside is not None:
        shutil.rmtree(place.outside, ignore_errors=True)


def test_statements_are_known_by_their_text_through_ddl_and_reset(counting: PostgresServer) -> None:
    name = counting.create_database()
    counting.execute("CREATE SCHEMA ext", "CREATE EXTENSION pg_stat_statements SCHEMA ext", dbname=name)
    counting.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)", dbname=name)
    where = place(counting, name)
    digest = digest_of("SELECT note FROM orders WHERE id = $1")

    def ask(times: int) -> None:
        with psycopg.connect(counting.dsn(name), autocommit=True) as connection:
            for _ in range(times):
                connection.execute("SELECT note FROM orders WHERE id = 17")

    ask(3)
    first, problems = take_snapshot(where, NOON)
    assert problems == []
    assert first.texts[digest] == "SELECT note FROM orders WHERE id = $1"
    counting.execute("ALTER TABLE orders ALTER COLUMN note TYPE varchar(9), ADD COLUMN more int", dbname=name)
    counting.execute("ALTER TABLE orders RENAME TO old", "CREATE TABLE orders (LIKE old)", dbname=name)
    ask(4)  # under another id by now, since the table is another one
    second, _ = take_snapshot(where, NOON + 60)
    found = by_name(changes(first, second, 60))
    assert round((found[f"statement.calls:{digest}"].value or 0) * 60) == 4
    assert 0 < (found[f"statement.mean_s:{digest}"].value or 0) < 1
    counting.execute("SELECT ext.pg_stat_statements_reset()", dbname=name)
    ask(30)
    third, _ = take_snapshot(where, NOON + 120)
    assert third.series[f"statement:{digest}"].counters["calls"] == 30
    assert f"statement.calls:{digest}" not in by_name(changes(second, third, 60)), "more than before, and yet reset"
