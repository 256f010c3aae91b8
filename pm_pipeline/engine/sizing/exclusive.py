"""Kelly on outcomes of which exactly one wins: a neg-risk event, the strikes of one day.

Source: P. Smoczynski and D. Tomkins, "An explicit solution to the problem of optimizing the allocations of a
bettor's wealth when wagering on horse races", The Mathematical Scientist 35, 2010.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pm_pipeline.engine.sizing.kelly import check_probability


class Allocation(NamedTuple):
    """The share of the bankroll spent on each outcome, and ``reserve``: the bankroll left if none of the
    bought outcomes wins, as a share.
    """

    fractions: tuple[float, ...]
    reserve: float


def exclusive_fractions(p: Sequence[float], cost: Sequence[float]) -> Allocation:
    """The allocation with the fastest growth; ``cost`` is all-in, in dollars per dollar paid on a win.

    Outcomes are taken in the order of ``p / cost`` while that exceeds the reserve, so an outcome without an
    edge of its own can belong: it insures the others. Probabilities that sum to less than one leave room for
    an outcome that is not listed.

    Raises ``ValueError`` where the lists differ in length, a probability or a cost is none, or the
    probabilities sum to more than one.
    """
    if len(p) != len(cost):
        raise ValueError(f"{len(p)} probabilities for {len(cost)} costs")
    for chance in p:
        check_probability(chance)
    if math.fsum(p) > 1.0 + 1e-9:
        raise ValueError(f"the probabilities of exclusive outcomes sum to {math.fsum(p)}")
    if any(c <= 0 for c in cost):
        raise ValueError("every cost must be positive")
    chosen: list[int] = []
    reserve = 1.0
    for i in sorted(range(len(p)), key=lambda i: p[i] / cost[i], reverse=True):
        if p[i] / cost[i] <= reserve:
            break
        chosen.append(i)
        left = 1.0 - math.fsum(p[j] for j in chosen)
        reserve = max(left, 0.0) / (1.0 - math.fsum(cost[j] for j in chosen))
    fractions = [p[i] - cost[i] * reserve if i in chosen else 0.0 for i in range(len(p))]
    return Allocation(tuple(fractions), reserve)


def exclusive_growth(p: Sequence[float], cost: Sequence[float], fractions: Sequence[float]) -> float:
    """Expected change of the logarithm of the bankroll; what is not listed wins the rest of the probability.

    Minus infinity where all may be lost.
    """
    reserve = 1.0 - math.fsum(fractions)
    unlisted = max(1.0 - math.fsum(p), 0.0)
    ends = [(pi, reserve + f / c) for pi, f, c in zip(p, fractions, cost, strict=True)]
    if unlisted > 1e-12:
        ends.append((unlisted, reserve))
    if any(chance > 0 and wealth <= 0 for chance, wealth in ends):
        return -math.inf
    return math.fsum(chance * math.log(wealth) for chance, wealth in ends if chance > 0)
