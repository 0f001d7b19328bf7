"""Series: requests, their errors and their latencies, in contiguous intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.signals.sample import GAMMA, SHORTEST_S

Floats = NDArray[np.float64]


class Latency(Protocol):
    """Latencies of requests, interval by interval."""

    def quantile(self, share: float) -> Floats:
        """(…, intervals): seconds that this share of the requests took at most; NaN where there were none."""
        ...

    def slower(self, seconds: Floats) -> Floats:
        """(…, intervals): how many took longer than that interval's threshold; a fraction inside of a bin."""
        ...


@dataclass(frozen=True)
class Histogram:
    """Latencies as counts: (intervals, bins), the logarithmic bins that `tasks.signals.sample.bin_of` numbers."""

    counts: NDArray[np.float64] | NDArray[np.int64]

    def quantile(self, share: float) -> Floats:
        """The latency below which this share lies, interpolated inside its bin."""
        running = np.cumsum(self.counts, axis=-1)
        total = running[..., -1:]
        number = (running < share * total).sum(axis=-1, keepdims=True).clip(max=running.shape[-1] - 1)
        inside = np.take_along_axis(np.asarray(self.counts, float), number, axis=-1)
        below = np.take_along_axis(running, number, axis=-1) - inside
        bound = number - 1 + (share * total - below) / np.maximum(inside, 1)
        return np.where(total > 0, SHORTEST_S * GAMMA**bound, np.nan)[..., 0]

    def slower(self, seconds: Floats) -> Floats:
        """How many lie above a threshold; of the bin in which it lies, the part above."""
        running = np.concatenate([np.zeros((*self.counts.shape[:-1], 1)), np.cumsum(self.counts, axis=-1)], axis=-1)
        bound = np.log(np.maximum(np.nan_to_num(seconds, nan=1.0), SHORTEST_S) / SHORTEST_S) / np.log(GAMMA) + 1
        bound = np.clip(bound, 0, running.shape[-1] - 1)[..., None]
        number = np.minimum(bound.astype(int), running.shape[-1] - 2)
        low, high = (np.take_along_axis(running, one, axis=-1) for one in (number, number + 1))
        return np.asarray((running[..., -1:] - low - (bound - number) * (high - low))[..., 0], float)


@dataclass(frozen=True)
class Series:
    """Requests of contiguous intervals.

    Attributes:
        requests: (…, intervals): how many there were; NaN where nothing is known.
        errors: How many of them failed.
        latency: How long they took; None where it was not measured.
    """

    requests: Floats
    errors: Floats
    latency: Latency | None = None
