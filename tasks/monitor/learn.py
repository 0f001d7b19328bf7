"""Learn: what was usual, found out from the history on a grid of whole days that ends where the watch begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd

from tasks.monitor import seasonal
from tasks.monitor.control import Touch
from tasks.monitor.evidence import Floats
from tasks.monitor.latencies import Latencies
from tasks.monitor.normal import GRID_S, LIMITS, Measure, Normal, Quality, base_of
from tasks.release.monitoring import Monitor

DAY_S = 86_400.0
COVERED = 0.5  # of the history's hours of which something must be known for it to be enough
MOST_ROUTES = 8  # of a source, the busiest: each further one makes every other one slower to convict
WIDER = 2.0  # how many times as much is tolerated without enough history
EVENTS = ("database.deadlocks", "database.rollbacks")  # beside what ends in `.errors`
RISING = (  # gauges that are worse when they are higher
    "database.waiting_locks", "database.longest_transaction_s", "database.replication_lag_s", "database.connections",
    "database.temp_bytes", "statement.mean_s",
)  # fmt: skip


def learn(
    history: pd.DataFrame, began_at: datetime, settings: Monitor, touch: Callable[[str], tuple[Touch, str]]
) -> Normal:
    """What was usual before a moment.

    Args:
        history: As `tasks.signals.history.read` gives it; what lies after the moment is disregarded.
        began_at: The watch's beginning.
        settings: The tolerances.
        touch: Whether the release touches what a metric measures, and the relation by which it does.
    """
    past = history[history["at"] < began_at]
    return _Learner(past, began_at, settings, touch).normal()


class _Learner:
    """The history on a grid of whole days that ends with the watch's beginning."""

    def __init__(
        self, past: pd.DataFrame, began_at: datetime, settings: Monitor, touch: Callable[[str], tuple[Touch, str]]
    ) -> None:
        self.began_at = began_at
        self.touch = touch
        self.grid_s = max(GRID_S, settings.interval_s)
        self.day = round(DAY_S / self.grid_s)
        self.minute = 60 / self.grid_s
        span_s = (began_at - past["at"].min()).total_seconds() if len(past) else 0.0
        self.days = min(seasonal.MOST_DAYS, max(1, math.floor(span_s / DAY_S + 0.1)))
        self.size = self.days * self.day
        start = began_at - timedelta(seconds=self.size * self.grid_s)
        past = past[past["at"] >= start]
        cells = ((past["at"] - start).dt.total_seconds() // self.grid_s).astype(int).clip(0, self.size - 1)
        self.past = past.assign(cell=cells)
        hours = self.past["at"].dt.floor("h").nunique() if len(past) else 0
        enough_s = (seasonal.ENOUGH_DAYS - 0.1) * DAY_S
        self.enough = span_s >= enough_s and hours >= COVERED * self.days * 24
        self.span_days = span_s / DAY_S
        wider = 1.0 if self.enough else WIDER
        self.errors, self.floor = settings.error_tolerance * wider, settings.error_floor
        self.latency = 1 + (settings.latency_tolerance - 1) * wider
        self.lower = {
            f"prometheus.{query.name}"
            for query in (settings.prometheus.queries if settings.prometheus else [])
            if query.worse == "lower"
        }

    def normal(self) -> Normal:
        measures: list[Measure] = []
        busiest = 0.0
        for metric in self._chosen():
            rows = self.past[self.past["metric"] == metric]
            found = list(self._measures(metric, rows))
            measures += found
            busiest = max([busiest, *(max(one.usual) for one in found if one.quality == "traffic")])
        return Normal(
            began_at=self.began_at,
            grid_s=self.grid_s,
            days=round(self.span_days, 2),
            certain=self.enough,
            latency_tolerance=self.latency,
            measures=tuple(measures),
            busiest=busiest,
            indexed=self._indexed(),
        )

    def _indexed(self) -> tuple[str, ...]:
        scans = self.past[self.past["metric"].str.startswith("table.index_scans:")]
        used = scans[scans["value"] > 0]["metric"].unique()
        return tuple(sorted(str(metric).partition(":")[2] for metric in used))

    def _chosen(self) -> list[str]:
        """The metrics that are judged: all without a subject, and of those with one the touched and the busiest."""
        sizes = self.past.groupby("metric")["total"].sum().to_dict()
        counts: dict[str, int] = {str(metric): size for metric, size in self.past.groupby("metric").size().items()}
        known = [metric for metric in counts if counts[metric] >= 0.05 * max(counts.values())]
        chosen = [metric for metric in known if ":" not in metric]
        bases = {base_of(metric) for metric in known if ":" in metric}
        for base in sorted(bases):
            ranked = sorted(
                (metric for metric in known if metric.startswith(f"{base}:")),
                key=lambda metric: (self.touch(metric)[0] != "touched", -sizes[metric], metric),
            )
            chosen += ranked[:MOST_ROUTES]
        return sorted(chosen)

    def _measures(self, metric: str, rows: pd.DataFrame) -> Iterator[Measure]:
        kind, base = rows["kind"].iloc[-1], base_of(metric)
        if kind == "events" and (base.endswith(".errors") or base in EVENTS):
            yield self._share(metric, rows)
        elif kind == "latency":
            yield from self._latency(metric, rows)
        elif kind == "gauge" and base.endswith(".requests"):
            yield self._traffic(metric, rows)
        elif kind == "gauge" and (base in RISING or base.startswith("prometheus.")):
            yield from self._gauge(metric, rows)

    def _made(self, metric: str, quality: Quality, group: str, **fields: Any) -> Measure:
        touch, relation = self.touch(metric)
        route = ":" in metric and group in ("errors", "latency")
        usual = tuple(float(f"{value:.6g}") for value in np.atleast_1d(fields.pop("usual")))
        return Measure(
            metric=metric,
            quality=quality,
            group=f"route {group}" if route else group,
            touch=touch,
            relation=relation,
            usual=usual,
            **fields,
        )

    def _share(self, metric: str, rows: pd.DataFrame) -> Measure:
        bad, total = self._sums(rows, "bad"), self._sums(rows, "total")
        mean = float(seasonal.trimmed_share(bad, total, self.day))
        tolerated = min(0.5, max(self.floor, mean * self.errors))
        dispersion = self._dispersion(bad, total * max(mean, self.floor / 2))
        group = "errors" if base_of(metric).endswith(".errors") else "gauges"
        return self._made(metric, "share", group, usual=tolerated, dispersion=dispersion)

    def _latency(self, metric: str, rows: pd.DataFrame) -> Iterator[Measure]:
        latencies = Latencies.of(rows["cell"].to_numpy(), rows["bins"], self.size)
        quality: Quality
        for quality, share in (("p50", 0.5), ("p95", 0.95)):
            series = latencies.quantile(share)
            usual = self._usual(series)
            if usual is None:
                continue
            thresholds = np.tile(usual, self.days) * self.latency
            slower, total = latencies.slower(thresholds), latencies.total
            expected = total * seasonal.trimmed_share(slower, total, self.day)
            level = float(seasonal.level(series, usual, self._intervals(seasonal.RECENT_MIN)))
            yield self._made(
                metric, quality, "latency", usual=usual * level, dispersion=self._dispersion(slower, expected)
            )

    def _traffic(self, metric: str, rows: pd.DataFrame) -> Measure:
        series = self._means(rows)
        usual = self._usual(series)
        if usual is None:
            usual = np.zeros(1)
        expected = np.resize(usual, self.size)
        level = float(seasonal.level(series, usual, min(usual.size, self._intervals(seasonal.RECENT_MIN))))
        dispersion = self._dispersion(series * self.grid_s, expected * self.grid_s)
        return self._made(metric, "traffic", "traffic", usual=usual * level, dispersion=dispersion)

    def _gauge(self, metric: str, rows: pd.DataFrame) -> Iterator[Measure]:
        sign: Literal[1, -1] = -1 if metric in self.lower else 1
        series = self._means(rows) * sign
        if not np.isfinite(series).any():
            return
        limits = seasonal.gauge_limits(seasonal.by_day(series, self.day))
        quality: Quality
        for quality, limit in (("q90", limits[0]), ("q99", limits[1])):
            beyond = np.where(np.isfinite(series), (series > limit).astype(float), np.nan)
            yield self._made(
                metric,
                quality,
                "gauges",
                usual=limit,
                sign=sign,
                typical=float(np.nanmedian(series)),
                dispersion=self._dispersion(beyond, np.full(self.size, LIMITS[quality])),
            )

    def _usual(self, series: Floats) -> Floats | None:
        """What is usual over a day from the watch's beginning on; None: nothing is known."""
        usual = seasonal.median_day(seasonal.by_day(series, self.day), self._intervals(seasonal.AROUND_MIN))
        if not np.isfinite(usual).any():
            return None
        return np.where(np.isfinite(usual), usual, np.nanmedian(usual))

    def _dispersion(self, bad: Floats, expected: Floats) -> float:
        bad_days, days = (seasonal.by_day(one, self.day) for one in (bad, expected))
        return float(seasonal.dispersion(bad_days, days, self.minute))

    def _intervals(self, minutes: float) -> int:
        return max(1, round(minutes * self.minute))

    def _sums(self, rows: pd.DataFrame, column: str) -> Floats:
        sums = np.full(self.size, np.nan)
        grouped = rows.groupby("cell")[column].sum()
        sums[grouped.index.to_numpy()] = grouped.to_numpy(float)
        return sums

    def _means(self, rows: pd.DataFrame) -> Floats:
        means = np.full(self.size, np.nan)
        grouped = rows.groupby("cell")["value"].mean()
        means[grouped.index.to_numpy()] = grouped.to_numpy(float)
        return means
