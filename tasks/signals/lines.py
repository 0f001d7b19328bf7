"""Lines: how a request is read from a line of a log."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from tasks.release.monitoring import LogFile
from tasks.signals.tally import route_of

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
LATEST_S = 1e11  # the year 5138; a larger time counts milliseconds
# nginx: the `combined` format, with `$request_time` where it is the last field.
COMBINED = re.compile(
    rb'^\S+ \S+ .*? \[([^\]]+)\] "(?:[A-Z]+ (\S+)[^"]*|[^"]*)" (\d{3}) \S+ "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*"'
    rb"(?:.* (\d+\.\d+))?\s*$"
)


class Request(NamedTuple):
    """A request as a line tells it."""

    at_s: float  # seconds of the epoch
    route: str
    status: int
    duration_s: float | None


Parse = Callable[[bytes], Request | None]


def parser_of(log: LogFile) -> Parse:
    """A function from a line to its request; None for a line that tells of none, or that cannot be read."""
    return _nginx if log.format == "nginx" else _json(log)


def _json(log: LogFile) -> Parse:
    time_key, status_key, duration_key = log.time_key, log.status_key, log.duration_key
    route_key, path_key, unit = log.route_key, log.path_key, UNITS[log.duration_unit]

    def parse(line: bytes) -> Request | None:
        try:
            content = json.loads(line)
            status = int(content[status_key])
            at_s = _seconds(content[time_key])
            duration = content.get(duration_key)
            duration_s = None if duration is None else float(duration) * unit
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None
        # NaN and infinity are numbers for Python's JSON; no comparison holds for the one.
        if (
            not 100 <= status <= 599
            or not 0 <= at_s < LATEST_S
            or not (duration_s is None or 0 <= duration_s < LATEST_S)
        ):
            return None
        route = content.get(route_key)
        return Request(at_s, str(route) if route else _route(str(content.get(path_key) or "")), status, duration_s)

    return parse


def _nginx(line: bytes) -> Request | None:
    match = COMBINED.match(line)
    if match is None:
        return None
    when, path, status, duration = match.groups()
    try:
        at_s = _nginx_seconds(when)
    except ValueError:
        return None
    route = _route(path.decode(errors="replace")) if path else ""
    return Request(at_s, route, int(status), None if duration is None else float(duration))


@lru_cache(4096)
def _route(path: str) -> str:
    return route_of(path)


@lru_cache(64)  # a busy log has many lines of one second
def _nginx_seconds(when: bytes) -> float:
    return datetime.strptime(when.decode("ascii", "replace"), "%d/%b/%Y:%H:%M:%S %z").timestamp()


def _seconds(value: Any) -> float:
    """Seconds of the epoch: of ISO 8601 (UTC where it names no zone), or of a number of seconds or milliseconds."""
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    seconds = float(value)
    return seconds / 1000 if seconds > LATEST_S else seconds
