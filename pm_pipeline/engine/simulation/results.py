"""The rows a simulation writes, as they come, and as the declared tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pm_pipeline.engine.money.ledger import Equity
from pm_pipeline.engine.risk.decisions import RiskEvent
from pm_pipeline.engine.simulation.state import MarketRun, Order, Trip
from pm_pipeline.engine.venue.execution import Execution
from pm_pipeline.engine.venue.exits import EndedBy
from pm_pipeline.engine.venue.tape import weakest
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import Micro
from pm_pipeline.warehouse.records import to_table
from pm_pipeline.warehouse.schema import table

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SimResult:
    """What came of a run under one scenario, each in its declared schema and order.

    ``stamp`` is ``OPTIMISTIC`` where the latency lay below the truthful floor, else empty.
    """

    orders: pa.Table
    fills: pa.Table
    rejections: pa.Table
    trips: pa.Table
    equity: pa.Table
    risk_events: pa.Table
    stamp: str


@dataclass(slots=True)
class Rows:
    """Rows in the making; times in nanoseconds. ``common`` is added to each."""

    common: Row
    orders: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    rejections: list[Row] = field(default_factory=list)
    trips: list[Row] = field(default_factory=list)
    equity: list[Row] = field(default_factory=list)
    risk_events: list[Row] = field(default_factory=list)

    def order(self, run: MarketRun, order: Order) -> None:
        """An order that is done."""
        self.orders.append(
            {
                "market_key": run.key,
                "outcome_index": order.outcome,
                "order_id": order.order_id,
                "decided_at": order.decided_at,
                "arrived_at": order.arrived_at,
                "side": str(order.side),
                "reason": str(order.reason),
                "size": order.asked,
                "filled": order.filled,
                "limit_price": order.limit,
                "ended": order.ended or ("filled" if order.filled else "open"),
            }
        )

    def fill(self, run: MarketRun, order: Order, found: Execution, now: Nanos) -> None:
        """One match of an order."""
        sign, mid = (1 if order.side is Side.BUY else -1), order.decision_price
        self.fills.append(
            {
                "market_key": run.key,
                "outcome_index": order.outcome,
                "order_id": order.order_id,
                "ts": now,
                "side": str(order.side),
                "price": found.price,
                "size": found.size,
                "cash": -sign * found.cash,
                "fee": found.fee,
                "liquidity": str(found.liquidity),
                "evidence": str(found.evidence),
                "decision_price": mid,
                "slippage": None if mid is None else sign * (found.price - mid),
            }
        )

    def rejection(self, run: MarketRun, outcome: int | None, at: Nanos, reason: str, detail: str) -> None:
        """Something that was wanted and not done."""
        self.rejections.append(
            {
                "market_key": run.key,
                "outcome_index": outcome,
                "ts": at,
                "reason": str(reason),
                "detail": detail,
            }
        )

    def risk_event(self, event: RiskEvent) -> None:
        """What the risk manager refused, trimmed or changed."""
        request = event.request
        self.risk_events.append(
            {
                "ts": event.ts,
                "number": len(self.risk_events),
                "kind": str(event.kind),
                "rule": str(event.code.step),
                "reason": str(event.code),
                "value": event.value,
                "limit_value": event.limit,
                "market_key": str(request.slot.market_key) if request else None,
                "outcome_index": request.slot.outcome_index if request else None,
                "decision_id": request.decision_id if request else None,
                "detail": event.detail,
                "state_before": str(event.before),
                "state_after": str(event.after),
            }
        )

    def trip(
        self,
        run: MarketRun,
        trip: Trip,
        exited_at: Nanos,
        ended_by: EndedBy,
        payout: Micro | None,
        *,
        hindsight_close: bool,
    ) -> None:
        """A round trip that has ended, or is still open at the end of the run."""
        self.trips.append(
            {
                "market_key": run.key,
                "outcome_index": trip.outcome,
                "group_key": run.market.group_key,
                "entered_at": trip.entered_at,
                "exited_at": exited_at,
                "size": trip.size,
                "cost": trip.cost,
                "proceeds": trip.proceeds,
                "fees": trip.fees,
                "pnl": trip.proceeds - trip.cost - trip.fees,
                "ended_by": str(ended_by),
                "payout": payout,
                "p_hat": trip.entry.p_hat,
                "p_market": trip.p_market,
                "closing_price": trip.closing_price,
                "evidence": str(weakest(trip.evidence)),
                "hindsight_close": hindsight_close,
            }
        )

    def mark(self, at: Nanos, equity: Equity) -> None:
        """The bankroll at a tick of the equity clock."""
        self.equity.append(
            {
                "ts": at,
                "cash": equity.cash,
                "positions": equity.positions,
                "locked": equity.locked,
                "equity": equity.total,
                "open_positions": equity.open_positions,
            }
        )

    def result(self, stamp: str) -> SimResult:
        """The tables, sorted, so that the order in which markets were given leaves no trace."""
        return SimResult(
            self._table("backtest.orders", self.orders),
            self._table("backtest.fills", self.fills),
            self._table("backtest.rejections", self.rejections),
            self._table("backtest.trips", self.trips),
            self._table("backtest.portfolio_equity", self.equity),
            self._table("backtest.risk_events", self.risk_events),
            stamp,
        )

    def _table(self, name: str, rows: list[Row]) -> pa.Table:
        declared = table(name)
        # one strategy and one scenario, so the rest of the key, then enough to leave nothing to chance
        keys = [k for k in declared.sorted_by if k not in self.common]
        keys += ["market_key", "outcome_index", "detail"]
        ordered = sorted(rows, key=lambda row: [(row[k] is None, row[k]) for k in keys if k in row])
        whole = [{**self.common, **row} for row in ordered]
        return to_table(name, {c.name: [row[c.name] for row in whole] for c in declared.columns})
