"""Single prerequisites: a local CI server, a real follower of a real PostgreSQL, and rules over rows."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psycopg
import pytest

from tasks.gate.checks import drift, freeze
from tasks.gate.ci import ci_status
from tasks.gate.database import prepared, replication, transactions, wraparound
from tasks.release.environment import Environment
from tasks.release.errors import RunbookError
from tasks.release.plan import Problem
from tests.builders import AT, COMMIT, environment, plan
from tests.fix_postgres import PostgresServer
from tests.fix_prefect import until

TOKEN = "ghp_the-token-of-this-test"


class Ci(HTTPServer):
    """Says of every commit what `status` and `body` are."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.body = json.dumps({"state": "success"})
        self.asked: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Ci

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Private-Token")))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ci() -> Iterator[Ci]:
    server = Ci()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def asks_ci(ci: Ci, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("CI_TOKEN", TOKEN)
    url = f"http://127.0.0.1:{ci.server_port}/commits/{{commit}}/{{ref}}"
    return environment(gate={"ci": {"url": url, "secret_headers": {"Private-Token": {"env": "CI_TOKEN"}}}})


def test_ci_is_asked_about_the_commit(asks_ci: Environment, ci: Ci) -> None:
    check = ci_status(asks_ci, COMMIT, "feature/a b")
    assert (check.tick, ci.asked) == ("yes", [(f"/commits/{COMMIT}/feature%2Fa%20b", TOKEN)])


@pytest.mark.parametrize(
    ("status", "body", "tick", "evidence"),
    [
        (200, '{"state": "pending"}', "no", 'state is "pending", not "success"'),
        (200, "{}", "no", "state is nothing"),
        (200, "<html>", "unknown", "did not answer with JSON"),
        (401, "{}", "unknown", "answered 401"),
        (302, "{}", "unknown", "answered 302"),
    ],
)
def test_what_ci_does_not_say_is_no_success(
    asks_ci: Environment, ci: Ci, status: int, body: str, tick: str, evidence: str
) -> None:
    ci.status, ci.body = status, body
    check = ci_status(asks_ci, COMMIT, "v1.1")
    assert (check.tick, evidence in check.evidence, bool(check.mend)) == (tick, True, True)


def test_an_echoed_token_is_blotted_out(asks_ci: Environment, ci: Ci) -> None:
    ci.body = json.dumps({"state": f"bad token {TOKEN}"})
    assert TOKEN not in ci_status(asks_ci, COMMIT, "v1.1").evidence


def test_a_ci_in_trouble_may_be_asked_again(asks_ci: Environment, ci: Ci) -> None:
    ci.status = 503
    with pytest.raises(RunbookError, match="answered 503") as caught:
        ci_status(asks_ci, COMMIT, "v1.1")
    assert caught.value.retryable
    ci.shutdown()
    ci.server_close()
    with pytest.raises(RunbookError, match="could not be asked") as caught:
        ci_status(asks_ci, COMMIT, "v1.1")
    assert caught.value.retryable
    assert TOKEN not in str(caught.value)


def test_a_freeze_is_told_with_its_end() -> None:
    holidays = {"begins": AT, "ends": AT + timedelta(days=9), "reason": "the holidays"}
    frozen = environment(gate={"freezes": [holidays]})
    assert freeze(frozen, AT).evidence == "nothing is released until 2026-12-01 03:00:00 UTC: the holidays"
    assert freeze(frozen, AT).tick == "no"
    assert freeze(frozen, AT + timedelta(days=9)).tick == freeze(frozen, AT - timedelta(seconds=1)).tick == "yes"


def test_drift_stops_a_release_and_other_problems_are_judged_elsewhere() -> None:
    gone = Problem(rule="drift", migration="", severity="unknown", message="shop_order.total is gone", hint="make it")
    other = Problem(rule="unmigrated-changes", migration="", severity="medium", message="models differ")
    check = drift(plan(problems=(gone, other)))
    assert (check.tick, check.evidence, check.mend) == ("no", "shop_order.total is gone", "make it")
    assert drift(plan(problems=(other,))).tick == "yes"


def test_holders_of_what_a_migration_needs_are_named() -> None:
    rows = [(7, "report", "nightly", "idle in transaction", 1000.0), (8, "chatbot", "", "active", 2.0)]
    late = transactions(rows, 900)
    assert (late.tick, "process 7 of report (nightly, idle in transaction)" in late.evidence) == ("no", True)
    assert "process 8" not in late.evidence
    assert transactions(rows, 1001).tick == transactions([], 1).tick == "yes"
    left = prepared([("order-7", "shop", datetime(2026, 11, 1, tzinfo=UTC))])
    assert (left.tick, "'order-7' of shop since 2026-11-01" in left.evidence) == ("no", True)
    assert prepared([]).tick == wraparound([]).tick == "yes"
    assert (wraparound(["shop_order"]).tick, "shop_order" in wraparound(["shop_order"]).evidence) == ("no", True)


def test_a_follower_that_stands_still_or_is_gone_is_noticed(postgres: PostgresServer, tmp_path: Path) -> None:
    slot = "gate_test"
    follow = [
        str(postgres.bin / "pg_receivewal"),
        "-d",
        postgres.dsn(),
        "-D",
        str(tmp_path),
        "--synchronous",
        "-S",
        slot,
    ]
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        assert replication(connection, 0.1).evidence == "no replica"
        subprocess.run([*follow, "--create-slot"], check=True, timeout=30)
        follower = subprocess.Popen(follow)
        try:
            until(lambda: bool(_follows(connection)), "it follows")
            check = replication(connection, 20)
            assert (check.tick, "1 replica caught up" in check.evidence) == ("yes", True), check
            follower.send_signal(signal.SIGSTOP)
            connection.execute("CREATE TEMPORARY TABLE filled AS SELECT generate_series(1, 1000)")
            connection.execute("SELECT pg_logical_emit_message(false, 'test', 'something to follow')")
            check = replication(connection, 0.3)
            assert (check.tick, "did not come within 0.3 s" in check.evidence) == ("no", True), check
        finally:
            follower.kill()
            follower.wait(10)
        until(lambda: not _follows(connection), "it is gone")
        check = replication(connection, 0.3)
        assert (check.tick, f"nobody follows slot {slot}" in check.evidence) == ("no", True), check
        connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])


def test_who_may_not_look_does_not_say_yes(postgres: PostgresServer, database: str) -> None:
    postgres.create_role("nobody_special")
    with psycopg.connect(postgres.dsn(database, "nobody_special"), autocommit=True) as connection:
        assert replication(connection, 1).tick == "unknown"


def _follows(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    return bool(
        connection.execute("SELECT FROM pg_replication_slots WHERE slot_name = 'gate_test' AND active").fetchall()
    )
