"""Data API v2: prices, resolutions and freshness of Polymarket, and the routes of the whole service.

Every answer is an envelope with a page. A cursor holds only where to go on and the page size, so filters
must be sent again with it: a bare cursor continues the feed of all markets. ``offset`` is refused.
"""

from hashlib import sha256
from typing import Final

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.markets.clock import DAY, SECOND, Nanos
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.sandbox.clob import INTERVALS, finest_kept
from pm_pipeline.sources.sandbox.data_trades import list_trades
from pm_pipeline.sources.sandbox.data_wallets import ROUTES as WALLETS
from pm_pipeline.sources.sandbox.data_wire import MAX_NAMED, bound, conditions_of, envelope, error, page_asked
from pm_pipeline.sources.sandbox.wire import (
    Refusal,
    answer,
    encode_cursor,
    integer,
    iso,
    many,
    real,
    seconds,
    world_of,
)
from pm_pipeline.sources.sandbox.world import World, WorldMarket

__all__ = ["ROUTES", "error"]

_MAX_POINTS: Final = 10_000
_UNSET: Final = "69"
_WIDEST: Final = 15 * DAY
_LEAST_BUCKET: Final = {"1w": 300, "1m": 600, "max": 600, "all": 600}
_STATUS: Final = {
    ResolutionStatus.OPEN: "initialized",
    ResolutionStatus.CLOSED: "posed",
    ResolutionStatus.PENDING: "proposed",
    ResolutionStatus.DISPUTED: "disputed",
    ResolutionStatus.RESOLVED: "resolved",
    ResolutionStatus.VOID: "resolved",
}


def prices_history(request: Request) -> Response:
    """``/v2/prices-history``: mid points, each the last of a bucket that begins at its timestamp.

    A bucket finer than what is kept gives an empty page; without one the server takes the finest it has.
    The last point of a resolved market (``resolution_seconds`` 0) is its payout, not a price.
    """
    world, params = world_of(request), request.query_params
    limit, cursor = page_asked(request, 1000, _MAX_POINTS)
    token_id = params.get("token_id")
    if not token_id:
        raise Refusal(400, "token_id is required", "token_id")
    start, end, as_of = bound(request, "start"), bound(request, "end"), bound(request, "as_of")
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
    seen = world.now if as_of is None else as_of
    points = _points(world, token.market, token.outcome, begin, until, seen, bucket, least)
    if as_of is not None:
        points = points[-1:]
    after = int(cursor.get("ts", -1))
    page = [point for point in points if int(point[0]) > after]
    following = encode_cursor({"ts": page[limit - 1][0], "l": limit}) if len(page) > limit else None
    rows = (
        {"timestamp": t, "price": real(p), "resolution_seconds": spacing} for t, p, spacing in page[:limit]
    )
    return envelope(rows, limit, following)


def _points(
    world: World,
    market: WorldMarket,
    outcome: int,
    begin: Nanos,
    until: Nanos,
    seen: Nanos,
    bucket: int | None,
    least: int,
) -> list[tuple[int, Micro, int]]:
    """(second, price, spacing) in [begin, until), of what was seen up to ``seen``.

    The payout of a resolved market comes last.
    """
    # What is kept is decided by the oldest point asked for, as one fineness serves one answer.
    quotes, resolution = market.quotes(), market.resolution
    first = max(begin, int(quotes.ts[0])) if len(quotes.ts) else begin
    kept = finest_kept(world, first)
    spacing = max(kept, least) if bucket is None else bucket
    points: list[tuple[int, Micro, int]] = []
    if spacing >= kept and len(quotes.ts):
        # The bucket of k holds what was seen in [k, k + spacing): its price was not known at its timestamp.
        begins = quotes.ts[quotes.ts <= seen] // (spacing * SECOND) * spacing
        last = np.flatnonzero(np.append(begins[1:] != begins[:-1], True))
        stop = resolution.resolved_at or world.now
        for row in last:
            moment = int(begins[row]) * SECOND
            if begin <= moment < until and moment <= min(stop, world.now):
                mid = int(quotes.mid[row])
                points.append((int(begins[row]), MICRO - mid if outcome else mid, spacing))
    if resolution.payouts is not None and resolution.resolved_at is not None:
        paid_at = seconds(resolution.resolved_at)
        if begin <= paid_at * SECOND < until:
            points = [point for point in points if point[0] < paid_at]
            points.append((paid_at, resolution.payouts[outcome], 0))
    return points


