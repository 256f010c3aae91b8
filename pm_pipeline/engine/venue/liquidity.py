"""What rests at a quote that came without a book: half-spread and size, measured on recorded books.

:data:`MEASURED` is the table; how it was measured stands in ``docs/liquidity.md``, and a test measures it
again. A market is looked up by how far its price is from 0 or 1, by how much it moved lately, and by how near
its announced close is. All three are known before the quote they are used for.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.scenarios import Scenario
from pm_pipeline.markets.clock import FOREVER, HOUR, MINUTE, Nanos
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.arrays import Quotes

Ints = npt.NDArray[np.int64]

STEP: Final[Nanos] = 5 * MINUTE
"""Prices are compared from one such clock mark to the next, so that finer recording does not move more."""

WINDOW: Final = 36
"""How many steps back the volatility looks: three hours."""

EDGES: Final[tuple[Micro, ...]] = (50_000, 200_000, MICRO)
"""Bands of the distance from the nearer of 0 and 1: the price lies closer than this."""

VOLATILITIES: Final[tuple[Micro, ...]] = (20_000, 80_000, FOREVER)
"""Bands of the volatility, micro-dollars per square root of an hour: it is lower than this."""

CLOSES: Final[tuple[Nanos, ...]] = (FOREVER, 6 * HOUR)
"""Bands of the time to the announced close: it is at most this."""

FAST: Final = len(VOLATILITIES) - 1
NEAR: Final = len(CLOSES) - 1


@dataclass(frozen=True, slots=True)
class LiquidityRow:
    """What rests at the best quotes of one kind of market, in the order of :class:`Scenario`.

    ``half_spread`` in micro-dollars; ``contracts`` at the best price of the shallower side, in millionths.
    """

    half_spread: tuple[Micro, Micro, Micro]
    contracts: tuple[Micro, Micro, Micro]


MEASURED: Final[tuple[LiquidityRow, ...]] = (
    # closer than 5 cents to 0 or 1
    LiquidityRow((10_000, 5_000, 5_000), (10_000_000, 148_700_000, 1_133_000_000)),
    LiquidityRow((15_000, 5_000, 5_000), (10_000_000, 148_700_000, 1_133_000_000)),
    LiquidityRow((10_000, 5_000, 5_000), (10_000_000, 148_700_000, 1_133_000_000)),
    LiquidityRow((15_000, 5_000, 5_000), (10_000_000, 148_700_000, 1_133_000_000)),
    LiquidityRow((10_000, 5_000, 5_000), (10_000_000, 148_700_000, 1_133_000_000)),
    LiquidityRow((15_000, 5_000, 5_000), (8_000_000, 50_000_000, 353_840_000)),
    # 5 to 20 cents from it
    LiquidityRow((20_000, 10_000, 5_000), (5_000_000, 49_000_000, 500_000_000)),
    LiquidityRow((20_000, 10_000, 5_000), (5_000_000, 49_000_000, 500_000_000)),
    LiquidityRow((20_000, 10_000, 5_000), (3_000_000, 18_000_000, 101_000_000)),
    LiquidityRow((35_000, 20_000, 10_000), (3_000_000, 18_000_000, 101_000_000)),
    LiquidityRow((30_000, 15_000, 5_000), (3_000_000, 18_000_000, 101_000_000)),
    LiquidityRow((40_000, 25_000, 15_000), (3_000_000, 18_000_000, 101_000_000)),
    # farther
    LiquidityRow((25_000, 15_000, 5_000), (5_000_000, 28_000_000, 341_000_000)),
    LiquidityRow((25_000, 15_000, 5_000), (5_000_000, 28_000_000, 341_000_000)),
    LiquidityRow((35_000, 15_000, 5_000), (5_000_000, 20_360_000, 107_000_000)),
    LiquidityRow((35_000, 15_000, 5_000), (5_000_000, 20_360_000, 107_000_000)),
    LiquidityRow((45_000, 20_000, 5_000), (4_000_000, 12_000_000, 100_000_000)),
    LiquidityRow((45_000, 20_000, 5_000), (4_000_000, 12_000_000, 100_000_000)),
)
"""By edge, then volatility, then close, each as its bands are listed; written by the measurement."""


class Resting(NamedTuple):
    """Half-spread and contracts at the best price, for each quote."""

    half_spread: Ints
    contracts: Ints


class Bands(NamedTuple):
    """Which row of the table each quote belongs to: positions in its three axes."""

    edge: npt.NDArray[np.intp]
    volatility: npt.NDArray[np.intp]
    close: npt.NDArray[np.intp]


def resting(quotes: Quotes, close: Nanos | None, scenario: Scenario) -> Resting:
    """What the table says for each quote; ``close`` is the announced one, ``None`` where unknown."""
    found = bands(quotes, close)
    rows = _rows(scenario)[found.edge, found.volatility, found.close]
    return Resting(rows[:, 0], rows[:, 1])


def bands(quotes: Quotes, close: Nanos | None) -> Bands:
    """The rows of the table. What is not known counts as the worst: fast, and near the close.

    The price is the mid, else the one side that is quoted.
    """
    price = np.where(quotes.mid >= 0, quotes.mid, np.maximum(quotes.bid, quotes.ask))
    edge = np.searchsorted(EDGES, np.clip(np.minimum(price, MICRO - price), 0, None), side="right")
    left = np.full(len(quotes), -1) if close is None else close - quotes.ts
    return Bands(edge, volatility(quotes), (left <= CLOSES[NEAR]).astype(np.intp))


def volatility(quotes: Quotes) -> npt.NDArray[np.intp]:
    """The band of each quote's volatility: the mids before its clock mark, over at most :data:`WINDOW`.

    The last mid of each clock step stands for it. The variance per hour is the sum of squared changes from
    step to step over the time that they cover. A row that tells of a moment before one already known
    changes nothing. Where no mid fell into the window, or history is shorter than two steps, the market
    counts as fast.

    >>> minutes = np.arange(0, 180, 5) * MINUTE
    >>> mid = np.where(np.arange(36) % 2, 500_000, 530_000)
    >>> none = np.full(36, -1)
    >>> volatility(Quotes(minutes, minutes, mid, none, none))[[0, 1, 2, 35]].tolist()
    [2, 2, 2, 2]
    >>> volatility(Quotes(minutes, minutes, np.full(36, 500_000), none, none))[[0, 1, 2, 35]].tolist()
    [2, 2, 0, 0]
    """
    step = quotes.ts // STEP
    told = np.flatnonzero((quotes.mid >= 0) & (quotes.mid <= MICRO))
    newest = np.maximum.accumulate(quotes.ts[told])
    told = told[quotes.ts[told] >= newest]
    told = told[np.append(step[told][1:] != step[told][:-1], True)] if len(told) else told
    if not len(told):
        return np.full(len(quotes), FAST, dtype=np.intp)
    steps, mids = step[told], quotes.mid[told]
    moved = np.append(0, np.cumsum(np.diff(mids, prepend=mids[0]) ** 2))
    after = np.searchsorted(steps, step, side="left")
    first = np.searchsorted(steps, step - WINDOW, side="left")
    covered = np.minimum(WINDOW, step - 1 - steps[0])
    known = (after > first) & (covered > 0)
    hourly = (moved[after] - moved[first]) * (HOUR // STEP)
    limits = [limit**2 for limit in VOLATILITIES[:FAST]]
    band = sum((hourly >= limit * covered).astype(np.intp) for limit in limits)
    return np.where(known, band, FAST)


@cache
def _rows(scenario: Scenario) -> Ints:
    """The table of one scenario, by edge, volatility and close: half-spread, contracts."""
    n = list(Scenario).index(scenario)
    shape = (len(EDGES), len(VOLATILITIES), len(CLOSES))
    rows = np.array([(row.half_spread[n], row.contracts[n]) for row in MEASURED], dtype=np.int64)
    rows.flags.writeable = False
    return rows.reshape(*shape, 2)
