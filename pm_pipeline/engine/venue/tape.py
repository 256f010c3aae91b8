"""The recorded prices of one market as the engine trades on them: one row per quote or book change.

A :class:`Touch` table holds, for one outcome, what could be bought and sold at each moment. Where only a mid
is known, the half-spread of the liquidity model makes bid and ask of it, and the row says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.kernel import touches
from pm_pipeline.engine.scenarios import LiquidityModel, Mark, Terms
from pm_pipeline.engine.venue.grids import Grids, steps_at
from pm_pipeline.engine.venue.liquidity import resting
from pm_pipeline.engine.venue.prints import NOTHING, Prints, down, prints_of, up
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.market import Market, ScheduleEvidence
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.asof import BookLog, MarketData, Quotes

Ints = npt.NDArray[np.int64]


class Evidence(StrEnum):
    """What a fill rests on, from the weakest to the strongest."""

    MID = "mid"
    TRADE = "trade"
    BBO = "bbo"
    L2 = "l2"
    RULE = "rule"


class Kind(IntEnum):
    """What a row of a tape is. ``GAP``: the book was lost or the quotes cross, nothing trades."""

    GAP = 0
    MID = 1
    BBO = 2
    L2 = 3
    TRADE = 4


EVIDENCE: Final = {Kind.MID: Evidence.MID, Kind.BBO: Evidence.BBO, Kind.L2: Evidence.L2}


def weakest(found: Sequence[Evidence]) -> Evidence:
    """The weakest of some evidence."""
    return min(found, key=list(Evidence).index)


@dataclass(frozen=True, slots=True)
class Touch:
    """Executable prices of one outcome in order of ``ts``: int64 micro-dollars, :data:`NOTHING` where none.

    ``mid`` is the observed mid, ``bid`` and ``ask`` what a taker would meet, the sizes how many contracts
    there; a size that is :data:`NOTHING` is not in the row: the declared depth holds, or the book tells.
    """

    ts: Ints
    known_at: Ints
    mid: Ints
    bid: Ints
    ask: Ints
    kind: npt.NDArray[np.int8]
    bid_size: Ints
    ask_size: Ints

    def __len__(self) -> int:
        return len(self.ts)

    def mirrored(self) -> "Touch":
        """The same rows seen from the other outcome of a binary market."""
        mid, bid, ask = map(_other, (self.mid, self.ask, self.bid))
        return Touch(self.ts, self.known_at, mid, bid, ask, self.kind, self.ask_size, self.bid_size)

    def before(self, t: Nanos) -> "Touch":
        """The rows with ``ts`` before ``t``."""
        n = int(np.searchsorted(self.ts, t, side="left"))
        return Touch(*(getattr(self, name)[:n] for name in _COLUMNS))

    def then(self, later: "Touch") -> "Touch":
        """These rows, and the later ones after them."""
        return Touch(*(np.concatenate((getattr(self, n), getattr(later, n))) for n in _COLUMNS))


_QUOTED: Final = ("ts", "known_at", "mid", "bid", "ask")
_COLUMNS: Final = ("ts", "known_at", "mid", "bid", "ask", "kind", "bid_size", "ask_size")


def touch_of_quotes(quotes: Quotes, grids: Grids, terms: Terms, close: Nanos | None = None) -> Touch:
    """Turn recorded quotes into executable prices; ``close`` is the announced one.

    A row with a recorded side is ``BBO``: a side that is missing there has nobody. A row with nothing but a
    mid is ``MID``: bid and ask lie the half-spread of the liquidity model away, at least the declared one and
    a tick, times the scenario's factor. Prices are rounded to the tick away from us, those made of a mid to
    the tick of that time (see :class:`~pm_pipeline.engine.venue.grids.Grids`); one outside of 0 to 1 is not
    there, and one that would leave the grid, or be 0 or 1, is nobody's. Where bid and offer cross, nothing
    trades. Rows are put in the order of ``ts``: the venue trades on what is true, not on what has been
    published.
    """
    quotes = Quotes(quotes.ts, quotes.known_at, *map(_possible, (quotes.mid, quotes.bid, quotes.ask)))
    measured = terms.config.liquidity is not LiquidityModel.CONSTANT
    model = resting(quotes, close, terms.scenario) if measured else None
    order = np.argsort(quotes.ts, kind="stable")
    ts, known_at, mid, bid, ask = (getattr(quotes, name)[order] for name in _QUOTED)
    recorded = (bid >= 0) | (ask >= 0)
    guessed = ~recorded & (mid >= 0)
    crossed = (bid > ask) & (ask >= 0)
    coarse = guessed & grids.unrefined(mid)
    step = steps_at(grids.own, mid)
    if coarse.any():
        step = np.where(coarse, steps_at(grids.usual, mid), step)
    half = np.maximum(terms.config.half_spread, step)
    half = -(-half * terms.half_spread.numerator // terms.half_spread.denominator)
    if model is not None:
        half = np.maximum(half, model.half_spread[order])
    bid = np.where(guessed, mid - half, bid)
    ask = np.where(guessed, mid + half, np.where(ask >= 0, ask, MICRO))
    bids, asks = down(grids.own, bid), up(grids.own, ask)
    if coarse.any():
        bids = np.where(coarse, down(grids.usual, bid), bids)
        asks = np.where(coarse, up(grids.usual, ask), asks)
    bid, ask = _tradable(bids), _tradable(asks)
    kind = np.where(recorded & ~crossed, Kind.BBO, np.where(guessed, Kind.MID, Kind.GAP)).astype(np.int8)
    sizes = (
        (_unsaid(len(ts)),) * 2
        if model is None
        else (_contracts(model.contracts[order], price, terms) for price in (bid, ask))
    )
    return Touch(ts, known_at, mid, bid, ask, kind, *sizes)


def announced_close(market: Market) -> Nanos | None:
    """The scheduled close as it could be known; one that was learned in hindsight could not."""
    return None if market.schedule_evidence is ScheduleEvidence.HINDSIGHT else market.scheduled_close


def venue_order(log: BookLog) -> BookLog:
    """The same log in the venue's order, with a ``ts`` that never falls: how the book stood at the venue."""
    order = np.lexsort((log.kind, log.seq))
    names = ("ts", "known_at", "seq", "kind", "side", "price", "size")
    ts, *rest = (getattr(log, name)[order] for name in names)
    return BookLog(np.maximum.accumulate(ts) if len(ts) else ts, *rest)


