"""Rules of reconciliation: silent over a clean world, and each lie caught by the rule that is meant to."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pm_pipeline.markets.clock import HOUR, Nanos, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import contradiction
from pm_pipeline.sources.adapter import Ending, Selection
from pm_pipeline.sources.connect import open_adapter, open_fills
from pm_pipeline.sources.endings import ingest_resolutions
from pm_pipeline.sources.ingest import ingest
from pm_pipeline.sources.polymarket.onchain.ingest import ingest_fills
from pm_pipeline.sources.sandbox import build_app, load_world
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage, write_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.reconcile import (
    BOOKS,
    EXPECTED,
    FILLS,
    PRICES,
    RECONCILIATION,
    RESOLUTIONS,
    RULES,
    TRADES,
    Finding,
    Verdict,
    findings_to_table,
    reconcile,
)
from pm_pipeline.warehouse.records import resolution_from_rows, resolutions_to_table
from pm_pipeline_tests.recorded import load_world as load_recorded
from pm_pipeline_tests.shared import needs_shared
from pm_pipeline_tests.warehouse.builders import lake_at, market

NOW = parse_time("2026-07-01T00:00:00Z")
Change = Callable[[pa.Table], pa.Table]


async def _read(lake: Lake, app: Any, venue: Venue, wanted: Callable[[Market], bool]) -> list[Market]:
    async with open_adapter(venue, "sandbox", sandbox_app=app) as adapter:
        pages = adapter.get_markets(Selection(venue=venue))
        markets = [m async for page in pages for m in page if wanted(m)]
        now = await adapter.now()
        for table in EXPECTED[venue]:
            if table not in (FILLS, RESOLUTIONS):
                await ingest(adapter, lake, table, markets)
        await ingest_resolutions(adapter, lake, markets)
    if venue is Venue.POLYMARKET:
        async with open_fills("sandbox", sandbox_app=app) as fills:
            await ingest_fills(fills, lake, markets, now)
    return markets


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, list[Market]]:
    """A third of the sandbox, read whole."""
    lake = lake_at(tmp_path_factory.mktemp("world"))
    app = build_app(load_world(None))

    async def run() -> list[Market]:
        return [
            *await _read(lake, app, Venue.POLYMARKET, lambda m: "june-26" in str(m.slug) or not m.group_key),
            *await _read(lake, app, Venue.KALSHI, lambda m: "KXHIGHNY-26JUN26" in str(m.key)),
        ]

    return lake, asyncio.run(run())


def conflicts(found: list[Finding]) -> set[str]:
    return {finding.rule for finding in found if finding.verdict is Verdict.CONFLICTS}


def members_in(markets: list[Market], of: Market) -> tuple[str, ...]:
    return tuple(str(m.key) for m in markets if m.group_key and m.group_key == of.group_key)


def test_a_clean_world_reconciles(world: tuple[Lake, list[Market]]) -> None:
    lake, markets = world
    verdicts: Counter[tuple[str, Verdict]] = Counter()
    for each in markets:
        found = reconcile(lake, each, members_in(markets, each))
        assert conflicts(found) == set(), found
        verdicts.update((finding.rule, finding.verdict) for finding in found)
    assert len(markets) >= 10
    for rule in RULES:
        assert verdicts[rule.name, Verdict.AGREES] > 0, rule.name


def busy(markets: list[Market], lake: Lake) -> Market:
    """The settled Polymarket market with the most trades."""
    own = [m for m in markets if m.key.venue is Venue.POLYMARKET and m.traded_until is not None]
    return max(own, key=lambda m: lake.read(TRADES, str(m.key)).num_rows)


@pytest.fixture
def copied(world: tuple[Lake, list[Market]], tmp_path: Path) -> tuple[Lake, Market]:
    """A lake that holds one busy market, to be spoiled."""
    lake, markets = world
    chosen = busy(markets, lake)
    mine, key = lake_at(tmp_path), str(chosen.key)
    for table in (*EXPECTED[Venue.POLYMARKET], "catalog.resolution_claims"):
        if lake.exists(table, key):
            mine.write(table, key, lake.read(table, key))
        if readings := read_coverage(lake, table, key):
            write_coverage(mine, readings)
    assert conflicts(reconcile(mine, chosen)) == set()
    return mine, chosen


def spoil(lake: Lake, of: Market, table: str, change: Change) -> None:
    lake.write(table, str(of.key), change(lake.read(table, str(of.key))))


def with_column(rows: pa.Table, name: str, values: Any) -> pa.Table:
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, rows.schema.field(name), pa.chunked_array([values]))


def flipped(rows: pa.Table) -> pa.Table:
    sides = pc.if_else(pc.equal(rows["side"], "buy"), "sell", "buy").combine_chunks()
    return with_column(rows, "side", sides)


def shifted(rows: pa.Table, by: Nanos = HOUR) -> pa.Table:
    stamps = pc.add(rows["ts"].cast(pa.int64()), by // 1000).combine_chunks()
    return with_column(rows, "ts", stamps.cast(rows.schema.field("ts").type))


def scaled(name: str, by: int) -> Change:
    return lambda rows: with_column(rows, name, pc.multiply(rows[name], by).combine_chunks())


def dearer(rows: pa.Table) -> pa.Table:
    prices = np.clip(rows["price"].to_numpy() + 100_000, 0, 1_000_000)
    return with_column(rows, "price", pa.array(prices))


def half(rows: pa.Table) -> pa.Table:
    """Every other transaction is missing."""
    return rows.filter(pa.array(np.arange(rows.num_rows) % 2 == 0))


def without(share: float, *, last: bool) -> Change:
    """The first or the last of the rows, in order of time, are missing."""

    def cut(rows: pa.Table) -> pa.Table:
        rows = rows.sort_by("ts")
        few = round(rows.num_rows * share)
        return rows.slice(0, rows.num_rows - few) if last else rows.slice(few)

    return cut


BOTH_VOLUMES = {"trades_against_chain", "volume_by_source"}

LIES: list[tuple[str, str, Change, set[str]]] = [
    ("sides of the feed are flipped", TRADES, flipped, {"trades_against_chain"}),
    (
        "volume of the feed is doubled",
        TRADES,
        scaled("size", 2),
        {"trades_against_chain", "volume_by_source"},
    ),
    (
        "trades of the feed are dearer",
        TRADES,
        dearer,
        {"prices_against_trades", "trades_against_chain", "volume_by_source"},
    ),
    ("half of the feed is missing", TRADES, half, {"trades_against_chain", "volume_by_source"}),
    ("the feed stops early", TRADES, without(0.03, last=True), {"trades_against_chain"}),
    ("the feed begins late", TRADES, without(0.03, last=False), {"trades_against_chain"}),
    ("prices are an hour late", PRICES, shifted, {"prices_against_trades", "prices_against_chain"}),
    (
        "prices are an hour early",
        PRICES,
        lambda rows: shifted(rows, -HOUR),
        {"prices_against_trades", "prices_against_chain"},
    ),
    ("sides of the chain are flipped", FILLS, flipped, {"trades_against_chain"}),
    (
        "volume of the chain is doubled",
        FILLS,
        scaled("cash", 2),
        {"trades_against_chain", "volume_by_source"},
    ),
]


@pytest.mark.parametrize(("lie", "table", "change", "rules"), LIES, ids=[lie for lie, *_ in LIES])
def test_a_source_that_lies_is_caught_by_the_rule_that_is_meant_to(
    copied: tuple[Lake, Market], lie: str, table: str, change: Change, rules: set[str]
) -> None:
    lake, chosen = copied
    spoil(lake, chosen, table, change)
    found = reconcile(lake, chosen)
    assert conflicts(found) == rules, [f for f in found if f.verdict is Verdict.CONFLICTS]
    for finding in found:
        if finding.verdict is Verdict.CONFLICTS:
            assert finding.compared > 0
            assert None not in (finding.left_value, finding.right_value)


def test_a_source_that_was_read_and_has_nothing_is_not_untold(copied: tuple[Lake, Market]) -> None:
    lake, chosen = copied
    spoil(lake, chosen, TRADES, lambda rows: rows.slice(0, 0))
    assert conflicts(reconcile(lake, chosen)) == set()  # nobody says that it was read
    [reading] = read_coverage(lake, TRADES, str(chosen.key))
    write_coverage(lake, replace(reading, status=CoverageStatus.EMPTY, rows=0))
    found = [f for f in reconcile(lake, chosen) if f.verdict is Verdict.CONFLICTS]
    assert {f.rule for f in found} == BOTH_VOLUMES
    assert {(f.left_value, f.right_value == 0.0) for f in found if f.left_source.startswith("trades")} == {
        (0.0, False)
    }


def test_a_payout_that_was_swapped_is_caught_with_both_values(copied: tuple[Lake, Market]) -> None:
    lake, chosen = copied
    key = str(chosen.key)
    stored = resolution_from_rows(lake.read(RESOLUTIONS, key))
    assert stored.payouts is not None
    swapped = replace(stored, payouts=tuple(reversed(stored.payouts)))
    lake.write(RESOLUTIONS, key, resolutions_to_table([swapped], NOW))
    found = reconcile(lake, chosen)
    assert conflicts(found) == {"ends_by_source"}
    bad = [f for f in found if f.verdict is Verdict.CONFLICTS]
    assert {f.right_source for f in bad} == {"data", "gamma"}
    assert {(f.left_value, f.right_value) for f in bad} <= {(0.0, 1.0), (1.0, 0.0)}


@pytest.mark.parametrize("status", [CoverageStatus.FAILED, CoverageStatus.QUIET, CoverageStatus.FROZEN])
def test_a_table_that_is_short_is_named_with_its_reason(
    copied: tuple[Lake, Market], status: CoverageStatus
) -> None:
    lake, chosen = copied
    [reading] = read_coverage(lake, TRADES, str(chosen.key))
    write_coverage(lake, replace(reading, status=status, reason="it hurt"))
    found = reconcile(lake, chosen)
    [bad] = [f for f in found if f.verdict is Verdict.CONFLICTS]
    assert (bad.rule, bad.left_source, bad.detail) == ("coverage", TRADES, f"{status}: it hurt")


def test_no_prices_beside_trades_are_too_few(copied: tuple[Lake, Market]) -> None:
    lake, chosen = copied
    [reading] = read_coverage(lake, PRICES, str(chosen.key))
    spoil(lake, chosen, PRICES, lambda rows: rows.slice(0, 0))
    write_coverage(lake, replace(reading, status=CoverageStatus.EMPTY, reason="the source has no rows"))
    [bad] = [f for f in reconcile(lake, chosen) if f.verdict is Verdict.CONFLICTS]
    assert (bad.rule, bad.left_source) == ("coverage", PRICES)
    assert re.fullmatch(r"empty: the source has no rows; \d+ trades are stored", bad.detail)


def test_a_book_without_its_hash_is_counted(copied: tuple[Lake, Market]) -> None:
    lake, chosen = copied
    [reading] = read_coverage(lake, BOOKS, str(chosen.key))
    said = "/book: the book of 1 does not have its hash 'x'"
    write_coverage(lake, replace(reading, status=CoverageStatus.FAILED, reason=said))
    bad = {f.rule: f for f in reconcile(lake, chosen) if f.verdict is Verdict.CONFLICTS}
    assert set(bad) == {"book_hash", "coverage"}
    assert (bad["book_hash"].left_value, bad["book_hash"].detail) == (1.0, said)


def test_a_book_away_from_the_mid_point_is_caught(world: tuple[Lake, list[Market]], tmp_path: Path) -> None:
    lake, markets = world
    trading = next(
        m
        for m in markets
        if m.traded_until is None
        and lake.exists(BOOKS, str(m.key))
        and lake.read(BOOKS, str(m.key)).num_rows > 3
    )
    mine, key = lake_at(tmp_path), str(trading.key)
    for table in (PRICES, BOOKS):
        mine.write(table, key, lake.read(table, key))

    def touch() -> Finding:
        [found] = [f for f in reconcile(mine, trading) if f.rule == "book_touch"]
        return found

    assert touch().verdict is Verdict.AGREES
    spoil(mine, trading, PRICES, lambda rows: _moved(rows, 300_000))
    assert touch().verdict is Verdict.CONFLICTS


def _moved(rows: pa.Table, by: int) -> pa.Table:
    mids = rows["mid"].to_numpy()
    return with_column(rows, "mid", pa.array(np.where(mids > 500_000, mids - by, mids + by).astype(np.int64)))


def test_a_group_that_does_not_sum_to_a_dollar_is_caught(
    world: tuple[Lake, list[Market]], tmp_path: Path
) -> None:
    lake, markets = world
    chosen = next(m for m in markets if m.exclusive_group and m.key.venue is Venue.POLYMARKET)
    members = members_in(markets, chosen)
    mine = lake_at(tmp_path)
    for key in members:
        mine.write(PRICES, key, lake.read(PRICES, key))

    def total(keys: tuple[str, ...]) -> Finding:
        [found] = [f for f in reconcile(mine, chosen, keys) if f.rule == "exclusive_sum"]
        return found

    assert len(members) > 3
    assert total(members).verdict is Verdict.AGREES
    # a group of which a member is not known, or that may have others, is not summed up
    assert total(()).verdict is total((*members, "polymarket:0")).verdict is Verdict.UNTOLD
    for key in members:
        rows = mine.read(PRICES, key)
        mids = np.minimum(rows["mid"].to_numpy() + 60_000, 1_000_000)
        mine.write(PRICES, key, with_column(rows, "mid", pa.array(mids)))
    assert total(members).verdict is Verdict.CONFLICTS


def test_nothing_to_compare_is_untold_and_never_agrees(tmp_path: Path) -> None:
    found = reconcile(lake_at(tmp_path), market("polymarket:1"))
    assert {finding.verdict for finding in found} == {Verdict.UNTOLD}
    assert {finding.rule for finding in found} == {rule.name for rule in RULES}


def test_the_documentation_lists_the_rules_with_their_severity() -> None:
    text = (Path(__file__).parents[2] / "docs" / "polymarket.md").read_text()
    section = text.partition("## Reconciliation")[2].partition("\n## ")[0]
    listed = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    told = [(name.strip(" `"), severity.strip()) for name, severity in listed]
    assert [row for row in told if row[0] not in {*Verdict}] == [(r.name, r.severity) for r in RULES]


def test_findings_are_rows(tmp_path: Path, world: tuple[Lake, list[Market]]) -> None:
    lake, markets = world
    found = reconcile(lake, markets[0])
    mine, key = lake_at(tmp_path), str(markets[0].key)
    mine.write(RECONCILIATION, key, findings_to_table(key, found, NOW))
    rows = mine.read(RECONCILIATION, key).to_pylist()
    assert len(rows) == len(found)
    assert {(r["rule"], r["verdict"]) for r in rows} == {(f.rule, f.verdict.value) for f in found}


# --- recorded markets -------------------------------------------------------------------------------


@needs_shared
@pytest.mark.slow
def test_every_recorded_temperature_event_has_one_winner_and_its_prices_sum_to_a_dollar(
    tmp_path: Path,
) -> None:
    """All resolved events of two cities by the real clients; prices of eight of them."""
    lake = lake_at(tmp_path)
    app = build_app(load_recorded())

    async def run() -> tuple[list[Market], Mapping[str, list[Ending]]]:
        async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=app) as adapter:
            pages = adapter.get_markets(Selection(venue=Venue.POLYMARKET))
            markets = [m async for page in pages for m in page]
            groups: dict[str, list[Ending]] = {}
            for start in range(0, len(markets), 200):
                async for ending in adapter.get_endings(markets[start : start + 200]):
                    groups.setdefault(str(ending.market.event_id), []).append(ending)
            ended = [[e.resolution and e.resolution.payouts for e in each] for each in groups.values()]
            whole = [each for each, paid in zip(groups.values(), ended, strict=True) if all(paid)]
            some = [e.market for endings in whole[:8] for e in endings]
            await ingest(adapter, lake, PRICES, some)
            await ingest_resolutions(adapter, lake, some)
            return some, groups

    some, groups = asyncio.run(run())
    winners = Counter[int]()
    for endings in groups.values():
        payouts = [e.resolution.payouts for e in endings if e.resolution is not None]
        if None not in payouts:
            winners[payouts.count((1_000_000, 0))] += 1
        assert [e.error for e in endings if e.error] == []
        assert not any(contradiction(e.claims, whole=True) for e in endings)
    assert set(winners) == {1}
    assert winners[1] > 200
    verdicts: Counter[tuple[str, Verdict]] = Counter()
    for each in some:
        found = reconcile(lake, each, tuple(str(e.market.key) for e in groups[str(each.event_id)]))
        verdicts.update((f.rule, f.verdict) for f in found if f.rule in ("exclusive_sum", "ends_by_source"))
    assert Verdict.CONFLICTS not in {verdict for _, verdict in verdicts}
    assert verdicts["exclusive_sum", Verdict.AGREES] > 60
    assert verdicts["ends_by_source", Verdict.AGREES] >= len(some)
