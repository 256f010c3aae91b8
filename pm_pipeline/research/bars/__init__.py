"""Trades in bars of equal length.

The trades of a partition are read a piece at a time, in the order in which they lie: memory is that of a
piece and of the bars.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.engine.kernel.cache import compile_entry
from pm_pipeline.engine.kernel.reader import prints_of
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO
from pm_pipeline.research.bars.kernel import (
    BOUGHT,
    CLOSE,
    COUNT,
    DOLLARS,
    END,
    FIELDS,
    HIGH,
    KNOWN,
    LOW,
    OPEN,
    REST,
    VOLUME,
    add_trades,
)
from pm_pipeline.warehouse.arrays import TAKER_SIDES
from pm_pipeline.warehouse.columns import Kind
from pm_pipeline.warehouse.files import StorageError
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.partition_file import PartitionInfo
from pm_pipeline.warehouse.records import Ints
from pm_pipeline.warehouse.schema import table

__all__ = ["BARS", "COLUMNS", "MADE_OF", "PIECE", "TRADES", "bars_of", "write_bars"]

TRADES: Final = "market_data.trades"
BARS: Final = "market_data.trade_bars"

MADE_OF: Final = "trades"
"""Footer key of a partition of bars: fingerprint of the trades that they were made of, and their length."""

COLUMNS: Final = (
    *("outcome_index", "ts", "known_at", "price", "size", "side", "is_block"),
    "ingested_at",
)
"""What is read of the trades."""

PIECE: Final = 32_768
"""Trades at once: their bars fit into the processor's cache."""

_SECOND: Final = 1_000_000
"""Microseconds."""

_FIELD_OF: Final = {
    "open": OPEN,
    "high": HIGH,
    "low": LOW,
    "close": CLOSE,
    "volume": VOLUME,
    "bought": BOUGHT,
}


def write_bars(lake: Lake, market: str, *, outcomes: int, period_s: int = 60) -> PartitionInfo:
    """Fill the bars of a market of so many outcomes from its stored trades, and say what was written.

    Bars of these very trades are left as they are. Raises
    :class:`~pm_pipeline.warehouse.lake.MissingPartitionError` where nobody has fetched the trades.
    """
    trades, former = lake.info(TRADES, market), lake.info(BARS, market)
    version = f"{trades.fingerprint if trades else ''}/{period_s}"
    if trades and former and former.meta.get(MADE_OF) == version:
        return former
    pieces = lake.stored(TRADES, market, COLUMNS, coded=("side",), rows=PIECE)
    bars = bars_of(pieces, market, outcomes=outcomes, period_s=period_s)
    return lake.write(BARS, market, bars, meta={MADE_OF: version})


def bars_of(
    pieces: Iterable[pa.RecordBatch], market: str, *, outcomes: int, period_s: int = 60
) -> Iterator[pa.RecordBatch]:
    """Bars of ``period_s`` seconds of the trades of one market, outcome by outcome.

    A bar covers ``[ts - period, ts)``. It is known when it has ended and its last trade is known. Blocks
    negotiated off the book are left out, for their price is not the market's, and so is what moved nothing.

    Parameters
    ----------
    pieces:
        :data:`COLUMNS` of ``market_data.trades`` in order of time, ``side`` as a dictionary; best
        :data:`PIECE` at once.

    Raises
    ------
    UsageError
        for a period of less than a second.
    StorageError
        for a trade of an outcome that the market does not have.
    """
    if period_s < 1:
        raise UsageError(f"a bar lasts at least one second, not {period_s}")
    compile_entry(add_trades)
    now, room = np.zeros(outcomes * FIELDS, np.int64), 0
    done: list[list[Ints]] = [[] for _ in range(outcomes)]
    read_at = 0
    for piece in pieces:
        if not piece.num_rows:
            continue
        prints, made = prints_of(piece), np.zeros(outcomes, np.int64)
        if not 0 <= prints.outcome.min() <= prints.outcome.max() < outcomes:
            raise StorageError(
                f"{market} has {outcomes} outcomes, but trades of others are stored; fetch them anew"
            )
        if len(prints.times) > room:
            room = len(prints.times)
            out = np.empty(outcomes * FIELDS * room, np.int64)
        add_trades(prints, TAKER_SIDES[Side.BUY.value], period_s * _SECOND, now, made, out)
        for ended, bars, count in zip(done, out.reshape(outcomes, FIELDS, room), made, strict=True):
            ended.append(bars[:, :count].copy())
        read_at = max(read_at, pc.max(piece.column("ingested_at")).value)
    for outcome, bars in enumerate(now.reshape(outcomes, FIELDS, 1)):
        for each in (*done[outcome], bars[:, bars[COUNT] > 0]):
            if each.size:
                yield _batch(market, outcome, each, period_s, read_at)


def _batch(market: str, outcome: int, bars: Ints, period_s: int, read_at: int) -> pa.RecordBatch:
    """Bars of one outcome as rows of the table."""
    rows = len(bars[END])
    columns: dict[str, pa.Array] = {
        "market_key": pa.repeat(market, rows),
        "outcome_index": pa.repeat(pa.scalar(outcome, Kind.INT.value), rows),
        "ts": _times(bars[END]),
        "known_at": _times(bars[KNOWN]),
        "ingested_at": _times(np.full(rows, read_at)),
        "period_s": pa.repeat(pa.scalar(period_s, Kind.INT.value), rows),
        "notional": pa.array(_notional(bars[DOLLARS], bars[REST])),
        "trades": pa.array(bars[COUNT].astype(np.uint64)),
        **{name: pa.array(bars[field]) for name, field in _FIELD_OF.items()},
    }
    declared = table(BARS).arrow
    return pa.RecordBatch.from_arrays([columns[name] for name in declared.names], schema=declared)


def _times(micros: Ints) -> pa.Array:
    return pa.array(micros).view(Kind.TIME.value)


def _notional(dollars: Ints, rest: Ints) -> Ints:
    """Millionths and millionths of those as millionths, ties to even."""
    whole, left = dollars + rest // MICRO, rest % MICRO
    up = (2 * left > MICRO) | ((2 * left == MICRO) & (whole % 2 == 1))
    return np.where(up, whole + 1, whole)
