"""Kalshi's REST market data: two tiers, strict filters, sparse candles, and no book of the past.

Markets settled before the cutoff live under ``/historical`` alone, with other key names in their candles;
trades overlap for eighteen days. Answers follow the contract of October 2026.
"""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.markets.clock import DAY, SECOND, Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.sources.sandbox.candles import (
    PERIODS,
    Candle,
    asked,
    candles,
    historical_json,
    live_json,
)
from pm_pipeline.sources.sandbox.kalshi_wire import (
    FILTERS,
    book_json,
    closes_at,
    event_json,
    market_json,
    series_json,
    status_of,
    trade_json,
)
from pm_pipeline.sources.sandbox.wire import (
    Refusal,
    answer,
    decode_cursor,
    encode_cursor,
    integer,
    iso,
    many,
    world_of,
)
from pm_pipeline.sources.sandbox.world import Sides, World, WorldMarket, book_at

ARCHIVED_AFTER: Final = 50 * DAY
"""Markets settled longer ago than this are in the historical tier."""
TRADES_ARCHIVED_AFTER: Final = 32 * DAY
_OVERLAP: Final = 18 * DAY
_MAX_ROWS: Final = 1000
_MAX_EVENTS: Final = 200
_MAX_TICKERS: Final = 100
_MAX_SINGLE: Final = 5_000
_MAX_BATCH: Final = 10_000
_ONE_OF: Final = ("created", "close", "settled")
_STATUS_FOR: Final = {
    "created": {"unopened", "open", ""},
    "close": {"closed", ""},
    "settled": {"settled", ""},
}

Wanted = Callable[[WorldMarket], bool]


def error(refusal: Refusal) -> Response:
    """Kalshi's error body."""
    codes = {404: "not_found", 429: "too_many_requests"}
    code = codes.get(refusal.status, "bad_request")
    details = {"code": code, "message": code.replace("_", " "), "details": refusal.reason}
    return answer({"error": details}, refusal.status)


def _limit(request: Request, default: int, most: int) -> int:
    limit = integer(request, "limit")
    if limit is None or limit == 0:
        return default
    if not 1 <= limit <= most:
        raise Refusal(400, f"Key: 'Limit' failed on the 'lte' tag: at most {most}")
    return limit


def _moment(request: Request, name: str) -> Nanos | None:
    given = integer(request, name)
    return None if given is None else given * SECOND


def _after(request: Request) -> int:
    return int(decode_cursor(request.query_params.get("cursor")).get("at", 0))


def _page(name: str, rows: list[dict[str, object]], following: int | None) -> Response:
    return answer({name: rows, "cursor": "" if following is None else encode_cursor({"at": following})})


# --- tiers ----------------------------------------------------------------------------------------------


def archived(world: World, market: WorldMarket) -> bool:
    """Whether the market has moved to the historical tier."""
    settled = market.resolution.resolved_at
    return settled is not None and settled < world.now - ARCHIVED_AFTER


def cutoff(request: Request) -> Response:
    """``/historical/cutoff``: where each kind of data changes tier."""
    now = world_of(request).now
    return answer(
        {
            "market_settled_ts": iso(now - ARCHIVED_AFTER),
            "trades_created_ts": iso(now - TRADES_ARCHIVED_AFTER),
            "orders_updated_ts": iso(now - 14 * DAY),
            "market_positions_last_updated_ts": iso(now - ARCHIVED_AFTER),
        }
    )


def _find(request: Request, *, historical: bool) -> WorldMarket:
    world = world_of(request)
    market = world.kalshi.get(request.path_params["ticker"])
    if market is None or archived(world, market) != historical:
        raise Refusal(404, "market not found")
    return market


# --- exchange, series, events ---------------------------------------------------------------------------


def exchange_status(request: Request) -> Response:
    """``/exchange/status``."""
    return answer({"exchange_active": True, "trading_active": True})


def exchange_schedule(request: Request) -> Response:
    """``/exchange/schedule``: always open, but for Thursdays from 3 to 5 in the morning, New York time."""
    whole = [{"open_time": "00:00", "close_time": "00:00"}]
    days = ("monday", "tuesday", "wednesday", "friday", "saturday", "sunday")
    week: dict[str, object] = {
        "start_time": "2024-12-01T00:00:00Z",
        "end_time": "2200-12-01T00:00:00Z",
        **dict.fromkeys(days, whole),
        "thursday": [
            {"open_time": "00:00", "close_time": "03:00"},
            {"open_time": "05:00", "close_time": "00:00"},
        ],
    }
    return answer({"schedule": {"standard_hours": [week], "maintenance_windows": []}})


