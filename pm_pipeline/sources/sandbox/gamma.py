"""Gamma: the catalog of Polymarket, with its keyset pages and its traps.

Only resolved markets are closed here, and ``closed`` defaults to false, so a full crawl needs two passes.
Lists inside a market are JSON in a string; unknown parameters are ignored without a word; ``offset`` is
refused. Recorded objects are served as they were.
"""

import base64
import binascii
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.markets.clock import Nanos, TimeError, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.markets.units import MICRO, Micro, UnitError, to_micro
from pm_pipeline.sources.sandbox.wire import Refusal, answer, iso, many, real, spaced, text, world_of
from pm_pipeline.sources.sandbox.world import ABSENT, World, WorldMarket

_MAX_LIMIT: Final = 100
_DEFAULT_LIMIT: Final = 20
_MAX_IDS: Final = 100
_FINAL: Final = frozenset({ResolutionStatus.RESOLVED, ResolutionStatus.VOID, ResolutionStatus.CLOSED})
_UMA: Final = {
    ResolutionStatus.PENDING: "proposed",
    ResolutionStatus.DISPUTED: "disputed",
    ResolutionStatus.RESOLVED: "resolved",
    ResolutionStatus.VOID: "resolved",
}
_NO_FEES: Final = {"feesEnabled": False}

Children = tuple[WorldMarket, ...]


def error(refusal: Refusal) -> Response:
    """Gamma's error body."""
    kinds = {404: "not found error", 422: "validation error"}
    body = {"type": kinds.get(refusal.status, "bad request error"), "error": refusal.reason}
    return answer(body, refusal.status)


def market_json(world: World, market: WorldMarket, *, nested: bool = False) -> dict[str, object]:
    """One market as Gamma prints it; ``nested`` leaves out the events, as inside an event."""
    if market.raw is not None:
        recorded: dict[str, object] = msgspec.json.decode(market.raw)
        return recorded if nested else recorded | {"events": [_event_head(world, market)]}
    listed = market.market
    status = market.resolution.status
    closed = status in _FINAL
    body: dict[str, object] = {
        "id": market.native_id,
        "question": listed.question,
        "conditionId": listed.condition_id,
        "slug": listed.slug,
        "resolutionSource": listed.resolution_source or "",
        "description": listed.rules_text or "",
        "outcomes": _json_text([i.label for i in listed.instruments]),
        "outcomePrices": _json_text([text(p) for p in _outcome_prices(world, market)]),
        "active": not market.inactive,
        "closed": closed,
        "archived": False,
        "restricted": True,
        "groupItemTitle": market.label,
        "groupItemThreshold": "0",
        "questionID": listed.question_id,
        "enableOrderBook": True,
        "orderPriceMinTickSize": real(min(r.step for r in listed.ticks)),
        "orderMinSize": listed.min_order_size // MICRO,
        "clobTokenIds": _json_text([i.token_id for i in listed.instruments]),
        "version": "v1",
        "umaBond": "500",
        "umaReward": "2",
        "makerBaseFee": 1000,
        "takerBaseFee": 1000,
        "acceptingOrders": not closed and not market.inactive,
        "negRisk": listed.exclusive_group,
        "negRiskOther": market.inactive,
        "umaResolutionStatuses": _json_text(_uma_history(market)),
        **_times(market),
        **_touch(world, market),
        **_fees(market),
    }
    positions = [i.position_id for i in listed.instruments if i.position_id is not None]
    if positions:  # a list, where its neighbours are text
        body["positionIds"] = positions
    volume = market.volume()
    if volume is not None:
        body |= {"volume": text(volume), "volumeNum": real(volume), "volumeClob": real(volume)}
    if listed.exclusive_group:
        body["negRiskMarketID"] = listed.group_key
    if status in _UMA:
        body["umaResolutionStatus"] = _UMA[status]
    if not nested:
        body["events"] = [_event_head(world, market)]
    return body


def event_json(world: World, children: Children) -> dict[str, object]:
    """One event with its markets, placeholders included."""
    first = children[0]
    markets = [market_json(world, child, nested=True) for child in children]
    if first.event.raw is not None:
        recorded: dict[str, object] = msgspec.json.decode(first.event.raw)
        return recorded | {"markets": markets}
    listed = first.market
    body = _event_head(world, first) | {
        "description": listed.rules_text or "",
        "resolutionSource": listed.resolution_source or "",
        "restricted": True,
        "enableOrderBook": True,
        "showAllOutcomes": len(children) > 1,
        "markets": markets,
        "tags": [
            {"id": str(_tag_id(tag)), "label": tag.replace("-", " ").title(), "slug": tag, "forceShow": False}
            for tag in listed.tags
        ],
    }
    volumes = [volume for child in children if (volume := child.volume()) is not None]
    if volumes:
        body["volume"] = real(sum(volumes))
    if listed.series is not None:
        body |= {"series": [_series_json(listed.series)], "seriesSlug": listed.series}
    return body


