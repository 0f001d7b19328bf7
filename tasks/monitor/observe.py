"""Observe: the samples of one interval as the judge sees them, with and without the control group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np

from tasks.monitor.control import LEAST_REQUESTS, MOST_FACTOR, Share, factor
from tasks.monitor.evidence import Observation
from tasks.monitor.latencies import quantile_of
from tasks.monitor.normal import LIMITS, QUANTILES, VANISHED, Measure, Normal
from tasks.release.monitoring import Monitor
from tasks.signals.sample import Sample, slower_than

POOLED = 5  # intervals by which the control group is known: one alone has few requests
MOST_OWN = 2  # times the watch's own requests of an interval: what is no traffic of others
FEWEST_FAILED = 5  # requests of an interval, below which their failing is no breakdown


class Interval:
    """One interval, and the ones before it, by which the control group is known.

    Args:
        normal: What it is compared with.
        at: Its beginning.
        samples: Of it.
        recent: Of the last POOLED intervals, this one included.
        interval_s: Its length.
    """

    def __init__(
        self, normal: Normal, at: datetime, samples: Iterable[Sample], recent: Iterable[Sample], interval_s: float
    ) -> None:
        self.normal = normal
        self.at = at
        self.interval_s = interval_s
        self.by_metric = {sample.metric: sample for sample in samples}
        self.recent: dict[str, list[Sample]] = {}
        for sample in recent:
            self.recent.setdefault(sample.metric, []).append(sample)

    def observed(self, *, compared: bool, broken: bool) -> Observation:
        """What the judge sees; `compared`: with the control group's own trouble granted."""
        seen = [self._seen(measure, compared=compared) for measure in self.normal.measures]
        bad, total, tolerated = (np.array([getattr(one, name) for one in seen]) for name in Share.__annotations__)
        return Observation(bad, total, tolerated, broken)

    def _seen(self, measure: Measure, *, compared: bool) -> Share:
        sample = self.by_metric.get(measure.metric)
        usual = self.normal.usual(measure, self.at)
        if sample is None or (measure.quality not in ("traffic", "q90", "q99") and not sample.total):
            return Share(0, 0, 0)
        if measure.quality == "share":
            allowed = factor(self._control_shares(measure)) if compared else 1.0
            return Share(sample.bad, sample.total, min(1.0, usual * allowed))
        if measure.quality in QUANTILES:
            allowed = self._slowdown(measure) if compared else 1.0
            slow = slower_than(sample.bins, usual * self.normal.latency_tolerance * allowed)
            return Share(slow, sample.total, 1 - QUANTILES[measure.quality])
        if sample.value is None:
            return Share(0, 0, 0)
        if measure.quality == "traffic":
            return Share(sample.value * self.interval_s, 1, usual * self.interval_s * VANISHED)
        allowed = self._slowdown(measure) if compared and measure.metric.startswith("statement.") else 1.0
        return Share(float(sample.value * measure.sign > usual * allowed), 1, LIMITS[measure.quality])

    def _control(self, measure: Measure) -> Iterator[Measure]:
        """What a measure is compared with: the same of what the release does not touch.

        What is itself not touched is compared with the touched too, for want of anything better, and everything with
        everything when nothing is known to be touched. What is not known is compared, and nothing with it.
        """
        touching = any(one.touch == "touched" for one in self.normal.measures)
        for one in self.normal.measures:
            alike = one.quality == measure.quality and bool(one.subject) and one.subject != measure.subject
            if not alike or one.metric.startswith("statement.") != measure.metric.startswith("statement."):
                continue
            known = one.touch == "untouched" or (one.touch == "touched" and measure.touch == "untouched")
            if known or not touching:
                yield one

    def _control_shares(self, measure: Measure) -> Iterator[Share]:
        for one in self._control(measure):
            pooled = self.recent.get(one.metric, [])
            yield Share(
                sum(sample.bad for sample in pooled),
                sum(sample.total for sample in pooled),
                self.normal.usual(one, self.at),
            )

    def _slowdown(self, measure: Measure) -> float:
        """How many times as long as usual the control group takes; at least 1."""
        ratios = []
        for one in self._control(measure):
            pooled = self.recent.get(one.metric, [])
            usual = self.normal.usual(one, self.at)
            if one.quality in QUANTILES:
                bins = _added_up([sample.bins for sample in pooled])
                requests = sum(bins.values())
                if requests >= LEAST_REQUESTS and usual > 0:
                    ratios.append(Share(quantile_of(bins, QUANTILES[one.quality]) / usual * requests, requests, 1.0))
            else:
                values = [sample.value for sample in pooled if sample.value is not None]
                if values and one.typical > 0:
                    ratios.append(Share(float(np.median(values)) / one.typical * LEAST_REQUESTS, LEAST_REQUESTS, 1.0))
        return min(MOST_FACTOR, factor(ratios))


def is_broken(samples: Sequence[Sample], settings: Monitor) -> bool:
    """Whether the service was down, or most of its requests failed: what needs no history to be told."""
    logs = [sample for sample in samples if _whole_log(sample.metric)]
    probes = [sample for sample in samples if sample.metric.startswith("probe.errors:")]
    for group in (logs, probes):
        bad, total = sum(sample.bad for sample in group), sum(sample.total for sample in group)
        if bad >= FEWEST_FAILED and bad >= settings.breaker_share * total:
            return True
    return False


def is_silent(samples: Sequence[Sample], *, logged: bool) -> bool:
    """Whether the application was asked hardly anything: by its log, where there is one, else by the watch itself.

    The watch's own requests stand in the log too, and those of a neighbouring interval may.
    """
    own = sum(sample.total for sample in samples if sample.metric.startswith("probe.errors:"))
    if not logged:
        return own == 0
    return sum(sample.total for sample in samples if _whole_log(sample.metric)) <= MOST_OWN * own


def _whole_log(metric: str) -> bool:
    return metric.endswith(".errors") and metric.startswith("log")


def _added_up(histograms: Iterable[Mapping[int, int]]) -> dict[int, int]:
    summed: dict[int, int] = {}
    for histogram in histograms:
        for number, count in histogram.items():
            summed[number] = summed.get(number, 0) + count
    return summed
