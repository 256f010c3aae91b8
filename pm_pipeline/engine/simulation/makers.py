"""Orders that rest in a recorded book: sent, amended, taken back, and filled when their turn comes.

The kernel plays the queue. This module keeps the money of it: a bid reserves what it may cost, a resting sale
never offers more than is held. Between two events of a market the kernel is asked when something next happens
to an order of ours, so that one bankroll sees the fills of all markets in the order of time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pm_pipeline.engine.kernel import REASONS, Code, NewOrder, Session, Status, TimeInForce
from pm_pipeline.engine.money.fees import FeeModel, FillLeg, Liquidity
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.signals import Signal
from pm_pipeline.engine.simulation.core import Core, Priority
from pm_pipeline.engine.simulation.desk import decision_id
from pm_pipeline.engine.simulation.state import MarketRun, Order, Resting, Trip
from pm_pipeline.engine.venue.execution import Execution, Refused, size_for_stake, value
from pm_pipeline.engine.venue.exits import EndedBy
from pm_pipeline.engine.venue.tape import Evidence
from pm_pipeline.markets.book import Level
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro, divide, from_micro

FILLS_AHEAD: Final = 16
"""A bid keeps the rounding of this many fills in reserve, so that the next one can always be paid."""

_EVIDENCE: Final = (Evidence.L2, Evidence.TRADE)
_QUIET: Final = frozenset({Code.CANCELLED, Code.EXPIRED, Code.MARKET_CLOSED})
"""Ends that were asked for: the order's row says so, and nothing was refused."""


@dataclass(slots=True)
class _Read:
    """How many fills and reports of a session are booked."""

    fills: int = 0
    reports: int = 0


