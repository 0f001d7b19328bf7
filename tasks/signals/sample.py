"""Sample: what one metric was in one interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Kind = Literal["events", "latency", "gauge"]
RELATIVE = 0.02  # the bounds of a latency are known to 2 %
GAMMA = (1 + RELATIVE) / (1 - RELATIVE)  # the bins of Masson, Rim, Lee: DDSketch, VLDB 2019
SHORTEST_S = 1e-5


@dataclass(frozen=True)
class Sample:
    """One metric in one interval.

    `events` (errors of requests, deadlocks): `bad` of `total`. `latency`: `bins` counts requests per logarithmic bin,
    `total` is their number. `gauge`: `value`. A metric that was not seen at all has no sample; one with `total` 0 was
    looked at and had no traffic.

    Attributes:
        metric: A stable name, `<source>.<what>` or `<source>.<what>:<subject>`, such as `log.errors:/api/documents`,
            `probe.latency:/api/health`, `database.deadlocks`, `table.seq_scans:public.documents_document`,
            `statement.mean_s:<digest of the text>`, `prometheus.queue_depth`.
        at: The beginning of the interval, UTC.
        interval_s: Its length.
    """

    metric: str
    kind: Kind
    at: datetime
    interval_s: float
    bad: int = 0
    total: int = 0
    value: float | None = None
    bins: Mapping[int, int] = field(default_factory=dict)


def bin_of(seconds: float) -> int:
    """The logarithmic bin of a latency."""
    return max(0, math.ceil(math.log(max(seconds, SHORTEST_S) / SHORTEST_S, GAMMA)))


def bound_of(number: int) -> float:
    """The upper bound of a bin, in seconds."""
    return SHORTEST_S * float(GAMMA**number)


def binned(latencies_s: Iterable[float]) -> dict[int, int]:
    """A histogram of latencies."""
    counts: dict[int, int] = {}
    for seconds in latencies_s:
        number = bin_of(seconds)
        counts[number] = counts.get(number, 0) + 1
    return counts


def slower_than(bins: Mapping[int, int], seconds: float) -> int:
    """How many latencies lie in bins above that of a threshold."""
    threshold = bin_of(seconds)
    return sum(count for number, count in bins.items() if number > threshold)
