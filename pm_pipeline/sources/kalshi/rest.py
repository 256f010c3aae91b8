"""Kalshi's catalog over REST: series, events, markets, and how the markets ended.

Enumerate by series, not by date: combos (KXMVE…) are four fifths of all markets and are left out.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from pm_pipeline.markets.clock import SECOND, Nanos, parse_time
from pm_pipeline.markets.event import Event
from pm_pipeline.markets.keys import KeyFormatError, MarketKey, Venue, check_partition_key
from pm_pipeline.markets.market import Instrument, Market, MarketGroup, ScheduleEvidence, TickRange
from pm_pipeline.markets.resolution import PayoutError, Resolution, ResolutionStatus, check_payouts
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.adapter import Listing, MarketState, Selection
from pm_pipeline.sources.errors import BadRequest, BadResponse
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.kalshi.wire import (
    Cutoff,
    KalshiEvent,
    KalshiMarket,
    KalshiSeries,
    PriceRange,
    first,
)
from pm_pipeline.sources.wire import convert, micro, moment, price, size

MARKETS: Final = "/markets"
ARCHIVED: Final = "/historical/markets"

_NAMES: Final = 100
"""Tickers per request."""
_TRADING: Final = frozenset({"initialized", "inactive", "active"})
_STATUS: Final[Mapping[str, ResolutionStatus]] = {
    **dict.fromkeys(_TRADING, ResolutionStatus.OPEN),
    "closed": ResolutionStatus.CLOSED,
    "determined": ResolutionStatus.PENDING,
    "amended": ResolutionStatus.PENDING,
    "disputed": ResolutionStatus.DISPUTED,
    "finalized": ResolutionStatus.RESOLVED,
}
_FRACTIONAL_SINCE: Final[Nanos] = parse_time("2026-04-02")
"""Since then every market trades hundredths of a contract; before, whole ones."""


async def cutoff(client: HttpClient) -> tuple[Nanos, Nanos]:
    """What is in the archive tier: markets settled before the first, trades made before the second moment."""
    endpoint = "/historical/cutoff"
    answer = convert(await client.get(endpoint), Cutoff, endpoint)
    return (
        moment(answer.market_settled_ts, endpoint, "market_settled_ts"),
        moment(answer.trades_created_ts, endpoint, "trades_created_ts"),
    )


class Catalog:
    """Crawls of the catalog; events and series are asked for once, and kept with what they say of fees.

    ``waivers`` holds the end of the fee waiver of each market that had one.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self.events: dict[str, KalshiEvent] = {}
        self.series: dict[str, KalshiSeries] = {}
        self.waivers: dict[str, str] = {}

    async def crawl(self, selection: Selection) -> AsyncIterator[list[Market]]:
        """The markets of ``selection``, each once, page by page, in order of their tickers within a page.

        Named markets must exist. Without a name, a series, a category or tags the whole exchange is listed.
        """
        left = selection.limit
        seen: set[str] = set()
        async for page in self._pages(selection):
            fresh = {raw.ticker: raw for raw in page if raw.ticker not in seen}
            seen.update(fresh)
            markets = [await self._market(fresh[ticker]) for ticker in sorted(fresh)]
            found = [market for market in markets if selection.holds(market)]
            if left is not None:
                found, left = found[:left], left - len(found)
            if found:
                yield found
            if left is not None and left <= 0:
                return

    async def listings(self, selection: Selection) -> AsyncIterator[Listing]:
        """What :meth:`crawl` gives, and at its end the events and groups of it, each with all its markets."""
        found: dict[str, list[MarketKey]] = {}
        async for markets in self.crawl(selection):
            for market in markets:
                assert market.event_id is not None
                found.setdefault(market.event_id, []).append(market.key)
            yield Listing(markets, [], [])
        for ticker in found:
            if selection.narrows_events:
                found[ticker] = [_key(raw.ticker, MARKETS) for raw in await self._of_event(ticker)]
        events = [
            to_event(self.events[t], self.series[self.events[t].series_ticker], found[t]) for t in found
        ]
        yield Listing([], events, [to_group(self.events[ticker], found[ticker]) for ticker in found])

    async def _pages(self, selection: Selection) -> AsyncIterator[list[KalshiMarket]]:
        if selection.ids or selection.slugs:
            for start in range(0, len(selection.ids), _NAMES):
                yield await self._named(selection.ids[start : start + _NAMES])
            for event in selection.slugs:
                yield await self._of_event(event)
            return
        scopes: list[dict[str, str]] = [{"series_ticker": t} for t in await self._wanted_series(selection)]
        bounds: Params = {
            "min_close_ts": _seconds(selection.closes_from),
            "max_close_ts": _seconds(selection.closes_to, up=True),
        }
        for scope in scopes or [{}]:
            await self._load_events(scope)
            live: Params = {**scope, **bounds, "mve_filter": "exclude", "limit": 1000}
            async for page in self._listing(MARKETS, live):
                yield page
            if selection.state is not MarketState.OPEN:
                archived: Params = {**(scope or {"mve_filter": "exclude"}), "limit": 1000}
                async for page in self._listing(ARCHIVED, archived):
                    yield page

    async def _wanted_series(self, selection: Selection) -> list[str]:
        if selection.series:
            return list(selection.series)
        if selection.category is None and not selection.tags:
            return []
        endpoint = "/series"
        body = await self._client.get(endpoint, {"category": selection.category})
        wanted = {tag.casefold() for tag in selection.tags}
        found = [
            series
            for series in convert(body, _SeriesList, endpoint).series
            if not wanted or wanted.intersection(tag.casefold() for tag in series.tags or ())
        ]
        if not found:
            raise BadRequest(
                f"Kalshi has no series of category {selection.category!r} and tags {list(selection.tags)}; "
                "the category must be written exactly, for example 'Climate and Weather'",
                404,
            )
        self.series.update((series.ticker, series) for series in found)
        return [series.ticker for series in found]

    async def _load_events(self, scope: Mapping[str, str]) -> None:
        """All events of a series at once; those of the whole exchange are asked for as they come."""
        if not scope:
            return
        pages = self._client.pages(
            "/events",
            {**scope, "limit": 200},
            rows="events",
            cursor_in="cursor",
            cursor_of=lambda body: body.get("cursor"),
            identity=lambda row: _name(row, "event_ticker"),
        )
        async for page in pages:
            for row in page:
                event = convert(row, KalshiEvent, "/events")
                self.events[event.event_ticker] = event

    async def _named(self, tickers: Iterable[str]) -> list[KalshiMarket]:
        wanted = list(tickers)
        params: Params = {"tickers": ",".join(wanted), "limit": 1000}
        found = [raw async for page in self._listing(MARKETS, params) for raw in page]
        have = {raw.ticker for raw in found}
        return found + [await single(self._client, ticker) for ticker in wanted if ticker not in have]

    async def _of_event(self, event: str) -> list[KalshiMarket]:
        """Of both tiers, for the strikes of an event need not settle together; what moves is found twice."""
        params: Params = {"event_ticker": event, "limit": 1000}
        found = {
            raw.ticker: raw
            for path in (MARKETS, ARCHIVED)
            async for page in self._listing(path, params)
            for raw in page
        }
        if not found:
            raise BadRequest(f"Kalshi has no markets of the event {event!r}", 404)
        return list(found.values())

    async def _listing(self, path: str, params: Params) -> AsyncIterator[list[KalshiMarket]]:
        pages = self._client.pages(
            path,
            params,
            rows="markets",
            cursor_in="cursor",
            cursor_of=lambda body: body.get("cursor"),
            identity=lambda row: _name(row, "ticker"),
        )
        async for page in pages:
            yield [convert(row, KalshiMarket, path) for row in page]

    async def _market(self, raw: KalshiMarket) -> Market:
        event = self.events.get(raw.event_ticker)
        if event is None:
            endpoint = f"/events/{raw.event_ticker}"
            event = convert(await self._client.get(endpoint), _EventAnswer, endpoint).event
            self.events[raw.event_ticker] = event
        series = self.series.get(event.series_ticker)
        if series is None:
            endpoint = f"/series/{event.series_ticker}"
            series = convert(await self._client.get(endpoint), _SeriesAnswer, endpoint).series
            self.series[event.series_ticker] = series
        if raw.fee_waiver_expiration_time is not None:
            self.waivers[raw.ticker] = raw.fee_waiver_expiration_time
        return to_market(raw, event, series)


