"""Maintenance mode by command and by request, on an application whose answers show it or do not."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments.embedded.ports import LOOPBACK
from tasks.maintenance.switch import is_on, refuse_without_switch, switch_off, switch_on
from tasks.release.environment import Environment
from tasks.release.errors import MaintenanceError, RefusedError
from tests import builders
from tests.fix_app import git

TOKEN = "t0p-secret"


@dataclass
class Service:
    """Shut while `file` is there, or while it was told so by a request; `deaf`: it does not care."""

    file: Path
    port: int = 0
    shut: bool = False
    deaf: bool = False
    status: int = 200
    switched: list[tuple[str, str, str]] = field(default_factory=list)

    def environment(self, directory: Path, **maintenance: Any) -> Environment:
        switch = {"check_path": "/page", "within_s": 0.7, **maintenance}
        url = f"http://{LOOPBACK}:{self.port}"
        return builders.environment(
            app={"directory": str(directory)},
            smoke={"base_url": url, "endpoints": [{"path": "/"}]},
            maintenance=switch,
        )


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "shut")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(503 if not service.deaf and (service.shut or service.file.exists()) else service.status)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            service.switched.append((self.path, self.headers.get("authorization", ""), body))
            if self.headers.get("authorization") != TOKEN:
                self._answer(403)
                return
            service.shut = self.path.startswith("/on")
            self._answer(204)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    http = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    service.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield service
    http.shutdown()
    thread.join(5)
    http.server_close()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    directory = tmp_path / "app"
    directory.mkdir()
    git(directory, "init", "--quiet")
    git(directory, "commit", "--quiet", "--allow-empty", "--message", "first")
    return directory


def by_command(service: Service, checkout: Path, **changes: Any) -> Environment:
    commands = {
        "on_command": [sys.executable, "-c", f"open({str(service.file)!r}, 'a')"],
        "off_command": [sys.executable, "-c", f"import pathlib; pathlib.Path({str(service.file)!r}).unlink(True)"],
    }
    return service.environment(checkout, **commands | changes)


def by_request(service: Service, checkout: Path, secret: Path, **changes: Any) -> Environment:
    secret.write_text(TOKEN)
    url = f"http://{LOOPBACK}:{service.port}"
    headers = {"secret_headers": {"Authorization": {"file": str(secret)}}}
    requests = {
        "on_request": {"url": f"{url}/on?key=hidden", "json_body": {"reason": "release"}, **headers},
        "off_request": {"url": f"{url}/off", **headers},
    }
    return service.environment(checkout, **requests | changes)


def test_a_command_pair_switches_and_is_believed_by_the_answer(service: Service, checkout: Path) -> None:
    environment = by_command(service, checkout)
    assert is_on(environment) is False
    for _ in range(2):
        assert switch_on(environment, lambda _: None) == "command"
        assert is_on(environment) is True
    for _ in range(2):
        switch_off(environment, lambda _: None)
        assert is_on(environment) is False


def test_a_request_switches_with_its_secret_and_its_body(service: Service, checkout: Path, tmp_path: Path) -> None:
    environment = by_request(service, checkout, tmp_path / "token")
    assert switch_on(environment, lambda _: None) == "request"
    assert is_on(environment) is True
    switch_off(environment, lambda _: None)
    assert is_on(environment) is False
    assert service.switched == [("/on?key=hidden", TOKEN, '{"reason":"release"}'), ("/off", TOKEN, "")]


def test_a_refused_request_tells_no_secret(service: Service, checkout: Path, tmp_path: Path) -> None:
    wrong = {"url": f"http://{LOOPBACK}:{service.port}/on?key=hidden"}
    environment = by_request(service, checkout, tmp_path / "token", on_request=wrong)
    with pytest.raises(MaintenanceError, match="status 403") as caught:
        switch_on(environment, lambda _: None)
    assert TOKEN not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert not caught.value.retryable


def test_what_the_application_does_not_show_is_taken_back(service: Service, checkout: Path) -> None:
    service.deaf = True
    environment = by_command(service, checkout)
    with pytest.raises(MaintenanceError, match=r"answers /page with another status than 503.*switched off again"):
        switch_on(environment, lambda _: None)
    assert not service.file.exists()


def test_both_errors_are_told_when_it_cannot_be_taken_back(service: Service, checkout: Path) -> None:
    service.deaf = True
    environment = by_command(service, checkout, off_command=["false"])
    with pytest.raises(MaintenanceError) as caught:
        switch_on(environment, lambda _: None)
    assert "answers /page" in caught.value.message
    assert "could not be switched off again either" in caught.value.message
    assert "by hand" in caught.value.hint


@pytest.mark.parametrize(("off_command", "status"), [(["true"], 200), (["rm", "-f", "shut"], 502)])
def test_off_is_believed_by_the_answer_alone(
    service: Service, checkout: Path, off_command: list[str], status: int
) -> None:
    """Whoever still answers 503 is shut, and a proxy's 502 says nothing."""
    service.file = checkout / "shut"
    environment = by_command(service, checkout, off_command=off_command)
    switch_on(environment, lambda _: None)
    service.status = status
    with pytest.raises(MaintenanceError, match="switched off by command, but") as caught:
        switch_off(environment, lambda _: None)
    assert caught.value.retryable


def test_who_does_not_answer_is_neither_on_nor_off() -> None:
    switch = {"flag_file": "/nowhere", "check_path": "/page"}
    assert is_on(builders.environment(maintenance=switch)) is None
    assert is_on(builders.environment()) is None


def test_a_release_that_needs_a_switch_is_refused_without_one() -> None:
    refuse_without_switch(builders.environment(), needed=False)
    with pytest.raises(RefusedError, match="has no way to switch it"):
        refuse_without_switch(builders.environment(), needed=True)
