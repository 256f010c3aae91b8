"""Data API v2: trades of Polymarket, and the positions they left.

One row per taker order, or with ``taker_only=false`` also the orders it met, whose sizes sum to the taker's:
whoever adds up both counts twice.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import DAY, SECOND, Nanos, to_datetime, to_nanos
from pm_pipeline.markets.units import MICRO, Micro, UnitError, to_micro
from pm_pipeline.sources.sandbox.data_wire import bound, envelope, page_asked, selected_markets
from pm_pipeline.sources.sandbox.wire import (
    Refusal,
    encode_cursor,
    flag,
    iso,
    real,
    seconds,
    world_of,
)
from pm_pipeline.sources.sandbox.world import Ints, Trades, World, WorldMarket

_MAX_TRADES: Final = 1000
_MAX_POSITIONS: Final = 500
_USER_REACH: Final = 3 * 365 * DAY
_DUST: Final = MICRO // 10
MAKERS: Final = tuple("0x" + sha256(f"maker:{n}".encode()).hexdigest()[:40] for n in range(3))
"""Addresses of those whose orders rest."""


class Row(NamedTuple):
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
        return str(self.trades.wallet[self.at]) if self.maker == 0 else MAKERS[self.maker - 1]


def _trade_json(row: Row) -> dict[str, object]:
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
        "transaction_hash": transaction(row.market, at),
    }


def transaction(market: WorldMarket, at: int) -> str:
    """Hash of the transaction of a trade."""
    return "0x" + sha256(f"{market.native_id}:{at}".encode()).hexdigest()


def _month_start(now: Nanos) -> Nanos:
    """The start of the previous month: how far the feed of all markets goes back."""
    this = to_datetime(now).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return to_nanos(to_datetime(to_nanos(this) - DAY).replace(day=1))


def list_trades(request: Request) -> Response:
    """``/v2/trades``, newest first. One row per taker order unless ``taker_only=false``."""
    world, params = world_of(request), request.query_params
    limit, cursor = page_asked(request, 100, _MAX_TRADES)
    user, side = params.get("user"), params.get("side", "").upper()
    if side not in {"", "BUY", "SELL"}:
        raise Refusal(400, "side must be BUY or SELL", "side")
    start, end = bound(request, "start"), bound(request, "end")
    if user is None and (start is not None or end is not None):
        raise Refusal(400, "start and end require user", "start")
    selected = selected_markets(request)
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
    rows: list[Row] = []
    after = (int(cursor["ts"]), int(cursor["sq"])) if "ts" in cursor else None
    last: tuple[int, int] | None = None
    for place, at in order:
        trades = feeds[place]
        stamp = seconds(int(trades.ts[at]))
        for maker in (0,) if taker_only else (0, 1, 2):
            sequence = -(ordinals[markets[place].native_id] * 10**8 + at * 4 + maker)
            if after is not None and (stamp, sequence) >= after:
                continue
            row = Row(markets[place], trades, at, maker)
            wanted = (user is None or row.wallet == user.lower()) and (
                not side or row.buys == (side == "BUY")
            )
            if not (wanted and keep(row)):
                continue
            if len(rows) == limit and last is not None:
                following = encode_cursor({"ts": last[0], "sq": last[1], "l": limit})
                return envelope(map(_trade_json, rows), limit, following)
            rows.append(row)
            last = (stamp, sequence)
    return envelope(map(_trade_json, rows), limit, None)


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


def _amount_filter(request: Request) -> Callable[[Row], bool]:
    """Small rows are hidden unless ``filter_amount`` is lowered: below a cent of cash by default."""
    kind = request.query_params.get("filter_type", "CASH").upper()
    if kind not in {"CASH", "TOKENS"}:
        raise Refusal(400, "filter_type must be CASH or TOKENS", "filter_type")
    try:
        least = to_micro(request.query_params.get("filter_amount", "0.01"))
    except UnitError as broken:
        raise Refusal(400, "filter_amount must be a number", "filter_amount") from broken

    def keep(row: Row) -> bool:
        amount = row.size
        if kind == "CASH":
            amount = amount * row.trades.price_of_named(row.at) // MICRO
        return amount >= least

    return keep


def positions(request: Request) -> Response:
    """``/v2/positions`` of one user or one condition, from the taker trades of the world."""
    world = world_of(request)
    limit, cursor = page_asked(request, 100, _MAX_POSITIONS)
    user, selected = request.query_params.get("user"), selected_markets(request)
    if (user is None) == (selected is None):
        raise Refusal(400, "exactly one of user and condition_id is required", "user")
    rows = [
        row
        for market in (world.polymarket.values() if selected is None else selected)
        for row in _positions_in(world, market, user)
    ]
    skip = int(cursor.get("at", 0))
    page, more = rows[skip : skip + limit], skip + limit < len(rows)
    return envelope(page, limit, encode_cursor({"at": skip + limit, "l": limit}) if more else None)


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
