"""Executions of others as liquidity: where somebody bought, we could have bought a share of it.

A print says that a taker met somebody there and then. It is no standing quote: an order gets its share of
the prints that come after it, one by one, and never at a better price than the quotes of that moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.market import TickRange
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.arrays import BUY, SELL, TradeArrays

Ints = npt.NDArray[np.int64]

NOTHING: Final = -1


@dataclass(frozen=True, slots=True)
class Prints:
    """Executions in which a taker did the same with the same outcome, in order of ``ts``.

    ``price`` is on the grid, rounded away from us. ``number`` is that of the execution in its market; both
    outcomes share it, since buying NO at q is selling YES at 1 - q.
    """

    ts: Ints
    known_at: Ints
    price: Ints
    size: Ints
    number: Ints

    def at(self, t: Nanos) -> range:
        """The rows of exactly this moment."""
        return range(*np.searchsorted(self.ts, (t, t + 1)).tolist())

    def after(self, t: Nanos) -> Nanos | None:
        """When the next one after ``t`` happened."""
        n = int(np.searchsorted(self.ts, t, side="right"))
        return int(self.ts[n]) if n < len(self.ts) else None


def prints_of(
    trades: TradeArrays, outcome: int, side: Side, ticks: Sequence[TickRange], *, binary: bool
) -> Prints:
    """The executions on which a taker of this side of this outcome could have traded.

    Those of the other outcome of a binary market count by their mirror. Blocks were negotiated off the book
    and do not count, nor do rows without a size, or with a price that nobody can pay.
    """
    code = BUY if side is Side.BUY else SELL
    own = (trades.outcome_index == outcome) & (trades.side == code)
    other = (trades.outcome_index == 1 - outcome) & (trades.side == -code) & binary
    price = np.where(other, MICRO - trades.price, trades.price)
    price = (up if side is Side.BUY else down)(ticks, price)
    real = (own | other) & ~trades.is_block & (trades.size > 0)
    number = np.flatnonzero(real & (price > 0) & (price < MICRO))
    number = number[np.argsort(trades.ts[number], kind="stable")]
    return Prints(trades.ts[number], trades.known_at[number], price[number], trades.size[number], number)


def down(ticks: Sequence[TickRange], price: Ints) -> Ints:
    """The next grid price at or below each price; :data:`NOTHING` below the grid."""
    result = np.full(len(price), NOTHING, dtype=np.int64)
    for grid in ticks:
        inside = grid.start + (np.minimum(price, grid.end) - grid.start) // grid.step * grid.step
        result = np.where(price >= grid.start, inside, result)
    return result


def up(ticks: Sequence[TickRange], price: Ints) -> Ints:
    """The next grid price at or above each price; :data:`NOTHING` above the grid."""
    result = np.full(len(price), NOTHING, dtype=np.int64)
    for grid in reversed(ticks):
        inside = grid.start + -(-(np.maximum(price, grid.start) - grid.start) // grid.step) * grid.step
        result = np.where(price <= grid.end, np.minimum(inside, grid.end), result)
    return result
