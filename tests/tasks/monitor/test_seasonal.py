"""What is normal is found in the past, and no outlier day has a say in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.monitor import seasonal
from tasks.monitor.judge import judge_watch
from tasks.monitor.series import Histogram, Series
from tasks.signals.sample import GAMMA, SHORTEST_S, bin_of, slower_than

INTERVAL_S = 300
DAY = 288
DAYS = 10
BINS = 420


def _series(seed: int, length: int, *, errors: float = 0.002, slower: float = 1.0, traffic: float = 1.0) -> Series:
    """Five-minute intervals of a service with a daily season, the first one at midnight."""
    random = np.random.default_rng(seed)
    season = np.exp(0.8 * np.sin(2 * np.pi * np.arange(length) / DAY))
    requests = random.poisson(500 * traffic * season).astype(float)
    middle = np.log(0.05 * slower) + 0.1 * np.log(season)
    bounds = np.log(SHORTEST_S) + np.log(GAMMA) * np.arange(BINS)
    below = 1 / (1 + np.exp(-(bounds - middle[:, None]) / 0.3))
    counts = random.poisson(requests[:, None] * np.diff(below, axis=-1, prepend=0.0))
    requests = counts.sum(axis=-1).astype(float)
    return Series(requests, random.binomial(requests.astype(int), errors).astype(float), Histogram(counts))


@pytest.fixture(scope="module")
def past() -> Series:
    return _series(1, DAYS * DAY)


def test_a_good_release_passes_and_bad_ones_are_convicted_by_the_right_metric(past: Series) -> None:
    good = judge_watch(past, _series(2, 48), interval_s=INTERVAL_S)
    assert good.alarmed_at == -1
    assert good.verdict[-1] in {"passed", "accepted"}
    for change, metric in (({"errors": 0.05}, 0), ({"slower": 2.0}, 1), ({"traffic": 0.05}, 3)):
        judged = judge_watch(past, _series(3, 48, **change), interval_s=INTERVAL_S)
        assert judged.first("convicted") in range(3, 8), change
        assert judged.by_metric[metric, judged.alarmed_at] > judged.threshold


def test_an_outlier_day_changes_nothing(past: Series) -> None:
    assert isinstance(past.latency, Histogram)
    day = slice(3 * DAY, 4 * DAY)
    requests, errors, counts = past.requests.copy(), past.errors.copy(), past.latency.counts.copy()
    errors[day] = requests[day] * 0.5
    counts[day] = np.roll(counts[day], 40, axis=-1)  # five times as slow
    poisoned = Series(requests, errors, Histogram(counts))
    for change in ({"errors": 0.05}, {"slower": 2.0}):
        bad = _series(4, 48, **change)
        clean = judge_watch(past, bad, interval_s=INTERVAL_S)
        assert abs(judge_watch(poisoned, bad, interval_s=INTERVAL_S).alarmed_at - clean.alarmed_at) <= 1


def test_todays_level_is_taken_into_account_but_not_without_bounds() -> None:
    normal = np.full(DAY, 100.0)
    assert seasonal.level(np.full(DAY, 110.0), normal, 24) == pytest.approx(1.1)
    assert seasonal.level(np.full(DAY, 900.0), normal, 24) == 1.25
    assert seasonal.level(np.full(DAY, np.nan), normal, 24) == 1


def test_the_dispersion_is_that_of_the_counts() -> None:
    random = np.random.default_rng(3)
    for true in (1.0, 6.0):
        counts = np.asarray(true * random.poisson(300 / true, (14, 1440)), float)
        counts[5] *= 7  # an outlier day
        found = float(seasonal.dispersion(counts, np.full(counts.shape, 300.0), 1.0))
        assert true * 0.8 <= found <= true * 1.8


def test_the_limits_of_a_gauge_are_above_its_past() -> None:
    days = np.random.default_rng(4).normal(10, 1, (14, DAY))
    days[2] += 100
    low, middle, high = seasonal.gauge_limits(days)
    assert 11 < low < middle < high < 16


@pytest.mark.parametrize("known", [0, 6, DAY, 5 * DAY])
def test_without_enough_history_a_person_is_asked(past: Series, known: int) -> None:
    assert isinstance(past.latency, Histogram)
    first = past.requests.size - known
    short = Series(past.requests[first:], past.errors[first:], Histogram(past.latency.counts[first:]))
    bad = judge_watch(short, _series(5, 48, errors=0.2), interval_s=INTERVAL_S)
    assert bad.verdict[-1] == "ask"
    assert "history" in bad.note
    good = judge_watch(short, _series(6, 48), interval_s=INTERVAL_S)
    assert good.alarmed_at == -1
    down = judge_watch(short, _series(7, 48, errors=0.9), interval_s=INTERVAL_S)
    assert down.first("broken") == 1


def test_a_watch_without_latencies_or_with_gaps_is_judged_by_the_rest(past: Series) -> None:
    assert isinstance(past.latency, Histogram)
    requests, errors = past.requests.copy(), past.errors.copy()
    requests[::7] = errors[::7] = np.nan
    gaps = Series(requests, errors, past.latency)
    for before in (gaps, replace(gaps, latency=None)):
        assert judge_watch(before, _series(8, 48), interval_s=INTERVAL_S).alarmed_at == -1
        assert judge_watch(before, _series(9, 48, errors=0.05), interval_s=INTERVAL_S).alarmed_at >= 0
    nothing = Series(np.full(48, np.nan), np.full(48, np.nan))
    assert judge_watch(past, nothing, interval_s=INTERVAL_S).verdict[-1] == "inconclusive"


def test_a_histogram_tells_quantiles_and_how_many_were_slower() -> None:
    latencies = np.random.default_rng(10).lognormal(-3, 0.5, 20_000)
    counts = np.zeros((1, BINS))
    bins = [bin_of(one) for one in latencies]
    np.add.at(counts[0], bins, 1)
    histogram = Histogram(counts)
    for share in (0.5, 0.95):
        assert histogram.quantile(share)[0] == pytest.approx(np.quantile(latencies, share), rel=0.01)
    assert histogram.slower(np.array([0.06]))[0] == pytest.approx((latencies > 0.06).sum(), rel=0.01)
    assert histogram.slower(np.array([0.06]))[0] >= slower_than(dict(enumerate(counts[0].astype(int))), 0.06)
    assert np.isnan(Histogram(np.zeros((1, BINS))).quantile(0.5)).all()
