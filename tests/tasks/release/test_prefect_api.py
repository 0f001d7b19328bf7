"""The client of Prefect's API, and those who use it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from deployments.embedded.ports import any_free
from deployments.workers import drain
from flows.follow import prefect_api
from tasks.release.environment import parse
from tasks.release.errors import ConfigurationError
from tasks.release.prefect_api import client, is_loopback, may_pass
from tests.builders import content

PASSWORD = {"PREFECT_API_AUTH_STRING": "admin:p:w"}, "Basic " + base64.b64encode(b"admin:p:w").decode()
KEY = {"PREFECT_API_KEY": "pnu_1"}, "Bearer pnu_1"


class Server(HTTPServer):
    """Answers every request as a Prefect server would that has one Secret block, and keeps how it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.authorizations: list[str | None] = []
        self.failures: list[int] = []  # the first answers
        self.body = json.dumps({"is_paused": True, "data": {"value": "from the block"}}).encode()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.authorizations.append(self.headers["authorization"])
        body = self.server.body
        self.send_response(self.server.failures.pop(0) if self.server.failures else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PATCH = do_GET  # noqa: N815 - the library's name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{made.server_port}/api")
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize(("variables", "header"), [PASSWORD, KEY, ({}, None)])
def test_all_who_ask_give_password_or_key(
    server: Server, variables: dict[str, str], header: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with prefect_api() as api:
        api.get("/flow_runs/1")
    environment = parse(content(database={"password": {"block": "password"}}), tmp_path / "staging.toml")
    assert environment.database.password is not None
    assert environment.database.password.get_secret_value() == "from the block"
    (tmp_path / "pool.paused").touch()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    drain.main("resume", "pool")
    assert server.authorizations == [header] * 3


def test_a_server_in_trouble_does_not_fail_the_stop_of_a_worker(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool.paused").touch()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(drain, "_POLL_S", 0.001)
    server.failures = [503, 500]
    drain.main("resume", "pool")
    assert not (tmp_path / "pool.paused").exists()
    (tmp_path / "pool.paused").touch()
    server.failures = [404]
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        drain.main("resume", "pool")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>", "does not answer as a Prefect API; PREFECT_API_URL ends with /api"),
        (b"\xff\xfe\xff", "does not answer as a Prefect API"),
        (b"{}", "answered without a value"),
        (b"[]", "answered without a value"),
        (b'{"data": null}', "answered without a value"),
    ],
)
def test_an_answer_that_is_no_block_is_told_in_words(server: Server, tmp_path: Path, body: bytes, told: str) -> None:
    server.body = body
    with pytest.raises(ConfigurationError, match=f"the Secret block 'password' cannot be read: .*{told}"):
        parse(content(database={"password": {"block": "password"}}), tmp_path / "staging.toml")


def test_no_proxy_stands_before_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    [dead] = any_free(1)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{dead}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with client() as api:
        assert api.get("/flow_runs/1").status_code == 200


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("http://127.0.0.1:4200/api", True),
        ("http://localhost/api", True),
        ("http://[::1]:4200/api", True),
        ("https://api.prefect.cloud/api", False),
        ("http://10.0.0.1/api", False),
        ("http://localhost.example.org/api", False),
    ],
)
def test_what_is_this_machine(address: str, own: bool) -> None:
    assert is_loopback(address) is own


def test_without_an_address_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(ConfigurationError, match="no Prefect server is known"):
        client()


@pytest.mark.parametrize(("status", "passes"), [(404, False), (401, False), (429, True), (500, True), (503, True)])
def test_what_may_pass(status: int, passes: bool) -> None:
    request = httpx.Request("GET", "http://127.0.0.1/api")
    error = httpx.HTTPStatusError("refused", request=request, response=httpx.Response(status, request=request))
    assert may_pass(error) is passes
    assert may_pass(httpx.ReadTimeout("slow"))
