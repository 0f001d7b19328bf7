"""Normal: what was usual before a release, learned from the history once and kept for the whole of its watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal

from tasks.monitor.control import Touch
from tasks.release.monitoring import Monitor
from tasks.release.record import Record

GRID_S = 60.0  # the history is learned from in intervals of at least this length
BLIND_ERRORS = 0.05  # share of errors tolerated where nothing at all is known
VANISHED = 0.3  # traffic below this share of the usual one speaks against a release
QUANTILES = {"p50": 0.5, "p95": 0.95}
LIMITS = {"q90": 0.1, "q99": 0.01}  # a gauge's share of intervals beyond its limit
TOUCHED_WEIGHT = 3.0  # what a release touches counts so many times as much as what it does not
# How much each group of measures counts; within a group the weight is divided.
WEIGHTS = {"errors": 0.25, "latency": 0.2, "traffic": 0.1, "route errors": 0.15, "route latency": 0.2, "gauges": 0.1}

Quality = Literal["share", "p50", "p95", "traffic", "q90", "q99"]


class Measure(Record):
    """One thing that is judged: a quality of a metric.

    Attributes:
        metric: Of the samples.
        quality: share: of bad events; p50, p95: of requests slower than the usual quantile; traffic: requests a second;
            q90, q99: of intervals beyond a gauge's limit.
        group: Of WEIGHTS.
        touch: Whether the release touches what is measured.
        relation: By which it does; "": none known.
        dispersion: Variance of the counts over that of independent events.
        sign: -1 where a lower gauge is worse.
        typical: A gauge's median.
        usual: What is usual, by time from the watch's beginning on, for a day; a single value holds all day.
            share: the tolerated share; p50, p95: seconds; traffic: requests a second; q90, q99: the limit.
    """

    metric: str
    quality: Quality
    group: str
    touch: Touch = "unknown"
    relation: str = ""
    dispersion: float = 1.0
    sign: Literal[1, -1] = 1
    typical: float = 0.0
    usual: tuple[float, ...]

    @property
    def name(self) -> str:
        """How it is called among the measures."""
        return f"{self.metric}@{self.quality}"

    @property
    def subject(self) -> str:
        """The route, statement or table; "" for the whole."""
        return self.metric.partition(":")[2]


class Normal(Record):
    """What a watch is compared with.

    Attributes:
        began_at: The watch's beginning; `usual` counts from there.
        grid_s: Time between two entries of `usual`.
        days: Of history.
        certain: Whether that is enough to convict.
        latency_tolerance: Widened where it is not.
        busiest: Requests a second at the busiest time of day; 0: not known.
        indexed: Tables of which indexes were used.
    """

    began_at: datetime
    grid_s: float
    days: float
    certain: bool
    latency_tolerance: float
    measures: tuple[Measure, ...]
    busiest: float = 0.0
    indexed: tuple[str, ...] = ()

    def usual(self, measure: Measure, at: datetime) -> float:
        """What is usual of a measure at a moment."""
        index = int((at - self.began_at).total_seconds() // self.grid_s)
        return measure.usual[index % len(measure.usual)]

    def weights(self) -> list[float]:
        """One per measure."""
        sizes = [TOUCHED_WEIGHT if one.touch == "touched" else 1.0 for one in self.measures]
        groups: dict[str, float] = {}
        for one, size in zip(self.measures, sizes, strict=True):
            groups[one.group] = groups.get(one.group, 0.0) + size
        return [WEIGHTS[one.group] * size / groups[one.group] for one, size in zip(self.measures, sizes, strict=True)]


def blind(
    metrics: list[str], began_at: datetime, settings: Monitor, touch: Callable[[str], tuple[Touch, str]]
) -> Normal:
    """What is tolerated where there is no history: errors alone, and many of them."""
    measures = [
        Measure(
            metric=metric,
            quality="share",
            group="route errors" if ":" in metric else "errors",
            touch=touch(metric)[0],
            relation=touch(metric)[1],
            dispersion=4.0,
            usual=(BLIND_ERRORS,),
        )
        for metric in metrics
        if base_of(metric).endswith(".errors")
    ]
    return Normal(
        began_at=began_at,
        grid_s=GRID_S,
        days=0,
        certain=False,
        latency_tolerance=settings.latency_tolerance,
        measures=tuple(measures),
    )


def base_of(metric: str) -> str:
    """Source and what of a metric, without its subject."""
    return metric.partition(":")[0]


def weights_of(normal: Normal) -> Mapping[str, float]:
    """The share that each measure has in the evidence."""
    weights = normal.weights()
    whole = sum(weights)
    return {one.name: weight / whole for one, weight in zip(normal.measures, weights, strict=True)}
