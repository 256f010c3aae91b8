"""Trade-level statistics of closed round trips (table ``backtest.trips``).

Sums of money are exact integers of micro-dollars until the last division. An open trip has no result yet and
is never counted. A break-even trade is neither a win nor a loss.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pm_pipeline.markets.clock import DAY, HOUR, Nanos
from pm_pipeline.markets.units import MICRO
from pm_pipeline.research.figure import Figure, ratio, undefined
from pm_pipeline.research.returns import Floats, Ints

DAYS_PER_MONTH: Final = 30.436875
"""Mean length of a month of the Gregorian calendar."""

YEAR: Final = 365 * DAY

NOT_SOLD: Final = ("settlement", "void")
"""Ends of a trip that are no trade: the venue pays, nobody buys."""

_NO_TRADES: Final = "no closed trade"
_NO_TIME: Final = "the trades span no time"


@dataclass(frozen=True, slots=True)
class Trips:
    """Closed round trips as columns: money in micro-dollars, times in nanoseconds.

    ``event`` numbers the events: trips of one event are one bet.
    """

    entered: Ints
    exited: Ints
    cost: Ints
    proceeds: Ints
    fees: Ints
    pnl: Ints
    sold: NDArray[np.bool_]
    evidence: NDArray[np.str_]
    hindsight: NDArray[np.bool_]
    event: Ints

    @property
    def count(self) -> int:
        """How many trips."""
        return self.pnl.size

    @property
    def at_risk(self) -> Ints:
        """What each trip could lose: its cost and fees, locked from entry to exit."""
        return self.cost + self.fees

    @property
    def held(self) -> Ints:
        """How long each trip was held, nanoseconds."""
        return self.exited - self.entered

    @property
    def locked_time(self) -> float:
        """Sum of dollars at risk times years held."""
        return float(np.dot(self.at_risk / MICRO, self.held / YEAR))


def closed(trips: pa.Table) -> Trips:
    """The closed trips of a ``backtest.trips`` table; the caller picks strategy and scenario."""
    table = trips.filter(pc.not_equal(trips["ended_by"], "open"))

    def ints(name: str) -> Ints:
        return np.asarray(table[name].to_numpy(), dtype=np.int64)

    def nanos(name: str) -> Ints:
        return np.asarray(table[name].cast(pa.int64()).to_numpy(), dtype=np.int64) * 1000

    return Trips(
        entered=nanos("entered_at"),
        exited=nanos("exited_at"),
        cost=ints("cost"),
        proceeds=ints("proceeds"),
        fees=ints("fees"),
        pnl=ints("pnl"),
        sold=~np.isin(np.asarray(table["ended_by"].to_pylist(), dtype=np.str_), NOT_SOLD),
        evidence=np.asarray(table["evidence"].to_pylist(), dtype=np.str_),
        hindsight=np.asarray(table["hindsight_close"].to_numpy(), dtype=np.bool_),
        event=events(table),
    )


def events(trips: pa.Table) -> Ints:
    """Number the events of a table with ``group_key`` and ``market_key``; a market alone is its own event."""
    keys = pc.coalesce(trips["group_key"], trips["market_key"])
    codes = keys.combine_chunks().dictionary_encode().indices
    return np.asarray(codes.to_numpy(), dtype=np.int64)


def dollars(micro: Ints) -> float:
    """The exact sum of micro-dollars, in dollars."""
    return int(micro.sum()) / MICRO


def total_pnl(trips: Trips) -> Figure:
    """Profit after fees of all closed trips, dollars; 0 where nothing was traded."""
    return Figure(dollars(trips.pnl))


def win_rate(pnl: Ints | Floats) -> Figure:
    """Wins over wins and losses; break-even apart. Takes profits in any unit."""
    wins, losses = int((pnl > 0).sum()), int((pnl < 0).sum())
    return ratio(wins, wins + losses, "no trade won or lost")


def profit_factor(pnl: Ints | Floats) -> Figure:
    """Gross profit over gross loss: infinite where nothing lost, undefined where nothing won either."""
    gain, loss = pnl[pnl > 0].sum(), -pnl[pnl < 0].sum()
    if loss == 0:
        return Figure(np.inf, "no trade lost") if gain > 0 else undefined("no trade won or lost")
    return Figure(float(gain / loss))


def payoff_ratio(pnl: Ints | Floats) -> Figure:
    """Average win over average loss."""
    wins, losses = pnl[pnl > 0], pnl[pnl < 0]
    if wins.size == 0 or losses.size == 0:
        return undefined("needs a win and a loss")
    return Figure(float(wins.mean() / -losses.mean()))


def expectancy(trips: Trips) -> Figure:
    """Mean profit per trade after fees, dollars; break-even trades count."""
    return ratio(dollars(trips.pnl), trips.count, _NO_TRADES)


def average_win(trips: Trips) -> Figure:
    """Mean profit of the winning trades, dollars."""
    wins = trips.pnl[trips.pnl > 0]
    return ratio(dollars(wins), wins.size, "no trade won")


def average_loss(trips: Trips) -> Figure:
    """Mean profit of the losing trades, dollars; negative."""
    losses = trips.pnl[trips.pnl < 0]
    return ratio(dollars(losses), losses.size, "no trade lost")


def span(trips: Trips, start: Nanos | None = None, end: Nanos | None = None) -> tuple[Nanos, Nanos]:
    """The window asked for, its open ends set by the first entry and the last exit. Needs a trade."""
    return (
        int(trips.entered.min()) if start is None else start,
        int(trips.exited.max()) if end is None else end,
    )


def trades_per_month(trips: Trips, start: Nanos | None = None, end: Nanos | None = None) -> Figure:
    """Trades per mean month of 30.436875 days; the UTC days of both ends of the window count whole."""
    if trips.count == 0:
        return undefined(_NO_TRADES)
    first, last = span(trips, start, end)
    return Figure(trips.count / ((last // DAY - first // DAY + 1) / DAYS_PER_MONTH))


def average_holding(trips: Trips) -> Figure:
    """Mean time from entry to exit or payout, hours."""
    return ratio(float((trips.held / HOUR).sum()), trips.count, _NO_TRADES)


def fees_paid(trips: Trips) -> Figure:
    """Fees of all closed trips, dollars."""
    return Figure(dollars(trips.fees))


def fee_share(trips: Trips) -> Figure:
    """Fees as a share of the profit before fees; undefined where there is none to share."""
    gross = dollars(trips.pnl) + dollars(trips.fees)
    if gross <= 0:
        return undefined("there is no profit before fees")
    return Figure(dollars(trips.fees) / gross)


def return_on_cost(trips: Trips) -> Figure:
    """Profit over all dollars spent, fees included; a dollar used twice counts twice."""
    return ratio(dollars(trips.pnl), dollars(trips.at_risk), "no dollar was spent")


def return_on_locked(trips: Trips, start: Nanos | None = None, end: Nanos | None = None) -> Figure:
    """Profit over the average dollars locked in the window: ``pnl / (sum(locked * held) / window)``."""
    if trips.count == 0:
        return undefined(_NO_TRADES)
    first, last = span(trips, start, end)
    return ratio(dollars(trips.pnl) * ((last - first) / YEAR), trips.locked_time, "no dollar was locked")


def annual_return_on_locked(trips: Trips) -> Figure:
    """Profit per dollar locked for a year, not compounded: ``pnl / sum(locked dollars * years held)``."""
    return ratio(dollars(trips.pnl), trips.locked_time, "no dollar was locked")


def exposure(
    trips: Trips, average_equity: float, start: Nanos | None = None, end: Nanos | None = None
) -> Figure:
    """Average dollars at risk over average equity; cash alone is 0, everything at risk all the time is 1."""
    if trips.count == 0:
        return Figure(0.0)
    first, last = span(trips, start, end)
    if average_equity <= 0:
        return undefined("the average equity is not positive")
    return ratio(trips.locked_time / average_equity, (last - first) / YEAR, _NO_TIME)


def time_in_market(trips: Trips, start: Nanos | None = None, end: Nanos | None = None) -> Figure:
    """Share of the window in which at least one position was held."""
    if trips.count == 0:
        return undefined(_NO_TRADES)
    first, last = span(trips, start, end)
    order = np.argsort(trips.entered, kind="stable")
    entered = np.clip(trips.entered[order], first, last)
    until = np.maximum.accumulate(np.clip(trips.exited[order], first, last))
    covered = until - np.maximum(entered, np.concatenate(([first], until[:-1])))
    return ratio(float(np.maximum(covered, 0).sum()), last - first, _NO_TIME)


def turnover(trips: Trips, average_equity: float, years: float) -> Figure:
    """Dollars bought and sold over average equity and years; a payout at settlement is no trade."""
    if average_equity <= 0 or years <= 0:
        return undefined("the average equity or the time is not positive")
    traded = dollars(trips.cost) + dollars(trips.proceeds[trips.sold])
    return Figure(traded / average_equity / years)


def pnl_share(trips: Trips, evidence: str) -> Figure:
    """Profit of the trips that rest on this evidence, over all profit.

    The shares add up to 1; one is above 1 where another kind of evidence lost.
    """
    return ratio(dollars(trips.pnl[trips.evidence == evidence]), dollars(trips.pnl), "the profit is zero")


def hindsight_share(trips: Trips) -> Figure:
    """Share of the trips whose decision counted back from a close that was learned afterwards."""
    return ratio(int(trips.hindsight.sum()), trips.count, _NO_TRADES)
