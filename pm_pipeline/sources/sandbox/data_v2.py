"""Data API v2: trades, prices, resolutions and positions of Polymarket.

Every answer is an envelope with a page. A cursor holds only where to go on and the page size, so filters
must be sent again with it: a bare cursor continues the feed of all markets. ``offset`` is refused.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.markets.clock import DAY, SECOND, Nanos, to_datetime, to_nanos
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.markets.units import MICRO, Micro, UnitError, to_micro
from pm_pipeline.sources.sandbox.clob import INTERVALS, finest_kept
from pm_pipeline.sources.sandbox.wire import (
    Refusal,
    answer,
    decode_cursor,
    encode_cursor,
    flag,
    integer,
    iso,
    many,
    real,
    seconds,
    world_of,
)
from pm_pipeline.sources.sandbox.world import Ints, Trades, World, WorldMarket

_MAX_TRADES: Final = 1000
_MAX_POINTS: Final = 10_000
_MAX_POSITIONS: Final = 500
_MAX_NAMED: Final = 20
_USER_REACH: Final = 3 * 365 * DAY
_WIDEST: Final = 15 * DAY
_LEAST_BUCKET: Final = {"1w": 300, "1m": 600, "max": 600, "all": 600}
_DUST: Final = MICRO // 10
_MAKERS: Final = tuple("0x" + sha256(f"maker:{n}".encode()).hexdigest()[:40] for n in range(3))
_STATUS: Final = {
    ResolutionStatus.OPEN: "initialized",
    ResolutionStatus.CLOSED: "posed",
    ResolutionStatus.PENDING: "proposed",
    ResolutionStatus.DISPUTED: "disputed",
    ResolutionStatus.RESOLVED: "resolved",
    ResolutionStatus.VOID: "resolved",
}


def error(refusal: Refusal) -> Response:
    """The Data API's error body."""
    codes = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 429: "RATE_LIMITED"}
    body: dict[str, object] = {
        "error": refusal.reason,
        "code": codes.get(refusal.status, "INVALID_PARAMETER"),
        "retryable": refusal.status in {429, 503},
        "trace_id": sha256(refusal.reason.encode()).hexdigest()[:32],
    }
    if refusal.parameter is not None:
        body["parameter"] = refusal.parameter
    return answer(body, refusal.status)


def _envelope(rows: Iterable[object], limit: int, next_cursor: str | None) -> Response:
    page = {"limit": limit, "offset": 0, "has_more": next_cursor is not None, "next_cursor": next_cursor}
    return answer({"data": list(rows), "pagination": page})


def _common(request: Request, default: int, most: int) -> tuple[int, dict[str, int | str]]:
    """Page size and cursor. Raises :class:`Refusal` for ``offset`` and a page that is too large."""
    if "offset" in request.query_params:
        raise Refusal(400, "offset is not supported; use cursor", "offset")
    cursor = decode_cursor(request.query_params.get("cursor"))
    limit = integer(request, "limit")
    if limit is None:
        limit = int(cursor.get("l", default))
    if not 1 <= limit <= most:
        raise Refusal(400, f"limit must be between 1 and {most}", "limit")
    return limit, cursor


def _bound(request: Request, name: str) -> Nanos | None:
    given = integer(request, name)
    if given is not None and given <= 0:
        raise Refusal(400, f"{name} must be positive", name)
    return None if given is None else given * SECOND


def _selected(request: Request) -> list[WorldMarket] | None:
    """The markets named by condition or event; ``None`` when none are named."""
    world = world_of(request)
    conditions, events = many(request, "condition_id"), many(request, "event_id")
    for name, given in (("condition_id", conditions), ("event_id", events)):
        if len(given) > _MAX_NAMED:
            raise Refusal(400, f"at most {_MAX_NAMED} values", name)
    if not conditions and not events:
        return None
    named = [world.by_condition[c] for c in conditions if c in world.by_condition]
    named += [child for e in events for child in world.by_event.get(f"polymarket:{e}", ())]
    return list({market.native_id: market for market in named}.values())


