"""When it began: the change in a series that was convicted. For people; the verdict does not rest on it."""

from __future__ import annotations

import numpy as np
import ruptures
from numpy.typing import ArrayLike, NDArray

FEWEST = 4  # intervals in which a change can be looked for


def onset(bad: ArrayLike, total: ArrayLike, tolerated: ArrayLike, *, lower: bool = False) -> int | None:
    """The interval with which a metric became worse, counted from 0; None where no change can be seen.

    0 where it was worse from the beginning on. By the one change in mean that leaves the least square error (ruptures'
    exact search) in the square root of the share of bad events, which scatters alike whether the share is small or
    large.

    Args:
        bad: Events per interval that count against the release.
        total: Of how many; intervals without any are passed over.
        tolerated: Share of them that is no reason to complain.
        lower: Whether fewer are worse.
    """
    counted, of = np.asarray(bad, float), np.asarray(total, float)
    limit = np.broadcast_to(np.asarray(tolerated, float), counted.shape)
    known = np.flatnonzero((of > 0) & (limit > 0))
    if known.size == 0:
        return None
    ratio = counted[known] / (of[known] * limit[known])
    signal = np.sqrt(ratio)[:, None]

    def excess(part: NDArray[np.float64]) -> float:
        return float(np.log(max(part.mean(), 1e-9))) * (-1 if lower else 1)

    if known.size < FEWEST:
        return int(known[0]) if excess(ratio) > 0 else None
    change = ruptures.Dynp(model="l2", min_size=2, jump=1).fit(signal).predict(n_bkps=1)[0]
    first, then = excess(ratio[:change]), excess(ratio[change:])
    if then <= 0 and first <= 0:
        return None
    return int(known[0] if first > then / 2 else known[change])
