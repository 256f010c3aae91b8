"""Points: their file, their scores, their rules, and what they refuse."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pm_pipeline.engine import (
    ExecutionConfig,
    MarketInput,
    Reason,
    RiskLimits,
    RunConfig,
    Scenario,
    Signals,
    Sizing,
    SizingMode,
)
from pm_pipeline.engine.points import Points, ZRule, heap, play, scores, warm
from pm_pipeline.engine.points.records import Ended, Refusal
from pm_pipeline.engine.risk.rules import Code
from pm_pipeline.engine.scenarios import LiquidityModel
from pm_pipeline.engine.simulation.core import Priority
from pm_pipeline.engine.venue.tape import Kind, Touch
from pm_pipeline.errors import UsageError
from pm_pipeline.markets import MICRO, FeeTerms
from pm_pipeline.markets.clock import SECOND, parse_time
from pm_pipeline.markets.rule_tables import read_table
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.strategies.indicators import rolling_z
from pm_pipeline_tests.engine.builders import DOCS, at, bbo, enter, given, leave, market, mids, resolved
from pm_pipeline_tests.engine.points.worlds import assert_equal, points_of, quotes, walk
from pm_pipeline_tests.recorded import load_world
from pm_pipeline_tests.shared import needs_shared

DECLARED = ExecutionConfig(liquidity=LiquidityModel.CONSTANT, latency=SECOND)
CONFIG = RunConfig(execution=DECLARED)
PATH = walk(np.random.default_rng(3), 300)
KALSHI = "kalshi:KXHIGHNY-26JUL10-B85.5"


def world(seed: int = 3, key: str = "polymarket:1", **changes: Any) -> MarketInput:
    path = walk(np.random.default_rng(seed), 300)
    rows = [(ts, mid, round(mid) - 1, round(mid) + 1) for ts, mid in path]
    end = path[-1][0] + 5
    return given(quotes(rows, key), [], resolved(end, end + 9, key=key), market(key, **changes))


def touch(count: int = 5, **changes: Any) -> Touch:
    ts = at(0) + np.arange(count) * SECOND
    price, nothing = np.full(count, 500_000), np.full(count, -1)
    kind = np.full(count, Kind.BBO, np.int8)
    columns = {"ts": ts, "known_at": ts, "mid": price, "bid": price, "ask": price + 10_000, "kind": kind}
    return Touch(**{**columns, "bid_size": nothing, "ask_size": nothing, **changes})


@pytest.mark.parametrize("declared", ["alike", "varied"])
def test_a_file_gives_back_what_was_written(tmp_path: Path, declared: str) -> None:
    inputs = [world(3), world(4, KALSHI)]
    if declared == "varied":
        rows = [(ts, None if ts % 7 == 0 else mid, None if ts % 5 == 0 else mid + 2) for ts, mid in PATH]
        inputs = [given(bbo(rows), []), given(mids(PATH, KALSHI), [], None, market(KALSHI))]
    points = points_of(inputs, CONFIG, Scenario.BASE)
    if declared == "varied":
        points = replace(points, known_at=points.ts + np.arange(len(points)))
    points.write(tmp_path / "p.parquet")
    again = Points.read(tmp_path / "p.parquet")
    assert again.keys == points.keys
    for name in ("ts", "known_at", "mid", "bid", "ask", "kind", "markets", "regimes"):
        assert (getattr(again, name) == getattr(points, name)).all(), name


def test_another_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"ts": [1]}), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="holds no points"):
        Points.read(tmp_path / "x.parquet")


def test_a_file_takes_a_few_bytes_a_point(tmp_path: Path) -> None:
    ts = at(0) + np.arange(100_000) * SECOND
    price = 500_000 + np.random.default_rng(1).integers(0, 100, len(ts)) * 1000
    nothing, kind = np.full(len(ts), -1), np.full(len(ts), Kind.BBO, np.int8)
    given_touch = Touch(ts, ts, price, price - 1000, price + 1000, kind, nothing, nothing)
    Points.of_touches([(market(), None, given_touch)]).write(tmp_path / "p.parquet")
    assert (tmp_path / "p.parquet").stat().st_size < 3 * len(ts)


@pytest.mark.parametrize("window", [2, 5, 24, 250])
def test_the_score_is_that_of_the_indicators(window: int) -> None:
    rng = np.random.default_rng(window)
    mid = (np.repeat(rng.integers(1, 999, 400), 3) * 1000).astype(np.int32)
    found = scores(mid, np.array([0, 700, 1200]), window)
    for first, end in ((0, 700), (700, 1200)):
        expected = rolling_z(mid[first:end].astype(np.float64), window)
        np.testing.assert_allclose(found[first:end], expected, rtol=1e-9, atol=1e-9)


def test_rows_without_a_mid_are_no_part_of_a_score() -> None:
    mid = (np.random.default_rng(1).integers(1, 999, 50) * 1000).astype(np.int32)
    gaps = np.insert(mid, [0, 7, 7, 31, 50], -1)
    found = scores(gaps, np.array([0, len(gaps)]), 6)
    assert np.isnan(found[gaps < 0]).all()
    np.testing.assert_array_equal(found[gaps >= 0], scores(mid, np.array([0, 50]), 6))


def test_the_queue_knows_the_order_of_the_simulation() -> None:
    known = [name for name in Priority.__members__ if hasattr(heap, name)]
    assert [getattr(heap, name) for name in known] == list(range(6))


def test_every_refusal_is_a_code_of_the_simulation() -> None:
    for refusal in Refusal:
        code = refusal.code.removeprefix("risk_denied: ")
        assert code in {*map(str, Reason), *map(str, Code)}
    assert [ended.by.name for ended in Ended] == [ended.name for ended in Ended]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ts": at(0) - np.arange(5) * SECOND}, "not in the order of ts"),
        ({"known_at": np.full(5, at(0) - 1)}, "known before they were true"),
        ({"kind": np.full(5, Kind.L2, np.int8)}, "recorded book"),
        ({"bid_size": np.full(5, MICRO)}, "quotes with sizes"),
    ],
)
def test_points_that_are_none_are_refused(change: dict[str, Any], said: str) -> None:
    if "ts" in change:
        change["known_at"] = np.full(5, at(10))
    with pytest.raises(UsageError, match=said):
        Points.of_touches([(market(), None, touch(**change))])


def test_markets_are_binary_and_given_once() -> None:
    with pytest.raises(UsageError, match="3 outcomes"):
        Points.of_touches([(market(outcomes=3), None, touch())])
    with pytest.raises(UsageError, match="twice"):
        Points.of_touches([(market(), None, touch()), (market(), None, touch())])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (RunConfig(execution=ExecutionConfig(liquidity=LiquidityModel.PRINTS)), "liquidity prints"),
        (RunConfig(execution=replace(DECLARED, latency_sigma=0.5)), "latency_sigma"),
        (RunConfig(execution=DECLARED, risk=RiskLimits(max_volatility=0.1)), "max_volatility"),
        (RunConfig(execution=DECLARED, risk=RiskLimits(day_zone="Europe/Berlin")), "day_zone"),
        (RunConfig(execution=DECLARED, sizing=Sizing(mode=SizingMode.DRAWDOWN_KELLY)), "drawdown_kelly"),
        (RunConfig(execution=DECLARED, sizing=Sizing(edge_spread=Decimal("0.1"))), "edge_spread"),
        (RunConfig(execution=DECLARED, bankroll=10**13), "bankroll"),
        (RunConfig(execution=DECLARED, max_stake_fraction=Decimal("0.1234567")), "six decimals"),
    ],
)
def test_settings_that_are_not_covered_are_refused(config: RunConfig, said: str) -> None:
    points = points_of([world()], CONFIG, Scenario.BASE)
    with pytest.raises(UsageError, match=said):
        play(points, ZRule(), config, Scenario.BASE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": 1}, "window"),
        ({"entry": 0.0}, "entry"),
        ({"exit": 3.0}, "below entry"),
        ({"stop": Decimal("1.5")}, "stop"),
        ({"hold": 0}, "hold"),
    ],
)
def test_an_impossible_rule_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ZRule(**change)


def test_a_rule_needs_points_in_the_order_in_which_they_became_known() -> None:
    points = Points.of_touches([(market(), None, touch(known_at=at(20) - np.arange(5)))])
    with pytest.raises(UsageError, match="became known"):
        play(points, ZRule(), CONFIG, Scenario.BASE)


def test_signals_that_are_not_covered_are_refused() -> None:
    points = points_of([world()], CONFIG, Scenario.BASE)
    for signals, said in (
        ({"polymarket:2": Signals()}, "no points"),
        ({"polymarket:1": Signals.of([enter(5, 2)])}, "no outcome 2"),
        ({"polymarket:1": Signals.of([enter(5, all_or_none=True)])}, "take at once"),
    ):
        with pytest.raises(UsageError, match=said):
            play(points, signals, CONFIG, Scenario.BASE)


@pytest.mark.parametrize("bankroll", ["shared", "each"])
def test_a_fee_that_is_not_covered_stops_the_run_and_says_where(bankroll: Any) -> None:
    terms = FeeTerms(Decimal("0.25"), 2, taker_only=True, rebate_rate=Decimal(0))
    rules = RuleBook.default().overlaid(
        read_table(
            "fees.csv",
            "venue,scope,valid_from,valid_to,own_terms,collected,source\npolymarket,*,2022-11-18,,yes,cash,test\n",
        )
    )
    points = points_of([world(fee_terms=terms)], CONFIG, Scenario.BASE, rules)
    with pytest.raises(UsageError, match="polymarket:1: a fee rule was in force"):
        play(points, ZRule(entry=1.0), CONFIG, Scenario.BASE, bankroll=bankroll)


def test_before_the_first_rule_of_a_venue_nothing_is_sent() -> None:
    when = parse_time("2021-06-01")
    shifted = touch(ts=when + np.arange(5) * SECOND, known_at=when + np.arange(5) * SECOND)
    points = Points.of_touches([(market(KALSHI, opened_at=None), None, shifted)])
    early = replace(enter(0), ts=when + SECOND, inputs_known_at=when + SECOND)
    result = play(points, {KALSHI: Signals.of([early])}, CONFIG, Scenario.BASE)
    assert dict(result.refusals) == {"no_rule": 1}
    assert not len(result.fills)


def test_nothing_at_all_comes_to_nothing() -> None:
    points = points_of([], CONFIG, Scenario.BASE)
    for bankroll in ("shared", "each"):
        result = play(points, ZRule(), CONFIG, Scenario.BASE, bankroll=bankroll)
        assert not len(result.fills)
        assert not len(result.market_pnl())


def test_the_loops_are_compiled_before_they_are_needed() -> None:
    told: list[str] = []
    warm(told.append)
    warm(told.append)
    assert len(told) == len(set(told))


def test_tables_that_fill_up_are_made_longer() -> None:
    rows = [(n, 40 + n % 3, 42 + n % 3) for n in range(0, 9000, 2)]
    signals = [s for n in range(10, 8000, 4) for s in (enter(n, p_hat=0.9), leave(n + 2))]
    inputs = [given(bbo(rows), signals, resolved(9100, 9200))]
    config = replace(CONFIG, execution=replace(DECLARED, fees="zero"))
    found = assert_equal(inputs, config, Scenario.BASE)
    assert len(found.fills) > 1100


@needs_shared
@pytest.mark.parametrize("scenario", list(Scenario))
@pytest.mark.parametrize("liquidity", [LiquidityModel.MEASURED, LiquidityModel.CONSTANT])
def test_recorded_markets_come_to_what_simulate_makes_of_them(
    scenario: Scenario, liquidity: LiquidityModel
) -> None:
    listed = [
        m
        for m in load_world().markets.values()
        if "weather_2026" in m.resolution.source and len(m.quotes().ts)
    ]
    inputs = []
    for n, item in enumerate(listed[:: max(len(listed) // 40, 1)]):
        quotes = item.quotes()
        rows = [((t - at(0)) // SECOND, mid / 10_000) for t, mid in zip(quotes.ts, quotes.mid, strict=True)]
        key = str(item.market.key)
        signals = []
        for k in range(n % 5, len(rows), 11):
            stated = {"stop_price": 100_000, "target_price": 600_000, "p_hat": 0.7}
            signals.append(enter(int(rows[k][0]) + 30, k % 2, **stated))
            signals.append(leave(int(rows[k][0]) + 4000, k % 2))
        inputs.append(given(mids([(int(t), m) for t, m in rows], key), signals, item.resolution, item.market))
    risk = RiskLimits(gross_cap=Decimal("0.5"), drawdown=Decimal("0.05"), cooldown=3600 * SECOND)
    config = replace(CONFIG, risk=risk, execution=replace(DECLARED, fees="flat_2pct", liquidity=liquidity))
    found = assert_equal(inputs, config, scenario)
    assert len(found.trades) > 20


def test_the_example_of_the_page_runs() -> None:
    page = (DOCS / "points.md").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    assert names["sums"].num_rows == 3
    assert len(names["result"].trades) > 3
