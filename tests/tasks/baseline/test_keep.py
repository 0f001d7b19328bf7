"""A run keeps what was told since the last one, once, whatever happens to it or beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.baseline.keep import keep
from tasks.release.environment import Environment
from tasks.release.errors import ConflictError
from tasks.signals.history import read
from tasks.signals.sample import bound_of
from tasks.store.bucket import Bucket
from tests import builders
from tests.fix_postgres import PostgresServer
from tests.fix_s3 import S3Server

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
MONTH = timedelta(days=40)


@pytest.fixture
def service() -> Iterator[str]:
    """An application of which one endpoint is broken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def environment(tmp_path: Path, service: str, s3: S3Server, postgres: PostgresServer, database: str) -> Environment:
    return builders.environment(
        database={
            "host": postgres.host,
            "port": postgres.port,
            "name": database,
            "user": postgres.superuser,
            "password": SecretStr(postgres.password),
        },
        storage={
            "endpoint": s3.endpoint,
            "bucket": s3.create_bucket(),
            "prefix": "shop",
            "access_key": SecretStr(s3.access_key),
            "secret_key": SecretStr(s3.secret_key),
        },
        smoke={"base_url": service, "endpoints": [{"path": "/"}, {"path": "/broken"}]},
        monitor={"logs": [{"path": str(tmp_path / "django.log")}], "history_days": 28},
    )


def add(environment: Environment, *minutes: int) -> None:
    with environment.monitor.logs[0].path.open("a") as file:
        for minute in minutes:
            ts = (NOON + timedelta(minutes=minute)).isoformat()
            file.write(json.dumps({"ts": ts, "route": "/a", "status": 200, "duration_ms": 20}) + "\n")


def totals(environment: Environment, metric: str) -> dict[int, int]:
    """By minutes from noon on."""
    frame = read(Bucket(environment.storage), NOON - MONTH, NOON + MONTH, [metric])
    minutes = [round((at.timestamp() - NOON.timestamp()) / 60) for at in frame["at"].dt.to_pydatetime()]
    return dict(zip(minutes, frame["total"].tolist(), strict=True))


def test_two_runs_tell_each_interval_once_and_the_past_by_its_own_time(environment: Environment) -> None:
    lines: list[str] = []
    add(environment, 0, 0, 1)
    keep(environment, NOON + timedelta(minutes=3, seconds=30), lines.append)
    add(environment, 3, 4)
    kept = keep(environment, NOON + timedelta(minutes=6, seconds=30), lines.append)
    assert totals(environment, "log.errors") == {0: 2, 1: 1, 2: 0, 3: 1, 4: 1, 5: 0}
    assert kept.samples > 0
    bucket = Bucket(environment.storage)
    frame = read(bucket, NOON, NOON + MONTH)
    broken = frame[frame["metric"] == "probe.errors:/broken"]
    assert list(zip(broken["bad"], broken["total"], strict=True)) == [(5, 5), (5, 5)]
    probed = frame[frame["metric"] == "probe.latency:/"].iloc[0]
    assert sum(probed["bins"].values()) == 5
    assert all(0 < bound_of(number) < 5 for number in probed["bins"])
    transactions = frame[frame["metric"] == "database.transactions"]
    assert list(transactions["interval_s"]) == [180.0], "what PostgreSQL counted from one run to the next"
    assert lines == []


def test_a_run_that_died_before_it_wrote_its_state_is_repeated_without_counting_twice(
    environment: Environment,
) -> None:
    add(environment, 0, 1)
    keep(environment, NOON + timedelta(minutes=3), print)
    bucket = Bucket(environment.storage)
    before = bucket.read("shop/baseline/state.json")
    add(environment, 3)
    keep(environment, NOON + timedelta(minutes=5), print)
    after = bucket.read("shop/baseline/state.json")
    assert before
    assert after
    bucket.write("shop/baseline/state.json", before.body, etag=after.etag)  # as if the run had not got there
    keep(environment, NOON + timedelta(minutes=6), print)
    assert totals(environment, "log.errors") == {0: 1, 1: 1, 2: 0, 3: 1, 4: 0}


def test_of_two_runs_at_once_one_takes_back_what_it_wrote(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(environment, 0)
    bucket = Bucket(environment.storage)

    def meanwhile(_: str) -> None:
        bucket.write("shop/baseline/state.json", b"{}")

    (environment.monitor.logs[0].path).unlink()  # so that there is something to report, and a moment to be overtaken
    with pytest.raises(ConflictError, match="another run"):
        keep(environment, NOON + timedelta(minutes=3), meanwhile)
    assert list(bucket.keys("shop/baseline/")) == ["shop/baseline/state.json"]


def test_sources_that_fail_are_told_once_and_stop_no_other(environment: Environment) -> None:
    lines: list[str] = []
    broken = environment.model_copy(
        update={"database": environment.database.model_copy(update={"port": 1})}
    )  # and there is no log
    keep(broken, NOON, lines.append)
    assert [line.partition(" ")[0] for line in lines] == [str(environment.monitor.logs[0].path), "PostgreSQL:"]
    keep(broken, NOON + timedelta(minutes=5), lines.append)
    assert len(lines) == 2
    assert len(totals(environment, "probe.errors:/")) == 2


def test_finished_days_are_merged_and_old_ones_go(environment: Environment) -> None:
    short = environment.model_copy(update={"monitor": environment.monitor.model_copy(update={"history_days": 1})})
    add(short, 0)
    keep(short, NOON + timedelta(minutes=3), print)
    bucket = Bucket(environment.storage)
    keep(short, NOON + timedelta(days=1), print)
    assert "shop/baseline/2026-03-02.parquet" in set(bucket.keys("shop/baseline/"))
    assert not list(bucket.keys("shop/baseline/2026-03-02/"))
    assert keep(short, NOON + timedelta(days=3), print).expired == 2
    days = {key.removeprefix("shop/baseline/")[:10] for key in bucket.keys("shop/baseline/2026")}
    assert days == {"2026-03-04", "2026-03-05"}
