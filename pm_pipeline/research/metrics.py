"""The headline: which figures a result is reported by, in which order and unit, and how they are computed.

:data:`METRICS` is the one list. Tables, pages and terminals take titles, units and order from it, and
``docs/metrics.md`` says for each figure how it is computed and when it is undefined.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import inf, isinf, isnan
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets.clock import DAY, Nanos
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.research import forecasts as fc
from pm_pipeline.research import intervals, returns, trades
from pm_pipeline.research.figure import Figure
from pm_pipeline.research.returns import CALENDAR, Ints


class Level(StrEnum):
    """What a figure is computed from."""

    TRADE = "trade"
    EQUITY = "equity"
    FORECAST = "forecast"


class Unit(StrEnum):
    """How a figure is shown."""

    DOLLARS = "dollars"
    SHARE = "share"
    NUMBER = "number"
    COUNT = "count"
    DAYS = "days"
    HOURS = "hours"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class Metric:
    """One headline figure. ``higher_is_better`` is None where neither direction is a virtue."""

    title: str
    unit: Unit
    level: Level
    higher_is_better: bool | None
    meaning: str


def _rows(level: Level, *rows: tuple[str, str, Unit, bool | None, str]) -> dict[str, Metric]:
    return {name: Metric(title, unit, level, better, meaning) for name, title, unit, better, meaning in rows}


METRICS: Final[dict[str, Metric]] = {
    **_rows(
        Level.EQUITY,
        ("total_return", "Total return", Unit.SHARE, True, "growth of the bankroll over the run"),
        ("cagr", "CAGR", Unit.SHARE, True, "compound growth per year; only over a year of data"),
        ("sharpe", "Sharpe", Unit.NUMBER, True, "mean daily return over its deviation, per year of 365 days"),
        ("sortino", "Sortino", Unit.NUMBER, True, "mean daily return over its downside deviation, per year"),
        ("calmar", "Calmar", Unit.NUMBER, True, "CAGR over the deepest drawdown"),
        ("max_drawdown", "Max drawdown", Unit.SHARE, True, "deepest fall from a peak of equity, at day ends"),
        ("drawdown_days", "Longest drawdown", Unit.DAYS, False, "most days in a row below an earlier peak"),
        ("ann_vol", "Volatility", Unit.SHARE, False, "deviation of daily returns, per year"),
        ("ulcer", "Ulcer index", Unit.SHARE, False, "root mean square of the drawdowns"),
        ("omega", "Omega", Unit.NUMBER, True, "sum of gains over sum of losses, by day"),
        ("tail_ratio", "Tail ratio", Unit.NUMBER, True, "size of the best 5 % of days over the worst 5 %"),
        ("var", "VaR 5 %", Unit.SHARE, True, "return of the day that 5 % of days are worse than"),
        ("cvar", "CVaR 5 %", Unit.SHARE, True, "mean return of the worst 5 % of days"),
        ("skew", "Skewness", Unit.NUMBER, True, "asymmetry of daily returns; negative: rare large losses"),
        ("kurt", "Excess kurtosis", Unit.NUMBER, False, "weight of the tails of daily returns; normal is 0"),
        ("psr", "PSR", Unit.SHARE, True, "probability that the true Sharpe ratio is above 0"),
        ("dsr", "DSR", Unit.SHARE, True, "the same, after the luck of having tried many variants"),
        ("exposure", "Exposure", Unit.SHARE, None, "average dollars at risk over average equity"),
        ("turnover", "Turnover per year", Unit.NUMBER, None, "dollars traded over average equity, per year"),
    ),
    **_rows(
        Level.TRADE,
        ("total_pnl", "Profit", Unit.DOLLARS, True, "after fees, of all closed trades"),
        ("total_pnl_low", "Profit, 95 % low", Unit.DOLLARS, True, "lower end of its interval over events"),
        ("total_pnl_high", "Profit, 95 % high", Unit.DOLLARS, True, "upper end of its interval over events"),
        ("trades", "Trades", Unit.COUNT, None, "closed round trips"),
        ("open_trades", "Open at the end", Unit.COUNT, None, "positions that nobody has paid yet"),
        ("open_pnl", "Profit of open trades", Unit.DOLLARS, None, "at their last mark; in no other profit"),
        ("win_rate", "Win rate", Unit.SHARE, True, "wins over wins and losses; break-even apart"),
        ("break_even", "Break-even trades", Unit.COUNT, None, "neither won nor lost"),
        ("profit_factor", "Profit factor", Unit.NUMBER, True, "gross profit over gross loss"),
        ("expectancy", "Expectancy", Unit.DOLLARS, True, "mean profit per trade after fees"),
        ("expectancy_low", "Expectancy, 95 % low", Unit.DOLLARS, True, "lower end of its interval"),
        ("expectancy_high", "Expectancy, 95 % high", Unit.DOLLARS, True, "upper end of its interval"),
        ("payoff_ratio", "Payoff ratio", Unit.NUMBER, True, "average win over average loss"),
        ("average_win", "Average win", Unit.DOLLARS, True, "mean profit of the winning trades"),
        ("average_loss", "Average loss", Unit.DOLLARS, True, "mean profit of the losing trades"),
        ("trades_per_month", "Trades per month", Unit.NUMBER, None, "per mean month of the window"),
        ("average_holding", "Average holding", Unit.HOURS, None, "from entry to exit or payout"),
        ("time_in_market", "Time in market", Unit.SHARE, None, "share of the window with a position"),
        ("fees", "Fees", Unit.DOLLARS, False, "all fees of the closed trades"),
        ("fee_share", "Fees of gross profit", Unit.SHARE, False, "fees over the profit before fees"),
        ("return_on_cost", "Return on cost", Unit.SHARE, True, "profit over all dollars spent"),
        ("return_on_locked", "Return on locked", Unit.SHARE, True, "profit over average dollars locked"),
        (
            "return_on_locked_annual",
            "Return on locked, per year",
            Unit.SHARE,
            True,
            "profit per dollar locked for a year, not compounded",
        ),
        ("pnl_share_l2", "Profit on recorded depth", Unit.SHARE, True, "share that rests on l2 evidence"),
        ("pnl_share_bbo", "Profit on best quotes", Unit.SHARE, None, "share that rests on bbo evidence"),
        ("pnl_share_trade", "Profit on prints", Unit.SHARE, None, "share that rests on trade evidence"),
        ("pnl_share_mid", "Profit on mid points", Unit.SHARE, False, "share on a declared half-spread"),
        ("pnl_share_rule", "Profit on full sets", Unit.SHARE, None, "share that rests on the venue's rule"),
        ("hindsight_share", "Hindsight closes", Unit.SHARE, False, "trades timed by a close learned later"),
    ),
    **_rows(
        Level.FORECAST,
        ("forecasts", "Settled forecasts", Unit.COUNT, None, "entries with a belief, a price and a payout"),
        ("brier", "Brier score", Unit.SCORE, False, "mean squared error of the strategy's probability"),
        ("brier_market", "Brier score of market", Unit.SCORE, None, "the same of the market's price"),
        ("brier_skill", "Brier skill", Unit.SHARE, True, "error saved against the market's price"),
        ("brier_skill_low", "Brier skill, 95 % low", Unit.SHARE, True, "lower end of its interval"),
        ("brier_skill_high", "Brier skill, 95 % high", Unit.SHARE, True, "upper end of its interval"),
        ("log_loss", "Log loss", Unit.SCORE, False, "mean negative log likelihood, nats"),
        ("log_loss_market", "Log loss of market", Unit.SCORE, None, "the same of the market's price"),
        ("log_loss_skill", "Log loss skill", Unit.SHARE, True, "loss saved against the market's price"),
        ("ece", "Calibration error", Unit.SCORE, False, "mean gap of forecast and outcome over 10 bins"),
        ("ece_market", "Calibration error of market", Unit.SCORE, None, "the same of the market's price"),
        ("ece_skill", "Calibration skill", Unit.SHARE, True, "gap saved against the market's price"),
        ("calibration_slope", "Calibration slope", Unit.NUMBER, None, "1 calibrated, below overconfident"),
        (
            "calibration_slope_market",
            "Calibration slope of market",
            Unit.NUMBER,
            None,
            "the same of the price",
        ),
        ("closing_line_value", "Closing-line value", Unit.SCORE, True, "closing price minus entry price"),
    ),
}
"""Every headline figure by its name, in the order in which it is shown."""

SUMMARY: Final = (
    "total_return",
    "total_pnl",
    "sharpe",
    "max_drawdown",
    "win_rate",
    "profit_factor",
    "return_on_locked_annual",
    "pnl_share_l2",
    "trades",
    "brier_skill",
    "closing_line_value",
)
"""The few figures that a comparison of strategies shows."""

_Found: TypeAlias = dict[str, Figure]


_EVIDENCE: Final = ("l2", "bbo", "trade", "mid", "rule")


def headline(
    trips: pa.Table,
    equity: pa.Table | None = None,
    *,
    initial: Micro,
    start: Nanos | None = None,
    end: Nanos | None = None,
    trial_sharpes: tuple[float, ...] = (),
    seed: int = 0,
) -> dict[str, Figure]:
    """The headline figures of one strategy under one scenario, in the order of :data:`METRICS`.

    Parameters
    ----------
    trips
        Rows of ``backtest.trips`` or ``backtest.portfolio_trips``.
    equity
        Rows of ``backtest.portfolio_equity``. Without it (one market alone has no bankroll) the figures of
        :attr:`Level.EQUITY` are left out.
    initial
        Bankroll at the start, micro-dollars.
    start, end
        The window of the run; by default it reaches over the equity curve and the trades.
    trial_sharpes
        Sharpe ratios per day of every trial made, for the deflated Sharpe ratio.
    seed
        Of the bootstrap behind the intervals.
    """
    done = trades.closed(trips)
    found = _trade_level(done, start, end, seed) | _open_level(trips) | _forecast_level(trips, seed)
    if equity is not None:
        found |= _equity_level(done, equity, initial, start, end, trial_sharpes)
    return {name: found[name] for name in METRICS if name in found}


def _trade_level(done: trades.Trips, start: Nanos | None, end: Nanos | None, seed: int) -> _Found:
    total_low, total_high = intervals.total_pnl(done, seed=seed).bounds
    mean_low, mean_high = intervals.mean_pnl(done, seed=seed).bounds
    return {
        "total_pnl": trades.total_pnl(done),
        "total_pnl_low": total_low,
        "total_pnl_high": total_high,
        "trades": Figure(float(done.count)),
        "win_rate": trades.win_rate(done.pnl),
        "break_even": Figure(float((done.pnl == 0).sum())),
        "profit_factor": trades.profit_factor(done.pnl),
        "expectancy": trades.expectancy(done),
        "expectancy_low": mean_low,
        "expectancy_high": mean_high,
        "payoff_ratio": trades.payoff_ratio(done.pnl),
        "average_win": trades.average_win(done),
        "average_loss": trades.average_loss(done),
        "trades_per_month": trades.trades_per_month(done, start, end),
        "average_holding": trades.average_holding(done),
        "time_in_market": trades.time_in_market(done, start, end),
        "fees": trades.fees_paid(done),
        "fee_share": trades.fee_share(done),
        "return_on_cost": trades.return_on_cost(done),
        "return_on_locked": trades.return_on_locked(done, start, end),
        "return_on_locked_annual": trades.annual_return_on_locked(done),
        **{f"pnl_share_{kind}": trades.pnl_share(done, kind) for kind in _EVIDENCE},
        "hindsight_share": trades.hindsight_share(done),
    }


def _open_level(trips: pa.Table) -> _Found:
    """What a run that ends too early leaves out of every other figure of trades."""
    left = trips.filter(pc.equal(trips["ended_by"], "open"))
    profit = sum(left["pnl"].to_pylist()) / MICRO
    return {"open_trades": Figure(float(left.num_rows)), "open_pnl": Figure(profit)}


def _forecast_level(trips: pa.Table, seed: int) -> _Found:
    settled = fc.settled(trips)
    low, high = intervals.brier_skill(settled, seed=seed).bounds
    found: _Found = {
        "forecasts": Figure(float(settled.p.size)),
        "brier_skill_low": low,
        "brier_skill_high": high,
        "calibration_slope": fc.calibration_slope(settled.p, settled.outcome),
        "calibration_slope_market": fc.calibration_slope(settled.market, settled.outcome),
        "closing_line_value": fc.mean_closing_line_value(trips),
    }
    for name, score in (("brier", fc.brier), ("log_loss", fc.log_loss), ("ece", fc.ece)):
        against = fc.compare(score, settled)
        found |= {name: against.ours, f"{name}_market": against.market, f"{name}_skill": against.skill}
    return found


def _equity_level(
    done: trades.Trips,
    equity: pa.Table,
    initial: Micro,
    start: Nanos | None,
    end: Nanos | None,
    trial_sharpes: tuple[float, ...],
) -> _Found:
    days, values = daily_bankroll(equity, initial, start, end)
    daily = returns.to_returns(values)
    average = float(values[1:].mean()) / MICRO if daily.size else 0.0
    first, last = (int(days[0]), int(days[-1])) if daily.size else (0, 0)
    return {
        "total_return": returns.total_return(daily),
        "cagr": returns.cagr(daily),
        "sharpe": returns.sharpe(daily),
        "sortino": returns.sortino(daily),
        "calmar": returns.calmar(daily),
        "max_drawdown": returns.max_drawdown(daily),
        "drawdown_days": returns.longest_drawdown_days(daily),
        "ann_vol": returns.ann_vol(daily),
        "ulcer": returns.ulcer(daily),
        "omega": returns.omega(daily),
        "tail_ratio": returns.tail_ratio(daily),
        "var": returns.var(daily),
        "cvar": returns.cvar(daily),
        "skew": returns.skew(daily),
        "kurt": returns.kurt(daily),
        "psr": returns.psr(daily),
        "dsr": returns.dsr(daily, trial_sharpes),
        "exposure": trades.exposure(done, average, first, last),
        "turnover": trades.turnover(done, average, (last - first) / (CALENDAR * DAY)),
    }


def daily_bankroll(
    equity: pa.Table, initial: Micro, start: Nanos | None = None, end: Nanos | None = None
) -> returns.DailyEquity:
    """A ``portfolio_equity`` curve at UTC midnights, in micro-dollars, beginning with the initial bankroll.

    Empty where the curve is empty.
    """
    table = equity.sort_by("ts")
    ts: Ints = np.asarray(table["ts"].cast(pa.int64()).to_numpy(), dtype=np.int64) * 1000
    if ts.size == 0:
        return returns.DailyEquity(np.empty(0, np.int64), np.empty(0, np.float64))
    grid = returns.daily_equity(
        ts,
        np.asarray(table["equity"].to_numpy()),
        int(ts[0]) if start is None else start,
        int(ts[-1]) if end is None else end,
    )
    grid.equity[0] = initial
    return grid


def show(name: str, figure: Figure) -> str:
    """A headline figure as a person reads it: ``$1,234.50``, ``12.3%``, ``1.56``; a dash where undefined."""
    value, unit = figure.value, METRICS[name].unit
    if isnan(value):
        return "–"
    if isinf(value):
        return "∞" if value == inf else "-∞"
    match unit:
        case Unit.DOLLARS:
            return f"{'-' if round(value, 2) < 0 else ''}${abs(value):,.2f}"
        case Unit.SHARE:
            return _plain(f"{value * 100:,.1f}") + "%"
        case Unit.NUMBER:
            return _plain(f"{value:,.2f}")
        case Unit.SCORE:
            return _plain(f"{value:.4f}")
        case Unit.HOURS:
            return _plain(f"{value:,.1f}") + " h"
        case Unit.DAYS:
            return f"{value:,.0f} d"
        case Unit.COUNT:
            return f"{value:,.0f}"


def _plain(text: str) -> str:
    """Without the sign of a negative number that is shown as zero."""
    return text.lstrip("-") if not text.strip("-0.,") else text


def show_band(name: str, low: Figure, high: Figure) -> str:
    """The pessimistic … optimistic band of a headline figure."""
    return f"{show(name, low)} … {show(name, high)}"
