"""A market's book played straight from its partition in the lake, in the memory of a row group or two.

The events are those of ``Stream.of(log, eras, trades=trades)`` on the same rows, one by one, in pieces of one
length. The columns of a row group are woven into pieces by compiled code; no column of the whole file is
ever held.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pm_pipeline.engine.kernel import weaving as w
from pm_pipeline.engine.kernel.cache import compile_entry
from pm_pipeline.engine.kernel.grid import Grid
from pm_pipeline.engine.kernel.stream import Era, Stream
from pm_pipeline.engine.kernel.weaving import NEVER, Books, Prints, Woven, note_prices, weave
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.arrays import BOOK_SIDES, KINDS, TAKER_SIDES
from pm_pipeline.warehouse.files import StorageError
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.partition_file import Bounds
from pm_pipeline.warehouse.records import MISSING, Ints
from pm_pipeline.warehouse.replay import Clock

PIECE: Final = 65_536
"""Events in a piece: few enough that they stay in a core's cache until they are played."""

_BOOK: Final = "market_data.book_events"
_TRADES: Final = "market_data.trades"

_LEVELS: Final = ("level", "level")
_SIDES: Final = BOOK_SIDES | {"": MISSING}  # as a file says null

READS: Final = (weave, note_prices)
"""What Python calls of this module's compiled code."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredStream:
    """The recorded events of one market, read as they are played; :meth:`of` makes it.

    Each call of :meth:`pieces` reads from the start. ``known_at`` of a piece is empty unless it is asked for.
    """

    grid: Grid
    lake: Lake
    market_key: str
    eras: Sequence[Era]
    trades: bool
    clock: Clock
    known: bool
    piece: int

    @classmethod
    def of(
        cls,
        lake: Lake,
        market_key: str,
        eras: Sequence[Era],
        *,
        trades: bool = True,
        clock: Clock = "ts",
        known: bool = False,
        piece: int = PIECE,
    ) -> Self:
        """Look through the stored prices, from which the grid follows, and be ready to read.

        ``trades``: with the trades of the market. ``known``: with the times at which an outsider knew.

        Raises :class:`UsageError` without eras, and
        :class:`~pm_pipeline.warehouse.lake.MissingPartitionError` where nothing was stored.
        """
        if not eras:
            raise UsageError("a book needs the ticks of its market; give at least one era")
        for function in READS:
            compile_entry(function)
        ticks = [ranges for _, ranges in eras]
        seen = np.zeros(MICRO + 1, np.bool_)
        listed = lake.values(_BOOK, market_key, "price")
        if listed is not None:
            seen[[price for price in listed if 0 <= price <= MICRO]] = True
        else:
            for rows in lake.stored(_BOOK, market_key, ("kind", "price"), coded=("kind",)):
                note_prices(_books(rows), seen)
        if trades and not _adds_none(lake.values(_TRADES, market_key, "price"), Grid.of(ticks)):
            for rows in lake.stored(_TRADES, market_key, ("outcome_index", "price", "size", "is_block")):
                _note_prints(prints_of(rows), seen)
        grid = Grid.of(ticks, [np.flatnonzero(seen)])
        return cls(grid, lake, market_key, tuple(eras), trades, clock, known or clock == "known_at", piece)

    def pieces(self) -> Iterator[Stream]:
        """The stream from its start.

        Raises :class:`StorageError` for rows that no book can have, and :class:`UsageError` for a trade
        that is impossible, or by ``known_at`` where that falls from one message to the next.
        """
        level_of = np.full(MICRO + 2, w.UNKNOWN, np.uint16)  # the last entry stands for impossible prices
        level_of[self.grid.prices] = np.arange(len(self.grid), dtype=np.uint16)
        ticks = np.array([since for since, _ in self.eras[1:]], np.int64)
        state = np.zeros(w.PLACES, np.int64)
        state[[w.TIME, w.SEQ, w.PRINTED]] = -(2**63)
        state[[w.BOOK_MORE, w.PRINT_MORE]] = 1
        state[w.HOLDS] = self.clock == "ts"
        books, prints = _Feed(self._books(), _books()), _Feed(self._prints(), prints_of())
        code = w.FULL
        while code != w.END:
            out = _woven(self.piece, known=self.known)
            state[[w.ROWS, w.CONTROLS]] = 0
            while (
                code := weave(books.batch, prints.batch, ticks, level_of, out, state, len(self.grid))
            ) > w.END:
                if code == w.NEEDS_BOOK:
                    state[w.BOOK_MORE] = books.turn()
                    state[[w.BOOK_AT, w.SMOOTH]] = 0
                elif code == w.NEEDS_PRINTS:
                    state[w.PRINT_AT], state[w.PRINT_MORE] = 0, prints.turn()
                else:
                    raise self._error(code, books.passed + int(state[w.BOOK_AT]))
            if state[w.ROWS]:
                yield self._stream(out, int(state[w.ROWS]), int(state[w.CONTROLS]))

    def _stream(self, out: Woven, rows: int, controls: int) -> Stream:
        known = out.known[:rows] if self.known else out.known
        return Stream(
            self.grid, out.ts[:rows], known, out.cell[:rows], out.size[:rows], out.controls[:controls].copy()
        )

    def _books(self) -> Iterator[Books]:
        levels = ("side", "price", "size", *self._times())
        columns = ("seq", "kind", *levels)
        last = -1

        def needed(bounds: Bounds) -> tuple[str, ...]:
            nonlocal last
            before, (first, last) = last, bounds("seq") or (-1, NEVER)
            return levels if first > before and bounds("kind") == _LEVELS else columns

        stored = self.lake.stored(
            _BOOK,
            self.market_key,
            columns,
            coded=("kind", "side"),
            rows=self.piece,
            needed=needed,
        )
        for rows in stored:
            yield _books(rows, self.clock, last)

    def _prints(self) -> Iterator[Prints]:
        if not self.trades:
            return
        columns = ("ts", "known_at", "outcome_index", "price", "size", "side", "is_block")
        few = max(1, self.piece // 4)  # a book changes far more often than it trades
        batches = self.lake.stored(_TRADES, self.market_key, columns, coded=("side",), rows=few)
        for rows in _in_order(batches, self.clock):
            yield prints_of(rows, self.clock, known=self.known)

    def _times(self) -> tuple[str, ...]:
        return ("known_at",) if self.clock == "known_at" else ("ts", "known_at") if self.known else ("ts",)

    def _error(self, code: int, row: int) -> Exception:
        where = f"{_BOOK} of {self.market_key}"
        if code == w.NEW_PRICE:
            return StorageError(
                f"the book or the trades of {self.market_key} were replaced meanwhile; run again"
            )
        if code in _TRADE_ERRORS:
            return UsageError(_TRADE_ERRORS[code])
        seqs = (
            seq for batch in self.lake.batches(_BOOK, self.market_key, ("seq",)) for seq in batch.column(0)
        )
        seq = next(islice(seqs, row, None))
        if code == w.LATE:
            return UsageError(f"{where}: seq {seq} {_UNORDERED}")
        return StorageError(f"{where}: seq {seq} {_BOOK_ERRORS[code]}; materialise it again")


_UNORDERED: Final = (
    "became known before what precedes it; read all rows and use Stream.of, which puts them in order"
)
_BOOK_ERRORS: Final = {
    w.BAD_LEVEL: "sets no possible level",
    w.DISORDER: "does not begin with its reset, or comes after a later one",
}
_TRADE_ERRORS: Final = {
    w.BAD_OUTCOME: "only the two outcomes of a binary market share a book",
    w.BAD_PRICE: "a trade has an impossible price; a book holds prices from 0 to 1",
    w.LATE_PRINT: f"a trade {_UNORDERED}",
}


class _Feed:
    """Batches one after the other; only one is held. ``passed`` counts the rows of those before it."""

    __slots__ = ("_none", "_rest", "batch", "passed")

    def __init__(self, rest: Iterator[Any], none: Any) -> None:
        self._rest, self._none, self.batch, self.passed = rest, none, none, 0

    def turn(self) -> bool:
        """Let go of the batch and take the next; whether there was one."""
        self.passed += len(self.batch.times)
        self.batch = self._none
        following = next(self._rest, None)
        self.batch = self._none if following is None else following
        return following is not None


def _woven(rows: int, *, known: bool) -> Woven:
    ts, size, controls = (_room(rows, np.int64) for _ in range(3))
    return Woven(ts, _room(rows * known, np.int64), _room(rows, np.uint16), size, controls)


def _room(rows: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Room from Arrow's pool, which gives the same memory again and again; the system's would be new."""
    return np.frombuffer(pa.allocate_buffer(rows * np.dtype(dtype).itemsize), dtype)


