"""Prometheus: range queries, of which every point is an interval."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tasks.release.monitoring import Prometheus, Query
from tasks.release.prefect_api import is_loopback
from tasks.signals.sample import Sample

TIMEOUT_S = 15
# Prometheus refuses to answer with more than 11,000 points of a series (web/api/v1/api.go).
MOST_POINTS = 10_000


def query_range(
    prometheus: Prometheus, query: Query, begin: datetime, end: datetime, interval_s: float
) -> list[Sample]:
    """`prometheus.<name>` of the intervals from `begin` to `end`; one without a number has no sample.

    Prometheus evaluates an expression at a moment, over the time before it: the value of an interval is that at its
    end.

    Args:
        prometheus: The server.
        query: What to ask for.
        begin: Beginning of the first interval.
        end: End of the last one, at most MOST_POINTS later.
        interval_s: Their length.

    Raises:
        ValueError: There is no answer, or it is an error, no matrix, or has several series.
    """
    step = timedelta(seconds=interval_s)
    if end < begin + step:
        return []
    asked = {
        "query": query.expression,
        "start": (begin + step).timestamp(),
        "end": end.timestamp(),
        "step": interval_s,
    }
    try:
        # POST: an expression may be longer than an address may be.
        answer = httpx.post(
            f"{prometheus.url.rstrip('/')}/api/v1/query_range",
            data=asked,
            headers={name: secret.get_secret_value() for name, secret in prometheus.secret_headers.items()},
            timeout=TIMEOUT_S,
            trust_env=not is_loopback(prometheus.url),
        )
    except httpx.HTTPError as error:
        raise ValueError(f"no answer: {error or type(error).__name__}") from None
    try:
        points = _points(answer)
    except (KeyError, TypeError, AttributeError, OverflowError):
        raise ValueError(f"status {answer.status_code}: the answer is none of Prometheus's") from None
    return [Sample(f"prometheus.{query.name}", "gauge", at - step, interval_s, value=value) for at, value in points]


def _points(answer: httpx.Response) -> list[tuple[datetime, float]]:
    """The numbers of the one series of an answer.

    Raises:
        ValueError: It is an error, no matrix, or has several series.
    """
    try:
        content: dict[str, Any] = answer.json()
    except ValueError:
        raise ValueError(f"status {answer.status_code}: the answer is not JSON") from None
    if content.get("status") != "success":
        raise ValueError(f"status {answer.status_code}: {content.get('error', 'no reason given')}")
    series = content["data"]["result"]
    if len(series) > 1:
        raise ValueError(f"the expression gives {len(series)} series; aggregate them to one, as with sum()")
    points = [(datetime.fromtimestamp(float(at), UTC), float(value)) for one in series for at, value in one["values"]]
    return [(at, value) for at, value in points if math.isfinite(value)]
