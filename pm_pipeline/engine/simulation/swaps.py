"""Full sets: a dollar becomes one contract of each outcome, and one of each becomes a dollar again.

Nobody is on the other side, so the price is certain: the evidence is the venue's ``rule``. In the ledger a
split is a purchase of every outcome at its part of the dollar, a merge a sale of every outcome at its part.
"""

from functools import partial
from typing import Final, NamedTuple

from pm_pipeline.engine.money.fees import FeeModel, Liquidity
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.signals import Action, Signal
from pm_pipeline.engine.simulation.core import Core, Priority
from pm_pipeline.engine.simulation.desk import decision_id
from pm_pipeline.engine.simulation.state import MarketRun, Order
from pm_pipeline.engine.venue.execution import Execution, Refused
from pm_pipeline.engine.venue.exits import EndedBy
from pm_pipeline.engine.venue.tape import Evidence
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro, from_micro

ALLOWED: Final = {
    Venue.POLYMARKET: {Action.SPLIT, Action.MERGE},
    Venue.KALSHI: {Action.MERGE},
}
"""What a venue does. Kalshi takes YES and NO of one market against each other; it sells no sets."""


class _Asked(NamedTuple):
    """A command on its way: how many sets (0: all), when it was decided, and the fees that held then."""

    signal: Signal
    size: Micro
    decided_at: Nanos
    model: FeeModel


class Swaps:
    """Splits and merges of a simulation. They arrive after our latency."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def send(self, run: MarketRun, signal: Signal, now: Nanos) -> Refused | None:
        """Ask for a split or a merge of ``signal.size`` sets; a merge without one takes all there are."""
        if signal.action not in ALLOWED.get(run.market.key.venue, set()):
            return Refused(Reason.NO_SETS, f"{run.market.key.venue} has no {signal.action}")
        refused = self._core.desk.leave(run, 0, now)
        size = signal.size or 0
        if signal.action is Action.SPLIT:
            allowed = self._core.desk.split(run, size, now)
            if isinstance(allowed, Refused):
                return allowed
            size = allowed.stake
        elif refused is not None:
            return refused
        asked = _Asked(signal, size, now, self._core.fees(run, now))
        run.swaps += 1
        act = self._split if signal.action is Action.SPLIT else self._merge
        self._core.push(now + self._core.terms.latency, Priority.SELL, run, partial(act, run, asked))
        return None

    def _split(self, run: MarketRun, asked: _Asked, now: Nanos) -> None:
        run.swaps -= 1
        size, core, count = asked.size, self._core, len(run.market.instruments)
        if not run.loaded:
            self._refuse(run, now, Reason.MARKET_CLOSED, "it closed before the split came")
        elif size > core.ledger.available:
            free = from_micro(core.ledger.available)
            self._refuse(run, now, Reason.INSUFFICIENT_CASH, f"${free:f} free, ${from_micro(size):f} due")
        else:
            for outcome in range(count):
                cost = size // count + (outcome < size % count)
                order = self._order(run, asked, outcome, Side.BUY, size, now)
                core.desk.sent(run, order)
                core.bought(run, order, _certain(size, cost), now)
                core.end_order(run, order, now)

    def _merge(self, run: MarketRun, asked: _Asked, now: Nanos) -> None:
        run.swaps -= 1
        core, outcomes = self._core, range(len(run.market.instruments))
        if not run.loaded:
            self._refuse(run, now, Reason.MARKET_CLOSED, "it closed before the merge came")
            return
        held = [core.ledger.position(run.holding(outcome)) for outcome in outcomes]
        sets = min(
            position.size - run.committed(outcome) for outcome, position in zip(outcomes, held, strict=True)
        )
        size = asked.size or sets
        if not 0 < size <= sets:
            said = f"{from_micro(size):f} sets to merge, {from_micro(max(sets, 0)):f} are held and free"
            self._refuse(run, now, Reason.NO_POSITION, said)
            return
        costs = [position.cost_of(size) for position in held]
        left = size
        for outcome in outcomes:
            last = outcome == outcomes[-1]
            part = left if last else _part(size, costs, outcome)
            left -= part
            order = self._order(run, asked, outcome, Side.SELL, size, now)
            core.sold(run, order, _certain(size, part), now)
            core.end_order(run, order, now)

    def _order(
        self, run: MarketRun, asked: _Asked, outcome: int, side: Side, size: Micro, now: Nanos
    ) -> Order:
        order = Order(
            order_id=f"{decision_id(self._core.strategy, run, asked.decided_at)}/{run.number()}",
            outcome=outcome,
            side=side,
            reason=EndedBy.SET,
            decided_at=asked.decided_at,
            arrived_at=now,
            limit=None,
            model=asked.model,
            decision_price=run.tape(outcome).mid_known_at(asked.decided_at),
            entry=asked.signal if side is Side.BUY else None,
            asked=size,
        )
        run.orders.append(order)
        return order

    def _refuse(self, run: MarketRun, now: Nanos, reason: Reason, detail: str) -> None:
        self._core.reject(run, None, now, Refused(reason, detail))


def _part(size: Micro, costs: list[Micro], outcome: int) -> Micro:
    """The part of a merged dollar that belongs to an outcome: as its cost is to that of the set."""
    whole = sum(costs)
    return size * costs[outcome] // whole if whole else size // len(costs)


def _certain(size: Micro, cash: Micro) -> Execution:
    return Execution(size, cash * MICRO // size, cash, 0, Evidence.RULE, size, 0, Liquidity.NONE)
