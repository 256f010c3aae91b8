"""The one decoder of on-chain fills: from events of the exchanges to rows of ``market_data.wallet_fills``.

An ``OrderFilled`` event is about one order: its owner gave one asset and got another. A match emits one for
each resting order, whose ``taker`` is the wallet of the active order, and then one for the active order,
whose ``taker`` is the exchange itself and whose amounts are those of the whole match. The two kinds of rows
tell the same trade twice; ``counts_volume`` marks those that sum to what was traded.

A resting order meets the active one in one of three ways. *Complementary*: one buys what the other sells.
*Mint*: both buy, different outcomes; their dollars become full sets. *Merge*: both sell; full sets become
dollars. In all three the amounts of the active order follow from the resting ones, which :func:`to_rows`
verifies to the unit.
"""

from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets.clock import SECOND, Nanos
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.markets.trade import Side, SideEvidence
from pm_pipeline.markets.units import MICRO, divide
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.warehouse.records import to_table
from pm_pipeline.warehouse.schema import table

FILLS: Final = "market_data.wallet_fills"

KNOWN_AFTER: Final[Nanos] = 5 * SECOND
"""From the time of a block until anybody could have read it: it has to spread first."""

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]

ADDRESS: Final = 20
HASH: Final = 32

_LAST_SECOND: Final = 4_102_444_800
_PLAIN: Final = np.iinfo(np.int64).max // MICRO
"""Dollars (micro) up to which cash times a million fits into 64 bits."""


class Contract(StrEnum):
    """Which exchange logged a fill."""

    V1 = "v1"
    V1_NEG_RISK = "v1-neg-risk"
    V2 = "v2"
    V2_NEG_RISK = "v2-neg-risk"

    @property
    def fee_in_proceeds(self) -> bool:
        """Whether the fee is counted in what the order gets (V1), not in dollars (V2)."""
        return self in {Contract.V1, Contract.V1_NEG_RISK}


EXCHANGES: Final = {
    "0x4bfb41d5b3570defd03c39a9a4d8de6bd8b8982e": Contract.V1,
    "0xc5d563a36ae78145c45a50134d48a1215220f80a": Contract.V1_NEG_RISK,
    "0xe111180000d2663c0091e4f400237545b87b996b": Contract.V2,
    "0xe2222d279d744050d28e00520010520000310f59": Contract.V2_NEG_RISK,
}
"""Addresses of the exchanges, in lower case."""

CODES: Final = tuple(Contract)
"""Contracts by their number in :attr:`Events.contract`."""


class Balance(StrEnum):
    """What the conservation test says of the match that a row belongs to.

    ``EXACT``: what the active order paid is what the resting ones got, give or take the sets made or
    dissolved, to the unit. ``REFUND``: it was charged for more than was used; the exchange gave the rest back
    without a log, so the cash (of a buyer) or size (of a seller) of its row is an upper bound. ``RESTATED``:
    the log of an active buyer repeats its dollars as contracts; the contracts are those of the resting
    orders. ``BROKEN``: the amounts do not agree, so a log is missing or wrong. ``ALONE``: no active order is
    logged.
    """

    EXACT = "exact"
    REFUND = "refund"
    RESTATED = "restated"
    BROKEN = "broken"
    ALONE = "alone"


