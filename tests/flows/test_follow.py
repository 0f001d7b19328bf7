"""Following a flow run: every line once, and through whatever a server goes in hours."""

from __future__ import annotations

import getpass
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from flows import follow as following
from flows.follow import Run, follow, prefect_api, start, withdraw
from tasks.release.errors import ConfigurationError, RunbookError

BEGAN = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
RUN = Run("1", "v1.1-to-staging", "SCHEDULED", "")


class Server(HTTPServer):
    """The two answers of a Prefect server that following needs; `looks` are what each look at the run meets.

    A number is an error; a text is the state of the run, after one more minute of log lines.
    """

    def __init__(self, looks: list[int | str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.looks = looks
        self.lines: list[dict[str, str]] = []
        self.told = 0
        self.worker = "OFFLINE"
        self.created: list[dict[str, Any]] = []
        self.ruling = "ACCEPT"

    def answer(self, path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        if path == "/logs/filter":
            after = asked["logs"].get("timestamp", {}).get("after_", "")
            found = [line for line in self.lines if line["timestamp"] >= after]
            page = found[asked["offset"] : asked["offset"] + asked["limit"]]
            self.told += len(page)
            return 200, page
        if path == "/deployments/1/create_flow_run":
            self.created.append(asked)
        fixed: dict[str, Any] = {
            "/deployments/name/staging/staging": {"id": "1", "work_pool_name": "staging"},
            "/work_pools/staging/workers/filter": [{"name": "worker-staging", "status": self.worker}],
            "/deployments/1/create_flow_run": {"id": RUN.id, "name": RUN.name},
            f"/flow_runs/{RUN.id}/set_state": {"status": self.ruling, "details": {}, "state": None},
        }
        if path in fixed:
            return 200, fixed[path]
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, int):
            return look, {}
        for _ in range(60):
            self.log(BEGAN + timedelta(seconds=len(self.lines)))
        return 200, {"id": RUN.id, "name": RUN.name, "state": {"type": look}}

    def log(self, at: datetime) -> None:
        number = len(self.lines)
        self.lines.append({"id": str(number), "timestamp": at.isoformat(), "message": f"line {number}"})
        self.lines.sort(key=lambda line: line["timestamp"])


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.rfile.read(int(self.headers["content-length"] or 0))
        status, content = self.server.answer(self.path, json.loads(asked or b"{}"))
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the library's name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(following, "POLL_S", 0.001)
    with Server([]) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def followed(server: Server) -> list[str]:
    said: list[str] = []
    with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", timeout=5) as api:
        follow(api, RUN, said.append)
    return said


def test_every_line_is_said_once_and_not_read_at_every_look(server: Server) -> None:
    server.looks = [*["RUNNING"] * 50, "COMPLETED"]
    assert followed(server) == [f"{BEGAN + timedelta(seconds=n):%H:%M:%S} line {n}" for n in range(51 * 60)]
    assert server.told < 3 * len(server.lines), "each line at its look, some overlap, and once more at the end"


def test_a_line_that_comes_late_is_said(server: Server) -> None:
    server.looks = ["RUNNING", "RUNNING", "COMPLETED"]
    answered = server.answer

    def late(path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        if len(server.lines) == 120:
            server.log(BEGAN)
        return answered(path, asked)

    server.answer = late  # type: ignore[method-assign]
    said = followed(server)
    assert len(said) == len(set(said)) == len(server.lines) == 181


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_waited_for(server: Server, status: int) -> None:
    server.looks = ["RUNNING", status, status, "COMPLETED"]
    assert len(followed(server)) == 120


def test_not_for_ever(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE_S", 0.2)
    server.looks = ["RUNNING", 503]
    with pytest.raises(RunbookError, match=r"did not answer .*503.*; flow run v1.1-to-staging .* may go on"):
        followed(server)


def test_a_refusal_is_told_at_once(server: Server) -> None:
    server.looks = [404]
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        followed(server)


def test_a_run_that_no_worker_would_take_is_not_asked_for(server: Server) -> None:
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", timeout=5) as api,
        pytest.raises(ConfigurationError, match="no worker is online in the work pool staging") as caught,
    ):
        start(api, "staging/staging", "v1.1-to-staging", {"ref": "v1.1"})
    assert "runbook up worker-staging" in caught.value.hint


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><title>Prefect</title>", b"\xff\xfe\xff"])
def test_what_is_no_prefect_api_is_told(server: Server, page: bytes) -> None:

    def answer(path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        return 200, page

    server.answer = answer  # type: ignore[method-assign]
    address = f"http://127.0.0.1:{server.server_port}"
    with (
        pytest.raises(ConfigurationError, match="does not answer as a Prefect API") as caught,
        prefect_api(address) as api,
    ):
        start(api, "staging/staging", "v1.1-to-staging", {"ref": "v1.1"})
    assert address in caught.value.message
    assert caught.value.hint == "PREFECT_API_URL ends with /api"


def test_the_ui_refuses_what_is_posted(server: Server) -> None:
    server.looks = [405]
    address = f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(ConfigurationError, match="answered 405") as caught, prefect_api(address) as api:
        api.post("/deployments/filter", json={}).raise_for_status()
    assert caught.value.hint == "PREFECT_API_URL ends with /api"


@pytest.mark.parametrize(
    ("state", "ruling", "gone"),
    [
        ("SCHEDULED", "ACCEPT", True),
        ("SCHEDULED", "REJECT", False),
        ("SCHEDULED", "ABORT", False),
        ("PENDING", "", False),
    ],
)
def test_only_a_run_that_was_cancelled_is_withdrawn(server: Server, state: str, ruling: str, gone: bool) -> None:
    server.looks = [state]
    server.ruling = ruling
    with prefect_api(f"http://127.0.0.1:{server.server_port}") as api:
        assert withdraw(api, RUN) is gone


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 4711"), OSError("No username set")])
def test_a_user_without_a_name_can_ask(server: Server, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nameless)
    server.worker = "ONLINE"
    with prefect_api(f"http://127.0.0.1:{server.server_port}") as api:
        start(api, "staging/staging", "v1.1-to-staging", {"ref": "v1.1"})
    [asked] = server.created
    assert f"uid {os.getuid()}@" in asked["tags"][0]
