"""What is normal at this time of day, and how much it scatters: taken from the days before a release.

Series are contiguous and end with the migration: the last axis is one value per interval, NaN where nothing is
known. Any leading axes are series of their own. Days are means to an end here, so nothing needs a calendar: the same
time of day is `day` intervals earlier.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ENOUGH_DAYS = 7  # fewer cannot tell a habit from an accident
MOST_DAYS = 28
AROUND_MIN = 15  # minutes before and after that count as the same time of day
RECENT_MIN = 120  # minutes before the migration that tell today's level
LAG_MIN = 60  # how old a level is in the middle of a watch of two hours
LEVELS = (0.8, 1.25)  # beyond, today is not scaled any further: it is another kind of day
BLOCKS_MIN = (15, 60)  # the second sees what lasts longer, such as a warm cache
TRIMMED = 0.1  # share of days, the best and the worst ones, that a mean disregards
OUTLIERS = 0.2  # share of blocks that the dispersion disregards,
OF_THE_REST = 0.4377  # and the mean of a chi-square variable (1 degree of freedom) that is below its 80 % quantile
EVENTS = 5.0  # expected in a block, below which its residual is nothing like normal
NORMAL_MAD = 1.4826  # a standard deviation in median absolute deviations


def by_day(series: Floats, day: int) -> Floats:
    """(…, days, intervals of a day); what is older than the last whole day falls away."""
    days = min(series.shape[-1] // day, MOST_DAYS)
    return series[..., series.shape[-1] - days * day :].reshape(*series.shape[:-1], days, day)


def smooth(days: Floats, around: int, *, circular: bool = True) -> Floats:
    """The mean of each interval and its neighbours that are known; around midnight those of the same row."""
    known = np.isfinite(days)
    indices = np.arange(-around - 1, days.shape[-1] + around)
    inside = (indices >= 0) & (indices < days.shape[-1]) | circular

    def sums(values: Floats) -> Floats:
        running = np.cumsum(np.where(inside, values[..., indices % days.shape[-1]], 0.0), axis=-1)
        return np.asarray(running[..., 2 * around + 1 :] - running[..., : -2 * around - 1], float)

    count = sums(known.astype(float))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0.5, sums(np.where(known, days, 0.0)) / count, np.nan)


def median_day(days: Floats, around: int) -> Floats:
    """What is normal at each time of day: the median over the days, so that an outlier day has one vote."""
    return _median(smooth(days, around), -2)


def trimmed_share(bad: Floats, total: Floats, day: int) -> Floats:
    """The mean over the days of each day's share of bad events, without the best and the worst tenth of the days."""
    known = np.isfinite(bad) & np.isfinite(total)
    of, in_all = (by_day(np.where(known, one, 0.0), day).sum(axis=-1) for one in (bad, total))
    cut = int(np.ceil(TRIMMED * of.shape[-1])) if of.shape[-1] > 2 else 0
    order = np.argsort(of / np.maximum(in_all, 1), axis=-1)[..., cut : of.shape[-1] - cut]
    bad_days, days = (np.take_along_axis(one, order, axis=-1).sum(axis=-1) for one in (of, in_all))
    return np.asarray(bad_days / np.maximum(days, 1), float)


def level(series: Floats, normal: Floats, recent: int) -> Floats:
    """How much higher today is than normal: the median over the last intervals; 1 where nothing is known."""
    recent = min(recent, series.shape[-1], normal.shape[-1])
    expected = normal[..., normal.shape[-1] - recent :]
    return _clipped(_median(series[..., series.shape[-1] - recent :] / np.where(expected > 0, expected, np.nan), -1))


def levels(days: Floats, normal: Floats, recent: int, lag: int) -> Floats:
    """The level of every interval in the past, as it would have been taken `lag` intervals before it.

    The mean of logarithms over `recent` intervals stands for the median: it scatters less and can be had at once.
    """
    with np.errstate(all="ignore"):
        ratio = np.log(days / normal[..., None, :])
    flat = np.clip(ratio, -1.0, 1.0).reshape(*days.shape[:-2], -1)
    known = np.isfinite(flat)
    sums, counts = (
        np.cumsum(np.pad(one, [(0, 0)] * (flat.ndim - 1) + [(1, 0)]), axis=-1)
        for one in (np.where(known, flat, 0.0), known.astype(float))
    )
    end = np.maximum(np.arange(flat.shape[-1]) - lag, 0)
    begin = np.maximum(end - recent, 0)
    mean = (sums[..., end] - sums[..., begin]) / np.maximum(counts[..., end] - counts[..., begin], 1)
    return _clipped(np.exp(mean)).reshape(days.shape)


