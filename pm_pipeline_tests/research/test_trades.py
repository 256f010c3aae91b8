import json
from datetime import UTC, datetime, timedelta
from math import inf, isnan
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pm_pipeline.markets.clock import DAY, HOUR
from pm_pipeline.markets.units import MICRO
from pm_pipeline.research import trades
from pm_pipeline.research.figure import Figure
from pm_pipeline_tests.reports.sample import rows, trip
from pm_pipeline_tests.shared import SHARED, needs_shared

DAY0 = datetime(2025, 1, 1, tzinfo=UTC)


def table(*trips: dict[str, object]) -> pa.Table:
    return rows("backtest.trips", list(trips))


def closed(*trips: dict[str, object]) -> trades.Trips:
    return trades.closed(table(*trips))


def at(days: float) -> datetime:
    return DAY0 + timedelta(days=days)


@needs_shared
def test_the_golden_twelve_trades_reproduce() -> None:
    level = json.loads((SHARED / "golden" / "golden_metrics.json").read_text())["trade_level"]
    wanted: dict[str, Any] = level["definitions_and_values"]
    done = closed(
        *(
            trip(
                entered_at=datetime.fromisoformat(opened).replace(tzinfo=UTC),
                exited_at=datetime.fromisoformat(ended).replace(tzinfo=UTC),
                cost=int(cost) * MICRO,
                fees=0,
                pnl=round(pnl * 10) * MICRO // 10,
            )
            for opened, ended, cost, pnl in level["trades"]
        )
    )
    found = {
        "n_trades": Figure(done.count),
        "n_breakeven": Figure(int((done.pnl == 0).sum())),
        "win_rate_wins_over_decided (nautilus, quantstats)": trades.win_rate(done.pnl),
        "profit_factor": trades.profit_factor(done.pnl),
        "avg_win": trades.average_win(done),
        "avg_loss": trades.average_loss(done),
        "payoff_ratio": trades.payoff_ratio(done.pnl),
        "expectancy_per_trade (mean pnl over all trades)": trades.expectancy(done),
        "return_on_capital_deployed (sum pnl / sum cost)": trades.return_on_cost(done),
        "trades_per_month (n / (calendar days inclusive / 30.436875))": trades.trades_per_month(done),
    }
    assert {k: f.value for k, f in found.items()} == {k: pytest.approx(wanted[k], rel=1e-12) for k in found}


WON = trip(
    entered_at=at(0), exited_at=at(2), cost=90 * MICRO, fees=10 * MICRO, proceeds=150 * MICRO, pnl=50 * MICRO
)
LOST = trip(
    entered_at=at(1), exited_at=at(4), cost=50 * MICRO, fees=0, proceeds=20 * MICRO, pnl=-30 * MICRO,
    ended_by="stop", evidence="mid", hindsight_close=True, group_key="g", payout=None,
)  # fmt: skip


def test_money_time_and_shares_of_two_trades() -> None:
    done = closed(WON, LOST)
    years = 1 / 365
    assert trades.total_pnl(done).value == 20.0
    assert trades.fees_paid(done).value == 10.0
    assert trades.fee_share(done).value == pytest.approx(10 / 30)
    assert trades.average_holding(done).value == 60.0
    # 100 dollars for two days and 50 for three: 350 dollar-days in a window of four
    assert trades.annual_return_on_locked(done).value == pytest.approx(20 / (350 * years))
    assert trades.return_on_locked(done).value == pytest.approx(20 / (350 / 4))
    assert trades.exposure(done, 1000.0).value == pytest.approx(350 / 4 / 1000)
    assert trades.time_in_market(done).value == 1.0
    assert trades.pnl_share(done, "l2").value == 2.5
    assert trades.pnl_share(done, "mid").value == -1.5
    assert trades.hindsight_share(done).value == 0.5


