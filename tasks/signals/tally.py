"""Tally: requests counted by interval and route, and the samples that they make once an interval is over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tasks.signals.sample import Sample, bin_of

MOST_ROUTES = 200  # of one log; requests of further ones are counted together
OTHER = "(other)"
GRACE_S = 10.0  # a line may be written so much later than its time says: buffers of servers are flushed by then
FIRST_FAILURE = 500  # statuses from here on are the server's own failure
NOT_FOUND = 404
# What differs between requests of one route, where a path is all that is known: numbers, UUIDs, hashes.
VARIABLE_PART = re.compile(r"/(?:\d+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9a-fA-F]{16,})(?=/|$)")


@dataclass
class Counts:
    """What was counted of one route in one interval."""

    total: int = 0
    bad: int = 0
    bins: dict[int, int] = field(default_factory=dict)


@dataclass
class Interval:
    """What was counted in one interval: by route, and by hundreds of the status."""

    routes: dict[str, Counts] = field(default_factory=dict)
    classes: dict[int, int] = field(default_factory=dict)


@dataclass
class Tally:
    """Intervals that are not over yet, numbered from the epoch; small, and JSON in the state.

    Attributes:
        interval_s: Length of an interval.
        next: The first interval without samples so far; None: no line was seen yet.
        open: The counted intervals from there on.
        known: The routes that have metrics of their own.
        late: Lines of intervals whose samples were made before.
        gap: Lines were lost: the next interval without any, and those up to the next line, are unknown, not silent.
    """

    interval_s: float
    next: int | None = None
    open: dict[int, Interval] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    late: int = 0
    gap: bool = False

    @property
    def grace_s(self) -> float:
        """How long after an interval its lines are waited for: GRACE_S, but no longer than an interval."""
        return min(GRACE_S, self.interval_s)

    def count(self, at_s: float, route: str, status: int, duration_s: float | None) -> None:
        """Count a request that ended at a second of the epoch."""
        number = int(at_s // self.interval_s)
        if self.next is not None and number < self.next:
            self.late += 1
            return
        interval = self.open.get(number)
        if interval is None:
            interval = self.open[number] = Interval()
        hundreds = status // 100
        interval.classes[hundreds] = interval.classes.get(hundreds, 0) + 1
        if route not in self.known:
            route = self._named(route, status)
        counts = interval.routes.get(route)
        if counts is None:
            counts = interval.routes[route] = Counts()
        counts.total += 1
        if status >= FIRST_FAILURE:
            counts.bad += 1
        if duration_s is not None:
            latency = bin_of(duration_s)
            counts.bins[latency] = counts.bins.get(latency, 0) + 1

    def close(self, until_s: float, source: str) -> Iterator[Sample]:
        """The samples of the intervals that ended `grace_s` before a moment, silent ones included; each comes once.

        Args:
            until_s: No line from before this second of the epoch is to be expected, but those that are late.
            source: First part of the metrics' names.
        """
        if self.next is None:
            if not self.open:
                return
            self.next = min(self.open)
        while (self.next + 1) * self.interval_s + self.grace_s <= until_s:
            if self.gap and self.next not in self.open:
                if not self.open:
                    return
                self.next, self.gap = min(self.open), False
                continue
            interval = self.open.pop(self.next, None) or Interval()
            yield from self._samples(interval, datetime.fromtimestamp(self.next * self.interval_s, UTC), source)
            self.next += 1

    def _named(self, route: str, status: int) -> str:
        # What only scanners ask for must not take the places of what is served.
        if status == NOT_FOUND or len(self.known) >= MOST_ROUTES:
            return OTHER
        self.known.add(route)
        return route

    def _samples(self, interval: Interval, at: datetime, source: str) -> Iterator[Sample]:
        total = sum(interval.classes.values())
        bins: dict[int, int] = {}
        for counts in interval.routes.values():
            for number, count in counts.bins.items():
                bins[number] = bins.get(number, 0) + count
        bad = sum(counts.bad for counts in interval.routes.values())
        yield Sample(f"{source}.errors", "events", at, self.interval_s, bad=bad, total=total)
        yield Sample(f"{source}.requests", "gauge", at, self.interval_s, value=total / self.interval_s)
        for hundreds, count in sorted(interval.classes.items()):
            yield Sample(f"{source}.status:{hundreds}xx", "events", at, self.interval_s, bad=count, total=total)
        if bins:
            yield Sample(f"{source}.latency", "latency", at, self.interval_s, total=sum(bins.values()), bins=bins)
        for route in sorted(self.known | interval.routes.keys()):
            counts = interval.routes.get(route) or Counts()
            yield Sample(f"{source}.errors:{route}", "events", at, self.interval_s, bad=counts.bad, total=counts.total)
            if counts.bins:
                slow = sum(counts.bins.values())
                yield Sample(f"{source}.latency:{route}", "latency", at, self.interval_s, total=slow, bins=counts.bins)


def route_of(path: str) -> str:
    """The route of a path, as far as it shows: no query, and `{}` for every number, UUID and hash."""
    return VARIABLE_PART.sub("/{}", path.partition("?")[0])
