"""A market's recorded events as the kernel reads them: three columns, and an event is one store.

``cell`` says in sixteen bits what an event is about. With ``n`` price levels:

| cell | event | size |
|---|---|---|
| 2 x level + side | the level of that side now holds | contracts |
| 2n + 2 x level + side | a taker hit that side of the book at the level | contracts |
| 4n | reset: a snapshot begins, the book is empty | |
| 4n + 1 | the snapshot is complete | |
| 4n + 2 | gap: the book is lost until the next reset | |
| 4n + 3 | the ticks change, which loses the book too | the number of the new era |
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.kernel.grid import OFF_GRID, Grid
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.market import TickRange
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.arrays import ASK, BID, BUY, GAP, LEVEL, RESET, BookLog, TradeArrays
from pm_pipeline.warehouse.records import Ints
from pm_pipeline.warehouse.replay import Clock

Cells: TypeAlias = npt.NDArray[np.uint16]

ON_RESET: Final = 0
ON_COMPLETE: Final = 1
ON_GAP: Final = 2
ON_TICKS: Final = 3

Era: TypeAlias = tuple[Nanos, Sequence[TickRange]]
"""Since when which ticks hold."""


class Rows(NamedTuple):
    """Encoded events: when they happened, when an outsider knew, what they are about."""

    ts: Ints
    known_at: Ints
    cell: Cells
    size: Ints


class StreamSource(Protocol):
    """A market's events in pieces, for a :class:`~pm_pipeline.engine.kernel.session.Session` to play."""

    @property
    def grid(self) -> Grid:
        """The levels of all pieces."""
        ...

    def pieces(self) -> Iterator["Stream"]:
        """The stream from its start, cut anywhere; a piece is not changed once it was given."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """The events of one market's book in the order of time. ``controls`` are the rows from ``4n`` on.

    At one moment: the change of ticks, trades, then the messages of the book in the venue's order.
    """

    grid: Grid
    ts: Ints
    known_at: Ints
    cell: Cells
    size: Ints
    controls: Ints

    @classmethod
    def of_rows(cls, grid: Grid, rows: Rows) -> Self:
        """A stream of rows that are encoded already.

        Raises :class:`UsageError` where time runs backwards, or a cell or size is impossible.
        """
        ts, known_at, cell, size = (
            np.require(column, dtype, ["C", "W"])
            for column, dtype in zip(rows, (np.int64, np.int64, np.uint16, np.int64), strict=True)
        )
        if np.any(np.diff(ts) < 0):
            raise UsageError("the events of a stream must be in the order of time; sort them by ts")
        if len(cell) and (int(cell.max()) > 4 * len(grid) + ON_TICKS or int(size.min()) < 0):
            raise UsageError("an event names a level outside the grid, or a negative size")
        return cls(grid, ts, known_at, cell, size, np.flatnonzero(cell >= 4 * len(grid)))

    @classmethod
    def of(
        cls,
        log: BookLog,
        eras: Sequence[Era],
        *,
        trades: TradeArrays | None = None,
        clock: Clock = "ts",
    ) -> Self:
        """The stream of a recorded market. Trades that were negotiated off the book are left out.

        Raises :class:`UsageError` without eras, or for a trade at an impossible price.
        """
        if not eras:
            raise UsageError("a book needs the ticks of its market; give at least one era")
        tape = _prints(trades, clock) if trades is not None else None
        seen = [log.price[log.kind == LEVEL], *([tape[2]] if tape else [])]
        grid = Grid.of([ranges for _, ranges in eras], seen)
        parts = [_tick_rows(grid, eras)]
        if tape is not None:
            ts, known_at, price, side, size = tape
            if np.any((price < 0) | (price > MICRO)):
                raise UsageError("a trade has an impossible price; a book holds prices from 0 to 1")
            cell = 2 * len(grid) + 2 * grid.levels(price) + side
            parts.append(Rows(ts, known_at, cell.astype(np.uint16), size))
        parts.append(_with_ends(grid, *encode(log, grid, clock)))
        order = np.argsort(np.concatenate([part.ts for part in parts]), kind="stable")
        columns: list[npt.NDArray[Any]] = [
            np.concatenate(pieces)[order] for pieces in zip(*parts, strict=True)
        ]
        return cls.of_rows(grid, Rows(*columns))

    @classmethod
    def empty(cls, grid: Grid) -> Self:
        """A stream without any event."""
        none = np.empty(0, np.int64)
        return cls.of_rows(grid, Rows(none, none, none.astype(np.uint16), none))

    def pieces(self) -> Iterator["Stream"]:
        """The whole stream, which is one piece."""
        yield self

    def __len__(self) -> int:
        return len(self.ts)


class Piece:
    """A piece of a stream and the way to the next one.

    Nothing leads back, so what lies behind is let go of, unless somebody still holds it to return there.
    """

    __slots__ = ("_following", "_rest", "before", "stream")

    def __init__(self, stream: Stream, rest: Iterator[Stream], before: Nanos = 0) -> None:
        self.stream = stream
        self.before = before
        self._rest: Iterator[Stream] | None = rest
        self._following: Piece | None = None

    @classmethod
    def first(cls, source: StreamSource) -> Self:
        """Where a stream starts; nothing of it is read yet."""
        return cls(Stream.empty(source.grid), source.pieces())

    def following(self) -> "Piece | None":
        """The next piece, or ``None`` at the end."""
        if self._rest is not None:
            stream = next(self._rest, None)
            if stream is not None:
                self._following = Piece(stream, self._rest, self.time_of(len(self.stream) - 1))
            self._rest = None
        return self._following

    def time_of(self, row: int) -> Nanos:
        """When an event of the piece happened; of row -1, the last event before it."""
        return int(self.stream.ts[row]) if row >= 0 else self.before


def encode(log: BookLog, grid: Grid, clock: Clock = "ts") -> tuple[Rows, npt.NDArray[np.bool_]]:
    """The rows of a log in the order of a clock, and which of them end a message.

    By ``ts`` the venue's order counts and time never falls. By ``known_at`` a message that arrives after a
    later one counts as a gap, as in :class:`~pm_pipeline.warehouse.replay.BookReplay`.
    """
    order = np.lexsort((log.kind, log.seq)) if clock == "ts" else np.arange(len(log))
    times = np.maximum.accumulate(log.ts[order]) if clock == "ts" and len(log) else log.known_at
    seq, kind = log.seq[order], log.kind[order]
    late = np.zeros(len(log), np.bool_)
    late[1:] = seq[1:] < np.maximum.accumulate(seq)[:-1]
    kind = np.where(late, GAP, kind)
    level = kind == LEVEL
    place = grid.levels(log.price[order])
    if np.any(level & (place == OFF_GRID)):
        raise UsageError("the book holds a price that its grid has not; build the grid with the prices seen")
    control = np.select([kind == RESET, kind == GAP], [ON_RESET, ON_GAP], default=0)
    cell = np.where(level, 2 * place + log.side[order], 4 * len(grid) + control)
    size = np.where(level, log.size[order], 0)
    last = np.ones(len(log), np.bool_)
    last[:-1] = (np.diff(seq) != 0) | (np.diff(times) != 0)
    return Rows(times, log.known_at[order], cell.astype(np.uint16), size), last


def _with_ends(grid: Grid, rows: Rows, last: npt.NDArray[np.bool_]) -> Rows:
    """The rows with a mark after each message that holds a snapshot."""
    resets = np.flatnonzero(rows.cell == 4 * len(grid) + ON_RESET)
    ends = np.flatnonzero(last)
    at = np.unique(ends[np.searchsorted(ends, resets)])
    marks: tuple[Any, ...] = (
        rows.ts[at],
        rows.known_at[at],
        np.uint16(4 * len(grid) + ON_COMPLETE),
        np.int64(0),
    )
    columns: list[npt.NDArray[Any]] = list(rows)
    return Rows(*(np.insert(column, at + 1, mark) for column, mark in zip(columns, marks, strict=True)))


def _tick_rows(grid: Grid, eras: Sequence[Era]) -> Rows:
    starts = np.array([since for since, _ in eras[1:]], np.int64)
    numbers = np.arange(1, len(eras), dtype=np.int64)
    cell = np.full(len(starts), 4 * len(grid) + ON_TICKS, np.uint16)
    return Rows(starts, starts, cell, numbers)


def _prints(trades: TradeArrays, clock: Clock) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Trades as they hit the book of outcome 0: time, known, price, the side that was hit, size."""
    if np.any((trades.outcome_index > 1) & ~trades.is_block):
        raise UsageError("only the two outcomes of a binary market share a book")
    kept = np.flatnonzero(~trades.is_block & (trades.size > 0))
    times = trades.ts if clock == "ts" else trades.known_at
    kept = kept[np.argsort(times[kept], kind="stable")]
    mirrored = trades.outcome_index[kept] == 1
    price = np.where(mirrored, MICRO - trades.price[kept], trades.price[kept])
    buys = (trades.side[kept] == BUY) != mirrored
    side = np.where(buys, ASK, BID).astype(np.int64)
    return times[kept], trades.known_at[kept], price, side, trades.size[kept]