class Makers:
    """The resting side of a simulation."""

    def __init__(self, core: Core) -> None:
        self.opened: Callable[[MarketRun, Trip, Nanos], None] = lambda run, trip, now: None
        self._core = core
        self._read: dict[str, _Read] = {}

    # ------------------------------------------------------------------ commands

    def quote(self, run: MarketRun, signal: Signal, now: Nanos) -> Refused | None:
        """Let an order rest, or change the one of that name. Raises ``NoRuleError`` without a dated fee."""
        session = run.session
        if session is None:
            return Refused(Reason.NO_BOOK, "nothing tells where a resting order stands in the queue")
        price = signal.limit_price
        assert price is not None  # a checked signal
        live = self._named(run, signal)
        model = live.model if live is not None else self._core.fees(run, now)
        if signal.side is Side.BUY:
            found = self._bid(run, signal, live, model, price, now)
        else:
            found = self._offer(run, signal, live, now)
        if isinstance(found, Refused):
            return found
        size, stake = found
        if live is not None and live.resting is not None:
            session.amend(live.resting.number, now, price=price, size=live.filled + size)
            live.resting.changes += 1
            live.asked, live.limit = max(live.asked, live.filled + size), price
            self._reserve(run, live, max(stake, live.stake))
            self._core.push(session.arrives_at, Priority.MAKE, run, partial(self._changed, run, live))
        else:
            self._send(run, session, signal, model, price, size, stake, now)
        return None

    def cancel(self, run: MarketRun, signal: Signal, now: Nanos) -> Refused | None:
        """Take an order back; it is alive until the command arrives."""
        live = self._named(run, signal)
        if live is None:
            return Refused(Reason.ORDER_GONE, f"no order {signal.name!r} rests on that side")
        self._take_back(run, live, now)
        return None

    def withdraw(self, run: MarketRun, outcome: int, now: Nanos) -> None:
        """Take back all that rests of an outcome."""
        for order in list(run.orders):
            if order.outcome == outcome and order.resting is not None:
                self._take_back(run, order, now)

    def withdrawn_at(self, run: MarketRun, outcome: int) -> Nanos:
        """When the last resting sale of an outcome will have been taken back."""
        times = (o.resting.leaves_at for o in run.orders if o.resting is not None and o.outcome == outcome)
        return max((t for t in times if t is not None), default=0)

    def _take_back(self, run: MarketRun, order: Order, now: Nanos) -> None:
        if run.session is None or order.resting is None or order.resting.leaves_at is not None:
            return
        run.session.cancel(order.resting.number, now)
        order.resting.leaves_at = run.session.arrives_at

    def _named(self, run: MarketRun, signal: Signal) -> Order | None:
        """The live order that a signal speaks of; one that is being taken back is gone."""
        wanted = signal.outcome_index, signal.side, signal.name
        for order in run.orders:
            rests = order.resting
            if rests is None or rests.leaves_at is not None:
                continue
            if (order.outcome, order.side, rests.name) == wanted:
                return order
        return None

    def _bid(
        self,
        run: MarketRun,
        signal: Signal,
        live: Order | None,
        model: FeeModel,
        price: Micro,
        now: Nanos,
    ) -> tuple[Micro, Micro] | Refused:
        """How many contracts may rest, and what they reserve. The risk manager decides on what is new."""

        def fee(levels: Sequence[Level]) -> Micro:
            return sum(_most_fee(model, level.price, level.size) for level in levels)

        before = live.stake if live is not None else 0
        wanted = before if signal.stake is None else signal.stake
        if signal.size is not None:
            wanted = _need(model, price, signal.size)
        stake = wanted
        if wanted > before or live is None:
            more = wanted - before or None  # nothing said: the way of sizing decides
            allowed = self._core.desk.rest(run, signal, more, price, now, fee)
            if isinstance(allowed, Refused):
                return allowed
            stake = before + allowed.stake
        if signal.size is not None and stake >= wanted:
            return signal.size, wanted
        size = size_for_stake((Level(price, 2 * stake * MICRO // price),), stake, run.lot, fee)
        if not size:
            return Refused(Reason.BELOW_MIN_SIZE, f"${from_micro(stake):f} buys nothing at that price")
        return size, _need(model, price, size)

    def _offer(
        self, run: MarketRun, signal: Signal, live: Order | None, now: Nanos
    ) -> tuple[Micro, Micro] | Refused:
        """How many contracts may be offered: those held that no other sale offers."""
        outcome = signal.outcome_index
        refused = self._core.desk.leave(run, outcome, now)
        if refused is not None:
            return refused
        held = self._core.ledger.position(run.holding(outcome)).size
        own = live.asked - live.filled if live is not None else 0
        free = held - run.committed(outcome) + own
        size = free // run.lot * run.lot if signal.size is None else signal.size
        if not 0 < size <= free:
            said = f"{from_micro(size):f} contracts to sell, {from_micro(free):f} are held and free"
            return Refused(Reason.NO_POSITION, said)
        return size, 0

    def _send(
        self,
        run: MarketRun,
        session: Session,
        signal: Signal,
        model: FeeModel,
        price: Micro,
        size: Micro,
        stake: Micro,
        now: Nanos,
    ) -> None:
        core, outcome = self._core, signal.outcome_index
        expires = FOREVER if signal.expires_at is None else signal.expires_at
        number = session.submit(
            NewOrder(
                side=signal.side,
                size=size,
                price=price,
                outcome=outcome,
                tif=TimeInForce.GTC if expires == FOREVER else TimeInForce.GTD,
                post_only=signal.post_only,
                expires_at=expires,
                delay=0 if signal.post_only else core.rules.delay(run.market, now),
            ),
            now,
        )
        order = Order(
            order_id=f"{decision_id(core.strategy, run, now)}/{run.number()}",
            outcome=outcome,
            side=signal.side,
            reason=EndedBy.QUOTE,
            decided_at=now,
            arrived_at=session.arrives_at,
            limit=price,
            model=model,
            decision_price=run.tape(outcome).mid_known_at(now),
            entry=signal if signal.side is Side.BUY else None,
            expected=price,
            fees=model.open_order(),
            asked=size,
            resting=Resting(number, signal.name),
        )
        run.orders.append(order)
        if order.entry is not None:
            order.stake = stake
            core.ledger.reserve(stake)
            core.desk.sent(run, order)

    # ------------------------------------------------------------------ what happens

    def look_ahead(self, run: MarketRun) -> None:
        """Raise an event for the next thing that happens to a resting order, before anything else does.

        To be called after every event of a market.
        """
        if run.session is None or not any(order.resting is not None for order in run.orders):
            return
        until = min(run.due[0] if run.due else FOREVER, run.settlement.closed_at)
        at = run.session.peek(until)
        if at is not None and at != run.makes_at:
            run.makes_at = at
            self._core.push(at, Priority.MAKE, run, partial(self.collect, run))

    def collect(self, run: MarketRun, now: Nanos) -> None:
        """Book what has happened to resting orders up to now."""
        run.makes_at = None
        session = run.session
        if session is None or not any(order.resting is not None for order in run.orders):
            return
        session.advance(now)
        orders = {o.resting.number: o for o in run.orders if o.resting is not None}
        read = self._read.setdefault(run.key, _Read())
        fills, reports = session.fills[read.fills :], session.reports[read.reports :]
        read.fills, read.reports = len(session.fills), len(session.reports)
        for number, match in _matches(fills):
            if number in orders:
                self._fill(run, session, orders[number], match, now)
        for row in reports:
            order = orders.get(int(row["order"]))
            if order is not None:
                self._report(run, order, Code(int(row["code"])), ended=int(row["command"]) < 0, now=now)
        for order in orders.values():
            record = session.orders[0, order.resting.number] if order.resting is not None else None
            if record is not None and not order.done and int(record["status"]) == Status.DONE:
                order.ended = "filled"
                self._core.end_order(run, order, now)

    def _fill(self, run: MarketRun, session: Session, order: Order, match: Any, now: Nanos) -> None:
        core = self._core
        sizes, prices = match["size"].tolist(), match["price"].tolist()
        levels = [Level(price, size) for price, size in zip(prices, sizes, strict=True)]
        liquidity = Liquidity.MAKER if match["maker"][0] else Liquidity.TAKER
        assert order.fees is not None
        fee = order.fees.charge([FillLeg(x.price, x.size, order.side, liquidity) for x in levels])
        cash, size = value(levels, order.side), sum(sizes)
        buys = order.side is Side.BUY
        found = Execution(
            size,
            divide(cash * MICRO, size, "ceil" if buys else "floor"),
            cash,
            fee,
            _EVIDENCE[int(match["evidence"][0])],
            order.asked,
            int(session.stream.known_at[int(match["row"][-1])]),
            liquidity,
        )
        if not buys:
            core.sold(run, order, found, now)
            return
        trip = core.bought(run, order, found, now)
        rest = order.asked - order.filled
        need = _need(order.model, order.limit or 0, rest) if rest > 0 else 0
        room = order.stake + core.ledger.available
        self._reserve(run, order, min(need, room))
        if need > room:
            self._take_back(run, order, now)
        if trip is not None:
            self.opened(run, trip, now)

    def _report(self, run: MarketRun, order: Order, code: Code, *, ended: bool, now: Nanos) -> None:
        """An order ended, or a change of it was refused."""
        reason = REASONS[code]
        if not ended:
            self._core.reject(run, order.outcome, now, Refused(reason, reason.meaning))
            return
        order.ended = str(reason)
        refused = None if code in _QUIET else Refused(reason, reason.meaning)
        self._core.end_order(run, order, now, refused)

    def _changed(self, run: MarketRun, order: Order, now: Nanos) -> None:
        """A change has arrived: reserve what the order as it now rests may cost."""
        self.collect(run, now)
        if order.done or run.session is None or order.resting is None:
            return
        order.resting.changes -= 1
        if order.resting.changes or order.side is Side.SELL:
            return
        record = run.session.orders[0, order.resting.number]
        order.asked = int(record["size"])
        price = int(run.session.stream.grid.prices[int(record["level"])])
        order.limit = MICRO - price if order.outcome else price
        self._reserve(
            run, order, min(order.stake, _need(order.model, order.limit, order.asked - order.filled))
        )

    def _reserve(self, run: MarketRun, order: Order, stake: Micro) -> None:
        """Set aside so much for a resting bid from now on."""
        if order.entry is None:
            return
        change = stake - order.stake
        if change > 0:
            self._core.ledger.reserve(change)
        else:
            self._core.ledger.release(-change)
        self._core.desk.resized(run, order, change)
        order.stake = stake


def _matches(fills: Any) -> Iterator[tuple[int, Any]]:
    """The fills of each match, with the number of its order."""
    start = 0
    for n in range(1, len(fills) + 1):
        if n == len(fills) or fills["match"][n] != fills["match"][start]:
            yield int(fills["order"][start]), fills[start:n]
            start = n


def _most_fee(model: FeeModel, price: Micro, size: Micro) -> Micro:
    """The most that an order may pay in fees, taking or resting, in as many fills as are kept in reserve."""
    return max(
        model.max_fee(price, size, liquidity=liquidity, fills=FILLS_AHEAD)
        for liquidity in (Liquidity.TAKER, Liquidity.MAKER)
    )


def _need(model: FeeModel, price: Micro, size: Micro) -> Micro:
    """What a bid must have set aside."""
    return divide(price * size, MICRO, "ceil") + FILLS_AHEAD + _most_fee(model, price, size)
