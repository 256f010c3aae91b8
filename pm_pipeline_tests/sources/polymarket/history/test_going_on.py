"""A market that trades is read again and again: what is asked for, what is kept, and what a fault can do.

Real clients, the sandbox at two moments of one world, real lakes.
"""

import asyncio
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.types import Receive, Scope, Send

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND, Nanos, parse_time, to_nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.adapter import Selection
from pm_pipeline.sources.connect import AsgiApp, open_adapter
from pm_pipeline.sources.ingest import PRICES, TRADES, Outcome, ingest
from pm_pipeline.sources.polymarket.history.retention import WARNED_AT, about_to_expire, is_archived
from pm_pipeline.sources.sandbox import Fault, Faults, Planned, World, build_app, generate_world
from pm_pipeline.sources.sandbox.plans import POLITICS_FEES, question_event
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.at_once import few_at_once
from pm_pipeline_tests.warehouse.builders import lake_at

NOW: Final = parse_time("2026-06-30T00:00:00Z")
HISTORY, FEED = "/prices-history", "/v2/trades"


@lru_cache(maxsize=1)
def world() -> World:
    """A market that has traded for three months, one that began yesterday, and one that closed."""
    common: dict[str, Any] = {"category": "Politics", "fees": POLITICS_FEES}
    plans = [
        replace(
            question_event(name, f"{name}?", opened=opened, closed=closed, **common),
            step=step,
            trades_per_hour=rate,
        )
        for name, opened, closed, step, rate in (
            ("long", "2026-03-25T00:00:00Z", "2026-07-20T00:00:00Z", 30 * MINUTE, 2.0),
            ("young", "2026-06-29T00:00:00Z", "2026-07-03T00:00:00Z", MINUTE, 60.0),
            ("closed", "2026-06-27T00:00:00Z", "2026-06-28T12:00:00Z", 5 * MINUTE, 20.0),
        )
    ]
    return generate_world(11, plans)


def at(moment: Nanos) -> World:
    """The same world at another moment."""
    return replace(world(), now=moment)


class Counted:
    """An application that counts the requests to each path."""

    def __init__(self, app: AsgiApp) -> None:
        self.app, self.asked = app, Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked[scope.get("path", "")] += 1
        await self.app(scope, receive, send)


@lru_cache(maxsize=4)
def market(name: str) -> Market:
    async def listed() -> list[Market]:
        async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=build_app(world())) as adapter:
            pages = adapter.get_markets(Selection(venue=Venue.POLYMARKET))
            return [each async for page in pages for each in page if name == each.slug]

    [found] = asyncio.run(listed())
    return found


async def reading(
    lake: Lake, table: str, name: str, moment: Nanos = NOW, faults: Faults | None = None
) -> tuple[Outcome, Counter[str]]:
    app = Counted(build_app(at(moment), faults))
    async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=app) as adapter:
        [outcome] = await ingest(adapter, lake, table, [market(name)])
    return outcome, app.asked


def read(*given: Any, **more: Any) -> tuple[Outcome, Counter[str]]:
    market(given[2])  # listed outside of the loop
    outcome, asked = asyncio.run(reading(*given, **more))
    assert outcome.error is None
    return outcome, asked


def rows(lake: Lake, table: str, name: str) -> Counter[tuple[Any, ...]]:
    found = lake.read(table, str(market(name).key)).drop_columns("ingested_at")
    return Counter(map(tuple, (row.values() for row in found.to_pylist())))


@pytest.mark.parametrize("name", ["long", "young"])
@pytest.mark.parametrize(("table", "path"), [(PRICES, HISTORY), (TRADES, FEED)])
def test_an_hour_later_only_what_is_new_is_asked_for(
    table: str, path: str, name: str, tmp_path: Path
) -> None:
    lake, anew = lake_at(tmp_path / "lake"), lake_at(tmp_path / "anew")
    _, first = read(lake, table, name, NOW - HOUR)
    before = rows(lake, table, name)
    _, second = read(lake, table, name)
    _, whole = read(anew, table, name)
    # one answer for each outcome, or two readings of one page; a witness where points are half an hour apart
    assert second[path] == (4 if (table, name) == (PRICES, "long") else 2)
    assert second[path] < whole[path] or name == "young"
    after, expected = rows(lake, table, name), rows(anew, table, name)
    assert before <= after
    if (table, name) == (PRICES, "long"):  # an hour of fine points has expired meanwhile, and is stored
        fine = {row for row in expected if 60 in row}
        assert fine < {row for row in after if 60 in row}
        assert len(after) > len(expected)
    else:
        assert after == expected
    assert first[path] >= second[path]


