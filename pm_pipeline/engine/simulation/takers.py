"""Orders that take: entries that trade at once or die, exits that stay until the position is sold."""

from functools import partial

from pm_pipeline.engine.kernel import lane_of
from pm_pipeline.engine.kernel.latency import named
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.signals import Signal
from pm_pipeline.engine.simulation.core import Core, Priority
from pm_pipeline.engine.simulation.desk import decision_id
from pm_pipeline.engine.simulation.makers import Makers
from pm_pipeline.engine.simulation.state import MarketRun, Order, Trip
from pm_pipeline.engine.venue.execution import Execution, Refused, Waiting
from pm_pipeline.engine.venue.exits import EndedBy, Trigger, first_exit
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.rules import NoRuleError
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import Micro, from_micro


class Takers:
    """The taking side of a simulation."""

    def __init__(self, core: Core, makers: Makers) -> None:
        self._core = core
        self._makers = makers
        self._latency = lane_of(core.terms).latency
        makers.opened = self.watch

    def enter(self, run: MarketRun, signal: Signal, now: Nanos) -> Refused | None:
        """Buy with a stake, if the risk manager lets it pass. Raises ``NoRuleError`` without a dated fee."""
        outcome = signal.outcome_index
        if outcome in run.trips or any(o.side is Side.BUY and o.outcome == outcome for o in run.orders):
            return Refused(Reason.POSITION_OPEN, "one position of an outcome at a time")
        allowed = self._core.desk.enter(run, signal, now)
        if isinstance(allowed, Refused):
            return allowed
        order = self._submit(run, now, outcome, Side.BUY, EndedBy.SIGNAL, limit=signal.limit_price)
        order.entry, order.stake, order.expected = signal, allowed.stake, allowed.price
        self._core.ledger.reserve(order.stake)
        self._core.desk.sent(run, order)
        return None

    def leave(
        self, run: MarketRun, outcome: int, now: Nanos, reason: EndedBy, **terms: Micro | None
    ) -> Refused | None:
        """Sell all of an outcome, if the risk manager lets it pass; what rests of it is taken back."""
        refused = self._core.desk.leave(run, outcome, now)
        if refused is None:
            self._makers.withdraw(run, outcome, now)
            self._submit(run, now, outcome, Side.SELL, reason, **terms)
        return refused

    def _submit(
        self,
        run: MarketRun,
        now: Nanos,
        outcome: int,
        side: Side,
        reason: EndedBy,
        *,
        limit: Micro | None = None,
        later_than: Nanos | None = None,
    ) -> Order:
        """Send an order; it meets the market after our latency and the venue's delay."""
        core = self._core
        order_id = f"{decision_id(core.strategy, run, now)}/{run.number()}"
        arrival = now + named(self._latency, order_id, core.config.seed)
        arrival += core.rules.delay(run.market, now)
        order = Order(
            order_id=order_id,
            outcome=outcome,
            side=side,
            reason=reason,
            decided_at=now,
            arrived_at=arrival,
            limit=limit,
            model=core.fees(run, arrival),
            decision_price=run.tape(outcome).mid_known_at(now),
            later_than=later_than,
        )
        run.orders.append(order)
        self._attempt_at(run, order, arrival)
        return order

    def _attempt_at(self, run: MarketRun, order: Order, at: Nanos) -> None:
        act, priority = (self._buy, Priority.BUY) if order.side is Side.BUY else (self._sell, Priority.SELL)
        self._core.push(at, priority, run, partial(act, run, order))

    def _alive(self, run: MarketRun, order: Order, now: Nanos) -> bool:
        """Whether the order may trade now; one that waited past a change of the fees gets the new ones."""
        if order.done:
            return False
        try:
            if now >= order.model.rule.valid_to:
                order.model, order.fees = self._core.fees(run, now), None
        except NoRuleError as error:
            self._core.end_order(run, order, now, Refused(Reason.NO_RULE, str(error)))
        return not order.done

    def _trigger(self, run: MarketRun, trip: Trip, trigger: Trigger, now: Nanos) -> None:
        if trip.ended:
            return
        try:
            refused = self.leave(run, trip.outcome, now, trigger.rule, later_than=trigger.quote_ts)
        except NoRuleError as error:
            refused = Refused(Reason.NO_RULE, str(error))
        if refused is not None:
            self._core.reject(run, trip.outcome, now, refused)

    def watch(self, run: MarketRun, trip: Trip, now: Nanos) -> None:
        """Follow the exit rules of a new position."""
        trigger = first_exit(run.tape(trip.outcome), now, trip.entry)
        if trigger is not None and trigger.at < run.settlement.closed_at:
            self._core.push(trigger.at, Priority.TRIGGER, run, partial(self._trigger, run, trip, trigger))

    def _buy(self, run: MarketRun, order: Order, now: Nanos) -> None:
        if order.entry is None or not self._alive(run, order, now):
            return
        whole = order.entry.all_or_none
        found = run.taker.buy(
            order.outcome, order.stake, order.limit, now, order.model, arrived=order.arrived_at, whole=whole
        )
        if isinstance(found, Waiting):
            self._wait(run, order, found, now, give_up=order.arrived_at + self._core.terms.config.max_wait)
            return
        order.asked = found.asked
        if isinstance(found, Refused):
            self._core.end_order(run, order, now, found)
            return
        trip = self._core.bought(run, order, found, now)
        self._core.end_order(run, order, now)
        if trip is not None:
            self.watch(run, trip, now)

    def _sell(self, run: MarketRun, order: Order, now: Nanos) -> None:
        if not self._alive(run, order, now):
            return
        core = self._core
        order.fees = order.fees or order.model.open_order()
        while True:
            trip, held = run.trips.get(order.outcome), core.ledger.position(run.holding(order.outcome)).size
            order.asked = max(order.asked, held)
            if trip is None:
                self._nothing_to_sell(run, order, now)
                return
            free = held - run.committed(order.outcome)
            if not free:
                # our own resting sales are being taken back; until then they may trade
                self._attempt_at(run, order, max(now + 1, self._makers.withdrawn_at(run, order.outcome)))
                return
            found = run.taker.sell(
                order.outcome,
                free,
                order.limit,
                now,
                order.fees,
                arrived=order.arrived_at,
                later_than=order.later_than,
                rest=order.filled > 0,
            )
            if isinstance(found, Execution) and found.fee - found.cash > core.ledger.available:
                found = Refused(Reason.INSUFFICIENT_CASH, f"the fee is ${from_micro(found.fee):f}")
            if isinstance(found, Waiting):
                self._wait(run, order, found, now, give_up=FOREVER)
                return
            if isinstance(found, Refused):
                core.end_order(run, order, now, found)
                return
            core.sold(run, order, found, now)
            if found.size == held:
                core.end_order(run, order, now)
                return

    def _nothing_to_sell(self, run: MarketRun, order: Order, now: Nanos) -> None:
        """The position is gone, or never came: an entry that still waits is called off."""
        waiting = [
            o for o in run.orders if o.side is Side.BUY and o.outcome == order.outcome and o.resting is None
        ]
        for entry in waiting:
            self._core.end_order(run, entry, now, Refused(Reason.CANCELLED, "an exit overtook the entry"))
        if waiting or order.filled:
            self._core.end_order(run, order, now)
        else:
            late = Refused(Reason.NO_POSITION, f"the {order.reason} exit came late")
            self._core.end_order(run, order, now, late)

    def _wait(self, run: MarketRun, order: Order, waiting: Waiting, now: Nanos, *, give_up: Nanos) -> None:
        if waiting.until >= run.settlement.closed_at or waiting.until > give_up:
            self._core.end_order(run, order, now, Refused(waiting.reason, waiting.detail, order.asked))
        else:
            self._attempt_at(run, order, waiting.until)
