"""Markets, their outcomes, and the sets of markets that settle together.

Nothing here says how a market ended: that lives in :mod:`pm_pipeline.markets.resolution` and is kept from
strategies. What a market's record holds could be read on the venue while it was trading.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Self

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.markets.units import Micro


class ScheduleEvidence(StrEnum):
    """How we know when a market was scheduled to close.

    ``LISTED``: the venue announced it when the market opened, so a strategy may count back from it.
    ``HINDSIGHT``: we first saw the market after it had closed, and the venue may close it early, so the time
    may be one that nobody knew beforehand. Decisions that count back from it are marked in the metrics.
    """

    LISTED = "listed"
    HINDSIGHT = "hindsight"


@dataclass(frozen=True, slots=True)
class TickRange:
    """Prices from ``start`` to ``end`` (both included) are multiples of ``step``, all in micro-dollars."""

    start: Micro
    end: Micro
    step: Micro


@dataclass(frozen=True, slots=True)
class FeeTerms:
    """The fee schedule a venue attached to one market: ``rate * p * (1 - p)`` to the power ``exponent``.

    ``None`` in a market means "none attached": the dated rules of the venue then decide.
    """

    rate: Decimal
    exponent: int
    taker_only: bool
    rebate_rate: Decimal


@dataclass(frozen=True, slots=True)
class Instrument:
    """One outcome of one market, and the venue's own names for it (token ids; none on Kalshi).

    ``position_id`` names it in the second protocol of Polymarket, ``token_id`` in the first.
    """

    market_key: MarketKey
    outcome_index: int
    label: str
    token_id: str | None = None
    position_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """A market as its venue lists it: what a trader could read before it closed.

    ``scheduled_close`` is the announced end of trading (on Polymarket the ``endDate``, which trading often
    outlives); the true end is part of the resolution. ``volume`` and ``traded_until`` are what the venue
    reported when the catalog was read, and therefore later knowledge: they may choose a universe and plan
    what to fetch, never a trade. :meth:`as_listed` drops them.
    """

    key: MarketKey
    question: str
    instruments: tuple[Instrument, ...]
    opened_at: Nanos | None
    scheduled_close: Nanos | None
    schedule_evidence: ScheduleEvidence
    ticks: tuple[TickRange, ...]
    min_order_size: Micro
    slug: str | None = None
    condition_id: str | None = None
    question_id: str | None = None
    event_id: str | None = None
    event_title: str | None = None
    event_slug: str | None = None
    series: str | None = None
    category: str | None = None
    tags: tuple[str, ...] = ()
    group_key: str | None = None
    exclusive_group: bool = False
    fee_terms: FeeTerms | None = None
    volume: Micro | None = None
    traded_until: Nanos | None = None
    rules_text: str | None = None
    resolution_source: str | None = None
    resolution_host: str | None = None
    resolution_station: str | None = None

    def instrument(self, outcome_index: int) -> Instrument:
        """The outcome with this index. Raises ``IndexError`` where there is none."""
        return self.instruments[outcome_index]

    def as_listed(self) -> Self:
        """The market without anything that was only known later; what a strategy gets to see."""
        return replace(self, volume=None, traded_until=None)


class GroupKind(StrEnum):
    """What ties the markets of a group together.

    ``NEG_RISK``: one contract of Polymarket, in which NO of some markets turns into YES of all others.
    ``STRIKES``: the markets of one event, such as the strikes of a Kalshi event.
    """

    NEG_RISK = "neg_risk"
    STRIKES = "strikes"


@dataclass(frozen=True, slots=True)
class MarketGroup:
    """Markets that settle together: a neg-risk event, the strikes of one Kalshi event, a reviewed pair.

    ``exclusive``: at most one of them pays YES. ``exhaustive``: one of them must, for the venue listed them
    all and keeps no outcome free. With both, exactly one pays and their YES prices sum to about one.
    ``market_keys`` are all that can be traded, chosen for the universe or not.
    """

    group_key: str
    market_keys: tuple[MarketKey, ...]
    exclusive: bool
    exhaustive: bool = False
    kind: GroupKind = GroupKind.STRIKES
    event_ids: tuple[str, ...] = ()


def tick_at(ticks: Sequence[TickRange], price: Micro) -> Micro:
    """The price step at ``price``. Where two ranges meet, the one that starts there decides.

    Raises ``ValueError`` for a price that no range holds.
    """
    holding = [r.step for r in ticks if r.start <= price <= r.end]
    if not holding:
        raise ValueError(f"no tick range holds the price {price}")
    return holding[-1]


def round_to_tick(ticks: Sequence[TickRange], price: Micro, *, up: bool) -> Micro:
    """The nearest valid price at or above (``up``) or at or below ``price``.

    Prices outside all ranges are drawn to the nearest end of the grid.
    """
    low, high = ticks[0].start, ticks[-1].end
    clipped = min(max(price, low), high)
    ranges = [r for r in ticks if r.start <= clipped <= r.end]
    chosen = ranges[-1] if up else ranges[0]
    steps, rest = divmod(clipped - chosen.start, chosen.step)
    return min(chosen.start + (steps + (up and rest > 0)) * chosen.step, high)