def test_the_requests_that_are_saved(tmp_path: Path) -> None:
    """A market of three months: what a reading each hour costs, beside one that begins anew."""
    lake = lake_at(tmp_path)
    cost = {table: read(lake, table, "long", NOW - HOUR)[1] for table in (PRICES, TRADES)}
    saved = {table: read(lake, table, "long")[1] for table in (PRICES, TRADES)}
    assert (cost[PRICES][HISTORY], saved[PRICES][HISTORY]) == (42, 4)
    assert (cost[TRADES][FEED], saved[TRADES][FEED]) == (8, 2)


def test_fine_points_stay_when_the_venue_has_forgotten_them(tmp_path: Path) -> None:
    lake, key = lake_at(tmp_path), str(market("long").key)
    start = NOW - 20 * DAY
    read(lake, PRICES, "long", start)
    before = rows(lake, PRICES, "long")
    outcome, _ = read(lake, PRICES, "long")
    assert before <= rows(lake, PRICES, "long")
    found = lake.read(PRICES, key).to_pylist()
    spacing = {
        (name, row["resolution_s"])
        for row in found
        for name, low, high in (
            ("saved", start - 6 * DAY, start),
            ("missed", start + HOUR, NOW - 7 * DAY),
            ("new", NOW - 6 * DAY, NOW),
        )
        if low <= to_nanos(row["ts"]) < high
    }
    assert spacing == {("saved", 60), ("missed", 300), ("new", 60)}
    assert outcome.coverage.status is CoverageStatus.PARTIAL
    assert "a point each 5 minutes from" in outcome.coverage.reason
    assert "a point each 30 minutes from" in outcome.coverage.reason


def test_a_market_that_closed_is_read_to_its_end_and_loses_what_came_after_it(tmp_path: Path) -> None:
    """The catalog learned of the close later than prices were read."""
    lake, closed = lake_at(tmp_path), market("closed")
    running = replace(closed, traded_until=None)
    end = closed.traded_until
    assert end is not None
    for table in (PRICES, TRADES):
        app = build_app(at(end + 3 * HOUR))

        async def early(table: str = table, app: AsgiApp = app) -> Outcome:
            async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=app) as adapter:
                [outcome] = await ingest(adapter, lake, table, [running])
                return outcome

        assert asyncio.run(early()).error is None
    read(lake, PRICES, "closed")
    read(lake, TRADES, "closed")
    assert max(to_nanos(row["ts"]) for row in lake.read(PRICES, str(closed.key)).to_pylist()) < end
    truth = world().market(str(closed.key)).trades()
    assert lake.read(TRADES, str(closed.key)).num_rows == len(truth.ts)


def test_a_source_that_changes_its_past_leaves_the_stored_rows(tmp_path: Path) -> None:
    lake, key = lake_at(tmp_path), str(market("young").key)
    read(lake, PRICES, "young", NOW - HOUR)
    stored = lake.read(PRICES, key)
    changed = stored.set_column(
        stored.column_names.index("mid"),
        stored.schema.field("mid"),
        [[m - 1 for m in stored["mid"].to_pylist()]],
    )
    lake.write(PRICES, key, changed)
    outcome, _ = asyncio.run(reading(lake, PRICES, "young"))
    assert outcome.coverage.status is CoverageStatus.FAILED
    assert "and are now" in outcome.coverage.reason
    assert lake.read(PRICES, key).equals(changed)


# faults

