"""The whole system against ten lines of arithmetic: real clients, real lake, real engine, recorded markets.

:mod:`by_hand` reads the recorded files with the standard library alone. Everything that the system says of
``favourite`` (what it picked, what it passed over and why, what it paid and got) must be what those lines
say, for every market and to the micro-dollar.
"""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import pytest

from pm_pipeline.definitions import run_job
from pm_pipeline.engine.scenarios import ExecutionConfig, LiquidityModel, Scenario
from pm_pipeline.engine.signals import Signals
from pm_pipeline.engine.simulation.results import SimResult
from pm_pipeline.engine.simulation.simulate import simulate
from pm_pipeline.engine.simulation.state import MarketInput, RunConfig
from pm_pipeline.markets import Market, Venue
from pm_pipeline.markets.clock import SECOND, parse_time, to_nanos
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.markets.units import MICRO, from_micro, to_micro
from pm_pipeline.sources.adapter import PlatformAdapter, Selection
from pm_pipeline.sources.connect import open_adapter
from pm_pipeline.sources.endings import ingest_resolutions
from pm_pipeline.sources.ingest import Outcome, ingest
from pm_pipeline.sources.sandbox import build_app, load_world
from pm_pipeline.strategies import REGISTRY
from pm_pipeline.warehouse.arrays import BookLog
from pm_pipeline.warehouse.asof import BookReplay, MarketData, open_view
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import resolution_from_rows
from pm_pipeline_tests.end_to_end import by_hand
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.warehouse.builders import lake_at

pytestmark = [needs_shared, pytest.mark.slow]

RECORDED = SHARED / "recorded"
WORLD = "pm_pipeline_tests.recorded:load_world"
CITIES = ("nyc", "london")
MONTH = {"closes_from": "2026-03-16", "closes_to": "2026-04-14"}
"""Thirty days of New York that begin without fees and end with them."""

RULES = RuleBook.default()

REPLAYED = tuple(
    RECORDED / "kalshi_btc15m_l2_2026" / name
    for name in ("rv600_forward_native_shadow_20260513T1259Z", "rv600_forward_native_shadow_20260513T1722Z")
)
"""The two shortest of the seven recorded sessions; the book of the others is as exact, and takes a minute."""

Open = Callable[[Venue], AbstractAsyncContextManager[PlatformAdapter]]


class Told(NamedTuple):
    """What became of one market: the side and mid that were wanted, why there was no trade, or the trade."""

    side: int | None
    mid: Decimal | None
    reason: str | None
    fill: by_hand.Fill | None


