"""The recorded prices of one market as the engine trades on them: one row per quote or book change.

A :class:`Touch` table holds, for one outcome, what could be bought and sold at each moment. Where only a mid
is known, the declared half-spread makes bid and ask of it, and the row says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.scenarios import Mark, Terms
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.market import TickRange
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.asof import BookLog, BookReplay, MarketData, Quotes

Ints = npt.NDArray[np.int64]

NOTHING: Final = -1
"""Stands for "no price" in an array."""


class Evidence(StrEnum):
    """What a fill rests on, from the weakest to the strongest."""

    MID = "mid"
    TRADE = "trade"
    BBO = "bbo"
    L2 = "l2"


class Kind(IntEnum):
    """What a row of a tape is. ``GAP``: the book was lost, nothing trades."""

    GAP = 0
    MID = 1
    BBO = 2
    L2 = 3


EVIDENCE: Final = {Kind.MID: Evidence.MID, Kind.BBO: Evidence.BBO, Kind.L2: Evidence.L2}


def weakest(found: Sequence[Evidence]) -> Evidence:
    """The weakest of some evidence."""
    return min(found, key=list(Evidence).index)


@dataclass(frozen=True, slots=True)
class Touch:
    """Executable prices of one outcome in order of ``ts``: int64 micro-dollars, :data:`NOTHING` where none.

    ``mid`` is the observed mid, ``bid`` and ``ask`` what a taker would meet.
    """

    ts: Ints
    known_at: Ints
    mid: Ints
    bid: Ints
    ask: Ints
    kind: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ts)

    def mirrored(self) -> "Touch":
        """The same rows seen from the other outcome of a binary market."""
        return Touch(self.ts, self.known_at, _other(self.mid), _other(self.ask), _other(self.bid), self.kind)

    def before(self, t: Nanos) -> "Touch":
        """The rows with ``ts`` before ``t``."""
        n = int(np.searchsorted(self.ts, t, side="left"))
        return Touch(*(getattr(self, name)[:n] for name in _COLUMNS))

    def then(self, later: "Touch") -> "Touch":
        """These rows, and the later ones after them."""
        return Touch(*(np.concatenate((getattr(self, n), getattr(later, n))) for n in _COLUMNS))


_COLUMNS: Final = ("ts", "known_at", "mid", "bid", "ask", "kind")


def touch_of_quotes(quotes: Quotes, ticks: Sequence[TickRange], terms: Terms) -> Touch:
    """Turn recorded quotes into executable prices.

    A row with a recorded side is ``BBO``: a side that is missing there has nobody. A row with nothing but a
    mid is ``MID``: bid and ask lie the declared half-spread away (at least one tick, times the scenario's
    factor), rounded to the tick away from us. A price that would leave the grid, or be 0 or 1, is none.
    Rows are put in the order of ``ts``: the venue trades on what is true, not on what has been published.
    """
    order = np.argsort(quotes.ts, kind="stable")
    quotes = Quotes(*(getattr(quotes, name)[order] for name in ("ts", "known_at", "mid", "bid", "ask")))
    recorded = (quotes.bid >= 0) | (quotes.ask >= 0)
    guessed = ~recorded & (quotes.mid >= 0)
    half = np.maximum(terms.config.half_spread, _steps(ticks, quotes.mid))
    half = -(-half * terms.half_spread.numerator // terms.half_spread.denominator)
    bid = np.where(recorded, quotes.bid, np.where(guessed, _down(ticks, quotes.mid - half), NOTHING))
    ask = np.where(recorded, quotes.ask, np.where(guessed, _up(ticks, quotes.mid + half), NOTHING))
    kind = np.where(recorded, Kind.BBO, np.where(guessed, Kind.MID, Kind.GAP)).astype(np.int8)
    return Touch(quotes.ts, quotes.known_at, quotes.mid, _tradable(bid), _tradable(ask), kind)


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
    touches = list(BookReplay(log, "ts").touches())
    rows = [row for row, _ in touches]
    bid, ask = np.array([touch for _, touch in touches], dtype=np.int64).reshape(-1, 2).T
    mid = np.where((bid >= 0) & (ask >= 0), (bid + ask) // 2, NOTHING)
    kind = np.where((bid >= 0) | (ask >= 0), Kind.L2, Kind.GAP).astype(np.int8)
    return Touch(log.ts[rows], log.known_at[rows], mid, _tradable(bid), _tradable(ask), kind)


class OutcomeTape:
    """Look-ups over the :class:`Touch` rows of one outcome."""

    def __init__(self, touch: Touch) -> None:
        self.touch = touch
        self._rows = {Side.BUY: np.flatnonzero(touch.ask >= 0), Side.SELL: np.flatnonzero(touch.bid >= 0)}
        self._mids = np.flatnonzero(touch.mid >= 0)

    def at(self, t: Nanos) -> int:
        """Index of the last row with ``ts`` at or before ``t``, or -1."""
        return int(np.searchsorted(self.touch.ts, t, side="right")) - 1

    def price(self, side: Side, i: int) -> Micro:
        """What a taker on this side meets in row ``i``: the offer when buying, the bid when selling."""
        return int((self.touch.ask if side is Side.BUY else self.touch.bid)[i])

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
        i = self.at(t)
        rows = self._rows[Side.SELL] if mark is Mark.BID else self._mids
        values = self.touch.bid if mark is Mark.BID else self.touch.mid
        n = int(np.searchsorted(rows, i, side="right")) - 1
        if n < 0:
            return None
        value, ask = int(values[rows[n]]), int(self.touch.ask[i])
        return value if ask == NOTHING else min(value, ask)

    def mid_known_at(self, t: Nanos) -> Micro | None:
        """The last mid that was known at ``t``; what a decision is measured against."""
        known = self._mids[: int(np.searchsorted(self._mids, self.at(t), side="right"))]
        known = known[self.touch.known_at[known] <= t]
        return int(self.touch.mid[known[-1]]) if len(known) else None

    def last_mid_before(self, t: Nanos) -> Micro | None:
        """The last mid strictly before ``t``: the closing price, where trading ended at ``t``."""
        n = int(np.searchsorted(self.touch.ts, t, side="left"))
        earlier = self._mids[: int(np.searchsorted(self._mids, n, side="left"))]
        return int(self.touch.mid[earlier[-1]]) if len(earlier) else None


class Tape:
    """The tapes of a market's outcomes, made when they are first asked for.

    From the first row of a recorded book on, the book is the tape; before it, the quotes are. ``log`` is the
    book's log in the venue's order.
    """

    def __init__(self, data: MarketData, ticks: Sequence[TickRange], terms: Terms) -> None:
        self._data = data
        self._ticks = ticks
        self._terms = terms
        self.log = venue_order(data.book_log)
        book = touch_of_book(self.log)
        self._book = book if len(book) else None
        self._outcomes: dict[int, OutcomeTape] = {}

    def outcome(self, index: int) -> OutcomeTape:
        """The tape of one outcome."""
        if index not in self._outcomes:
            touch = touch_of_quotes(self._data.quotes(index), self._ticks, self._terms)
            if self._book is not None:
                book = self._book.mirrored() if index else self._book
                touch = touch.before(int(book.ts[0])).then(book)
            self._outcomes[index] = OutcomeTape(touch)
        return self._outcomes[index]

    @property
    def last_ts(self) -> Nanos:
        """The last moment of which the tapes in use know anything; 0 where they know nothing."""
        return max((int(t.touch.ts[-1]) for t in self._outcomes.values() if len(t.touch)), default=0)


def _other(price: Ints) -> Ints:
    return np.where(price >= 0, MICRO - price, NOTHING)


def _tradable(price: Ints) -> Ints:
    return np.where((price > 0) & (price < MICRO), price, NOTHING)


def _steps(ticks: Sequence[TickRange], price: Ints) -> Ints:
    """The price step at each price; where two ranges meet, the later one's, as in ``market.tick_at``."""
    steps = np.full(len(price), ticks[0].step, dtype=np.int64)
    for grid in ticks[1:]:
        steps = np.where(price >= grid.start, grid.step, steps)
    return steps


def _down(ticks: Sequence[TickRange], price: Ints) -> Ints:
    """The next grid price at or below each price; none below the grid."""
    result = np.full(len(price), NOTHING, dtype=np.int64)
    for grid in ticks:
        inside = grid.start + (np.minimum(price, grid.end) - grid.start) // grid.step * grid.step
        result = np.where(price >= grid.start, inside, result)
    return result


def _up(ticks: Sequence[TickRange], price: Ints) -> Ints:
    """The next grid price at or above each price; none above the grid."""
    result = np.full(len(price), NOTHING, dtype=np.int64)
    for grid in reversed(ticks):
        inside = grid.start + -(-(np.maximum(price, grid.start) - grid.start) // grid.step) * grid.step
        result = np.where(price <= grid.end, np.minimum(inside, grid.end), result)
    return result
