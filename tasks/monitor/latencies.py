"""Latencies of many intervals: sparse histograms, of which quantiles and slow requests are asked at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.monitor.evidence import Floats
from tasks.signals.sample import GAMMA, SHORTEST_S, bound_of

FEWEST = 5  # requests in an interval, below which its quantiles say nothing


@dataclass(frozen=True)
class Latencies:
    """Requests by interval and logarithmic bin (`tasks.signals.sample.bin_of`), ordered by both.

    Attributes:
        size: How many intervals there are.
        cells: Interval of each entry.
        bins: Its bin.
        counts: Its requests.
    """

    size: int
    cells: NDArray[np.int64]
    bins: NDArray[np.int64]
    counts: Floats

    @classmethod
    def of(
        cls, cells: Sequence[int] | NDArray[np.int64], histograms: Iterable[Mapping[int, int]], size: int
    ) -> Latencies:
        """Of histograms and the interval of each; several of one interval are added up."""
        entries = [
            (cell, number, count)
            for cell, histogram in zip(cells, histograms, strict=True)
            for number, count in histogram.items()
        ]
        flat = np.array(entries, np.int64).reshape(-1, 3)
        flat = flat[np.lexsort((flat[:, 1], flat[:, 0]))]
        return cls(size, flat[:, 0], flat[:, 1], flat[:, 2].astype(float))

    @property
    def total(self) -> Floats:
        """Requests of each interval; NaN where there were none."""
        total = np.bincount(self.cells, self.counts, self.size)
        return np.where(total > 0, total, np.nan)

    def quantile(self, share: float) -> Floats:
        """Seconds that this share of the requests took at most; NaN where too few were seen."""
        total = np.nan_to_num(self.total)
        running = np.cumsum(self.counts)
        before = np.concatenate([[0.0], np.cumsum(total)[:-1]])
        found = np.searchsorted(running, before + share * total).clip(max=max(0, self.bins.size - 1))
        if not self.bins.size:
            return np.full(self.size, np.nan)
        return np.where(total >= FEWEST, SHORTEST_S * GAMMA ** self.bins[found].astype(float), np.nan)

    def slower(self, seconds: Floats) -> Floats:
        """Requests above each interval's threshold; NaN where there were none."""
        limits = np.log(np.maximum(np.nan_to_num(seconds, nan=1.0), SHORTEST_S) / SHORTEST_S) / np.log(GAMMA)
        above = self.bins > np.ceil(limits)[self.cells]
        slow = np.bincount(self.cells, self.counts * above, self.size)
        return np.where(np.isnan(self.total), np.nan, slow)


def quantile_of(bins: Mapping[int, int], share: float) -> float:
    """Seconds that this share of the requests of one histogram took at most."""
    wanted = share * sum(bins.values())
    passed = 0
    for number in sorted(bins):
        passed += bins[number]
        if passed >= wanted:
            return bound_of(number)
    raise ValueError("a histogram without requests has no quantile")
