"""The smoke test: a request to every configured endpoint, and a row written and rolled back."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import psycopg
from psycopg import sql

from tasks.database.connection import connect, explained
from tasks.release.environment import Endpoint, Environment
from tasks.release.errors import DatabaseError, SmokeError
from tasks.release.prefect_api import is_loopback
from tasks.release.release import Answer, Smoked

HEAD_CHARACTERS = 600  # of a bad answer's body, for the report
MOST_BYTES = 1024 * 1024  # of a body; what is beyond is not read
# The report goes to PostgreSQL, whose text holds no NUL, and to terminals; line breaks and tabs stay.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
POLL_S = 0.2
STEADY = 3  # good answers running that make it ready: with old and new processes at work, one may be luck
TIMEOUT_FACTOR = 3  # a slow answer is waited for, so that the report can say how slow
COMMIT = "{commit}"  # as an expected value: the full hash of what is deployed


def smoke(environment: Environment, commit: str, schema: str | None) -> Smoked:
    """Ask every endpoint once the service is ready, then write, read back and roll back a row.

    Args:
        environment: Whose service.
        commit: What was deployed; stands for `{commit}` in the expected values.
        schema: Of django_migrations; None: where the runbook's own session finds it.

    Raises:
        SmokeError: An endpoint does not answer as it should; names each, with the head of what it answered.
        DatabaseError: The row could not be written or read.
    """
    smoke_test = environment.smoke
    with _client(smoke_test.base_url) as client:
        _wait_until_ready(client, smoke_test.endpoints[0], commit, smoke_test.ready_within_s)
        answers = tuple(ask(client, endpoint, commit) for endpoint in smoke_test.endpoints)
    bad = [answer for answer in answers if not answer.ok]
    if bad:
        passing = all(answer.status is None or answer.status >= httpx.codes.INTERNAL_SERVER_ERROR for answer in bad)
        described = "\n".join(f"  {answer.name}: {answer.problem}\n    {answer.head}" for answer in bad)
        raise SmokeError(
            f"{len(bad)} of {len(answers)} endpoints of {environment.name} do not answer as they should:\n"
            + environment.redacted(described),  # an error page tells more than it should
            hint="look at the application's log; the code and the migrations are already in place",
            retryable=passing,
        )
    return Smoked(answers=answers, round_trip_s=round_trip(environment, schema))


def look(environment: Environment, commit: str) -> tuple[Answer, ...]:
    """What the endpoints answer right now; `commit` is the one that serves."""
    with _client(environment.smoke.base_url) as client:
        return tuple(ask(client, endpoint, commit) for endpoint in environment.smoke.endpoints)


def _client(base_url: str) -> httpx.Client:
    # A connection for each request: one that is kept would always ask the same process of the service, and `_Deadline`
    # sees a connection when it is made.
    return httpx.Client(
        base_url=base_url,
        follow_redirects=False,
        trust_env=not is_loopback(base_url),
        limits=httpx.Limits(max_keepalive_connections=0),
    )


def ask(client: httpx.Client, endpoint: Endpoint, commit: str) -> Answer:
    """One request, and what is wrong with its answer; TIMEOUT_FACTOR times the allowed seconds at most.

    Args:
        client: Of the environment's base URL.
        endpoint: What to ask, and what a healthy answer looks like.
        commit: Stands for `{commit}` in the expected values.
    """
    name = f"{endpoint.method} {endpoint.path}"
    limit_s = endpoint.within_s * TIMEOUT_FACTOR
    began = time.monotonic()
    status: int | None = None
    body = bytearray()
    encoding = "utf-8"
    failure = ""
    with _deadline(limit_s) as deadline:
        try:
            with client.stream(
                endpoint.method, endpoint.path, timeout=limit_s, extensions={"trace": deadline.trace}
            ) as response:
                status, encoding = response.status_code, response.encoding or encoding
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES or deadline.passed:
                        break
        except httpx.HTTPError as error:
            failure = f"{type(error).__name__} {error}".strip()
        seconds = time.monotonic() - began
        # A body without a length ends where its connection does, so one that was cut off looks complete.
        endless = deadline.passed
    if endless and status is not None:
        problem = f"answered for more than {limit_s:g} s without an end"
    elif endless:
        problem = f"no answer after {seconds:.1f} s: ReadTimeout"
    elif failure:
        status, problem = None, f"no answer after {seconds:.1f} s: {failure}"
    else:
        problem = _problem(endpoint, status, bytes(body), seconds, commit)
    head = _head(bytes(body[:MOST_BYTES]), encoding) if problem else ""
    return Answer(name=name, ok=not problem, status=status, seconds=seconds, problem=problem, head=head)


class _Deadline:
    """The end of a request's time, at which its connection is shut down.

    The timeouts of httpx are for each read: an answer that drips would never meet them, in its headers or its body.
    """

    def __init__(self) -> None:
        self.passed = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Keep the connection, as httpcore tells of it; a duplicate, since TLS takes the original over."""
        if event != "connection.connect_tcp.complete":
            return
        with self._lock:
            self._sockets.append(info["return_value"].get_extra_info("socket").dup())
            if self.passed:
                self._shut_down()

    def pass_by(self) -> None:
        with self._lock:
            self.passed = True
            self._shut_down()

    def close(self) -> None:
        with self._lock:
            for connection in self._sockets:
                connection.close()

    def _shut_down(self) -> None:
        for connection in self._sockets:
            with suppress(OSError):  # it ended at this moment
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def _deadline(within_s: float) -> Iterator[_Deadline]:
    deadline = _Deadline()
    timer = threading.Timer(within_s, deadline.pass_by)
    timer.daemon = True
    timer.start()
    try:
        yield deadline
    finally:
        timer.cancel()
        deadline.close()


