"""Gamma: which markets there are, and their terms."""

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from pm_pipeline.markets.clock import Nanos, format_time
from pm_pipeline.markets.keys import KeyFormatError, MarketKey, Venue, check_partition_key
from pm_pipeline.markets.market import FeeTerms, Instrument, Market, ScheduleEvidence, TickRange
from pm_pipeline.markets.units import MICRO, from_micro
from pm_pipeline.sources.adapter import MarketState, Selection
from pm_pipeline.sources.errors import BadRequest, BadResponse, UnsupportedError
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.polymarket.wire import GammaEvent, GammaMarket, maybe_moment, packed
from pm_pipeline.sources.wire import convert, micro, size

PAGE: Final = 100
"""Rows per page; the API clamps more, silently."""

_BOTH: Final = ("false", "true")
"""Gamma lists what is open unless asked otherwise: everything takes two crawls."""


async def crawl(client: HttpClient, selection: Selection) -> AsyncIterator[list[Market]]:
    """The tradable markets of ``selection``, page by page.

    Named markets are looked up one by one and must exist. The rest is crawled by event, which carries tags
    and series; by market where only bounds are given, for those the server applies to markets alone.
    Placeholders and markets without an order book are left out.
    """
    left = selection.limit
    async for page in _pages(client, selection):
        found = [market for market in page if selection.holds(market)]
        if left is not None:
            found, left = found[:left], left - len(found)
        if found:
            yield found
        if left is not None and left <= 0:
            return


async def market_by_id(client: HttpClient, native_id: str) -> GammaMarket:
    """``GET /markets/{id}``. Raises ``BadRequest`` where there is no such market."""
    endpoint = f"/markets/{native_id}"
    return convert(await client.get(endpoint), GammaMarket, endpoint)


def unlisted(raw: GammaMarket) -> str | None:
    """Why ``raw`` is no market one can trade, or ``None``.

    Events carry inactive placeholders ("Person X", "Other") beside their markets, and the markets of 2020 to
    2022 were pools without an order book.
    """
    if not raw.active:
        return "it is a placeholder (active=false)"
    if not raw.clob_token_ids or raw.order_price_min_tick_size is None or raw.condition_id is None:
        return "it has no order book"
    return None


def to_market(raw: GammaMarket, endpoint: str) -> Market:
    """The domain's record of a Gamma market.

    Raises
    ------
    BadResponse
        when a needed field is missing or does not fit the others.
    """
    event = raw.events[0] if raw.events else None
    where = f"{endpoint} market {raw.id}"
    labels = packed(raw.outcomes, where, "outcomes")
    tokens = packed(raw.clob_token_ids, where, "clobTokenIds")
    if len(labels) != len(tokens) or len(labels) < 2:
        raise BadResponse(f"{where}: {len(labels)} outcomes but {len(tokens)} clobTokenIds")
    if raw.order_price_min_tick_size is None or raw.condition_id is None or raw.question is None:
        raise BadResponse(f"{where}: orderPriceMinTickSize, conditionId or question is missing")
    step = micro(raw.order_price_min_tick_size, where, "orderPriceMinTickSize")
    if not 0 < step <= MICRO // 2:
        raise BadResponse(f"{where}: orderPriceMinTickSize is {raw.order_price_min_tick_size}")
    if raw.order_min_size is None:
        raise BadResponse(f"{where}: orderMinSize is missing")
    key = _key(raw.id, where)
    volume = raw.volume_num if raw.volume_num is not None else raw.volume
    group = raw.neg_risk_market_id if raw.neg_risk and raw.neg_risk_market_id else None
    return Market(
        key=key,
        question=raw.question,
        instruments=tuple(
            Instrument(key, index, label, token)
            for index, (label, token) in enumerate(zip(labels, tokens, strict=True))
        ),
        opened_at=_opened_at(raw, where),
        scheduled_close=maybe_moment(raw.end_date, where, "endDate"),
        schedule_evidence=ScheduleEvidence.LISTED,
        ticks=(TickRange(step, MICRO - step, step),),
        min_order_size=size(raw.order_min_size, where, "orderMinSize"),
        slug=raw.slug,
        condition_id=raw.condition_id,
        question_id=raw.question_id,
        event_id=event.id if event else None,
        event_title=event.title if event else None,
        series=_series(event),
        category=raw.category or (event.category if event else None),
        tags=_tags(raw, event),
        group_key=f"{Venue.POLYMARKET}:{group}" if group else None,
        exclusive_group=group is not None and not (event is not None and event.neg_risk_augmented),
        fee_terms=_fee_terms(raw),
        volume=size(volume, where, "volumeNum", "half_even") if volume is not None else None,
        traded_until=closed_at(raw, where),
        rules_text=raw.description,
        resolution_source=raw.resolution_source or None,
    )


