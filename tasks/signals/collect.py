"""Collect: every source of an environment, each by itself: of one that fails, a sentence; of the others, samples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from tasks.release.environment import Environment
from tasks.signals.changes import changes
from tasks.signals.logs import LogState, read_log
from tasks.signals.probing import probe
from tasks.signals.prometheus import MOST_POINTS, query_range
from tasks.signals.sample import Sample
from tasks.signals.statistics import Snapshot, take_snapshot
from tasks.signals.tally import Tally


@dataclass
class State:
    """Where collecting stands; small, and JSON by `dump` and `restore`.

    Attributes:
        logs: By source.
        statistics: PostgreSQL's, as they were last read.
        prometheus: End of the last interval that Prometheus told of, by query.
        told: Problems that were told: the same sentence does not come twice running.
    """

    logs: dict[str, LogState] = field(default_factory=dict)
    statistics: Snapshot | None = None
    prometheus: dict[str, datetime] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def dump(self) -> bytes:
        """The state as JSON."""
        return _STATE.dump_json(self)

    @classmethod
    def restore(cls, content: bytes) -> State:
        """The state that `dump` wrote.

        Raises:
            pydantic.ValidationError: It is none of this version.
        """
        return _STATE.validate_json(content)


_STATE = TypeAdapter(State)


@dataclass
class Collected:
    """What a call found.

    Attributes:
        samples: Of intervals that are over; each interval of each metric comes once in the life of a state.
        problems: A sentence for each source that failed, and did not fail in the same way before.
        more: Whether logs or Prometheus tell more of the past: call again at once.
    """

    samples: list[Sample]
    problems: list[str]
    more: bool


def collect(environment: Environment, state: State, since: datetime, now: datetime) -> Collected:
    """Collect what the sources tell since the last call; `state` is moved on.

    Logs and Prometheus tell of the past, from `since` in the first call and from where it stopped in later ones.
    PostgreSQL tells what changed since the last call. Endpoints are asked now, for the interval that ends now.

    Args:
        environment: Whose sources.
        state: Where the last call stopped; a new one for the first.
        since: How far the first call looks back.
        now: This moment. A watch calls when an interval has ended.
    """
    monitor = environment.monitor
    samples: list[Sample] = []
    problems: list[str] = []
    more = False
    for source, log in zip(_sources(environment), monitor.logs, strict=True):
        log_state = state.logs.setdefault(source, LogState(Tally(monitor.interval_s)))
        read = read_log(log, source, log_state, since, now)
        samples += read.samples
        problems += [read.problem] if read.problem else []
        more |= read.more
    if monitor.prometheus:
        end = _floor(now, monitor.interval_s)
        for query in monitor.prometheus.queries:
            begin = state.prometheus.get(query.name) or _floor(since, monitor.interval_s)
            until = min(end, begin + timedelta(seconds=MOST_POINTS * monitor.interval_s))
            try:
                samples += query_range(monitor.prometheus, query, begin, until, monitor.interval_s)
            except ValueError as error:
                problems.append(f"Prometheus: {query.name}: {error}")
                continue
            state.prometheus[query.name] = until
            more |= until < end
    if not more:
        snapshot, unread = take_snapshot(environment.database, now.timestamp())
        samples += changes(state.statistics, snapshot, monitor.interval_s)
        if snapshot.series:
            state.statistics = snapshot
        problems += unread
        # The interval that ended now, or just before: whoever looks once an interval is never exactly on time.
        at = _floor(now - timedelta(seconds=monitor.interval_s / 2), monitor.interval_s)
        samples += probe(environment.smoke, at, monitor.interval_s)
    problems = [environment.redacted(problem) for problem in problems]
    news = [problem for problem in problems if problem not in state.told]
    state.told = problems
    return Collected(samples, news, more)


def _sources(environment: Environment) -> Iterator[str]:
    """Names of the logs in metrics: `log` for the first one, further ones with their file's name."""
    names: list[str] = []
    for log in environment.monitor.logs:
        name = f"log_{re.sub('[^a-z0-9]+', '_', log.path.stem.lower())}" if names else "log"
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    yield from names


def _floor(moment: datetime, interval_s: float) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() // interval_s * interval_s, UTC)