def test_a_payout_is_not_turnover_but_a_sale_is() -> None:
    assert trades.turnover(closed(WON, LOST), 1000.0, 0.5).value == pytest.approx((90 + 50 + 20) / 1000 / 0.5)
    assert trades.turnover(closed(WON), 1000.0, 1.0).value == pytest.approx(0.09)
    assert trades.turnover(closed(trip(ended_by="void")), 1.0, 1.0).value == 8.0


@pytest.mark.parametrize(("equity", "years"), [(0.0, 1.0), (-5.0, 1.0), (100.0, 0.0)])
def test_turnover_needs_equity_and_time(equity: float, years: float) -> None:
    assert trades.turnover(closed(WON), equity, years).note


def test_time_in_market_joins_overlaps_and_cuts_at_the_window() -> None:
    done = closed(
        trip(entered_at=at(0), exited_at=at(4)),
        trip(entered_at=at(1), exited_at=at(2)),
        trip(entered_at=at(6), exited_at=at(9)),
    )
    start = int(done.entered.min())
    assert trades.time_in_market(done).value == pytest.approx(7 / 9)
    assert trades.time_in_market(done, start + 2 * DAY, start + 8 * DAY).value == pytest.approx(4 / 6)


def test_idle_time_of_the_window_lowers_the_trades_per_month() -> None:
    done = closed(WON)
    start = int(done.entered.min())
    month = trades.DAYS_PER_MONTH
    assert trades.trades_per_month(done).value == pytest.approx(month / 3)
    assert trades.trades_per_month(done, start, start + 9 * DAY + HOUR).value == pytest.approx(month / 10)


def test_an_open_trip_has_no_result() -> None:
    done = closed(WON, trip(ended_by="open", pnl=-7 * MICRO))
    assert done.count == 1
    assert trades.total_pnl(done).value == 50.0


def test_markets_of_one_group_are_one_event_and_a_market_alone_is_its_own() -> None:
    done = closed(
        trip(market_key="kalshi:A", group_key="g"),
        trip(market_key="kalshi:B", group_key="g"),
        trip(market_key="kalshi:C"),
    )
    assert done.event.tolist() == [0, 0, 1]


NONE = closed()
EVEN = closed(trip(pnl=0, fees=0, exited_at=DAY0))


@pytest.mark.parametrize(
    ("found", "value"),
    [
        (trades.total_pnl(NONE), 0.0),
        (trades.fees_paid(NONE), 0.0),
        (trades.exposure(NONE, 100.0), 0.0),
        (trades.profit_factor(np.array([5, 0])), inf),
        (trades.profit_factor(np.array([-5, 0])), 0.0),
        (trades.expectancy(EVEN), 0.0),
    ],
)
def test_a_figure_of_nothing_is_zero_or_infinite_only_where_that_is_its_meaning(
    found: Figure, value: float
) -> None:
    assert found.value == value


@pytest.mark.parametrize(
    "found",
    [
        trades.win_rate(NONE.pnl),
        trades.win_rate(EVEN.pnl),
        trades.profit_factor(NONE.pnl),
        trades.profit_factor(EVEN.pnl),
        trades.payoff_ratio(np.array([5, 0])),
        trades.payoff_ratio(np.array([-5])),
        trades.expectancy(NONE),
        trades.average_win(EVEN),
        trades.average_loss(EVEN),
        trades.trades_per_month(NONE),
        trades.average_holding(NONE),
        trades.fee_share(NONE),
        trades.fee_share(EVEN),
        trades.return_on_cost(NONE),
        trades.return_on_locked(NONE),
        trades.return_on_locked(EVEN),
        trades.annual_return_on_locked(EVEN),
        trades.exposure(EVEN, 100.0),
        trades.exposure(closed(WON), 0.0),
        trades.time_in_market(NONE),
        trades.time_in_market(EVEN),
        trades.pnl_share(EVEN, "l2"),
        trades.hindsight_share(NONE),
    ],
)
def test_a_trade_figure_without_a_meaning_is_nan_with_a_reason(found: Figure) -> None:
    assert isnan(found.value)
    assert found.note