def closed_at(raw: GammaMarket, endpoint: str) -> Nanos | None:
    """When trading truly ended: ``closedTime``, else ``umaEndDate``; ``None`` while the market trades.

    Raises
    ------
    BadResponse
        when the market is closed and nothing says since when; ``endDate`` is no substitute, trading
        outlives it.
    """
    if not raw.closed:
        return None
    closed = maybe_moment(raw.closed_time, endpoint, "closedTime")
    closed = closed or maybe_moment(raw.uma_end_date, endpoint, "umaEndDate")
    if closed is None:
        raise BadResponse(f"{endpoint} market {raw.id}: closed, but without closedTime and umaEndDate")
    return closed


async def _pages(client: HttpClient, selection: Selection) -> AsyncIterator[list[Market]]:
    if selection.ids or selection.slugs:
        for name in selection.ids + selection.slugs:
            yield [await _named(client, name)]
        return
    filed = bool(selection.series or selection.tags or selection.category)
    bounded = any((selection.closes_from, selection.closes_to, selection.min_volume))
    by_event = filed or not bounded
    path, rows = ("/events/keyset", "events") if by_event else ("/markets/keyset", "markets")
    seen: set[str] = set()
    for params in await _filters(client, selection, by_event=by_event):
        # an event that is still open has closed markets too
        for closed in _BOTH[:1] if selection.state is MarketState.OPEN else _BOTH:
            async for page in client.pages(
                path,
                {"limit": PAGE, "closed": closed, **params},
                rows=rows,
                cursor_in="after_cursor",
                cursor_of=lambda body: body.get("next_cursor"),
                identity=_identity,
            ):
                found = [raw for row in page for raw in _children(row, path, by_event=by_event)]
                fresh = {raw.id: raw for raw in found if raw.id not in seen and unlisted(raw) is None}
                seen.update(fresh)
                yield [to_market(raw, path) for raw in fresh.values()]


async def _filters(client: HttpClient, selection: Selection, *, by_event: bool) -> list[Params]:
    """Server-side filters: they only spare requests, for unknown ones are ignored silently.

    Bounds of an event's end or volume are not those of its markets, so they are sent for markets only.
    """
    if selection.series:
        return [await _series_filter(client, name) for name in selection.series]
    if by_event:
        names = selection.tags or ((selection.category,) if selection.category else ())
        return [{"tag_slug": _slug(name)} for name in names] or [{}]
    volume = None if selection.min_volume is None else f"{from_micro(selection.min_volume):f}"
    ends = {
        name: None if bound is None else format_time(bound)
        for name, bound in (("end_date_min", selection.closes_from), ("end_date_max", selection.closes_to))
    }
    return [{**ends, "volume_num_min": volume, "include_tag": "true"}]


async def _series_filter(client: HttpClient, slug: str) -> Params:
    """Events are listed by the number of their series, so it is looked up by its slug first.

    A server without that list is crawled whole; the series is then picked out here.
    """
    endpoint = "/series"
    try:
        found = convert(await client.get(endpoint, {"slug": slug}), list[_Series], endpoint)
    except BadRequest as error:
        if error.status != 404:
            raise
        return {}
    for series in found:
        if series.slug == slug:
            return {"series_id": series.id}
    raise BadRequest(f"Polymarket has no series {slug!r}; give the slug, as in the page address", 404)


async def _named(client: HttpClient, name: str) -> Market:
    """One market by Gamma id, slug, condition id (0x…) or token id (a number of more than 20 digits)."""
    if name.isdecimal() and len(name) <= 20:
        raw = await _found(client, f"/markets/{name}", name)
    elif name.startswith("0x") or name.isdecimal():
        raw = await _by_hash(client, "condition_ids" if name.startswith("0x") else "clob_token_ids", name)
    else:
        raw = await _found(client, f"/markets/slug/{name}", name)
    reason = unlisted(raw)
    if reason:
        raise UnsupportedError(f"Polymarket market {name} cannot be traded: {reason}")
    if raw.events:
        raw.events = [await _whole_event(client, raw.events[0])]
    return to_market(raw, f"/markets/{name}")


