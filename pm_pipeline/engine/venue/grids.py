"""The prices that a market takes, and those that it took before its ticks were refined.

A venue lists the ticks of today. Polymarket makes markets in whole cents, refines them once the price comes
near 0 or 1, and keeps no record of when. In 2,300 recorded temperature buckets 95 of 100 mid points lie on
half cents before that, and 13 of 100 after. A fill on a mid point that is rounded to ticks which came later
is too cheap, so the usual grid holds until the prices themselves show the finer one.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pm_pipeline.markets.market import TickRange
from pm_pipeline.markets.rules import TickRule
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.records import Ints


class Grids(NamedTuple):
    """``own`` is what the market lists; ``usual`` held before, if there is any.

    It held until a mid point came nearer to 0 or 1 than ``refined_beyond``, or lay between its half steps.
    """

    own: Sequence[TickRange]
    usual: Sequence[TickRange] = ()
    refined_beyond: Micro = 0

    @classmethod
    def of(cls, rule: TickRule) -> Self:
        """The grids of a market by its rule; one where it was never refined."""
        refined = rule.refined_beyond and rule.usual and _finest(rule.ranges) < _finest(rule.usual)
        return cls(rule.ranges, rule.usual, rule.refined_beyond) if refined else cls(rule.ranges)

    def unrefined(self, mid: Ints) -> npt.NDArray[np.bool_]:
        """Which of these mid points, in order of time, come before the finer grid was to be seen.

        A mid point below zero is none, and shows nothing.
        """
        if not self.usual:
            return np.zeros(len(mid), np.bool_)
        near = np.minimum(mid, MICRO - mid) < self.refined_beyond
        between = 2 * mid % steps_at(self.usual, mid) != 0
        return ~np.logical_or.accumulate((mid >= 0) & (near | between))


def steps_at(ticks: Sequence[TickRange], price: Ints) -> Ints:
    """The price step at each price; where two ranges meet, the later one's, as in ``market.tick_at``."""
    steps = np.full(len(price), ticks[0].step, dtype=np.int64)
    for grid in ticks[1:]:
        steps = np.where(price >= grid.start, grid.step, steps)
    return steps


def _finest(ticks: Sequence[TickRange]) -> Micro:
    return min(each.step for each in ticks)
