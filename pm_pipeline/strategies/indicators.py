"""Causal indicators over a price series: each value uses its own past only.

A value that is not defined yet (too little past, no variation) is NaN.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.asof import Quotes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """Mids in the order in which they became known. ``known_at`` never falls, ``ts`` always rises.

    ``mid`` is in micro-dollars.
    """

    ts: Ints
    known_at: Ints
    mid: Ints

    @classmethod
    def of(cls, quotes: Quotes) -> "Series":
        """The mids of ``quotes`` as an observer met them.

        A row that became known after a newer one is dropped: it changed nobody's view of the present. So the
        series known at any time is a prefix of the series known later, which makes every indicator that looks
        back only causal.
        """
        present = quotes.mid >= 0
        ts, known_at, mid = quotes.ts[present], quotes.known_at[present], quotes.mid[present]
        newest = np.maximum.accumulate(ts) if len(ts) else ts
        fresh = np.ones(len(ts), dtype=bool)
        fresh[1:] = ts[1:] > newest[:-1]
        return cls(ts[fresh], known_at[fresh], mid[fresh])

    def every(self, step: Nanos, until: Nanos) -> "Series":
        """The series as somebody sees it who looks at each multiple of ``step``: the last mid known by then.

        ``known_at`` becomes the moment of looking, and a look that finds nothing new is left out. A moment
        after ``until`` has not come yet, so a series cut there is a prefix of the whole one.
        """
        looked = -(-self.known_at // step) * step
        last = np.ones(len(looked), dtype=bool)
        last[:-1] = looked[1:] != looked[:-1]
        last &= looked <= until
        return Series(self.ts[last], looked[last], self.mid[last])

    def __len__(self) -> int:
        return len(self.ts)


def logit(mid: Ints) -> Floats:
    """``ln(p / (1 - p))`` of a price in micro-dollars, with p drawn into [0.001, 0.999].

    The bounds are the finest tick of the venues; without them one print at 0 or 1 would outweigh all others.
    """
    p = np.clip(mid / MICRO, 0.001, 0.999)
    return np.log(p / (1.0 - p))


def rolling_z(x: Floats, n: int) -> Floats:
    """``(x[i] - mean) / sd`` over the ``n`` values before ``x[i]``, itself not included; sd has ddof 1.

    NaN for the first ``n`` values and where the past did not vary.
    """
    z = np.full(len(x), np.nan)
    if n < 2 or len(x) <= n:
        return z
    past = np.lib.stride_tricks.sliding_window_view(x, n)[:-1]
    mean, sd = past.mean(axis=1), past.std(axis=1, ddof=1)
    varied = sd > 1e-12
    z[n:][varied] = (x[n:][varied] - mean[varied]) / sd[varied]
    return z


def change_over(ts: Ints, x: Floats, lookback: int) -> Floats:
    """``x[i]`` less the last value that is at least ``lookback`` older, in the unit of ``x``.

    NaN where there is none, or where it is more than twice as old as asked: a gap in the data is not a move.
    """
    j = np.searchsorted(ts, ts - lookback, side="right") - 1
    age = ts - ts[np.maximum(j, 0)] if len(ts) else ts
    usable = (j >= 0) & (age <= 2 * lookback)
    change = np.full(len(x), np.nan)
    change[usable] = x[usable] - x[j[usable]]
    return change
