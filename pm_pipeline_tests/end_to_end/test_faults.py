"""Every fault that a venue shows, on every path of the clients, through the real ingestion into a real lake.

Whatever goes wrong, a partition ends with exactly the right rows, or it is not written, the reason is
recorded and the former rows stay; a re-run puts it right. What no reader can notice is listed in
:mod:`unnoticed`.
"""

import asyncio
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from pm_pipeline.markets import Market, Venue
from pm_pipeline.markets.clock import MINUTE
from pm_pipeline.sources.adapter import Selection
from pm_pipeline.sources.connect import open_adapter
from pm_pipeline.sources.endings import ingest_resolutions
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.ingest import RESOLUTIONS, Outcome, ingest
from pm_pipeline.sources.sandbox import Fault, Faults, Planned, World, build_app, generate_world
from pm_pipeline.sources.sandbox.fault_names import DRIFT
from pm_pipeline.sources.sandbox.plans import POLITICS_FEES, EventPlan, figure_event, question_event
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.at_once import few_at_once
from pm_pipeline_tests.end_to_end.unnoticed import UNNOTICED
from pm_pipeline_tests.warehouse.builders import lake_at


class Route(NamedTuple):
    """Requests that serve one table of one venue."""

    venue: Venue
    table: str
    path: str

    def __str__(self) -> str:
        return f"{self.venue} {self.path}"


ROUTES: Final = (
    Route(Venue.POLYMARKET, "market_data.prices", "/prices-history"),
    Route(Venue.POLYMARKET, "market_data.trades", "/v2/trades"),
    Route(Venue.POLYMARKET, "market_data.book_events", "/book"),
    Route(Venue.POLYMARKET, "catalog.resolutions", "/markets/*"),
    Route(Venue.POLYMARKET, "catalog.resolutions", "/v2/resolutions"),
    Route(Venue.KALSHI, "market_data.prices", "*/candlesticks"),
    Route(Venue.KALSHI, "market_data.trades", "*/trades"),
    Route(Venue.KALSHI, "market_data.trades", "*/cutoff"),
    Route(Venue.KALSHI, "market_data.book_events", "/trade-api/ws/v2"),
    Route(Venue.KALSHI, "catalog.resolutions", "/trade-api/v2/markets/*"),
)

LISTINGS: Final = (
    (Venue.POLYMARKET, "/events/keyset"),
    (Venue.KALSHI, "/trade-api/v2/markets"),
    (Venue.KALSHI, "/trade-api/v2/events/*"),
    (Venue.KALSHI, "/trade-api/v2/series/*"),
)

ONCE, ALWAYS = 1, 1_000_000


def plans() -> tuple[EventPlan, ...]:
    """Two markets of a venue: a busy one with more than a page of trades, and one with a small book."""
    events = {
        **dict.fromkeys(("busy", "KXBUSY-26JUN24"), ("2026-06-24T00:00:00Z", "2026-06-24T14:00:00Z")),
        "thin": ("2026-06-29T18:00:00Z", "2026-07-03T00:00:00Z"),
        "KXTHIN-26JUN29": ("2026-06-29T00:00:00Z", "2026-06-29T14:00:00Z"),
    }
    found = []
    for name, (opened, closed) in events.items():
        common: dict[str, Any] = {"opened": opened, "closed": closed}
        if name.startswith("KX"):
            plan = figure_event(name, "T7", "Above 7?", series=name[:6], category="Economics", **common)
        else:
            plan = question_event(name, f"{name}?", category="Politics", fees=POLITICS_FEES, **common)
        busy = "BUSY" in name.upper()
        found.append(replace(plan, trades_per_hour=120.0) if busy else replace(plan, step=30 * MINUTE))
    return tuple(found)


@lru_cache(maxsize=1)
def world() -> World:
    return generate_world(3, plans())


async def listed(venue: Venue, faults: Faults | None = None) -> list[Market]:
    async with open_adapter(venue, "sandbox", sandbox_app=build_app(world(), faults)) as adapter:
        pages = adapter.get_markets(Selection(venue=venue))
        return sorted([market async for page in pages for market in page], key=lambda m: m.key)


async def read(lake: Lake, route: Route, market: Market, faults: Faults | None = None) -> Outcome:
    async with open_adapter(route.venue, "sandbox", sandbox_app=build_app(world(), faults)) as adapter:
        if route.table == RESOLUTIONS:
            [outcome] = await ingest_resolutions(adapter, lake, [market])
        else:
            [outcome] = await ingest(adapter, lake, route.table, [market])
        return outcome


@lru_cache(maxsize=2)
def market_of(venue: Venue, kind: str) -> Market:
    [market] = [m for m in asyncio.run(listed(venue)) if kind in f"{m.slug} {m.key}".lower()]
    return market


def planned(fault: Fault, path: str, times: int) -> Faults:
    """The first request goes wrong, or every one; a cursor can be repeated from the second page on."""
    nth = 2 if fault is Fault.REPEATED_CURSOR else 1
    return Faults(plan=(Planned(fault, path, nth, times),), stall_s=0.02)


