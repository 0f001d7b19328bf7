"""What is tolerated of a release, in every interval of its watch: from plain series of the days before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.monitor import seasonal
from tasks.monitor.evidence import Floats
from tasks.monitor.series import Series

METRICS = ("errors", "latency_p50", "latency_p95", "traffic")
QUANTILES = (0.5, 0.95)
DAY_S = 86_400
CAUTION = 4.0  # the least dispersion without history
BLIND_ERRORS = 0.05  # share of errors tolerated where not even the minutes before the migration are known
ERRORS_AROUND_MIN = 60  # errors are few: the same time of day is wider for them
BURST = 5.0  # times the usual errors of an interval, and one more: what is above does not count
DOUBT = 3.0  # standard errors by which a time of day must have more errors to be one that has more
ASTRAY = 2.5  # standard deviations by which a day may differ from its level before the migration
ASTRAY_AROUND_MIN = 30
USUAL = 0.9  # this part of the past lies inside of what is tolerated, whatever the tolerance
WINDOW_MIN = 120  # of the past, that is compared with a watch


@dataclass(frozen=True)
class Tolerances:
    """What is no reason to complain.

    Attributes:
        errors: So many times as many errors,
        floor: and this share of errors in any case.
        latency: Requests that take so many times as long.
        traffic: This part of the usual traffic.
        breaker: From this share of failures on everything is broken.
    """

    errors: float = 2.0
    floor: float = 0.0005
    latency: float = 1.15
    traffic: float = 0.3
    breaker: float = 0.5


@dataclass(frozen=True)
class Tolerated:
    """What is tolerated in each interval of a watch; NaN where it cannot be said.

    Attributes:
        errors: (…, intervals): share of errors.
        thresholds_s: (…, intervals) for each of QUANTILES: what a request may take.
        slower: (…) for each of QUANTILES: share of requests that may take longer.
        traffic: (…, intervals): the fewest requests.
        dispersion: (…, METRICS).
    """

    errors: Floats
    thresholds_s: tuple[Floats, ...]
    slower: tuple[Floats, ...]
    traffic: Floats
    dispersion: Floats

    @classmethod
    def after(cls, before: Series, intervals: int, allowed: Tolerances, interval_s: float) -> Tolerated:
        """What the past says. Less than a day of it counts as a day of which the rest is unknown."""
        past = _Past(interval_s, before.requests.shape[-1])
        requests, errors = past.days(before.requests), past.days(before.errors)
        share, of_errors = _errors(past, requests, errors, intervals, allowed)
        found = [of_errors]
        thresholds, slower = [], []
        for quantile in QUANTILES:
            threshold, part, dispersion = _latency(past, before, quantile, intervals, allowed)
            thresholds.append(threshold)
            slower.append(part)
            found.append(dispersion)
        usual = past.normal(requests)
        found.append(past.dispersion(requests, usual[..., None, :] * past.levels(requests, usual)))
        fewest = np.minimum(allowed.traffic, 1 / past.astray(requests, usual))
        traffic = seasonal.ahead(fewest * usual, intervals) * past.level(before.requests, usual)[..., None]
        least = 1.0 if past.known >= seasonal.ENOUGH_DAYS else CAUTION
        return cls(share, tuple(thresholds), tuple(slower), traffic, np.maximum(np.stack(found, axis=-1), least))

    def observe(self, watched: Series) -> tuple[Floats, Floats, Floats]:
        """Counts against the release, of how many, and the tolerated share: each (…, METRICS, intervals)."""
        requests = watched.requests
        nothing = np.zeros_like(requests)
        rows = [(watched.errors, requests, self.errors)]
        for threshold, share in zip(self.thresholds_s, self.slower, strict=True):
            if watched.latency is None:
                rows.append((nothing, nothing, nothing))
            else:
                total = np.where(threshold > 0, requests, 0.0)
                rows.append((watched.latency.slower(threshold), total, share[..., None]))
        seen = (np.isfinite(requests) & np.isfinite(self.traffic)).astype(float)
        rows.append((requests, seen, self.traffic))
        bad, total, tolerated = (
            np.stack([np.broadcast_to(row[part], requests.shape) for row in rows], axis=-2) for part in range(3)
        )
        return bad, total, tolerated


class _Past:
    """The same questions for every series of a past: how it is cut into days, and what is normal."""

    def __init__(self, interval_s: float, length: int) -> None:
        self.day = round(DAY_S / interval_s)
        self.minute = 60 / interval_s  # intervals per minute
        self.known = length / self.day  # days

    def minutes(self, minutes: float) -> int:
        return max(1, round(minutes * self.minute))

    def days(self, series: Floats) -> Floats:
        missing = max(0, self.day - series.shape[-1])
        padded = np.pad(series, [(0, 0)] * (series.ndim - 1) + [(missing, 0)], constant_values=np.nan)
        return seasonal.by_day(padded, self.day)

    def normal(self, days: Floats) -> Floats:
        """The median day; unknown times of day are like the others."""
        usual = seasonal.median_day(days, self.minutes(seasonal.AROUND_MIN))
        known = np.isfinite(usual)
        count = known.sum(axis=-1, keepdims=True)
        rest = np.where(known, usual, 0.0).sum(axis=-1, keepdims=True) / np.maximum(count, 1)
        return np.where(known, usual, np.where(count > 0, rest, np.nan))

    def level(self, series: Floats, usual: Floats) -> Floats:
        return seasonal.level(series, usual, self.minutes(seasonal.RECENT_MIN))

    def levels(self, days: Floats, usual: Floats) -> Floats:
        recent, lag = self.minutes(seasonal.RECENT_MIN), self.minutes(seasonal.LAG_MIN)
        return seasonal.levels(days, usual, recent, lag)

    def astray(self, days: Floats, usual: Floats) -> Floats:
        """How many times as much, at each time of a day from the migration on, is nothing but another day."""
        recent, around = self.minutes(seasonal.RECENT_MIN), self.minutes(ASTRAY_AROUND_MIN)
        return np.asarray(np.exp(ASTRAY * seasonal.spread(days, usual, recent, around)), float)

    def dispersion(self, bad: Floats, expected: Floats) -> Floats:
        return seasonal.dispersion(bad, expected, self.minute)

    def usual_share(self, bad: Floats, total: Floats, window: int) -> Floats:
        """The share that USUAL of all windows of the past stay below; the worst tenth of the days is disregarded."""
        size = min(window, bad.shape[-1])
        whole = bad.shape[-1] // size * size
        known = np.isfinite(bad) & np.isfinite(total)
        of, in_all = (
            np.where(known, one, 0.0)[..., :whole].reshape(*bad.shape[:-1], -1, size).sum(axis=-1)
            for one in (bad, total)
        )
        days = bad.shape[-2]
        kept = days - int(np.ceil(seasonal.TRIMMED * days)) if days > 2 else days
        order = np.argsort(of.sum(axis=-1) / np.maximum(in_all.sum(axis=-1), 1), axis=-1)[..., :kept, None]
        shares = np.take_along_axis(of / np.maximum(in_all, 1), order, axis=-2).reshape(*bad.shape[:-2], -1)
        return np.asarray(np.quantile(shares, USUAL, axis=-1, method="lower"), float)


def _errors(
    past: _Past, requests: Floats, errors: Floats, intervals: int, allowed: Tolerances
) -> tuple[Floats, Floats]:
    """The tolerated share of errors in each interval, and their dispersion."""
    repetitions = requests.shape[:-2]
    if not past.known:
        return np.full((*repetitions, intervals), BLIND_ERRORS), np.ones(repetitions)
    flat = (*repetitions, -1)
    first = seasonal.trimmed_share(errors.reshape(flat), requests.reshape(flat), past.day)[..., None, None]
    cut = np.minimum(errors, BURST * (1 + first * requests))  # a burst says little of the usual share
    overall = seasonal.trimmed_share(cut.reshape(flat), requests.reshape(flat), past.day)[..., None]
    around = past.minutes(ERRORS_AROUND_MIN)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = seasonal.smooth(requests, around)
        shares = seasonal.median_day(seasonal.smooth(cut, around) / total, 0)
        counted = np.nansum(total, axis=-2) * (2 * around + 1) * shares
        surely = shares * (1 - DOUBT / np.sqrt(np.maximum(counted, 1)))
    usual = np.fmax(surely, overall)
    tolerated = np.maximum(allowed.errors * seasonal.ahead(usual, intervals), allowed.floor)
    tolerated = np.maximum(tolerated, past.usual_share(errors, requests, past.day)[..., None])
    return tolerated, past.dispersion(errors, requests * usual[..., None, :])


def _latency(
    past: _Past, before: Series, quantile: float, intervals: int, allowed: Tolerances
) -> tuple[Floats, Floats, Floats]:
    """What a request may take in each interval, which share may take longer, and the dispersion of their number."""
    shape = before.requests.shape[:-1]
    if before.latency is None or not past.known:
        return np.full((*shape, intervals), np.nan), np.full(shape, 1 - quantile), np.ones(shape)
    series = before.latency.quantile(quantile)
    days = past.days(series)
    usual = np.exp(past.normal(np.log(days)))
    limits = allowed.latency * usual[..., None, :] * past.levels(days, usual)
    flat = limits.reshape(*shape, -1)[..., -before.requests.shape[-1] :]
    # What is older than the last whole day is not looked at: any threshold will do there.
    older = before.requests.shape[-1] - flat.shape[-1]
    slower = past.days(before.latency.slower(np.pad(flat, [(0, 0)] * len(shape) + [(older, 0)], mode="edge")))
    requests = past.days(before.requests)
    length = (*shape, -1)
    share = seasonal.trimmed_share(slower.reshape(length), requests.reshape(length), past.day)
    tolerated = np.maximum(1 - quantile, past.usual_share(slower, requests, past.minutes(WINDOW_MIN)))
    widest = np.maximum(allowed.latency, past.astray(days, usual))
    threshold = seasonal.ahead(widest * usual, intervals) * past.level(series, usual)[..., None]
    return threshold, tolerated, past.dispersion(slower, requests * share[..., None, None])
