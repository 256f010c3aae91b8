"""Taker executions of the Data API v2, read until two readings agree.

The feed numbers no row, rows that are alike are legitimate, and no total is given: whether a page repeats a
row cannot be seen from one reading. So a listing is read twice, cut into pages of another length each time,
and believed when both readings hold the same rows as often. A page that repeats, lacks or loses rows would
have to do so in the same place of two different cuts.
"""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import msgspec
import pyarrow as pa

from pm_pipeline.markets.clock import DAY, MINUTE, SECOND, Nanos, format_time
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.trade import Side, SideEvidence
from pm_pipeline.sources.adapter import Window, to_batch
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.polymarket.data import WITH_DUST, pages, record
from pm_pipeline.sources.polymarket.wire import TradeRow
from pm_pipeline.sources.wire import price, size, unix_seconds

TRADES: Final = "/v2/trades"

SETTLED_AFTER: Final[Nanos] = 10 * MINUTE
"""Trades are taken at this age: the feed is cached for five minutes, so younger ones may be in one reading
and not in the next."""

REACH: Final[Nanos] = 3 * 365 * DAY
"""The feed of a market goes back so far, and no further."""

_PAGE: Final = 1000
_READINGS: Final = 4
_CONDITION_ID: Final = 66
"""Length of a condition id with its ``0x``; combos of several markets have shorter ones."""
_SIDES: Final[Mapping[str, Side]] = {"BUY": Side.BUY, "SELL": Side.SELL}
_UNSORTED: Final = 4096
"""How many different seconds may be out of order before we say so."""


@dataclass(slots=True)
class _Tally:
    """Which rows a reading held, and how often each, in whatever order: a sum of hashes."""

    rows: int = 0
    mark: int = 0

    def add(self, row: TradeRow) -> None:
        digest = blake2b(msgspec.json.encode(row), digest_size=16).digest()
        self.mark = (self.mark + int.from_bytes(digest)) % (1 << 128)
        self.rows += 1


