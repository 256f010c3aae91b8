"""Market data as numpy arrays, in the order in which an outsider learned it.

Everything is sorted by ``known_at``, so that what was known at a time is the beginning of every array. The
arrays are read-only. Times are int64 nanoseconds, prices and sizes int64 millionths, -1 where missing.
"""

from dataclasses import dataclass, fields
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets import MICRO, Micro, Side
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.warehouse.files import StorageError
from pm_pipeline.warehouse.records import MISSING, Ints, micro_of, nanos_of

Codes: TypeAlias = npt.NDArray[np.int8]

BUY: Final = 1
SELL: Final = -1
RESET: Final = 0
LEVEL: Final = 1
GAP: Final = 2
BID: Final = 0
ASK: Final = 1
MAKER: Final = 0
TAKER: Final = 1

TAKER_SIDES: Final = {Side.BUY.value: BUY, Side.SELL.value: SELL}
KINDS: Final = {"reset": RESET, "level": LEVEL, "gap": GAP}
ROLES: Final = {"maker": MAKER, "taker": TAKER}
BOOK_SIDES: Final = {"bid": BID, "ask": ASK, None: MISSING}


@dataclass(frozen=True, slots=True)
class Quote:
    """What was known of one outcome's price; ``None`` where nobody quoted, or the venue does not say."""

    ts: Nanos
    known_at: Nanos
    mid: Micro | None
    bid: Micro | None
    ask: Micro | None


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """Arrays of one length, sorted by ``known_at``."""

    ts: Ints
    known_at: Ints

    def __post_init__(self) -> None:
        for column in self._arrays():
            column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.known_at)

    def until(self, t: Nanos) -> Self:
        """The rows known at ``t``; nothing is copied."""
        count = int(np.searchsorted(self.known_at, t, side="right"))
        return self if count == len(self) else type(self)(*(column[:count] for column in self._arrays()))

    def _arrays(self) -> list[npt.NDArray[Any]]:
        return [getattr(self, field.name) for field in fields(self)]


@dataclass(frozen=True, slots=True, eq=False)
class Quotes(_Columns):
    """Mid, bid and ask of one outcome over time, sorted by ``known_at``, then ``ts`` (from a book: ``seq``).

    A row whose three prices are all missing says that the book was lost: the quote before it is stale.
    """

    mid: Ints
    bid: Ints
    ask: Ints

    def mid_float(self) -> npt.NDArray[np.float64]:
        """The mid as a probability; NaN where missing."""
        return np.where(self.mid == MISSING, np.nan, self.mid / MICRO)

    def last(self) -> Quote | None:
        """The quote known last, or ``None`` where there is none at all."""
        if not len(self):
            return None
        prices = (int(column[-1]) for column in (self.mid, self.bid, self.ask))
        return Quote(int(self.ts[-1]), int(self.known_at[-1]), *(None if p == MISSING else p for p in prices))

    def mirrored(self) -> Self:
        """The quotes of the other outcome of a binary market: ``1 - mid``, ``1 - ask``, ``1 - bid``."""
        return type(self)(self.ts, self.known_at, *map(_complement, (self.mid, self.ask, self.bid)))


def _complement(prices: Ints) -> Ints:
    return np.where(prices == MISSING, MISSING, MICRO - prices)


@dataclass(frozen=True, slots=True, eq=False)
class TradeArrays(_Columns):
    """Taker executions of all outcomes, sorted by ``known_at``, then ``ts``.

    ``side`` is :data:`BUY` (1) or :data:`SELL` (-1), what the taker did with ``outcome_index``. ``wallet``
    holds text or ``None``. Rows with ``is_block`` were negotiated off the book.
    """

    outcome_index: Ints
    price: Ints
    size: Ints
    side: Codes
    is_block: npt.NDArray[np.bool_]
    wallet: npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True, eq=False)
class FillArrays(_Columns):
    """On-chain fills of all outcomes, sorted by ``known_at``, then ``ts``; a row per order and match.

    ``wallet`` is the owner of the order, as text in small letters; each address is held once. ``side`` is
    :data:`BUY` or :data:`SELL`, what the wallet did with ``outcome_index``; ``role`` is :data:`TAKER` or
    :data:`MAKER`. Makers and takers tell the same match: volume is the sum where ``counts_volume``.
    """

    outcome_index: Ints
    wallet: npt.NDArray[np.object_]
    side: Codes
    role: Codes
    price: Ints
    size: Ints
    counts_volume: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class BookLog(_Columns):
    """The order book of outcome 0 as a log, sorted by ``known_at``, then ``seq``.

    ``kind`` is :data:`RESET`, :data:`LEVEL` or :data:`GAP`; ``side`` is :data:`BID` or :data:`ASK`, and with
    ``price`` and ``size`` it is -1 unless the row is a level. The rows of one message share ``seq``; a reset
    comes before its levels.
    """

    seq: Ints
    kind: Codes
    side: Codes
    price: Ints
    size: Ints