def held(lake: Lake, route: Route, market: Market) -> str | None:
    """Fingerprint of the rows of the partition; ``None`` where it was not written."""
    info = lake.info(route.table, str(market.key))
    return info.fingerprint if info else None


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_partition_is_right_or_keeps_its_former_rows_with_the_reason(route: Route, tmp_path: Path) -> None:
    market = market_of(route.venue, "thin" if route.table == "market_data.book_events" else "busy")
    calm = lake_at(tmp_path / "calm")
    assert asyncio.run(read(calm, route, market)).error is None
    truth = held(calm, route, market)
    assert truth is not None

    async def case(fault: Fault, times: int) -> list[str]:
        unnoticed = (fault, route.path) in UNNOTICED
        gap = (fault, route.path) == (Fault.SEQUENCE_GAP, "/trade-api/ws/v2")
        problems = []
        for former in (False, True):
            lake = lake_at(tmp_path / f"{fault}-{times}-{former}")
            if former:
                await read(lake, route, market)
            outcome = await read(lake, route, market, planned(fault, route.path, times))
            now = held(lake, route, market)
            [coverage] = read_coverage(lake, route.table, str(market.key))
            if outcome.error is not None:
                kept = now == (truth if former else None)
                told = coverage.status in {CoverageStatus.FAILED, CoverageStatus.QUIET} and coverage.reason
                if not (kept and told):
                    problems.append(f"{fault} x{times}: failed, but former rows or reason are gone")
                again = await read(lake, route, market)
                if again.error or held(lake, route, market) != truth:
                    problems.append(f"{fault} x{times}: a re-run does not put it right: {again.error}")
            elif gap:
                if outcome.coverage.gaps != 1 or coverage.complete:
                    problems.append(f"{fault} x{times}: the lost change is not marked as a gap")
            elif times == ALWAYS and "the CLOB has no prices" in coverage.reason:
                if coverage.status is not CoverageStatus.PARTIAL:
                    problems.append(f"{fault} x{times}: another source stands in, and passes for complete")
            elif now != truth and not unnoticed:
                problems.append(f"{fault} x{times}: wrong rows were written without a word")
        return problems

    async def all_cases() -> list[str]:
        # a wait of a second before every one of six attempts tells no more than the first
        cases = [
            case(fault, times)
            for fault in Fault
            for times in (ONCE, ALWAYS)
            if times == ONCE or fault is not Fault.RATE_LIMITED_WITH_WAIT
        ]
        return [problem for found in await few_at_once(cases) for problem in found]

    assert asyncio.run(all_cases()) == []


@pytest.mark.parametrize(
    "fault",
    [Fault.RATE_LIMITED, Fault.SERVER_ERROR, Fault.UNAVAILABLE, Fault.STALL, Fault.CUT_BODY],
)
def test_a_source_that_stays_down_is_an_error_on_every_path(fault: Fault, tmp_path: Path) -> None:
    async def case(number: int, route: Route, market: Market) -> Outcome:
        return await read(lake_at(tmp_path / str(number)), route, market, planned(fault, route.path, ALWAYS))

    routes = [route for route in ROUTES if "ws" not in route.path]
    markets = [
        market_of(route.venue, "thin" if route.table == "market_data.book_events" else "busy")
        for route in routes
    ]

    async def all_cases() -> list[Outcome]:
        return await few_at_once(map(case, range(len(routes)), routes, markets))

    for outcome in asyncio.run(all_cases()):
        assert isinstance(outcome.error, SourceError)
        assert "failed 6 times" in outcome.coverage.reason


@pytest.mark.parametrize(("venue", "path"), LISTINGS)
def test_a_catalog_is_whole_or_an_error(venue: Venue, path: str) -> None:
    truth = asyncio.run(listed(venue))

    async def case(fault: Fault, times: int) -> list[Market] | SourceError:
        try:
            return await listed(venue, planned(fault, path, times))
        except SourceError as error:
            return error

    async def all_cases() -> dict[tuple[Fault, int], list[Market] | SourceError]:
        cases = [(fault, times) for fault in Fault for times in (ONCE, ALWAYS)]
        cases.remove((Fault.RATE_LIMITED_WITH_WAIT, ALWAYS))
        return dict(zip(cases, await few_at_once(case(*each) for each in cases), strict=True))

    for (fault, times), found in asyncio.run(all_cases()).items():
        if isinstance(found, SourceError):
            assert times == ALWAYS or fault in DRIFT
            assert str(found)
        elif (fault, path) not in UNNOTICED:
            assert found == truth, fault


@pytest.mark.parametrize(
    ("fault", "route"),
    [
        (fault, route)
        for fault in (Fault.STALE, Fault.EMPTY_PAGE)
        for route in ROUTES
        if (fault, route.path) in UNNOTICED
    ],
    ids=str,
)
def test_what_cannot_be_noticed_never_replaces_a_longer_history(
    fault: Fault, route: Route, tmp_path: Path
) -> None:
    """A first reading may be short; a later one takes nothing away: it is joined, or refused where it must
    replace what is stored."""
    market = market_of(route.venue, "thin" if route.table == "market_data.book_events" else "busy")
    lake = lake_at(tmp_path)
    asyncio.run(read(lake, route, market))
    before = held(lake, route, market)
    outcome = asyncio.run(read(lake, route, market, planned(fault, route.path, ONCE)))
    joined = route.table == "market_data.prices"
    assert (outcome.error is None) == joined
    assert joined or "already in the lake" in outcome.coverage.reason
    assert held(lake, route, market) == before