async def single(client: HttpClient, ticker: str) -> KalshiMarket:
    """One market, from whichever tier has it. Raises ``BadRequest`` (404) where neither does."""
    for path in (MARKETS, ARCHIVED):
        endpoint = f"{path}/{ticker}"
        try:
            return convert(await client.get(endpoint), _MarketAnswer, endpoint).market
        except BadRequest as error:
            if error.status != 404:
                raise
    raise BadRequest(f"Kalshi has no market {ticker!r}", 404)


def to_market(raw: KalshiMarket, event: KalshiEvent, series: KalshiSeries) -> Market:
    """The domain's record of a Kalshi market; ``volume`` is in contracts, each paying one dollar.

    Where the venue may close a market early and it was closed when we first saw it, nobody may have known
    the close beforehand: its schedule is hindsight.
    """
    where = f"{MARKETS} {raw.ticker}"
    if raw.status not in _STATUS:
        raise BadResponse(f"{where}: status is {raw.status!r}, which we do not know")
    key = _key(raw.ticker, where)
    close = moment(raw.close_time, where, "close_time")
    closed = raw.status not in _TRADING
    title = raw.title or event.title
    rules = "\n\n".join(text for text in (raw.rules_primary, raw.rules_secondary) if text)
    return Market(
        key=key,
        question=title
        if not raw.yes_sub_title or raw.yes_sub_title in title
        else f"{title} ({raw.yes_sub_title})",
        instruments=(Instrument(key, 0, "Yes"), Instrument(key, 1, "No")),
        opened_at=moment(raw.open_time, where, "open_time"),
        scheduled_close=close,
        schedule_evidence=(
            ScheduleEvidence.HINDSIGHT if closed and raw.can_close_early else ScheduleEvidence.LISTED
        ),
        ticks=tuple(_ticks(raw.price_ranges, where)),
        min_order_size=MICRO // 100 if close >= _FRACTIONAL_SINCE else MICRO,
        event_id=raw.event_ticker,
        event_title=event.title,
        series=event.series_ticker,
        category=series.category,
        tags=tuple(series.tags or ()),
        group_key=_group_key(raw.event_ticker),
        exclusive_group=event.mutually_exclusive,
        volume=size(first(where, volume_fp=raw.volume_fp, volume=raw.volume), where, "volume_fp"),
        traded_until=_traded_until(raw, where) if closed else None,
        rules_text=rules or None,
        resolution_source=next((s.url or s.name for s in series.settlement_sources or ()), None),
    )