@pytest.fixture(scope="module")
def opened() -> Open:
    app = build_app(load_world(WORLD))
    return lambda venue: open_adapter(venue, "sandbox", sandbox_app=app)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return lake_at(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def cities() -> dict[str, list[by_hand.Recorded]]:
    folder = RECORDED / "polymarket_weather_2026"
    return {city: list(by_hand.polymarket(folder / f"polymarket_{city}_history.json.gz")) for city in CITIES}


def read(
    opened: Open, lake: Lake, venue: Venue, series: tuple[str, ...], names: Collection[str], *tables: str
) -> list[Market]:
    """Ingest tables and the resolutions of the markets of these names (token or ticker)."""

    async def run() -> tuple[list[Market], list[Outcome]]:
        async with opened(venue) as adapter:
            pages = adapter.get_markets(Selection(venue=venue, series=series))
            markets = [market async for page in pages for market in page if name_of(market) in names]
            outcomes = [await ingest(adapter, lake, f"market_data.{name}", markets) for name in tables]
            ends = await ingest_resolutions(adapter, lake, markets)
            return markets, [outcome for each in (*outcomes, ends) for outcome in each]

    markets, outcomes = asyncio.run(run())
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    assert {name_of(market) for market in markets} == set(names)
    return markets


def name_of(market: Market) -> str:
    return market.instrument(0).token_id or market.key.native_id


def by_the_engine(
    lake: Lake, markets: Iterable[Market], liquidity: LiquidityModel = LiquidityModel.MEASURED
) -> dict[str, Told]:
    """Signals and the base scenario of each market alone, straight from the lake."""
    found = {}
    for market in markets:
        signals, result = simulated(lake, market, liquidity)
        tables = {name: getattr(result, name).to_pylist() for name in ("trips", "fills", "rejections")}
        found[name_of(market)] = told(signals.to_table("favourite", market.key, "r").to_pylist(), tables)
    return found


def simulated(
    lake: Lake, market: Market, liquidity: LiquidityModel = LiquidityModel.MEASURED, **params: object
) -> tuple[Signals, SimResult]:
    signals = REGISTRY.create("favourite", params).signals(open_view(lake, market))
    resolution = resolution_from_rows(lake.read("catalog.resolutions", str(market.key)))
    given = MarketInput(market, resolution, lambda: MarketData.load(lake, market), signals)
    config = RunConfig(execution=ExecutionConfig(liquidity=liquidity))
    return signals, simulate([given], config, Scenario.BASE, strategy="favourite", run_id="r", rules=RULES)


def by_the_job(lake: Lake, markets: Iterable[Market]) -> dict[str, Told]:
    """The same from the partitions that the assets of ``favourite`` wrote."""
    found = {}
    for market in markets:
        part = ("favourite", str(market.key))
        tables = {
            name: [
                row for row in lake.read(f"backtest.{name}", part).to_pylist() if row["scenario"] == "base"
            ]
            for name in ("trips", "fills", "rejections")
        }
        found[name_of(market)] = told(lake.read("backtest.signals", part).to_pylist(), tables)
    return found


def told(signals: list[dict[str, Any]], tables: Mapping[str, list[dict[str, Any]]]) -> Told:
    """The rows of one market as they should be: a pick or a reason, then a trade or a reason."""
    trips, fills, rejections = tables["trips"], tables["fills"], tables["rejections"]
    assert len(trips) + len(rejections) == 1
    assert len(fills) == len(trips)
    reason = rejections[0]["reason"] if rejections else None
    if not signals:
        return Told(None, None, reason, None)
    [signal] = signals
    pick = Told(signal["outcome_index"], Decimal(str(signal["p_market"])), reason, None)
    if not trips:
        return pick
    [trip], [fill] = trips, fills
    assert trip["outcome_index"] == fill["outcome_index"] == pick.side
    assert trip["ended_by"] == "settlement"
    amounts = (fill["price"], trip["size"], trip["cost"], trip["fees"], trip["proceeds"], trip["pnl"])
    return pick._replace(fill=by_hand.Fill(to_nanos(trip["entered_at"]) // SECOND, *map(from_micro, amounts)))


def computed(
    markets: Iterable[by_hand.Recorded],
    liquidity: LiquidityModel = LiquidityModel.MEASURED,
    *,
    tick: Decimal,
    lot: Decimal,
    fees: by_hand.FeeOf,
) -> dict[str, Told]:
    terms = by_hand.Terms(tick, lot, fees, liquidity is LiquidityModel.MEASURED)
    found = {}
    for market in markets:
        pick = by_hand.favourite(market)
        if isinstance(pick, str):
            found[market.name] = Told(None, None, pick, None)
            continue
        fill = by_hand.entry(market, pick, terms)
        ends = (fill, None) if isinstance(fill, str) else (None, fill)
        found[market.name] = Told(pick.side, pick.mid, *ends)
    return found


of_polymarket = partial(computed, tick=Decimal("0.001"), lot=by_hand.CENT, fees=by_hand.POLYMARKET_FEES)
of_kalshi = partial(computed, tick=by_hand.CENT, lot=Decimal(1), fees=by_hand.KALSHI_FEES)


def differing(reported: Mapping[str, Told], expected: Mapping[str, Told]) -> dict[str, tuple[Told, Told]]:
    assert reported.keys() == expected.keys()
    return {name: (reported[name], expected[name]) for name in expected if reported[name] != expected[name]}


def reasons(found: Mapping[str, Told]) -> Counter[str | None]:
    return Counter(each.reason for each in found.values())


def test_the_backtest_job_reports_a_month_as_the_files_say(
    cities: dict[str, list[by_hand.Recorded]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PM_SANDBOX_WORLD", WORLD)
    # the event log in memory: half of the time of a job goes into committing it to a disk
    monkeypatch.setattr(dg.DagsterInstance, "get", dg.DagsterInstance.ephemeral)
    universe = {"venue": "polymarket", "series": ["nyc-daily-weather"], **MONTH}
    run_job("backtest", {"universe": [universe], "strategies": {"favourite": {}}})

    lake = Lake(tmp_path / "sandbox-recorded" / "lake")
    first, last = (parse_time(day) // SECOND for day in MONTH.values())
    month = [market for market in cities["nyc"] if first <= market.ends < last + by_hand.LEAD]
    expected = of_polymarket(month)
    assert len(month) == 330
    assert differing(by_the_job(lake, Catalog(lake).markets().values()), expected) == {}

    [run_id] = [part[0] for part in lake.partitions("backtest.runs")]
    trips = lake.read("backtest.portfolio_trips", (run_id, "favourite")).to_pylist()
    refused = lake.read("backtest.portfolio_rejections", (run_id, "favourite")).to_pylist()
    fills = [each.fill for each in expected.values() if each.fill]
    assert sum(trip["pnl"] for trip in trips if trip["scenario"] == "base") == sum(
        to_micro(fill.pnl) for fill in fills
    )
    for scenario in Scenario:
        rows = [row for row in (*trips, *refused) if row["scenario"] == scenario]
        assert len({row["market_key"] for row in rows}) == len(rows) == len(month)


@pytest.fixture(scope="module")
def city_markets(opened: Open, lake: Lake, cities: dict[str, list[by_hand.Recorded]]) -> list[Market]:
    names = {market.name for city in CITIES for market in cities[city]}
    series = tuple(f"{city}-daily-weather" for city in CITIES)
    return read(opened, lake, Venue.POLYMARKET, series, names, "prices")


@pytest.mark.parametrize("liquidity", [LiquidityModel.CONSTANT, LiquidityModel.MEASURED])
def test_every_market_of_both_cities_is_traded_or_passed_over_as_the_files_say(
    lake: Lake,
    cities: dict[str, list[by_hand.Recorded]],
    city_markets: list[Market],
    liquidity: LiquidityModel,
) -> None:
    recorded = [market for city in CITIES for market in cities[city]]
    reported, expected = by_the_engine(lake, city_markets, liquidity), of_polymarket(recorded, liquidity)
    assert differing(reported, expected) == {}

    traded = [each.fill for each in reported.values() if each.fill]
    skipped: dict[str | None, int] = {
        "no_candidate": 772 + 829,
        "no_price": 61 + 63,
        "not_open": 31 + 31,
        "price_beyond_limit": 52 + 45,
        "stale_quote": 49 + 32,
    }
    assert reasons(reported) == {**skipped, None: 204 + 169}
    assert sum(skipped.values()) + len(traded) == len(recorded) == 2338
    wins = {market.name: market.pays for market in recorded}
    for market in city_markets:
        resolution = resolution_from_rows(lake.read("catalog.resolutions", str(market.key)))
        assert resolution.payouts == ((MICRO, 0) if wins[name_of(market)] else (0, MICRO))
    before, after = (
        [f.fee for f in traded if (f.t >= by_hand.POLYMARKET_FEES.since) is late] for late in (False, True)
    )
    assert before
    assert sum(before) == 0
    assert after
    assert min(after) > 0


@pytest.fixture(scope="module")
def temperatures() -> list[by_hand.Recorded]:
    highs = by_hand.nws_highs(RECORDED / "kalshi_weather_fcst_actual_2022_2026/nws_daily/KXHIGHNY_nws.csv.gz")
    files = sorted((RECORDED / "kalshi_highny_bbo_2025").glob("market_data_*.csv.gz"))
    return [market for path in files for market in by_hand.kalshi(path, highs)]


@pytest.fixture(scope="module")
def temperature_markets(opened: Open, lake: Lake, temperatures: list[by_hand.Recorded]) -> list[Market]:
    return read(opened, lake, Venue.KALSHI, ("KXHIGHNY",), {market.name for market in temperatures}, "prices")


@pytest.mark.parametrize("liquidity", [LiquidityModel.CONSTANT, LiquidityModel.MEASURED])
def test_kalshi_temperatures_are_traded_as_the_recorded_best_quotes_say(
    lake: Lake,
    temperatures: list[by_hand.Recorded],
    temperature_markets: list[Market],
    liquidity: LiquidityModel,
) -> None:
    recorded, reported = temperatures, by_the_engine(lake, temperature_markets, liquidity)
    assert differing(reported, of_kalshi(recorded, liquidity)) == {}
    assert len(recorded) == 90
    assert reasons(reported)[None] > 20
    assert reasons(reported)["no_candidate"] > 20


@pytest.fixture(scope="module")
def fifteen_minutes(opened: Open, lake: Lake) -> dict[str, Market]:
    names = {ticker for session in sessions() for ticker in session_markets(session)}
    replayed = {ticker for session in REPLAYED for ticker in session_markets(session)}
    read(opened, lake, Venue.KALSHI, ("KXBTC15M",), replayed, "book_events")
    markets = read(opened, lake, Venue.KALSHI, ("KXBTC15M",), names, "prices")
    return {market.key.native_id: market for market in markets}


def sessions() -> list[Path]:
    return sorted(path.parent for path in (RECORDED / "kalshi_btc15m_l2_2026").glob("*/session.json"))


def session_markets(session: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((session / "session.json").read_bytes())["markets"]
    return found


def test_every_fifteen_minute_market_is_traded_or_listed(
    lake: Lake, fifteen_minutes: dict[str, Market]
) -> None:
    results: dict[str, str | None] = {
        ticker: own["result"] for session in sessions() for ticker, own in session_markets(session).items()
    }
    assert len(fifteen_minutes) == len(results) == 15
    assert reasons(by_the_engine(lake, fifteen_minutes.values())) == {"not_open": 15}

    ends = Counter[str]()
    for ticker, market in fifteen_minutes.items():
        _, result = simulated(
            lake, market, lead_hours=0.1, min_price="0.55", max_price="0.99", max_age_hours=0.1
        )
        trips, refused = result.trips.to_pylist(), result.rejections.to_pylist()
        assert len(trips) + len(refused) == 1
        for trip in trips:
            won = results[ticker] == ("yes", "no")[trip["outcome_index"]]
            replayed = any(ticker in session_markets(session) for session in REPLAYED)
            assert trip["evidence"] == ("l2" if replayed else "bbo")
            assert trip["ended_by"] == ("open" if results[ticker] is None else "settlement")
            assert trip["payout"] == (None if results[ticker] is None else MICRO * won)
        ends.update(row["reason"] for row in refused)
        ends["traded"] += len(trips)
    assert ends["traded"] >= 5
    assert ends.total() == 15


@pytest.mark.parametrize("session", REPLAYED, ids=lambda path: path.name)
def test_the_ingested_book_is_the_recorders_at_every_checkpoint(
    session: Path, lake: Lake, fifteen_minutes: dict[str, Market]
) -> None:
    """Several changes share a millisecond, so messages are counted, not timed. The recorder's prices are
    rounded to whole cents."""
    told = [
        json.loads(line)
        for line in gzip.decompress((session / "ws_messages.jsonl.gz").read_bytes()).splitlines()
    ]
    lines = gzip.decompress((session / "checkpoints_exact.jsonl.gz").read_bytes()).splitlines()
    checkpoints = {(each["market"], each["seq"]): each for each in map(json.loads, lines)}
    replays = {
        ticker: BookReplay(numbered(MarketData.load(lake, fifteen_minutes[ticker]).book_log))
        for ticker in session_markets(session)
    }
    messages, checked = Counter[str](), 0
    for frame in told:
        ticker = frame["msg"]["market_ticker"]
        # a change by nothing is no message of ours
        messages[ticker] += frame["type"] == "orderbook_snapshot" or bool(
            float(frame["msg"].get("delta_fp", 0))
        )
        checkpoint = checkpoints.get((ticker, frame["seq"]))
        if frame["type"] != "ticker" and checkpoint is not None:
            book = replays[ticker].advance(messages[ticker])
            assert book is not None
            for mine, recorded in ((book.bids, checkpoint["yes"]), (book.mirrored().bids, checkpoint["no"])):
                theirs = [(price, to_micro(str(size))) for price, size in recorded]
                assert [((price + 5_000) // 10_000, size) for price, size in mine[:5]] == theirs
            checked += 1
    assert checked == len(checkpoints) > 40


def numbered(log: BookLog) -> BookLog:
    """The log with the number of each message in place of its time."""
    number = np.unique(log.seq, return_inverse=True)[1] + 1
    return replace(log, ts=number, known_at=number)