CASES: Final = {PRICES: HISTORY, TRADES: FEED}
PLACES: Final = ("first", "middle", "last")
ANSWERED: Final = tuple(fault for fault in Fault if fault is not Fault.SEQUENCE_GAP)
"""All that can befall an answer over HTTP."""
PLAUSIBLE: Final = (
    Fault.EMPTY_PAGE,
    Fault.REPEATED_CURSOR,
    Fault.OUT_OF_ORDER,
    Fault.DUPLICATE_ROWS,
    Fault.STALE,
)
"""Those after which the answer still looks like one."""


@pytest.mark.slow
@pytest.mark.parametrize("table", CASES)
@pytest.mark.parametrize("stored", ["nothing", "weeks ago"])
def test_a_fault_at_any_page_of_a_long_history_is_healed_or_told(
    table: str, stored: str, tmp_path: Path
) -> None:
    path, key = CASES[table], str(market("long").key)
    earlier = NOW - 45 * DAY

    async def prepared(name: str) -> Lake:
        lake = lake_at(tmp_path / name)
        if stored != "nothing":
            assert (await reading(lake, table, "long", earlier))[0].error is None
        return lake

    async def calm() -> tuple[str, int]:
        lake = await prepared("calm")
        outcome, asked = await reading(lake, table, "long")
        assert outcome.error is None
        return fingerprint(lake), asked[path]

    def fingerprint(lake: Lake) -> str:
        info = lake.info(table, key)
        return info.fingerprint if info else ""

    truth, requests = asyncio.run(calm())
    assert requests >= 3
    places = dict(zip(PLACES, (1, (requests + 1) // 2, requests), strict=True))

    async def case(fault: Fault, place: str) -> list[str]:
        name = f"{fault} at the {place} page"
        lake = await prepared(name)
        former = fingerprint(lake)
        faults = Faults(plan=(Planned(fault, path, places[place]),), stall_s=0.02)
        outcome, _ = await reading(lake, table, "long", NOW, faults)
        if outcome.error is None:
            return [] if fingerprint(lake) == truth else [f"{name}: wrong rows were written without a word"]
        [coverage] = read_coverage(lake, table, key)
        problems = []
        if fingerprint(lake) != former:
            problems.append(f"{name}: the former rows are gone")
        if coverage.status not in (CoverageStatus.FAILED, CoverageStatus.QUIET) or not coverage.reason:
            problems.append(f"{name}: no reason is told")
        again, _ = await reading(lake, table, "long")
        if again.error or fingerprint(lake) != truth:
            problems.append(f"{name}: a re-run does not put it right: {again.error}")
        return problems

    async def all_cases() -> list[str]:
        chosen = ANSWERED if stored == "nothing" else PLAUSIBLE
        found = await few_at_once(case(fault, place) for fault in chosen for place in PLACES)
        return [problem for problems in found for problem in problems]

    assert asyncio.run(all_cases()) == []


# what is about to be lost


def test_a_market_is_worth_saving_while_it_trades_and_for_a_week() -> None:
    open_, closed = market("long"), market("closed")
    end = closed.traded_until
    assert end is not None
    assert is_archived(open_, NOW)
    assert is_archived(closed, end + 7 * DAY - SECOND)
    assert not is_archived(closed, end + 7 * DAY)


def test_what_nobody_saved_for_five_days_is_told_before_it_is_lost(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    markets = [market(name) for name in ("long", "young", "closed")]
    found = about_to_expire(lake, markets, NOW)
    assert [(each.market_key, each.since) for each in found] == [(str(markets[0].key), markets[0].opened_at)]
    for name in ("long", "closed"):
        read(lake, PRICES, name, NOW)
    assert about_to_expire(lake, markets, NOW) == []
    later = NOW + WARNED_AT
    found = about_to_expire(lake, markets, later)
    assert [each.market_key for each in found] == [str(markets[1].key), str(markets[0].key)]
    assert found[1].since == NOW
    assert found[1].expires_at == NOW + 7 * DAY
    assert about_to_expire(lake, [replace(markets[0], key=replace_venue(markets[0]))], later) == []


def replace_venue(given: Market) -> Any:
    return type(given.key)(Venue.KALSHI, given.key.native_id)
