"""The kernel's book: an array with one cell per level and side.

A cell holds the displayed size. A cell from which we took holds its complement, ``~size``, which is negative:
so whatever event sets the level anew also wipes out the memory of what we took, at no cost. What we took
stands in another array and counts only while the mark is there.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.kernel.cache import compile_entry, entry, jit
from pm_pipeline.engine.kernel.grid import Grid
from pm_pipeline.engine.kernel.stream import Cells, encode
from pm_pipeline.markets.book import Book
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.warehouse.arrays import ASK, BID, LEVEL, BookLog
from pm_pipeline.warehouse.records import Ints
from pm_pipeline.warehouse.replay import Clock


@jit
def displayed(raw: int) -> int:
    """The displayed size of a cell, whether we took from it or not."""
    return raw if raw >= 0 else ~raw


@jit
def best_bid(book: Ints, levels: int) -> int:
    """The highest level that somebody bids at, or -1."""
    for level in range(levels - 1, -1, -1):
        raw = book[2 * level]
        if raw != 0 and raw != -1:
            return level
    return -1


@jit
def best_ask(book: Ints, levels: int) -> int:
    """The lowest level that somebody offers at, or ``levels``."""
    for level in range(levels):
        raw = book[2 * level + 1]
        if raw != 0 and raw != -1:
            return level
    return levels


@entry
def _touches(
    cell: Cells,
    size: Ints,
    last: npt.NDArray[np.bool_],
    book: Ints,
    rows: Ints,
    bids: Ints,
    asks: Ints,
) -> int:
    """Replay with the best levels kept; note each message that changed them (-1: none). Returns how many."""
    levels = len(book) // 2
    bid, ask, known, found = -1, levels, False, 0
    told_bid, told_ask = -1, -1
    for row in range(len(cell)):
        c: Any = np.int64(cell[row])
        if c < 2 * levels:
            if known:
                level = c >> 1
                book[c] = size[row]
                if c & 1:
                    if size[row] > 0:
                        ask = min(ask, level)
                    elif level == ask:
                        while ask < levels and book[2 * ask + 1] == 0:
                            ask += 1
                elif size[row] > 0:
                    bid = max(bid, level)
                elif level == bid:
                    while bid >= 0 and book[2 * bid] == 0:
                        bid -= 1
        else:
            book[:] = 0
            bid, ask, known = -1, levels, c == 4 * levels
        if last[row]:
            usable = known and bid < ask
            now_bid = bid if usable else -1
            now_ask = ask if usable and ask < levels else -1
            if now_bid != told_bid or now_ask != told_ask:
                told_bid, told_ask = now_bid, now_ask
                rows[found], bids[found], asks[found] = row, now_bid, now_ask
                found += 1
    return found


def touches(log: BookLog, clock: Clock = "ts") -> tuple[Ints, Ints, Ints]:
    """Best bid and offer (-1: none) after each message that changed them, and that message's last row.

    The rows are those of the log in the order of the clock; the result is that of
    :meth:`~pm_pipeline.warehouse.replay.BookReplay.touches`, compiled.
    """
    prices = log.price[log.kind == LEVEL]
    if not len(log):
        return (np.empty(0, np.int64),) * 3
    # no tick is asked for here: the prices seen are all that matters
    compile_entry(_touches)
    grid = Grid.of([], [prices if len(prices) else np.zeros(1, np.int64)])
    rows, last = encode(log, grid, clock)
    found = tuple(np.empty(int(last.sum()), np.int64) for _ in range(3))
    count = _touches(rows.cell, rows.size, last, np.zeros(2 * len(grid), np.int64), *found)
    at, bids, asks = (column[:count] for column in found)
    priced = np.append(grid.prices, -1)  # level -1 is the last entry: no price
    return at, priced[bids], priced[asks]


def book_of(cells: Ints, grid: Grid, ts: Nanos) -> Book:
    """The displayed sizes of a kernel book as a :class:`~pm_pipeline.markets.book.Book`."""
    sides = (
        [(int(grid.prices[n]), int(cells[2 * n + side])) for n in np.flatnonzero(cells[side::2]).tolist()]
        for side in (BID, ASK)
    )
    return Book.of(ts, *sides)
