"""What every part of a simulation works on: the queue of events, the ledger, the markets, the rows.

Events at one moment run in the order of :class:`Priority`, then by market key, then as they were raised
within the market; the order in which markets are given changes nothing.
"""

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from heapq import heappop, heappush
from typing import NamedTuple

from pm_pipeline.engine.forms.deciders import Fill
from pm_pipeline.engine.money.fees import FeeModel, booking, fee_model
from pm_pipeline.engine.money.ledger import Equity, Ledger
from pm_pipeline.engine.scenarios import Scenario
from pm_pipeline.engine.simulation.desk import Desk
from pm_pipeline.engine.simulation.results import Rows
from pm_pipeline.engine.simulation.state import MarketRun, Order, RunConfig, Trip
from pm_pipeline.engine.venue.books import open_book
from pm_pipeline.engine.venue.execution import Execution, Refused, TakerMarket
from pm_pipeline.engine.venue.exits import EndedBy
from pm_pipeline.engine.venue.grids import Grids
from pm_pipeline.engine.venue.tape import Tape
from pm_pipeline.markets.clock import DAY, FOREVER, Nanos
from pm_pipeline.markets.market import ScheduleEvidence
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro

Act = Callable[[Nanos], None]


class Priority(IntEnum):
    """Which event of one moment comes first.

    Trading ends, money comes in, what rested has traded, exits free cash and entries use it. Then strategies
    learn of their fills, and decide. The equity clock sees all of them.
    """

    CLOSE = 0
    PAY = 1
    MAKE = 2
    SELL = 3
    BUY = 4
    TRIGGER = 5
    TELL = 6
    DECIDE = 7


class Event(NamedTuple):
    """When, priority, market key, number within the market (the order ends here), whose, what to do."""

    at: Nanos
    priority: Priority
    key: str
    number: int
    run: MarketRun
    act: Act


