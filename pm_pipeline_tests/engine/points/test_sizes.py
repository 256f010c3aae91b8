"""Quotes with sizes of their own, positions in both outcomes, and the equity whenever money moves."""

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pm_pipeline.engine import ExecutionConfig, MarketInput, RunConfig, Scenario, Signals
from pm_pipeline.engine.points import Points, Quoted, ZRule, play, sweep
from pm_pipeline.engine.scenarios import LiquidityModel
from pm_pipeline.errors import UsageError
from pm_pipeline.markets import MICRO, FeeTerms
from pm_pipeline.markets.clock import SECOND, parse_time
from pm_pipeline_tests.engine.builders import bbo, enter, given, leave, market, mids, resolved
from pm_pipeline_tests.engine.points.test_points import KALSHI, touch, world
from pm_pipeline_tests.engine.points.worlds import assert_equal, assert_rule_equal, points_of, walk

DEFAULT = RunConfig()
DECLARED = RunConfig(execution=ExecutionConfig(liquidity=LiquidityModel.CONSTANT))
SCENARIOS = pytest.mark.parametrize("scenario", list(Scenario))
NAMES = ("bid_size", "ask_size", "no_bid_size", "no_ask_size")


def traded(seed: int, key: str) -> MarketInput:
    """A day of minutes, in and out of either outcome."""
    path = walk(np.random.default_rng(seed), 1200)
    signals = [
        signal
        for n, (ts, _) in enumerate(path[::20])
        for signal in (
            enter(ts + 3, n % 2, p_hat=0.8, stop_price=200_000, target_price=700_000),
            leave(ts + 500, n % 2),
        )
    ]
    return given(mids(path, key), signals, resolved(path[-1][0] + 60, path[-1][0] + 90, key=key), market(key))


@SCENARIOS
@pytest.mark.parametrize("dollars", [5, 20, 250])
def test_signals_trade_on_the_measured_sizes_as_in_simulate(scenario: Scenario, dollars: int) -> None:
    """Five dollars bound the sizes of one outcome more than those of the other."""
    execution = ExecutionConfig(depth_usd=dollars * MICRO)
    config = replace(DEFAULT, stake=60 * MICRO, execution=execution)
    found = assert_equal([traded(1, "polymarket:1"), traded(2, KALSHI)], config, scenario)
    assert len(found.fills) > 60


@SCENARIOS
def test_a_rule_trades_on_the_measured_sizes_as_in_simulate(scenario: Scenario) -> None:
    inputs = [world(n, f"polymarket:{n}") for n in range(1, 5)]
    found, _ = assert_rule_equal(inputs, ZRule(window=12, entry=1.2, exit=0.0), DEFAULT, scenario)
    assert len(found.fills) > len(found.trades) > 5


def test_a_sweep_trades_on_the_measured_sizes() -> None:
    points = points_of([world(n, f"polymarket:{n}") for n in range(1, 5)], DEFAULT, Scenario.BASE)
    grid = [ZRule(window=12, entry=entry) for entry in (1.2, 1.6)]
    swept = sweep(points, grid, DEFAULT, Scenario.BASE).column("pnl").to_pylist()
    alone = [play(points, rule, DEFAULT, Scenario.BASE, bankroll="each").pnl.sum() for rule in grid]
    assert swept == alone


@pytest.mark.parametrize(("dollars", "columns"), [(250, 2), (5, 4)])
def test_a_file_keeps_sizes(tmp_path: Path, dollars: int, columns: int) -> None:
    """Those of outcome 1 have columns of their own where they are not the mirror."""
    config = RunConfig(execution=ExecutionConfig(depth_usd=dollars * MICRO))
    points = points_of([traded(1, "polymarket:1"), traded(2, KALSHI)], config, Scenario.BASE)
    points.write(tmp_path / "p.parquet")
    again = Points.read(tmp_path / "p.parquet")
    for name in NAMES:
        assert len(getattr(again, name)) == len(points)
        assert (getattr(again, name) == getattr(points, name)).all(), name
    stored = set(pq.ParquetFile(tmp_path / "p.parquet").schema.names)
    assert len(stored & set(NAMES)) == columns
    part = again.part(1, 2)
    assert (part.ask_size == points.ask_size[-len(part) :]).all()


