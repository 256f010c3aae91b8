"""Prices as level numbers: the kernel's book is an array, and this table says what its levels cost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.market import TickRange
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.records import Ints

MAX_LEVELS: Final = 16_000
"""A level, its side and the kind of an event share sixteen bits."""

OFF_GRID: Final = -1
"""Stands for "no level has this price"."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """All prices at which a book can hold something, rising, in micro-dollars.

    A venue may change its ticks during a market's life. The grid is the union of all of them, so that a level
    keeps its number; ``valid`` has a row per era and says which levels an order may name in it.
    """

    prices: Ints
    valid: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, eras: Sequence[Sequence[TickRange]], seen: Iterable[Ints] = ()) -> Self:
        """The grid of a market's ticks, era by era.

        ``seen`` are recorded prices. One that is on no declared tick gets a level too, since the record is
        what happened, but no order may name it.

        Raises :class:`UsageError` for more than :data:`MAX_LEVELS` levels, or none.
        """
        declared = [_prices_of(ranges) for ranges in eras]
        prices = np.unique(np.concatenate([*declared, *seen]))
        prices = prices[(prices >= 0) & (prices <= MICRO)]
        if not 0 < len(prices) <= MAX_LEVELS:
            raise UsageError(f"a book of {len(prices)} price levels; the kernel takes 1 to {MAX_LEVELS}")
        tradable = (prices > 0) & (prices < MICRO)
        return cls(prices, np.array([np.isin(prices, era) & tradable for era in declared]))

    def __len__(self) -> int:
        return len(self.prices)

    def levels(self, prices: Ints) -> Ints:
        """The level number of each price, :data:`OFF_GRID` where there is none."""
        found = np.minimum(np.searchsorted(self.prices, prices), len(self) - 1)
        return np.where(self.prices[found] == prices, found, OFF_GRID)

    def level(self, price: Micro) -> int:
        """The level number of one price, :data:`OFF_GRID` where there is none."""
        return int(self.levels(np.array([price], np.int64))[0])

    def within(self, limit: Micro, *, buys: bool) -> int:
        """The last level that a limit accepts: -1 where a buyer accepts none, ``len`` where a seller does."""
        if buys:
            return int(np.searchsorted(self.prices, limit, side="right")) - 1
        return int(np.searchsorted(self.prices, limit, side="left"))


def _prices_of(ranges: Sequence[TickRange]) -> Ints:
    parts = [np.arange(r.start, r.end + 1, r.step, dtype=np.int64) for r in ranges]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)
