"""The smoke test: a request to every configured endpoint, and a row written and rolled back."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import psycopg
from psycopg import sql

from tasks.database.connection import connect, explained
from tasks.release.environment import Endpoint, Environment
from tasks.release.errors import DatabaseError, SmokeError
from tasks.release.release import Answer, Smoked

HEAD_CHARACTERS = 600  # of a bad answer's body, for the report
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
    with httpx.Client(base_url=smoke_test.base_url, follow_redirects=False) as client:
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
    with httpx.Client(base_url=environment.smoke.base_url, follow_redirects=False) as client:
        return tuple(ask(client, endpoint, commit) for endpoint in environment.smoke.endpoints)


def ask(client: httpx.Client, endpoint: Endpoint, commit: str) -> Answer:
    """One request, and what is wrong with its answer.

    Args:
        client: Of the environment's base URL.
        endpoint: What to ask, and what a healthy answer looks like.
        commit: Stands for `{commit}` in the expected values.
    """
    name = f"{endpoint.method} {endpoint.path}"
    began = time.monotonic()
    try:
        response = client.request(endpoint.method, endpoint.path, timeout=endpoint.within_s * TIMEOUT_FACTOR)
    except httpx.HTTPError as error:
        seconds = time.monotonic() - began
        problem = f"no answer after {seconds:.1f} s: {type(error).__name__} {error}".strip()
        return Answer(name=name, ok=False, status=None, seconds=seconds, problem=problem, head="")
    seconds = time.monotonic() - began
    problem = _problem(endpoint, response, seconds, commit)
    head = response.text[:HEAD_CHARACTERS] if problem else ""
    return Answer(name=name, ok=not problem, status=response.status_code, seconds=seconds, problem=problem, head=head)


def _problem(endpoint: Endpoint, response: httpx.Response, seconds: float, commit: str) -> str:
    if response.status_code != endpoint.status:
        return f"status {response.status_code} instead of {endpoint.status}"
    if seconds > endpoint.within_s:
        return f"answered after {seconds:.2f} s, allowed are {endpoint.within_s:g} s"
    if endpoint.json_has or endpoint.json_equals:
        return _shape_problem(endpoint, response, commit)
    return ""


def _shape_problem(endpoint: Endpoint, response: httpx.Response, commit: str) -> str:
    try:
        body = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
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

    A reload is gradual: for a moment nobody answers, or a process with the old code does. What is then still wrong is
    told by the smoke test itself.
    """
    deadline = time.monotonic() + within_s
    good = 0
    while good < STEADY and time.monotonic() < deadline:
        if good:
            time.sleep(POLL_S / STEADY)
        if ask(client, endpoint, commit).ok:
            good += 1
        else:
            good = 0
            time.sleep(POLL_S)


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
