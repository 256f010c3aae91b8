"""Data API v2: trades, price history where the CLOB has none, resolutions, positions.

The API is read by condition; every page carries the same filters again, since a bare cursor continues the
feed of the whole exchange.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec

from pm_pipeline.markets.clock import SECOND, Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.trade import Side, SideEvidence
from pm_pipeline.markets.units import Micro
from pm_pipeline.sources.adapter import Position, Window
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.polymarket.wire import (
    PositionRow,
    PricePoint,
    ResolutionRow,
    TradeRow,
)
from pm_pipeline.sources.wire import convert, micro, price, size, unix_seconds

TRADES: Final = "/v2/trades"
PRICES: Final = "/v2/prices-history"
RESOLUTIONS: Final = "/v2/resolutions"
POSITIONS: Final = "/v2/positions"

BUCKETS: Final = (60, 300, 1800, 10_800)
"""Seconds per point of the price history, finest first; an expired one answers with an empty page."""

_PAGE: Final = 1000
_CONDITION_ID: Final = 66
"""Length of a condition id with its ``0x``; combos of several markets have shorter ones."""
_SIDES: Final[Mapping[str, Side]] = {"BUY": Side.BUY, "SELL": Side.SELL}
_UNSORTED: Final = 4096
"""How many different seconds may be out of order before we say so."""


async def trades(client: HttpClient, market: Market) -> AsyncIterator[list[Mapping[str, Any]]]:
    """Taker executions of a market, as rows of ``market_data.trades``, page by page.

    One row per taker order and transaction: its price is the size-weighted average of the match. Rows that
    are alike in all else are kept, for the venue prints no number of its own; they are told apart by their
    ordinal. Stamps are whole seconds, so a trade is known one second later.
    """
    outcome_of = {i.token_id: i.outcome_index for i in market.instruments}
    alike = _Ordinals()
    params: Params = {"condition_id": market.condition_id, "limit": _PAGE, "filter_amount": 0}
    async for page in _pages(client, TRADES, params):
        rows = [convert(row, TradeRow, TRADES) for row in page]
        yield [
            _trade(row, market, outcome_of, alike) for row in rows if len(row.condition_id) == _CONDITION_ID
        ]


def _trade(
    row: TradeRow, market: Market, outcome_of: Mapping[str | None, int], alike: "_Ordinals"
) -> dict[str, Any]:
    if row.condition_id != market.condition_id:
        raise BadResponse(f"{TRADES}: asked for {market.condition_id}, got {row.condition_id}")
    if row.token_id not in outcome_of:
        raise BadResponse(f"{TRADES}: token_id {row.token_id} is no outcome of {market.key}")
    if row.side not in _SIDES:
        raise BadResponse(f"{TRADES}: side is {row.side!r}")
    ts = unix_seconds(row.timestamp, TRADES, "timestamp")
    trade: dict[str, Any] = {
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
    return {**trade, "ordinal": alike.next(ts, tuple(trade.values()))}


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


async def price_history(client: HttpClient, token_id: str, window: Window) -> list[Mapping[str, Any]]:
    """Prices of one outcome in ``window`` (at most 15 days), as rows of ``market_data.prices``.

    A point stands for the bucket that begins at its stamp, so it is known when the bucket ends. The last
    point of a resolved market (``resolution_seconds`` 0) is the payout: it is split off, or every strategy
    would see the result.
    """
    for bucket in BUCKETS:
        prices: dict[Nanos, tuple[Micro, int]] = {}
        params: Params = {
            "token_id": token_id,
            "start": max(window.start // SECOND, 1),
            "end": -(-window.end // SECOND),
            "bucket_seconds": bucket,
            "limit": 10_000,
        }
        async for page in _pages(client, PRICES, params):
            for point in (convert(row, PricePoint, PRICES) for row in page):
                if point.resolution_seconds < 0:
                    raise BadResponse(f"{PRICES}: resolution_seconds is {point.resolution_seconds}")
                if point.resolution_seconds == 0:
                    continue
                ts = unix_seconds(point.timestamp, PRICES, "timestamp")
                prices[ts] = price(point.price, PRICES, "price", "half_even"), point.resolution_seconds
        rows: list[Mapping[str, Any]] = [
            {
                "ts": ts,
                "known_at": ts + seconds * SECOND,
                "mid": value,
                "resolution_s": seconds,
                "source": f"data:{PRICES}",
            }
            for ts, (value, seconds) in sorted(prices.items())
            if window.start <= ts < window.end
        ]
        if rows:
            return rows
    return []


async def resolution(client: HttpClient, condition_id: str) -> ResolutionRow | None:
    """The row of one condition, or ``None`` where nobody has said anything yet."""
    mine: ResolutionRow | None = None
    async for page in _pages(client, RESOLUTIONS, {"condition_id": condition_id}):
        for row in page:
            mine = convert(row, ResolutionRow, RESOLUTIONS)
            if mine.condition_id != condition_id:
                raise BadResponse(f"{RESOLUTIONS}: asked for {condition_id}, got {mine.condition_id}")
    return mine


async def positions(client: HttpClient, wallet: str) -> AsyncIterator[list[Position]]:
    """What a wallet holds, dust included, page by page."""
    params: Params = {"user": wallet, "filter_amount": 0, "limit": 500}
    async for page in _pages(client, POSITIONS, params):
        rows = [convert(row, PositionRow, POSITIONS) for row in page]
        yield [_position(row) for row in rows if len(row.condition_id) == _CONDITION_ID]


def _position(row: PositionRow) -> Position:
    return Position(
        wallet=row.proxy_wallet,
        market_key=None,
        condition_id=row.condition_id,
        token_id=row.token_id,
        outcome_index=row.outcome_index if row.outcome_index != 999 else None,
        size=size(row.current_size, POSITIONS, "current_size", "half_even"),
        avg_price=price(row.avg_price, POSITIONS, "avg_price", "half_even"),
        realised_pnl=micro(row.realized_pnl, POSITIONS, "realized_pnl", "half_even"),
        status=row.status,
    )


def _pages(client: HttpClient, path: str, params: Params) -> AsyncIterator[list[Any]]:
    return client.pages(path, params, rows="data", cursor_in="cursor", cursor_of=_cursor_of(path))


def _cursor_of(path: str) -> Any:
    def read(body: Mapping[str, Any]) -> object:
        if path == RESOLUTIONS and "pagination" not in body:
            return body.get("next_cursor")  # the one listing that comes without the envelope's tail
        pagination = convert(body.get("pagination"), _Pagination, path)
        if pagination.has_more != (pagination.next_cursor is not None):
            raise BadResponse(f"{path}: has_more is {pagination.has_more}, but next_cursor disagrees")
        return pagination.next_cursor

    return read


class _Pagination(msgspec.Struct):
    """The envelope's tail; ``has_more`` says exactly that ``next_cursor`` is there."""

    has_more: bool
    next_cursor: str | None = None
