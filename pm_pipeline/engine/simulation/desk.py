"""The desk of a simulation: it shows the risk manager what was known, and tells it what happened.

The manager decides, the simulation trades; between them the desk writes the snapshots. It looks at a market
only where a limit or the way of sizing needs it, and only at what was known at the decision.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

from pm_pipeline.engine.money.fees import FillLeg, fee_model
from pm_pipeline.engine.money.ledger import Ledger
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.risk import (
    Approved,
    Closes,
    Denied,
    FeeOf,
    Intent,
    MarketSnapshot,
    OrderRequest,
    RiskEvent,
    RiskManager,
    Slot,
    correlation,
    daily_closes,
)
from pm_pipeline.engine.scenarios import Terms
from pm_pipeline.engine.signals import Signal
from pm_pipeline.engine.simulation.state import MarketRun, Order, RunConfig, Trip
from pm_pipeline.engine.venue.execution import Execution, Refused
from pm_pipeline.engine.venue.exits import EndedBy
from pm_pipeline.engine.venue.tape import Kind
from pm_pipeline.markets.book import Level
from pm_pipeline.markets.clock import DAY, Nanos
from pm_pipeline.markets.market import tick_at
from pm_pipeline.markets.rules import RuleBook, TickRule
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro


class Books(Protocol):
    """What the desk asks of the simulation: its markets, and what they are worth."""

    ledger: Ledger
    runs: dict[str, MarketRun]

    def mark(self, run: MarketRun, outcome: int, now: Nanos) -> Micro:
        """What a position could be sold for, micro-dollars."""

    def equity(self, now: Nanos) -> Micro:
        """The bankroll with every position at its mark."""


@dataclass(slots=True)
class _Account:
    """The bankroll as it stands; its equity is worked out when it is first asked for."""

    ledger: Ledger
    value: Callable[[], Micro]
    kill_switch: bool = False

    @property
    def cash(self) -> Micro:
        return self.ledger.cash

    @property
    def available(self) -> Micro:
        return self.ledger.available

    @property
    def equity(self) -> Micro:
        return self.value()


class _Quote(NamedTuple):
    at: Nanos | None = None
    bid: Micro | None = None
    offers: tuple[Level, ...] = ()


class Desk:
    """One per simulation."""

    def __init__(
        self,
        config: RunConfig,
        terms: Terms,
        strategy: str,
        rules: RuleBook,
        books: Books,
        record: Callable[[RiskEvent], None],
    ) -> None:
        self.manager = RiskManager(
            config.risk,
            config.sizing,
            bankroll=config.bankroll,
            stake=config.stake,
            max_stake=config.max_stake_fraction,
            record=record,
        )
        self._limits = config.risk
        self._looks = config.risk.needs_quotes or config.sizing.needs_belief
        self._terms = terms
        self._strategy = strategy
        self._rules = rules
        self._books = books
        self._watched: Nanos | None = None
        self._valued: tuple[Nanos, tuple[Micro, Micro], Micro] | None = None

    # ------------------------------------------------------------------ what happens

    def watch(self, now: Nanos) -> None:
        """Follow the equity up to the event at ``now``, which has not happened yet: the end of each day, and
        the present where the last look is old enough.
        """
        if not self._limits.watches_equity:
            return
        if self._watched is None:
            self._watched = now
        while (end := self.manager.day_end(self._watched)) <= now:
            self.manager.observe(end - 1, self._books.equity(end - 1))
            self._watched = end
        if now - self._watched >= self._limits.revalue_every:
            self.manager.observe(now, self._equity(now))
            self._watched = now

    def sent(self, run: MarketRun, order: Order) -> None:
        """An entry is on its way."""
        self.manager.exposures.reserve(self._slot(run, order.outcome), order.stake)

    def resized(self, run: MarketRun, order: Order, change: Micro) -> None:
        """A resting entry reserves more than before, or less."""
        self.manager.exposures.resize(self._slot(run, order.outcome), change)

    def ended(self, run: MarketRun, order: Order) -> None:
        """An order is done; of an entry the stake is free again."""
        if order.entry is not None:
            self.manager.exposures.release(self._slot(run, order.outcome), order.stake)

    def bought(self, run: MarketRun, order: Order, found: Execution, now: Nanos) -> None:
        """An entry was filled."""
        self.manager.exposures.bought(self._slot(run, order.outcome), found.cash + found.fee)
        self.manager.entry_filled(now, order.expected, found.price)

    def left(self, run: MarketRun, outcome: int, size: Micro, held: Micro) -> None:
        """Contracts were sold, paid or refunded."""
        self.manager.exposures.sold(self._slot(run, outcome), size, held)

    def trip_ended(self, trip: Trip, now: Nanos, ended_by: EndedBy) -> None:
        """A round trip ended; one that the data leaves open has not."""
        if ended_by is not EndedBy.OPEN:
            self.manager.trip_ended(now, trip.proceeds - trip.cost - trip.fees)

    # ------------------------------------------------------------------ decisions

    def enter(self, run: MarketRun, signal: Signal, now: Nanos) -> Approved | Refused:
        """Whether an entry may be sent, and with which stake. Raises ``NoRuleError`` without a dated fee."""
        request = OrderRequest(
            slot=self._slot(run, signal.outcome_index),
            intent=Intent.ENTER,
            decision_id=decision_id(self._strategy, run, now),
            stake=signal.stake,
            p=signal.p_hat,
            p_se=signal.p_se,
        )
        return self._decide(request, self._seen(run, signal.outcome_index, signal.limit_price, now), now)

    def rest(
        self, run: MarketRun, signal: Signal, stake: Micro | None, price: Micro, now: Nanos, fee: FeeOf
    ) -> Approved | Refused:
        """Whether a bid may rest at ``price``, and with which stake; ``fee`` is what its fills may cost.

        It is judged as an entry that could have any size at its own price.
        """
        request = OrderRequest(
            slot=self._slot(run, signal.outcome_index),
            intent=Intent.ENTER,
            decision_id=decision_id(self._strategy, run, now),
            stake=stake if stake is not None else signal.stake,
            p=signal.p_hat,
            p_se=signal.p_se,
        )
        seen = self._seen(run, signal.outcome_index, price, now)
        return self._decide(request, replace(seen, offers=(Level(price, _PLENTY),), fee=fee), now)

    def split(self, run: MarketRun, size: Micro, now: Nanos) -> Approved | Refused:
        """Whether dollars may become full sets, and how many."""
        request = OrderRequest(
            slot=self._slot(run, 0),
            intent=Intent.ENTER,
            decision_id=decision_id(self._strategy, run, now),
            stake=size,
        )
        return self._decide(request, MarketSnapshot(scheduled_close=run.market.scheduled_close), now)

    def leave(self, run: MarketRun, outcome: int, now: Nanos) -> Refused | None:
        """Why an exit may not be sent; ``None``: it may."""
        request = OrderRequest(
            slot=self._slot(run, outcome),
            intent=Intent.EXIT,
            decision_id=decision_id(self._strategy, run, now),
        )
        found = self._decide(request, MarketSnapshot(), now)
        return found if isinstance(found, Refused) else None

    def _decide(self, request: OrderRequest, seen: MarketSnapshot, now: Nanos) -> Approved | Refused:
        account = _Account(self._books.ledger, lambda: self._equity(now))
        found = self.manager.decide(request, account, seen, now)
        if not isinstance(found, Denied):
            return found
        if (reason := _REASONS.get(str(found.code))) is not None:
            return Refused(reason, found.detail)
        return Refused(Reason.RISK_DENIED, f"{found.code}: {found.detail}")

    def _slot(self, run: MarketRun, outcome: int) -> Slot:
        return Slot(self._strategy, run.market.key, outcome, run.market.group_key)

    def _equity(self, now: Nanos) -> Micro:
        """The equity now, or one that is young enough."""
        ledger = self._books.ledger
        state = ledger.cash, ledger.open_cost
        if self._valued is not None:
            at, then, equity = self._valued
            if now - at < self._limits.revalue_every or (at, then) == (now, state):
                return equity
        equity = self._books.equity(now)
        self._valued = now, state, equity
        return equity

    # ------------------------------------------------------------------ what was known

    def _seen(self, run: MarketRun, outcome: int, limit: Micro | None, now: Nanos) -> MarketSnapshot:
        """The market as it was known at the decision, as far as anybody will ask; offers up to ``limit``."""
        close = run.market.scheduled_close
        if not self._looks:
            return MarketSnapshot(scheduled_close=close)
        rule = self._rules.tick(run.market, now)
        lot = max(rule.lot, self._terms.config.lot)
        model = fee_model(self._rules, run.market, now, self._terms.config.fees)

        def fee(levels: Sequence[Level]) -> Micro:
            return model.open_order().charge([FillLeg(price, size, Side.BUY) for price, size in levels])

        quote = self._quote(run, outcome, now, lot)
        offers = tuple(level for level in quote.offers if limit is None or level.price <= limit)
        mid = run.tape(outcome).mid_known_at(now)
        held = {o: self._books.ledger.position(run.holding(o)).size for o in run.trips}
        others = sum(size for o, size in held.items() if o != outcome)
        return MarketSnapshot(
            scheduled_close=close,
            quoted_at=quote.at,
            bid=quote.bid,
            price=None if mid is None else mid / MICRO,
            offers=offers,
            fee=fee,
            tick=_tick(rule, offers),
            lot=lot,
            min_size=max(rule.min_order_size, lot),
            traded_lately=self._traded(run, now),
            closes=self._closes(run, outcome, now) if self._limits.needs_closes else None,
            related=tuple(self._related(run, outcome, now)),
            held_value=sum(self._books.mark(run, o, now) for o in held),
            held_if_won=held.get(outcome, 0),
            held_if_lost=others if len(run.market.instruments) == 2 else 0,
        )

    def _quote(self, run: MarketRun, outcome: int, now: Nanos, lot: Micro) -> _Quote:
        """The last thing that was both true and known: the book shown, or a quote with its declared depth."""
        tape = run.tape(outcome)
        touch, row = tape.touch, tape.at(now)
        while row >= 0 and touch.known_at[row] > now:
            row -= 1
        if row < 0:
            return _Quote()
        at, bid, ask = (int(column[row]) for column in (touch.ts, touch.bid, touch.ask))
        if touch.kind[row] == Kind.L2:
            book = run.view(now).book()
            if book is None:
                return _Quote(at)
            asks = (book.mirrored() if outcome else book).asks
            at, shown = book.ts, [(price, int(size * self._terms.depth)) for price, size in asks]
        else:
            dollars, size = int(self._terms.config.depth_usd * self._terms.depth), tape.size(Side.BUY, row)
            shown = [(ask, size if size >= 0 else dollars * MICRO // ask)] if ask > 0 else []
        offers = tuple(Level(p, size // lot * lot) for p, size in shown if size >= lot and 0 < p < MICRO)
        return _Quote(at, bid if bid > 0 else None, offers)

    def _traded(self, run: MarketRun, now: Nanos) -> Micro | None:
        """Contracts traded on the book within the window, as far as known."""
        if self._limits.volume_share is None:
            return None
        trades = run.view(now).trades()
        counted = (trades.ts > now - self._limits.volume_window) & ~trades.is_block
        return int(trades.size[counted].sum())

    def _closes(self, run: MarketRun, outcome: int, now: Nanos) -> Closes:
        """The daily closes before today; those of a market that no longer trades stay as they were."""
        day = now // DAY
        kept = run.closes.get(outcome)
        if kept is None or (kept[0] != day and run.loaded):
            kept = run.closes[outcome] = day, daily_closes(run.view(now).quotes(outcome), now)
        return kept[1]

    def _related(self, run: MarketRun, outcome: int, now: Nanos) -> Iterator[Slot]:
        """Held outcomes of other markets whose daily changes go with those of the candidate."""
        limit = self._limits.max_correlation
        if limit is None:
            return
        candidate = self._closes(run, outcome, now)
        for holding, _ in self._books.ledger.positions():
            other = self._books.runs[str(holding.market_key)]
            if other is run:
                continue
            closes = self._closes(other, holding.outcome_index, now)
            found = correlation(candidate, closes, self._limits.min_common_days)
            if found is not None and found > limit:
                yield self._slot(other, holding.outcome_index)


def decision_id(strategy: str, run: MarketRun, now: Nanos) -> str:
    """What the ids of the orders of one decision begin with."""
    return f"{strategy}/{run.key}/{now // 1000}"


_PLENTY: Final[Micro] = 10**9 * MICRO
"""More contracts than anybody rests."""

_REASONS: Final = {str(reason): reason for reason in Reason}
"""Codes of the manager that say what the simulation has a reason for already."""


def _tick(rule: TickRule, offers: Sequence[Level]) -> Micro:
    return tick_at(rule.ranges, offers[0].price) if offers else rule.ranges[0].step
