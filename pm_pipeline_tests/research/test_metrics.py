from datetime import timedelta
from math import inf, nan
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pm_pipeline.markets.clock import DAY, to_nanos
from pm_pipeline.markets.units import MICRO
from pm_pipeline.research import METRICS, SUMMARY, Figure, Level, headline, show, show_band
from pm_pipeline.research.metrics import daily_bankroll
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.reports.sample import START, rows, trip

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
NO_TRIPS = table("backtest.trips").arrow.empty_table()
NO_EQUITY = table("backtest.portfolio_equity").arrow.empty_table()


def curve(*points: tuple[float, int]) -> pa.Table:
    return rows(
        "backtest.portfolio_equity",
        [
            {
                "run_id": "r",
                "strategy": "s",
                "scenario": "base",
                "ts": START + timedelta(days=day),
                "cash": dollars * MICRO,
                "positions": 0,
                "locked": 0,
                "equity": dollars * MICRO,
                "open_positions": 0,
            }
            for day, dollars in points
        ],
    )


def test_a_portfolio_has_every_figure_in_the_declared_order() -> None:
    found = headline(NO_TRIPS, NO_EQUITY, initial=100 * MICRO)
    assert list(found) == list(METRICS)
    assert set(SUMMARY) <= set(METRICS)


def test_one_market_has_no_bankroll_and_no_figure_of_it() -> None:
    found = headline(NO_TRIPS, initial=100 * MICRO)
    assert list(found) == [name for name, m in METRICS.items() if m.level is not Level.EQUITY]


def test_nothing_traded_is_zero_trades_and_no_ratio() -> None:
    found = headline(NO_TRIPS, NO_EQUITY, initial=100 * MICRO)
    assert {name for name, figure in found.items() if figure.defined} == {
        "total_pnl",
        "trades",
        "open_trades",
        "open_pnl",
        "break_even",
        "fees",
        "forecasts",
        "exposure",
    }
    assert all(figure.note for figure in found.values() if not figure.defined)


def test_the_first_return_starts_from_the_initial_bankroll() -> None:
    grid = daily_bankroll(curve((0.5, 90), (2.0, 99)), 100 * MICRO)
    assert (grid.equity / MICRO).tolist() == [100.0, 90.0, 99.0]
    found = headline(NO_TRIPS, curve((0.5, 90), (2.0, 99)), initial=100 * MICRO)
    assert found["total_return"].value == pytest.approx(-0.01)
    assert found["max_drawdown"].value == pytest.approx(-0.10)
    assert found["drawdown_days"].value == 2.0


def test_the_window_keeps_idle_days() -> None:
    start = to_nanos(START)
    grid = daily_bankroll(curve((1.0, 100), (2.0, 110)), 100 * MICRO, start, start + 6 * DAY)
    assert (grid.equity / MICRO).tolist() == [100.0, 100.0, 110.0, 110.0, 110.0, 110.0, 110.0]


def test_exposure_and_turnover_measure_trips_against_equity() -> None:
    trips = rows(
        "backtest.trips",
        [trip(cost=40 * MICRO, fees=0, entered_at=START, exited_at=START + timedelta(days=5))],
    )
    found = headline(trips, curve((0.0, 100), (10.0, 100)), initial=100 * MICRO)
    assert found["exposure"].value == pytest.approx(0.2)
    assert found["turnover"].value == pytest.approx(0.4 * 36.5)


def test_open_positions_are_counted_apart_from_all_that_was_won_or_lost() -> None:
    trips = rows(
        "backtest.trips",
        [
            trip(pnl=3 * MICRO),
            trip(pnl=-40 * MICRO, ended_by="open", payout=None, market_key="kalshi:left"),
        ],
    )
    found = headline(trips, initial=0)
    shown = {
        name: found[name].value for name in ("trades", "total_pnl", "win_rate", "open_trades", "open_pnl")
    }
    assert shown == {"trades": 1, "total_pnl": 3, "win_rate": 1, "open_trades": 1, "open_pnl": -40}


def test_forecasts_are_judged_beside_the_market() -> None:
    trips = rows(
        "backtest.trips", [trip(p_hat=0.9, p_market=0.8, market_key=f"kalshi:{i}") for i in range(6)]
    )
    found = headline(trips, initial=0)
    assert (found["brier"].value, found["brier_market"].value) == pytest.approx((0.01, 0.04))
    assert found["brier_skill"].value == pytest.approx(0.75)
    assert (found["brier_skill_low"].value, found["brier_skill_high"].value) == pytest.approx((0.75, 0.75))
    assert found["forecasts"].value == 6


def test_the_headline_is_the_same_for_the_same_seed_and_any_order_of_rows() -> None:
    trips = rows(
        "backtest.trips", [trip(pnl=i * MICRO - 5 * MICRO, market_key=f"kalshi:{i}") for i in range(12)]
    )
    again = trips.take(pc.sort_indices(trips, [("pnl", "descending")]))
    first, second = headline(trips, initial=0, seed=1), headline(trips, initial=0, seed=1)
    assert {k: v for k, v in first.items() if v.defined} == {k: v for k, v in second.items() if v.defined}
    assert headline(again, initial=0)["total_pnl"] == first["total_pnl"]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("total_pnl", -1234.5, "-$1,234.50"),
        ("total_pnl", -0.001, "$0.00"),
        ("total_return", 0.1234, "12.3%"),
        ("total_return", -0.0001, "0.0%"),
        ("sharpe", 1.556, "1.56"),
        ("sharpe", -0.001, "0.00"),
        ("brier", 0.164295, "0.1643"),
        ("average_holding", 60.0, "60.0 h"),
        ("drawdown_days", 5.0, "5 d"),
        ("trades", 1200.0, "1,200"),
        ("profit_factor", inf, "∞"),
        ("profit_factor", -inf, "-∞"),
        ("profit_factor", nan, "–"),
    ],
)
def test_a_figure_is_shown_in_its_unit(name: str, value: float, shown: str) -> None:
    assert show(name, Figure(value, "why")) == shown


def test_a_band_is_shown_from_pessimistic_to_optimistic() -> None:
    assert show_band("sharpe", Figure(0.5), Figure(1.25)) == "0.50 … 1.25"


def test_every_figure_is_explained_in_the_docs() -> None:
    lines = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == list(METRICS)
    assert all(len(line.split("|")) == 6 for line in lines)
