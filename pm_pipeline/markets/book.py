"""An order book of one instrument at one moment, best price first on both sides."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.units import MICRO, Micro


class Level(NamedTuple):
    """``size`` contracts offered at ``price``, both in millionths."""

    price: Micro
    size: Micro


@dataclass(frozen=True, slots=True)
class Book:
    """Bids falling, asks rising; at most one level per price, every size positive.

    On a binary market the books of YES and NO are one: a bid for NO at ``q`` is an offer of YES at ``1 - q``
    (:meth:`mirrored`), so only outcome 0 is stored.
    """

    ts: Nanos
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]

    @classmethod
    def of(cls, ts: Nanos, bids: Iterable[tuple[Micro, Micro]], asks: Iterable[tuple[Micro, Micro]]) -> Self:
        """Build a book from levels in any order; sizes at one price add up, empty levels are dropped."""
        return cls(ts, _levels(bids, descending=True), _levels(asks, descending=False))

    @property
    def bid(self) -> Micro | None:
        """The best bid, or ``None``."""
        return self.bids[0].price if self.bids else None

    @property
    def ask(self) -> Micro | None:
        """The best offer, or ``None``."""
        return self.asks[0].price if self.asks else None

    @property
    def mid(self) -> Micro | None:
        """Half-way between best bid and best ask, cut to a micro-dollar; ``None`` with a side empty."""
        return None if self.bid is None or self.ask is None else (self.bid + self.ask) // 2

    @property
    def crossed(self) -> bool:
        """Whether somebody bids at or above the best offer: the book is then not to be trusted."""
        return self.bid is not None and self.ask is not None and self.bid >= self.ask

    def mirrored(self) -> Self:
        """The book of the other outcome of a binary market."""
        return type(self)(
            self.ts,
            tuple(Level(MICRO - price, size) for price, size in self.asks),
            tuple(Level(MICRO - price, size) for price, size in self.bids),
        )


def _levels(levels: Iterable[tuple[Micro, Micro]], *, descending: bool) -> tuple[Level, ...]:
    sizes: dict[Micro, Micro] = {}
    for price, size in levels:
        if not 0 <= price <= MICRO or size < 0:
            raise ValueError(f"impossible level: {size} contracts at {price} (millionths)")
        sizes[price] = sizes.get(price, 0) + size
    return tuple(Level(price, sizes[price]) for price in sorted(sizes, reverse=descending) if sizes[price])
