"""One bankroll against one market or thousands: a simulator of events in the order of time.

Events at one moment run in the order of :class:`Priority`, then by market key, then as they were raised
within the market; the order in which markets are given changes nothing. A market's data is loaded at its
first signal and let go when trading in it has ended, so memory is bounded by the markets open at once.
Resolutions are consulted to close markets and to pay, never for a fill.
"""

from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import partial
from heapq import heappop, heappush

from pm_pipeline.engine.desk import Desk, decision_id
from pm_pipeline.engine.execution import Execution, Refused, TakerMarket, Waiting
from pm_pipeline.engine.exits import EndedBy, Trigger, first_exit
from pm_pipeline.engine.fees import FeeModel, fee_model
from pm_pipeline.engine.ledger import Equity, Ledger
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.results import Rows, SimResult
from pm_pipeline.engine.scenarios import Scenario
from pm_pipeline.engine.settlement import payout_value
from pm_pipeline.engine.signals import Action, Signal, SignalError
from pm_pipeline.engine.state import MarketInput, MarketRun, Order, RunConfig, Trip
from pm_pipeline.engine.tape import Tape
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, FOREVER, Nanos, format_time
from pm_pipeline.markets.market import ScheduleEvidence
from pm_pipeline.markets.rules import NoRuleError, RuleBook
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro, from_micro

_Event = tuple[Nanos, "Priority", str, int, MarketRun, Callable[[Nanos], None]]
"""When, priority, market key, number within the market (the order ends here), whose, what to do."""


class Priority(IntEnum):
    """Which event of one moment comes first.

    Trading ends, money comes in, exits free cash and entries use it. The equity clock sees all of them.
    """

    CLOSE = 0
    PAY = 1
    SELL = 2
    BUY = 3
    TRIGGER = 4
    DECIDE = 5


def simulate(
    inputs: Iterable[MarketInput],
    config: RunConfig,
    scenario: Scenario,
    *,
    strategy: str,
    run_id: str,
    rules: RuleBook | None = None,
    window: tuple[Nanos, Nanos] | None = None,
) -> SimResult:
    """Run one strategy's signals on all markets with one bankroll, under one scenario.

    Equity is recorded over ``window`` even while nothing happens: a bankroll that waits for months before
    its first trade has earned nothing in them, and strategies are only comparable over the same time.

    Raises
    ------
    UsageError
        where a market is given twice.
    SignalError
        where a signal names an outcome that its market does not have.
    """
    simulation = _Simulation(config, scenario, strategy, run_id, rules or RuleBook.default())
    return simulation.run(inputs, window)