def resolutions(request: Request) -> Response:
    """``/v2/resolutions`` by question, condition or event (exactly one kind, at most 20)."""
    world = world_of(request)
    if "offset" in request.query_params:
        raise Refusal(400, "offset is not supported; use cursor", "offset")
    named = {
        "question_id": many(request, "question_id"),
        "condition": conditions_of(request),
        "event_id": many(request, "event_id"),
    }
    given = [name for name, values in named.items() if values]
    if len(given) != 1:
        raise Refusal(400, "exactly one of question_id, condition and event_id is required")
    values = named[given[0]]
    if len(values) > MAX_NAMED:
        raise Refusal(400, f"at most {MAX_NAMED} values", given[0])
    found: list[WorldMarket] = []
    for value in values:
        if given[0] == "event_id":
            found.extend(world.by_event.get(f"polymarket:{value}", ()))
        else:
            market = (world.by_question if given[0] == "question_id" else world.by_condition).get(value)
            found.extend([market] if market is not None else [])
    return answer({"data": [_resolution_json(market) for market in found if not market.inactive]})


def _resolution_json(market: WorldMarket) -> dict[str, object]:
    """One row, in one of the forms that the venue has.

    What the chain tells comes with payouts. What the oracle tells comes with prices, in units of 10⁻¹⁸ (69:
    none), and without payouts: everything that is not resolved yet, and what was disputed.
    """
    resolution = market.resolution
    paid = resolution.payouts if resolution.resolved_at is not None else None
    changed = iso(resolution.known_at // SECOND * SECOND)
    row: dict[str, object] = {
        "condition_id": market.market.condition_id,
        "status": _STATUS[resolution.status],
        "extended_review": False,
        "was_disputed": resolution.was_disputed or resolution.status is ResolutionStatus.DISPUTED,
        "new_version_q": False,
        "transaction_hash": "",
        "log_index": "",
        "last_update_timestamp": changed,
    }
    if paid is None or resolution.was_disputed:
        price = _UNSET if paid is None else str(paid[0] * 10**12)
        proposed = resolution.status in {ResolutionStatus.PENDING, ResolutionStatus.DISPUTED}
        row |= {
            "question_id": market.market.question_id,
            "new_version_q": True,
            "proposed_price": str(10**18) if proposed else price,
            "reproposed_price": _UNSET,
            "price": price,
            "transaction_hash": "0x" + sha256(f"oracle:{market.native_id}".encode()).hexdigest(),
            "log_index": "602",
            "last_update_timestamp": str(seconds(resolution.known_at)),
        }
        if proposed:
            row |= {
                "expected_settlement_time": changed,
                "settlement_time_basis": "dvm_round_estimate"
                if resolution.status is ResolutionStatus.DISPUTED
                else "managed_proposal_expiration",
            }
    if paid is not None and resolution.resolved_at is not None:
        row |= {
            "resolution_source": "reported",
            "was_arbitrated": resolution.was_disputed,
            "resolved_block": 80_000_000 + seconds(resolution.resolved_at) // 2 % 10_000_000,
            "resolved_at": iso(resolution.resolved_at),
        }
        if "price" in row:
            group = market.market.exclusive_group
            row |= {"market_type": "INCREMENTAL_NEGRISK" if group else "BINARY", "reporter": "UMA_OO"}
        else:  # the chain pays in whole units of the pair; a half comes as two equal ones
            row["payouts"] = [MICRO, MICRO] if paid[0] * 2 == MICRO else list(paid)
    return row


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
    Route("/v2/status", status),
    *WALLETS,
]
"""Paths of data-api.polymarket.com."""