# --- trades ---------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """One row of the feed: a taker order, or (``maker`` > 0) one of the orders it met."""

    market: WorldMarket
    trades: Trades
    at: int
    maker: int

    @property
    def size(self) -> Micro:
        """Contracts: the taker's whole order, or this maker's part of it."""
        whole = int(self.trades.size[self.at])
        if self.maker == 0:
            return whole
        first = whole // 3 // 10_000 * 10_000
        return first if self.maker == 2 else whole - first

    @property
    def buys(self) -> bool:
        """Whether this row's wallet bought the token: makers take the other side of the taker."""
        return self.trades.taker_buys(self.at) == (self.maker == 0)

    @property
    def wallet(self) -> str:
        """The taker's address, or that of the maker."""
        return str(self.trades.wallet[self.at]) if self.maker == 0 else _MAKERS[self.maker - 1]


def _trade_json(row: _Row) -> dict[str, object]:
    listed, trades, at = row.market.market, row.trades, row.at
    outcome = listed.instrument(int(trades.outcome[at]))
    name = f"wallet-{row.wallet[2:8]}"
    return {
        "proxy_wallet": row.wallet,
        "side": "BUY" if row.buys else "SELL",
        "token_id": outcome.token_id,
        "condition_id": listed.condition_id,
        "size": real(row.size),
        "price": real(trades.price_of_named(at)),
        "timestamp": seconds(int(trades.ts[at])),
        "title": listed.question,
        "slug": listed.slug,
        "icon": "",
        "event_slug": row.market.event.slug,
        "outcome": outcome.label,
        "outcome_index": outcome.outcome_index,
        "name": name,
        "pseudonym": name,
        "bio": "",
        "profile_image": "",
        "profile_image_optimized": "",
        "transaction_hash": _transaction(row.market, at),
    }


def _transaction(market: WorldMarket, at: int) -> str:
    return "0x" + sha256(f"{market.native_id}:{at}".encode()).hexdigest()


def _month_start(now: Nanos) -> Nanos:
    """The start of the previous month: how far the feed of all markets goes back."""
    this = to_datetime(now).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return to_nanos(to_datetime(to_nanos(this) - DAY).replace(day=1))


def list_trades(request: Request) -> Response:
    """``/v2/trades``, newest first. One row per taker order unless ``taker_only=false``."""
    world, params = world_of(request), request.query_params
    limit, cursor = _common(request, 100, _MAX_TRADES)
    user, side = params.get("user"), params.get("side", "").upper()
    if side not in {"", "BUY", "SELL"}:
        raise Refusal(400, "side must be BUY or SELL", "side")
    start, end = _bound(request, "start"), _bound(request, "end")
    if user is None and (start is not None or end is not None):
        raise Refusal(400, "start and end require user", "start")
    selected = _selected(request)
    if user is None and selected is None:
        start = _month_start(world.now)
    else:
        start = max(world.now - _USER_REACH, 0) if start is None else start
    taker_only = flag(request, "taker_only", True)
    keep = _amount_filter(request)
    ordinals = {native_id: n for n, native_id in enumerate(world.polymarket)}
    chosen = world.polymarket.values() if selected is None else selected
    markets = sorted(chosen, key=lambda market: ordinals[market.native_id])
    order, feeds = _newest_first(world, markets, start, world.now if end is None else end)
    rows: list[_Row] = []
    after = (int(cursor["ts"]), int(cursor["sq"])) if "ts" in cursor else None
    last: tuple[int, int] | None = None
    for place, at in order:
        trades = feeds[place]
        stamp = seconds(int(trades.ts[at]))
        for maker in (0,) if taker_only else (0, 1, 2):
            sequence = -(ordinals[markets[place].native_id] * 10**8 + at * 4 + maker)
            if after is not None and (stamp, sequence) >= after:
                continue
            row = _Row(markets[place], trades, at, maker)
            wanted = (user is None or row.wallet == user.lower()) and (
                not side or row.buys == (side == "BUY")
            )
            if not (wanted and keep(row)):
                continue
            if len(rows) == limit and last is not None:
                following = encode_cursor({"ts": last[0], "sq": last[1], "l": limit})
                return _envelope(map(_trade_json, rows), limit, following)
            rows.append(row)
            last = (stamp, sequence)
    return _envelope(map(_trade_json, rows), limit, None)


