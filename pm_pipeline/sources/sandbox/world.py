"""A world: markets with their prices, trades, books and endings, from which the sandbox answers.

Everything that grows with time is behind a callable, so that thousands of markets cost nothing until one is
read. All series are of outcome 0; the other outcome of a binary market is its mirror.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pm_pipeline.errors import PipelineError, UsageError, did_you_mean
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution
from pm_pipeline.markets.units import MICRO, Micro

Ints: TypeAlias = NDArray[np.int64]

ABSENT: Final = -1
"""In a bid or ask: nobody quotes this side, or the recording did not say."""


class WorldError(PipelineError):
    """A world contradicts itself, for example by naming one token twice."""


class Retention(StrEnum):
    """How long fine price history is kept: as the venue does, or for ever (a recorded set is what it is)."""

    VENUE = "venue"
    FULL = "full"


class Quotes(NamedTuple):
    """Mid, best bid and best ask over time, in micro-dollars; times rise strictly.

    With one side empty the mid counts it as 0 or 1, which is what Polymarket does.
    """

    ts: Ints
    mid: Ints
    bid: Ints
    ask: Ints

    @classmethod
    def of(cls, ts: Ints, bid: Ints, ask: Ints) -> Self:
        """Quotes with the mid derived from bid and ask."""
        low = np.where(bid == ABSENT, 0, bid)
        high = np.where(ask == ABSENT, MICRO, ask)
        return cls(ts, (low + high) // 2, bid, ask)

    def at(self, moment: Nanos) -> int | None:
        """The position of the quote in force at ``moment``, or ``None`` before the first."""
        position = int(np.searchsorted(self.ts, moment, side="right")) - 1
        return position if position >= 0 else None


class Trades(NamedTuple):
    """Taker executions in order of time.

    ``lifts`` says that the taker took the offer of outcome 0 (bought it, or sold the other outcome);
    ``outcome`` is the token the taker named. ``price`` is always that of outcome 0.
    """

    ts: Ints
    price: Ints
    size: Ints
    lifts: NDArray[np.bool_]
    outcome: Ints
    wallet: NDArray[np.str_]
    block: NDArray[np.bool_]

    def until(self, moment: Nanos) -> Self:
        """The trades up to ``moment``."""
        past = self.ts <= moment
        return type(self)(
            self.ts[past],
            self.price[past],
            self.size[past],
            self.lifts[past],
            self.outcome[past],
            self.wallet[past],
            self.block[past],
        )

    def taker_buys(self, row: int) -> bool:
        """Whether the taker bought the token it named."""
        return bool(self.lifts[row]) == (int(self.outcome[row]) == 0)

    def price_of_named(self, row: int) -> Micro:
        """The price of the token that the taker named."""
        price = int(self.price[row])
        return price if int(self.outcome[row]) == 0 else MICRO - price


class BookLog(NamedTuple):
    """The book of outcome 0 as a log. Rows of one message share ``seq``, which rises.

    ``reset`` rows empty the book; other rows set ``price`` on one side to an absolute ``size``.
    """

    ts: Ints
    seq: Ints
    reset: NDArray[np.bool_]
    is_ask: NDArray[np.bool_]
    price: Ints
    size: Ints


EMPTY_INTS: Final = np.empty(0, np.int64)
_EMPTY_FLAGS: Final = np.empty(0, np.bool_)
NO_QUOTES: Final = Quotes(EMPTY_INTS, EMPTY_INTS, EMPTY_INTS, EMPTY_INTS)
NO_TRADES: Final = Trades(
    EMPTY_INTS, EMPTY_INTS, EMPTY_INTS, _EMPTY_FLAGS, EMPTY_INTS, np.empty(0, "U42"), _EMPTY_FLAGS
)
NO_BOOK: Final = BookLog(EMPTY_INTS, EMPTY_INTS, _EMPTY_FLAGS, _EMPTY_FLAGS, EMPTY_INTS, EMPTY_INTS)


def no_quotes() -> Quotes:
    """A market of which no price was recorded."""
    return NO_QUOTES


def no_trades() -> Trades:
    """A market of which no trade was recorded."""
    return NO_TRADES


def no_book() -> BookLog:
    """A market of which no depth was recorded."""
    return NO_BOOK


class Sides(NamedTuple):
    """Sizes by price on both sides of outcome 0."""

    bids: dict[Micro, Micro]
    asks: dict[Micro, Micro]


def book_at(log: BookLog, moment: Nanos) -> Sides | None:
    """The book that the log has reached at ``moment``; ``None`` before its first row."""
    end = int(np.searchsorted(log.ts, moment, side="right"))
    if end == 0:
        return None
    resets = np.flatnonzero(log.reset[:end])
    start = int(resets[-1]) if len(resets) else 0
    sides = Sides({}, {})
    for row in range(start, end):
        if log.reset[row]:
            continue
        levels = sides.asks if log.is_ask[row] else sides.bids
        levels[int(log.price[row])] = int(log.size[row])
    return Sides(*({price: size for price, size in levels.items() if size} for levels in sides))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldEvent:
    """The event that a market belongs to. ``raw`` is a recorded Gamma object, served as it was."""

    event_id: str
    slug: str
    title: str
    opened_at: Nanos | None = None
    ends_at: Nanos | None = None
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Strike:
    """What a Kalshi market asks of the settled figure: ``less``, ``between`` or ``greater``."""

    kind: str
    floor: float | None
    cap: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldMarket:
    """One market, how it ended, and its series (read when called).

    ``settled_value`` is Kalshi's ``expiration_value``, ``label`` the market's name within its event, ``raw``
    a recorded Gamma object. ``inactive`` marks a placeholder that never traded.
    """

    market: Market
    resolution: Resolution
    event: WorldEvent
    quotes: Callable[[], Quotes] = no_quotes
    trades: Callable[[], Trades] = no_trades
    book_log: Callable[[], BookLog] = no_book
    volume: Callable[[], Micro | None] = lambda: None
    label: str = ""
    strike: Strike | None = None
    settled_value: str = ""
    raw: bytes | None = None
    inactive: bool = False

    @property
    def native_id(self) -> str:
        """The venue's own id."""
        return self.market.key.native_id