def dispersion(bad: Floats, expected: Floats, minute: float) -> Floats:
    """The variance of counts over that of independent ones, at least 1: (…) from (…, days, intervals of a day).

    Of the Pearson residuals of blocks of BLOCKS_MIN, which see what neighbouring intervals share; where events are
    rare, of longer ones. The largest fifth is disregarded, since an outlier day or a new level at midnight is not how
    counts scatter; what a normal distribution has there is made up for.

    Args:
        bad: What was counted; NaN where nothing is known.
        expected: What was expected.
        minute: Intervals per minute.
    """
    known = np.isfinite(bad) & np.isfinite(expected)
    day = bad.shape[-1]
    counts, foreseen = (np.where(known, one, 0.0) for one in (bad, expected))
    rare = EVENTS / max(float(np.median(foreseen.mean(axis=(-1, -2)))), 1e-9)  # intervals for so many events
    found = np.ones(bad.shape[:-2])
    for length in BLOCKS_MIN:
        size = int(min(max(1, round(length * minute), rare), max(1, day // 2)))
        whole = day // size * size
        parts = (*bad.shape[:-1], whole // size, size)
        seen, due = (one[..., :whole].reshape(parts).sum(axis=-1) for one in (counts, foreseen))
        squares = ((seen - due) ** 2 / np.maximum(due, 1e-9)).reshape(*bad.shape[:-2], -1)
        squares = np.sort(np.where((due > 0).reshape(squares.shape), squares, np.inf), axis=-1)
        kept = np.ceil((1 - OUTLIERS) * np.isfinite(squares).sum(axis=-1, keepdims=True))
        smallest = np.where(np.arange(squares.shape[-1]) < kept, squares, 0.0).sum(axis=-1)
        found = np.maximum(found, smallest / np.maximum(kept[..., 0], 1) / OF_THE_REST)
    return found


def spread(days: Floats, normal: Floats, recent: int, around: int) -> Floats:
    """How far today's level led astray in the past: (…, intervals of a day), robust standard deviations of logarithms.

    As if there had been a migration on each of these days, at the same time of day: the level of the intervals before
    it against what came after. It grows where days differ, from the moment on at which the next day begins.
    """
    if days.shape[-2] < 3:
        return np.zeros(normal.shape)
    with np.errstate(all="ignore"):
        ratio = np.log(days / normal[..., None, :])
    ratio = np.where(np.isfinite(ratio), ratio, np.nan)
    low, high = np.log(LEVELS)
    before = np.clip(np.nan_to_num(_median(ratio[..., :-1, -recent:], -1)), low, high)
    astray = smooth(ratio[..., 1:, :], around, circular=False) - before[..., None]
    middle = _median(astray, -2)
    return np.nan_to_num(NORMAL_MAD * _median(np.abs(astray - middle[..., None, :]), -2) + np.maximum(middle, 0) / 2)


def gauge_limits(days: Floats, tolerances: tuple[float, ...] = (0.5, 0.5, 1.0)) -> Floats:
    """Limits of a gauge that 10, 1 and 0.1 % of the past lay above, plus a tolerance in interquartile ranges: (…, 3).

    Args:
        days: (…, days, intervals of a day); the tenth of the days with the highest medians is disregarded.
        tolerances: One per limit.
    """
    cut = int(np.ceil(TRIMMED * days.shape[-2])) if days.shape[-2] > 2 else 0
    order = np.argsort(_median(days, -1), axis=-1)[..., : days.shape[-2] - cut]
    kept = np.take_along_axis(days, order[..., None], axis=-2).reshape(*days.shape[:-2], -1)
    low, high, *limits = np.nanquantile(kept, [0.25, 0.75, 0.9, 0.99, 0.999], axis=-1)
    beyond = [limit + tolerance * (high - low) for limit, tolerance in zip(limits, tolerances, strict=True)]
    return np.asarray(np.stack(beyond, axis=-1), float)


GAUGE_SHARES = np.array([0.1, 0.01, 0.001])  # of the intervals, that lie above the limits of `gauge_limits`


def ahead(normal: Floats, intervals: int) -> Floats:
    """What is normal during a watch that begins where the history ends: the day again, as often as needed."""
    return np.asarray(np.take(normal, np.arange(intervals) % normal.shape[-1], axis=-1), float)


def _clipped(values: Floats) -> Floats:
    return np.asarray(np.clip(np.nan_to_num(values, nan=1.0), *LEVELS), float)


def _median(values: Floats, axis: int) -> Floats:
    """The median of what is known; NaN where nothing is."""
    if values.shape[axis] == 0:
        return np.full(np.delete(values.shape, axis), np.nan)
    ordered = np.sort(values, axis=axis)
    count = np.isfinite(values).sum(axis=axis, keepdims=True)
    last = values.shape[axis] - 1
    low, high = (
        np.take_along_axis(ordered, np.clip(index, 0, last), axis=axis) for index in ((count - 1) // 2, count // 2)
    )
    return np.asarray(np.where(count > 0, (low + high) / 2, np.nan).squeeze(axis), float)
