"""Rebuilding order books from the log of their events, and the quotes that follow from them."""

from collections.abc import Callable, Iterator
from typing import Final, Literal, TypeAlias

import numpy as np

from pm_pipeline.markets import Book, Micro
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.warehouse.arrays import BID, GAP, LEVEL, RESET, BookLog, Quotes
from pm_pipeline.warehouse.records import MISSING, Ints

Clock: TypeAlias = Literal["known_at", "ts"]
"""``known_at``: the book as an outsider could rebuild it. ``ts``: the book as it stood at the venue."""

_NO_TOUCH: Final = (MISSING, MISSING)


class _Side:
    """One side of a book: sizes by price, and the best price (-1: empty)."""

    __slots__ = ("_best_of", "best", "sizes")

    def __init__(self, best_of: Callable[..., Micro]) -> None:
        self._best_of = best_of
        self.clear()

    def clear(self) -> None:
        self.sizes: dict[Micro, Micro] = {}
        self.best = MISSING

    def set(self, price: Micro, size: Micro) -> None:
        if size:
            self.sizes[price] = size
            self.best = price if self.best == MISSING else self._best_of(self.best, price)
        elif self.sizes.pop(price, None) is not None and price == self.best:
            self.best = self._best_of(self.sizes, default=MISSING)


class _State:
    """A book while it is replayed; without a reset since the last gap nothing is known about it."""

    __slots__ = ("asks", "bids", "known")

    def __init__(self) -> None:
        self.bids, self.asks = _Side(max), _Side(min)
        self.known = False

    def apply(self, kind: int, side: int, price: Micro, size: Micro) -> None:
        if kind == LEVEL:
            if self.known:
                (self.bids if side == BID else self.asks).set(price, size)
        else:
            self.bids.clear()
            self.asks.clear()
            self.known = kind == RESET

    @property
    def usable(self) -> bool:
        """Whether the book is known and not crossed."""
        return self.known and (MISSING in (self.bids.best, self.asks.best) or self.bids.best < self.asks.best)

    @property
    def touch(self) -> tuple[Micro, Micro]:
        """Best bid and ask, -1 where there is none."""
        return (self.bids.best, self.asks.best) if self.usable else _NO_TOUCH


class BookReplay:
    """Replays a :class:`BookLog` forward to any time, message by message.

    There is no book before the first reset, after a gap until the next reset, nor while bids and asks
    cross. A message that arrives after a later one counts as a gap: an outsider could not tell what it
    still means.
    """

    def __init__(self, log: BookLog, clock: Clock = "known_at") -> None:
        if clock == "ts":
            order = np.lexsort((log.kind, log.seq))
            self._times: Ints = np.maximum.accumulate(log.ts[order]) if len(log) else log.ts
        else:
            order = np.arange(len(log))
            self._times = log.known_at
        self._ts, self._seq = log.ts[order], log.seq[order]
        late = np.zeros(len(log), dtype=np.bool_)
        late[1:] = self._seq[1:] < np.maximum.accumulate(self._seq)[:-1]
        kinds = np.where(late, GAP, log.kind[order])
        self._rows = (kinds, log.side[order], log.price[order], log.size[order])
        self._resets = np.flatnonzero(kinds == RESET)
        self.rewind()

    def rewind(self) -> None:
        """Go back to before the first message."""
        self._next = 0
        self._now: Nanos | None = None
        self._state = _State()
        self._book: Book | None = None

    def advance(self, t: Nanos) -> Book | None:
        """The book after every message up to ``t``, or ``None`` while there is none to be trusted.

        ``t`` must not be earlier than in the call before; :meth:`rewind` starts again.
        """
        if self._now is not None and t < self._now:
            raise ValueError(f"the replay stands at {self._now} and cannot go back to {t}; rewind it first")
        self._now = t
        end = int(np.searchsorted(self._times, t, side="right"))
        if end > self._next:
            self._apply(self._start(end), end)
            self._next = end
            self._book = self._snapshot()
        return self._book

    def touches(self) -> Iterator[tuple[int, tuple[Micro, Micro]]]:
        """Replay all: the last row of each message that changed best bid and ask, and these (-1: none)."""
        self.rewind()
        same = (np.diff(self._seq) == 0) & (np.diff(self._times) == 0)
        last = _NO_TOUCH
        for row in np.flatnonzero(np.append(~same, len(self._seq) > 0)).tolist():
            self._apply(self._next, row + 1)
            self._next = row + 1
            if self._state.touch != last:
                last = self._state.touch
                yield row, last
        self.rewind()

    def _start(self, end: int) -> int:
        """Where to go on from: nothing before the last reset matters."""
        position = int(np.searchsorted(self._resets, end))
        return max(self._next, int(self._resets[position - 1])) if position else self._next

    def _apply(self, start: int, end: int) -> None:
        apply = self._state.apply
        for row in zip(*(column[start:end].tolist() for column in self._rows), strict=True):
            apply(*row)

    def _snapshot(self) -> Book | None:
        if not self._state.usable:
            return None
        bids, asks = self._state.bids.sizes, self._state.asks.sizes
        return Book.of(int(self._ts[self._next - 1]), bids.items(), asks.items())


def book_quotes(log: BookLog) -> Quotes:
    """Best bid and ask after each message that changed them.

    Where the book is lost, a row without any price says so.
    """
    replay = BookReplay(log)
    touches = list(replay.touches())
    rows = [row for row, _ in touches]
    bid, ask = np.array([touch for _, touch in touches], dtype=np.int64).reshape(-1, 2).T.copy()
    mid = np.where((bid == MISSING) | (ask == MISSING), MISSING, (bid + ask) // 2)
    return Quotes(log.ts[rows], log.known_at[rows], mid, bid, ask)
