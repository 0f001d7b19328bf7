"""Evidence: what the intervals of a watch say against a release, interval by interval, and whether that is enough.

Each metric and interval is `bad` of `total`, and `tolerated` is the largest share that is no reason to complain. For
a share that is `theta` times the tolerated one the interval multiplies the evidence by

    L = exp(bad ln(theta / k) - total tolerated ln(k) / (dispersion - 1)), at most exp(CAP)
    k = (1 + (dispersion - 1) theta) / dispersion

the likelihood ratio of negative binomial counts of this dispersion, which becomes that of Poisson counts where it is 1.
It has a mean of at most 1 as long as the true share is tolerated, for these and for every count whose cumulants are no
larger, such as Poisson events in clumps of one size or of a geometric one. For a theta below 1 the scaled Poisson
ratio, exp((bad ln theta - (theta - 1) total tolerated) / dispersion), is the one that holds for them. All of that holds
as far as neighbouring intervals scatter independently around the tolerated share; what they have in common can only
be allowed for by the dispersion. M = (M + w) L, w being the prior probability that a regression begins with this
interval; the mean of M over THETAS by PRIOR, and over the metrics with their weights, is an e-process: with probability
1 - alpha it never reaches 1 / alpha, however often and for however long one looks (Ville's inequality; Ramdas,
Grünwald, Vovk, Shafer: arXiv 2210.01948). What is reported is smaller still: the least that is left when in every hour
two neighbouring intervals count for at most exp(SHORT) each, so that a short
disturbance does not convict.

Everything works on arrays with any leading axes (repetitions of a simulation); the last axes are metrics, or metrics
and thetas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Verdict = Literal["watching", "inconclusive", "passed", "accepted", "ask", "convicted", "broken"]
VERDICTS: tuple[Verdict, ...] = ("watching", "inconclusive", "passed", "accepted", "ask", "convicted", "broken")
WATCHING, INCONCLUSIVE, PASSED, ACCEPTED, ASK, CONVICTED, BROKEN = range(7)

THETAS = np.array([1.25, 1.6, 2.5, 5.0, 20.0, 100.0])  # how many times the tolerated share
PRIOR = np.array([0.15, 0.25, 0.3, 0.2, 0.05, 0.05])  # small ones need the help; large ones are soon found anyhow
BETTER = np.array([0.95, 0.9, 0.8, 0.65, 0.5, 0.3])  # the same where the question is whether it is surely less
CAP = 2.0  # of one interval's logarithm, so that no interval convicts by itself;
SHORT = 1.0  # and of each of two neighbours that may have been a short disturbance: five are the fewest that convict
FORGIVEN_EVERY = 60  # intervals, after which another such pair is granted
AT_ONCE = 0.5  # prior probability that a regression begins with the first interval; the rest is spread evenly
SILENT = 5  # intervals in a row without any data, after which nothing can be said
RUNNING = 2  # broken intervals in a row, after which nobody waits for statistics
ENOUGH = 30  # intervals seen, before a watch may end early
EXPECTED = 5.0  # tolerated events in a whole watch, below which a metric cannot speak for a release
INDEPENDENT = 1e-9  # excess of a dispersion over 1, below which counts are as good as Poisson's
_LARGEST = 1e100  # where a mass stops growing, so that it stays a number

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """What stays the same during a watch.

    Attributes:
        planned: Intervals of the whole watch.
        alpha: The probability of ever convicting a release that is as good as tolerated.
        weights: One per metric, in any unit: how much it counts.
        lower: One per metric: whether fewer are worse (`bad` is then what should be many, such as requests).
        dispersion: One per metric, at least 1: variance over that of independent events.
        certain: Whether the baseline comes from enough history to convict; else the verdict is "ask".
    """

    planned: int
    alpha: float
    weights: Floats
    lower: NDArray[np.bool_]
    dispersion: Floats
    certain: bool = True

    @classmethod
    def of(
        cls,
        metrics: int,
        planned: int,
        *,
        alpha: float = 0.01,
        weights: ArrayLike | None = None,
        lower: ArrayLike = False,
        dispersion: ArrayLike = 1.0,
        certain: bool = True,
    ) -> Rules:
        """Rules with one value of each kind per metric; a single one holds for all.

        Raises:
            ValueError: A weight is negative, all are 0, alpha is no probability, or there is nothing to watch.
        """
        share = np.ones(metrics) if weights is None else np.broadcast_to(np.asarray(weights, float), (metrics,))
        if metrics < 1 or planned < 1 or not 0 < alpha < 1 or (share < 0).any() or not share.sum() > 0:
            raise ValueError(
                f"a watch needs metrics ({metrics}), intervals ({planned}), an alpha between 0 and 1 ({alpha})"
                " and weights of at least 0 that are not all 0"
            )
        return cls(
            planned,
            alpha,
            share / share.sum(),
            np.broadcast_to(np.asarray(lower, bool), (metrics,)),
            np.maximum(np.asarray(dispersion, float), 1.0),
            certain,
        )

    def prior(self, interval: int) -> float:
        """The probability that a regression begins with this interval, counted from 0."""
        if self.planned == 1:
            return float(interval == 0)
        return AT_ONCE if interval == 0 else (1 - AT_ONCE) / (self.planned - 1) * (interval < self.planned)

    def ahead(self, interval: int) -> float:
        """The probability that it begins after this interval."""
        return 0.0 if self.planned == 1 else (1 - AT_ONCE) * max(0, self.planned - 1 - interval) / (self.planned - 1)


@dataclass(frozen=True)
class State:
    """What is known after some intervals; with the rules, all that is needed to go on.

    Attributes:
        interval: How many were seen or silent.
        masses: (metrics, 3, thetas): M with no pair cut short; with the last interval; with one or two before it.
        better: (metrics, thetas): evidence that the share is below the tolerated one.
        expected: (metrics): events that were tolerated so far.
        seen: Intervals with data.
        silent: Intervals without, at the end.
        broken: Intervals in which the service was down or most requests failed, at the end.
        verdict: An index into VERDICTS.
        evidence: (metrics): against 1 / alpha; the mean by weight is what convicts.
    """

    interval: int
    masses: Floats
    better: Floats
    expected: Floats
    seen: NDArray[np.int64]
    silent: NDArray[np.int64]
    broken: NDArray[np.int64]
    verdict: NDArray[np.int64]
    evidence: Floats

    @classmethod
    def start(cls, metrics: int, repetitions: tuple[int, ...] = ()) -> State:
        """Nothing seen."""
        none = np.zeros(repetitions, np.int64)
        shape = (*repetitions, metrics)
        return cls(
            0,
            np.zeros((*shape, 3, THETAS.size)),
            np.ones((*shape, BETTER.size)),
            np.zeros(shape),
            none,
            none,
            none,
            none,
            np.ones(shape),
        )

    def to_json(self) -> dict[str, Any]:
        """Numbers and lists; nothing is rounded."""
        return {one.name: np.asarray(getattr(self, one.name)).tolist() for one in fields(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> State:
        """The state that was stored.

        Raises:
            KeyError: Something is missing.
        """
        arrays = {one.name: np.asarray(stored[one.name]) for one in fields(cls) if one.name != "interval"}
        return cls(interval=int(stored["interval"]), **arrays)


@dataclass(frozen=True)
class Observation:
    """One interval: arrays of one value per metric.

    Attributes:
        bad: Events that count against the release (with `lower`: that speak for it).
        total: Of how many; 0: there was nothing to see.
        tolerated: The largest share of them that is no reason to complain (with `lower`: the smallest).
        broken: Whether the service was down or most requests failed.
    """

    bad: Floats
    total: Floats
    tolerated: Floats
    broken: NDArray[np.bool_] | bool = False


def step(state: State, rules: Rules, observation: Observation) -> State:
    """The state after one interval more. A conviction stays; whoever goes on after an acceptance may still see one."""
    total = np.nan_to_num(np.asarray(observation.total, float))
    bad = np.where(total > 0, np.nan_to_num(np.asarray(observation.bad, float)), 0.0)
    tolerated = total * np.where(total > 0, np.nan_to_num(np.asarray(observation.tolerated, float)), 0.0)
    masses = _masses(state, _factors(bad, tolerated, rules, THETAS), rules.prior(state.interval))
    better = np.minimum(state.better * _factors(bad, tolerated, rules, BETTER), _LARGEST)
    nothing = (total <= 0).all(axis=-1)
    broken = np.where(np.asarray(observation.broken), state.broken + 1, 0)
    following = State(
        interval=state.interval + 1,
        masses=masses,
        better=better,
        expected=state.expected + tolerated,
        seen=state.seen + ~nothing,
        silent=np.where(nothing, state.silent + 1, 0),
        broken=np.where(nothing & ~np.asarray(observation.broken), state.broken, broken),
        verdict=state.verdict,
        evidence=masses.min(axis=-2) @ PRIOR + rules.ahead(state.interval),
    )
    return _judged(following, rules)


def _factors(bad: Floats, tolerated: Floats, rules: Rules, thetas: Floats) -> Floats:
    """What an interval multiplies the evidence by: (metrics, thetas)."""
    theta = np.where(rules.lower[:, None], 1 / thetas, thetas)
    spread = rules.dispersion[..., None]
    mixed = np.log1p((spread - 1) * theta) - np.log(spread)
    with np.errstate(invalid="ignore", divide="ignore"):
        clumped = np.where(spread - 1 > INDEPENDENT, mixed / (spread - 1), theta - 1)
    per_event = np.where(theta > 1, np.log(theta) - mixed, np.log(theta) / spread)
    per_expected = np.where(theta > 1, clumped, (theta - 1) / spread)
    gain = bad[..., None] * per_event - per_expected * tolerated[..., None]
    return np.asarray(np.exp(np.minimum(gain, CAP)), float)


def _masses(state: State, factors: Floats, prior: float) -> Floats:
    """M with and without a pair cut short: the least over all pairs of neighbours that may be the disturbance."""
    masses = state.masses
    if state.interval % FORGIVEN_EVERY == 0:
        masses = np.broadcast_to(masses.min(axis=-2, keepdims=True), masses.shape)
    everything, first, pair = (masses[..., row, :] + prior for row in range(3))
    short = np.minimum(factors, np.exp(SHORT))
    following = (everything * factors, everything * short, np.minimum(np.minimum(pair, first) * factors, first * short))
    return np.asarray(np.minimum(np.stack(following, axis=-2), _LARGEST), float)


def _judged(state: State, rules: Rules) -> State:
    """The state with its verdict."""
    evidence = (state.evidence * rules.weights).sum(axis=-1)
    verdict = np.full(state.verdict.shape, WATCHING, np.int64)
    verdict = np.where(_surely_better(state, rules) & (evidence <= 1), ACCEPTED, verdict)
    if state.interval >= rules.planned:
        verdict = np.where(2 * state.seen >= rules.planned, PASSED, INCONCLUSIVE)
    verdict = np.where(state.silent >= SILENT, INCONCLUSIVE, verdict)
    verdict = np.where(evidence >= 1 / rules.alpha, CONVICTED if rules.certain else ASK, verdict)
    verdict = np.where(state.broken >= RUNNING, BROKEN, verdict)
    settled = np.isin(state.verdict, (CONVICTED, BROKEN)) | (
        (state.verdict == ASK) & (verdict != BROKEN)
    )  # whoever was to be asked need not be when everything is down
    return State(**{**vars(state), "verdict": np.where(settled, state.verdict, verdict)})


def _surely_better(state: State, rules: Rules) -> NDArray[np.bool_]:
    """Whether every metric that could say so has said that it is inside its tolerance."""
    able = state.expected / state.interval * rules.planned >= EXPECTED
    inside = state.better.mean(axis=-1) >= 1 / rules.alpha
    return np.asarray((inside | ~able).all(axis=-1) & able.any(axis=-1) & (state.seen >= ENOUGH), bool)
