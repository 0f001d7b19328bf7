"""Traffic of a web service that does not exist: its days, how much it scatters, and what a bad release does to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import norm

from tasks.monitor.series import Series

Floats = NDArray[np.float64]
DAY = 1440
DAYS = 14


@dataclass(frozen=True)
class World:
    """How a service scatters while nothing is wrong.

    Attributes:
        rate: Requests a minute, on average.
        minutes: Of the watch.
        swing: Busiest minute of a day over the quietest.
        peaks: Per day.
        persistence: Coefficient of the AR(1) noise, from minute to minute.
        noise: Its standard deviation, of the logarithms of latency and traffic.
        clumping: Variance of errors over that of independent ones.
        day: Standard deviation of a day's own level of latency and traffic (logarithms).
        blips: A day: two minutes with 30 % errors and fourfold latency that are nobody's fault.
        width: Standard deviation of the logarithm of a single latency.
    """

    rate: float = 600
    minutes: int = 120
    swing: float = 5
    peaks: int = 1
    persistence: float = 0.6
    noise: float = 0.05
    clumping: float = 1.5
    day: float = 0.05
    blips: float = 0.3
    width: float = 0.5
    errors: float = 0.001


@dataclass(frozen=True)
class Bad:
    """What a release does from the first minute of the watch (or for some minutes only)."""

    latency: float = 1.0
    errors: float | None = None
    lasts: int | None = None
    begins: int = 0


@dataclass
class Simulated:
    """Lognormal latencies whose middle is known: what a histogram would tell, without one."""

    requests: Floats
    middle: Floats  # logarithms of seconds
    width: float
    random: np.random.Generator = field(repr=False)

    def quantile(self, share: float) -> Floats:
        """Seconds, as an estimate from so many requests."""
        z = float(norm.ppf(share))
        scatter = np.sqrt(share * (1 - share) / np.maximum(self.requests, 1)) / float(norm.pdf(z))
        found = self.middle + self.width * (z + scatter * self.random.standard_normal(self.middle.shape))
        return np.where(self.requests > 0, np.exp(found), np.nan)

    def slower(self, seconds: Floats) -> Floats:
        """A draw of how many."""
        beyond = norm.sf((np.log(np.nan_to_num(seconds, nan=1.0)) - self.middle) / self.width)
        return self.random.binomial(self.requests.astype(np.int64), beyond).astype(float)


class Traffic:
    """Repetitions of a world: the past, and a watch that is as good or as bad as one likes."""

    def __init__(self, world: World, repetitions: int, seed: int) -> None:
        self.world = world
        self.random = np.random.default_rng(seed)
        length = DAYS * DAY + world.minutes
        shape = (repetitions, length)
        clock = self.random.integers(0, DAY, (repetitions, 1)) + np.arange(length)
        swing = np.log(world.swing) / 2
        season = swing * np.sin(2 * np.pi * world.peaks * clock / DAY)
        level = world.day * self.random.standard_normal((repetitions, DAYS + 3))
        level = np.take_along_axis(level, clock // DAY, axis=-1)
        traffic = np.exp(season - swing**2 / 4 + level + self._noise(shape))
        self.requests = self.random.poisson(world.rate * traffic).astype(float)
        self.middle = np.log(0.08) + 0.15 * season + np.roll(level, 3, axis=0) + self._noise(shape)
        self.blip = (
            lfilter([1.0, 1.0], [1.0], (self.random.random(shape) < world.blips / DAY).astype(float), axis=-1) > 0.5
        )
        self.middle += np.log(4) * self.blip
        self.share = np.where(self.blip, 0.3, world.errors)
        self.past = self._series(slice(0, DAYS * DAY), self.middle, self.share)

    def _noise(self, shape: tuple[int, ...]) -> Floats:
        a = self.world.persistence
        scale = self.world.noise * np.sqrt(1 - a * a)
        return np.asarray(lfilter([scale], [1, -a], self.random.standard_normal(shape), axis=-1), float)

    def _series(self, part: slice, middle: Floats, share: Floats) -> Series:
        requests, middle, share = self.requests[:, part], middle[:, part], share[:, part]
        # Errors come in clumps of a geometric size, each followed by another with probability q: their variance is
        # (1 + q) / (1 - q) times their mean.
        further = (self.world.clumping - 1) / (self.world.clumping + 1)
        clumps = self.random.poisson(requests * share * (1 - further))
        errors = clumps + np.where(clumps > 0, self.random.negative_binomial(np.maximum(clumps, 1), 1 - further), 0)
        return Series(
            requests,
            np.minimum(errors, requests).astype(float),
            Simulated(requests, middle, self.world.width, self.random),
        )

    def watch(self, bad: Bad) -> Series:
        """The watch of a release."""
        middle, share = self.middle.copy(), self.share.copy()
        begin = DAYS * DAY + bad.begins
        during = slice(begin, begin + bad.lasts if bad.lasts is not None else None)
        middle[:, during] += np.log(bad.latency)
        if bad.errors is not None:
            share[:, during] = np.maximum(share[:, during], bad.errors)
        return self._series(slice(DAYS * DAY, None), middle, share)