def _first_of_series(world: World) -> dict[str, WorldMarket]:
    found: dict[str, WorldMarket] = {}
    for market in world.kalshi.values():
        found.setdefault(market.market.series or "", market)
    return found


def list_series(request: Request) -> Response:
    """``/series``: all at once; an unknown category gives an empty list without a word."""
    category = request.query_params.get("category")
    tags = set(many(request, "tags"))
    found = [
        series_json(market)
        for market in _first_of_series(world_of(request)).values()
        if (category is None or market.market.category == category)
        and (not tags or bool(tags & set(market.market.tags)))
    ]
    return answer({"series": found})


def one_series(request: Request) -> Response:
    """``/series/{ticker}``."""
    market = _first_of_series(world_of(request)).get(request.path_params["series"])
    if market is None:
        raise Refusal(404, "series not found")
    return answer({"series": series_json(market)})


def series_fee_changes(request: Request) -> Response:
    """``/series/fee_changes``: no series of this world has ever changed its fees."""
    del request
    return answer({"series_fee_change_arr": []})


def event_fee_changes(request: Request) -> Response:
    """``/events/fee_changes``: no event of this world overrides those of its series."""
    _limit(request, 100, _MAX_ROWS)
    return _page("event_fee_changes", [], None)


def _events(world: World) -> list[tuple[WorldMarket, ...]]:
    return [children for key, children in world.by_event.items() if key.startswith(Venue.KALSHI)]


def _nested(world: World, children: Iterable[WorldMarket]) -> list[dict[str, object]]:
    """Events outlive their markets: what has moved to the old tier is not listed inside them."""
    return [market_json(world, child) for child in children if not archived(world, child)]


def list_events(request: Request) -> Response:
    """``/events``; ``status`` holds for any child."""
    world, params = world_of(request), request.query_params
    limit, skip = _limit(request, _MAX_EVENTS, _MAX_EVENTS), _after(request)
    status, series = _status_filter(request), params.get("series_ticker")
    tickers, least_close = set(many(request, "tickers")), _moment(request, "min_close_ts")
    rows: list[dict[str, object]] = []
    for place, children in enumerate(_events(world)):
        first = children[0]
        if (
            place < skip
            or (series and first.market.series != series)
            or (tickers and first.event.event_id not in tickers)
            or (least_close is not None and all(closes_at(c) < least_close for c in children))
            or (status and not any(status_of(world, c) in FILTERS[status] for c in children))
        ):
            continue
        if len(rows) == limit:
            return _page("events", rows, place)
        body = event_json(first)
        if params.get("with_nested_markets") == "true":
            body["markets"] = _nested(world, children)
        rows.append(body)
    return _page("events", rows, None)


def one_event(request: Request) -> Response:
    """``/events/{ticker}``."""
    world = world_of(request)
    children = world.by_event.get(f"{Venue.KALSHI}:{request.path_params['event']}")
    if children is None:
        raise Refusal(404, "event not found")
    body, nested = event_json(children[0]), _nested(world, children)
    if request.query_params.get("with_nested_markets") == "true":
        body["markets"] = nested
    return answer({"event": body, "markets": nested})


# --- markets --------------------------------------------------------------------------------------------


def _status_filter(request: Request) -> str:
    status = request.query_params.get("status", "")
    if status and status not in FILTERS:
        raise Refusal(400, "invalid status filter")
    return status


def _time_filter(request: Request, status: str) -> Wanted:
    """At most one of the groups created, close and settled, each with the statuses it goes with."""
    bounds = {
        kind: (_moment(request, f"min_{kind}_ts"), _moment(request, f"max_{kind}_ts")) for kind in _ONE_OF
    }
    used = [kind for kind, pair in bounds.items() if pair != (None, None)]
    updated = _moment(request, "min_updated_ts")
    if len(used) + (updated is not None) > 1:
        raise Refusal(400, "timestamp filters are mutually exclusive")
    if used and status not in _STATUS_FOR[used[0]]:
        raise Refusal(400, f"{used[0]} filters cannot be combined with status {status}")
    if updated is not None and status:
        raise Refusal(400, "min_updated_ts cannot be combined with status")

    def moment_of(market: WorldMarket) -> Nanos | None:
        if not used or used[0] == "settled":
            return market.resolution.resolved_at
        return market.market.opened_at if used[0] == "created" else closes_at(market)

    low, high = bounds[used[0]] if used else (updated, None)

    def wanted(market: WorldMarket) -> bool:
        if low is None and high is None:
            return True
        moment = moment_of(market)
        if moment is None:
            return not used
        return (low is None or moment >= low) and (high is None or moment <= high)

    return wanted