class _Simulation:
    def __init__(
        self, config: RunConfig, scenario: Scenario, strategy: str, run_id: str, rules: RuleBook
    ) -> None:
        self.config = config
        self.terms = config.execution.under(scenario)
        self.strategy = strategy
        self.rules = rules
        self.ledger = Ledger(config.bankroll)
        self.rows = Rows({"strategy": strategy, "scenario": str(scenario), "run_id": run_id})
        self.runs: dict[str, MarketRun] = {}
        self.heap: list[_Event] = []
        self.last_record = 0
        self.desk = Desk(config, self.terms, strategy, rules, self, self.rows.risk_event)

    def run(self, inputs: Iterable[MarketInput], window: tuple[Nanos, Nanos] | None) -> SimResult:
        for given in inputs:
            self._admit(given)
        times = [*(window or ()), *(event[0] for event in self.heap[:1])]
        if times:
            now = min(times)
            self._record(now // DAY * DAY)
            while self.heap:
                now, _, _, _, run, act = heappop(self.heap)
                self.desk.watch(now)
                self._record_midnights_before(now)
                act(now)
                if run.idle:
                    run.release()
            self._finish(max(now, *times))
        return self.rows.result(self.terms.stamp)

    # ------------------------------------------------------------------ events

    def _push(self, at: Nanos, priority: Priority, run: MarketRun, act: Callable[[Nanos], None]) -> None:
        heappush(self.heap, (at, priority, run.key, run.number(), run, act))

    def _admit(self, given: MarketInput) -> None:
        run = MarketRun(given)
        outcomes = len(run.market.instruments)
        for signal in given.signals:
            if signal.outcome_index >= outcomes:
                raise SignalError(
                    f"{run.key} has no outcome {signal.outcome_index}, only 0 to {outcomes - 1}"
                )
        for skip in given.signals.skipped:
            self._reject(run, skip.outcome_index, skip.ts, skip.reason, skip.detail)
        if run.key in self.runs:
            raise UsageError(f"{run.key} was given twice; a run holds each market once")
        self.runs[run.key] = run
        if len(run.signals):
            self._push(run.signals[0].ts, Priority.DECIDE, run, partial(self._decide, run))

    def _decide(self, run: MarketRun, now: Nanos) -> None:
        signal = run.signals[run.next_signal]
        run.next_signal += 1
        if run.next_signal < len(run.signals):
            at = run.signals[run.next_signal].ts
            self._push(at, Priority.DECIDE, run, partial(self._decide, run))
        refusal = self._barred(run, signal, now) or self._submit_signal(run, signal, now)
        if refusal is not None:
            self._reject(run, signal.outcome_index, now, refusal.reason, refusal.detail)

    def _barred(self, run: MarketRun, signal: Signal, now: Nanos) -> Refused | None:
        settlement, opened_at = run.settlement, run.market.opened_at
        if now >= settlement.paid_at:
            return Refused(Reason.AFTER_RESOLUTION, f"paid at {format_time(settlement.paid_at)}")
        if now >= settlement.closed_at:
            return Refused(Reason.MARKET_CLOSED, f"trading ended at {format_time(settlement.closed_at)}")
        if opened_at is not None and now < opened_at:
            return Refused(Reason.NOT_OPEN, f"trading began at {format_time(opened_at)}")
        if signal.action is Action.ENTER and self._engaged(run, signal.outcome_index):
            return Refused(Reason.POSITION_OPEN, "one position of an outcome at a time")
        return None

    def _engaged(self, run: MarketRun, outcome: int) -> bool:
        entries = (o for o in run.orders if o.side is Side.BUY and o.outcome == outcome)
        return outcome in run.trips or any(entries)

    def _submit_signal(self, run: MarketRun, signal: Signal, now: Nanos) -> Refused | None:
        outcome, limit = signal.outcome_index, signal.limit_price
        try:
            self._load(run, now)
            if signal.action is Action.EXIT:
                return self._leave(run, outcome, now, EndedBy.SIGNAL, limit=limit)
            allowed = self.desk.enter(run, signal, now)
            if isinstance(allowed, Refused):
                return allowed
            order = self._submit(run, now, outcome, Side.BUY, EndedBy.SIGNAL, limit=limit)
        except NoRuleError as error:
            return Refused(Reason.NO_RULE, str(error))
        order.entry, order.stake, order.expected = signal, allowed.stake, allowed.price
        self.ledger.reserve(order.stake)
        self.desk.sent(run, order)
        return None

    def _leave(
        self, run: MarketRun, outcome: int, now: Nanos, reason: EndedBy, **terms: Micro | None
    ) -> Refused | None:
        """Send an exit, if the risk manager lets it pass."""
        refused = self.desk.leave(run, outcome, now)
        if refused is None:
            self._submit(run, now, outcome, Side.SELL, reason, **terms)
        return refused

    def _load(self, run: MarketRun, now: Nanos) -> None:
        if run.loaded:
            return
        tick = self.rules.tick(run.market, now)
        data = run.load()
        tape = Tape(data, tick.ranges, self.terms)
        taker = TakerMarket(
            tape,
            self.terms,
            outcomes=len(run.market.instruments),
            min_order_size=tick.min_order_size,
            lot=tick.lot,
            closed_at=run.settlement.closed_at,
        )
        run.open(tape, taker, data)
        if run.settlement.closed_at < FOREVER:
            self._push(run.settlement.closed_at, Priority.CLOSE, run, partial(self._close, run))
        if run.settlement.paid_at < FOREVER:
            self._push(run.settlement.paid_at, Priority.PAY, run, partial(self._pay, run))

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
        arrival = now + self.terms.latency + self.rules.delay(run.market, now)
        order = Order(
            order_id=f"{decision_id(self.strategy, run, now)}/{run.number()}",
            outcome=outcome,
            side=side,
            reason=reason,
            decided_at=now,
            arrived_at=arrival,
            limit=limit,
            model=self._fees(run, arrival),
            decision_price=run.tape(outcome).mid_known_at(now),
            later_than=later_than,
        )
        run.orders.append(order)
        self._attempt_at(run, order, arrival)
        return order

    def _fees(self, run: MarketRun, at: Nanos) -> FeeModel:
        return fee_model(self.rules, run.market, at, self.terms.config.fees)

    def _alive(self, run: MarketRun, order: Order, now: Nanos) -> bool:
        """Whether the order may trade now; one that waited past a change of the fees gets the new ones."""
        if order.done:
            return False
        try:
            if now >= order.model.rule.valid_to:
                order.model, order.fees = self._fees(run, now), None
        except NoRuleError as error:
            self._end_order(run, order, now, Refused(Reason.NO_RULE, str(error)))
        return not order.done

    def _attempt_at(self, run: MarketRun, order: Order, at: Nanos) -> None:
        act, priority = (self._buy, Priority.BUY) if order.side is Side.BUY else (self._sell, Priority.SELL)
        self._push(at, priority, run, partial(act, run, order))

    def _trigger(self, run: MarketRun, trip: Trip, trigger: Trigger, now: Nanos) -> None:
        if trip.ended:
            return
        try:
            refused = self._leave(run, trip.outcome, now, trigger.rule, later_than=trigger.quote_ts)
        except NoRuleError as error:
            refused = Refused(Reason.NO_RULE, str(error))
        if refused is not None:
            self._reject(run, trip.outcome, now, refused.reason, refused.detail)

    def _buy(self, run: MarketRun, order: Order, now: Nanos) -> None:
        if order.entry is None or not self._alive(run, order, now):
            return
        found = run.taker.buy(order.outcome, order.stake, order.limit, now, order.model)
        if isinstance(found, Waiting):
            self._wait(run, order, found, now, give_up=order.arrived_at + self.terms.config.max_wait)
            return
        order.asked = found.asked
        if isinstance(found, Refused):
            self._end_order(run, order, now, found)
            return
        order.filled = found.size
        self._end_order(run, order, now)
        self.ledger.buy(run.holding(order.outcome), found.size, found.cash, found.fee)
        self.desk.bought(run, order, found, now)
        self.rows.fill(run, order, found, now)
        run.trips[order.outcome] = trip = Trip.of(run, order, order.entry, found, now)
        trigger = first_exit(run.tape(order.outcome), now, order.entry)
        if trigger is not None and trigger.at < run.settlement.closed_at:
            self._push(trigger.at, Priority.TRIGGER, run, partial(self._trigger, run, trip, trigger))

    def _sell(self, run: MarketRun, order: Order, now: Nanos) -> None:
        if not self._alive(run, order, now):
            return
        order.fees = order.fees or order.model.open_order()
        while True:
            trip, held = run.trips.get(order.outcome), self.ledger.position(run.holding(order.outcome)).size
            order.asked = max(order.asked, held)
            if trip is None:
                self._nothing_to_sell(run, order, now)
                return
            found = run.taker.sell(
                order.outcome,
                held,
                order.limit,
                now,
                order.fees,
                later_than=order.later_than,
                rest=order.filled > 0,
            )
            if isinstance(found, Execution) and found.fee - found.cash > self.ledger.available:
                found = Refused(Reason.INSUFFICIENT_CASH, f"the fee is ${from_micro(found.fee):f}")
            if isinstance(found, Waiting):
                self._wait(run, order, found, now, give_up=FOREVER)
                return
            if isinstance(found, Refused):
                self._end_order(run, order, now, found)
                return
            self.ledger.sell(run.holding(order.outcome), found.size, found.cash, found.fee)
            self.desk.left(run, order.outcome, found.size, held)
            self.rows.fill(run, order, found, now)
            order.filled += found.size
            trip.proceeds += found.cash
            trip.fees += found.fee
            trip.evidence.append(found.evidence)
            if found.size == held:
                self._end_trip(run, trip, now, order.reason)
                self._end_order(run, order, now)
                return

    def _nothing_to_sell(self, run: MarketRun, order: Order, now: Nanos) -> None:
        """The position is gone, or never came: an entry that still waits is called off."""
        entries = [o for o in run.orders if o.side is Side.BUY and o.outcome == order.outcome]
        for entry in entries:
            self._end_order(run, entry, now, Refused(Reason.CANCELLED, "an exit overtook the entry"))
        if entries or order.filled:
            self._end_order(run, order, now)
        else:
            self._end_order(
                run, order, now, Refused(Reason.NO_POSITION, f"the {order.reason} exit came late")
            )

    def _wait(self, run: MarketRun, order: Order, waiting: Waiting, now: Nanos, *, give_up: Nanos) -> None:
        if waiting.until >= run.settlement.closed_at or waiting.until > give_up:
            self._end_order(run, order, now, Refused(waiting.reason, waiting.detail, order.asked))
        else:
            self._attempt_at(run, order, waiting.until)

    def _close(self, run: MarketRun, now: Nanos) -> None:
        """Trading ends: orders die, positions wait for their payment at their last mark."""
        for order in list(run.orders):
            self._end_order(run, order, now, Refused(Reason.MARKET_CLOSED, "it closed before the order came"))
        run.frozen = {o: self.mark(run, o, now) for o in run.trips}
        self.ledger.lock(run.market.key)
        run.release()

    def _pay(self, run: MarketRun, now: Nanos) -> None:
        """The payout or the refund arrives."""
        if not run.trips:
            return
        payouts, venue = run.settlement.payouts, run.market.key.venue
        if payouts is None:
            credits = self.ledger.refund(run.market.key)
        else:
            held = {o: self.ledger.position(run.holding(o)).size for o in run.trips}
            amounts = {o: payout_value(payouts[o], size, venue) for o, size in held.items()}
            credits = self.ledger.settle(run.market.key, amounts)
        for outcome, trip in sorted(run.trips.items()):
            trip.proceeds += credits[outcome].proceeds
            self.desk.left(run, outcome, credits[outcome].size, credits[outcome].size)
            ended_by = EndedBy.VOID if payouts is None else EndedBy.SETTLEMENT
            self._end_trip(run, trip, now, ended_by, None if payouts is None else payouts[outcome])

    def _finish(self, now: Nanos) -> None:
        """Mark what is still open at the last thing known of it, never at a guess of how it ends."""
        open_runs = [run for _, run in sorted(self.runs.items()) if run.trips]
        end = max([now, *(run.last_ts for run in open_runs)])
        self._record_midnights_before(end)
        if self.last_record < end:
            self._record(end)
        for run in open_runs:
            for outcome, trip in sorted(run.trips.items()):
                trip.proceeds += self.mark(run, outcome, end)
                self._end_trip(run, trip, max(run.last_ts, trip.entered_at), EndedBy.OPEN)

    # ------------------------------------------------------------------ books and rows

    def mark(self, run: MarketRun, outcome: int, now: Nanos) -> Micro:
        """What a position could be sold for; its cost while nobody has bid since the data began."""
        if not run.loaded:
            return run.frozen[outcome]
        held = self.ledger.position(run.holding(outcome))
        price = run.tape(outcome).mark(now, self.terms.config.mark)
        return held.cost if price is None else price * held.size // MICRO

    def equity(self, now: Nanos) -> Micro:
        """The bankroll with every position at its mark."""
        return self._equity(now).total

    def _equity(self, now: Nanos) -> Equity:
        held = [holding for holding, _ in self.ledger.positions()]
        return self.ledger.equity(
            {h: self.mark(self.runs[str(h.market_key)], h.outcome_index, now) for h in held}
        )

    def _record(self, now: Nanos) -> None:
        self.rows.mark(now, self._equity(now))
        self.last_record = now

    def _record_midnights_before(self, t: Nanos) -> None:
        """A midnight is recorded once all its events have happened: when the next one is later."""
        while (midnight := self.last_record // DAY * DAY + DAY) < t:
            self._record(midnight)

    def _reject(self, run: MarketRun, outcome: int | None, at: Nanos, reason: str, detail: str) -> None:
        self.rows.rejection(run, outcome, at, reason, detail)

    def _end_order(self, run: MarketRun, order: Order, now: Nanos, refusal: Refused | None = None) -> None:
        order.done = True
        run.orders.remove(order)
        self.ledger.release(order.stake)
        self.desk.ended(run, order)
        if refusal is not None:
            order.asked = max(order.asked, refusal.asked)
            self._reject(run, order.outcome, now, refusal.reason, refusal.detail)
        self.rows.order(run, order)

    def _end_trip(
        self, run: MarketRun, trip: Trip, now: Nanos, ended_by: EndedBy, payout: Micro | None = None
    ) -> None:
        trip.ended = True
        del run.trips[trip.outcome]
        self.desk.trip_ended(trip, now, ended_by)
        counted_back = self.config.uses_schedule or self.config.risk.min_time_to_close is not None
        hindsight = run.market.schedule_evidence is ScheduleEvidence.HINDSIGHT and counted_back
        self.rows.trip(run, trip, now, ended_by, payout, hindsight_close=hindsight)
