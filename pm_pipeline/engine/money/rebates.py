"""What resting orders may earn back: an estimate beside the result, never part of it.

Polymarket gives makers a share of the fees that takers paid, market by market, once a day. A maker's part is
its fee equivalent (what a taker would have paid for the same fill) over that of all makers. The pool is a
share of the same fees, so the part comes to ``maker_rebate`` times the own fee equivalent; since a taker pays
at the average price of its match, the true pool is not smaller. Source: docs.polymarket.com, "Maker Rebates
Program".
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import pyarrow as pa

from pm_pipeline.engine.money.fees import Liquidity, maker_rebate
from pm_pipeline.markets.clock import day_of, to_nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.markets.units import MICRO, Micro

MINIMUM_PAYMENT: Final[Micro] = MICRO
"""Less than a dollar is not paid out; it stays accrued."""


class Rebate(NamedTuple):
    """What the resting fills of one UTC day in one market may earn, in micro-dollars."""

    day: str
    market_key: str
    estimate: Micro


class Payment(NamedTuple):
    """One day's account: what was due once the day had ended, and what of it was paid."""

    day: str
    due: Micro
    paid: Micro


def estimate_rebates(fills: pa.Table, markets: Mapping[str, Market], rules: RuleBook) -> list[Rebate]:
    """The rebates of all maker fills, in the order of day and market.

    Parameters
    ----------
    fills
        Rows of ``backtest.fills`` of one strategy under one scenario.
    markets
        The markets by their keys.
    rules
        The dated rules; a fill counts by the rule in force when it traded.

    Raises
    ------
    NoRuleError
        when the rules do not reach back to a fill.
    """
    found: dict[tuple[str, str], Micro] = {}
    for row in fills.select(("market_key", "ts", "price", "size", "liquidity")).to_pylist():
        at = to_nanos(row["ts"])
        rule = rules.fee(markets[row["market_key"]], at)
        if row["liquidity"] == Liquidity.MAKER and rule.maker_rebate:
            key = day_of(at), row["market_key"]
            found[key] = found.get(key, 0) + maker_rebate(rule, row["price"], row["size"])
    return [Rebate(day, market, estimate) for (day, market), estimate in sorted(found.items())]


def payments(rebates: Iterable[Rebate]) -> list[Payment]:
    """The rebates as they would be paid: all markets together, once a dollar or more is due."""
    due_on: dict[str, Micro] = {}
    for rebate in rebates:
        due_on[rebate.day] = due_on.get(rebate.day, 0) + rebate.estimate
    result, left = [], 0
    for day, earned in sorted(due_on.items()):
        due = left + earned
        paid = due if due >= MINIMUM_PAYMENT else 0
        left = due - paid
        result.append(Payment(day, due, paid))
    return result
