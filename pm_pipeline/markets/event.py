"""Events: what a venue asks about, the parent of one market or of many."""

from dataclasses import dataclass

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.units import Micro


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event as its venue lists it.

    ``market_keys`` are its markets that can be traded, chosen for the universe or not; ``placeholders``
    counts its other children: outcomes kept free, and markets without an order book. ``volume`` is what was
    traded when the catalog was read, which is later knowledge.
    """

    venue: Venue
    event_id: str
    title: str
    slug: str | None = None
    series: str | None = None
    category: str | None = None
    tags: tuple[str, ...] = ()
    opened_at: Nanos | None = None
    scheduled_close: Nanos | None = None
    group_key: str | None = None
    market_keys: tuple[MarketKey, ...] = ()
    placeholders: int = 0
    volume: Micro | None = None

    @property
    def key(self) -> str:
        """``venue:event_id``, which names the event everywhere."""
        return f"{self.venue}:{self.event_id}"