def _traded_until(raw: KalshiMarket, where: str) -> Nanos:
    """The close of a market that does not trade any more; what was paid before it trades no longer either."""
    close = moment(raw.close_time, where, "close_time")
    return min(close, moment(raw.settlement_ts, where, "settlement_ts")) if raw.settlement_ts else close


def to_event(raw: KalshiEvent, series: KalshiSeries, markets: Iterable[MarketKey]) -> Event:
    """The domain's record of an event; Kalshi gives it neither dates nor a volume of its own."""
    return Event(
        venue=Venue.KALSHI,
        event_id=raw.event_ticker,
        title=raw.title,
        series=raw.series_ticker,
        category=series.category,
        tags=tuple(series.tags or ()),
        group_key=_group_key(raw.event_ticker),
        market_keys=tuple(sorted(markets)),
    )


def to_group(raw: KalshiEvent, markets: Iterable[MarketKey]) -> MarketGroup:
    """The strikes of an event. Kalshi says whether at most one of them pays, never that one must."""
    return MarketGroup(
        group_key=_group_key(raw.event_ticker),
        market_keys=tuple(sorted(markets)),
        exclusive=raw.mutually_exclusive,
        event_ids=(raw.event_ticker,),
    )


def _group_key(event_ticker: str) -> str:
    return f"{Venue.KALSHI}:{event_ticker}"


