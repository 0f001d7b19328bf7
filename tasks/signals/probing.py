"""Probing: the endpoints of the smoke test, asked a few times, so that there is a signal where there is no traffic."""

from __future__ import annotations

import time
from datetime import datetime

import httpx

from tasks.release.environment import Endpoint, Smoke
from tasks.release.prefect_api import is_loopback
from tasks.signals.sample import Sample, binned

TRIES = 5  # requests to each endpoint in an interval
TIMEOUT_FACTOR = 3  # a slow answer is waited for: how slow it is counts
MOST_BYTES = 2**20  # of a body; what is beyond is not read
USER_AGENT = "runbook-probe"  # by which an access log can tell these requests


def probe(smoke: Smoke, at: datetime, interval_s: float) -> list[Sample]:
    """`probe.errors:<path>` and `probe.latency:<path>` of every endpoint, asked now.

    An error is no answer, or another status than the endpoint's own; what the body says is left to the smoke test.

    Args:
        smoke: The endpoints.
        at: The interval that the samples are of.
        interval_s: Its length.
    """
    samples = []
    # A connection for each request: one that is kept would always ask the same process of the service.
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(
        base_url=smoke.base_url,
        headers={"user-agent": USER_AGENT},
        limits=limits,
        trust_env=not is_loopback(smoke.base_url),
    ) as client:
        for endpoint in smoke.endpoints:
            answers = [_ask(client, endpoint) for _ in range(TRIES)]
            bad = sum(not ok for ok, _ in answers)
            seconds = [took for _, took in answers]
            samples += [
                Sample(f"probe.errors:{endpoint.path}", "events", at, interval_s, bad=bad, total=TRIES),
                Sample(f"probe.latency:{endpoint.path}", "latency", at, interval_s, total=TRIES, bins=binned(seconds)),
            ]
    return samples


def _ask(client: httpx.Client, endpoint: Endpoint) -> tuple[bool, float]:
    """Whether the status was right, and how long the whole answer took; one without an end is cut off."""
    limit_s = endpoint.within_s * TIMEOUT_FACTOR
    began = time.monotonic()
    ok = False
    try:
        with client.stream(endpoint.method, endpoint.path, timeout=limit_s) as response:
            ok = response.status_code == endpoint.status
            read = 0
            for chunk in response.iter_raw():
                read += len(chunk)
                if time.monotonic() - began > limit_s:
                    ok = False
                if not ok or read > MOST_BYTES:
                    break
    except httpx.HTTPError:
        ok = False
    return ok, time.monotonic() - began
