"""Data API v2 about wallets: positions, activity, holders and leaderboards, all from the world's trades."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, Nanos
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.sandbox.data_wire import (
    bound,
    conditions_of,
    envelope,
    least,
    page_asked,
    profile,
    selected_markets,
)
from pm_pipeline.sources.sandbox.wallet_ledger import Act, Hand, hands, order_of, price_at, standings
from pm_pipeline.sources.sandbox.wire import Refusal, encode_cursor, flag, iso, many, real, seconds, world_of
from pm_pipeline.sources.sandbox.world import World, WorldMarket

_MAX_ROWS: Final = 1000
_MAX_HOLDERS: Final = 1000
_MAX_WITH_PROFITS: Final = 100
_MAX_LEADERS: Final = 100
_USER_REACH: Final = 3 * 365 * DAY
_STATUSES: Final[Mapping[str, Callable[[Mapping[str, object]], bool]]] = {
    "OPEN": lambda row: row["status"] != "CLOSED",
    "MERGEABLE": lambda row: row["status"] == "OPEN" and row["mergeable"] is True,
    "REDEEMABLE": lambda row: row["status"] == "REDEEMABLE",
    "REDEEMABLE_LOST": lambda row: row["status"] == "REDEEMABLE" and not row["current_price"],
    "CLOSED": lambda row: row["status"] == "CLOSED",
}
"""Which rows each filter shows; rows themselves are open, redeemable or closed."""
_HIDDEN: Final = frozenset({"DEPOSIT", "WITHDRAWAL"})
_KINDS: Final = frozenset(
    {"TRADE", "SPLIT", "MERGE", "REDEEM", "REWARD", "CONVERSION", "MIGRATION", "YIELD", "MAKER_REBATE"}
    | {"TAKER_REBATE", "REFERRAL_REWARD", "TIP"}
    | _HIDDEN
)
_CATEGORIES: Final = frozenset(
    {"overall", "politics", "sports", "crypto", "finance", "culture", "mentions", "weather"}
    | {"economics", "tech"}
)
_PERIODS: Final = {"day": DAY, "week": 7 * DAY, "month": 30 * DAY}
_UNLABELLED: Final = 999
_PROFITS: Final = (
    *("avg_price", "entry_cost_usdc", "current_price", "current_value"),
    *("realized_pnl", "unrealized_pnl", "total_pnl"),
)
"""What ``include_pnl`` adds to a holder, as in his position."""
_EVERY: Final = 7
"""Each so many trades are told without the number of their outcome, as the venue does at times."""


def positions(request: Request) -> Response:
    """``/v2/positions`` of one user or one condition; what is held unless another status is asked for."""
    world = world_of(request)
    limit, cursor = page_asked(request, 100, _MAX_ROWS)
    user, selected = request.query_params.get("user"), selected_markets(request)
    if user is None and selected is None:
        raise Refusal(400, "at least one of user and condition is required", "user")
    if user is None and len(conditions_of(request)) > 1:
        raise Refusal(400, "exactly one condition is allowed without user", "condition")
    status = request.query_params.get("status", "OPEN")
    if status not in _STATUSES:
        raise Refusal(400, "unknown status", "status")
    if status == "CLOSED" and flag(request, "include_archived", False):
        raise Refusal(400, "include_archived is not supported with CLOSED", "include_archived")
    smallest = least(request, "0.1")
    wallet = None if user is None else user.lower()
    rows = [
        row
        for market in (world.polymarket.values() if selected is None else selected)
        for holder, hand in hands(market, world.now, wallet).items()
        for outcome in (0, 1)
        if (row := _position_json(world, market, holder, hand, outcome))
        and _STATUSES[status](row)
        and not 0 < hand.held[outcome].size < smallest
    ]
    return _page(rows, cursor, limit)


def _position_json(
    world: World, market: WorldMarket, wallet: str, hand: Hand, outcome: int
) -> dict[str, object] | None:
    """One outcome in one hand; nothing where the wallet never had any."""
    held = hand.held[outcome]
    if not held.bought:
        return None
    listed, payouts = market.market, market.resolution.payouts
    mid = price_at(market, world.now)
    price = (MICRO - mid if outcome else mid) if payouts is None else payouts[outcome]
    value = held.size * price // MICRO
    status = "OPEN" if payouts is None else "REDEEMABLE"
    mine, other = listed.instrument(outcome), listed.instrument(1 - outcome)
    percent = 100.0 * (value - held.cost) / held.cost if held.cost else 0.0
    return {
        "proxy_wallet": wallet,
        "token_id": mine.token_id,
        "condition_id": listed.condition_id,
        "current_size": real(held.size),
        "avg_price": real(held.cost * MICRO // held.size) if held.size else 0.0,
        "entry_cost_usdc": real(held.cost),
        "entry_fees_usdc": real(held.fees),
        "total_cost_usdc": real(held.cost + held.fees),
        "current_price": real(price),
        "current_value": real(value),
        "total_size": real(held.bought),
        "realized_pnl": real(held.gained),
        "unrealized_pnl": real(value - held.cost),
        "total_pnl": real(value - held.cost + held.gained),
        "percent_pnl": round(percent, 4),
        "percent_realized_pnl": round(percent, 4),
        "status": status if held.size else "CLOSED",
        "redeemable": payouts is not None and held.size > 0,
        "mergeable": all(holding.size for holding in hand.held),
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
        "end_date": "1970-01-01" if listed.scheduled_close is None else iso(listed.scheduled_close)[:10],
        "last_event_at": seconds(hand.acts[-1].ts),
        "first_entry_at": seconds(hand.acts[0].ts),
        "name": f"wallet-{wallet[2:8]}",
        "profile_image": "",
        "verified": False,
    }


def activity(request: Request) -> Response:
    """``/v2/activity`` of one user, newest first.

    Tips come only where they are named, transfers only where they are not excluded; by default they are.
    """
    world = world_of(request)
    limit, cursor = page_asked(request, 100, _MAX_ROWS)
    user = request.query_params.get("user")
    if not user:
        raise Refusal(400, "user is required", "user")
    kinds = set(many(request, "type"))
    if kinds - _KINDS:
        raise Refusal(400, "unknown type", "type")
    excluded = flag(request, "exclude_deposits_withdrawals", True)
    start, end = bound(request, "start"), bound(request, "end")
    first = world.now - _USER_REACH if start is None else start
    last = world.now if end is None else end
    rows = [
        row
        for ts, kind, row in reversed(_feed(world, user.lower()))
        if first <= ts <= last
        and (kind in kinds if kinds else kind != "TIP")
        and not (excluded and kind in _HIDDEN)
    ]
    return _page(rows, cursor, limit)


def _feed(world: World, wallet: str) -> list[tuple[Nanos, str, dict[str, object]]]:
    """All that a wallet did, oldest first: its acts in markets, and money that came and went."""
    acts = sorted(
        (
            act
            for market in world.polymarket.values()
            for hand in hands(market, world.now, wallet).values()
            for act in hand.acts
        ),
        key=lambda act: act.ts,
    )
    rows = [(act.ts, act.kind, _act_json(wallet, place, act)) for place, act in enumerate(acts)]
    if acts:
        first = acts[0].ts
        transfers = [("DEPOSIT", first - HOUR, 1000), ("WITHDRAWAL", first - HOUR + MINUTE, 10)]
        rewards = [("REWARD", first + HOUR, 2)] if first + HOUR <= world.now else []
        tips = [("TIP", first - HOUR + 2 * MINUTE, 3), ("TIP", first - HOUR + 3 * MINUTE, 4)]
        moved = (*transfers, *tips, *rewards)
        rows += [(ts, kind, _money_json(wallet, kind, ts, usd)) for kind, ts, usd in moved]
    return sorted(rows, key=lambda row: row[0])


def _act_json(wallet: str, place: int, act: Act) -> dict[str, object]:
    listed = act.market.market
    mine = None if act.outcome is None else listed.instrument(act.outcome)
    labelled = mine is not None and place % _EVERY != 0
    return {
        "proxy_wallet": wallet,
        "timestamp": seconds(act.ts),
        "condition_id": listed.condition_id,
        "type": act.kind,
        "size": real(act.size),
        "usdc_size": real(act.cash),
        "transaction_hash": act.tx,
        "price": real(act.price),
        "token_id": "" if mine is None else mine.token_id,
        "side": ("BUY" if act.buys else "SELL") if act.kind == "TRADE" else "",
        "outcome_index": act.outcome if labelled else _UNLABELLED,
        "title": listed.question,
        "slug": listed.slug,
        "icon": "",
        "event_slug": act.market.event.slug,
        "outcome": "" if mine is None else mine.label,
        **profile(wallet),
    }


def _money_json(wallet: str, kind: str, ts: Nanos, dollars: int) -> dict[str, object]:
    """Money that came or went; odd tips came in."""
    return {
        "proxy_wallet": wallet,
        "timestamp": seconds(ts),
        "condition_id": "",
        "type": kind,
        "size": float(dollars),
        "usdc_size": float(dollars),
        "transaction_hash": "0x" + sha256(f"{wallet}:{kind}:{ts}".encode()).hexdigest(),
        "price": 0.0,
        "token_id": "",
        "side": ("IN" if dollars % 2 else "OUT") if kind == "TIP" else "",
        "outcome_index": _UNLABELLED,
        "title": "",
        "slug": "",
        "icon": "",
        "event_slug": "",
        "outcome": "",
        **profile(wallet),
    }


def holders(request: Request) -> Response:
    """``/v2/holders``: per outcome of the named conditions the largest holders.

    Net of the other outcome, or with ``include_pnl`` gross, with profits.
    """
    world = world_of(request)
    gross = flag(request, "include_pnl", False)
    limit, cursor = page_asked(request, 100, _MAX_WITH_PROFITS if gross else _MAX_HOLDERS)
    conditions = conditions_of(request)
    if not conditions or (gross and len(conditions) > 1):
        raise Refusal(400, "condition is required, and exactly one with include_pnl", "condition")
    skip = int(cursor.get("at", 0))
    more, groups = False, []
    for market in selected_markets(request) or []:
        for outcome in market.market.instruments:
            rows = _holders_of(world, market, outcome.outcome_index, gross=gross)
            groups.append({"token_id": outcome.token_id, "holders": rows[skip : skip + limit]})
            more = more or skip + limit < len(rows)
    return envelope(groups, limit, encode_cursor({"at": skip + limit, "l": limit}) if more else None)


def _holders_of(world: World, market: WorldMarket, index: int, *, gross: bool) -> list[dict[str, object]]:
    held = []
    for wallet, hand in hands(market, world.now).items():
        mine, other = hand.held[index].size, hand.held[1 - index].size
        amount = mine if gross else mine - other
        if amount > 0:
            held.append((amount, wallet, hand))
    rows = []
    for amount, wallet, hand in sorted(held, key=lambda each: (-each[0], each[1])):
        row: dict[str, object] = {
            "proxy_wallet": wallet,
            "token_id": market.market.instrument(index).token_id,
            "amount": real(amount),
            "display_username_public": True,
            "outcome_index": index,
            **profile(wallet),
            "verified": False,
        }
        position = _position_json(world, market, wallet, hand, index) if gross else None
        rows.append(row | {name: position[name] for name in _PROFITS} if position else row)
    return rows


def leaderboard(request: Request) -> Response:
    """``/v2/leaderboard``: who gained or traded most within a period that ends now."""
    world, params = world_of(request), request.query_params
    limit, cursor = page_asked(request, 25, _MAX_LEADERS)
    period, sort_by = params.get("time_period", "day"), params.get("sort_by", "PNL").upper()
    if params.get("category", "overall") not in _CATEGORIES:
        raise Refusal(400, "unknown category", "category")
    if period not in {*_PERIODS, "all"}:
        raise Refusal(400, "time_period must be day, week, month or all", "time_period")
    if sort_by not in {"PNL", "VOLUME"}:
        raise Refusal(400, "sort_by must be PNL or VOLUME", "sort_by")
    found = standings(world, world.now - _PERIODS[period] if period in _PERIODS else 0)
    rows = [
        {
            "rank": rank,
            "user_id": each.wallet,
            "user_name": f"wallet-{each.wallet[2:8]}",
            "pnl": real(each.pnl),
            "volume": real(each.volume),
            "profile_image": "",
            "x_username": "",
            "verified": False,
        }
        for rank, each in enumerate(sorted(found, key=order_of(sort_by)), 1)
    ]
    return _page(rows, cursor, limit)


def _page(rows: Sequence[object], cursor: dict[str, int | str], limit: int) -> Response:
    skip = int(cursor.get("at", 0))
    more = skip + limit < len(rows)
    following = encode_cursor({"at": skip + limit, "l": limit}) if more else None
    return envelope(rows[skip : skip + limit], limit, following)


ROUTES: Final = [
    Route("/v2/positions", positions),
    Route("/v2/activity", activity),
    Route("/v2/holders", holders),
    Route("/v2/leaderboard", leaderboard),
]
"""Paths of data-api.polymarket.com that are about wallets."""