def touch_of_book(log: BookLog) -> Touch:
    """Best bid and offer after each message that changed them, of a log in the venue's order.

    ``GAP`` where the book is lost.
    """
    rows, bid, ask = touches(log)
    mid = np.where((bid >= 0) & (ask >= 0), (bid + ask) // 2, NOTHING)
    kind = np.where((bid >= 0) | (ask >= 0), Kind.L2, Kind.GAP).astype(np.int8)
    unsaid = _unsaid(len(rows))
    return Touch(log.ts[rows], log.known_at[rows], mid, _tradable(bid), _tradable(ask), kind, unsaid, unsaid)


def touch_of_prints(buys: Prints, sells: Prints) -> Touch:
    """What could be known of bid and offer where nothing but executions was recorded.

    A sale says that somebody bid its price, a purchase that somebody offered it; a bid is never above the
    price of a later purchase, nor an offer below that of a later sale.
    """
    number = np.concatenate((buys.number, sells.number))
    ts = np.concatenate((buys.ts, sells.ts))
    order = np.lexsort((number, ts))
    known_at = np.concatenate((buys.known_at, sells.known_at))[order]
    prices = np.concatenate((buys.price, sells.price))[order].tolist()
    quoted = np.full((2, len(ts)), NOTHING)
    bid = ask = NOTHING
    for i, (price, bought) in enumerate(zip(prices, (order < len(buys.ts)).tolist(), strict=True)):
        if bought:
            bid, ask = min(bid, price), price
        else:
            bid, ask = price, (ask if ask == NOTHING else max(ask, price))
        quoted[:, i] = bid, ask
    unsaid = _unsaid(len(ts))
    kind = np.full(len(ts), Kind.TRADE, dtype=np.int8)
    return Touch(ts[order], known_at, unsaid, quoted[0], quoted[1], kind, unsaid, unsaid)


class OutcomeTape:
    """Look-ups over the :class:`Touch` rows of one outcome."""

    def __init__(self, touch: Touch) -> None:
        self.touch = touch
        self._rows = {Side.BUY: np.flatnonzero(touch.ask >= 0), Side.SELL: np.flatnonzero(touch.bid >= 0)}
        self._mids = np.flatnonzero(touch.mid >= 0)
        self._marked: dict[Mark, tuple[Nanos, Nanos, Micro | None]] = {}

    def at(self, t: Nanos) -> int:
        """Index of the last row with ``ts`` at or before ``t``, or -1."""
        return int(np.searchsorted(self.touch.ts, t, side="right")) - 1

    def price(self, side: Side, i: int) -> Micro:
        """What a taker on this side meets in row ``i``: the offer when buying, the bid when selling."""
        return int((self.touch.ask if side is Side.BUY else self.touch.bid)[i])

    def size(self, side: Side, i: int) -> Micro:
        """How many contracts rest there, or :data:`NOTHING` where the row does not say."""
        return int((self.touch.ask_size if side is Side.BUY else self.touch.bid_size)[i])

    def next_row(self, side: Side, i: int) -> int | None:
        """Index of the first row after ``i`` on which this side could trade."""
        rows = self._rows[side]
        n = int(np.searchsorted(rows, i, side="right"))
        return int(rows[n]) if n < len(rows) else None

    def mark(self, t: Nanos, mark: Mark) -> Micro | None:
        """The last known value of one contract at ``t``: the bid, or the mid.

        Where nobody bids any more, the last bid counts, but no more than is asked now: a price that fell
        below the lowest bid must not leave a position at what it once was worth.
        """
        since, until, value = self._marked.get(mark, (0, 0, None))
        if since <= t < until:
            return value  # positions are marked far more often than their prices change
        i = self.at(t)
        ts = self.touch.ts
        since = int(ts[i]) if i >= 0 else -FOREVER
        until = int(ts[i + 1]) if i + 1 < len(ts) else FOREVER
        self._marked[mark] = since, until, (value := self._mark_in(i, mark))
        return value

    def _mark_in(self, i: int, mark: Mark) -> Micro | None:
        rows = self._rows[Side.SELL] if mark is Mark.BID else self._mids
        values = self.touch.bid if mark is Mark.BID else self.touch.mid
        n = int(np.searchsorted(rows, i, side="right")) - 1
        if n < 0:
            return None
        value, ask = int(values[rows[n]]), int(self.touch.ask[i])
        return value if ask == NOTHING else min(value, ask)

    def mid_known_at(self, t: Nanos) -> Micro | None:
        """The last mid that was known at ``t``; what a decision is measured against."""
        n = int(np.searchsorted(self._mids, self.at(t), side="right")) - 1
        while n >= 0 and self.touch.known_at[self._mids[n]] > t:
            n -= 1  # true already, not published yet: as many rows as the publication lags behind
        return int(self.touch.mid[self._mids[n]]) if n >= 0 else None

    def last_mid_before(self, t: Nanos) -> Micro | None:
        """The last mid strictly before ``t``: the closing price, where trading ended at ``t``."""
        n = int(np.searchsorted(self.touch.ts, t, side="left"))
        earlier = self._mids[: int(np.searchsorted(self._mids, n, side="left"))]
        return int(self.touch.mid[earlier[-1]]) if len(earlier) else None


class Tape:
    """The tapes of a market's outcomes, made when they are first asked for.

    From the first row of a recorded book on, the book is the tape; before it, the quotes are, or where there
    are none, the executions. ``log`` is the book's log in the venue's order.
    """

    def __init__(self, data: MarketData, grids: Grids, terms: Terms) -> None:
        self._data = data
        self._grids = grids
        self._terms = terms
        self.log = venue_order(data.book_log)
        book = touch_of_book(self.log)
        self._book = book if len(book) else None
        self._outcomes: dict[int, OutcomeTape] = {}
        self._prints: dict[tuple[int, Side], Prints] = {}

    def outcome(self, index: int) -> OutcomeTape:
        """The tape of one outcome."""
        if index not in self._outcomes:
            quotes = self._data.quotes(index)
            if len(quotes):
                touch = touch_of_quotes(quotes, self._grids, self._terms, announced_close(self._data.market))
            else:
                touch = touch_of_prints(self.prints(index, Side.BUY), self.prints(index, Side.SELL))
            if self._book is not None:
                book = self._book.mirrored() if index else self._book
                touch = touch.before(int(book.ts[0])).then(book)
            self._outcomes[index] = OutcomeTape(touch)
        return self._outcomes[index]

    def prints(self, outcome: int, side: Side) -> Prints:
        """The executions on which a taker of this side of this outcome could have traded."""
        if (outcome, side) not in self._prints:
            binary = len(self._data.market.instruments) == 2
            found = prints_of(self._data.trades, outcome, side, self._grids.own, binary=binary)
            self._prints[outcome, side] = found
        return self._prints[outcome, side]

    def on_prints(self, outcome: int, t: Nanos) -> bool:
        """Whether it is executions that an order of this moment trades on."""
        if self._book is not None and t >= self._book.ts[0]:
            return False
        kind = self.outcome(outcome).touch.kind
        return self._terms.config.liquidity is LiquidityModel.PRINTS or (
            len(kind) > 0 and kind[0] == Kind.TRADE
        )

    @property
    def last_ts(self) -> Nanos:
        """The last moment of which the tapes in use know anything; 0 where they know nothing."""
        return max((int(t.touch.ts[-1]) for t in self._outcomes.values() if len(t.touch)), default=0)


def _other(price: Ints) -> Ints:
    return np.where(price >= 0, MICRO - price, NOTHING)


def _unsaid(count: int) -> Ints:
    """A column of :data:`NOTHING` that takes no memory."""
    return np.broadcast_to(np.int64(NOTHING), count)


def _possible(price: Ints) -> Ints:
    return np.where((price >= 0) & (price <= MICRO), price, NOTHING)


def _contracts(measured: Ints, price: Ints, terms: Terms) -> Ints:
    """What the model finds at a price, but no more than the declared dollars buy."""
    declared = int(terms.config.depth_usd * terms.depth) * MICRO // np.maximum(price, 1)
    return np.where(price > 0, np.minimum(measured, declared), NOTHING)


def _tradable(price: Ints) -> Ints:
    return np.where((price > 0) & (price < MICRO), price, NOTHING)
