"""The only door through which strategies read: what was known at a time, and nothing else.

A view shows rows whose ``known_at`` is not later than its ``until``; a row without ``known_at`` is never
shown. Where quotes come from is decided by what is known at ``until`` too, so that a view shows the same
whether or not later rows are stored.

Python cannot forbid a strategy to climb out of a view through private names, or through the ``base`` of a
numpy slice. The truncation check can tell: it removes everything after a decision time from the lake, asks
the strategy again, and fails if a signal changed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.markets import Book, Market
from pm_pipeline.markets.clock import FOREVER, Nanos, format_time, to_datetime
from pm_pipeline.warehouse.arrays import (
    BookLog,
    FillArrays,
    Quote,
    Quotes,
    TradeArrays,
    book_log_from,
    fills_from,
    quotes_from,
    trades_from,
)
from pm_pipeline.warehouse.columns import Kind
from pm_pipeline.warehouse.lake import Lake, MissingPartitionError
from pm_pipeline.warehouse.replay import BookReplay, book_quotes
from pm_pipeline.warehouse.schema import table
from pm_pipeline.warehouse.wallet_fills import FILLS

__all__ = [
    "AsOfView",
    "BookLog",
    "BookReplay",
    "FillArrays",
    "LookAheadError",
    "MarketData",
    "Quote",
    "Quotes",
    "TradeArrays",
    "data_shown_by",
    "open_view",
    "view_of",
]

_PRICES: Final = "market_data.prices"
_TRADES: Final = "market_data.trades"
_BOOK_EVENTS: Final = "market_data.book_events"
_TABLES: Final = (_PRICES, _TRADES, _BOOK_EVENTS, FILLS)
_SHOWN: Final = {
    FILLS: ("ts", "known_at", "outcome_index", "wallet", "side", "role", "price", "size", "counts_volume")
}
"""Columns that are read of a table whose others nobody looks at."""


class LookAheadError(PipelineError):
    """Something later than the decision time was asked for."""


class MarketData:
    """Everything stored about one market, read when it is first needed, then kept.

    For the engine, which simulates the venue and may see it all. Not to be shared between threads.
    """

    def __init__(self, market: Market, read: Callable[[str], pa.Table | None]) -> None:
        """``read`` gives the rows of a table about this market, or ``None`` where there is no partition."""
        self.market = market
        self._read = read
        self._quotes: dict[tuple[str, int], Quotes] = {}
        self._replayed_to = -FOREVER

    @classmethod
    def load(cls, lake: Lake, market: Market) -> Self:
        """The data of a market in a lake.

        Raises :class:`MissingPartitionError` when prices, trades, book events and fills are all missing: a
        market that nobody fetched is not a market without prices.
        """
        key = str(market.key)
        stored = {name for name in _TABLES if lake.exists(name, key)}
        if not stored:
            raise MissingPartitionError(
                f"nothing is stored about {key} in {lake.root}: run `bt fetch` for it, or materialise "
                f"{', '.join(_TABLES)} in Dagster"
            )
        return cls(market, lambda name: lake.read(name, key, _SHOWN.get(name)) if name in stored else None)

    @classmethod
    def of_tables(cls, market: Market, tables: Mapping[str, pa.Table]) -> Self:
        """The data of a market from tables in memory, by their full names."""
        return cls(market, tables.get)

    def quotes(self, outcome_index: int = 0, until: Nanos = FOREVER) -> Quotes:
        """The quotes of an outcome that were known at ``until``.

        They are the stored prices of the outcome; without any, those of the other outcome of a binary
        market, mirrored; without any, the touch of the replayed book.
        """
        count = len(self.market.instruments)
        if not 0 <= outcome_index < count:
            raise UsageError(f"{self.market.key} has no outcome {outcome_index}; it has 0 to {count - 1}")
        known = self._stored(outcome_index).until(until)
        for quotes in self._substitutes(outcome_index):
            if len(known):
                break
            known = quotes.until(until)
        return known

    @cached_property
    def trades(self) -> TradeArrays:
        """All trades."""
        return trades_from(self._rows(_TRADES))

    @cached_property
    def book_log(self) -> BookLog:
        """All book events."""
        return book_log_from(self._rows(_BOOK_EVENTS))

    @cached_property
    def fills(self) -> FillArrays:
        """All on-chain fills."""
        return fills_from(self._rows(FILLS))

    def known_at(self, until: Nanos) -> Self:
        """The same data without the rows that were known later."""
        if until >= FOREVER:
            return self

        def cut(name: str) -> pa.Table | None:
            rows = self._read(name)
            if rows is None:
                return None
            # to whole microseconds, as the rows are: a later one is not known yet
            last = pa.scalar(to_datetime(until), Kind.TIME.value)
            return rows.filter(pc.less_equal(rows.column("known_at"), last))

        return type(self)(self.market, cut)

    @property
    def first_known(self) -> Nanos | None:
        """When the first of its rows was known; ``None`` where there are none."""
        first = (log.known_at[:1].tolist() for log in (self.quotes(), self.trades, self.book_log))
        return min((t for times in first for t in times), default=None)

    def book(self, t: Nanos) -> Book | None:
        """The book of outcome 0 as known at ``t``; fast when asked for later and later times."""
        if t < self._replayed_to:
            self._replay.rewind()
        self._replayed_to = t
        return self._replay.advance(t)

    @cached_property
    def _replay(self) -> BookReplay:
        return BookReplay(self.book_log)

    @cached_property
    def _prices(self) -> pa.Table:
        return self._rows(_PRICES)

    def _stored(self, outcome_index: int) -> Quotes:
        return self._kept(("stored", outcome_index), lambda: quotes_from(self._prices, outcome_index))

    def _substitutes(self, outcome_index: int) -> Iterator[Quotes]:
        """What may stand for prices that are not stored, best first."""
        binary, other = len(self.market.instruments) == 2, 1 - outcome_index
        if binary:
            yield self._kept(("mirrored", outcome_index), lambda: self._stored(other).mirrored())
        if outcome_index == 0:
            yield self._kept(("book", 0), lambda: book_quotes(self.book_log))
        elif binary:
            book = self._kept(("book", 0), lambda: book_quotes(self.book_log))
            yield self._kept(("book", 1), book.mirrored)

    def _kept(self, name: tuple[str, int], make: Callable[[], Quotes]) -> Quotes:
        if name not in self._quotes:
            self._quotes[name] = make()
        return self._quotes[name]

    def _rows(self, name: str) -> pa.Table:
        rows = self._read(name)
        return table(name).arrow.empty_table() if rows is None else rows


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AsOfView:
    """One market as it was known at ``until``. A view can be narrowed, never widened."""

    _data: MarketData
    until: Nanos
    market: Market

    def __repr__(self) -> str:
        return f"AsOfView({self.market.key}, until={self.until})"

    def as_of(self, t: Nanos) -> Self:
        """The same market as known at the earlier time ``t``; costs next to nothing.

        Raises :class:`LookAheadError` for a time after ``until``.
        """
        return type(self)(self._data, self._not_later(t), self.market)

    def quotes(self, outcome_index: int = 0) -> Quotes:
        """The quotes of an outcome; see :meth:`MarketData.quotes` for where they come from."""
        return self._data.quotes(outcome_index, self.until)

    def trades(self) -> TradeArrays:
        """The trades of all outcomes."""
        return self._data.trades.until(self.until)

    def fills(self) -> FillArrays:
        """The on-chain fills of all outcomes, with their wallets; none where nobody has read them."""
        return self._data.fills.until(self.until)

    def book_log(self) -> BookLog:
        """The messages of the book of outcome 0."""
        return self._data.book_log.until(self.until)

    def book(self, at: Nanos | None = None) -> Book | None:
        """The book of outcome 0 as known at ``at`` (by default ``until``).

        ``None`` before the first snapshot, after a gap, while it is crossed, or where no book is stored.
        """
        return self._data.book(self.until if at is None else self._not_later(at))

    def _not_later(self, t: Nanos) -> Nanos:
        if t > self.until:
            raise LookAheadError(
                f"{format_time(t)} was asked of a view of {self.market.key} that ends at "
                f"{format_time(self.until)}: a strategy may only look back"
            )
        return t


def view_of(data: MarketData, until: Nanos = FOREVER) -> AsOfView:
    """A view of data that is already loaded."""
    return AsOfView(data, until, data.market.as_listed())


def data_shown_by(view: AsOfView) -> MarketData:
    """What a view shows as data of their own: for the engine, which rehearses on them and may see no more."""
    return view._data.known_at(view.until)


def open_view(lake: Lake, market: Market, until: Nanos | None = None) -> AsOfView:
    """A view of one market in a lake; without ``until`` it shows everything that is stored.

    Raises :class:`MissingPartitionError` when nothing is stored about the market.
    """
    return view_of(MarketData.load(lake, market), FOREVER if until is None else until)