def to_resolution(raw: KalshiMarket, now: Nanos) -> Resolution:
    """Where a market stands: paid from ``settlement_ts`` on, by ``result`` and ``settlement_value_dollars``.

    A scalar result pays YES the settled value and NO the rest of the dollar. A finalized market without a
    result was voided.

    Raises
    ------
    BadResponse
        for an unknown status or result, a value that contradicts the result, or a settlement without a time.
    """
    where = f"{MARKETS} {raw.ticker}"
    if raw.status not in _STATUS:
        raise BadResponse(f"{where}: status is {raw.status!r}, which we do not know")
    status = _STATUS[raw.status]
    close = None if raw.status in _TRADING else _traded_until(raw, where)
    result = partial(
        Resolution,
        market_key=_key(raw.ticker, where),
        closed_at=close,
        source=f"kalshi:{MARKETS}",
        was_disputed=raw.status in {"disputed", "amended"},
    )
    if status is not ResolutionStatus.RESOLVED:
        return result(status=status, payouts=None, resolved_at=None, known_at=now)
    if not raw.settlement_ts:
        raise BadResponse(f"{where}: finalized, but settlement_ts is missing")
    settled = moment(raw.settlement_ts, where, "settlement_ts")
    if raw.result == "":
        return result(status=ResolutionStatus.VOID, payouts=None, resolved_at=settled, known_at=settled)
    return result(status=status, payouts=_payouts(raw, where), resolved_at=settled, known_at=settled)


def _payouts(raw: KalshiMarket, where: str) -> tuple[Micro, Micro]:
    fixed = {"yes": MICRO, "no": 0}.get(raw.result)
    value = raw.settlement_value_dollars
    if fixed is None and (raw.result != "scalar" or value is None):
        raise BadResponse(f"{where}: result is {raw.result!r} with settlement_value_dollars {value}")
    yes = fixed if value is None else price(value, where, "settlement_value_dollars")
    if yes is None or (fixed is not None and yes != fixed):
        raise BadResponse(f"{where}: result is {raw.result!r}, but settlement_value_dollars is {value}")
    payouts = (yes, MICRO - yes)
    try:
        check_payouts(payouts)
    except PayoutError as error:
        raise BadResponse(f"{where}: {error}") from error
    return payouts


def _ticks(ranges: Iterable[PriceRange], where: str) -> Iterable[TickRange]:
    """The grid without its ends: nobody bids 0 or offers at 1 dollar."""
    found = False
    for each in ranges:
        start, end = (
            price(each.start, where, "price_ranges.start"),
            price(each.end, where, "price_ranges.end"),
        )
        step = micro(each.step, where, "price_ranges.step")
        if step <= 0 or start >= end:
            raise BadResponse(f"{where}: price_ranges holds {each.start} to {each.end} by {each.step}")
        found = True
        yield TickRange(start or step, end if end < MICRO else MICRO - step, step)
    if not found:
        raise BadResponse(f"{where}: price_ranges is empty")


def _key(ticker: str, where: str) -> MarketKey:
    key = MarketKey(Venue.KALSHI, ticker)
    try:
        check_partition_key(str(key))
    except KeyFormatError as error:
        raise BadResponse(f"{where}: ticker: {error}") from error
    return key


def _seconds(nanos: Nanos | None, *, up: bool = False) -> int | None:
    return None if nanos is None else -(-nanos // SECOND) if up else nanos // SECOND


def _name(row: Any, field: str) -> str:
    return str(row.get(field) if isinstance(row, Mapping) else row)


class _MarketAnswer(msgspec.Struct):
    market: KalshiMarket


class _EventAnswer(msgspec.Struct):
    event: KalshiEvent


class _SeriesAnswer(msgspec.Struct):
    series: KalshiSeries


class _SeriesList(msgspec.Struct):
    series: list[KalshiSeries]
