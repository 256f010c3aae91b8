"""One bankroll against one market or thousands: a simulator of events in the order of time.

A market's data is loaded when it is first needed and let go when trading in it has ended, so memory is
bounded by the markets open at once. Several scenarios run side by side over one reading of the data.
Resolutions are consulted to close markets and to pay, never for a fill.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from pm_pipeline.engine.money.settlement import payout_amounts
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.scenarios import Scenario
from pm_pipeline.engine.signals import Action, Signal, SignalError, Signals, Skip
from pm_pipeline.engine.simulation.core import Core, Priority
from pm_pipeline.engine.simulation.makers import Makers
from pm_pipeline.engine.simulation.results import SimResult
from pm_pipeline.engine.simulation.shared import shared
from pm_pipeline.engine.simulation.state import MarketInput, MarketRun, RunConfig
from pm_pipeline.engine.simulation.swaps import Swaps
from pm_pipeline.engine.simulation.takers import Takers
from pm_pipeline.engine.venue.execution import Refused
from pm_pipeline.engine.venue.exits import EndedBy
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, Nanos, format_time
from pm_pipeline.markets.rules import NoRuleError, RuleBook

Window = tuple[Nanos, Nanos]


def simulate(
    inputs: Iterable[MarketInput],
    config: RunConfig,
    scenario: Scenario,
    *,
    strategy: str,
    run_id: str,
    rules: RuleBook | None = None,
    window: Window | None = None,
) -> SimResult:
    """Run one strategy on all markets with one bankroll, under one scenario.

    Equity is recorded over ``window`` even while nothing happens: a bankroll that waits for months before
    its first trade has earned nothing in them, and strategies are only comparable over the same time.

    Raises
    ------
    UsageError
        where a market is given twice.
    SignalError
        where a signal names an outcome that its market does not have.
    """
    (result,) = simulate_scenarios(
        inputs, config, (scenario,), strategy=strategy, run_id=run_id, rules=rules, window=window
    ).values()
    return result


def simulate_scenarios(
    inputs: Iterable[MarketInput],
    config: RunConfig,
    scenarios: Sequence[Scenario] = tuple(Scenario),
    *,
    strategy: str,
    run_id: str,
    rules: RuleBook | None = None,
    window: Window | None = None,
) -> dict[Scenario, SimResult]:
    """The same as :func:`simulate` under several scenarios, in one pass over the data.

    Each has its own bankroll and knows nothing of the others; what is read of a market is read once.
    """
    given = shared(inputs)
    book = rules or RuleBook.default()
    runs = {
        scenario: _Simulation(Core(config, scenario, strategy, run_id, book), given, window)
        for scenario in scenarios
    }
    while due := [run for run in runs.values() if run.next_at is not None]:
        min(due, key=_next).step()
    return {scenario: run.finish() for scenario, run in runs.items()}


class _Simulation:
    """One scenario of a run."""

    def __init__(self, core: Core, inputs: Iterable[MarketInput], window: Window | None) -> None:
        self._core = core
        self._makers = Makers(core)
        self._takers = Takers(core, self._makers)
        self._swaps = Swaps(core)
        self._window = window
        self._end: Nanos | None = None
        for given in inputs:
            self._admit(given)
        times = [*(window or ()), *([] if core.next_at is None else [core.next_at])]
        if times:
            core.record(min(times) // DAY * DAY)
            self._end = max(times)

    @property
    def next_at(self) -> Nanos | None:
        """When its next event happens."""
        return self._core.next_at

    def step(self) -> None:
        """Play one event."""
        core = self._core
        now, _, _, _, run, act = core.pop()
        core.desk.watch(now)
        core.record_before(now)
        before = core.ledger.cash, core.ledger.open_cost
        act(now)
        if (core.ledger.cash, core.ledger.open_cost) != before:
            core.moved_at = now
        self._makers.look_ahead(run)
        self._look(run)
        if run.idle:
            run.release()
        self._end = now if self._end is None else max(self._end, now)

    # ------------------------------------------------------------------ decisions

    def _admit(self, given: MarketInput) -> None:
        run = MarketRun(given)
        signals = given.signals if isinstance(given.signals, Signals) else Signals()
        for signal in signals:
            self._check(run, signal)
        for skip in signals.skipped:
            self._pass_over(run, skip)
        if run.key in self._core.runs:
            raise UsageError(f"{run.key} was given twice; a run holds each market once")
        self._core.runs[run.key] = run
        if run.make_decider is not None:
            self._core.push(self._opens(run), Priority.DECIDE, run, partial(self._load, run))
        else:
            self._look(run)

    def _opens(self, run: MarketRun) -> Nanos:
        """When a strategy that goes along begins to look at a market."""
        opened_at = run.market.opened_at
        if opened_at is None:
            first = run.load().first_known
            opened_at = 0 if first is None else first
        return max(opened_at, self._window[0]) if self._window else opened_at

    def _check(self, run: MarketRun, signal: Signal) -> None:
        outcomes = len(run.market.instruments)
        if signal.outcome_index >= outcomes:
            raise SignalError(f"{run.key} has no outcome {signal.outcome_index}, only 0 to {outcomes - 1}")

    def _pass_over(self, run: MarketRun, skip: Skip) -> None:
        self._core.rows.rejection(run, skip.outcome_index, skip.ts, skip.reason, skip.detail)

    def _look(self, run: MarketRun) -> None:
        """Ask who decides on a market when to come back."""
        if run.make_decider is not None:
            return
        at = run.decider.next(run.due[0] if run.due else _FAR)
        if at is not None and (run.looks_at is None or at < run.looks_at):
            run.looks_at = at
            self._core.push(at, Priority.DECIDE, run, partial(self._decide, run))

    def _decide(self, run: MarketRun, now: Nanos) -> None:
        run.looks_at = None
        found = run.decider.decide(now)
        if isinstance(found, Skip):
            self._pass_over(run, found)
        elif found is not None:
            self._check(run, found)
            refusal = self._barred(run, now) or self._obey(run, found, now)
            if refusal is not None:
                self._core.reject(run, found.outcome_index, now, refusal)

    def _barred(self, run: MarketRun, now: Nanos) -> Refused | None:
        settlement, opened_at = run.settlement, run.market.opened_at
        if now >= settlement.paid_at:
            return Refused(Reason.AFTER_RESOLUTION, f"paid at {format_time(settlement.paid_at)}")
        if now >= settlement.closed_at:
            return Refused(Reason.MARKET_CLOSED, f"trading ended at {format_time(settlement.closed_at)}")
        if opened_at is not None and now < opened_at:
            return Refused(Reason.NOT_OPEN, f"trading began at {format_time(opened_at)}")
        return None

    def _obey(self, run: MarketRun, signal: Signal, now: Nanos) -> Refused | None:
        try:
            self._load(run, now)
            match signal.action:
                case Action.ENTER:
                    return self._takers.enter(run, signal, now)
                case Action.EXIT:
                    limit = signal.limit_price
                    return self._takers.leave(run, signal.outcome_index, now, EndedBy.SIGNAL, limit=limit)
                case Action.QUOTE:
                    return self._makers.quote(run, signal, now)
                case Action.CANCEL:
                    return self._makers.cancel(run, signal, now)
                case Action.SPLIT | Action.MERGE:
                    return self._swaps.send(run, signal, now)
        except NoRuleError as error:
            return Refused(Reason.NO_RULE, str(error))

    # ------------------------------------------------------------------ the end of a market

    def _load(self, run: MarketRun, now: Nanos) -> None:
        self._core.load(run, now, partial(self._close, run), partial(self._pay, run))

    def _close(self, run: MarketRun, now: Nanos) -> None:
        """Trading ends: orders die, positions wait for their payment at their last mark."""
        self._makers.collect(run, now)
        for order in list(run.orders):
            closed = Refused(Reason.MARKET_CLOSED, "it closed before the order came")
            self._core.end_order(run, order, now, closed)
        run.decider.end(now)
        run.frozen = {o: self._core.mark(run, o, now) for o in run.trips}
        self._core.ledger.lock(run.market.key)
        run.release()

    def _pay(self, run: MarketRun, now: Nanos) -> None:
        """The payout or the refund arrives."""
        if not run.trips:
            return
        core, payouts, venue = self._core, run.settlement.payouts, run.market.key.venue
        if payouts is None:
            credits = core.ledger.refund(run.market.key)
        else:
            held = {o: core.ledger.position(run.holding(o)).size for o in run.trips}
            credits = core.ledger.settle(run.market.key, payout_amounts(payouts, held, venue))
        for outcome, trip in sorted(run.trips.items()):
            trip.proceeds += credits[outcome].proceeds
            core.desk.left(run, outcome, credits[outcome].size, credits[outcome].size)
            ended_by = EndedBy.VOID if payouts is None else EndedBy.SETTLEMENT
            core.end_trip(run, trip, now, ended_by, None if payouts is None else payouts[outcome])

    def finish(self) -> SimResult:
        """Mark what is still open at the last thing known of it, never at a guess of how it ends."""
        core = self._core
        if self._end is not None:
            open_runs = [run for _, run in sorted(core.runs.items()) if run.trips or run.orders]
            end = max([self._end, *(run.last_ts for run in open_runs)])
            core.record_before(end)
            core.record(end)
            for run in open_runs:
                for order in list(run.orders):
                    order.ended = "open"
                    core.end_order(run, order, end)
                for outcome, trip in sorted(run.trips.items()):
                    trip.proceeds += core.mark(run, outcome, end)
                    core.end_trip(run, trip, max(run.last_ts, trip.entered_at), EndedBy.OPEN)
        return core.rows.result(core.terms.stamp)


_FAR: Final[Nanos] = 2**62


def _next(run: _Simulation) -> Nanos:
    at = run.next_at
    assert at is not None
    return at
