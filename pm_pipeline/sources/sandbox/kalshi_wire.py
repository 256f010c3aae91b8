"""How Kalshi prints its objects: market, event, series, trade, book."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final
from uuid import UUID

from pm_pipeline.markets.clock import DAY, HOUR, Nanos
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.sandbox.candles import count, dollars
from pm_pipeline.sources.sandbox.wire import iso
from pm_pipeline.sources.sandbox.world import ABSENT, Sides, Trades, World, WorldMarket, book_at

_STATUS: Final = {
    ResolutionStatus.OPEN: "active",
    ResolutionStatus.CLOSED: "closed",
    ResolutionStatus.PENDING: "determined",
    ResolutionStatus.DISPUTED: "disputed",
    ResolutionStatus.RESOLVED: "finalized",
    ResolutionStatus.VOID: "finalized",
}
FILTERS: Final = {
    "unopened": frozenset({"initialized", "inactive"}),
    "open": frozenset({"active"}),
    "paused": frozenset[str](),
    "closed": frozenset({"closed", "determined", "disputed", "amended"}),
    "settled": frozenset({"finalized"}),
}
"""What the ``status`` filter means; its words are not those of the ``status`` field."""

_ENDED: Final = frozenset({ResolutionStatus.RESOLVED, ResolutionStatus.VOID})
_FREQUENCY: Final = {"KXBTC15M": "fifteen_min", "KXHIGHNY": "daily"}


def status_of(world: World, market: WorldMarket) -> str:
    """The ``status`` field: ``active``, ``finalized`` and so on; never a filter word."""
    opened = market.market.opened_at
    if opened is not None and opened > world.now:
        return "initialized"
    return _STATUS[market.resolution.status]


def closes_at(market: WorldMarket) -> Nanos:
    """``close_time``: the true end of trading once it is known, else the announced one."""
    return market.resolution.closed_at or market.market.scheduled_close or 0


def market_json(world: World, market: WorldMarket) -> dict[str, object]:
    """A market in the form of the contract of October 2026."""
    listed, resolution = market.market, market.resolution
    trading, trades = resolution.status is ResolutionStatus.OPEN, market.trades()
    bid, ask = _touch(world, market) if trading else (ABSENT, ABSENT)
    sizes = _touch_sizes(world, market) if trading else (0, 0)
    low, high = 0 if bid == ABSENT else bid, MICRO if ask == ABSENT else ask
    last = int(trades.price[-1]) if len(trades.ts) else 0
    day_volume = int(trades.size[trades.ts > world.now - DAY].sum())
    opened, close = iso(listed.opened_at or 0), closes_at(market)
    body: dict[str, object] = {
        "ticker": market.native_id,
        "event_ticker": market.event.event_id,
        "market_type": "binary",
        "title": listed.question,
        "subtitle": market.label,
        "yes_sub_title": market.label,
        "no_sub_title": market.label,
        "created_time": opened,
        "updated_time": iso(resolution.resolved_at or close),
        "open_time": opened,
        "close_time": iso(close),
        "expected_expiration_time": iso(close + 9 * HOUR),
        "expiration_time": iso(close + 7 * DAY),
        "latest_expiration_time": iso(close + 7 * DAY),
        "settlement_timer_seconds": 3600,
        "status": status_of(world, market),
        "yes_bid_dollars": dollars(low),
        "yes_bid_size_fp": count(sizes[0]),
        "yes_ask_dollars": dollars(high),
        "yes_ask_size_fp": count(sizes[1]),
        "no_bid_dollars": dollars(MICRO - high),
        "no_ask_dollars": dollars(MICRO - low),
        "last_price_dollars": dollars(last),
        "previous_yes_bid_dollars": dollars(low),
        "previous_yes_ask_dollars": dollars(high),
        "previous_price_dollars": dollars(last),
        "volume_fp": count(market.volume() or 0),
        "volume_24h_fp": count(day_volume),
        "open_interest_fp": count(market.volume() or 0),
        "result": _result(market),
        "can_close_early": True,
        "notional_value_dollars": dollars(MICRO),
        "expiration_value": market.settled_value,
        "rules_primary": listed.rules_text or listed.question,
        "rules_secondary": "",
        "price_level_structure": "linear_cent" if len(listed.ticks) == 1 else "tapered_deci_cent",
        "price_ranges": [
            {"start": dollars(r.start), "end": dollars(r.end), "step": dollars(r.step)} for r in listed.ticks
        ],
        "settlement_bounds_type": "default",
        "exchange_index": 0,
    }
    if resolution.resolved_at is not None and resolution.status in _ENDED:
        body["settlement_ts"] = iso(resolution.resolved_at)
    if resolution.payouts is not None:
        body["settlement_value_dollars"] = dollars(resolution.payouts[0])
    if market.strike is not None:
        body["strike_type"] = market.strike.kind
        # A tail has no second strike; the key is then absent, never 0.
        if market.strike.floor is not None:
            body["floor_strike"] = market.strike.floor
        if market.strike.cap is not None:
            body["cap_strike"] = market.strike.cap
    return body


def _result(market: WorldMarket) -> str:
    """``yes``, ``no`` or ``scalar``; empty while undecided, and for ever on a void market."""
    payouts = market.resolution.payouts
    if payouts is None:
        return ""
    return {MICRO: "yes", 0: "no"}.get(payouts[0], "scalar")


def _touch(world: World, market: WorldMarket) -> tuple[int, int]:
    quotes = market.quotes()
    row = quotes.at(world.now)
    return (ABSENT, ABSENT) if row is None else (int(quotes.bid[row]), int(quotes.ask[row]))


def _touch_sizes(world: World, market: WorldMarket) -> tuple[int, int]:
    sides = book_at(market.book_log(), world.now)
    if sides is None:
        return 0, 0
    bid = sides.bids[max(sides.bids)] if sides.bids else 0
    return bid, sides.asks[min(sides.asks)] if sides.asks else 0


def event_json(market: WorldMarket) -> dict[str, object]:
    """An event, from its first market."""
    listed, event = market.market, market.event
    body: dict[str, object] = {
        "event_ticker": event.event_id,
        "series_ticker": listed.series or "",
        "title": event.title,
        "sub_title": event.title,
        "collateral_return_type": "MECNET" if listed.exclusive_group else "",
        "mutually_exclusive": listed.exclusive_group,
        "category": listed.category or "",
        "settlement_sources": _sources(market),
        "exchange_index": 0,
    }
    if listed.scheduled_close is not None:
        body["strike_date"] = iso(listed.scheduled_close)
    return body


def series_json(market: WorldMarket) -> dict[str, object]:
    """The series that a market belongs to; category, tags and fees live here."""
    listed = market.market
    ticker = listed.series or ""
    return {
        "ticker": ticker,
        "frequency": _FREQUENCY.get(ticker, "custom"),
        "title": market.event.title,
        "category": listed.category or "",
        "categories": [listed.category or ""],
        "tags": list(listed.tags),
        "settlement_sources": _sources(market),
        "contract_url": "",
        "contract_terms_url": "",
        "fee_type": "quadratic_with_maker_fees" if ticker == "KXPAYROLLS" else "quadratic",
        "fee_multiplier": 1,
        "additional_prohibitions": [],
        "exchange_index": 0,
    }


def _sources(market: WorldMarket) -> list[dict[str, str]]:
    return [{"name": market.market.resolution_source or "unknown", "url": ""}]


def trade_json(market: WorldMarket, trades: Trades, at: int) -> dict[str, object]:
    """One trade. A taker who lifts the offer of YES is on the yes side, the bid side of the book."""
    price, yes = int(trades.price[at]), bool(trades.lifts[at])
    side = "yes" if yes else "no"
    return {
        "trade_id": stable_uuid(f"{market.native_id}:trade:{at}"),
        "ticker": market.native_id,
        "count_fp": count(int(trades.size[at])),
        "yes_price_dollars": dollars(price),
        "no_price_dollars": dollars(MICRO - price),
        "taker_side": side,
        "taker_outcome_side": side,
        "taker_book_side": "bid" if yes else "ask",
        "created_time": iso(int(trades.ts[at])),
        "is_block_trade": bool(trades.block[at]),
    }


def book_json(sides: Sides | None, depth: int) -> dict[str, object]:
    """Bids of YES and of NO, rising, so that the best is last; ``depth`` 0 means all."""
    bids = sorted(sides.bids.items()) if sides else []
    asks = sorted(((MICRO - price, size) for price, size in sides.asks.items())) if sides else []
    return {"yes_dollars": levels_json(bids[-depth:]), "no_dollars": levels_json(asks[-depth:])}


def levels_json(levels: Iterable[tuple[int, int]]) -> list[list[str]]:
    """Price levels as pairs of text."""
    return [[dollars(price), count(size)] for price, size in levels]


def stable_uuid(name: str) -> str:
    """A UUID that depends on the name alone."""
    return str(UUID(bytes=sha256(name.encode()).digest()[:16]))