def _series_json(slug: str) -> dict[str, object]:
    return {
        "id": str(_tag_id(slug)),
        "ticker": slug,
        "slug": slug,
        "title": slug.replace("-", " ").title(),
        "seriesType": "single",
        "recurrence": "daily",
        "active": True,
        "closed": False,
        "archived": False,
    }


def _event_head(world: World, market: WorldMarket) -> dict[str, object]:
    event, listed = market.event, market.market
    children = world.by_event[f"{listed.key.venue}:{event.event_id}"]
    body: dict[str, object] = {
        "id": event.event_id,
        "ticker": event.slug,
        "slug": event.slug,
        "title": event.title,
        "active": True,
        "closed": _event_closed(children),
        "archived": False,
        "enableNegRisk": listed.exclusive_group,
        "negRiskAugmented": False,
    }
    if event.opened_at is not None:
        body["startDate"] = iso(event.opened_at)
    if event.ends_at is not None:
        body["endDate"] = iso(event.ends_at)
    if listed.exclusive_group:
        body |= {"negRisk": True, "negRiskMarketID": listed.group_key}
    return body


def _closed(market: WorldMarket) -> bool:
    return market.resolution.status in _FINAL


def _event_closed(children: Children) -> bool:
    return all(_closed(child) for child in children if not child.inactive)


def _times(market: WorldMarket) -> dict[str, object]:
    listed, resolution = market.market, market.resolution
    body: dict[str, object] = {}
    if listed.opened_at is not None:
        opened = iso(listed.opened_at)
        body |= {"startDate": opened, "startDateIso": opened[:10], "createdAt": opened}
        body["acceptingOrdersTimestamp"] = opened
    if listed.scheduled_close is not None:
        body |= {"endDate": iso(listed.scheduled_close), "endDateIso": iso(listed.scheduled_close)[:10]}
    if resolution.closed_at is not None and _closed(market):
        body["closedTime"] = spaced(resolution.closed_at)
    if resolution.resolved_at is not None:
        body |= {"umaEndDate": iso(resolution.resolved_at), "automaticallyResolved": True}
    return body


def _outcome_prices(world: World, market: WorldMarket) -> tuple[int, ...]:
    """The payouts of a resolved market, else the last mid and its mirror."""
    if market.resolution.payouts is not None:
        return market.resolution.payouts
    quotes = market.quotes()
    row = quotes.at(world.now)
    mid = int(quotes.mid[row]) if row is not None else MICRO // 2
    return (mid, MICRO - mid)


def _touch(world: World, market: WorldMarket) -> dict[str, object]:
    quotes = market.quotes()
    row = quotes.at(world.now)
    if row is None or _closed(market):
        return {}
    bid, ask = int(quotes.bid[row]), int(quotes.ask[row])
    body: dict[str, object] = {"updatedAt": iso(int(quotes.ts[row]))}
    if bid != ABSENT:
        body["bestBid"] = real(bid)
    if ask != ABSENT:
        body["bestAsk"] = real(ask)
    if bid != ABSENT and ask != ABSENT:
        body["spread"] = real(ask - bid)
    trades = market.trades()
    if len(trades.ts):
        body["lastTradePrice"] = real(int(trades.price[-1]))
    return body


def _fees(market: WorldMarket) -> dict[str, object]:
    terms = market.market.fee_terms
    if terms is None:
        return dict(_NO_FEES)
    return {
        "feesEnabled": True,
        "feeType": f"{(market.market.category or 'other').lower()}_fees",
        "feeSchedule": {
            "exponent": terms.exponent,
            "rate": float(terms.rate),
            "takerOnly": terms.taker_only,
            "rebateRate": float(terms.rebate_rate),
        },
    }


def _uma_history(market: WorldMarket) -> list[str]:
    return ["proposed", "disputed"] if market.resolution.was_disputed else []


def _json_text(values: object) -> str:
    return msgspec.json.encode(values).decode()


def _tag_id(name: str) -> int:
    """A stable number for a tag or series, so that it can be filtered by id."""
    return 100_000 + sum((place + 1) * ord(letter) for place, letter in enumerate(name))


