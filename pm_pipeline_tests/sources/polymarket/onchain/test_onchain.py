"""Fills into the lake: one truth from every source, the freeze, and what becomes of short reads."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, HOUR, SECOND, Nanos, format_time
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.connect import FillsFrom, SourceMode, open_fills
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.ingest import ASKED_TO, Outcome
from pm_pipeline.sources.polymarket.onchain.fills import FILLS, Events
from pm_pipeline.sources.polymarket.onchain.goldsky import FROZEN_AT
from pm_pipeline.sources.polymarket.onchain.ingest import (
    FileFills,
    FillSource,
    FrozenSourceError,
    Reading,
    ingest_fills,
)
from pm_pipeline.sources.sandbox import Faults, build_app, polygon
from pm_pipeline.sources.sandbox.faults import Planned
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.markets.builders import a_market
from pm_pipeline_tests.sources.polymarket.chain_material import (
    Order,
    chain_world,
    events_of,
    markets,
    match_logs,
)
from pm_pipeline_tests.sources.polymarket.material import MARKET

NOW = chain_world().now
BEFORE, ACROSS, AFTER = markets()
NODE, GOLDSKY = FillsFrom.NODE, FillsFrom.GOLDSKY


def fills(how: FillsFrom, *planned: str, **more: Any) -> AbstractAsyncContextManager[FillSource]:
    faults = Faults(plan=tuple(Planned.parse(text) for text in planned), stall_s=0.0)
    return open_fills(SourceMode.SANDBOX, how, sandbox_app=build_app(chain_world(), faults), **more)


def ingest(
    lake: Lake, source: AbstractAsyncContextManager[FillSource], *chosen: Market, now: Nanos = NOW
) -> list[Outcome]:
    async def run() -> list[Outcome]:
        async with source as opened:
            return await ingest_fills(opened, lake, chosen or markets(), now)

    return asyncio.run(run())


def plain(lake: Lake, market: Market, *columns: str) -> list[dict[str, Any]]:
    """The stored rows without what differs by source."""
    skipped = {"source", "block", "log_index", "ingested_at"}
    rows = lake.read(FILLS, str(market.key)).to_pylist()
    kept = [{k: v for k, v in row.items() if k not in skipped} for row in rows]
    return sorted(kept, key=lambda row: (row["tx"], row["order_hash"]))


def log_file(folder: Path, first: int = 0, last: int = NOW // SECOND) -> Path:
    path = folder / "logs.jsonl"
    logs = polygon.logs(chain_world(), first - polygon.GENESIS, last - polygon.GENESIS)
    lines = (
        json.dumps(log | {"blockTimestamp": hex(int(log["blockNumber"], 16) + polygon.GENESIS)})
        for log in logs
    )
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", durability="rename")


def test_a_node_a_subgraph_and_files_tell_the_same(tmp_path: Path, lake: Lake) -> None:
    ingest(lake, fills(NODE))
    other = Lake(tmp_path / "goldsky", durability="rename")
    ingest(other, fills(GOLDSKY), BEFORE)
    third = Lake(tmp_path / "files", durability="rename")
    ingest(third, fills(FillsFrom.AUTO, files=log_file(tmp_path)))
    assert len(plain(lake, BEFORE)) > 100
    assert plain(other, BEFORE) == plain(lake, BEFORE)
    for market in (BEFORE, ACROSS, AFTER):
        assert plain(third, market) == plain(lake, market)


def test_the_volume_of_the_chain_is_that_of_the_venue_and_every_match_balances(lake: Lake) -> None:
    outcomes = ingest(lake, fills(NODE))
    assert [outcome.coverage.status for outcome in outcomes] == [CoverageStatus.COMPLETE] * 3
    for market in (BEFORE, ACROSS, AFTER):
        rows = plain(lake, market)
        assert sum(row["cash"] for row in rows if row["counts_volume"]) == market.volume
        assert {row["balance"] for row in rows} == {"exact"}
        assert {row["side_evidence"] for row in rows} == {"onchain"}
    sources = set(lake.read(FILLS, str(ACROSS.key))["source"].to_pylist())
    assert sources == {"rpc:v1", "rpc:v2"}


def test_past_its_freeze_the_subgraph_is_never_complete(lake: Lake) -> None:
    before, across, after = sorted(markets(), key=lambda market: market.opened_at or 0)
    found = {outcome.market_key: outcome for outcome in ingest(lake, fills(GOLDSKY))}
    assert found[str(before.key)].coverage.complete
    cut = found[str(across.key)]
    assert cut.error is None
    assert cut.coverage.status is CoverageStatus.FROZEN
    assert not cut.coverage.complete
    assert cut.coverage.reason.startswith(f"FROZEN: goldsky ends at {format_time(FROZEN_AT)}")
    assert cut.coverage.got_to is not None
    assert cut.coverage.got_to <= FROZEN_AT
    info = lake.info(FILLS, str(across.key))
    assert info is not None
    assert int(info.meta[ASKED_TO]) == FROZEN_AT
    never = found[str(after.key)]
    assert isinstance(never.error, FrozenSourceError)
    assert "PM_POLYGON_RPC" in never.coverage.reason
    assert not lake.exists(FILLS, str(after.key))


def test_a_frozen_source_leaves_the_rows_that_another_gave(lake: Lake) -> None:
    ingest(lake, fills(NODE))
    kept = plain(lake, ACROSS), plain(lake, AFTER)
    outcomes = ingest(lake, fills(GOLDSKY), ACROSS, AFTER)
    assert all(outcome.error for outcome in outcomes)
    assert (plain(lake, ACROSS), plain(lake, AFTER)) == kept


FAULTS = (
    *("rate_limited", "server_error", "unavailable", "stall", "cut_body", "empty_page", "repeated_cursor"),
    *("out_of_order", "duplicate_rows", "stale"),
)


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("how", "path"), [(GOLDSKY, "/api/*"), (NODE, "/")])
def test_a_fault_on_any_page_ends_with_the_right_rows(
    lake: Lake, how: FillsFrom, path: str, fault: str, nth: int
) -> None:
    if how is NODE:
        nth = {1: 1, 2: 20, 3: 60, 4: 66}[nth]
    (outcome,) = ingest(lake, fills(how, f"{fault}@{path}#{nth}"), BEFORE)
    assert outcome.error is None
    rows = plain(lake, BEFORE)
    assert sum(row["cash"] for row in rows if row["counts_volume"]) == BEFORE.volume


@pytest.mark.parametrize("fault", ["server_error", "out_of_order", "duplicate_rows", "cut_body"])
@pytest.mark.parametrize(("how", "path"), [(GOLDSKY, "/api/*"), (NODE, "/")])
def test_a_source_that_stays_bad_fails_and_a_run_after_it_continues(
    lake: Lake, how: FillsFrom, path: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how is NODE and fault == "out_of_order":
        pytest.skip("the order of logs in an answer means nothing")
    ingest(lake, fills(how), BEFORE)
    kept = plain(lake, BEFORE)
    (outcome,) = ingest(lake, fills(how, f"{fault}@{path}#2x10000"), BEFORE)
    assert isinstance(outcome.error, SourceError)
    (coverage,) = read_coverage(lake, FILLS, str(BEFORE.key))
    assert coverage.status is CoverageStatus.FAILED
    assert coverage.reason == str(outcome.error)
    assert plain(lake, BEFORE) == kept
    (again,) = ingest(lake, fills(how), BEFORE)
    assert again.coverage.complete


class Told:
    """A source that knows the chain within ``reach`` and says what it is told to."""

    name = "told"

    def __init__(self, reach: Window, events: Events | SourceError) -> None:
        self._reach, self._events = reach, events

    async def __aenter__(self) -> "Told":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def reach(self) -> Window:
        return self._reach

    async def read(self, asked: Sequence[tuple[Market, Window]]) -> AsyncIterator[Reading]:
        for market, _ in asked:
            if isinstance(self._events, SourceError):
                yield Reading(market, Events.none(), self._events)
            else:
                yield Reading(market, self._events)


EVERYTHING = Window(0, NOW + 400 * DAY)
SOON = MARKET.opened_at or 0
MATCH = match_logs([Order("a", False, 0, 100, 30)], Order("t", True, 0, 100, 30))


def shifted(events: Events, ts: int) -> Events:
    return replace(events, ts=events.ts * 0 + ts)


FILL_EVENTS = shifted(events_of(MATCH), SOON // SECOND + 60)
LATER = (MARKET.traded_until or 0) + DAY


@pytest.mark.parametrize(
    ("reach", "events", "status", "gaps", "reason"),
    [
        (EVERYTHING, FILL_EVENTS, CoverageStatus.COMPLETE, 0, ""),
        (EVERYTHING, Events.none(), CoverageStatus.EMPTY, 0, "no rows"),
        (EVERYTHING, FILL_EVENTS.take([1]), CoverageStatus.COMPLETE, 1, ""),
        (Window(SOON + HOUR, LATER), FILL_EVENTS, CoverageStatus.FROZEN, 1, "begins at"),
        (Window(0, SOON + HOUR), FILL_EVENTS, CoverageStatus.FROZEN, 1, "ends at"),
        (Window(0, SOON), FILL_EVENTS, CoverageStatus.FROZEN, 0, "Nothing was written"),
        (Window(LATER, LATER + DAY), FILL_EVENTS, CoverageStatus.FROZEN, 0, "Nothing was written"),
        (EVERYTHING, SourceError("it is dark"), CoverageStatus.FAILED, 0, "it is dark"),
    ],
)
def test_the_coverage_says_what_came(
    lake: Lake, reach: Window, events: Any, status: CoverageStatus, gaps: int, reason: str
) -> None:
    (outcome,) = ingest(lake, Told(reach, events), MARKET, now=LATER)
    coverage = outcome.coverage
    assert (coverage.status, coverage.gaps, coverage.source) == (status, gaps, "told")
    assert reason in coverage.reason
    assert bool(outcome.error) == (not lake.exists(FILLS, str(MARKET.key)))


def test_fills_outside_the_time_of_trading_are_not_its_own(lake: Lake) -> None:
    early = shifted(FILL_EVENTS, SOON // SECOND - 1)
    late = shifted(FILL_EVENTS, LATER // SECOND + 1)
    told = Told(EVERYTHING, Events.joined([early, FILL_EVENTS, late]))
    (outcome,) = ingest(lake, told, MARKET, now=LATER)
    assert outcome.coverage.rows == len(FILL_EVENTS)


def test_fewer_rows_than_before_are_refused(lake: Lake) -> None:
    ingest(lake, Told(EVERYTHING, FILL_EVENTS), MARKET, now=LATER)
    (outcome,) = ingest(lake, Told(EVERYTHING, Events.none()), MARKET, now=LATER)
    assert outcome.coverage.status is CoverageStatus.FAILED
    assert lake.read(FILLS, str(MARKET.key)).num_rows == len(FILL_EVENTS)


def test_a_market_whose_opening_nobody_knows_cannot_be_read(lake: Lake) -> None:
    (outcome,) = ingest(lake, Told(EVERYTHING, FILL_EVENTS), replace(MARKET, opened_at=None), now=LATER)
    assert "nobody says when" in outcome.coverage.reason


def test_a_venue_that_settles_elsewhere_has_no_fills_on_the_chain(lake: Lake) -> None:
    market = a_market("kalshi:A")
    (outcome,) = ingest(lake, fills(NODE, "server_error@/#1x10000"), market)
    assert outcome.coverage.status is CoverageStatus.UNSUPPORTED
    assert lake.read(FILLS, str(market.key)).num_rows == 0


def test_a_source_whose_reach_is_not_known_fails_every_market(lake: Lake) -> None:
    outcomes = ingest(lake, fills(NODE, "server_error@/#1x10000"))
    assert [outcome.coverage.status for outcome in outcomes] == [CoverageStatus.FAILED] * 3


def test_files_that_cannot_be_read_fail_every_market(tmp_path: Path, lake: Lake) -> None:
    path = log_file(tmp_path)
    source = FileFills(path)
    asyncio.run(source.reach())
    path.write_text("{")

    async def run() -> list[Outcome]:
        return await ingest_fills(source, lake, markets(), NOW)

    assert all(str(path) in o.coverage.reason for o in asyncio.run(run()))


def test_files_that_end_early_are_not_complete(tmp_path: Path, lake: Lake) -> None:
    path = log_file(tmp_path, last=FROZEN_AT // SECOND)
    found = ingest(lake, fills(FillsFrom.FILES, files=path))
    status = {outcome.market_key: outcome.coverage.status for outcome in found}
    assert status[str(ACROSS.key)] is CoverageStatus.FROZEN
    assert status[str(AFTER.key)] is CoverageStatus.FROZEN


@pytest.mark.parametrize(
    ("mode", "how", "more", "reason"),
    [
        ("live", FillsFrom.NODE, {}, "PM_POLYGON_RPC"),
        ("live", FillsFrom.FILES, {}, "PM_POLYGON_LOGS"),
        ("live", FillsFrom.NODE, {"endpoint": "nowhere"}, "address of the node"),
        ("archive", FillsFrom.NODE, {}, "archive"),
    ],
)
def test_a_source_without_its_address_is_refused(
    mode: str, how: FillsFrom, more: dict[str, Any], reason: str
) -> None:
    async def run() -> None:
        async with open_fills(mode, how, **more):
            pass

    with pytest.raises(UsageError, match=reason):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("mode", "more", "name"),
    [
        ("live", {}, "goldsky"),
        ("live", {"endpoint": "https://node.example/key-of-mine"}, "rpc"),
        ("sandbox", {"sandbox_url": "http://127.0.0.1:1"}, "rpc"),
    ],
)
def test_the_source_follows_from_what_is_named(mode: str, more: dict[str, Any], name: str) -> None:
    async def run() -> str:
        async with open_fills(mode, **more) as source:
            return source.name

    assert asyncio.run(run()) == name
