"""What is at risk, as running totals: per position, market, group, strategy, venue, and in all.

At risk is the most that can be lost: what a position cost and what an order in flight has set aside, fees
included. YES and NO of one market are added up, although one of them pays: the total is never too small.
Every operation costs the same however many positions there are.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.markets.units import Micro


class ExposureError(PipelineError):
    """More would leave the totals than entered them."""


class Dimension(StrEnum):
    """By what exposure is added up; each has its cap."""

    POSITION = "position"
    MARKET = "market"
    GROUP = "group"
    STRATEGY = "strategy"
    VENUE = "venue"
    GROSS = "gross"


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an order or a position belongs. A market without a group is a group of its own."""

    strategy: str
    market_key: MarketKey
    outcome_index: int
    group_key: str | None = None

    def name(self, dimension: Dimension) -> tuple[object, ...]:
        """The account of this slot in a dimension."""
        match dimension:
            case Dimension.POSITION:
                return (self.strategy, self.market_key, self.outcome_index)
            case Dimension.MARKET:
                return (self.market_key,)
            case Dimension.GROUP:
                return (self.group_key or self.market_key,)
            case Dimension.STRATEGY:
                return (self.strategy,)
            case Dimension.VENUE:
                return (self.market_key.venue,)
            case Dimension.GROSS:
                return ()


class Exposures:
    """The running totals of one bankroll, in micro-dollars."""

    def __init__(self) -> None:
        self._totals: Counter[tuple[Dimension, tuple[object, ...]]] = Counter()
        self._positions: dict[tuple[object, ...], Micro] = {}
        self._uses: Counter[MarketKey] = Counter()

    def total(self, dimension: Dimension, slot: Slot) -> Micro:
        """What is at risk in the slot's account of a dimension, orders in flight included."""
        return self._totals[dimension, slot.name(dimension)]

    def group_total(self, slot: Slot, related: Iterable[Slot] = ()) -> Micro:
        """The group of the slot, and the markets of ``related`` slots that are not in it, each once."""
        group = slot.name(Dimension.GROUP)
        markets = {s.market_key: s for s in related if s.name(Dimension.GROUP) != group}
        return self.total(Dimension.GROUP, slot) + sum(
            self.total(Dimension.MARKET, s) for s in markets.values()
        )

    @property
    def markets(self) -> int:
        """How many markets are held or being entered."""
        return len(self._uses)

    def engaged(self, market_key: MarketKey) -> bool:
        """Whether this market is held or being entered."""
        return market_key in self._uses

    def reserve(self, slot: Slot, stake: Micro) -> None:
        """An entry is on its way with this stake."""
        self._add(slot, stake)
        self._use(slot.market_key, 1)

    def release(self, slot: Slot, stake: Micro) -> None:
        """That entry is done, filled or not."""
        self._add(slot, -stake)
        self._use(slot.market_key, -1)

    def resize(self, slot: Slot, change: Micro) -> None:
        """An entry on its way reserves more, or less."""
        self._add(slot, change)

    def bought(self, slot: Slot, cost: Micro) -> None:
        """A position has cost this much, fees included."""
        name = slot.name(Dimension.POSITION)
        if name not in self._positions:
            self._use(slot.market_key, 1)
        self._positions[name] = self._positions.get(name, 0) + cost
        self._add(slot, cost)

    def sold(self, slot: Slot, size: Micro, held: Micro) -> None:
        """``size`` of ``held`` contracts left: sold, settled or refunded. The last one frees the market.

        Raises :class:`ExposureError` where the position is not there or not that large.
        """
        name = slot.name(Dimension.POSITION)
        if name not in self._positions or not 0 < size <= held:
            raise ExposureError(f"{size} of {held} contracts (millionths) cannot leave {slot}")
        cost = self._positions[name]
        gone = cost if size == held else cost * size // held
        self._add(slot, -gone)
        if size == held:
            del self._positions[name]
            self._use(slot.market_key, -1)
        else:
            self._positions[name] = cost - gone

    def _add(self, slot: Slot, amount: Micro) -> None:
        for dimension in Dimension:
            key = dimension, slot.name(dimension)
            total = self._totals[key] + amount
            if total < 0:
                raise ExposureError(f"what is at risk in {key} would fall to {total} micro-dollars")
            if total:
                self._totals[key] = total
            else:
                del self._totals[key]

    def _use(self, market_key: MarketKey, change: int) -> None:
        uses = self._uses[market_key] + change
        if uses < 0:
            raise ExposureError(f"{market_key} was left more often than entered")
        if uses:
            self._uses[market_key] = uses
        else:
            del self._uses[market_key]