def _newest_first(
    world: World, markets: Sequence[WorldMarket], start: Nanos, end: Nanos
) -> tuple[list[tuple[int, int]], list[Trades]]:
    """(market, row) of every trade in the span: second falling, then in a stable order."""
    feeds = [market.trades() for market in markets]
    places: list[Ints] = []
    rows: list[Ints] = []
    stamps: list[Ints] = []
    for place, trades in enumerate(feeds):
        low, high = np.searchsorted(trades.ts, [start, min(end, world.now) + 1])
        rows.append(np.arange(low, high, dtype=np.int64))
        places.append(np.full(high - low, place, np.int64))
        stamps.append(trades.ts[low:high] // SECOND)
    if not rows:
        return [], feeds
    all_rows, all_places = np.concatenate(rows), np.concatenate(places)
    order = np.lexsort((all_rows, all_places, -np.concatenate(stamps)))
    return list(zip(all_places[order].tolist(), all_rows[order].tolist(), strict=True)), feeds


def _amount_filter(request: Request) -> Callable[[_Row], bool]:
    """Small rows are hidden unless ``filter_amount`` is lowered: below a cent of cash by default."""
    kind = request.query_params.get("filter_type", "CASH").upper()
    if kind not in {"CASH", "TOKENS"}:
        raise Refusal(400, "filter_type must be CASH or TOKENS", "filter_type")
    try:
        least = to_micro(request.query_params.get("filter_amount", "0.01"))
    except UnitError as broken:
        raise Refusal(400, "filter_amount must be a number", "filter_amount") from broken

    def keep(row: _Row) -> bool:
        amount = row.size
        if kind == "CASH":
            amount = amount * row.trades.price_of_named(row.at) // MICRO
        return amount >= least

    return keep


# --- prices ---------------------------------------------------------------------------------------------


def prices_history(request: Request) -> Response:
    """``/v2/prices-history``: mid points, each the last of a bucket that ends at its timestamp.

    A bucket finer than what is kept gives an empty page; without one the server takes the finest it has.
    The last point of a resolved market (``resolution_seconds`` 0) is its payout, not a price.
    """
    world, params = world_of(request), request.query_params
    limit, cursor = _common(request, 1000, _MAX_POINTS)
    token_id = params.get("token_id")
    if not token_id:
        raise Refusal(400, "token_id is required", "token_id")
    start, end, as_of = _bound(request, "start"), _bound(request, "end"), _bound(request, "as_of")
    interval = params.get("interval")
    if sum(choice is not None for choice in (start, interval, as_of)) != 1:
        raise Refusal(400, "exactly one of start, interval and as_of is required", "start")
    if end is not None and start is None:
        raise Refusal(400, "end requires start", "end")
    if interval is not None and interval not in {*INTERVALS, "max", "all"}:
        raise Refusal(400, "unknown interval", "interval")
    bucket = integer(request, "bucket_seconds")
    least = _LEAST_BUCKET.get(interval or "", 60)
    if bucket is not None and not least <= bucket <= 86_400:
        raise Refusal(400, f"bucket_seconds must be between {least} and 86400", "bucket_seconds")
    token = world.by_token.get(token_id)
    if token is None:
        raise Refusal(404, "token not found", "token_id")
    if start is not None:
        begin, until = start, world.now + SECOND if end is None else end
        if until - begin > _WIDEST:
            raise Refusal(400, "the window from start to end must not exceed 15 days", "end")
    elif as_of is not None:
        begin, until = 0, as_of + SECOND
    else:
        begin = world.now - INTERVALS[interval] if interval in INTERVALS else 0
        until = world.now + SECOND
    points = _points(world, token.market, token.outcome, begin, until, bucket, least)
    if as_of is not None:
        points = points[-1:]
    after = int(cursor.get("ts", -1))
    page = [point for point in points if int(point[0]) > after]
    following = encode_cursor({"ts": page[limit - 1][0], "l": limit}) if len(page) > limit else None
    rows = (
        {"timestamp": t, "price": real(p), "resolution_seconds": spacing} for t, p, spacing in page[:limit]
    )
    return _envelope(rows, limit, following)


def _points(
    world: World,
    market: WorldMarket,
    outcome: int,
    begin: Nanos,
    until: Nanos,
    bucket: int | None,
    least: int,
) -> list[tuple[int, Micro, int]]:
    """(second, price, spacing) in [begin, until); the payout of a resolved market comes last."""
    # What is kept is decided by the oldest point asked for, as one fineness serves one answer.
    quotes, resolution = market.quotes(), market.resolution
    first = max(begin, int(quotes.ts[0])) if len(quotes.ts) else begin
    kept = finest_kept(world, first)
    spacing = max(kept, least) if bucket is None else bucket
    points: list[tuple[int, Micro, int]] = []
    if spacing >= kept and len(quotes.ts):
        # The bucket that ends at k holds what was seen in (k - spacing, k], so no point is ahead of time.
        ends = -(-quotes.ts // (spacing * SECOND)) * spacing
        last = np.flatnonzero(np.append(ends[1:] != ends[:-1], True))
        stop = resolution.resolved_at or world.now
        for row in last:
            moment = int(ends[row]) * SECOND
            if begin <= moment < until and moment <= min(stop, world.now):
                mid = int(quotes.mid[row])
                points.append((int(ends[row]), MICRO - mid if outcome else mid, spacing))
    if resolution.payouts is not None and resolution.resolved_at is not None:
        paid_at = seconds(resolution.resolved_at)
        if begin <= paid_at * SECOND < until:
            points = [point for point in points if point[0] < paid_at]
            points.append((paid_at, resolution.payouts[outcome], 0))
    return points


# --- resolutions, positions, status ---------------------------------------------------------------------


def resolutions(request: Request) -> Response:
    """``/v2/resolutions`` by question, condition or event (exactly one kind, at most 20)."""
    world = world_of(request)
    if "offset" in request.query_params:
        raise Refusal(400, "offset is not supported; use cursor", "offset")
    named = {name: many(request, name) for name in ("question_id", "condition_id", "event_id")}
    given = [name for name, values in named.items() if values]
    if len(given) != 1:
        raise Refusal(400, "exactly one of question_id, condition_id and event_id is required")
    values = named[given[0]]
    if len(values) > _MAX_NAMED:
        raise Refusal(400, f"at most {_MAX_NAMED} values", given[0])
    found: list[WorldMarket] = []
    for value in values:
        if given[0] == "event_id":
            found.extend(world.by_event.get(f"polymarket:{value}", ()))
        else:
            market = (world.by_question if given[0] == "question_id" else world.by_condition).get(value)
            found.extend([market] if market is not None else [])
    return answer({"data": [_resolution_json(market) for market in found if not market.inactive]})


def _resolution_json(market: WorldMarket) -> dict[str, object]:
    resolution = market.resolution
    row: dict[str, object] = {
        "question_id": market.market.question_id or "",
        "condition_id": market.market.condition_id,
        "status": _STATUS[resolution.status],
        "extended_review": False,
        "was_disputed": resolution.was_disputed or resolution.status is ResolutionStatus.DISPUTED,
        "new_version_q": False,
        "transaction_hash": "",
        "log_index": "",
        "last_update_timestamp": iso(resolution.known_at // SECOND * SECOND),
    }
    if resolution.payouts is not None and resolution.resolved_at is not None:
        # The chain pays in whole units of the pair; a half comes as two equal ones.
        row |= {
            "payouts": [MICRO, MICRO] if resolution.payouts[0] * 2 == MICRO else list(resolution.payouts),
            "resolution_source": "reported",
            "was_arbitrated": resolution.was_disputed,
            "resolved_block": 80_000_000 + seconds(resolution.resolved_at) // 2 % 10_000_000,
            "resolved_at": iso(resolution.resolved_at),
        }
    else:
        row["price"] = "69"
    return row


def positions(request: Request) -> Response:
    """``/v2/positions`` of one user or one condition, from the taker trades of the world."""
    world = world_of(request)
    limit, cursor = _common(request, 100, _MAX_POSITIONS)
    user, selected = request.query_params.get("user"), _selected(request)
    if (user is None) == (selected is None):
        raise Refusal(400, "exactly one of user and condition_id is required", "user")
    rows = [
        row
        for market in (world.polymarket.values() if selected is None else selected)
        for row in _positions_in(world, market, user)
    ]
    skip = int(cursor.get("at", 0))
    page, more = rows[skip : skip + limit], skip + limit < len(rows)
    return _envelope(page, limit, encode_cursor({"at": skip + limit, "l": limit}) if more else None)


def _positions_in(world: World, market: WorldMarket, user: str | None) -> list[dict[str, object]]:
    """Holdings per wallet and outcome at average cost; a wallet that only sold holds nothing here."""
    trades = market.trades()
    held: dict[tuple[str, int], list[int]] = {}
    for at in range(len(trades.ts)):
        wallet = str(trades.wallet[at])
        if user is not None and wallet != user.lower():
            continue
        size, cost, bought, gained = held.setdefault((wallet, int(trades.outcome[at])), [0, 0, 0, 0])
        traded, price = int(trades.size[at]), trades.price_of_named(at)
        if trades.taker_buys(at):
            held[(wallet, int(trades.outcome[at]))] = [
                size + traded,
                cost + traded * price // MICRO,
                bought + traded,
                gained,
            ]
        elif size:
            sold = min(traded, size)
            freed = cost * sold // size
            gained += sold * price // MICRO - freed
            held[(wallet, int(trades.outcome[at]))] = [size - sold, cost - freed, bought, gained]
    return [
        _position_json(world, market, wallet, outcome, figures)
        for (wallet, outcome), figures in sorted(held.items())
        if figures[2] and (figures[0] >= _DUST or figures[3])
    ]


def _position_json(
    world: World, market: WorldMarket, wallet: str, outcome: int, figures: list[int]
) -> dict[str, object]:
    size, cost, bought, gained = figures
    listed, payouts = market.market, market.resolution.payouts
    quotes = market.quotes()
    row = quotes.at(world.now)
    mid = MICRO // 2 if row is None else int(quotes.mid[row])
    price = (MICRO - mid if outcome else mid) if payouts is None else payouts[outcome]
    value = size * price // MICRO
    status = "OPEN" if payouts is None else ("REDEEMABLE" if price else "REDEEMABLE_LOST")
    mine, other = listed.instrument(outcome), listed.instrument(1 - outcome)
    stamps = market.trades().ts[np.asarray(market.trades().wallet == wallet)]
    percent = 100.0 * (value - cost) / cost if cost else 0.0
    return {
        "proxy_wallet": wallet,
        "token_id": mine.token_id,
        "condition_id": listed.condition_id,
        "current_size": real(size),
        "avg_price": real(cost * MICRO // size) if size else 0.0,
        "entry_cost_usdc": real(cost),
        "entry_fees_usdc": 0.0,
        "total_cost_usdc": real(cost),
        "current_price": real(price),
        "current_value": real(value),
        "total_size": real(bought),
        "realized_pnl": real(gained),
        "unrealized_pnl": real(value - cost),
        "total_pnl": real(value - cost + gained),
        "percent_pnl": round(percent, 4),
        "percent_realized_pnl": round(percent, 4),
        "status": status if size else "CLOSED",
        "redeemable": payouts is not None,
        "mergeable": False,
        "negative_risk": listed.exclusive_group,
        "archived": False,
        "title": listed.question,
        "slug": listed.slug,
        "icon": "",
        "event_id": market.event.event_id,
        "event_slug": market.event.slug,
        "outcome": mine.label,
        "outcome_index": outcome,
        "opposite_outcome": other.label,
        "opposite_token_id": other.token_id,
        "end_date": "" if listed.scheduled_close is None else iso(listed.scheduled_close)[:10],
        "last_event_at": seconds(int(stamps[-1])),
        "first_entry_at": seconds(int(stamps[0])),
        "name": f"wallet-{wallet[2:8]}",
        "profile_image": "",
        "verified": False,
    }


def status(request: Request) -> Response:
    """``/v2/status``: how fresh the data are. The sandbox stands still, so nothing lags."""
    now = world_of(request).now
    block = 80_000_000 + seconds(now) // 2 % 10_000_000
    mechanisms = [{"name": "activity_feed", "age_seconds": 0}, {"name": "pnl", "age_seconds": 0}]
    return answer(
        {
            "data": {
                "computed_at": iso(now),
                "age_seconds": 0,
                "serving": {"lag_seconds": 0, "worst": "activity_feed", "mechanisms": mechanisms},
                "ingestion": {
                    "cursors": 1,
                    "network": "polygon",
                    "chain_id": 137,
                    "max_synced_block": block,
                    "min_synced_block": block,
                    "most_lagged": {"source": "sandbox", "block": block, "behind_max": 0},
                    "lagging": [],
                },
            }
        }
    )


ROUTES: Final = [
    Route("/v2/trades", list_trades),
    Route("/v2/prices-history", prices_history),
    Route("/v2/resolutions", resolutions),
    Route("/v2/positions", positions),
    Route("/v2/status", status),
]
"""Paths of data-api.polymarket.com."""
