"""A belief drawn toward the price by how uncertain it is.

The Kelly fraction is linear in the probability, so uncertainty alone does not change the best single bet; but
an estimate that differs from the price by chance differs in our favour exactly when we bet. Shrinking takes
that back: with true edges spread by ``tau`` around zero and an estimate with standard error ``se``, the best
guess of the edge is ``tau^2 / (tau^2 + se^2)`` of what was measured (empirical Bayes).
"""

import math
from collections.abc import Sequence


def weight(se: float, tau: float) -> float:
    """The share of a measured edge that is to be believed. An edge measured without error is believed.

    Raises ``ValueError`` for a negative spread or error.
    """
    if se < 0 or tau < 0:
        raise ValueError(f"neither the standard error {se} nor the spread {tau} can be negative")
    if se == 0:
        return 1.0
    return (tau / math.hypot(tau, se)) ** 2


def shrink(belief: float, anchor: float, share: float) -> float:
    """``share`` of the way from the anchor (a price) to the belief."""
    return anchor + share * (belief - anchor)


def fair_price_error(prices: Sequence[float]) -> float:
    """Standard error of the mean edge of independent bets, if the prices they paid are fair.

    ``sqrt(sum p (1 - p)) / n``. Raises ``ValueError`` without any price.
    """
    if not prices:
        raise ValueError("the error of a mean needs at least one bet")
    return math.sqrt(sum(p * (1.0 - p) for p in prices)) / len(prices)
