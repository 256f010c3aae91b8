"""The market WebSocket: from a frame to rows of ``market_data.book_events``.

Frames bear no numbers, so nothing tells of one that is missing. What can be told (a lost connection, a frame
that cannot be read or comes late, new ticks) is a gap: nothing is believed until the next whole book.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.units import Micro
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.wire import BookLevel
from pm_pipeline.sources.wire import price, size, unix_millis

PONG: Final = "PONG"
"""The venue's answer to ``PING``; it says nothing of a book."""

_ENDPOINT: Final = "websocket market"
_SIDES: Final = {"BUY": "bid", "SELL": "ask"}


class BookFrame(msgspec.Struct, tag_field="event_type", tag="book"):
    """A whole book of one token: after subscribing, and after trades."""

    asset_id: str
    timestamp: str
    bids: list[BookLevel]
    asks: list[BookLevel]
    hash: str | None = None


class Change(msgspec.Struct):
    """One level of one token now has this size; 0: it is gone."""

    asset_id: str
    price: Decimal
    size: Decimal
    side: str


class PriceChange(msgspec.Struct, tag_field="event_type", tag="price_change"):
    """Levels that changed, of both tokens of a market, in the form of since September 2025."""

    timestamp: str
    price_changes: list[Change]


class TickSizeChange(msgspec.Struct, tag_field="event_type", tag="tick_size_change"):
    """The price grid of a token changes, and with it its book."""

    asset_id: str
    timestamp: str
    new_tick_size: Decimal


class LastTrade(msgspec.Struct, tag_field="event_type", tag="last_trade_price"):
    """A trade; the tape comes from the Data API, which counts each once."""

    asset_id: str
    timestamp: str


class BestBidAsk(msgspec.Struct, tag_field="event_type", tag="best_bid_ask"):
    """The touch, which follows from the book."""


class NewMarket(msgspec.Struct, tag_field="event_type", tag="new_market"):
    """A market was listed; the catalog has it."""


class MarketResolved(msgspec.Struct, tag_field="event_type", tag="market_resolved"):
    """A market was resolved; often missing, so resolutions are read elsewhere."""


Event: TypeAlias = (
    BookFrame | PriceChange | TickSizeChange | LastTrade | BestBidAsk | NewMarket | MarketResolved
)

_DECODER: Final = msgspec.json.Decoder(Event | list[Event])


def parse(text: str | bytes) -> list[Event]:
    """The events of one frame; none for a ``PONG``.

    Raises
    ------
    BadResponse
        for what is no JSON, an unknown type of event, or a field that is missing or of another type, named.
    """
    if text in (PONG, PONG.encode()):
        return []
    try:
        found = _DECODER.decode(text)
    except (msgspec.DecodeError, ArithmeticError, RecursionError, UnicodeError) as error:
        raise BadResponse(f"{_ENDPOINT}: {error}") from error
    return found if isinstance(found, list) else [found]


def moment_of(timestamp: str) -> Nanos:
    """Nanoseconds of a count of milliseconds, as text. Raises :class:`BadResponse`."""
    return unix_millis(timestamp, _ENDPOINT, "timestamp")


class Row(NamedTuple):
    """One row of ``market_data.book_events`` without its market."""

    ts: Nanos
    known_at: Nanos
    seq: int
    kind: str
    side: str | None = None
    price: Micro | None = None
    size: Micro | None = None


@dataclass(slots=True)
class TokenLog:
    """The log of one token's book while frames go by. ``known``: a whole book came, and no gap since.

    It keeps no book: sizes on the wire are absolute. A message that is exactly like the one before it, its
    millisecond too, is dropped, since setting a level anew would refresh what was taken of it; one that comes
    again after another counts, for the last word on a level is the venue's. ``received_at`` is
    ``None`` in recordings that do not say it; the venue's own time then counts.
    """

    known: bool = False
    ts: Nanos = 0
    known_at: Nanos = 0
    seq: int = -1
    _last: object = None

    def book(
        self, bids: Iterable[BookLevel], asks: Iterable[BookLevel], ts: Nanos, received_at: Nanos | None
    ) -> list[Row]:
        """A whole book."""
        levels = tuple(
            (name, price(level.price, _ENDPOINT, "price"), size(level.size, _ENDPOINT, "size", "floor"))
            for name, side in (("bid", bids), ("ask", asks))
            for level in side
        )
        if len({level[:2] for level in levels}) < len(levels):
            raise BadResponse(f"{_ENDPOINT}: a side names a price twice")
        if ts < self.ts:  # came after something later: nobody can tell what it still means
            return self.lost(received_at)
        if self._is_repeated(ts, levels):
            return []
        self.known = True
        seq = self._next(ts, received_at)
        rows = [Row(ts, self.known_at, seq, "reset")]
        return rows + [Row(ts, self.known_at, seq, "level", *level) for level in levels if level[2]]

    def changes(self, changes: Sequence[Change], ts: Nanos, received_at: Nanos | None) -> list[Row]:
        """Levels that one message sets; nothing while the book is not known."""
        levels = tuple(
            (
                _side(change),
                price(change.price, _ENDPOINT, "price"),
                size(change.size, _ENDPOINT, "size", "floor"),
            )
            for change in changes
        )
        if ts < self.ts:  # came after something later: nobody can tell what it still means
            return self.lost(received_at)
        if not self.known or not levels or self._is_repeated(ts, levels):
            return []
        seq = self._next(ts, received_at)
        return [Row(ts, self.known_at, seq, "level", *level) for level in levels]

    def lost(self, received_at: Nanos | None) -> list[Row]:
        """The book is unsound since the last message, which is known only now; a gap, where there was one."""
        if not self.known:
            return []
        self.known = False
        self._last = None
        return [Row(self.ts, self._learn(self.ts, received_at), self._number(), "gap")]

    def state(self) -> list[int]:
        """What to remember until the recording is read on."""
        return [int(self.known), self.ts, self.known_at, self.seq]

    @classmethod
    def resume(cls, state: Sequence[int]) -> "TokenLog":
        """Go on from a :meth:`state`."""
        known, ts, known_at, seq = state
        return cls(bool(known), ts, known_at, seq)

    def _is_repeated(self, ts: Nanos, levels: Any) -> bool:
        before, self._last = self._last, (ts, levels)
        return before == self._last

    def _next(self, ts: Nanos, received_at: Nanos | None) -> int:
        self._learn(ts, received_at)
        self.ts = ts
        return self._number()

    def _learn(self, ts: Nanos, received_at: Nanos | None) -> Nanos:
        """Never before it was true, before it came, or before what came earlier."""
        self.known_at = max(ts, received_at or 0, self.known_at)
        return self.known_at

    def _number(self) -> int:
        """The microsecond of knowing, moved on where two messages share it, so that recordings line up."""
        self.seq = max(self.seq + 1, self.known_at // 1000)
        return self.seq


def _side(change: Change) -> str:
    if change.side not in _SIDES:
        raise BadResponse(f"{_ENDPOINT}: side is {change.side[:20]!r}")
    return _SIDES[change.side]