def _named(request: Request) -> Wanted:
    params = request.query_params
    event, series, tickers = params.get("event_ticker"), params.get("series_ticker"), many(request, "tickers")

    def wanted(market: WorldMarket) -> bool:
        return (
            (not event or market.event.event_id in event.split(","))
            and (not series or market.market.series == series)
            and (not tickers or market.native_id in tickers)
        )

    return wanted


def _list(request: Request, wanted: Wanted, *, historical: bool) -> Response:
    if request.query_params.get("mve_filter", "exclude") not in {"exclude", "only"}:
        raise Refusal(400, "invalid mve_filter")
    world, limit, skip = world_of(request), _limit(request, 100, _MAX_ROWS), _after(request)
    rows: list[dict[str, object]] = []
    for place, market in enumerate(world.kalshi.values()):
        if place < skip or archived(world, market) != historical or not wanted(market):
            continue
        if len(rows) == limit:
            return _page("markets", rows, place)
        rows.append(market_json(world, market))
    return _page("markets", rows, None)


def list_markets(request: Request) -> Response:
    """``/markets``."""
    world, status = world_of(request), _status_filter(request)
    within, named = _time_filter(request, status), _named(request)
    if request.query_params.get("mve_filter") == "only":
        return _page("markets", [], None)

    def wanted(market: WorldMarket) -> bool:
        return (
            named(market) and within(market) and (not status or status_of(world, market) in FILTERS[status])
        )

    return _list(request, wanted, historical=False)


def list_historical(request: Request) -> Response:
    """``/historical/markets``: one filter at most, and no dates."""
    used = [n for n in ("tickers", "event_ticker", "series_ticker") if request.query_params.get(n)]
    if len(used) > 1:
        raise Refusal(400, "filters are mutually exclusive: " + ", ".join(used))
    return _list(request, _named(request), historical=True)


def one_market(request: Request) -> Response:
    """``/markets/{ticker}``."""
    return answer({"market": market_json(world_of(request), _find(request, historical=False))})


def one_historical(request: Request) -> Response:
    """``/historical/markets/{ticker}``."""
    return answer({"market": market_json(world_of(request), _find(request, historical=True))})


def _book(world: World, market: WorldMarket) -> Sides | None:
    if market.resolution.status is not ResolutionStatus.OPEN:
        return None
    return book_at(market.book_log(), world.now)


def orderbook(request: Request) -> Response:
    """``/markets/{ticker}/orderbook``: the present only; empty once trading has ended."""
    depth = integer(request, "depth") or 0
    if not 0 <= depth <= 100:
        raise Refusal(400, "depth must be between 0 and 100")
    market = _find(request, historical=False)
    return answer({"orderbook_fp": book_json(_book(world_of(request), market), depth)})


def orderbooks(request: Request) -> Response:
    """``/markets/orderbooks?tickers=A&tickers=B``; unknown tickers are dropped."""
    world, tickers = world_of(request), many(request, "tickers")
    if not 1 <= len(tickers) <= _MAX_TICKERS:
        raise Refusal(400, f"between 1 and {_MAX_TICKERS} tickers are required")
    found = [world.kalshi[t] for t in dict.fromkeys(tickers) if t in world.kalshi]
    books = [{"ticker": m.native_id, "orderbook_fp": book_json(_book(world, m), 0)} for m in found]
    return answer({"orderbooks": books})


# --- trades ---------------------------------------------------------------------------------------------


def _trades(request: Request, oldest: Nanos, newest: Nanos) -> Response:
    """Newest first, within the tier's reach and the caller's window."""
    world, params = world_of(request), request.query_params
    limit, cursor = _limit(request, 100, _MAX_ROWS), decode_cursor(params.get("cursor"))
    low, high = _moment(request, "min_ts"), _moment(request, "max_ts")
    start, end = max(oldest, low or 0), min(newest, world.now if high is None else high)
    ticker, blocks = params.get("ticker"), params.get("is_block_trade")
    markets = [m for m in world.kalshi.values() if not ticker or m.native_id == ticker]
    keys: list[tuple[int, int, int]] = []
    for place, market in enumerate(markets):
        trades = market.trades()
        first, last = np.searchsorted(trades.ts, [start, end + 1])
        keys.extend(
            (-int(trades.ts[at]), place, at)
            for at in range(int(first), int(last))
            if blocks is None or (blocks == "true") == bool(trades.block[at])
        )
    keys.sort()
    skip = int(cursor.get("at", 0))
    rows = [trade_json(markets[p], markets[p].trades(), at) for _, p, at in keys[skip : skip + limit]]
    return _page("trades", rows, skip + limit if skip + limit < len(keys) else None)


