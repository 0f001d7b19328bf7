"""The judge: whether a watched series speaks against a release. Plain arrays in, evidence and verdict per interval out.

`judge` takes counts and what is tolerated of them; `judge_watch` takes the past and the watch, and finds out itself
what is normal. `step` (of `tasks.monitor.evidence`) is the same an interval at a time, with a state that can be stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.monitor import seasonal
from tasks.monitor.evidence import ASK, BROKEN, CONVICTED, VERDICTS, Floats, Observation, Rules, State, step
from tasks.monitor.series import Series
from tasks.monitor.tolerated import DAY_S, METRICS, Tolerances, Tolerated

WEIGHTS = (0.5, 0.15, 0.25, 0.1)  # of METRICS: what a user meets first counts most
WIDER = 2.0  # how many times as much is tolerated without history
ENOUGH_FAILED = 5  # requests in an interval, below which their failing is no breakdown


@dataclass(frozen=True)
class Judgement:
    """What a watch came to. Arrays keep the leading axes of the input.

    Attributes:
        evidence: (…, intervals): against `threshold`; with probability 1 - alpha it stays below for ever if the release
            is as good as tolerated.
        by_metric: (…, metrics, intervals): the same for each metric alone.
        verdict: (…, intervals) of `tasks.monitor.evidence.VERDICTS`: "watching", "inconclusive" (no data for several
            intervals, or for half of the watch), "accepted" (surely inside tolerance, the watch may end), "passed" (at
            the end), "convicted", "ask" (would be convicted, but there is no history to rely on: a person decides),
            "broken" (down, or most requests failing, in two intervals running).
        threshold: 1 / alpha.
        state: After the last interval; to go on with `step`.
        rules: With which to do so.
        note: What the reader has to know, such as that there is no history; "" for nothing.
    """

    evidence: Floats
    by_metric: Floats
    verdict: NDArray[np.str_]
    threshold: float
    state: State
    rules: Rules
    note: str = ""

    def first(self, *verdicts: str) -> NDArray[np.int64]:
        """(…): the first interval, counted from 0, with one of these verdicts; -1 where there is none."""
        found = np.isin(self.verdict, verdicts)
        return np.where(found.any(axis=-1), found.argmax(axis=-1), -1)

    @property
    def alarmed_at(self) -> NDArray[np.int64]:
        """(…): the interval of the first "convicted", "ask" or "broken", counted from 0; -1 for none."""
        return self.first(*(VERDICTS[code] for code in (ASK, CONVICTED, BROKEN)))


def judge(
    bad: ArrayLike,
    total: ArrayLike,
    tolerated: ArrayLike,
    *,
    dispersion: ArrayLike = 1.0,
    alpha: float = 0.01,
    weights: ArrayLike | None = None,
    lower: ArrayLike = False,
    broken: ArrayLike = False,
    planned: int | None = None,
    certain: bool = True,
) -> Judgement:
    """Judge counted events against the share of them that is tolerated.

        verdict = judge([[0, 9, 8, 9, 9, 7]], [[500] * 6], 0.002).verdict

    Args:
        bad: (…, metrics, intervals): events that count against the release, such as errors, or requests that were
            slower than a threshold.
        total: Of how many, in the same shape; 0 or NaN: nothing was seen, which is neither good nor bad. For events
            that are not part of anything, such as deadlocks, 1.
        tolerated: The largest share that is no reason to complain; any shape that broadcasts to that of `bad`. With
            total 1, the largest number per interval.
        dispersion: One per metric (or one for all): variance of counts over that of independent events, such as
            `tasks.monitor.seasonal.dispersion` finds in the past. Below 1 counts as 1.
        alpha: The probability of ever convicting a release that is as good as tolerated.
        weights: One per metric, in any unit; by default all count the same.
        lower: One per metric: whether fewer are worse. Then `bad` is what there should be enough of, and `tolerated`
            the smallest share or number that is no reason to complain.
        broken: (…, intervals): whether the service was down or most requests failed; twice running ends the watch.
        planned: Intervals of the whole watch; by default those given.
        certain: Whether what is tolerated rests on history; else "ask" takes the place of "convicted".

    Raises:
        ValueError: Shapes do not fit, or weights or alpha are none.
    """
    counted = np.asarray(bad, float)
    if counted.ndim < 2:
        raise ValueError(f"bad must be (…, metrics, intervals), and has {counted.ndim} axes")
    of, limit = (np.broadcast_to(np.asarray(one, float), counted.shape) for one in (total, tolerated))
    *repetitions, metrics, intervals = counted.shape
    failing = np.broadcast_to(np.asarray(broken, bool), (*repetitions, intervals))
    rules = Rules.of(
        metrics,
        planned or intervals,
        alpha=alpha,
        weights=weights,
        lower=lower,
        dispersion=dispersion,
        certain=certain,
    )
    state = State.start(metrics, tuple(repetitions))
    by_metric = np.empty(counted.shape)
    verdicts = np.empty((*repetitions, intervals), np.int64)
    for t in range(intervals):
        state = step(state, rules, Observation(counted[..., t], of[..., t], limit[..., t], failing[..., t]))
        by_metric[..., t], verdicts[..., t] = state.evidence, state.verdict
    evidence = (by_metric * rules.weights[:, None]).sum(axis=-2)
    return Judgement(evidence, by_metric, np.array(VERDICTS)[verdicts], 1 / alpha, state, rules)


def judge_watch(
    before: Series,
    after: Series,
    *,
    interval_s: float = 60,
    alpha: float = 0.01,
    tolerances: Tolerances | None = None,
    planned: int | None = None,
) -> Judgement:
    """Judge a watch against the days before it: errors, latency at the median and above, and traffic (METRICS).

        before = Series(requests, errors, Histogram(bins))  # 14 days of minutes, the last one just before the migration
        after = Series(requests, errors, Histogram(bins))  # the minutes since
        judge_watch(before, after).verdict[-1]

    Args:
        before: The past, without gaps (unknown intervals are NaN), up to the migration: 7 days at least, better 14 to
            28. With less, or none (0 intervals), more is tolerated, and the verdict is "ask" where it would be
            "convicted".
        after: The watch, from the migration on, with the same leading axes.
        interval_s: Length of the intervals of both.
        alpha: The probability of ever convicting a release that is as good as tolerated.
        tolerances: What is no reason to complain.
        planned: Intervals of the whole watch; by default those given.
    """
    allowed = tolerances or Tolerances()
    day = round(DAY_S / interval_s)
    certain = before.requests.shape[-1] >= seasonal.ENOUGH_DAYS * day
    note = ""
    if not certain:
        note = f"only {before.requests.shape[-1] / day:.1f} days of history: more is tolerated, and a person is asked"
        allowed = replace(allowed, errors=allowed.errors * WIDER, latency=1 + (allowed.latency - 1) * WIDER)
    past = Tolerated.after(before, after.requests.shape[-1], allowed, interval_s)
    bad, total, tolerated = past.observe(after)
    failed = np.nan_to_num(after.errors)
    return replace(
        judge(
            bad,
            total,
            tolerated,
            dispersion=past.dispersion,
            alpha=alpha,
            weights=WEIGHTS,
            lower=[name == "traffic" for name in METRICS],
            broken=(failed >= ENOUGH_FAILED) & (failed >= allowed.breaker * np.nan_to_num(after.requests)),
            planned=planned,
            certain=certain,
        ),
        note=note,
    )