def quotes_from(rows: pa.Table, outcome_index: int) -> Quotes:
    """The quotes of one outcome from rows of ``market_data.prices``."""
    rows = _admissible(rows.filter(pc.equal(rows.column("outcome_index"), outcome_index)))
    ts, known_at = nanos_of(rows.column("ts")), nanos_of(rows.column("known_at"))
    order = np.lexsort((ts, known_at))
    prices = (micro_of(rows.column(name))[order] for name in ("mid", "bid", "ask"))
    return Quotes(ts[order], known_at[order], *prices)


def trades_from(rows: pa.Table) -> TradeArrays:
    """The arrays of rows of ``market_data.trades``."""
    rows = _admissible(rows)
    ts, known_at = nanos_of(rows.column("ts")), nanos_of(rows.column("known_at"))
    order = np.lexsort((ts, known_at))
    return TradeArrays(
        ts[order],
        known_at[order],
        outcome_index=micro_of(rows.column("outcome_index"))[order],
        price=micro_of(rows.column("price"))[order],
        size=micro_of(rows.column("size"))[order],
        side=_codes(rows.column("side"), TAKER_SIDES)[order],
        is_block=np.asarray(rows.column("is_block").to_numpy(), dtype=np.bool_)[order],
        wallet=np.asarray(rows.column("wallet").to_numpy(), dtype=np.object_)[order],
    )


def fills_from(rows: pa.Table) -> FillArrays:
    """The arrays of rows of ``market_data.wallet_fills``."""
    rows = _admissible(rows)
    ts, known_at = nanos_of(rows.column("ts")), nanos_of(rows.column("known_at"))
    order = np.lexsort((ts, known_at))
    return FillArrays(
        ts[order],
        known_at[order],
        outcome_index=micro_of(rows.column("outcome_index"))[order],
        wallet=_addresses(rows.column("wallet"))[order],
        side=_codes(rows.column("side"), TAKER_SIDES)[order],
        role=_codes(rows.column("role"), ROLES)[order],
        price=micro_of(rows.column("price"))[order],
        size=micro_of(rows.column("size"))[order],
        counts_volume=np.asarray(rows.column("counts_volume").to_numpy(), dtype=np.bool_)[order],
    )


def book_log_from(rows: pa.Table) -> BookLog:
    """The log of rows of ``market_data.book_events``.

    Raises :class:`StorageError` for a level without a side, or with an impossible price or size.
    """
    rows = _admissible(rows)
    ts, known_at = nanos_of(rows.column("ts")), nanos_of(rows.column("known_at"))
    seq = micro_of(rows.column("seq"))
    kind = _codes(rows.column("kind"), KINDS)
    side = _codes(rows.column("side"), BOOK_SIDES)
    price, size = micro_of(rows.column("price")), micro_of(rows.column("size"))
    bad = (kind == LEVEL) & ((side == MISSING) | (price < 0) | (price > MICRO) | (size < 0))
    if bad.any():
        raise StorageError(
            f"market_data.book_events: seq {seq[bad][0]} sets no possible level; materialise it again"
        )
    order = np.lexsort((kind, seq, known_at))
    return BookLog(
        ts[order], known_at[order], seq[order], kind[order], side[order], price[order], size[order]
    )


def _admissible(rows: pa.Table) -> pa.Table:
    """The rows that say since when they were known; a row that does not is never shown."""
    known_at = rows.column("known_at")
    return rows.filter(pc.is_valid(known_at)) if known_at.null_count else rows


def _addresses(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """Addresses as text; rows of one wallet share one."""
    encoded = _dictionary(column)
    texts = ["0x" + raw.hex() for raw in encoded.dictionary.to_pylist()]
    names = np.array(texts or [""], dtype=np.object_)
    result: npt.NDArray[np.object_] = names[encoded.indices.to_numpy()]
    return result


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return pa.concat_arrays(column.chunks or [pa.array([], column.type)]).dictionary_encode("encode")


def _codes(column: pa.ChunkedArray, codes: dict[Any, int]) -> Codes:
    """Text as small integers, through its few distinct values."""
    encoded = _dictionary(column)
    values = encoded.dictionary.to_pylist()
    unknown = [value for value in values if value not in codes]
    if unknown:
        raise StorageError(
            f"{unknown[0]!r} is none of {', '.join(map(str, codes))}; materialise the partition again"
        )
    lookup = np.array([codes[value] for value in values] or [0], dtype=np.int8)
    result: Codes = lookup[encoded.indices.to_numpy()]
    return result