def list_trades(request: Request) -> Response:
    """``/markets/trades``: the live tier, which reaches eighteen days past the cutoff."""
    now = world_of(request).now
    return _trades(request, now - TRADES_ARCHIVED_AFTER - _OVERLAP, now)


def historical_trades(request: Request) -> Response:
    """``/historical/trades``: everything before the cutoff."""
    return _trades(request, 0, world_of(request).now - TRADES_ARCHIVED_AFTER - 1)


# --- candlesticks ---------------------------------------------------------------------------------------


def _window(request: Request) -> tuple[int, int, int]:
    start, end = integer(request, "start_ts"), integer(request, "end_ts")
    period = integer(request, "period_interval")
    if start is None or end is None or period not in PERIODS:
        raise Refusal(400, "Parameter validation failed: start_ts, end_ts and period_interval in 1, 60, 1440")
    if end < start:
        raise Refusal(400, "Parameter validation failed: end_ts is before start_ts")
    return start, end, period


def _candles(world: World, market: WorldMarket, window: tuple[int, int, int]) -> list[Candle]:
    start, end, period = window
    last = -(-world.now // SECOND) + period * 60
    return candles(market.quotes(), market.trades(), period, start, min(end, last))


def _within_single(window: tuple[int, int, int]) -> None:
    number = asked(*window)
    if number > _MAX_SINGLE:
        raise Refusal(
            400, f"requested time range with candlesticks: {number}, max candlesticks: {_MAX_SINGLE}"
        )


def live_candles(request: Request) -> Response:
    """``/series/{series}/markets/{ticker}/candlesticks``."""
    window, market = _window(request), _find(request, historical=False)
    if market.market.series != request.path_params["series"]:
        raise Refusal(404, "market not found")
    _within_single(window)
    rows = live_json(_candles(world_of(request), market, window))
    return answer({"ticker": market.native_id, "candlesticks": rows})


def historical_candles(request: Request) -> Response:
    """``/historical/markets/{ticker}/candlesticks``: no series, and other key names."""
    window, market = _window(request), _find(request, historical=True)
    _within_single(window)
    rows = historical_json(_candles(world_of(request), market, window))
    return answer({"ticker": market.native_id, "candlesticks": rows})


def batch_candles(request: Request) -> Response:
    """``/markets/candlesticks?market_tickers=``: at most 100 tickers and 10,000 candles together."""
    world, window, tickers = world_of(request), _window(request), many(request, "market_tickers")
    if not 1 <= len(tickers) <= _MAX_TICKERS:
        raise Refusal(400, f"between 1 and {_MAX_TICKERS} market_tickers are required")
    number = asked(*window) * len(tickers)
    if number > _MAX_BATCH:
        raise Refusal(
            400, f"requested candlesticks across all markets: {number}, max candlesticks: {_MAX_BATCH}"
        )
    found = [world.kalshi[t] for t in dict.fromkeys(tickers) if t in world.kalshi]
    rows = [
        {"market_ticker": m.native_id, "candlesticks": live_json(_candles(world, m, window))}
        for m in found
        if not archived(world, m)
    ]
    return answer({"markets": rows})


BASE: Final = "/trade-api/v2"

ROUTES: Final = [
    Route(BASE + "/exchange/status", exchange_status),
    Route(BASE + "/exchange/schedule", exchange_schedule),
    Route(BASE + "/series", list_series),
    Route(BASE + "/series/fee_changes", series_fee_changes),
    Route(BASE + "/series/{series}", one_series),
    Route(BASE + "/series/{series}/markets/{ticker}/candlesticks", live_candles),
    Route(BASE + "/events", list_events),
    Route(BASE + "/events/fee_changes", event_fee_changes),
    Route(BASE + "/events/{event}", one_event),
    Route(BASE + "/markets", list_markets),
    Route(BASE + "/markets/trades", list_trades),
    Route(BASE + "/markets/orderbooks", orderbooks),
    Route(BASE + "/markets/candlesticks", batch_candles),
    Route(BASE + "/markets/{ticker}", one_market),
    Route(BASE + "/markets/{ticker}/orderbook", orderbook),
    Route(BASE + "/historical/cutoff", cutoff),
    Route(BASE + "/historical/markets", list_historical),
    Route(BASE + "/historical/trades", historical_trades),
    Route(BASE + "/historical/markets/{ticker}", one_historical),
    Route(BASE + "/historical/markets/{ticker}/candlesticks", historical_candles),
]
"""Paths of external-api.kalshi.com and api.elections.kalshi.com."""
