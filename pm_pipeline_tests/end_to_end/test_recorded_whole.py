"""A slice of the recorded temperature markets, from the catalog to the reconciliation, and nothing is lost.

What must come is counted here from the files, with :mod:`by_hand` and nothing of the package.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from typing import Final, NamedTuple

import pytest

from pm_pipeline.defs.market_data.reconcile import members_of
from pm_pipeline.markets import Market, Venue
from pm_pipeline.markets.clock import SECOND, day_of, parse_time, to_nanos
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.markets.units import MICRO, to_micro
from pm_pipeline.sources.adapter import Selection
from pm_pipeline.sources.connect import open_adapter
from pm_pipeline.sources.endings import ingest_resolutions
from pm_pipeline.sources.ingest import PRICES, RESOLUTIONS, TRADES, Outcome, ingest
from pm_pipeline.sources.listings import CatalogRows
from pm_pipeline.sources.sandbox import build_app, load_world
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.coverage import CoverageStatus
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.reconcile import Finding, Verdict, reconcile
from pm_pipeline.warehouse.records import resolution_from_rows
from pm_pipeline_tests.end_to_end import by_hand
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.warehouse.builders import lake_at

pytestmark = [needs_shared, pytest.mark.slow]

WORLD: Final = "pm_pipeline_tests.recorded:load_world"
CITIES: Final = ("nyc", "london")
DAYS: Final = 30
"""Events of each city: the last that were recorded."""
COMPARED: Final = 4
"""Every so many buckets are reconciled: some of each event, whose sum is that of all its buckets."""


class Slice(NamedTuple):
    """What was read, and what the files say, by YES token."""

    lake: Lake
    markets: Mapping[str, Market]
    outcomes: Mapping[str, list[Outcome]]
    recorded: Mapping[str, by_hand.Recorded]
    findings: Mapping[str, list[Finding]]


def last_days(city: str) -> list[by_hand.Recorded]:
    path = SHARED / "recorded" / "polymarket_weather_2026" / f"polymarket_{city}_history.json.gz"
    days = [list(day) for _, day in groupby(by_hand.polymarket(path), key=lambda market: market.ends)]
    return [market for day in days[-DAYS:] for market in day]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Slice:
    lake = lake_at(tmp_path_factory.mktemp("slice"))
    recorded = {market.name: market for city in CITIES for market in last_days(city)}
    first = min(market.ends for market in recorded.values())
    series = tuple(f"{city}-daily-weather" for city in CITIES)
    selection = Selection(venue=Venue.POLYMARKET, series=series, closes_from=int(first) * SECOND)

    async def run() -> dict[str, list[Outcome]]:
        async with open_adapter(
            Venue.POLYMARKET, "sandbox", sandbox_app=build_app(load_world(WORLD))
        ) as adapter:
            now, rows = await adapter.now(), CatalogRows()
            async for listing in adapter.get_listings(selection):
                rows.add(listing, now)
            for name, found in rows.tables().items():
                lake.write(name, day_of(now), found)
            listed = [m for m in Catalog(lake).markets().values() if m.instrument(0).token_id in recorded]
            outcomes = {name: await ingest(adapter, lake, name, listed) for name in (PRICES, TRADES)}
            return outcomes | {RESOLUTIONS: await ingest_resolutions(adapter, lake, listed)}

    outcomes = asyncio.run(run())
    catalog = Catalog(lake)
    groups = catalog.groups()
    markets = {market.instrument(0).token_id or "": market for market in catalog.markets().values()}
    findings = {
        name: reconcile(lake, markets[name], members_of(markets[name], groups))
        for name in list(recorded)[::COMPARED]
    }
    return Slice(lake, markets, outcomes, recorded, findings)


def test_the_catalog_holds_the_events_of_the_files_whole(read: Slice) -> None:
    assert set(read.recorded) <= set(read.markets)
    mine = {name: read.markets[name] for name in read.recorded}
    events = {event.event_id: event for event in Catalog(read.lake).events().values()}
    groups = Catalog(read.lake).groups()
    assert len({market.event_id for market in mine.values()}) == DAYS * len(CITIES)
    for event_id, count in Counter(market.event_id for market in mine.values()).items():
        assert len(events[event_id or ""].market_keys) == count
    assert all(groups[market.group_key or ""].exhaustive for market in mine.values())


def test_every_recorded_point_is_stored_and_every_partition_says_so(read: Slice) -> None:
    told = {outcome.market_key: outcome for outcome in read.outcomes[PRICES]}
    points = 0
    for name, recorded in read.recorded.items():
        market = read.markets[name]
        outcome = told[str(market.key)]
        assert outcome.error is None
        expected = [(int(q.t), to_micro(q.mid)) for q in recorded.quotes if q.mid is not None]
        stored = read.lake.read(PRICES, str(market.key)).to_pylist()
        for index in (0, 1):
            mids = [mid if index == 0 else MICRO - mid for _, mid in expected]
            mine = [row for row in stored if row["outcome_index"] == index]
            assert [(to_nanos(row["ts"]) // SECOND, row["mid"]) for row in mine] == [
                (t, mid) for (t, _), mid in zip(expected, mids, strict=True)
            ]
        status = CoverageStatus.COMPLETE if expected else CoverageStatus.EMPTY
        assert (outcome.coverage.status, outcome.coverage.rows) == (status, 2 * len(expected))
        assert bool(outcome.coverage.reason) is not bool(expected)
        points += len(expected)
    assert points > 10_000


def test_no_trades_were_recorded_and_every_partition_says_so(read: Slice) -> None:
    coverage = [outcome.coverage for outcome in read.outcomes[TRADES]]
    assert {(each.status, each.reason) for each in coverage} == {
        (CoverageStatus.EMPTY, "the source has no rows")
    }


def test_every_end_is_that_of_the_files(read: Slice) -> None:
    assert [outcome.error for outcome in read.outcomes[RESOLUTIONS] if outcome.error] == []
    for name, recorded in read.recorded.items():
        end = resolution_from_rows(read.lake.read(RESOLUTIONS, str(read.markets[name].key)))
        assert end.status is ResolutionStatus.RESOLVED
        assert end.payouts == ((MICRO, 0) if recorded.pays else (0, MICRO))
        assert (end.resolved_at or 0) >= parse_time("2026-01-01")


def test_the_sources_agree(read: Slice) -> None:
    verdicts = Counter[tuple[str, Verdict]]()
    for findings in read.findings.values():
        verdicts.update((finding.rule, finding.verdict) for finding in findings)
    assert {read.markets[name].event_id for name in read.findings} == {
        read.markets[name].event_id for name in read.recorded
    }
    conflicts = {rule: count for (rule, verdict), count in verdicts.items() if verdict is Verdict.CONFLICTS}
    assert conflicts == {}
    assert verdicts["ends_by_source", Verdict.AGREES] > 0
    assert verdicts["exclusive_sum", Verdict.AGREES] > 0
    assert verdicts["coverage", Verdict.AGREES] > 0