def _books(rows: pa.RecordBatch | None = None, clock: Clock = "ts", last: int = 0) -> Books:
    """A batch as the weaving takes it; columns that were not read have no rows."""
    read = _Reader(rows)
    return Books(
        times=read.numbers(clock, np.int64),
        known=read.numbers("known_at", np.int64),
        seq=read.numbers("seq", np.int64),
        kind=read.codes("kind"),
        side=read.codes("side"),
        price=read.numbers("price", np.int64),
        size=read.numbers("size", np.int64),
        kinds=read.meanings("kind", KINDS),
        sides=read.meanings("side", _SIDES),
        last=last,
    )


def prints_of(rows: pa.RecordBatch | None = None, clock: Clock = "ts", *, known: bool = True) -> Prints:
    """The trades of a batch in place; ``clock`` names the column of their times."""
    read = _Reader(rows)
    return Prints(
        times=read.numbers(clock, np.int64),
        known=read.numbers("known_at" if known else "", np.int64),
        outcome=read.numbers("outcome_index", np.int32),
        side=read.codes("side"),
        price=read.numbers("price", np.int64),
        size=read.numbers("size", np.int64),
        block=read.numbers("is_block", np.int8),
        sides=read.meanings("side", TAKER_SIDES),
    )


class _Reader:
    """The columns of a batch as arrays that share its memory, as far as it holds no null."""

    __slots__ = ("_columns",)

    def __init__(self, rows: pa.RecordBatch | None) -> None:
        self._columns: Mapping[str, Any] = {}
        if rows is not None:
            self._columns = dict(zip(rows.schema.names, rows.columns, strict=True))

    def numbers(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The values as they lie in memory, null as -1; times are in microseconds."""
        column = self._columns.get(name)
        if column is None:
            return _frozen(np.empty(0, dtype))
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        return _in_place(column, dtype)

    def codes(self, name: str) -> npt.NDArray[np.int32]:
        """The codes of a text column."""
        column = self._columns.get(name)
        if column is None:
            return _frozen(np.empty(0, np.int32))
        return _in_place(column.indices, np.int32)

    def meanings(self, name: str, known: Mapping[Any, int]) -> Ints:
        """What each code of a text column means, from code -1 on."""
        column = self._columns.get(name)
        words = [] if column is None else column.dictionary.to_pylist()
        if unknown := [word for word in words if word not in known]:
            raise StorageError(
                f"{unknown[0]!r} is none of {', '.join(map(str, known))}; materialise the partition again"
            )
        return _frozen(np.array([MISSING, *(known[word] for word in words)], np.int64))


def _in_place(values: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The memory of an array, null as -1. What pyarrow offers for either would import pandas."""
    bitmap, buffer = values.buffers()
    if buffer is None or not len(values):
        return _frozen(np.empty(0, dtype))
    start, rows = values.offset, len(values)
    numbers = np.frombuffer(buffer, dtype, rows, start * np.dtype(dtype).itemsize)
    if values.null_count:
        valid = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")[start : start + rows]
        numbers = np.where(valid, numbers, np.array(MISSING, dtype))
    return _frozen(numbers)


def _frozen(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values.flags.writeable = False
    return values


def _adds_none(listed: list[int] | None, declared: Grid) -> bool:
    """Whether trades at these prices, of either outcome, are all on declared ticks."""
    if listed is None:
        return False
    price = np.array(listed, np.int64)
    return bool(np.isin(np.concatenate([price, MICRO - price]), declared.prices).all())


def _note_prints(prints: Prints, seen: npt.NDArray[np.bool_]) -> None:
    kept = (prints.block == 0) & (prints.size > 0) & (prints.price >= 0) & (prints.price <= MICRO)
    price = np.where(prints.outcome == 1, MICRO - prints.price, prints.price)
    seen[price[kept]] = True


def _in_order(batches: Iterator[pa.RecordBatch], clock: Clock) -> Iterator[pa.RecordBatch]:
    """Trades of one moment in the order in which they became known, however the batches cut them."""
    held: pa.RecordBatch | None = None
    for batch in batches:
        if held is not None and _time(held, -1) == _time(batch, 0):
            held = _joined(held, batch)
            continue
        if held is not None:
            yield _sorted(held, clock)
        held = batch
    if held is not None:
        yield _sorted(held, clock)


def _time(rows: pa.RecordBatch, row: int) -> int:
    return int(_Reader(rows.select(["ts"])).numbers("ts", np.int64)[row])


def _joined(first: pa.RecordBatch, second: pa.RecordBatch) -> pa.RecordBatch:
    both = pa.Table.from_batches([first, second]).unify_dictionaries()
    return both.combine_chunks().to_batches()[0]


def _sorted(rows: pa.RecordBatch, clock: Clock) -> pa.RecordBatch:
    if clock == "known_at":
        return rows
    read = _Reader(rows)
    ts, known = read.numbers("ts", np.int64), read.numbers("known_at", np.int64)
    if not np.any((np.diff(ts) == 0) & (np.diff(known) < 0)):
        return rows
    return rows.take(pa.array(np.lexsort((known, ts))))
