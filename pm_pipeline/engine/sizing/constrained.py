"""Kelly under a bound on the risk of a drawdown.

With ``lam = log(beta) / log(alpha)``, the constraint ``E[factor ** -lam] <= 1`` on the factor by which one
bet multiplies the bankroll implies that the bankroll ever falls below ``alpha`` of its start with a
probability below ``beta``. So the drawdown one can bear chooses the share of Kelly, instead of a habit.

Source: E. Busseti, E. K. Ryu, S. Boyd, "Risk-Constrained Kelly Gambling", Journal of Investing 25(3), 2016.
"""

import math
from dataclasses import dataclass
from typing import Self

from pm_pipeline.engine.sizing.kelly import kelly_fraction


@dataclass(frozen=True, slots=True)
class DrawdownRisk:
    """``lam``: how strictly falling is avoided; 0 is plain Kelly."""

    lam: float

    @classmethod
    def of(cls, alpha: float, beta: float) -> Self:
        """The wealth falls below ``alpha`` of its start with a probability below ``beta``.

        Raises ``ValueError`` unless both lie strictly between 0 and 1.
        """
        if not 0.0 < alpha < 1.0 or not 0.0 < beta < 1.0:
            raise ValueError(f"alpha {alpha} and beta {beta} must lie strictly between 0 and 1")
        return cls(math.log(beta) / math.log(alpha))

    @property
    def multiple(self) -> float:
        """About which share of Kelly this is, for small bets: ``2 / (1 + lam)``, at most 1."""
        return min(1.0, 2.0 / (1.0 + self.lam))


def constrained_fraction(p: float, cost: float, risk: DrawdownRisk, payoff: float = 1.0) -> float:
    """The share of the bankroll to spend on one bet for the fastest growth within ``risk``.

    Zero without an edge; never more than :func:`~pm_pipeline.engine.sizing.kelly.kelly_fraction`.
    """
    full = kelly_fraction(p, cost, payoff)
    if full <= 0.0 or p >= 1.0:
        return max(full, 0.0)
    odds, lam = (payoff - cost) / cost, risk.lam

    def excess(f: float) -> float:
        won, lost = math.expm1(-lam * math.log1p(f * odds)), math.expm1(-lam * math.log1p(-f))
        return p * won + (1.0 - p) * lost

    if excess(full) <= 0.0:
        return full
    from scipy.optimize import brentq  # takes long to import, and few runs size so

    # convex, zero and falling at f = 0: the root lies between its lowest point and Kelly
    ratio = (p * odds / (1.0 - p)) ** (1.0 / (1.0 + lam))
    lowest: float = max((ratio - 1.0) / (odds + ratio), 0.0)
    if excess(lowest) >= 0.0:  # an edge as small as the rounding of a float
        return lowest
    return brentq(excess, lowest, full, xtol=1e-16, rtol=1e-14)
