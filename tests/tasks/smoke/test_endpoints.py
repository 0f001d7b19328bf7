"""The smoke test against a real server that answers well, badly, late, or not yet."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deployments.embedded.ports import LOOPBACK, any_free
from tasks.release.environment import Environment
from tasks.release.errors import DatabaseError, SmokeError
from tasks.smoke import endpoints
from tasks.smoke.endpoints import MOST_BYTES, look, round_trip, smoke
from tests import builders
from tests.fix_app import Site

COMMIT = builders.COMMIT
OLD = builders.BEFORE


@dataclass
class Service:
    """An application whose answers the test decides; of several answers to one path the last one stays."""

    port: int = 0
    answers: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    drips: dict[str, bytes] = field(default_factory=dict)  # instead of an answer: this, again and again
    drip_s: float = 0.02

    def says(self, path: str, *answers: object, status: int = 200) -> None:
        texts = (answer if isinstance(answer, str) else json.dumps(answer) for answer in answers)
        self.answers[path] = [(status, text) for text in texts]

    def environment(self, *endpoints: dict[str, Any], ready_within_s: float = 0.5, **sections: Any) -> Environment:
        base_url = f"http://{LOOPBACK}:{self.port}"
        tested = {"base_url": base_url, "endpoints": list(endpoints), "ready_within_s": ready_within_s}
        return builders.environment(smoke=tested, **sections)


def drip(handler: BaseHTTPRequestHandler, service: Service) -> None:
    """Answer until the client has left."""
    piece = service.drips[handler.path]
    with suppress(OSError):
        if handler.path != "/headers":
            handler.send_response(200)
            if handler.path == "/long":
                handler.send_header("content-length", str(10**12))
            handler.end_headers()
        while True:
            handler.wfile.write(piece)
            time.sleep(service.drip_s)  # that is what it is for


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.asked.append(self.path)
            if service.slow.get(self.path):
                time.sleep(service.slow[self.path])  # that is what it is for
            answers = service.answers.get(self.path, [(404, "not found")])
            status, text = answers.pop(0) if len(answers) > 1 else answers[0]
            if self.path in service.drips:
                drip(self, service)
                return
            if text == "hang up":
                self.close_connection = True
                return
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            return

    http = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    service.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield service
    http.shutdown()
    thread.join(5)
    http.server_close()


@pytest.fixture
def service(server: Service) -> Service:
    server.answers.clear()
    server.slow.clear()
    server.drips.clear()
    server.drip_s = 0.02
    server.asked.clear()
    return server


HEALTH = {"path": "/health", "json_equals": {"status": "ok", "release": "{commit}"}, "json_has": ["checks.database"]}
GOOD = {"status": "ok", "release": COMMIT, "checks": {"database": 1}}


@pytest.mark.parametrize(
    ("answer", "status", "problem"),
    [
        (GOOD, 500, "status 500 instead of 200"),
        ("<html>", 200, "the answer is not JSON"),
        ([1], 200, "the answer has no key checks.database"),
        (GOOD | {"checks": {}}, 200, "the answer has no key checks.database"),
        (GOOD | {"checks": "fine"}, 200, "the answer has no key checks.database"),
        (GOOD | {"status": "error"}, 200, "status is 'error' instead of 'ok'"),
        (GOOD | {"release": OLD}, 200, f"release is '{OLD}' instead of '{COMMIT}'"),
        ({"checks": {"database": 1}, "release": COMMIT}, 200, "status is nothing instead of 'ok'"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(service: Service, answer: object, status: int, problem: str) -> None:
    service.says("/health", answer, status=status)
    [found] = look(service.environment(HEALTH), COMMIT)
    assert (found.ok, found.problem, found.status) == (False, problem, status)
    assert found.head


def test_an_answer_that_is_as_it_should_be(service: Service) -> None:
    service.says("/health", GOOD)
    [found] = look(service.environment(HEALTH), COMMIT)
    assert (found.ok, found.problem, found.head, found.name) == (True, "", "", "GET /health")


def test_a_slow_answer_says_how_slow(service: Service) -> None:
    service.says("/slow", "{}")
    service.slow["/slow"] = 0.3
    [late] = look(service.environment({"path": "/slow", "within_s": 0.2}), COMMIT)
    assert late.status == 200
    assert "allowed are 0.2 s" in late.problem
    [never] = look(service.environment({"path": "/slow", "within_s": 0.05}), COMMIT)
    assert never.status is None
    assert "no answer after" in never.problem
    assert "ReadTimeout" in never.problem


@pytest.mark.parametrize("path", ["/drip", "/long"])
def test_an_answer_without_an_end_is_cut_off(service: Service, path: str) -> None:
    service.drips[path] = b"a line\n"
    [found] = look(service.environment({"path": path, "within_s": 0.1}), COMMIT)
    assert found.problem == "answered for more than 0.3 s without an end"
    assert (found.ok, found.status) == (False, 200)
    assert found.head.startswith("a line\n")
    assert 0.3 <= found.seconds < 3


def test_headers_without_an_end_are_cut_off(service: Service) -> None:
    service.drips["/headers"] = b"H"
    [found] = look(service.environment({"path": "/headers", "within_s": 0.1}), COMMIT)
    assert (found.ok, found.status) == (False, None)
    assert "no answer after" in found.problem
    assert found.seconds < 3


def test_an_endless_answer_is_not_read_to_its_end(service: Service) -> None:
    service.drips["/endless"] = b"[" * 65536
    service.drip_s = 0
    plain, shaped = {"path": "/endless", "within_s": 20}, {"path": "/endless", "within_s": 20, "json_has": ["a"]}
    [any_body, json_body] = look(service.environment(plain, shaped), COMMIT)
    assert any_body.ok
    assert json_body.problem.startswith(f"the answer is longer than {MOST_BYTES} bytes")
    assert json_body.head == "[" * 600


def test_the_wait_for_readiness_ends_though_the_answer_does_not(service: Service) -> None:
    service.drips["/drip"] = b"a line\n"
    began = time.monotonic()
    with pytest.raises(SmokeError, match="without an end"):
        smoke(service.environment({"path": "/drip", "within_s": 0.1}, ready_within_s=0.5), COMMIT, None)
    assert time.monotonic() - began < 5


def test_json_too_deep_to_read_is_a_problem(service: Service) -> None:
    service.says("/health", "[" * 500_000)
    [found] = look(service.environment(HEALTH | {"within_s": 20}), COMMIT)
    assert found.problem == "the answer is not JSON"


def test_what_a_database_or_terminal_cannot_take_is_left_out(service: Service) -> None:
    service.says("/health", "a\0b\x1b[31m\r\n\tc\x7f\x9bd", status=500)
    with pytest.raises(SmokeError) as caught:
        smoke(service.environment(HEALTH, ready_within_s=0.1), COMMIT, None)
    assert "ab[31m\n\tcd" in caught.value.message


@pytest.mark.parametrize("charset", ["hex", "none-such", "latin-1", "idna"])
def test_any_charset_is_told(charset: str) -> None:
    assert endpoints._head(b"oops\0", charset) == "oops"


def test_no_proxy_stands_before_this_machine(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    [dead] = any_free(1)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{LOOPBACK}:{dead}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    service.says("/health", GOOD)
    [found] = look(service.environment(HEALTH), COMMIT)
    assert found.ok, found.problem


def test_nobody_there_is_a_failure_that_may_pass() -> None:
    [port] = any_free(1)
    with pytest.raises(SmokeError, match="1 of 1 endpoints of staging") as caught:
        smoke(Service(port).environment(HEALTH), COMMIT, None)
    assert caught.value.retryable
    assert "ConnectError" in caught.value.message
    assert "already in place" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "status", "passing"), [("oops", 503, True), ("gone", 404, False), ("{}", 200, False)]
)
def test_only_what_a_server_may_recover_from_is_tried_again(
    service: Service, answer: str, status: int, passing: bool
) -> None:
    service.says("/health", answer, status=status)
    service.says("/other", "{}")
    with pytest.raises(SmokeError, match="1 of 2 endpoints") as caught:
        smoke(service.environment(HEALTH, {"path": "/other"}, ready_within_s=0.2), COMMIT, None)
    assert caught.value.retryable is passing
    assert answer in caught.value.message


def test_an_error_page_does_not_tell_secrets(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_TEST_TOKEN", "hunter2-token")
    service.says("/health", "SECRET = hunter2-token", status=500)
    given = {"secrets": {"TOKEN": {"env": "RUNBOOK_TEST_TOKEN"}}}
    with pytest.raises(SmokeError) as caught:
        smoke(service.environment(HEALTH, ready_within_s=0.1, app=given), COMMIT, None)
    assert "SECRET = ******" in caught.value.message


def test_a_reload_is_waited_for(service: Service, staging_site: Site) -> None:
    service.says("/health", "hang up", GOOD | {"release": OLD}, GOOD, GOOD | {"release": OLD}, GOOD)
    tested = service.environment(HEALTH, ready_within_s=20).smoke
    environment = staging_site.environment.model_copy(update={"smoke": tested})
    before = staging_site.psql("SELECT count(*), max(id) FROM django_migrations")

    made = smoke(environment, COMMIT, "public")
    assert [answer.ok for answer in made.answers] == [True]
    # One good answer between two of the old code does not make it ready.
    assert len(service.asked) >= 7
    assert 0 < made.round_trip_s < 10
    assert staging_site.psql("SELECT count(*), max(id) FROM django_migrations") == before, "no row is left"


def test_a_database_that_cannot_be_written_is_an_error(staging_site: Site) -> None:
    staging_site.psql(f'ALTER DATABASE "{staging_site.database}" SET default_transaction_read_only = on')
    with pytest.raises(DatabaseError, match=r"cannot write and read a row on staging: .*read-only") as caught:
        round_trip(staging_site.environment, None)
    assert caught.value.sqlstate == "25006"
    assert not caught.value.retryable


def test_a_connection_that_is_lost_may_come_back(staging_site: Site) -> None:
    staging_site.psql(
        "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN new; END $$"
    )
    staging_site.psql("CREATE TRIGGER gone BEFORE INSERT ON django_migrations EXECUTE FUNCTION gone()")
    with pytest.raises(DatabaseError, match="terminating connection") as caught:
        round_trip(staging_site.environment, None)
    assert caught.value.retryable


def test_the_row_goes_to_the_schema_of_the_application(staging_site: Site) -> None:
    staging_site.psql('CREATE SCHEMA "Own" AUTHORIZATION chatbot')
    staging_site.psql('ALTER TABLE django_migrations SET SCHEMA "Own"')
    with pytest.raises(DatabaseError, match="does not exist"):
        round_trip(staging_site.environment, None)
    assert round_trip(staging_site.environment, "Own") > 0
