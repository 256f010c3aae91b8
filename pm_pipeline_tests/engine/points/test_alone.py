"""Markets alone: the straight walk, the loop of events and ``simulate`` come to the same; so does a sweep."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from itertools import product
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st

from pm_pipeline.engine import ExecutionConfig, MarketInput, RiskLimits, RunConfig, Scenario, Sizing, simulate
from pm_pipeline.engine.points import PointsResult, ZRule, play, sweep
from pm_pipeline.engine.scenarios import LiquidityModel
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, MINUTE
from pm_pipeline_tests.engine.builders import given, resolved
from pm_pipeline_tests.engine.points.test_equality import configs, rules, worlds
from pm_pipeline_tests.engine.points.worlds import Outcome, of_points, of_simulation, points_of, quotes, same

plain = configs(belief=False).map(lambda config: replace(config, sizing=Sizing(), risk=RiskLimits()))


def alone(world: list[MarketInput], result: PointsResult, config: RunConfig, scenario: Scenario) -> Outcome:
    """Each market through ``simulate`` by itself, on the decisions of the rule."""
    signals, found = result.signals(), []
    for item in world:
        again = replace(item, signals=signals[str(item.market.key)])
        found.append(of_simulation(simulate([again], config, scenario, strategy="t", run_id="r")))
    refusals = sum((Counter(part.refusals) for part in found), Counter[str]())
    return Outcome(
        sorted(row for part in found for row in part.fills),
        sorted(row for part in found for row in part.trades),
        dict(refusals),
        [],
    )


@given_by(worlds(signals=False), rules(), plain | configs(), st.sampled_from(list(Scenario)))
@settings(max_examples=120, deadline=None)
def test_each_market_alone_comes_to_what_simulate_makes_of_it(
    world: list[MarketInput], rule: ZRule, config: RunConfig, scenario: Scenario
) -> None:
    result = play(points_of(world, config, scenario), rule, config, scenario, bankroll="each")
    same(of_points(result), alone(world, result, config, scenario))


@given_by(worlds(signals=False), plain, st.sampled_from(list(Scenario)))
@settings(max_examples=60, deadline=None)
def test_a_sweep_sums_up_what_each_rule_does_alone(
    world: list[MarketInput], config: RunConfig, scenario: Scenario
) -> None:
    points = points_of(world, config, scenario)
    shares = (None, Decimal("0.1"))
    grid = [
        ZRule(window=window, entry=entry, exit=leave, stop=stop, trailing=trailing, hold=hold)
        for window, entry, leave, stop, trailing, hold in product(
            (5, 3), (0.6, 1.2), (0.0, None), shares, shares, (None, 2 * MINUTE)
        )
    ]
    assert sums_of(sweep(points, grid, config, scenario)) == [
        sums_alone(play(points, rule, config, scenario, bankroll="each")) for rule in grid
    ]


def sums_of(table: pa.Table) -> list[dict[str, int]]:
    return list(table.to_pylist())


def sums_alone(result: PointsResult) -> dict[str, int]:
    pnl, trades = result.pnl, result.trades
    return {
        "trades": len(trades),
        "wins": int((pnl > 0).sum()),
        "pnl": int(pnl.sum()),
        **{name: int(trades[name].sum()) for name in ("fees", "cost", "proceeds")},
        "held_to_payout": int((trades["ended_by"] >= 5).sum()),
        "refused": sum(result.refusals.values()),
    }


@given_by(worlds(signals=False), plain)
@settings(max_examples=10, deadline=None)
def test_threads_change_no_row(world: list[MarketInput], config: RunConfig) -> None:
    points, rule = points_of(world, config, Scenario.BASE), ZRule(window=5, entry=1.0, hold=DAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pm_pipeline.engine.points.runner.CHUNK", 50)
        few, many = (
            play(points, rule, config, Scenario.BASE, bankroll="each", threads=threads) for threads in (1, 3)
        )
        swept = [sweep(points, [rule], config, Scenario.BASE, threads=threads) for threads in (1, 3)]
    whole = play(points, rule, config, Scenario.BASE, bankroll="each")
    for found in (few, many):
        assert (found.trades == whole.trades).all()
        assert (found.fills == whole.fills).all()
        assert found.refusals == whole.refusals
    assert sums_of(swept[0]) == sums_of(swept[1]) == [sums_alone(whole)]


def test_an_empty_grid_is_refused() -> None:
    points = points_of([], RunConfig(), Scenario.BASE)
    with pytest.raises(UsageError, match="at least one rule"):
        sweep(points, [], RunConfig(), Scenario.BASE)


@pytest.mark.parametrize(
    ("path", "rule", "ended_by"),
    [
        ([50, 51, 50, 51, 50, 51, 45, 45, 60, 61, 60], {"target": Decimal("0.1")}, "target"),
        ([50, 51, 50, 51, 50, 51, 45, 45, 60, 61, 60], {}, "signal"),
        ([50, 51, 50, 51, 50, 51, 45, 45, 40, 40, 40], {"stop": Decimal("0.05"), "exit": None}, "stop"),
        (
            [50, 51, 50, 51, 50, 51, 45, 48, 46, 46, 46],
            {"trailing": Decimal("0.03"), "exit": None},
            "trailing",
        ),
        ([50, 51, 50, 51, 50, 51, 45, 45, 45, 45, 45], {"hold": MINUTE, "exit": None}, "time"),
        ([50, 51, 50, 51, 50, 51, 45, 45, 44, 44, 44], {"exit": None}, "settlement"),
    ],
)
def test_each_way_out_is_the_one_that_simulate_takes(
    path: list[int], rule: dict[str, Any], ended_by: str
) -> None:
    """The first row meets a target and the score's exit at once: the watched rule comes first."""
    rows = [(60 * n, float(mid), mid - 1.0, mid + 1.0) for n, mid in enumerate(path)]
    world = [given(quotes(rows), [], resolved(60 * len(path) + 5, 60 * len(path) + 9))]
    config = RunConfig(execution=ExecutionConfig(liquidity=LiquidityModel.CONSTANT))
    chosen = ZRule(**{"window": 5, "entry": 2.0, "exit": 0.0, **rule})
    result = play(points_of(world, config, Scenario.BASE), chosen, config, Scenario.BASE, bankroll="each")
    found = of_points(result)
    same(found, alone(world, result, config, Scenario.BASE))
    assert [trade[8] for trade in found.trades][:1] == [ended_by]
