from datetime import timedelta

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pytest

from pm_pipeline.markets.units import MICRO
from pm_pipeline.reports import StrategyResult, figures
from pm_pipeline.reports.style import GAIN, LOSS, faint
from pm_pipeline_tests.reports.sample import START, fills, prices, rows, strategy, trip, trips


@pytest.fixture(scope="module")
def result() -> StrategyResult:
    return strategy("value", "Prediction value")


def named(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name == name)


def test_the_drawdown_below_is_that_of_the_base_scenario(result: StrategyResult) -> None:
    figure = figures.equity_figure(result)
    base, fall = np.asarray(named(figure, "base").y), np.asarray(named(figure, "drawdown").y)
    assert fall.tolist() == (base / np.maximum.accumulate(base) - 1).tolist()
    assert fall.min() < 0


def test_a_run_of_one_scenario_has_no_band(result: StrategyResult) -> None:
    alone = StrategyResult(
        "v", "V", {"base": result.metrics["base"]}, result.equity, result.trips, result.fills
    )
    assert [trace.name for trace in figures.equity_figure(alone).data] == ["base", "drawdown"]
    assert alone.band("sharpe") is None
    assert not alone.figure("sharpe", "optimistic").defined


def test_profit_is_summed_by_event_and_small_ones_together() -> None:
    table = rows(
        "backtest.trips",
        [
            trip(group_key="g", pnl=5 * MICRO),
            trip(group_key="g", market_key="kalshi:B", pnl=-2 * MICRO),
            trip(market_key="kalshi:C", pnl=-9 * MICRO),
            trip(market_key="kalshi:C", pnl=-9 * MICRO, scenario="optimistic"),
        ],
    )
    bar = figures.pnl_figure(table).data[0]
    assert dict(zip(bar.customdata, bar.x, strict=True)) == {"kalshi:C": -9.0, "g": 3.0}
    assert list(bar.marker.color) == [LOSS, GAIN]
    total = figures.pnl_figure(trips(200)).data[0]
    assert len(total.x) == figures.GROUPS + 1
    base = trips(200).to_pylist()
    assert sum(total.x) == pytest.approx(sum(t["pnl"] for t in base if t["scenario"] == "base") / MICRO)


def test_reliability_shows_the_wilson_band_of_the_strategy_and_the_market() -> None:
    table = rows(
        "backtest.trips",
        [trip(p_hat=0.95, p_market=0.65, payout=MICRO * (i < 9), market_key=f"k:{i}") for i in range(10)],
    )
    figure = figures.reliability_figure(table)
    ours, market = named(figure, "strategy"), named(figure, "market")
    assert list(ours.x) == pytest.approx([0.95])
    assert list(ours.y) == [0.9]
    assert list(market.x) == pytest.approx([0.65])
    assert 0.9 + ours.error_y.array[0] == pytest.approx(0.98212, abs=1e-4)
    assert 0.9 - ours.error_y.arrayminus[0] == pytest.approx(0.59585, abs=1e-4)


def test_the_price_shows_the_outcome_that_was_traded_and_its_fills() -> None:
    table = rows(
        "backtest.trips", [trip(market_key="kalshi:A", outcome_index=1, entered_at=START + timedelta(days=1))]
    )
    path = prices(table)
    path = path.set_column(1, path.schema.field(1), pa.array(np.ones(path.num_rows, np.int32)))
    figure = figures.price_figure(path, fills(table), "kalshi:A", points=50)
    assert len(named(figure, "mid").x) <= 60
    assert list(named(figure, "buy").y) == [0.8]
    assert list(named(figure, "sell").y) == []
    assert named(figure, "buy").x[0] == (START + timedelta(days=1)).timestamp() * 1000


def test_a_market_without_fills_shows_its_first_outcome() -> None:
    table = trips(3)
    path = prices(table)
    key = path["market_key"][0].as_py()
    figure = figures.price_figure(path, fills(table).slice(0, 0), key)
    assert len(named(figure, "mid").x) == path.num_rows


def test_a_colour_is_made_faint() -> None:
    assert faint("#3b82c4", 0.5) == "rgba(59,130,196,0.5)"
