"""CLOB: books and mid prices of Polymarket, read without a key.

Bids rise and asks fall on the wire, so the best level is the last. ``/book`` is gone once an answer has been
proposed. Prices of a history are mid points: they cannot be traded.
"""

from hashlib import sha1
from typing import Final

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND, Nanos
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.sandbox.wire import Refusal, answer, integer, real, seconds, text, world_of
from pm_pipeline.sources.sandbox.world import Retention, Token, World, book_at

INTERVALS: Final[dict[str, Nanos]] = {
    "1h": HOUR,
    "6h": 6 * HOUR,
    "1d": DAY,
    "1w": 7 * DAY,
    "1m": 30 * DAY,
}
"""Named spans that end now; ``max`` and ``all`` mean the whole history."""

RETENTION: Final = ((7 * DAY, 60), (60 * DAY, 300), (90 * DAY, 1800), (10_000 * DAY, 10_800))
"""How long points of each fineness (seconds) are kept; the coarsest are kept for ever."""

_WIDEST_FINE: Final = 15 * DAY
_COARSE_S: Final = 10_800
_RESOLVED_FIDELITY: Final = 720
_MAX_BOOKS: Final = 500


def error(refusal: Refusal) -> Response:
    """The CLOB's error body."""
    return answer({"error": refusal.reason}, refusal.status)


def finest_kept(world: World, moment: Nanos) -> int:
    """The finest spacing in seconds that the venue still has of ``moment``."""
    if world.retention is Retention.FULL:
        return RETENTION[0][1]
    return next(fineness for age, fineness in RETENTION if world.now - moment <= age)


def mid_history(
    world: World, token: Token, start: Nanos, end: Nanos, spacing_s: int
) -> list[tuple[Nanos, Micro]]:
    """The last mid of each span of ``spacing_s`` in [start, end], as far as the venue still has it."""
    quotes = token.market.quotes()
    low = int(np.searchsorted(quotes.ts, start, side="left"))
    high = int(np.searchsorted(quotes.ts, min(end, world.now), side="right"))
    ts, mid = quotes.ts[low:high], quotes.mid[low:high]
    if len(ts) == 0:
        return []
    spans = ts // (spacing_s * SECOND)
    last = np.flatnonzero(np.append(spans[1:] != spans[:-1], True))
    points = ((int(ts[i]), int(mid[i])) for i in last)
    side = token.outcome
    return [
        (moment, MICRO - price if side else price)
        for moment, price in points
        if finest_kept(world, moment) <= spacing_s
    ]


