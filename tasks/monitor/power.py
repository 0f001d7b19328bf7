"""The power of a watch: what it would see, said before anybody relies on its silence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.monitor.judge import judge

FOUND = 0.9  # of the cases
REPETITIONS = 400
STEPS = 9  # halvings of the search, of logarithms
SEED = 20_250_101


@dataclass(frozen=True)
class Power:
    """The smallest share of bad requests that a watch would convict in time.

    Attributes:
        share: The share; None: not even a total failure.
        intervals: In which it is found,
        found: in this part of the cases.
    """

    share: float | None
    intervals: int
    found: float = FOUND

    def sentence(self, interval_s: float = 60) -> str:
        """For a manager."""
        minutes = f"{self.intervals * interval_s / 60:g} minutes"
        if self.share is None:
            return f"With this traffic not even a complete failure would surely be seen in {minutes}."
        share = f"{100 * self.share:.2g}"
        cases = round(100 * self.found)
        return f"With this traffic an error rate above {share} % would be seen in {minutes} in {cases} of 100 cases."


def power(
    requests: float,
    tolerated: float,
    *,
    dispersion: float = 1.0,
    weight: float = 1.0,
    alpha: float = 0.01,
    intervals: int = 20,
    planned: int = 120,
) -> Power:
    """Ask the judge itself, on simulated counts, for the smallest share of errors that it would see.

    Args:
        requests: Per interval.
        tolerated: The largest share of errors that is no reason to complain.
        dispersion: Of the number of errors; at least 1.
        weight: The metric's part of the evidence, between 0 and 1; the other metrics stay silent.
        alpha: Of the watch.
        intervals: In which it has to be seen.
        planned: Intervals of the whole watch.
    """
    spread = max(dispersion, 1.0)

    def found(share: float) -> float:
        random = np.random.default_rng(SEED)
        # As many times `spread` as a Poisson variable of a mean that much smaller: the dispersion asked for.
        counts = spread * random.poisson(requests * share / spread, (REPETITIONS, 1, intervals))
        bad = np.minimum(counts, requests)
        # A metric that sees nothing keeps its evidence of 1, and with it the rest of the weight.
        silent = np.zeros_like(bad)
        judged = judge(
            np.concatenate([bad, silent], axis=-2),
            np.concatenate([np.full(bad.shape, requests), silent], axis=-2),
            tolerated,
            dispersion=spread,
            alpha=alpha,
            weights=[weight, 1 - weight],
            planned=planned,
        )
        return float((judged.alarmed_at >= 0).mean())

    if found(1.0) < FOUND:
        return Power(None, intervals)
    low, high = np.log(tolerated), 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if found(float(np.exp(middle))) >= FOUND else (middle, high)
    return Power(float(np.exp(high)), intervals)