_BALANCES: Final = tuple(Balance)
_EXACT, _REFUND, _RESTATED, _BROKEN, _ALONE = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """``OrderFilled`` events as columns of one length.

    ``ts`` is unix seconds; hashes are rows of bytes; amounts are micro-units. ``active`` is the wallet of the
    active order of the match, ``takes`` says that the row is about that order. ``market`` and ``outcome``
    number what was traded. ``block`` and ``log_index`` are -1 where the source does not say.
    """

    ts: Ints
    tx: Bytes
    order_hash: Bytes
    wallet: Bytes
    active: Bytes
    takes: Flags
    buys: Flags
    market: Ints
    outcome: Ints
    size: Ints
    cash: Ints
    fee: Ints
    block: Ints
    log_index: Ints
    contract: Ints

    def __len__(self) -> int:
        return len(self.ts)

    @classmethod
    def none(cls) -> Self:
        """No events."""
        number, flag = np.empty(0, np.int64), np.empty(0, np.bool_)
        digest, name = np.empty((0, HASH), np.uint8), np.empty((0, ADDRESS), np.uint8)
        return cls(number, digest, digest, name, name, flag, flag, *[number] * 8)

    @classmethod
    def joined(cls, parts: Sequence["Events"]) -> "Events":
        """All events of the parts, in their order."""
        if not parts:
            return cls.none()
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def take(self, rows: Any) -> "Events":
        """Some of the rows, by mask or by position."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


def hashes(texts: Sequence[str], width: int, where: str) -> Bytes:
    """Hexadecimal texts (``0x…``) of so many bytes each, as rows of bytes.

    Raises :class:`BadResponse` for any other text.
    """
    length = 2 + 2 * width
    if not texts:
        return np.empty((0, width), np.uint8)
    if set(map(len, texts)) != {length}:
        raise BadResponse(f"{where}: not all are hexadecimal numbers of {width} bytes")
    try:
        raw = np.frombuffer("".join(texts).encode("ascii"), np.uint8).reshape(len(texts), length)
        if (raw[:, :2] != np.frombuffer(b"0x", np.uint8)).any():
            raise BadResponse(f"{where}: a hexadecimal number does not begin with 0x")
        return np.frombuffer(unhexlify(raw[:, 2:].tobytes()), np.uint8).reshape(len(texts), width)
    except (UnicodeEncodeError, HexError) as error:
        raise BadResponse(f"{where}: not hexadecimal: {error}") from error


def counts(texts: Sequence[str], where: str) -> Ints:
    """Decimal texts as integers from 0 to 2^63 - 1. Raises :class:`BadResponse` for any other."""
    try:
        column = pa.array(texts, pa.string())
        if not pc.all(pc.ascii_is_decimal(column), min_count=0).as_py():
            raise BadResponse(f"{where}: not all are whole numbers of decimal digits")
        return np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        raise BadResponse(f"{where}: {str(error)[:120]}") from error


def require_counts(values: Ints, where: str) -> Ints:
    """The values, none of which may be negative."""
    if len(values) and values.min() < 0:
        raise BadResponse(f"{where}: {values.min()} is negative")
    return values


def require_seconds(ts: Ints, where: str) -> Ints:
    """The times, which must lie between 1970 and 2100."""
    if len(ts) and not 0 < ts.min() <= ts.max() < _LAST_SECOND:
        raise BadResponse(f"{where}: {ts.min()} to {ts.max()} are no times in seconds since 1970")
    return ts


def to_rows(events: Events, market: MarketKey, source: str, ingested_at: Nanos) -> pa.Table:
    """Rows of ``market_data.wallet_fills`` of one market, in their declared order.

    ``events`` must hold whole matches. The price is cash by size, to the nearest millionth, ties to even;
    cash and size are exact.
    """
    count = len(events)
    balance, size = _balanced(events)
    alone = balance == _ALONE
    in_proceeds = np.array([code.fee_in_proceeds for code in CODES])
    dollars = ~(in_proceeds[events.contract] & events.buys)
    said = events.block >= 0
    rows = to_table(
        FILLS,
        {
            "market_key": _same(str(market), count),
            "outcome_index": pa.array(events.outcome.astype(np.int32)),
            "ts": events.ts * SECOND,
            "known_at": events.ts * SECOND + KNOWN_AFTER,
            "ingested_at": np.full(count, ingested_at, np.int64),
            "block": pa.array(events.block.astype(np.uint64), mask=~said),
            "log_index": pa.array(events.log_index.astype(np.int32), mask=~said),
            "tx": _fixed(events.tx),
            "order_hash": _fixed(events.order_hash),
            "wallet": _fixed(events.wallet),
            "role": _named(events.takes, ("maker", "taker")),
            "side": _named(events.buys, (Side.SELL.value, Side.BUY.value)),
            "side_evidence": _named(alone, (SideEvidence.ONCHAIN.value, SideEvidence.INFERRED.value)),
            "price": pa.array(_prices(events.cash, size), mask=size == 0),
            "size": pa.array(size),
            "cash": pa.array(events.cash),
            "fee": pa.array(events.fee),
            "fee_unit": _named(dollars, ("contracts", "dollars")),
            "balance": _named(balance, _BALANCES),
            "counts_volume": pa.array(events.takes | alone),
            "source": _named(events.contract, tuple(f"{source}:{code}" for code in CODES)),
        },
    )
    return rows.sort_by([(name, "ascending") for name in table(FILLS).sorted_by])


def _balanced(events: Events) -> tuple[Ints, Ints]:
    """The conservation test: the balance of the match of every row, and the contracts of every row."""
    count = len(events)
    match, matches = _matches(events)
    takes, buys, size = events.takes, events.buys, events.size
    takers = np.bincount(match, takes, matches).astype(np.int64)
    active = np.zeros(matches, np.int64)  # the row of the active order of each match
    active[match[takes]] = np.flatnonzero(takes)
    # as wide as Python's integers, for sums of amounts of 63 bits
    wide = bool(count and max(int(size.max()), int(events.cash.max())) > 2**40)
    kind: type = object if wide else np.int64
    cash: npt.NDArray[Any] = events.cash.astype(kind)
    held: npt.NDArray[Any] = size.astype(kind)

    mine = active[match]
    same_side, same_outcome = buys == buys[mine], events.outcome == events.outcome[mine]
    rests = ~takes
    complementary = rests & ~same_side & same_outcome
    swaps_sets = rests & same_side & ~same_outcome  # mint or merge
    strange = rests & ~complementary & ~swaps_sets
    given = np.where(complementary, cash, np.where(swaps_sets, held - cash, 0))
    dollars, contracts = _sums(match, given, matches, kind), _sums(match, held * rests, matches, kind)

    paid, got = cash[active] - dollars, held[active] - contracts
    taker_buys = buys[active] if count else np.zeros(0, np.bool_)
    spent, received = np.where(taker_buys, paid, got), np.where(taker_buys, got, paid)
    state = np.full(matches, _BROKEN, np.int64)
    state[(spent > 0) & (received == 0)] = _REFUND
    state[(spent == 0) & (received == 0)] = _EXACT
    newer = np.array([not code.fee_in_proceeds for code in CODES])[events.contract[active]]
    repeats = taker_buys & newer & (paid == 0) & (got != 0) & (held[active] == cash[active])
    repeats &= np.bincount(match, swaps_sets, matches) == 0
    state[repeats] = _RESTATED
    state[(np.bincount(match, strange, matches) > 0) | (takers > 1) | (contracts == 0)] = _BROKEN
    state[takers == 0] = _ALONE

    restated = size.copy()
    rows = active[state == _RESTATED]
    restated[rows] = contracts[state == _RESTATED].astype(np.int64)
    return state[match], restated


def _matches(events: Events) -> tuple[Ints, int]:
    """The number of the match of every row, and how many there are.

    A match is what one active wallet did in one transaction. Where logs are numbered, it ends with the row of
    the active order, so that two matches of one wallet in a transaction are told apart.
    """
    if not len(events):
        return np.empty(0, np.int64), 0
    key = np.ascontiguousarray(
        np.hstack([events.tx, events.active, events.market.astype(">i8").view(np.uint8).reshape(-1, 8)])
    )
    names = key.view(np.dtype((np.void, key.shape[1]))).ravel()
    _, match = np.unique(names, return_inverse=True)
    order = np.lexsort((events.log_index, match))
    ended = np.empty(len(events), np.int64)
    taken = events.takes[order]
    ended[order] = np.cumsum(taken) - taken
    ended[events.log_index < 0] = 0
    numbers, inverse = np.unique(np.stack([match, ended]), axis=1, return_inverse=True)
    return inverse.reshape(-1).astype(np.int64), numbers.shape[1]


def _sums(group: Ints, values: npt.NDArray[Any], groups: int, kind: type) -> npt.NDArray[Any]:
    total: npt.NDArray[Any] = np.zeros(groups, kind)
    np.add.at(total, group, values)
    return total


def _prices(cash: Ints, size: Ints) -> Ints:
    """Cash by size in millionths, to the nearest, ties to even; 0 where there is no size."""
    if len(cash) and cash.max() > _PLAIN:
        return np.array(
            [
                min(divide(int(c) * MICRO, int(s), "half_even"), 2**63 - 1) if s else 0
                for c, s in zip(cash, size, strict=True)
            ],
            np.int64,
        )
    by = np.where(size == 0, 1, size)
    quotient, rest = np.divmod(cash * MICRO, by)
    left = by - rest  # not twice the rest, which might not fit
    return np.where(size == 0, 0, quotient + ((rest > left) | ((rest == left) & (quotient % 2 == 1))))


def _fixed(values: Bytes) -> pa.Array:
    width = values.shape[1]
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(values), [None, pa.py_buffer(np.ascontiguousarray(values).tobytes())]
    )


def _named(codes: npt.NDArray[Any], names: Sequence[str]) -> pa.Array:
    """Codes as their names."""
    found = pa.DictionaryArray.from_arrays(codes.astype(np.int8), pa.array([str(name) for name in names]))
    return found.cast(pa.string())


def _same(text: str, count: int) -> pa.Array:
    return pa.repeat(text, count)