async def _whole_event(client: HttpClient, event: GammaEvent) -> GammaEvent:
    """A market names its event without tags and series, so the event is asked for them."""
    endpoint = f"/events/{event.id}"
    try:
        return convert(await client.get(endpoint), GammaEvent, endpoint)
    except BadRequest as error:
        if error.status != 404:
            raise
        return event


async def _found(client: HttpClient, endpoint: str, name: str) -> GammaMarket:
    try:
        return convert(await client.get(endpoint), GammaMarket, endpoint)
    except BadRequest as error:
        if error.status != 404:
            raise
        raise BadRequest(f"Polymarket has no market {name!r}", 404) from error


async def _by_hash(client: HttpClient, parameter: str, name: str) -> GammaMarket:
    endpoint = "/markets/keyset"
    for closed in _BOTH:
        body = await client.get(endpoint, {parameter: name, "closed": closed, "limit": PAGE})
        for raw in convert(body, _Markets, endpoint).markets:
            if name == raw.condition_id or name in packed(raw.clob_token_ids, endpoint, "clobTokenIds"):
                return raw
    raise BadRequest(f"Polymarket has no market {name!r}", 404)


def _children(row: Any, endpoint: str, *, by_event: bool) -> list[GammaMarket]:
    if not by_event:
        return [convert(row, GammaMarket, endpoint)]
    event = convert(row, _EventWithMarkets, endpoint)
    parent = convert(row, GammaEvent, endpoint)
    for market in event.markets:
        market.events = [parent]
    return event.markets


class _EventWithMarkets(msgspec.Struct):
    """An event page row: the children of an event do not name their parent."""

    markets: list[GammaMarket]


class _Markets(msgspec.Struct):
    """A page of markets."""

    markets: list[GammaMarket]


class _Series(msgspec.Struct):
    """A series of events, as ``/series`` lists it."""

    id: str
    slug: str | None = None


def _identity(row: Any) -> str:
    return str(row.get("id") if isinstance(row, Mapping) else row)


def _key(native_id: str, endpoint: str) -> MarketKey:
    key = MarketKey(Venue.POLYMARKET, native_id)
    try:
        check_partition_key(str(key))
    except KeyFormatError as error:
        raise BadResponse(f"{endpoint}: id: {error}") from error
    return key


def _opened_at(raw: GammaMarket, endpoint: str) -> Nanos | None:
    """The earlier of announced start and first accepted order; the creation where both are missing."""
    starts = [
        moment
        for name, text in (
            ("startDate", raw.start_date),
            ("acceptingOrdersTimestamp", raw.accepting_orders_timestamp),
        )
        if (moment := maybe_moment(text, endpoint, name)) is not None
    ]
    return min(starts) if starts else maybe_moment(raw.created_at, endpoint, "createdAt")


def _series(event: GammaEvent | None) -> str | None:
    if event is None:
        return None
    return event.series_slug or next((s.slug for s in event.series or () if s.slug), None)


def _tags(raw: GammaMarket, event: GammaEvent | None) -> tuple[str, ...]:
    listed = [*(raw.tags or ()), *(event.tags or () if event else ())]
    return tuple(dict.fromkeys(name for tag in listed if (name := tag.slug or tag.label)))


def _fee_terms(raw: GammaMarket) -> FeeTerms | None:
    """The market's own schedule; an explicit "no fees" is a schedule too, silence is none."""
    if raw.fees_enabled is False:
        return FeeTerms(rate=Decimal(0), exponent=1, taker_only=True, rebate_rate=Decimal(0))
    schedule = raw.fee_schedule
    if schedule is None:
        return None
    return FeeTerms(
        rate=schedule.rate,
        exponent=schedule.exponent,
        taker_only=schedule.taker_only,
        rebate_rate=schedule.rebate_rate,
    )


def _slug(name: str) -> str:
    return name.strip().casefold().replace(" ", "-")
