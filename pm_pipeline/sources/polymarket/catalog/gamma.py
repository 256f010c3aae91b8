"""Gamma: which markets there are, and the events and groups that they belong to.

Two ways lead to everything: by event, which carries tags, series and all its markets, and by market, for
bounds that the server applies to markets alone; the events are then asked for by their ids. Either takes two
crawls, of what is open and then of what is closed, so that a market which closes in between is met in the
second.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from pm_pipeline.errors import did_you_mean
from pm_pipeline.markets.clock import format_time
from pm_pipeline.markets.event import Event
from pm_pipeline.markets.market import Market, MarketGroup
from pm_pipeline.markets.units import from_micro
from pm_pipeline.sources.adapter import Listing, MarketState, Selection, Tally
from pm_pipeline.sources.errors import BadRequest, PageNotArchived, SourceError, UnsupportedError
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.polymarket import unread
from pm_pipeline.sources.polymarket.catalog.names import Name, NameKind, parse
from pm_pipeline.sources.polymarket.catalog.records import (
    children_of,
    closed_at,
    gamma_event,
    gamma_market,
    to_event,
    to_groups,
    to_market,
    unlisted,
)
from pm_pipeline.sources.polymarket.catalog.tally import count_events
from pm_pipeline.sources.polymarket.wire import GammaEvent, GammaMarket, packed
from pm_pipeline.sources.wire import convert

__all__ = ["PAGE", "closed_at", "crawl", "market_by_id", "to_market", "unlisted"]

PAGE: Final = 100
"""Rows per page, and ids per request; the API clamps more, silently."""

_BOTH: Final = ("false", "true")
"""Gamma lists what is open unless asked otherwise: everything takes two crawls."""

_MARKETS: Final = "/markets/keyset"
_EVENTS: Final = "/events/keyset"


class _Family(NamedTuple):
    """An event and children of it: all of them, if the event holds its markets."""

    event: GammaEvent | None
    children: list[GammaMarket]


async def crawl(client: HttpClient, selection: Selection) -> AsyncIterator[Listing]:
    """The tradable markets of ``selection`` with their events and groups, page by page.

    Placeholders and markets without an order book are left out. A market that closed while we crawled comes
    a second time, as closed; so does its event. Events and groups name all their tradable markets, also
    those that are not of the selection.

    Raises
    ------
    UnknownNameError
        for a name that cannot name a market.
    BadRequest
        with status 404 for a name that nothing bears.
    """
    left = selection.limit
    given: set[str] = set()
    async for page in _pages(client, selection):
        chosen = [market for market in page.markets if selection.holds(market)]
        if left is not None:
            fresh = [market.key.native_id for market in chosen if market.key.native_id not in given]
            given.update(fresh[:left])
            left -= len(fresh[:left])
            chosen = [market for market in chosen if market.key.native_id in given]
        if chosen or page.tally:
            yield page.of(chosen)
        if left is not None and left <= 0:
            return


async def market_by_id(client: HttpClient, native_id: str) -> GammaMarket:
    """``GET /markets/{id}``. Raises ``BadRequest`` where there is no such market."""
    return gamma_market(await client.get(f"/markets/{native_id}"), "/markets")


async def _pages(client: HttpClient, selection: Selection) -> AsyncIterator[Listing]:
    if selection.ids or selection.slugs:
        for name in selection.ids + selection.slugs:
            yield _listing(*await _named(client, parse(name), name))
        return
    filed = bool(selection.series or selection.tags or selection.category)
    bounded = any((selection.closes_from, selection.closes_to, selection.min_volume))
    by_event = filed or not bounded
    path, rows = (_EVENTS, "events") if by_event else (_MARKETS, "markets")
    closed_already: dict[str, bool] = {}

    def wanted(raw: GammaMarket) -> bool:
        """New, or closed since it was seen."""
        return closed_already.get(raw.id) is None or (raw.closed and not closed_already[raw.id])

    for params in await _filters(client, selection, by_event=by_event):
        counted = by_event and selection.state is MarketState.ANY and selection.limit is None
        stated = await count_events(client, params) if counted else None
        events: set[str] = set()
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
                families = (
                    [_family(gamma_event(row, path), path) for row in page]
                    if by_event
                    else await _families(client, [gamma_market(row, path) for row in page])
                )
                yield _listing(families, wanted)
                events.update(f.event.id for f in families if f.event is not None)
                closed_already.update((raw.id, raw.closed) for f in families for raw in f.children)
        if stated is not None:
            yield Listing([], [], [], Tally(_in_words(params), len(events), stated))


def _in_words(filters: Params) -> str:
    asked = [f"{name} {value}" for name, value in filters.items() if value is not None]
    return " ".join(["events of Polymarket", *(["with", *asked] if asked else [])])


def _family(event: GammaEvent, path: str) -> _Family:
    return _Family(event, children_of(event, path))


def _listing(families: Iterable[_Family], wanted: Callable[[GammaMarket], bool]) -> Listing:
    """What the families hold: the wanted markets each once, and all events and groups."""
    markets: dict[str, Market] = {}
    events: list[Event] = []
    groups: list[MarketGroup] = []
    for event, children in families:
        for raw in children:
            if wanted(raw) and unlisted(raw) is None:
                markets[raw.id] = to_market(raw, "/markets")
        if event is not None:
            events.append(to_event(event, children, "/events"))
            groups += to_groups(event, children, "/events")
    return Listing(list(markets.values()), events, groups)


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
        answer = await client.get(endpoint, {"slug": slug, "exclude_events": "true"})
    except BadRequest as error:
        if error.status != 404:
            raise
        return {}
    for series in convert(answer, list[_Series], endpoint):
        if series.slug == slug:
            return {"series_id": series.id}
    raise BadRequest(f"Polymarket has no series {slug!r}; give the slug, as in the page address", 404)


# --- names ----------------------------------------------------------------------------------------------

_ASKED: Final[Mapping[NameKind, Sequence[str]]] = {
    NameKind.HASH: ("condition_ids", "question_ids"),
    NameKind.ASSET: ("clob_token_ids", "position_ids"),
}
"""Filters of the list of markets by which a name is looked up, in this order."""

_FOUND_AT: Final[Mapping[NameKind, Sequence[str]]] = {
    NameKind.NUMBER: ("/markets/{}",),
    NameKind.MARKET_SLUG: ("/markets/slug/{}",),
    NameKind.EVENT_SLUG: ("/events/slug/{}",),
    NameKind.SLUG: ("/markets/slug/{}", "/events/slug/{}"),
}
"""Paths at which a name is looked up, in this order."""


async def _named(
    client: HttpClient, name: Name, given: str
) -> tuple[list[_Family], Callable[[GammaMarket], bool]]:
    """The whole events of what goes by ``name``, and which of their markets it means."""
    for path in _FOUND_AT.get(name.kind, ()):
        row = await _or_none(client, path.format(name.text))
        if row is not None and path.startswith("/events"):
            return _of_event(_family(gamma_event(row, path), path), given)
        if row is not None:
            return await _of_market(client, gamma_market(row, path), given)
    for parameter in _ASKED.get(name.kind, ()):
        raw = await _asked(client, parameter, name)
        if raw is not None:
            return await _of_market(client, raw, given)
    hint = await _nearest(client, name) or f", asked for as {name.kind}"
    raise BadRequest(f"Polymarket has no market {given!r}{hint}", 404)


async def _of_market(
    client: HttpClient, raw: GammaMarket, given: str
) -> tuple[list[_Family], Callable[[GammaMarket], bool]]:
    reason = unlisted(raw)
    if reason:
        raise UnsupportedError(f"Polymarket market {given} cannot be traded: {reason}")
    return await _families(client, [raw]), lambda child: child.id == raw.id


def _of_event(family: _Family, given: str) -> tuple[list[_Family], Callable[[GammaMarket], bool]]:
    if all(unlisted(child) for child in family.children):
        raise UnsupportedError(f"the event {given} of Polymarket has no market that can be traded")
    return [family], lambda child: True


async def _families(client: HttpClient, markets: list[GammaMarket]) -> list[_Family]:
    """The whole events of these markets, the markets as they were read; each market stays, event or none."""
    heads = {raw.events[0].id: raw.events[0] for raw in markets if raw.events}
    events = await _events(client, heads)
    found: list[_Family] = [_Family(None, [raw for raw in markets if not raw.events])]
    for number, event in events.items():
        read = {raw.id: raw for raw in markets if raw.events and raw.events[0].id == number}
        for raw in read.values():
            raw.events = [event]
        inside = {raw.id: raw for raw in children_of(event, "/events")}
        found.append(_Family(event, list((inside | read).values())))
    return found


async def _events(client: HttpClient, heads: Mapping[str, GammaEvent]) -> dict[str, GammaEvent]:
    """These events whole: many by a listing, and what that left out one by one.

    What the venue does not know by its number stays as the head that its market showed.
    """
    found: dict[str, GammaEvent] = {}
    wanted = list(heads)
    if len(wanted) > 1:
        for start in range(0, len(wanted), PAGE):
            ids = wanted[start : start + PAGE]
            for closed in _BOTH:
                try:
                    body = await client.get(_EVENTS, {"id": ids, "closed": closed, "limit": PAGE})
                except PageNotArchived:
                    continue  # an archive from before events were asked for
                rows = convert(body, _EventPage, _EVENTS).events
                listed = (gamma_event(row, _EVENTS) for row in rows if _identity(row) in heads)
                found.update((event.id, event) for event in listed)
    for number, head in heads.items():
        if number not in found:
            row = await _or_none(client, f"/events/{number}")
            found[number] = head if row is None else gamma_event(row, "/events")
    return {number: found[number] for number in heads}


async def _or_none(client: HttpClient, path: str) -> Any:
    """The answer, or ``None`` where there is nothing at that path."""
    try:
        return await client.get(path)
    except PageNotArchived:
        return None
    except BadRequest as error:
        if error.status != 404:
            raise
        return None


async def _asked(client: HttpClient, parameter: str, name: Name) -> GammaMarket | None:
    """The market that bears the name; a server that ignores the parameter lists others."""
    for closed in _BOTH:
        body = await client.get(_MARKETS, {parameter: name.text, "closed": closed, "limit": PAGE})
        for row in convert(body, _MarketPage, _MARKETS).markets:
            raw = gamma_market(row, _MARKETS)
            assets = (*packed(raw.clob_token_ids, _MARKETS, ""), *packed(raw.position_ids, _MARKETS, ""))
            if name.text in {(raw.condition_id or "").lower(), (raw.question_id or "").lower(), *assets}:
                return raw
    return None


async def _nearest(client: HttpClient, name: Name) -> str:
    """What the venue's own search finds instead of a slug; nothing for numbers."""
    if name.kind not in (NameKind.SLUG, NameKind.MARKET_SLUG, NameKind.EVENT_SLUG):
        return ""
    endpoint = "/public-search"
    try:
        body = await client.get(endpoint, {"q": name.text.replace("-", " "), "limit_per_type": 10})
        events = convert(body, _SearchPage, endpoint).events or []
    except SourceError:
        return ""  # the search is a courtesy; that nothing bears the name is what matters
    slugs = [slug for found in events for slug in (found.slug, *(m.slug for m in found.markets)) if slug]
    nearest = did_you_mean(name.text, slugs)
    return nearest if "did you mean" in nearest or not slugs else f"; the search finds {', '.join(slugs[:3])}"


class _MarketPage(msgspec.Struct):
    """A page of markets."""

    markets: list[Any]


class _EventPage(msgspec.Struct):
    """A page of events."""

    events: list[Any]


class _Series(msgspec.Struct):
    """A series of events, as ``/series`` lists it."""

    unread: ClassVar[frozenset[str]] = unread.SERIES

    id: str
    slug: str | None = None


class _FoundMarket(msgspec.Struct):
    slug: str | None = None


class _FoundEvent(msgspec.Struct):
    slug: str | None = None
    markets: list[_FoundMarket] = []


class _SearchPage(msgspec.Struct):
    """What ``/public-search`` finds; nothing is null."""

    events: list[_FoundEvent] | None = None


def _identity(row: Any) -> str:
    return str(row.get("id") if isinstance(row, Mapping) else row)


def _slug(name: str) -> str:
    return name.strip().casefold().replace(" ", "-")