class Token(NamedTuple):
    """A market and one of its outcomes, found by the venue's token id."""

    market: WorldMarket
    outcome: int


@dataclass(frozen=True)
class World:
    """All markets of a sandbox, in a stable order, and the moment at which it stands still."""

    label: str
    now: Nanos
    markets: Mapping[str, WorldMarket]
    retention: Retention = Retention.VENUE

    @classmethod
    def of(
        cls, label: str, now: Nanos, markets: Iterable[WorldMarket], retention: Retention = Retention.VENUE
    ) -> Self:
        """A world of these markets. Raises :class:`WorldError` where two share a key."""
        by_key: dict[str, WorldMarket] = {}
        for market in markets:
            if by_key.setdefault(str(market.market.key), market) is not market:
                raise WorldError(f"two markets of the sandbox share the key {market.market.key}")
        return cls(label, now, by_key, retention)

    def market(self, key: str) -> WorldMarket:
        """The market of this key. Raises :class:`UsageError` with the nearest keys."""
        if key not in self.markets:
            raise UsageError(f"the sandbox has no market {key!r}{did_you_mean(key, self.markets)}")
        return self.markets[key]

    def of_venue(self, venue: Venue) -> list[WorldMarket]:
        """The markets of one venue, in order."""
        return [m for m in self.markets.values() if m.market.key.venue is venue]

    @cached_property
    def polymarket(self) -> Mapping[str, WorldMarket]:
        """Polymarket markets by Gamma id."""
        return {m.native_id: m for m in self.of_venue(Venue.POLYMARKET)}

    @cached_property
    def kalshi(self) -> Mapping[str, WorldMarket]:
        """Kalshi markets by ticker."""
        return {m.native_id: m for m in self.of_venue(Venue.KALSHI)}

    @cached_property
    def by_slug(self) -> Mapping[str, WorldMarket]:
        """Polymarket markets by slug."""
        return {m.market.slug: m for m in self.polymarket.values() if m.market.slug}

    @cached_property
    def by_condition(self) -> Mapping[str, WorldMarket]:
        """Polymarket markets by condition id."""
        return {m.market.condition_id: m for m in self.polymarket.values() if m.market.condition_id}

    @cached_property
    def by_question(self) -> Mapping[str, WorldMarket]:
        """Polymarket markets by question id."""
        return {m.market.question_id: m for m in self.polymarket.values() if m.market.question_id}

    @cached_property
    def by_token(self) -> Mapping[str, Token]:
        """Polymarket outcomes by token id. Raises :class:`WorldError` where two share one."""
        found: dict[str, Token] = {}
        for market in self.polymarket.values():
            for instrument in market.market.instruments:
                if instrument.token_id is None:
                    continue
                if instrument.token_id in found:
                    raise WorldError(f"two outcomes of the sandbox share the token {instrument.token_id}")
                found[instrument.token_id] = Token(market, instrument.outcome_index)
        return found

    @cached_property
    def by_event(self) -> Mapping[str, tuple[WorldMarket, ...]]:
        """Markets by ``venue:event_id``, events in order of their first market."""
        found: dict[str, list[WorldMarket]] = {}
        for market in self.markets.values():
            found.setdefault(f"{market.market.key.venue}:{market.event.event_id}", []).append(market)
        return {event: tuple(children) for event, children in found.items()}
