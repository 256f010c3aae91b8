"""What the clients bring back is what the generated world holds: nothing added, lost, moved or rounded."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette

from pm_pipeline.markets import Market, Venue
from pm_pipeline.markets.clock import MINUTE, SECOND, to_nanos
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.adapter import PlatformAdapter, Selection
from pm_pipeline.sources.connect import open_adapter
from pm_pipeline.sources.ingest import FEEDS, ingest
from pm_pipeline.sources.polymarket.history.trades import SETTLED_AFTER
from pm_pipeline.sources.sandbox import World, build_app, generate_world, running_server
from pm_pipeline.sources.sandbox.plans import POLITICS_FEES, EventPlan, figure_event, question_event
from pm_pipeline.sources.sandbox.world import ABSENT, WorldMarket, book_at
from pm_pipeline.warehouse.asof import MarketData, view_of
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.warehouse.builders import lake_at

VENUES = (Venue.POLYMARKET, Venue.KALSHI)


def poly(name: str, opened: str, closed: str) -> EventPlan:
    return question_event(
        name, f"{name}?", opened=opened, closed=closed, category="Politics", fees=POLITICS_FEES
    )


def figure(name: str, opened: str, closed: str) -> EventPlan:
    return figure_event(
        name, "T7", "Above 7?", series=name[:6], category="Economics", opened=opened, closed=closed
    )


PLANS = (
    poly("recent", "2026-06-24T00:00:00Z", "2026-06-25T12:00:00Z"),
    poly("older", "2026-06-19T00:00:00Z", "2026-06-20T06:00:00Z"),
    poly("present", "2026-06-28T12:00:00Z", "2026-07-03T16:00:00Z"),
    figure("KXAONE-26JUN20", "2026-06-18T14:00:00Z", "2026-06-20T14:00:00Z"),
    figure("KXBTWO-26JUN25", "2026-06-24T00:00:00Z", "2026-06-25T14:00:00Z"),
    figure("KXCSIX-26MAR02", "2026-03-01T00:00:00Z", "2026-03-02T14:00:00Z"),
)
"""Of each venue three markets: among them one that trades, one whose fine prices have expired, and one that
lies in the archive."""


@pytest.fixture(scope="module")
def world() -> World:
    return generate_world(7, PLANS)


@pytest.fixture(scope="module")
def app(world: World) -> Starlette:
    return build_app(world)


@pytest.fixture(scope="module")
def stored(app: Starlette, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, list[Market]]:
    """Every table of every market, through the clients."""
    lake = lake_at(tmp_path_factory.mktemp("stored"))
    return lake, [market for venue in VENUES for market in fill(lake, venue, sandbox_app=app)]


def fill(lake: Lake, venue: Venue, **where: Any) -> list[Market]:
    async def run() -> list[Market]:
        async with open_adapter(venue, "sandbox", **where) as adapter:
            markets = await crawl(adapter, venue)
            for name in FEEDS:
                outcomes = await ingest(adapter, lake, name, markets)
                assert [outcome.error for outcome in outcomes if outcome.error] == []
            return markets

    return asyncio.run(run())


async def crawl(adapter: PlatformAdapter, venue: Venue) -> list[Market]:
    return [market async for page in adapter.get_markets(Selection(venue=venue)) for market in page]


def told_by(
    stored: tuple[Lake, list[Market]], world: World, venue: Venue
) -> Iterator[tuple[MarketData, dict[str, list[dict[str, Any]]], WorldMarket]]:
    """Each market of a venue: its data as stored, its rows by table, and the truth."""
    lake, markets = stored
    chosen = [market for market in markets if market.key.venue is venue]
    assert len(chosen) == 3
    for market in chosen:
        rows = {name: lake.read(name, str(market.key)).to_pylist() for name in FEEDS}
        yield MarketData.load(lake, market), rows, world.market(str(market.key))


def test_polymarket_mids_are_the_worlds_at_the_finest_spacing_that_is_kept(
    stored: tuple[Lake, list[Market]], world: World
) -> None:
    spacings = Counter[int]()
    for _, rows, truth in told_by(stored, world, Venue.POLYMARKET):
        quotes = truth.quotes()
        mids = dict(zip(quotes.ts.tolist(), quotes.mid.tolist(), strict=True))
        for outcome in (0, 1):
            prices = [row for row in rows["market_data.prices"] if row["outcome_index"] == outcome]
            times = [to_nanos(row["ts"]) for row in prices]
            assert [row["mid"] if not outcome else MICRO - row["mid"] for row in prices] == [
                mids[t] for t in times
            ]
            widest = max(row["resolution_s"] for row in prices) * SECOND
            edges = [int(quotes.ts[0]), *times, int(quotes.ts[-1])]
            assert max(np.diff(edges)) <= widest
            spacings[widest // MINUTE] += 1
    assert spacings == {1: 4, 5: 2}


def test_kalshi_quotes_are_the_worlds_at_the_end_of_every_minute(
    stored: tuple[Lake, list[Market]], world: World
) -> None:
    for data, rows, truth in told_by(stored, world, Venue.KALSHI):
        known, quotes = view_of(data).quotes(0), truth.quotes()
        for minute in range(int(known.ts[0]), int(quotes.ts[-1]), 7 * MINUTE):
            found = known.until(minute).last()
            row = quotes.at(minute)
            assert found is not None
            expected = [
                None if int(side[row]) == ABSENT else int(side[row]) for side in (quotes.bid, quotes.ask)
            ]
            assert [found.bid, found.ask] == expected
        assert len(rows["market_data.prices"]) == len(rows["market_data.candles"]) > 100


@pytest.mark.parametrize("venue", VENUES)
def test_every_trade_comes_back_as_often_as_it_was_made(
    venue: Venue, stored: tuple[Lake, list[Market]], world: World
) -> None:
    polymarket = venue is Venue.POLYMARKET
    for _, rows, truth in told_by(stored, world, venue):
        trades = truth.trades()
        made = Counter(
            (
                int(trades.ts[n]) // SECOND * SECOND if polymarket else int(trades.ts[n]) // 1000 * 1000,
                int(trades.outcome[n]) if polymarket else 0,
                trades.price_of_named(n) if polymarket else int(trades.price[n]),
                int(trades.size[n]),
                "buy" if (trades.taker_buys(n) if polymarket else trades.lifts[n]) else "sell",
                str(trades.wallet[n]) if polymarket else None,
                bool(trades.block[n]) and not polymarket,
            )
            for n in range(len(trades.ts))
            if not polymarket or int(trades.ts[n]) // SECOND * SECOND < world.now - SETTLED_AFTER
        )
        names = ("outcome_index", "price", "size", "side", "wallet", "is_block")
        read = Counter(
            (to_nanos(row["ts"]), *(row[name] for name in names)) for row in rows["market_data.trades"]
        )
        assert read == made
        assert read.total() > 100


def test_a_kalshi_book_is_the_worlds_after_every_message(
    stored: tuple[Lake, list[Market]], world: World
) -> None:
    for data, rows, truth in told_by(stored, world, Venue.KALSHI):
        log = truth.book_log()
        for moment in np.unique(log.ts)[::97].tolist():
            sides, book = book_at(log, moment), data.book(moment)
            assert sides is not None
            assert book is not None
            assert (dict(book.bids), dict(book.asks)) == sides
        assert len(rows["market_data.book_events"]) > 1000


def test_polymarket_shows_the_present_book_of_open_markets_only(
    stored: tuple[Lake, list[Market]], world: World
) -> None:
    shown = 0
    for data, rows, truth in told_by(stored, world, Venue.POLYMARKET):
        if truth.resolution.payouts is not None:
            assert rows["market_data.book_events"] == []
            continue
        sides, book = book_at(truth.book_log(), world.now), data.book(world.now)
        assert sides is not None
        assert book is not None
        assert (dict(book.bids), dict(book.asks)) == sides
        shown += 1
    assert shown == 1


@pytest.mark.parametrize("venue", VENUES)
def test_a_port_fills_a_lake_with_the_same_bytes_as_the_process(
    venue: Venue, app: Starlette, stored: tuple[Lake, list[Market]], tmp_path: Path
) -> None:
    with running_server(app) as url:
        markets = fill(lake_at(tmp_path), venue, sandbox_url=url)
    for market in markets:
        for name in FEEDS:
            infos = [lake.info(name, str(market.key)) for lake in (stored[0], lake_at(tmp_path))]
            assert infos[0] is not None
            assert infos[1] is not None
            assert infos[0].fingerprint == infos[1].fingerprint