def _cursor(request: Request) -> tuple[int, str] | None:
    """The last (id length, id) that the caller has seen, so that ids compare as numbers."""
    given = request.query_params.get("after_cursor")
    if not given:
        return None
    try:
        seen = base64.urlsafe_b64decode(given.partition(".")[0]).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as broken:
        raise Refusal(422, "invalid after_cursor") from broken
    return len(seen), seen


def _moment(request: Request, name: str) -> Nanos | None:
    given = request.query_params.get(name)
    try:
        return None if given is None else parse_time(given)
    except TimeError as broken:
        raise Refusal(422, f"invalid {name}") from broken


def _limit(request: Request, name: str = "limit", default: int = _DEFAULT_LIMIT) -> int:
    given = request.query_params.get(name, str(default))
    if not given.isdecimal():
        raise Refusal(422, f"invalid {name}")
    return max(1, min(int(given), _MAX_LIMIT))


def _wanted(request: Request) -> Callable[[WorldMarket], bool]:
    """The filters that both lists share, on one market."""
    ends = (_moment(request, "end_date_min"), _moment(request, "end_date_max"))
    starts = (_moment(request, "start_date_min"), _moment(request, "start_date_max"))
    tag_slugs, tag_ids = set(many(request, "tag_slug")), set(many(request, "tag_id"))
    series, series_slugs = set(many(request, "series_id")), set(many(request, "series_slug"))
    least = _decimal(request, "volume_num_min")

    def wanted(market: WorldMarket) -> bool:
        listed = market.market
        return (
            _within(listed.scheduled_close, *ends)
            and _within(listed.opened_at, *starts)
            and (not tag_slugs or bool(tag_slugs & set(listed.tags)))
            and (not tag_ids or bool(tag_ids & {str(_tag_id(tag)) for tag in listed.tags}))
            and (not series or (listed.series is not None and str(_tag_id(listed.series)) in series))
            and (not series_slugs or listed.series in series_slugs)
            and (least is None or (market.volume() or 0) >= least)
        )

    return wanted


def _decimal(request: Request, name: str) -> Micro | None:
    given = request.query_params.get(name)
    try:
        return None if given is None else to_micro(given, "ceil")
    except UnitError as broken:
        raise Refusal(422, f"invalid {name}") from broken


def _within(moment: Nanos | None, low: Nanos | None, high: Nanos | None) -> bool:
    if low is None and high is None:
        return True
    return moment is not None and (low is None or moment >= low) and (high is None or moment <= high)


def _wants_closed(request: Request) -> bool:
    given = request.query_params.get("closed", "false").lower()
    if given not in {"true", "false"}:
        raise Refusal(422, "invalid closed")
    return given == "true"


def _ids(request: Request, name: str) -> set[str]:
    given = set(many(request, name))
    if len(given) > _MAX_IDS:
        raise Refusal(422, f"at most {_MAX_IDS} {name}")
    return given


def _page(
    request: Request, coll: str, found: dict[tuple[int, str], Callable[[], dict[str, object]]]
) -> Response:
    """Rows in order of their id, after the cursor; ``next_cursor`` is absent at the end."""
    if "offset" in request.query_params:
        raise Refusal(422, "offset is not supported by keyset pagination; use after_cursor")
    after, limit = _cursor(request), _limit(request)
    keys = sorted(key for key in found if after is None or key > after)
    body: dict[str, object] = {coll: [found[key]() for key in keys[:limit]]}
    if len(keys) > limit:
        body["next_cursor"] = base64.urlsafe_b64encode(keys[limit - 1][1].encode()).decode()
    return answer(body)


def list_markets(request: Request) -> Response:
    """``/markets/keyset``."""
    world, wanted, closed = world_of(request), _wanted(request), _wants_closed(request)
    ids, slugs = _ids(request, "id"), _ids(request, "slug")
    conditions, tokens = _ids(request, "condition_ids"), _ids(request, "clob_token_ids")
    questions, positions = _ids(request, "question_ids"), _ids(request, "position_ids")
    found: dict[tuple[int, str], Callable[[], dict[str, object]]] = {}
    for market in world.polymarket.values():
        listed = market.market
        if (
            _closed(market) == closed
            and wanted(market)
            and (not ids or market.native_id in ids)
            and (not slugs or listed.slug in slugs)
            and (not conditions or listed.condition_id in conditions)
            and (not questions or listed.question_id in questions)
            and (not positions or bool(positions & {i.position_id for i in listed.instruments}))
            and (not tokens or bool(tokens & {i.token_id for i in listed.instruments}))
        ):
            found[(len(market.native_id), market.native_id)] = partial(market_json, world, market)
    return _page(request, "markets", found)


