"""A fault at the first, a middle and the last page of every listing of Polymarket, with and without rows.

Whatever goes wrong, each partition ends with exactly the right rows, or with its former ones and a reason;
a re-run without faults puts it right. What no reader can notice is listed in :mod:`unnoticed`.

=============================================  =================================================
listing                                        where
=============================================  =================================================
catalog by events and by markets               here
resolutions: Gamma, Data API, CLOB, chain      here
batches of order books                         here
activity, positions, holders, leaderboard      here; a source that stays bad: ``test_wallet_log``
fills of the subgraph, of a node               here; a source that stays bad: ``test_onchain``
prices, trades                                 ``test_going_on``
single answers, and Kalshi                     ``test_faults``
the market WebSocket                           ``test_recorder``, ``test_frames``
=============================================  =================================================
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pytest
from starlette.types import Receive, Scope, Send

from pm_pipeline.defs.catalog.assets import read_catalog, write_catalog
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.markets import Market, Venue
from pm_pipeline.markets.clock import DAY, Nanos, day_of, parse_time
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.connect import AsgiApp, FillsFrom, open_adapter, open_fills
from pm_pipeline.sources.endings import ingest_resolutions
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.ingest import Outcome, snapshot_books
from pm_pipeline.sources.listings import KEYS
from pm_pipeline.sources.polymarket import PolymarketAdapter
from pm_pipeline.sources.polymarket.books import clob
from pm_pipeline.sources.polymarket.endings import resolutions
from pm_pipeline.sources.polymarket.endings.resolutions import Asked
from pm_pipeline.sources.polymarket.onchain import goldsky
from pm_pipeline.sources.polymarket.onchain.fills import FILLS
from pm_pipeline.sources.polymarket.onchain.ingest import ingest_fills
from pm_pipeline.sources.polymarket.wallets import client as wallets
from pm_pipeline.sources.polymarket.wallets.rows import MarketIds
from pm_pipeline.sources.sandbox import Fault, Faults, Planned, World, build_app, generate_world
from pm_pipeline.sources.sandbox.data_trades import MAKERS
from pm_pipeline.sources.sandbox.plans import POLITICS_FEES, question_event
from pm_pipeline.sources.sandbox.world import BookLog, WorldMarket, no_quotes, no_trades
from pm_pipeline.sources.wallet_log import (
    ingest_activity,
    ingest_holders,
    ingest_leaderboard,
    ingest_positions,
)
from pm_pipeline.universe import MarketFilter, Universe
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.leaders import LEADERBOARD, Period, RankedBy
from pm_pipeline.warehouse.readings import ACTIVITY, HOLDERS, POSITIONS
from pm_pipeline_tests.at_once import few_at_once
from pm_pipeline_tests.end_to_end.unnoticed import UNNOTICED
from pm_pipeline_tests.sources.polymarket.chain_material import chain_world
from pm_pipeline_tests.sources.polymarket.chain_material import markets as chain_markets
from pm_pipeline_tests.warehouse.builders import lake_at

NOW: Final = parse_time("2026-06-30T00:00:00Z")
EARLIER: Final = NOW - 2 * DAY
ANSWERED: Final = tuple(fault for fault in Fault if fault is not Fault.SEQUENCE_GAP)
"""All that can befall an answer over HTTP."""
PLAUSIBLE: Final = (
    Fault.EMPTY_PAGE,
    Fault.REPEATED_CURSOR,
    Fault.OUT_OF_ORDER,
    Fault.DUPLICATE_ROWS,
    Fault.STALE,
)
"""Those after which the answer still looks like one, so that stored rows may be in danger."""

Held: TypeAlias = Mapping[tuple[str, str], str]
"""Fingerprints by table and partition."""


# ------------------------------------------------------------------ worlds


def plan(number: int, **changes: Any) -> Any:
    """An event of one market; of three one is over by now."""
    closed = "2026-06-29T12:00:00Z" if number % 3 == 0 else "2026-07-20T12:00:00Z"
    event = question_event(
        f"event-{number}",
        f"Number {number}?",
        opened="2026-06-20T00:00:00Z",
        closed=closed,
        category="Politics",
        fees=POLITICS_FEES,
    )
    return replace(event, **changes)


def small_book(now: Nanos) -> BookLog:
    """One bid and one offer, both since yesterday."""
    at, none = np.full(3, now - DAY), np.zeros(3, np.int64)
    ask = np.array([False, False, True])
    prices = np.array([0, 400_000, 600_000])
    return BookLog(at, none, np.array([True, False, False]), ask, prices, np.array([0, MICRO, 2 * MICRO]))


def bare(market: WorldMarket, now: Nanos) -> WorldMarket:
    """The market without a history, which costs nothing to serve; its volume grows with time."""
    grown = now // DAY * MICRO
    return replace(
        market, quotes=no_quotes, trades=no_trades, book_log=partial(small_book, now), volume=lambda: grown
    )


@cache
def listed_world(now: Nanos, count: int) -> World:
    """So many markets."""
    world = generate_world(5, [plan(number) for number in range(count)], now)
    return World.of(world.label, now, [bare(market, now) for market in world.markets.values()])


def wide(now: Nanos) -> World:
    """More markets than three pages hold; some were not listed yet two days ago."""
    return listed_world(now, 420 if now == NOW else 380)


def few(now: Nanos) -> World:
    """Markets for three pages of four."""
    return listed_world(now, 12)


@cache
def traded_world(now: Nanos) -> World:
    """Markets with trades of many wallets."""
    return replace(generate_world(5, [plan(n, trades_per_hour=0.2) for n in range(4)], NOW), now=now)


@cache
def logged_world(now: Nanos) -> World:
    """A world whose trades are on the chain; ``EARLIER`` lies within the life of its first market."""
    world = chain_world()
    return world if now == NOW else replace(world, now=parse_time("2026-04-25T12:00:00Z"))


# ------------------------------------------------------------------ readings

App: TypeAlias = tuple[AsgiApp, Nanos]
Read: TypeAlias = Callable[[Lake, AsgiApp], Awaitable[Sequence[Outcome]]]


class Counted:
    """An application that counts the requests to each path."""

    def __init__(self, app: AsgiApp) -> None:
        self.app, self.asked = app, Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked[scope.get("path", "")] += 1
        await self.app(scope, receive, send)


@asynccontextmanager
async def polymarket(app: AsgiApp) -> AsyncIterator[PolymarketAdapter]:
    async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=app) as adapter:
        assert isinstance(adapter, PolymarketAdapter)
        yield adapter


def catalog(**wanted: Any) -> Read:
    """The asset's own reading and writing of a catalog."""

    async def read(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
        class Here(Workspace):
            @property
            def lake(self) -> Lake:
                return lake

            @asynccontextmanager
            async def adapter(self, venue: Venue) -> AsyncIterator[PolymarketAdapter]:
                async with polymarket(app) as opened:
                    yield opened

        universe = Universe(markets=(MarketFilter(venue=Venue.POLYMARKET, **wanted),))
        reading = await read_catalog(Here(), universe)
        write_catalog(Here(), [day_of(reading.now)], replace(reading, now=reading.now))
        return ()

    return read


def known(world: World) -> list[Market]:
    return [market.market for market in world.polymarket.values()]


async def books(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
    async with polymarket(app) as adapter:
        return await snapshot_books(adapter, lake, known(few(NOW)))


async def endings(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
    """Everybody is asked about every market."""
    async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=app, asked=Asked.ALL) as adapter:
        return await ingest_resolutions(adapter, lake, known(few(NOW)))


async def activity(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
    ids = MarketIds.of(known(traded_world(NOW)))
    async with polymarket(app) as adapter:
        return await ingest_activity(adapter.wallets, lake, [MAKERS[0]], ids, await adapter.now())


async def positions(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
    ids = MarketIds.of(known(traded_world(NOW)))
    async with polymarket(app) as adapter:
        return await ingest_positions(adapter.wallets, lake, [MAKERS[0]], ids, await adapter.now())


async def holders(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
    async with polymarket(app) as adapter:
        return await ingest_holders(adapter.wallets, lake, known(traded_world(NOW)), await adapter.now())


async def leaders(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
    async with polymarket(app) as adapter:
        day = day_of(await adapter.now())
        one = await ingest_leaderboard(
            adapter.wallets, lake, day, top=30, periods=(Period.MONTH,), orders=(RankedBy.PNL,)
        )
        return [one]


def chain(how: FillsFrom) -> Read:
    async def read(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
        async with open_fills("sandbox", how, sandbox_app=app) as source:
            return await ingest_fills(source, lake, chain_markets()[:1], chain_world().now)

    return read


# ------------------------------------------------------------------ the table


class Listing(NamedTuple):
    """A listing of several pages: its path, the world behind it, how it is read, and what that fills."""

    name: str
    path: str
    world: Callable[[Nanos], World]
    read: Read
    tables: tuple[str, ...]
    paged: bool = True
    """Whether a page alone says that more follows; elsewhere what was asked for is known by name."""

    def __str__(self) -> str:
        return self.name


ENDS: Final = ("catalog.resolutions", "catalog.resolution_claims")
BOOKS: Final = ("market_data.book_events",)
LISTINGS: Final = (
    Listing("catalog by events", "/events/keyset", wide, catalog(), tuple(KEYS)),
    Listing("catalog by markets", "/markets/keyset", wide, catalog(closes_from="2026-01-01"), tuple(KEYS)),
    Listing(
        "events of the markets", "/events/keyset", wide, catalog(closes_from="2026-01-01"), tuple(KEYS), False
    ),
    Listing("ends by Gamma", "/markets/keyset", few, endings, ENDS, False),
    Listing("ends by the Data API", "/v2/resolutions", few, endings, ENDS, False),
    Listing("ends by the CLOB", "/markets/0x*", few, endings, ENDS, False),
    Listing("ends by the chain", "/", few, endings, ENDS, False),
    Listing("batches of books", "/books", few, books, BOOKS, False),
    Listing("activity", "/v2/activity", traded_world, activity, (ACTIVITY,)),
    Listing("positions", "/v2/positions", traded_world, positions, (POSITIONS,)),
    Listing("holders", "/v2/holders", traded_world, holders, (HOLDERS,)),
    Listing("leaderboard", "/v2/leaderboard", traded_world, leaders, (LEADERBOARD,)),
    Listing("fills of the subgraph", "/api/*", logged_world, chain(FillsFrom.GOLDSKY), (FILLS,), False),
    Listing("fills of a node", "/", logged_world, chain(FillsFrom.NODE), (FILLS,), False),
)


@pytest.fixture(autouse=True)
def short_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three pages of what would fit into one."""
    monkeypatch.setattr(clob, "MOST_BOOKS", 4)
    monkeypatch.setattr(resolutions, "PAGE", 4)
    monkeypatch.setattr(resolutions, "EVENTS_AT_ONCE", 4)
    monkeypatch.setattr(wallets, "_PAGE", 60 if "activity" in request.node.name else 3)
    monkeypatch.setattr(wallets, "_LEADERS_PAGE", 10)
    monkeypatch.setattr(goldsky, "_LONGEST", 86_400)


def held(lake: Lake, listing: Listing) -> Held:
    """What every partition of the listing holds."""
    return {
        (name, "|".join(partition)): info.fingerprint
        for name in listing.tables
        for partition in lake.partitions(name)
        if (info := lake.info(name, partition))
    }


async def attempt(
    lake: Lake, listing: Listing, world: World, faults: Faults | None = None
) -> tuple[Sequence[Outcome], SourceError | None, Counter[str]]:
    """One ingestion: its outcomes, or the error that ended it, and the requests to each path."""
    app = Counted(build_app(world, faults))
    try:
        return await listing.read(lake, app), None, app.asked
    except SourceError as error:
        return (), error, app.asked


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["nothing", "an earlier reading"])
@pytest.mark.parametrize("listing", LISTINGS, ids=str)
def test_a_fault_at_any_page_of_a_listing_is_healed_or_told(
    listing: Listing, stored: str, tmp_path: Path
) -> None:
    async def prepared() -> Lake:
        lake = lake_at(tmp_path / "prepared")
        if stored != "nothing":
            outcomes, error, _ = await attempt(lake, listing, listing.world(EARLIER))
            assert (error, [each.error for each in outcomes if each.error]) == (None, [])
        return lake

    def copied(name: str) -> Lake:
        if (tmp_path / "prepared").exists():
            shutil.copytree(tmp_path / "prepared", tmp_path / name)
        return lake_at(tmp_path / name)

    async def calm() -> tuple[Held, int]:
        lake = copied("calm")
        outcomes, error, asked = await attempt(lake, listing, listing.world(NOW))
        assert (error, [each.error for each in outcomes if each.error]) == (None, [])
        return held(lake, listing), sum(n for path, n in asked.items() if fnmatch(path, listing.path))

    former = held(asyncio.run(prepared()), listing)
    truth, requests = asyncio.run(calm())
    assert truth
    assert truth != former
    assert requests >= 3
    places = {"first": 1, "middle": (requests + 1) // 2, "last": requests}
    excused = {fault for fault, path in UNNOTICED if listing.paged and path == listing.path}
    passed: set[Fault] = set()

    async def case(fault: Fault, place: str) -> list[str]:
        name = f"{fault} at the {place} page"
        lake = copied(name)
        faults = Faults(plan=(Planned(fault, listing.path, places[place]),), stall_s=0.02)
        outcomes, error, _ = await attempt(lake, listing, listing.world(NOW), faults)
        failed = [each for each in outcomes if each.error]
        found = held(lake, listing)
        if error is None and not failed:
            if found == truth:
                return []
            passed.add(fault)
            return [] if fault in excused else [f"{name}: wrong rows were written without a word"]
        problems = [
            f"{name}: {key} holds neither the former rows nor the right ones"
            for key in {*found, *truth, *former}
            if found.get(key) not in (former.get(key), truth.get(key))
        ]
        for outcome in failed:
            [coverage] = read_coverage(lake, outcome.coverage.table, outcome.market_key)
            if coverage.status is not CoverageStatus.FAILED or not coverage.reason:
                problems.append(f"{name}: no reason is told")
        if error is not None and (found != former or not str(error)):
            problems.append(f"{name}: it failed, but not everything stayed as it was")
        outcomes, error, _ = await attempt(lake, listing, listing.world(NOW))
        if error or any(each.error for each in outcomes) or held(lake, listing) != truth:
            problems.append(f"{name}: a re-run does not put it right: {error or outcomes}")
        return problems

    async def all_cases() -> list[str]:
        chosen = ANSWERED if stored == "nothing" else PLAUSIBLE
        found = await few_at_once(case(fault, place) for fault in chosen for place in places)
        return [problem for problems in found for problem in problems]

    assert asyncio.run(all_cases()) == []
    assert passed == (excused if stored == "nothing" else passed & excused)


def test_a_market_that_gamma_took_away_is_an_error_of_its_own(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    world = few(NOW)
    gone, *rest = world.markets.values()
    smaller = World.of(world.label, world.now, rest)
    outcomes, error, _ = asyncio.run(attempt(lake, LISTINGS[3], smaller))
    assert error is None
    assert [o.market_key for o in outcomes if o.error] == [str(gone.market.key)]
    [coverage] = read_coverage(lake, "catalog.resolutions", str(gone.market.key))
    assert "Gamma has no market" in coverage.reason
