"""Following a flow run: every line once, and through whatever a server goes in hours."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from flows import follow as following
from flows.follow import Run, follow, start
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

    def answer(self, path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        if path == "/logs/filter":
            after = asked["logs"].get("timestamp", {}).get("after_", "")
            found = [line for line in self.lines if line["timestamp"] >= after]
            page = found[asked["offset"] : asked["offset"] + asked["limit"]]
            self.told += len(page)
            return 200, page
        if path.startswith("/deployments/name/"):
            return 200, {"id": "1", "work_pool_name": "staging"}
        if path == "/work_pools/staging/workers/filter":
            return 200, [{"name": "worker-staging", "status": "OFFLINE"}]
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
        body = json.dumps(content).encode()
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