def list_events(request: Request) -> Response:
    """``/events/keyset``."""
    closed = _wants_closed(request)
    return _page(request, "events", _events(request, lambda event: _event_closed(event) == closed))


def page_of_events(request: Request) -> Response:
    """``/events/pagination``: by offset, of both states unless asked otherwise; it alone says how many."""
    asked = request.query_params
    closed = _wants_closed(request) if "closed" in asked else None
    found = _events(request, lambda event: closed is None or _event_closed(event) == closed)
    given, limit = asked.get("offset", "0"), _limit(request)
    if not given.isdecimal():
        raise Refusal(422, "invalid offset")
    start = int(given)
    rows = [found[key]() for key in sorted(found)[start : start + limit]]
    pagination = {"hasMore": start + limit < len(found), "totalResults": len(found)}
    return answer({"data": rows, "pagination": pagination})


def _events(
    request: Request, fits: Callable[[Children], bool]
) -> dict[tuple[int, str], Callable[[], dict[str, object]]]:
    """The events that the request asks for, by their id."""
    world, wanted = world_of(request), _wanted(request)
    ids, slugs = _ids(request, "id"), _ids(request, "slug")
    found: dict[tuple[int, str], Callable[[], dict[str, object]]] = {}
    for key, children in world.by_event.items():
        event = children[0].event
        if (
            key.startswith(Venue.POLYMARKET)
            and fits(children)
            and wanted(children[0])
            and (not ids or event.event_id in ids)
            and (not slugs or event.slug in slugs)
        ):
            found[(len(event.event_id), event.event_id)] = partial(event_json, world, children)
    return found


def one_market(request: Request) -> Response:
    """``/markets/{id}`` and ``/markets/slug/{slug}``."""
    world = world_of(request)
    wanted = request.path_params
    market = world.by_slug.get(wanted["slug"]) if "slug" in wanted else world.polymarket.get(wanted["id"])
    if market is None:
        raise Refusal(404, f"{next(iter(wanted))} not found")
    return answer(market_json(world, market))


def one_event(request: Request) -> Response:
    """``/events/{id}`` and ``/events/slug/{slug}``."""
    world = world_of(request)
    for key, children in world.by_event.items():
        event = children[0].event
        if key.startswith(Venue.POLYMARKET) and request.path_params in (
            {"slug": event.slug},
            {"id": event.event_id},
        ):
            return answer(event_json(world, children))
    raise Refusal(404, "event not found")


def list_series(request: Request) -> Response:
    """``/series``: a bare list, by offset; events are left out here, as ``exclude_events`` asks for."""
    slugs = set(many(request, "slug"))
    names = {m.market.series for m in world_of(request).polymarket.values() if m.market.series}
    return answer([_series_json(name) for name in sorted(names) if not slugs or name in slugs])


def one_series(request: Request) -> Response:
    """``/series/{id}``."""
    for market in world_of(request).polymarket.values():
        series = market.market.series
        if series is not None and str(_tag_id(series)) == request.path_params["id"]:
            return answer(_series_json(series))
    raise Refusal(404, "series not found")


def search(request: Request) -> Response:
    """``/public-search``: events that share a word with ``q``, those that share most first."""
    words = set(request.query_params.get("q", "").lower().split())
    if not words:
        raise Refusal(422, "q is required")
    world, found = world_of(request), []
    for key, children in world.by_event.items():
        event = children[0].event
        shared = len(words & {*event.slug.split("-"), *event.title.lower().split()})
        if key.startswith(Venue.POLYMARKET) and shared:
            found.append((-shared, event.slug, children))
    rows = [event_json(world, children) for _, _, children in sorted(found, key=lambda row: row[:2])]
    limit = _limit(request, "limit_per_type", 5)
    pagination = {"hasMore": len(rows) > limit, "totalResults": len(rows)}
    return answer({"events": rows[:limit] or None, "pagination": pagination})


ROUTES: Final = [
    Route("/series", list_series),
    Route("/series/{id}", one_series),
    Route("/public-search", search),
    Route("/markets/keyset", list_markets),
    Route("/events/keyset", list_events),
    Route("/events/pagination", page_of_events),
    Route("/markets/slug/{slug}", one_market),
    Route("/markets/{id}", one_market),
    Route("/events/slug/{slug}", one_event),
    Route("/events/{id}", one_event),
]
"""Paths of gamma-api.polymarket.com."""
