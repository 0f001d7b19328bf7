"""Prometheus is asked over HTTP, for whole intervals, and its mistakes are sentences."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr

from tasks.release.monitoring import Prometheus, Query
from tasks.signals.prometheus import query_range

BEGIN = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
QUERY = Query(name="queue_depth", expression="sum(queue_depth)")


@dataclass
class Listener:
    """Answers as Prometheus's documentation of /api/v1/query_range says."""

    port: int = 0
    answer: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    asked: list[tuple[str, dict[str, list[str]], str | None]] = field(default_factory=list)

    def configured(self) -> Prometheus:
        # A secret is a reference in a file; here it is given.
        return Prometheus(
            url=f"http://127.0.0.1:{self.port}/prometheus/",
            queries=[QUERY],
            secret_headers={"Authorization": SecretStr("Bearer hush")},
        )

    def says(self, *series: list[list[object]]) -> None:
        result = [{"metric": {}, "values": values} for values in series]
        self.answer = {"status": "success", "data": {"resultType": "matrix", "result": result}}


@pytest.fixture
def prometheus() -> Iterator[Listener]:
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            listener.asked.append((self.path, form, self.headers["authorization"]))
            self.send_response(listener.status)
            self.end_headers()
            self.wfile.write(json.dumps(listener.answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield listener
    server.shutdown()
    server.server_close()


def test_every_point_is_the_interval_that_ends_there(prometheus: Listener) -> None:
    end = BEGIN + timedelta(minutes=3)
    prometheus.says([[(BEGIN + timedelta(minutes=minute)).timestamp(), str(minute)] for minute in (1, 2)])
    prometheus.answer["data"]["result"][0]["values"].append([end.timestamp(), "NaN"])
    samples = query_range(prometheus.configured(), QUERY, BEGIN, end, 60)
    assert [(one.metric, one.at, one.value, one.interval_s) for one in samples] == [
        ("prometheus.queue_depth", BEGIN, 1.0, 60),
        ("prometheus.queue_depth", BEGIN + timedelta(minutes=1), 2.0, 60),
    ]
    [(path, form, authorization)] = prometheus.asked
    assert path == "/prometheus/api/v1/query_range"
    assert authorization == "Bearer hush"
    assert float(form["start"][0]) == (BEGIN + timedelta(minutes=1)).timestamp()
    assert (float(form["end"][0]), float(form["step"][0])) == (end.timestamp(), 60)
    assert query_range(prometheus.configured(), QUERY, BEGIN, BEGIN + timedelta(seconds=59), 60) == []
    assert len(prometheus.asked) == 1, "no interval is over: nothing is asked"


def test_what_is_wrong_is_said_and_no_secret_with_it(prometheus: Listener) -> None:
    def mistake() -> str:
        with pytest.raises(ValueError, match=r"\w") as caught:
            query_range(prometheus.configured(), QUERY, BEGIN, BEGIN + timedelta(minutes=1), 60)
        assert "hush" not in str(caught.value)
        return str(caught.value)

    prometheus.says([[1, "1"]], [[1, "2"]])
    assert "2 series; aggregate" in mistake()
    prometheus.status, prometheus.answer = 400, {"status": "error", "error": "parse error"}
    assert "status 400: parse error" in mistake()
    prometheus.answer = {"status": "success", "data": None}
    assert "none of Prometheus's" in mistake()
    prometheus.port = 1
    assert "no answer" in mistake()
