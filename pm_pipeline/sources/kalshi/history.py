"""Kalshi's candlesticks and trades, from the live or the archive tier.

Settled markets move to the archive tier after about two months; where a market lies is told by the cutoff,
and a 404 means that it has just moved.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import msgspec

from pm_pipeline.markets.clock import DAY, MINUTE, SECOND, Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.trade import Side, SideEvidence
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.errors import BadRequest, BadResponse, SourceError
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.kalshi.wire import Candle, KalshiTrade, first, points
from pm_pipeline.sources.wire import convert, moment, price, size, unix_seconds

Period: TypeAlias = Literal[1, 60]
"""Minutes of a candlestick."""

CANDLES_AT_ONCE: Final = 4_900
"""The API refuses 5,000 candles or more, counted over the range asked, not over what there is."""

SHORT_LIVED: Final[Nanos] = 14 * DAY
"""Markets up to this age are read by the minute, older ones by the hour."""

SETTLED_AFTER: Final[Nanos] = 30 * SECOND
"""Answers are up to 15 seconds old: they pass a cache (``max-age=15``)."""

_TRADES_AT_ONCE: Final[Nanos] = 7 * DAY
_TAKER: Final[Mapping[str, Side]] = {"yes": Side.BUY, "no": Side.SELL}


@dataclass(frozen=True, slots=True)
class Tiers:
    """What lies in the archive tier: markets settled, trades made, before these moments."""

    markets_before: Nanos
    trades_before: Nanos


def period_for(window: Window) -> Period:
    """Minutes for short-lived markets, hours for the others."""
    return 1 if window.end - window.start <= SHORT_LIVED else 60


def settled(window: Window, kind: Literal["candles", "trades"], period: Period, now: Nanos) -> Window:
    """What of the life of a market, ``window``, can be read for good at ``now``.

    Answers are cached, and the last candle may end a period after the close. A candle that has not ended, or
    ended a moment ago, is not read: its close would be a look ahead, or change.
    """
    end = window.end + (period * MINUTE if kind == "candles" else 0)
    return Window(window.start, max(window.start, min(end, now - SETTLED_AFTER)))


async def candles(
    client: HttpClient, market: Market, window: Window, period: Period, tiers: Tiers
) -> AsyncIterator[list[Mapping[str, Any]]]:
    """Candles that end within ``window``, as rows of ``market_data.candles``, piece by piece.

    Candles are sparse: only those in which a quote moved or a trade was made.
    """
    length = period * MINUTE
    for piece in window.split(CANDLES_AT_ONCE * length):
        endpoint, found = await _candlesticks(client, market, piece, period, tiers)
        ends = {unix_seconds(c.end_period_ts, endpoint, "end_period_ts"): c for c in found}
        yield [
            _candle_row(ends[end], end, market, period, endpoint)
            for end in sorted(ends)
            if piece.start < end <= piece.end
        ]


async def _candlesticks(
    client: HttpClient, market: Market, piece: Window, period: Period, tiers: Tiers
) -> tuple[str, list[Candle]]:
    if market.series is None:
        raise SourceError(f"{market.key} has no series; fetch its catalog entry again")
    ticker = market.key.native_id
    live = f"/series/{market.series}/markets/{ticker}/candlesticks"
    archived = f"/historical/markets/{ticker}/candlesticks"
    old = market.traded_until is not None and market.traded_until < tiers.markets_before
    params: Params = {
        "start_ts": piece.start // SECOND,
        "end_ts": -(-piece.end // SECOND),
        "period_interval": period,
    }
    for endpoint in (archived, live) if old else (live, archived):
        try:
            return endpoint, convert(await client.get(endpoint, params), _Candles, endpoint).candlesticks
        except BadRequest as error:
            if error.status != 404:
                raise
    raise BadRequest(f"Kalshi has candles of {ticker!r} in neither tier", 404)


def _candle_row(candle: Candle, end: Nanos, market: Market, period: Period, endpoint: str) -> dict[str, Any]:
    """0 for a bid and 1 for an offer mean that the side was empty: nobody quotes there."""
    row: dict[str, Any] = {
        "market_key": str(market.key),
        "outcome_index": 0,
        "ts": end,
        "known_at": end,
        "period_s": period * 60,
        "volume": size(first(endpoint, volume_fp=candle.volume_fp, volume=candle.volume), endpoint, "volume"),
        "open_interest": size(
            first(endpoint, open_interest_fp=candle.open_interest_fp, open_interest=candle.open_interest),
            endpoint,
            "open_interest",
        ),
    }
    for name, line, empty in (
        ("bid", points(candle.yes_bid, endpoint, "yes_bid", required=True), 0),
        ("ask", points(candle.yes_ask, endpoint, "yes_ask", required=True), MICRO),
        ("price", points(candle.price, endpoint, "price", required=False), None),
    ):
        for point, value in zip(("open", "high", "low", "close"), line, strict=True):
            row[f"{name}_{point}"] = None if value == empty else value
    return row


def price_row(candle: Mapping[str, Any]) -> dict[str, Any]:
    """The close of a candle as a row of ``market_data.prices``; a mid only where both sides quote."""
    bid: Micro | None = candle["bid_close"]
    ask: Micro | None = candle["ask_close"]
    return {
        "market_key": candle["market_key"],
        "outcome_index": candle["outcome_index"],
        "ts": candle["ts"],
        "known_at": candle["known_at"],
        "bid": bid,
        "ask": ask,
        "mid": None if bid is None or ask is None else (bid + ask) // 2,
        "resolution_s": candle["period_s"],
        "source": "kalshi:candlesticks",
    }


async def trades(
    client: HttpClient, market: Market, window: Window, tiers: Tiers
) -> AsyncIterator[list[Mapping[str, Any]]]:
    """Executions within ``window``, as rows of ``market_data.trades``, oldest week first.

    The tiers overlap by some weeks, so a trade may come twice: its id tells. Rows come oldest first,
    whatever the venue's order.
    """
    for piece in Window(window.start, window.end + SECOND).split(_TRADES_AT_ONCE):
        found: dict[str, dict[str, Any]] = {}
        for path in _trade_tiers(piece, tiers):
            params: Params = {
                "ticker": market.key.native_id,
                "min_ts": piece.start // SECOND - 1,
                "max_ts": -(-piece.end // SECOND) + 1,
                "limit": 1000,
            }
            pages = client.pages(
                path,
                params,
                rows="trades",
                cursor_in="cursor",
                cursor_of=lambda body: body.get("cursor"),
            )
            async for page in pages:
                for row in page:
                    trade = trade_row(convert(row, KalshiTrade, path), market, path)
                    if piece.start <= trade["ts"] < piece.end:
                        found[trade["trade_id"]] = trade
        yield sorted(found.values(), key=lambda row: (row["ts"], row["trade_id"]))


def _trade_tiers(piece: Window, tiers: Tiers) -> tuple[str, ...]:
    live, archived = "/markets/trades", "/historical/trades"
    if piece.start >= tiers.trades_before:
        return (live,)
    return (archived,) if piece.end <= tiers.trades_before else (archived, live)


def trade_row(raw: KalshiTrade, market: Market, endpoint: str) -> dict[str, Any]:
    """A trade in terms of YES: a taker positioned for NO has sold YES at the same price."""
    if raw.ticker != market.key.native_id:
        raise BadResponse(f"{endpoint}: asked for {market.key.native_id}, got {raw.ticker}")
    taker = raw.taker_outcome_side or raw.taker_side or ""
    if taker not in _TAKER:
        raise BadResponse(f"{endpoint}: taker_outcome_side is {taker!r}")
    ts = moment(raw.created_time, endpoint, "created_time")
    return {
        "market_key": str(market.key),
        "outcome_index": 0,
        "ts": ts,
        "known_at": ts,
        "trade_id": raw.trade_id,
        "ordinal": 0,
        "price": price(raw.yes_price_dollars, endpoint, "yes_price_dollars"),
        "size": size(first(endpoint, count_fp=raw.count_fp, count=raw.count), endpoint, "count_fp"),
        "side": _TAKER[taker].value,
        "side_evidence": SideEvidence.FEED.value,
        "is_block": raw.is_block_trade,
    }


class _Candles(msgspec.Struct):
    """The envelope of candlesticks."""

    candlesticks: list[Candle]
