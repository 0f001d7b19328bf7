"""The prerequisite that continuous integration passed for the commit."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx

from tasks.release.decisions import Check
from tasks.release.environment import Environment
from tasks.release.errors import RunbookError
from tasks.release.prefect_api import is_loopback
from tasks.release.production import CiStatus

MISSING = "nothing"  # what is said to stand where an answer has no such key


def ci_status(environment: Environment, commit: str, ref: str) -> Check:
    """Ask the configured address about the commit. Redirects are not followed, since they would take secrets along.

    Raises:
        RunbookError: It was not reached, or is itself in trouble; retryable.
    """
    ci = environment.gate.ci
    if ci is None:
        return Check(name="CI status", tick="yes", evidence="not asked for: [gate.ci] is not configured")
    url = ci.url.replace("{commit}", commit).replace("{ref}", quote(ref, safe=""))
    headers = {**ci.headers, **{name: secret.get_secret_value() for name, secret in ci.secret_headers.items()}}
    shown = environment.redacted(url)
    try:
        with httpx.Client(timeout=ci.timeout_s, trust_env=not is_loopback(url)) as client:
            answer = client.get(url, headers=headers)
    except httpx.HTTPError as error:
        told = f"{shown} could not be asked: {type(error).__name__}"
        raise RunbookError(told, hint="is it up?", retryable=isinstance(error, httpx.TransportError)) from None
    except ValueError as error:  # a header that cannot be sent; its value may be the secret
        raise RunbookError(
            f"{shown} could not be asked: {type(error).__name__}", hint="check headers and secrets of [gate.ci]"
        ) from None
    if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise RunbookError(f"{shown} answered {answer.status_code}", hint="wait until it is well again", retryable=True)
    if answer.status_code != httpx.codes.OK:
        mend = "check url, headers and secret_headers of [gate.ci]; does it know this commit?"
        return Check(name="CI status", tick="unknown", evidence=f"{shown} answered {answer.status_code}", mend=mend)
    return _judged(environment, ci, answer.text, shown)


def _judged(environment: Environment, ci: CiStatus, body: str, shown: str) -> Check:
    try:
        content = json.loads(body)
    except ValueError:
        mend = "[gate.ci] url has to name an API"
        return Check(name="CI status", tick="unknown", evidence=f"{shown} did not answer with JSON", mend=mend)
    # Equal and of the same type: Python takes True for 1.
    against = [
        f"{key} is {_told(_at(content, key))}, not {json.dumps(wanted)}"
        for key, wanted in ci.json_equals.items()
        if _at(content, key) != wanted or type(_at(content, key)) is not type(wanted)
    ]
    if against:
        evidence = environment.redacted(f"{shown}: {'; '.join(against)}")
        return Check(name="CI status", tick="no", evidence=evidence, mend="wait for it to pass, or mend what fails")
    passed = ", ".join(f"{key} is {json.dumps(wanted)}" for key, wanted in ci.json_equals.items())
    return Check(name="CI status", tick="yes", evidence=environment.redacted(f"{shown}: {passed}"))


def _at(content: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            return None
        content = content[part]
    return content


def _told(value: Any) -> str:
    return MISSING if value is None else json.dumps(value)[:100]
