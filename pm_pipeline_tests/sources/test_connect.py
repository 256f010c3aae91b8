"""The same clients in every mode, against the sandbox in this process and on a loopback port."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, MINUTE, Nanos, parse_time, to_nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.adapter import Selection
from pm_pipeline.sources.connect import HOSTS, KALSHI_BOOKS, SourceMode, _Source, open_adapter
from pm_pipeline.sources.errors import PageNotArchived, RepeatedCursor
from pm_pipeline.sources.ingest import ingest
from pm_pipeline.sources.sandbox import (
    Fault,
    Faults,
    Planned,
    World,
    build_app,
    generate_world,
    running_server,
)
from pm_pipeline.warehouse.archive import PageArchive
from pm_pipeline.warehouse.coverage import Coverage, read_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.small_world import PLANS, STEP

VENUES = (Venue.POLYMARKET, Venue.KALSHI)
FEEDS = ("get_prices", "get_trades")


@pytest.fixture(scope="module")
def world() -> World:
    return generate_world()


@pytest.fixture(scope="module")
def app(world: World) -> Starlette:
    return build_app(world)


async def everything(
    venue: Venue, mode: str, *, feeds: Sequence[str] = FEEDS, most: int = 4, **where: Any
) -> dict[str, Any]:
    """All markets and resolutions, and the rows of some markets."""
    found: dict[str, Any] = {}
    async with open_adapter(venue, mode, **where) as adapter:
        found["now"] = await adapter.now()
        markets = [m async for page in adapter.get_markets(Selection(venue=venue)) for m in page]
        found["markets"] = sorted(markets, key=lambda m: m.key)
        found["resolutions"] = [r async for page in adapter.get_resolutions(markets) for r in page]
        for market in found["markets"][:most]:
            for feed in feeds:
                batches = [batch async for batch in getattr(adapter, feed)(market)]
                found[f"{feed} {market.key}"] = [row for batch in batches for row in batch.to_pylist()]
    return found


@pytest.mark.parametrize("venue", VENUES)
def test_what_was_read_from_the_sandbox_is_replayed_alike_from_the_archive(
    venue: Venue, app: Starlette, tmp_path: Path
) -> None:
    archive = PageArchive(tmp_path)
    first = asyncio.run(everything(venue, "sandbox", sandbox_app=app, archive=archive))
    again = asyncio.run(everything(venue, "archive", archive=archive))
    assert first == again
    assert sum(len(rows) for name, rows in first.items() if name.startswith("get_")) > 100


def covered(lake: Lake, table: str, partition: tuple[str, ...]) -> list[Coverage]:
    return [replace(each, ingested_at=0) for each in read_coverage(lake, table, partition)]


@cache
def small_world_at(now: Nanos) -> World:
    return generate_world(plans=[replace(plan, step=STEP) for plan in PLANS], now=now)


@pytest.mark.parametrize("venue", VENUES)
def test_what_was_read_in_many_sessions_is_replayed_alike_into_an_empty_lake(
    venue: Venue, tmp_path: Path
) -> None:
    """Time goes on between the sessions of one fetch, and of the next, which reads on where markets trade:
    each asks for other windows."""
    archive = PageArchive(tmp_path / "pages")
    fetched, replayed = (Lake(tmp_path / name, durability="rename") for name in ("fetched", "replayed"))
    tables = ("market_data.prices", "market_data.trades")

    async def read(lake: Lake, table: str, mode: str, **where: Any) -> None:
        async with open_adapter(venue, mode, archive=archive, **where) as adapter:
            markets = [m async for page in adapter.get_markets(Selection(venue=venue)) for m in page]
            for outcome in await ingest(adapter, lake, table, markets):
                assert outcome.error is None

    begun = parse_time("2026-06-20T06:00:00Z")  # the markets trade; two days later some have closed
    for session, table in enumerate([*tables, *tables]):
        now = begun + session * MINUTE + (2 * DAY if session >= len(tables) else 0)
        app = build_app(small_world_at(now))
        asyncio.run(read(fetched, table, "sandbox", sandbox_app=app))
    rows = 0
    for table in tables:
        asyncio.run(read(replayed, table, "archive"))
        assert replayed.partitions(table) == fetched.partitions(table)
        for partition in fetched.partitions(table):
            there, here = fetched.info(table, partition), replayed.info(table, partition)
            assert here == there
            assert covered(replayed, table, partition) == covered(fetched, table, partition)
            rows += there.rows if there else 0
    assert rows > 1_000


@pytest.mark.parametrize("venue", VENUES)
def test_the_markets_and_their_ends_are_those_of_the_world(
    venue: Venue, world: World, app: Starlette
) -> None:
    found = asyncio.run(everything(venue, "sandbox", sandbox_app=app, most=0))
    truth = world.polymarket if venue is Venue.POLYMARKET else world.kalshi
    markets: list[Market] = found["markets"]
    assert {m.key.native_id for m in markets} <= set(truth)
    assert len(markets) > 10
    for resolution in found["resolutions"]:
        real = truth[resolution.market_key.native_id].resolution
        assert (resolution.status, resolution.payouts) == (real.status, real.payouts)
        assert resolution.known_at <= found["now"]


@pytest.mark.parametrize("venue", VENUES)
def test_no_row_was_known_later_than_now(venue: Venue, app: Starlette) -> None:
    found = asyncio.run(everything(venue, "sandbox", sandbox_app=app, most=3))
    for name, rows in found.items():
        if name.startswith("get_"):
            assert all(to_nanos(row["ts"]) <= to_nanos(row["known_at"]) <= found["now"] for row in rows)


@pytest.mark.parametrize("venue", VENUES)
def test_a_loopback_sandbox_serves_what_the_embedded_one_does(venue: Venue, app: Starlette) -> None:
    feeds = (*FEEDS, "get_orderbook")
    embedded = asyncio.run(everything(venue, "sandbox", sandbox_app=app, most=1, feeds=feeds))
    with running_server(app) as url:
        remote = asyncio.run(everything(venue, "sandbox", sandbox_url=url, most=1, feeds=feeds))
    assert embedded == remote


PASSING = (Fault.RATE_LIMITED, Fault.SERVER_ERROR, Fault.UNAVAILABLE, Fault.CUT_BODY, Fault.EMPTY_PAGE)


@pytest.mark.parametrize("venue", VENUES)
def test_passing_failures_everywhere_change_nothing(venue: Venue, world: World, app: Starlette) -> None:
    spoiled = build_app(world, Faults(scattered=PASSING, share=0.2, seed=7))
    calm = asyncio.run(everything(venue, "sandbox", sandbox_app=app, most=1))
    assert asyncio.run(everything(venue, "sandbox", sandbox_app=spoiled, most=1)) == calm


def test_a_repeated_cursor_fails_instead_of_looping_or_losing_rows(world: World) -> None:
    spoiled = build_app(world, Faults(plan=(Planned(Fault.REPEATED_CURSOR, "/v2/trades", 2, 1000),)))
    with pytest.raises(RepeatedCursor):
        asyncio.run(
            everything(Venue.POLYMARKET, "sandbox", sandbox_app=spoiled, most=99, feeds=("get_trades",))
        )


def test_a_lost_change_of_a_book_becomes_a_gap_and_the_rest_is_read(world: World, app: Starlette) -> None:
    plan = (Planned(Fault.SEQUENCE_GAP, "/trade-api/ws/v2", 1, 1000),)
    feeds = ("get_orderbook",)
    calm = asyncio.run(everything(Venue.KALSHI, "sandbox", sandbox_app=app, most=1, feeds=feeds))
    spoiled = asyncio.run(
        everything(
            Venue.KALSHI, "sandbox", sandbox_app=build_app(world, Faults(plan=plan)), most=1, feeds=feeds
        )
    )
    (name,) = (name for name in calm if name.startswith("get_orderbook"))
    assert [row["kind"] for row in spoiled[name]].count("gap") > [row["kind"] for row in calm[name]].count(
        "gap"
    )
    assert spoiled[name][-1]["ts"] == calm[name][-1]["ts"]
    assert book_at_the_end(spoiled[name]) == book_at_the_end(calm[name])


def book_at_the_end(rows: list[dict[str, Any]]) -> dict[tuple[str, int], int]:
    book: dict[tuple[str, int], int] = {}
    for row in rows:
        if row["kind"] != "level":
            book.clear()
        elif row["size"]:
            book[(row["side"], row["price"])] = row["size"]
        else:
            book.pop((row["side"], row["price"]), None)
    return book


def test_an_error_inside_the_block_comes_out_as_it_is(app: Starlette) -> None:
    async def run() -> None:
        async with open_adapter(Venue.KALSHI, "sandbox", sandbox_app=app) as adapter:
            await adapter.now()
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        asyncio.run(run())


def test_an_empty_archive_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PageNotArchived, match="PM_SOURCE=live"):
        asyncio.run(everything(Venue.KALSHI, "archive", archive=PageArchive(tmp_path)))


@pytest.mark.parametrize(
    ("mode", "where", "words"),
    [
        ("archive", {}, "needs an archive"),
        ("sandbox", {}, "either a sandbox in this process or its address"),
        ("sandbox", {"sandbox_app": object(), "sandbox_url": "http://127.0.0.1:1"}, "either a sandbox"),
    ],
)
def test_a_mode_without_what_it_needs_is_refused(mode: str, where: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        asyncio.run(everything(Venue.KALSHI, mode, **where))


def test_alpaca_is_no_prediction_market(app: Starlette) -> None:
    with pytest.raises(UsageError, match="alpaca is no prediction market"):
        asyncio.run(everything(Venue.ALPACA, "sandbox", sandbox_app=app))


def test_live_clients_point_at_the_venues_and_carry_the_contact() -> None:
    source = _Source(SourceMode.LIVE, None, None, None, "me@example.test")
    assert source.books_url() == KALSHI_BOOKS
    for name, host in HOSTS.items():
        http = source.client(name).http
        assert str(http.base_url).rstrip("/") == host.base
        assert http.headers["user-agent"].endswith("contact: me@example.test")


def test_a_live_kalshi_reads_books_by_snapshot_unless_it_has_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KALSHI_API_KEY_ID", raising=False)
    monkeypatch.delenv("KALSHI_PRIVATE_KEY", raising=False)

    async def run() -> None:
        async with open_adapter(Venue.KALSHI, SourceMode.LIVE) as adapter:
            assert adapter.venue is Venue.KALSHI
            assert adapter._book_feed == "snapshot"  # type: ignore[attr-defined]

    asyncio.run(run())
