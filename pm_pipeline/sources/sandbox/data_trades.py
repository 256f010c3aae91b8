"""Data API v2: trades of Polymarket.

One row per taker order, or with ``taker_only=false`` also the orders it met, whose sizes sum to the taker's:
whoever adds up both counts twice.
"""

from collections.abc import Callable, Sequence
from decimal import ROUND_FLOOR, Decimal
from hashlib import sha256
from typing import Final, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import DAY, SECOND, Nanos, to_datetime, to_nanos
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.sandbox.data_wire import (
    bound,
    envelope,
    least,
    page_asked,
    profile,
    selected_markets,
)
from pm_pipeline.sources.sandbox.wire import (
    Refusal,
    encode_cursor,
    flag,
    real,
    seconds,
    world_of,
)
from pm_pipeline.sources.sandbox.world import Ints, Trades, World, WorldMarket

_MAX_TRADES: Final = 1000
_USER_REACH: Final = 3 * 365 * DAY
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
    def fee(self) -> Micro:
        """Dollars that the taker pays by the market's terms, cut to five places; makers pay none."""
        terms = self.market.market.fee_terms
        if terms is None or self.maker:
            return 0
        p = Decimal(self.trades.price_of_named(self.at)) / MICRO
        fee = Decimal(self.size) * terms.rate * (p * (1 - p)) ** terms.exponent
        return int((fee / 10).to_integral_value(ROUND_FLOOR)) * 10

    @property
    def wallet(self) -> str:
        """The taker's address, or that of the maker."""
        return str(self.trades.wallet[self.at]) if self.maker == 0 else MAKERS[self.maker - 1]


def _trade_json(row: Row) -> dict[str, object]:
    listed, trades, at = row.market.market, row.trades, row.at
    outcome = listed.instrument(int(trades.outcome[at]))
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
        **profile(row.wallet),
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
    """Small rows are hidden unless ``filter_amount`` is lowered: below 0.01 contracts by default."""
    kind = request.query_params.get("filter_type", "TOKENS").upper()
    if kind not in {"CASH", "TOKENS"}:
        raise Refusal(400, "filter_type must be CASH or TOKENS", "filter_type")
    smallest = least(request, "0.01")

    def keep(row: Row) -> bool:
        amount = row.size
        if kind == "CASH":
            amount = amount * row.trades.price_of_named(row.at) // MICRO
        return amount >= smallest

    return keep