class Core:
    """The state of a simulation under one scenario, and the steps that keep it whole."""

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
        self.desk = Desk(config, self.terms, strategy, rules, self, self.rows.risk_event)
        self._heap: list[Event] = []
        self.moved_at: Nanos | None = None
        self._last_record: Nanos = -1

    # ------------------------------------------------------------------ events

    def push(self, at: Nanos, priority: Priority, run: MarketRun, act: Act) -> None:
        """Raise an event of a market."""
        heappush(self._heap, Event(at, priority, run.key, run.number(), run, act))
        heappush(run.due, at)

    def pop(self) -> Event:
        """The next event of all; those of one market come in the order of their times."""
        event = heappop(self._heap)
        heappop(event.run.due)
        return event

    @property
    def next_at(self) -> Nanos | None:
        """When the next event happens."""
        return self._heap[0].at if self._heap else None

    # ------------------------------------------------------------------ markets

    def load(self, run: MarketRun, now: Nanos, close: Act, pay: Act) -> None:
        """Read the data of a market, unless they are there; ``close`` and ``pay`` are what its end does."""
        if run.loaded:
            return
        tick = self.rules.tick(run.market, now)
        data = run.load()
        tape = Tape(data, Grids.of(tick), self.terms)
        session = open_book(
            run.market,
            tape.log,
            data.trades,
            run.settlement,
            self.rules,
            self.terms,
            at=now,
            seed=self.config.seed,
        )
        taker = TakerMarket(
            tape,
            self.terms,
            session,
            outcomes=len(run.market.instruments),
            min_order_size=tick.min_order_size,
            lot=tick.lot,
            closed_at=run.settlement.closed_at,
        )
        run.open(tape, taker, session, data, max(tick.lot, self.terms.config.lot), now)
        if run.settlement.closed_at < FOREVER:
            self.push(run.settlement.closed_at, Priority.CLOSE, run, close)
        if run.settlement.paid_at < FOREVER:
            self.push(run.settlement.paid_at, Priority.PAY, run, pay)

    def fees(self, run: MarketRun, at: Nanos) -> FeeModel:
        """The fee model of a market at a moment. Raises ``NoRuleError`` where no rule reaches back."""
        return fee_model(self.rules, run.market, at, self.terms.config.fees)

    # ------------------------------------------------------------------ fills

    def bought(self, run: MarketRun, order: Order, found: Execution, now: Nanos) -> Trip | None:
        """Book what an order bought, less a fee taken in contracts; the trip, where it began one."""
        traded = found.size
        booked = booking(order.model.rule, Side.BUY, found.size, found.cash, found.fee)
        found = found._replace(size=booked.contracts, cash=booked.cash)
        self.ledger.buy(run.holding(order.outcome), found.size, found.cash, found.fee)
        self.desk.bought(run, order, found, now)
        self._filled(run, order, found, traded, now)
        trip = run.trips.get(order.outcome)
        if trip is not None:
            trip.add(found)
            return None
        assert order.entry is not None
        run.trips[order.outcome] = trip = Trip.of(run, order, order.entry, found, now)
        return trip

    def sold(self, run: MarketRun, order: Order, found: Execution, now: Nanos) -> None:
        """Book what an order sold; selling the last contract ends the trip."""
        held = self.ledger.position(run.holding(order.outcome)).size
        self.ledger.sell(run.holding(order.outcome), found.size, found.cash, found.fee)
        self.desk.left(run, order.outcome, found.size, held)
        self._filled(run, order, found, found.size, now)
        trip = run.trips[order.outcome]
        trip.proceeds += found.cash
        trip.fees += found.fee
        trip.evidence.append(found.evidence)
        if found.size == held:
            self.end_trip(run, trip, now, order.reason)

    def _filled(self, run: MarketRun, order: Order, found: Execution, traded: Micro, now: Nanos) -> None:
        order.filled += traded
        self.rows.fill(run, order, found, now)
        if run.decider.listens:
            name = order.resting.name if order.resting is not None else ""
            fill = Fill(order.outcome, order.side, found.price, found.size, found.fee, now, name)
            told = max(now + self.terms.latency, found.known_at)
            self.push(told, Priority.TELL, run, partial(run.decider.told, fill))

    def reject(self, run: MarketRun, outcome: int | None, at: Nanos, refusal: Refused) -> None:
        """Something that was wanted and not done becomes a row."""
        self.rows.rejection(run, outcome, at, refusal.reason, refusal.detail)

    def end_order(self, run: MarketRun, order: Order, now: Nanos, refusal: Refused | None = None) -> None:
        """The order trades no more; a refusal becomes a row."""
        order.done = True
        run.orders.remove(order)
        self.ledger.release(order.stake)
        self.desk.ended(run, order)
        if refusal is not None:
            order.asked = max(order.asked, refusal.asked)
            order.ended = order.ended or str(refusal.reason)
            self.reject(run, order.outcome, now, refusal)
        self.rows.order(run, order)

    def end_trip(
        self, run: MarketRun, trip: Trip, now: Nanos, ended_by: EndedBy, payout: Micro | None = None
    ) -> None:
        """A position is gone, or the run is over."""
        trip.ended = True
        del run.trips[trip.outcome]
        self.desk.trip_ended(trip, now, ended_by)
        counted_back = self.config.uses_schedule or self.config.risk.min_time_to_close is not None
        hindsight = run.market.schedule_evidence is ScheduleEvidence.HINDSIGHT and counted_back
        self.rows.trip(run, trip, now, ended_by, payout, hindsight_close=hindsight)

    # ------------------------------------------------------------------ marks

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

    def record(self, now: Nanos) -> None:
        """Write the equity at a moment, unless it is written already."""
        if now > self._last_record:
            self.rows.mark(now, self._equity(now))
            self._last_record = now

    def record_before(self, t: Nanos) -> None:
        """Write the equity at the last moment at which money moved, and at each midnight before ``t``.

        A moment is recorded once all its events have happened: when the next one is later.
        """
        if self.moved_at is not None and self.moved_at < t:
            self.record(self.moved_at)
            self.moved_at = None
        while (midnight := self._last_record // DAY * DAY + DAY) < t:
            self.record(midnight)
