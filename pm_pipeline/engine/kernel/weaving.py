"""Rows of the lake woven into rows of a stream: the compiled part of the reader.

It works on batches of rows as they come, and keeps a few numbers from one call to the next, so that batches
and pieces may end anywhere, within a message or a snapshot too.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from pm_pipeline.engine.kernel.cache import entry, jit
from pm_pipeline.engine.kernel.stream import ON_COMPLETE, ON_GAP, ON_RESET, ON_TICKS, Cells
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.arrays import BUY, GAP, LEVEL, RESET
from pm_pipeline.warehouse.records import Ints

NEVER: Final = 2**63 - 1
UNKNOWN: Final = 2**16 - 1
"""Stands for the level of a price that the grid has not."""

# why the weaving stopped
FULL = 0
END = 1
NEEDS_BOOK = 2
NEEDS_PRINTS = 3
DISORDER = 4
BAD_LEVEL = 5
NEW_PRICE = 6
LATE = 7
BAD_OUTCOME = 8
BAD_PRICE = 9
LATE_PRINT = 10

# the places of what the weaving remembers
BOOK_AT = 0
BOOK_MORE = 1
PRINT_AT = 2
PRINT_MORE = 3
TICK_AT = 4
ROWS = 5
CONTROLS = 6
TIME = 7
KNOWN = 8
SEQ = 9
KIND = 10
OPEN = 11
HOLDS = 12
PRINTED = 13
SMOOTH = 14
PLACES = 15


def _read_only(dtype: Any) -> Any:
    return types.Array(dtype, 1, "C", readonly=True)


class Books(NamedTuple):
    """A batch of the book: times in microseconds, and text as codes with what each code means.

    A null is -1; entry 0 of ``kinds`` and ``sides`` is the meaning of code -1. ``seq`` and ``kind`` have no
    rows in a row group of nothing but levels, none of them of a message that another group has a part of;
    then ``last`` is the greatest ``seq`` of the group.
    """

    times: Ints
    known: Ints
    seq: Ints
    kind: npt.NDArray[np.int32]
    side: npt.NDArray[np.int32]
    price: Ints
    size: Ints
    kinds: Ints
    sides: Ints
    last: int

    @classmethod
    def numba_type(cls) -> Any:
        """The one type that the weaving is compiled for."""
        wide, codes = _read_only(types.int64), _read_only(types.int32)
        make: Any = types.NamedTuple
        return make([wide, wide, wide, codes, codes, wide, wide, wide, wide, types.int64], cls)


class Prints(NamedTuple):
    """Trades, in the form of :class:`Books`."""

    times: Ints
    known: Ints
    outcome: npt.NDArray[np.int32]
    side: npt.NDArray[np.int32]
    price: Ints
    size: Ints
    block: npt.NDArray[np.int8]
    sides: Ints

    @classmethod
    def numba_type(cls) -> Any:
        """The one type that the weaving is compiled for."""
        wide, codes = _read_only(types.int64), _read_only(types.int32)
        make: Any = types.NamedTuple
        return make([wide, wide, codes, codes, wide, wide, _read_only(types.int8), wide], cls)


class Woven(NamedTuple):
    """A piece while it is filled; ``known`` has no rows where nobody asked for it."""

    ts: Ints
    known: Ints
    cell: Cells
    size: Ints
    controls: Ints

    @classmethod
    def numba_type(cls) -> Any:
        """The one type that the weaving is compiled for."""
        wide = types.Array(types.int64, 1, "C")
        make: Any = types.NamedTuple
        return make([wide, wide, types.Array(types.uint16, 1, "C"), wide, wide], cls)


@jit
def put(out: Woven, state: Ints, ts: int, known: int, cell: int, size: int) -> None:
    """Append one event."""
    row = state[ROWS]
    out.ts[row], out.cell[row], out.size[row] = ts, cell, size
    if len(out.known) > 0:
        out.known[row] = known
    state[ROWS] = row + 1


@jit
def turn_over(out: Woven, state: Ints, ts: int, known: int, cell: int, size: int) -> None:
    """Append an event that is about the whole book."""
    out.controls[state[CONTROLS]] = state[ROWS]
    state[CONTROLS] += 1
    put(out, state, ts, known, cell, size)


@jit
def put_print(prints: Prints, level_of: Cells, out: Woven, state: Ints, levels: int) -> int:
    """Append a trade as it hit the book of outcome 0; a code where it cannot have."""
    row = state[PRINT_AT]
    ts, price, outcome = prints.times[row] * 1000, prints.price[row], prints.outcome[row]
    if ts < state[PRINTED]:
        return LATE_PRINT
    if outcome > 1:
        return BAD_OUTCOME
    if price < 0 or price > MICRO:
        return BAD_PRICE
    if outcome == 1:
        price = MICRO - price
    buys = (prints.sides[prints.side[row] + 1] == BUY) != (outcome == 1)
    level: Any = np.int64(level_of[price])
    if level == UNKNOWN:
        return NEW_PRICE
    known = prints.known[row] * 1000 if len(prints.known) > 0 else 0
    cell = 2 * levels + 2 * level + (1 if buys else 0)
    put(out, state, ts, known, cell, prints.size[row])
    state[PRINT_AT], state[PRINTED] = row + 1, ts
    return FULL


@jit
def seq_of(books: Books, row: int) -> int:
    """The order of a row, or one that serves as well."""
    return books.seq[row] if len(books.seq) > 0 else books.last


@jit
def kind_of(books: Books, row: int) -> int:
    """What a row is."""
    return books.kinds[books.kind[row] + 1] if len(books.kind) > 0 else LEVEL


@jit
def smooth_from(books: Books, at: int) -> int:
    """How far levels follow a level, time and order never falling.

    Blocks of rows are looked at as a whole: a difference that is negative makes the bitwise sum of all
    negative, so that no row is a branch of its own.
    """
    row, end, full = at + 1, len(books.times), len(books.seq) > 0
    while row < end:
        stop = min(row + 256, end)
        signs, other = 0, 0
        now, before = books.times[row:stop], books.times[row - 1 : stop - 1]
        for n in range(stop - row):
            signs |= now[n] - before[n]
        if full:
            now, before = books.seq[row:stop], books.seq[row - 1 : stop - 1]
            for n in range(stop - row):
                signs |= now[n] - before[n]
            kind, first = books.kind[row:stop], books.kind[at]
            for n in range(stop - row):
                other |= kind[n] ^ first
        if signs < 0 or other != 0:
            break
        row = stop
    if full:
        while (
            row < end
            and books.times[row - 1] <= books.times[row]
            and books.seq[row - 1] <= books.seq[row]
            and books.kind[row] == books.kind[at]
        ):
            row += 1
    else:
        while row < end and books.times[row - 1] <= books.times[row]:
            row += 1
    return row


@jit
def rows_before(books: Books, at: int, end: int, limit: int) -> int:
    """The first row from ``at`` on whose time is not before a limit; times do not fall."""
    while at + 16 <= end:
        count = 0
        for n in range(16):
            count += books.times[at + n] < limit
        at += count
        if count < 16:
            return at
    while at < end and books.times[at] < limit:
        at += 1
    return at


@jit
def put_smooth(
    books: Books, prints: Prints, level_of: Cells, out: Woven, state: Ints, levels: int, turned: int
) -> None:
    """Append levels and trades in turn, as long as nothing about them is unusual; nearly all events are so.

    It stops before what is, at the next change of ticks, and at the end of a batch or of the piece.
    """
    at, row, printed = state[BOOK_AT], state[ROWS], state[PRINT_AT]
    if state[SMOOTH] <= at:
        state[SMOOTH] = smooth_from(books, at)
    end, room, trades = state[SMOOTH], len(out.ts), len(prints.times)
    keeps = len(out.known) > 0
    turning = turned if turned == NEVER else -(-turned // 1000)
    while row < room and at < end:
        limit = turning
        if printed < trades:
            limit = min(limit, prints.times[printed])
        elif state[PRINT_MORE]:
            break
        stop = rows_before(books, at, min(end, at + room - row), limit)
        ts, cell, size = out.ts[row:], out.cell[row:], out.size[row:]
        times, side = books.times[at:stop], books.side[at:stop]
        price, sizes = books.price[at:stop], books.size[at:stop]
        signs = 0
        for n in range(stop - at):
            ts[n] = times[n] * 1000
        for n in range(stop - at):
            size[n] = sizes[n]
            signs |= sizes[n]
        for n in range(stop - at):
            where = books.sides[side[n] + 1]
            level: Any = np.int64(level_of[min(np.uint64(price[n]), np.uint64(MICRO + 1))])
            signs |= where | (UNKNOWN - 1 - level)
            cell[n] = 2 * level + where
        if signs < 0:
            break
        if keeps:
            for n in range(at, stop):
                out.known[row + n - at] = books.known[n] * 1000
        row, at = row + stop - at, stop
        if at == end or row == room or printed == trades or limit == turning:
            break
        paid, traded, outcome = prints.price[printed], prints.size[printed], prints.outcome[printed]
        if prints.block[printed] or traded <= 0 or paid < 0 or paid > MICRO or outcome > 1:
            break
        level = np.int64(level_of[MICRO - paid if outcome == 1 else paid])
        if level == UNKNOWN or prints.times[printed] * 1000 < state[PRINTED]:
            break
        buys = (prints.sides[prints.side[printed] + 1] == BUY) != (outcome == 1)
        out.ts[row], out.size[row] = prints.times[printed] * 1000, traded
        out.cell[row] = 2 * levels + 2 * level + (1 if buys else 0)
        if keeps:
            out.known[row] = prints.known[printed] * 1000
        state[PRINTED] = prints.times[printed] * 1000
        printed, row = printed + 1, row + 1
    if at > state[BOOK_AT]:
        state[TIME], state[SEQ] = books.times[at - 1] * 1000, seq_of(books, at - 1)
        if keeps:
            state[KNOWN] = books.known[at - 1] * 1000
    state[BOOK_AT], state[ROWS], state[PRINT_AT] = at, row, printed


@jit
def put_levels(books: Books, level_of: Cells, out: Woven, state: Ints, before: int) -> int:
    """Append levels with a look at each: to a moment, to a row that is none, to the end of an open snapshot.

    Returns a code where a row is impossible.
    """
    at, row, end = state[BOOK_AT], state[ROWS], len(out.ts)
    time, seq, still = state[TIME], state[SEQ], state[OPEN] != 0
    keeps, code = len(out.known) > 0, FULL
    while at < len(books.times) and row < end:
        ts = books.times[at] * 1000
        if ts < time:
            if not state[HOLDS]:
                code = LATE
                break
            ts = time
        moved = ts != time or seq_of(books, at) != seq
        if ts >= before or kind_of(books, at) != LEVEL or (still and moved):
            break
        side, price, size = books.sides[books.side[at] + 1], books.price[at], books.size[at]
        if side < 0 or price < 0 or price > MICRO or size < 0:
            code = BAD_LEVEL
            break
        if seq_of(books, at) < seq:
            code = DISORDER
            break
        level: Any = np.int64(level_of[price])
        if level == UNKNOWN:
            code = NEW_PRICE
            break
        out.ts[row], out.cell[row], out.size[row] = ts, 2 * level + side, size
        if keeps:
            out.known[row] = books.known[at] * 1000
        time, seq = ts, seq_of(books, at)
        row += 1
        at += 1
    if keeps and at > state[BOOK_AT]:
        state[KNOWN] = books.known[at - 1] * 1000
    state[BOOK_AT], state[ROWS], state[TIME], state[SEQ] = at, row, time, seq
    return code


@entry
def weave(
    books: Books, prints: Prints, ticks: Ints, level_of: Cells, out: Woven, state: Ints, levels: int
) -> int:
    """Fill a piece; says why it stopped. At one moment: a change of ticks, trades, then the book's rows."""
    while state[ROWS] < len(out.ts):
        at = state[BOOK_AT]
        have = at < len(books.times)
        if not have and state[BOOK_MORE]:
            return NEEDS_BOOK
        ts, moved = NEVER, True
        if have:
            ts = max(books.times[at] * 1000, state[TIME])
            moved = ts != state[TIME] or seq_of(books, at) != state[SEQ]
        if state[OPEN] and moved:
            state[OPEN] = 0
            turn_over(out, state, state[TIME], state[KNOWN], 4 * levels + ON_COMPLETE, 0)
            continue
        while state[PRINT_AT] < len(prints.times) and (
            prints.block[state[PRINT_AT]] or prints.size[state[PRINT_AT]] <= 0
        ):
            state[PRINT_AT] += 1
        printed = NEVER
        if state[PRINT_AT] < len(prints.times):
            printed = prints.times[state[PRINT_AT]] * 1000
        elif state[PRINT_MORE]:
            return NEEDS_PRINTS
        era = state[TICK_AT]
        turned = ticks[era] if era < len(ticks) else NEVER
        code = FULL
        if turned <= min(printed, ts) and turned < NEVER:
            state[TICK_AT] += 1
            turn_over(out, state, turned, turned, 4 * levels + ON_TICKS, era + 1)
        elif printed <= ts and printed < NEVER:
            code = put_print(prints, level_of, out, state, levels)
        elif not have:
            return END
        else:
            kind = kind_of(books, at)
            if not moved and kind < state[KIND]:
                return DISORDER
            state[KIND] = kind
            before = min(printed, turned)
            if kind == LEVEL:
                done = state[ROWS]
                follows = books.times[at] * 1000 >= state[TIME] and seq_of(books, at) >= state[SEQ]
                if follows and not state[OPEN]:
                    put_smooth(books, prints, level_of, out, state, levels, turned)
                if state[ROWS] == done:
                    code = put_levels(books, level_of, out, state, before)
            elif seq_of(books, at) < state[SEQ]:
                return DISORDER
            elif books.times[at] * 1000 < state[TIME] and not state[HOLDS]:
                return LATE
            else:
                state[KNOWN] = books.known[at] * 1000 if len(books.known) > 0 else 0
                state[TIME], state[SEQ], state[BOOK_AT] = ts, seq_of(books, at), at + 1
                state[OPEN] |= kind == RESET
                cell = 4 * levels + (ON_GAP if kind == GAP else ON_RESET)
                turn_over(out, state, ts, state[KNOWN], cell, 0)
        if code != FULL:
            return code
    return FULL


@entry
def note_prices(books: Books, seen: npt.NDArray[np.bool_]) -> None:
    """Mark the prices of all levels."""
    for row in range(len(books.price)):
        if kind_of(books, row) == LEVEL and 0 <= books.price[row] <= MICRO:
            seen[books.price[row]] = True
