"""What happened in a market, one thing after the other, in the order in which an outsider learned of it.

A strategy that goes along with a market reads this and nothing else. At one moment: trades, then the messages
of the book, then quotes.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.kernel.grid import Grid
from pm_pipeline.engine.kernel.stream import ON_GAP, ON_RESET, encode
from pm_pipeline.warehouse.arrays import LEVEL, BookLog, Quotes
from pm_pipeline.warehouse.asof import AsOfView
from pm_pipeline.warehouse.records import Ints


class What(IntEnum):
    """What a row of a feed is. The first three change the book; the others are told to the strategy."""

    LEVEL = 0
    RESET = 1
    GAP = 2
    BOOK = 3
    TRADE = 4
    PRICE = 5


class Rows(NamedTuple):
    """The columns of a feed.

    | what | a | b | c |
    |---|---|---|---|
    | LEVEL | cell of the book | contracts now there | |
    | TRADE | price | contracts | 1: the taker bought, -1: sold |
    | PRICE | mid | bid | ask |
    """

    at: Ints
    what: Ints
    outcome: Ints
    a: Ints
    b: Ints
    c: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """The rows, and the price levels of the book. ``at`` is when each was known."""

    rows: Rows
    grid: Grid

    @classmethod
    def of(cls, view: AsOfView) -> Self:
        """Everything that the view shows.

        The quotes of outcome 1 are left out where they only mirror those of outcome 0.
        """
        log, trades = view.book_log(), view.trades()
        grid = Grid.of([], [log.price[log.kind == LEVEL], _SOMEWHERE])
        on_book = ~trades.is_block
        parts = [
            _rows(
                trades.known_at[on_book],
                What.TRADE,
                trades.outcome_index[on_book],
                trades.price[on_book],
                trades.size[on_book],
                trades.side[on_book],
            ),
            _book_rows(log, grid),
        ]
        first = view.quotes(0)
        for outcome in range(len(view.market.instruments)):
            quotes = view.quotes(outcome)
            if outcome == 0 or not _same(quotes, first.mirrored()):
                parts.append(_rows(quotes.known_at, What.PRICE, outcome, quotes.mid, quotes.bid, quotes.ask))
        order = np.argsort(np.concatenate([part.at for part in parts]), kind="stable")
        return cls(Rows(*(np.concatenate(columns)[order] for columns in zip(*parts, strict=True))), grid)

    def __len__(self) -> int:
        return len(self.rows.at)


_SOMEWHERE: Final = np.zeros(1, np.int64)
"""A grid has at least one level."""


def _rows(at: Ints, what: Any, outcome: Any, a: Any, b: Any, c: Any) -> Rows:
    columns: list[npt.NDArray[Any]] = [
        np.broadcast_to(np.asarray(column, np.int64), at.shape) for column in (at, what, outcome, a, b, c)
    ]
    return Rows(*columns)


def _book_rows(log: BookLog, grid: Grid) -> Rows:
    """The changes of the book, and a row after each message that says so."""
    found, last = encode(log, grid, "known_at")
    kind = found.cell.astype(np.int64) - 4 * len(grid)
    what = np.select([kind == ON_RESET, kind == ON_GAP], [What.RESET, What.GAP], What.LEVEL)
    rows = _rows(found.ts, what, 0, found.cell, found.size, 0)
    ends = np.flatnonzero(last)
    marks = _rows(found.ts[ends], What.BOOK, 0, 0, 0, 0)
    return Rows(*(np.insert(column, ends + 1, mark) for column, mark in zip(rows, marks, strict=True)))


def _same(quotes: Quotes, other: Quotes) -> bool:
    return all(
        np.array_equal(getattr(quotes, name), getattr(other, name))
        for name in ("known_at", "mid", "bid", "ask")
    )