def _head(body: bytes, encoding: str) -> str:
    try:
        text = body.decode(encoding, errors="replace")
    except (LookupError, ValueError):  # such as charset=hex, which is no encoding of text
        text = body.decode(errors="replace")
    return UNPRINTABLE.sub("", text)[:HEAD_CHARACTERS]


def _problem(endpoint: Endpoint, status: int | None, body: bytes, seconds: float, commit: str) -> str:
    if status != endpoint.status:
        return f"status {status} instead of {endpoint.status}"
    if seconds > endpoint.within_s:
        return f"answered after {seconds:.2f} s, allowed are {endpoint.within_s:g} s"
    if endpoint.json_has or endpoint.json_equals:
        return _shape_problem(endpoint, body, commit)
    return ""


def _shape_problem(endpoint: Endpoint, content: bytes, commit: str) -> str:
    if len(content) > MOST_BYTES:
        return f"the answer is longer than {MOST_BYTES} bytes, which is all that is read of one"
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):  # ValueError: no JSON, no UTF, or a number of thousands of digits
        return "the answer is not JSON"
    for path in endpoint.json_has:
        if _at(body, path) is _NOTHING:
            return f"the answer has no key {path}"
    for path, wanted in endpoint.json_equals.items():
        expected = commit if wanted == COMMIT else wanted
        found = _at(body, path)
        if found is _NOTHING or found != expected:
            told = "nothing" if found is _NOTHING else repr(found)
            return f"{path} is {told} instead of {expected!r}"
    return ""


_NOTHING = object()


def _at(body: Any, path: str) -> object:
    for part in path.split("."):
        if not isinstance(body, dict) or part not in body:
            return _NOTHING
        body = body[part]
    found: object = body
    return found


def _wait_until_ready(client: httpx.Client, endpoint: Endpoint, commit: str, within_s: float) -> None:
    """Wait until the reloaded service answers the first endpoint as it should, or the time is over.

    It ends by `within_s` and one request.

    A reload is gradual: for a moment nobody answers, or a process with the old code does. What is then still wrong is
    told by the smoke test itself.
    """
    deadline = time.monotonic() + within_s
    good = 0
    while good < STEADY and time.monotonic() < deadline:
        good = good + 1 if ask(client, endpoint, commit).ok else 0
        if good < STEADY:
            pause = POLL_S / STEADY if good else POLL_S
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))


def round_trip(environment: Environment, schema: str | None) -> float:
    """Write a row, read it back and roll it back; seconds.

    The row goes to django_migrations, which every application has and nobody reads meanwhile; no reader ever sees it.

    Args:
        environment: Whose database.
        schema: Of django_migrations; None: where the runbook's own session finds it.

    Raises:
        DatabaseError: The database is read-only, or the row does not come back.
    """
    began = time.monotonic()
    table = sql.Identifier(*([schema] if schema else []), "django_migrations")
    write = sql.SQL("INSERT INTO {} (app, name, applied) VALUES ('runbook', 'smoke', now()) RETURNING id")
    read = sql.SQL("SELECT app, name FROM {} WHERE id = %s")
    with connect(environment.database, "smoke", statement_timeout_s=10) as connection:
        try:
            row = connection.execute(write.format(table)).fetchone()
            found = connection.execute(read.format(table), [row[0] if row else None]).fetchone()
            connection.rollback()
        except psycopg.Error as error:  # whatever was written goes with the connection
            raise explained(error, f"cannot write and read a row on {environment.name}") from None
    if found != ("runbook", "smoke"):
        raise DatabaseError(f"a row written to {environment.name} did not come back: {found!r}")
    return time.monotonic() - began