def prices_history(request: Request) -> Response:
    """``/prices-history?market=<token>``: an interval, or a window of at most 15 days when it is fine."""
    world, params = world_of(request), request.query_params
    if not params.get("market"):
        raise Refusal(400, "invalid filters: 'market' is required")
    interval, start, end = params.get("interval"), integer(request, "startTs"), integer(request, "endTs")
    if (interval is None) == (start is None and end is None):
        raise Refusal(400, "invalid filters: send either 'interval' or 'startTs' and 'endTs'")
    fidelity = integer(request, "fidelity") or 1
    token = world.by_token.get(params["market"])
    if token is None:
        return answer({"history": []})
    if interval is not None:
        if interval not in {*INTERVALS, "max", "all"}:
            raise Refusal(400, f"invalid interval {interval!r}")
        whole = interval in {"max", "all"}
        if whole and token.market.resolution.resolved_at is not None and fidelity < _RESOLVED_FIDELITY:
            return answer({"history": []})
        begin, until = (0 if whole else world.now - INTERVALS[interval]), world.now
    else:
        begin, until = (start or 0) * SECOND, world.now if end is None else end * SECOND
        if until - begin > _WIDEST_FINE and fidelity * 60 < _COARSE_S:
            raise Refusal(400, "invalid filters: 'startTs' and 'endTs' interval is too long")
    points = mid_history(world, token, begin, until, fidelity * (MINUTE // SECOND))
    return answer({"history": [{"t": seconds(t), "p": real(p)} for t, p in points]})


def _trading(world: World, token_id: str | None) -> Token | None:
    """The token if its market still has a book."""
    token = world.by_token.get(token_id or "")
    if token is None or token.market.inactive or token.market.resolution.status is not ResolutionStatus.OPEN:
        return None
    return token


def book_json(world: World, token_id: str | None) -> dict[str, object] | None:
    """One book as the CLOB prints it; ``None`` when there is none."""
    token = _trading(world, token_id)
    if token is None:
        return None
    log = token.market.book_log()
    sides = book_at(log, world.now)
    if sides is None:
        return None
    bids, asks = sides
    if token.outcome:
        bids, asks = (
            {MICRO - price: size for price, size in side.items()} for side in (sides.asks, sides.bids)
        )
    listed, trades = token.market.market, token.market.trades()
    body: dict[str, object] = {
        "market": listed.condition_id,
        "asset_id": token_id,
        "timestamp": str(int(log.ts[np.searchsorted(log.ts, world.now, side="right") - 1]) // 1_000_000),
        "hash": "",
        "bids": [{"price": text(p), "size": text(bids[p])} for p in sorted(bids)],
        "asks": [{"price": text(p), "size": text(asks[p])} for p in sorted(asks, reverse=True)],
        "min_order_size": text(listed.min_order_size),
        "tick_size": text(min(r.step for r in listed.ticks)),
        "neg_risk": listed.exclusive_group,
        "last_trade_price": text(int(trades.price[-1])) if len(trades.ts) else "",
    }
    body["hash"] = sha1(msgspec.json.encode(body), usedforsecurity=False).hexdigest()
    return body


def book(request: Request) -> Response:
    """``/book?token_id=``."""
    found = book_json(world_of(request), request.query_params.get("token_id"))
    if found is None:
        raise Refusal(404, "No orderbook exists for the requested token id")
    return answer(found)


async def books(request: Request) -> Response:
    """``POST /books``: at most 500; missing tokens are dropped, and the order is not that of the request."""
    try:
        asked = msgspec.json.decode(await request.body(), type=list[dict[str, str]])
    except msgspec.MsgspecError as broken:
        raise Refusal(400, "Invalid payload") from broken
    if len(asked) > _MAX_BOOKS:
        raise Refusal(400, f"Payload exceeds the limit of {_MAX_BOOKS}")
    world = world_of(request)
    found = (book_json(world, token) for token in sorted({row.get("token_id", "") for row in asked}))
    return answer([row for row in found if row is not None])


def _touch(request: Request) -> tuple[Micro | None, Micro | None]:
    """Best bid and ask of the token now. Raises :class:`Refusal` (404) without a book or quote."""
    world = world_of(request)
    token = _trading(world, request.query_params.get("token_id"))
    quotes = token.market.quotes() if token else None
    row = quotes.at(world.now) if quotes else None
    if token is None or quotes is None or row is None:
        raise Refusal(404, "No orderbook exists for the requested token id")
    bid, ask = (price if price >= 0 else None for price in (int(quotes.bid[row]), int(quotes.ask[row])))
    if token.outcome:
        return (None if ask is None else MICRO - ask, None if bid is None else MICRO - bid)
    return bid, ask


def midpoint(request: Request) -> Response:
    """``/midpoint?token_id=``; an empty side counts as 0 or 1."""
    bid, ask = _touch(request)
    low, high = 0 if bid is None else bid, MICRO if ask is None else ask
    return answer({"mid": text((low + high) // 2)})


def price(request: Request) -> Response:
    """``/price?token_id=&side=``: BUY prints the best bid, SELL the best offer; 0 when nobody quotes."""
    side = request.query_params.get("side", "").upper()
    if side not in {"BUY", "SELL"}:
        raise Refusal(400, "Invalid side")
    bid, ask = _touch(request)
    return answer({"price": text((bid if side == "BUY" else ask) or 0)})


def spread(request: Request) -> Response:
    """``/spread?token_id=``."""
    bid, ask = _touch(request)
    return answer({"spread": text((MICRO if ask is None else ask) - (0 if bid is None else bid))})


def tick_size(request: Request) -> Response:
    """``/tick-size?token_id=``."""
    token = world_of(request).by_token.get(request.query_params.get("token_id", ""))
    if token is None:
        raise Refusal(404, "market not found")
    return answer({"minimum_tick_size": real(min(r.step for r in token.market.market.ticks))})


def clob_market(request: Request) -> Response:
    """``/clob-markets/{conditionId}``: tokens, ticks and the fee schedule of one market."""
    market = world_of(request).by_condition.get(request.path_params["condition_id"])
    if market is None:
        raise Refusal(404, "market not found")
    listed = market.market
    body: dict[str, object] = {
        "c": listed.condition_id,
        "t": [{"t": i.token_id, "o": i.label} for i in listed.instruments],
        "mos": listed.min_order_size // MICRO,
        "mts": real(min(r.step for r in listed.ticks)),
        "mbf": 1000,
        "tbf": 1000,
        "ao": market.resolution.status is ResolutionStatus.OPEN,
        "nr": listed.exclusive_group,
        "v": "v1",
    }
    if listed.fee_terms is not None:
        terms = listed.fee_terms
        body["fd"] = {"r": float(terms.rate), "e": terms.exponent, "to": terms.taker_only}
    return answer(body)


ROUTES: Final = [
    Route("/prices-history", prices_history),
    Route("/book", book),
    Route("/books", books, methods=["POST"]),
    Route("/midpoint", midpoint),
    Route("/price", price),
    Route("/spread", spread),
    Route("/tick-size", tick_size),
    Route("/clob-markets/{condition_id}", clob_market),
]
"""Paths of clob.polymarket.com."""
