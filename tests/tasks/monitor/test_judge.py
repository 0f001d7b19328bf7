"""The judge on counts: what convicts, what does not, and that nothing but the counts matters."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nbinom, poisson

from tasks.monitor.evidence import Observation, State, step
from tasks.monitor.judge import judge
from tasks.monitor.onset import onset
from tasks.monitor.power import power

TOLERATED = 0.002
counts = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 600)), min_size=1, max_size=80
)  # errors of two metrics, and requests


def _arrays(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    errors = np.array([row[:2] for row in rows], float).T
    total = np.broadcast_to(np.array([row[2] for row in rows], float), errors.shape)
    return np.minimum(errors, total), total


def test_a_tolerated_release_is_never_convicted_however_often_one_looks() -> None:
    random = np.random.default_rng(5)
    shape = (300, 1, 1440)
    judged = judge(random.poisson(600 * TOLERATED, shape), np.full(shape, 600), TOLERATED)
    assert (judged.alarmed_at >= 0).mean() <= 0.01
    assert judged.evidence.mean(axis=0).max() <= 1.5  # its mean is at most 1 at any time


def test_counts_that_come_in_clumps_are_as_harmless_when_their_dispersion_is_told() -> None:
    random = np.random.default_rng(6)
    shape = (500, 1, 240)
    clumps = 4.0 * random.poisson(600 * TOLERATED / 4, shape)
    assert (judge(clumps, np.full(shape, 600), TOLERATED, dispersion=4).alarmed_at >= 0).mean() <= 0.01
    assert (judge(clumps, np.full(shape, 600), TOLERATED).alarmed_at >= 0).mean() > 0.1


@pytest.mark.parametrize("dispersion", [1.0, 1.5, 4.0, 8.0])
@pytest.mark.parametrize("expected", [0.05, 1.2, 30.0])
@pytest.mark.parametrize("lower", [False, True])
def test_an_interval_at_the_tolerated_share_does_not_raise_the_evidence_on_average(
    dispersion: float, expected: float, lower: bool
) -> None:
    """The exact mean, for clumps of one size and for the longer-tailed ones of a negative binomial distribution."""
    counts = np.arange(4000.0)
    laws = [(dispersion * counts, poisson.pmf(counts, expected / dispersion))]
    if dispersion > 1:
        laws.append((counts, nbinom.pmf(counts, expected / (dispersion - 1), 1 / dispersion)))
    for bad, probability in laws:
        shape = (bad.size, 1, 1)
        judged = judge(bad.reshape(shape), np.ones(shape), expected, dispersion=dispersion, lower=lower)
        # Of one interval, before any of it is cut short as a disturbance: each size of worse has to hold by itself.
        assert (probability @ judged.state.masses[:, 0, 0] <= 1 + 1e-9).all()


@given(counts, st.integers(0, 79), st.integers(0, 600))
@settings(max_examples=60, deadline=None)
def test_no_single_interval_convicts(rows: list[tuple[int, int, int]], place: int, worst: int) -> None:
    """However bad it is, and whatever was before: the evidence before it had to be near the threshold already."""
    bad, total = _arrays(rows)
    judged = judge(bad, total, TOLERATED)
    place = min(place, len(rows) - 1)
    before = judged.evidence[place - 1] if place else 1.0
    assert judged.evidence[place] <= np.exp(2) * before * (1 + 1e-9)


def test_a_disturbance_of_two_minutes_does_not_convict() -> None:
    bad = np.zeros((1, 120))
    bad[0, 40:42] = 600
    judged = judge(bad, np.full(bad.shape, 600), TOLERATED)
    assert judged.alarmed_at == -1
    assert judged.verdict[-1] == "passed"
    uneasy = np.full((1, 45), 1.4)  # a little more than tolerated: the evidence stands higher when the two come
    uneasy[0, 40:42] = 600
    evidence = judge(uneasy, np.full(uneasy.shape, 600), TOLERATED, planned=120).evidence
    assert evidence[41] <= np.exp(2) * evidence[39]
    bad[0, 40:60] = 600  # after a time at which the watch might have ended
    assert 43 < judge(bad, np.full(bad.shape, 600), TOLERATED).alarmed_at < 60


@given(counts, st.integers(0, 80))
@settings(max_examples=40, deadline=None)
def test_a_resumed_watch_is_the_same_to_the_last_bit(rows: list[tuple[int, int, int]], cut: int) -> None:
    bad, total = _arrays(rows)
    through = judge(bad, total, TOLERATED)
    state = State.start(2)
    for t in range(len(rows)):
        if t == min(cut, len(rows)):
            state = State.from_json(json.loads(json.dumps(state.to_json())))
        state = step(state, through.rules, Observation(bad[:, t], total[:, t], np.full(2, TOLERATED)))
        assert (state.evidence == through.by_metric[:, t]).all()
    assert state.to_json() == through.state.to_json()


@given(counts)
@settings(max_examples=40, deadline=None)
def test_the_order_of_metrics_does_not_matter(rows: list[tuple[int, int, int]]) -> None:
    bad, total = _arrays(rows)
    one = judge(bad, total, [[0.002], [0.01]], weights=[1, 2])
    two = judge(bad[::-1], total[::-1], [[0.01], [0.002]], weights=[2, 1])
    assert np.allclose(one.evidence, two.evidence, rtol=1e-12)
    assert (one.verdict == two.verdict).all()


@given(counts, st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_intervals_without_data_say_nothing(rows: list[tuple[int, int, int]], silent: int) -> None:
    bad, total = (np.pad(one, [(0, 0), (0, silent)]) for one in _arrays(rows))
    judged = judge(bad, total, TOLERATED)
    assert np.allclose(judged.evidence[-silent - 1 :], judged.evidence[-1], rtol=1e-9)


def test_silence_is_told_and_a_watch_of_which_half_was_silent_is_no_pass() -> None:
    total = np.full((1, 60), 600.0)
    total[0, 20:26] = 0
    verdicts = judge(np.zeros((1, 60)), total, 1e-6).verdict
    assert list(verdicts[[19, 23, 24, 25, 26, 59]]) == [
        "watching", "watching", "inconclusive", "inconclusive", "watching", "passed",
    ]  # fmt: skip
    total[0, 20:55] = np.nan
    assert judge(np.zeros((1, 60)), total, 1e-6).verdict[-1] == "inconclusive"


@pytest.mark.parametrize(
    ("share", "lower", "tolerated", "minutes"),
    [(0.05, False, TOLERATED, 6), (0.006, False, TOLERATED, 20), (0.1, True, 0.3, 6)],
    ids=["5 % errors", "0.6 % errors", "traffic that vanishes"],
)
def test_bad_releases_are_convicted(share: float, lower: bool, tolerated: float, minutes: int) -> None:
    bad = np.random.default_rng(7).poisson(600 * share, (200, 1, 120))
    judged = judge(bad, np.full(bad.shape, 600), tolerated, lower=lower)
    assert (judged.alarmed_at >= 0).all()
    assert np.median(judged.alarmed_at) + 1 <= minutes


def test_a_good_watch_may_end_early_and_a_silent_or_a_bad_one_may_not() -> None:
    total = np.full((2, 120), 600.0)
    good = np.stack([np.zeros(120), np.full(120, 0.2)])
    judged = judge(good, total, TOLERATED)
    assert 29 <= judged.first("accepted") < 60
    total[1] = [1.0, *[0.0] * 119]
    assert judge(good, total, [[TOLERATED], [0.01]]).first("accepted") > 0  # a metric that cannot say anything
    assert judge(good + 1.2, np.full((2, 120), 600.0), TOLERATED).first("accepted") == -1


def test_without_history_a_person_is_asked_but_a_breakdown_is_one() -> None:
    bad, total = np.full((1, 20), 40.0), np.full((1, 20), 600.0)
    asked = judge(bad, total, TOLERATED, certain=False)
    assert asked.verdict[-1] == "ask"
    broken = np.zeros(20, bool)
    broken[3] = broken[8] = broken[9] = True
    judged = judge(bad, total, TOLERATED, certain=False, broken=broken)
    assert judged.first("broken") == 9
    assert judge(np.zeros((1, 20)), total, TOLERATED, broken=np.arange(20) == 3).first("broken") == -1


@pytest.mark.parametrize(
    "wrong", [{"weights": [0]}, {"weights": [-1]}, {"alpha": 0}, {"alpha": 1}, {"weights": [1, 2]}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - numpy's own words for shapes
        judge(np.zeros((1, 3)), np.ones((1, 3)), 0.1, **wrong)  # type: ignore[arg-type]


def test_power_is_what_the_judge_finds() -> None:
    said = power(600, TOLERATED, intervals=20)
    assert said.share is not None
    assert "in 20 minutes in 90 of 100 cases" in said.sentence()
    for share, enough in ((said.share * 1.1, True), (said.share * 0.8, False)):
        bad = np.random.default_rng(8).binomial(600, share, (500, 1, 20))
        found = (judge(bad, np.full(bad.shape, 600), TOLERATED, planned=120).alarmed_at >= 0).mean()
        assert (found >= 0.9) == enough
    less = power(20, TOLERATED, intervals=20)
    assert less.share is not None
    assert less.share > 3 * said.share
    assert power(0.1, TOLERATED).share is None


def test_the_onset_is_where_it_became_worse() -> None:
    random = np.random.default_rng(9)
    bad = np.concatenate([random.poisson(1, 30), random.poisson(8, 15)])
    at = onset(bad, np.full(45, 600), TOLERATED)
    assert at is not None
    assert abs(at - 30) <= 1
    assert onset(random.poisson(8, 20), np.full(20, 600), TOLERATED) == 0
    assert onset(np.zeros(20), np.full(20, 600), TOLERATED) is None
    assert onset([], [], TOLERATED) is None