@dataclass(slots=True)
class _Reading:
    """One pass through the listing: its rows, what they amount to, and how many came in all."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    tally: _Tally = field(default_factory=_Tally)
    came: int = 0


async def trades(
    client: HttpClient, market: Market, window: Window, now: Nanos
) -> AsyncIterator[pa.RecordBatch]:
    """Executions of a market made within ``window``, as batches of ``market_data.trades``.

    One row per taker order and transaction; its price is the size-weighted mean of the match, so it may lie
    between two ticks. Rows that are alike in all else are told apart by their ordinal. Stamps are whole
    seconds, so a trade is known one second later.

    The listing comes newest first, as its cursor shows (it names the second to go on from). A reading stops
    where ``window`` begins only as long as the pages themselves keep that order; otherwise it reads all.

    Raises
    ------
    BadResponse
        when no two of up to four readings hold the same rows.
    """
    earlier: dict[int, _Tally] = {}
    limit, most = _PAGE, 0
    while len(earlier) < _READINGS:
        reading = await _read(client, market, window, now, limit)
        if reading.tally in earlier.values():
            for batch in reading.batches:
                yield batch
            return
        earlier[limit] = reading.tally
        most = max(most, reading.came)
        limit = _another_limit(earlier, most)
    counts = ", ".join(str(tally.rows) for tally in earlier.values())
    raise BadResponse(
        f"{TRADES}: no two of {_READINGS} readings of {market.key} hold the same trades ({counts} rows); "
        "nothing was written. Try again later"
    )


def _another_limit(used: Collection[int], rows: int) -> int:
    """A page length that cuts so many rows anew, with at least one full page.

    Pages stay long: short ones may be alike by right, and are then taken for a cursor that repeats.
    """
    shorter = _PAGE - 7 * len(used)
    while rows > 2 and rows - 1 in used:
        rows -= 1
    return min(shorter, rows - 1) if rows > 2 else shorter


async def _read(client: HttpClient, market: Market, window: Window, now: Nanos, limit: int) -> _Reading:
    outcome_of = {i.token_id: i.outcome_index for i in market.instruments}
    alike, reading = _Ordinals(), _Reading()
    params: Params = {"condition": market.condition_id, "taker_only": "true", "limit": limit, **WITH_DUST}
    falling, latest = True, now + DAY
    async for page in pages(client, TRADES, params):
        if len(page) > limit:
            raise BadResponse(f"{TRADES}: asked for {limit} rows a page, got {len(page)}")
        reading.came += len(page)
        found = []
        for row in (record(raw, TradeRow, TRADES) for raw in page):
            if len(row.condition_id) != _CONDITION_ID:
                continue
            ts = unix_seconds(row.timestamp, TRADES, "timestamp")
            falling, latest = falling and ts <= latest, ts
            trade = _trade(row, market, outcome_of)
            if window.start <= ts < window.end:
                reading.tally.add(row)
                found.append({**trade, "ordinal": alike.next(ts, tuple(trade.values())), "ingested_at": now})
        if found:
            reading.batches.append(to_batch("market_data.trades", found))
        if falling and latest < window.start:
            break
    return reading


def _trade(row: TradeRow, market: Market, outcome_of: Mapping[str | None, int]) -> dict[str, Any]:
    if row.condition_id != market.condition_id:
        raise BadResponse(f"{TRADES}: asked for {market.condition_id}, got {row.condition_id}")
    if row.token_id not in outcome_of:
        raise BadResponse(f"{TRADES}: token_id {row.token_id} is no outcome of {market.key}")
    if row.side not in _SIDES:
        raise BadResponse(f"{TRADES}: side is {row.side!r}")
    ts = unix_seconds(row.timestamp, TRADES, "timestamp")
    return {
        "market_key": str(market.key),
        "outcome_index": outcome_of[row.token_id],  # the row's own index may be 999, "unlabelled"
        "ts": ts,
        "known_at": ts + SECOND,
        "trade_id": row.transaction_hash,
        "price": price(row.price, TRADES, "price", "half_even"),
        "size": size(row.size, TRADES, "size", "half_even"),
        "side": _SIDES[row.side].value,
        "side_evidence": SideEvidence.FEED.value,
        "wallet": row.proxy_wallet or None,
        "is_block": False,
    }


class _Ordinals:
    """Counts rows that are alike, remembering no more than the seconds around the present one."""

    def __init__(self) -> None:
        self._counts: dict[Nanos, Counter[tuple[object, ...]]] = {}
        self._forgotten_below: Nanos = -1
        self._forgotten_above: Nanos | None = None

    def next(self, ts: Nanos, row: tuple[object, ...]) -> int:
        """How many rows like this one came before it."""
        above = self._forgotten_above
        if ts <= self._forgotten_below or (above is not None and ts >= above):
            raise BadResponse(f"{TRADES}: rows are out of order by more than {_UNSORTED} different seconds")
        counts = self._counts.setdefault(ts, Counter())
        counts[row] += 1
        if len(self._counts) > 2 * _UNSORTED:
            for far in sorted(self._counts, key=lambda known: abs(known - ts))[_UNSORTED:]:
                self._forget(far, ts)
        return counts[row] - 1

    def _forget(self, far: Nanos, ts: Nanos) -> None:
        del self._counts[far]
        if far < ts:
            self._forgotten_below = max(self._forgotten_below, far)
        else:
            above = self._forgotten_above
            self._forgotten_above = far if above is None else min(above, far)


def out_of_reach(opened_at: Nanos | None, now: Nanos) -> str:
    """Why a market's trades cannot all be had; empty where they can."""
    since = now - REACH
    if opened_at is None or opened_at >= since:
        return ""
    return (
        f"the feed goes back three years, to {format_time(since)}; the market opened at "
        f"{format_time(opened_at)}. Earlier trades are on the chain: see onchain_fills"
    )