def test_a_file_without_sizes_has_no_column_of_them(tmp_path: Path) -> None:
    points_of([world()], DECLARED, Scenario.BASE).write(tmp_path / "p.parquet")
    again = Points.read(tmp_path / "p.parquet")
    assert [len(getattr(again, name)) for name in NAMES] == [0, 0, 0, 0]


def test_points_of_another_liquidity_model_are_refused() -> None:
    for made, played, said in ((DEFAULT, DECLARED, "have sizes"), (DECLARED, DEFAULT, "have no sizes")):
        points = points_of([world()], made, Scenario.BASE)
        with pytest.raises(UsageError, match=said):
            play(points, ZRule(), played, Scenario.BASE)
        with pytest.raises(UsageError, match=said):
            sweep(points, [ZRule()], played, Scenario.BASE)


def test_outcomes_that_are_not_two_sides_of_the_same_quotes_are_refused() -> None:
    sized = touch(bid_size=np.full(5, MICRO), ask_size=np.full(5, 2 * MICRO))
    other = sized.mirrored()
    assert (Points.of_touches([Quoted(market(), None, sized, other)]).no_bid_size == 2 * MICRO).all()
    with pytest.raises(UsageError, match="two sides"):
        Points.of_touches([Quoted(market(), None, sized, replace(other, bid=other.bid - 10_000))])


@pytest.mark.parametrize(
    ("key", "payouts"),
    [
        ("polymarket:1", (333_333, 666_667)),
        (KALSHI, (333_700, 666_300)),
        (KALSHI, (500_000, 500_000)),
        ("polymarket:1", (0, MICRO)),
    ],
)
def test_both_outcomes_of_a_market_are_paid_as_one_sum(key: str, payouts: tuple[int, int]) -> None:
    rows = [(n, 48, 50) for n in range(0, 600, 30)]
    signals = [enter(10, 0, stake=7_770_013), enter(100, 1, stake=9_130_007)]
    inputs = [given(bbo(rows, key), signals, resolved(700, 800, payouts, key=key), market(key))]
    execution = replace(DECLARED.execution, lot=3 if key != KALSHI else 10_000)
    found = assert_equal(inputs, replace(DECLARED, execution=execution), Scenario.BASE)
    assert len(found.trades) == 2


@SCENARIOS
def test_the_equity_is_written_whenever_money_moves(scenario: Scenario) -> None:
    inputs = [traded(1, "polymarket:1"), traded(2, KALSHI)]
    points = points_of(inputs, DEFAULT, scenario)
    signals = {str(i.market.key): i.signals for i in inputs if isinstance(i.signals, Signals)}
    result = play(points, signals, DEFAULT, scenario)
    moments = set(result.fills["at"].tolist())
    assert moments
    assert moments <= set(result.curve["ts"].tolist())
    assert all(before < after for before, after in pairwise(result.curve["ts"].tolist()))


def test_a_fee_that_is_taken_in_shares_stops_the_run() -> None:
    start = parse_time("2026-04-01")
    ts: Any = start + np.arange(5) * SECOND
    terms = FeeTerms(Decimal("0.02"), 1, taker_only=True, rebate_rate=Decimal(0))
    asked = replace(enter(0), ts=start + SECOND, inputs_known_at=start + SECOND)
    listed = market(fee_terms=terms, opened_at=None)
    points = Points.of_touches([(listed, None, touch(ts=ts, known_at=ts))])
    with pytest.raises(UsageError, match="a fee rule was in force"):
        play(points, {"polymarket:1": Signals.of([asked])}, DECLARED, Scenario.BASE)
