"""Taker orders against one market: what is offered at a moment, and what an order takes of it.

Everything that trades is first written as price levels, best first: recorded depth (``l2``), a recorded best
bid or offer (``bbo``), a mid and a half-spread (``mid``), both with the size of the liquidity model, or our
share of what others traded (``trade``).
Then one walk fills them all. The rules are tables in ``docs/engine.md``.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pm_pipeline.engine.kernel import REASONS, Code, Session
from pm_pipeline.engine.money.fees import FeeModel, FillLeg, Liquidity, OrderFees
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.scenarios import QuoteRule, Terms
from pm_pipeline.engine.venue.tape import EVIDENCE, Evidence, Kind, OutcomeTape, Tape
from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.book import Level
from pm_pipeline.markets.clock import FOREVER, SECOND, Nanos
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro, divide, from_micro

Levels = tuple[Level, ...]


class Execution(NamedTuple):
    """What an order got in one match. ``asked`` is what it would have got at the best price alone.

    ``price`` is the average, rounded against us; ``cash`` is what the levels cost or brought, positive.
    ``known_at`` is when an outsider knew what the fill rests on.
    """

    size: Micro
    price: Micro
    cash: Micro
    fee: Micro
    evidence: Evidence
    asked: Micro
    known_at: Nanos = 0
    liquidity: Liquidity = Liquidity.TAKER


class Refused(NamedTuple):
    """The order is dead, and why. ``asked`` is its size in contracts, 0 where it came to no price."""

    reason: Reason
    detail: str
    asked: Micro = 0


class Waiting(NamedTuple):
    """Nothing can be traded on now; the next chance comes at ``until`` (:data:`FOREVER`: never).

    ``reason`` and ``detail`` are what to say if that is too late.
    """

    until: Nanos
    reason: Reason
    detail: str


class Depth(NamedTuple):
    """What an order may take at one moment, best price first."""

    levels: Levels
    evidence: Evidence


def take(levels: Sequence[Level], size: Micro) -> Levels:
    """The levels that an order of ``size`` contracts takes, best first; fewer where depth ends."""
    taken = []
    for level in levels:
        if size <= 0:
            break
        taken.append(Level(level.price, min(level.size, size)))
        size -= level.size
    return tuple(taken)


def value(levels: Sequence[Level], side: Side) -> Micro:
    """What these levels cost (rounded up) or bring (rounded down), in micro-dollars, before fees."""
    total = sum(level.price * level.size for level in levels)
    return divide(total, MICRO, "ceil" if side is Side.BUY else "floor")


def size_for_stake(
    levels: Sequence[Level], stake: Micro, lot: Micro, fee: Callable[[Sequence[Level]], Micro]
) -> Micro:
    """The largest size in whole lots whose price along the levels and fee fit into ``stake``.

    Never more than the levels hold. Cost and fee grow with size; where a venue's rounding makes a larger
    order a trifle cheaper, the result may be a lot short, but what it costs always fits.
    """

    def all_in(lots: int) -> Micro:
        taken = take(levels, lots * lot)
        return value(taken, Side.BUY) + fee(taken) if taken else 0

    if not levels:
        return 0
    most = min(sum(level.size for level in levels), stake * MICRO // levels[0].price) // lot
    return (bisect_right(range(most + 1), stake, key=all_in) - 1) * lot


class TakerMarket:
    """One market that takes our orders, under the terms of one scenario.

    Calls must come in the order of time. What our fills took of a level stays taken until a book event sets
    that level anew, and of a quote until the next quote.
    """

    def __init__(
        self,
        tape: Tape,
        terms: Terms,
        session: Session | None,
        *,
        outcomes: int,
        min_order_size: Micro,
        lot: Micro,
        closed_at: Nanos,
    ) -> None:
        self._tape = tape
        self._terms = terms
        self._binary = outcomes == 2
        self._lot = max(lot, terms.config.lot)
        self._min_size = max(min_order_size, self._lot)
        self._closed_at = closed_at
        self._session = session
        self._taken_quotes: dict[tuple[int, Side], tuple[Nanos, Micro]] = {}
        self._taken_prints: dict[int, Micro] = {}

    def buy(
        self,
        outcome: int,
        stake: Micro,
        limit: Micro | None,
        at: Nanos,
        model: FeeModel,
        *,
        arrived: Nanos | None = None,
        whole: bool = False,
    ) -> Execution | Refused | Waiting:
        """Spend up to ``stake``, fees included, at prices up to ``limit``; ``whole``: all or nothing.

        Of what others traded only what came after ``arrived`` counts.
        """
        depth = self._depth(outcome, Side.BUY, at, limit, None, arrived)
        if not isinstance(depth, Depth):
            return depth

        def fee(levels: Sequence[Level]) -> Micro:
            return model.open_order().charge(_legs(levels, Side.BUY))

        lot, best = self._lot, depth.levels[0].price
        asked = size_for_stake([Level(best, stake * MICRO // best)], stake, lot, fee)
        enough = depth.levels[0].size >= asked
        size = asked if enough else size_for_stake(depth.levels, stake, lot, fee)
        if asked < self._min_size or not size:
            spent, got = f"${from_micro(stake):f} buys {from_micro(asked):f}", from_micro(best)
            detail = f"{spent} at {got:f}, the minimum is {from_micro(self._min_size):f}"
            return Refused(Reason.BELOW_MIN_SIZE, detail, asked)
        endless = (*depth.levels, Level(depth.levels[-1].price, stake * MICRO))
        if whole and size_for_stake(endless, stake, lot, fee) > size:
            return Refused(Reason.NOT_ALL, "the depth ends before the stake", asked)
        taken = take(depth.levels, size)
        return self._done(outcome, Side.BUY, at, depth, taken, fee(taken), asked)

    def sell(
        self,
        outcome: int,
        size: Micro,
        limit: Micro | None,
        at: Nanos,
        order: OrderFees,
        *,
        arrived: Nanos | None = None,
        later_than: Nanos | None = None,
        rest: bool = False,
    ) -> Execution | Refused | Waiting:
        """Sell up to ``size`` contracts at prices from ``limit`` up.

        With ``later_than`` a quote counts only if it came after that moment (the one that set off the
        order). ``arrived`` is as in :meth:`buy`. ``rest`` marks what an earlier match left over, for which
        the venue's minimum is met.
        """
        if size < self._min_size and not rest:
            detail = f"{from_micro(size):f} contracts, the minimum is {from_micro(self._min_size):f}"
            return Refused(Reason.BELOW_MIN_SIZE, detail, size)
        depth = self._depth(outcome, Side.SELL, at, limit, later_than, arrived)
        if isinstance(depth, Refused):
            return depth._replace(asked=size)
        if isinstance(depth, Waiting):
            return depth
        taken = take(depth.levels, size)
        fee = order.charge(_legs(taken, Side.SELL))
        return self._done(outcome, Side.SELL, at, depth, taken, fee, size)

    def _depth(
        self,
        outcome: int,
        side: Side,
        at: Nanos,
        limit: Micro | None,
        later_than: Nanos | None,
        arrived: Nanos | None,
    ) -> Depth | Refused | Waiting:
        if self._tape.on_prints(outcome, at):
            since = max((t for t in (arrived, later_than) if t is not None), default=None)
            return self._executed(outcome, side, at, limit, since)
        tape = self._tape.outcome(outcome)
        i = tape.at(at)
        if i < 0:
            return _wait(tape, side, i, Reason.NO_QUOTE, "nothing was recorded before")
        kind = Kind(int(tape.touch.kind[i]))
        if kind is Kind.GAP:
            return _wait(tape, side, i, Reason.BOOK_GAP, "the book is lost here")
        if kind is not Kind.L2 and later_than is not None and int(tape.touch.ts[i]) <= later_than:
            return _wait(tape, side, i, Reason.NO_QUOTE, "no quote came after the one that set it off")
        if kind is Kind.L2 and self._session is not None:
            return self._book(self._session, outcome, side, at, limit, i)
        age = at - int(tape.touch.ts[i])
        if age > self._terms.config.max_quote_age:
            return _wait(tape, side, i, Reason.STALE_QUOTE, f"the last one is {age / SECOND:.0f} s old")
        best = tape.price(side, i)
        if best < 0:
            return _wait(tape, side, i, Reason.NO_QUOTE, "nobody quotes that side")
        levels = self._quote(tape, outcome, side, i)
        accepted = tuple(level for level in levels if _accepts(side, limit, level.price))
        if accepted:
            return Depth(accepted, EVIDENCE[kind])
        if limit is not None and not _accepts(side, limit, levels[0].price if levels else best):
            return _beyond(limit, levels[0].price if levels else best)
        return _wait(tape, side, i, Reason.NO_DEPTH, "we hold all that is displayed")

    def _quote(self, tape: OutcomeTape, outcome: int, side: Side, i: int) -> Levels:
        """One level: the quote of row ``i`` by the scenario's rule, of its own size or the declared one."""
        price, ts = tape.price(side, i), int(tape.touch.ts[i])
        if self._terms.quotes is QuoteRule.WORSE_OF_NEIGHBOURS:
            j = tape.next_row(side, i)
            if j is not None and tape.touch.ts[j] < self._closed_at:
                later = tape.price(side, j)
                price = max(price, later) if side is Side.BUY else min(price, later)
        taken_at, taken = self._taken_quotes.get(self._account(outcome, side), (ts, 0))
        dollars, shown = int(self._terms.config.depth_usd * self._terms.depth), tape.size(side, i)
        shown = shown if shown >= 0 else dollars * MICRO // price
        size = (shown - (taken if taken_at == ts else 0)) // self._lot * self._lot
        return (Level(price, size),) if size > 0 else ()

    def _executed(
        self, outcome: int, side: Side, at: Nanos, limit: Micro | None, since: Nanos | None
    ) -> Depth | Refused | Waiting:
        """Our share of what others traded at this moment, if it is later than ``since``."""
        offers = [] if since is not None and at <= since else self._offers(outcome, side, at)
        accepted = tuple(level for level, _ in offers if _accepts(side, limit, level.price))
        if accepted:
            return Depth(accepted, Evidence.TRADE)
        if offers and limit is not None:
            return _beyond(limit, offers[0][0].price)
        until = self._tape.prints(outcome, side).after(at)
        return Waiting(FOREVER if until is None else until, Reason.NO_PRINT, "nobody traded on that side")

    def _offers(self, outcome: int, side: Side, at: Nanos) -> list[tuple[Level, int]]:
        """What is left of our share of each execution of this moment, best price first, and its number.

        No price is better than a fresh quote of that moment.
        """
        prints, tape = self._tape.prints(outcome, side), self._tape.outcome(outcome)
        i, worse = tape.at(at), max if side is Side.BUY else min
        quoted = i >= 0 and Kind(int(tape.touch.kind[i])) in {Kind.MID, Kind.BBO} and tape.price(side, i) >= 0
        fresh = quoted and at - int(tape.touch.ts[i]) <= self._terms.config.max_quote_age
        share = self._terms.config.volume_share * self._terms.depth
        offers = []
        for row in prints.at(at):
            price, number = int(prints.price[row]), int(prints.number[row])
            price = worse(price, tape.price(side, i)) if fresh else price
            left = int(int(prints.size[row]) * share) - self._taken_prints.get(number, 0)
            if left >= self._lot:
                offers.append((Level(price, left // self._lot * self._lot), number))
        return sorted(offers, key=lambda offer: offer[0].price, reverse=side is Side.SELL)

    def _book(
        self, session: Session, outcome: int, side: Side, at: Nanos, limit: Micro | None, i: int
    ) -> Depth | Refused | Waiting:
        """The recorded depth less what our fills took of it."""
        found = session.depth(side, at, outcome=outcome, limit=limit)
        if not isinstance(found, Code):
            return Depth(found, Evidence.L2)
        reason, tape = REASONS[found], self._tape.outcome(outcome)
        if found is Code.PRICE_BEYOND_LIMIT and limit is not None:
            offered = session.depth(side, at, outcome=outcome)
            return _beyond(limit, tape.price(side, i) if isinstance(offered, Code) else offered[0].price)
        if found in {Code.NO_DEPTH, Code.SELF_CROSS}:
            return Waiting(self._next_message(at), reason, reason.meaning)
        return _wait(tape, side, i, reason, reason.meaning)

    def _done(
        self, outcome: int, side: Side, at: Nanos, depth: Depth, taken: Levels, fee: Micro, asked: Micro
    ) -> Execution:
        """Book what was taken, and say what the order got."""
        size, cash = sum(level.size for level in taken), value(taken, side)
        if depth.evidence is Evidence.L2 and self._session is not None:
            order = self._session.take(side, size, at, outcome=outcome, limit=taken[-1].price)
            if (filled := int(self._session.orders[0, order]["filled"])) != size:
                raise PipelineError(f"the book gave {filled} of {size} contracts (millionths) that it showed")
        elif depth.evidence is Evidence.TRADE:
            for level, (_, number) in zip(taken, self._offers(outcome, side, at), strict=False):
                self._taken_prints[number] = self._taken_prints.get(number, 0) + level.size
        else:
            tape = self._tape.outcome(outcome)
            account, ts = self._account(outcome, side), int(tape.touch.ts[tape.at(at)])
            taken_at, before = self._taken_quotes.get(account, (ts, 0))
            self._taken_quotes[account] = (ts, size + (before if taken_at == ts else 0))
        price = divide(cash * MICRO, size, "ceil" if side is Side.BUY else "floor")
        known_at = self._known_at(outcome, side, at, depth)
        return Execution(size, price, cash, fee, depth.evidence, asked, known_at)

    def _known_at(self, outcome: int, side: Side, at: Nanos, depth: Depth) -> Nanos:
        """Since when an outsider knew what a fill of this moment rests on."""
        if depth.evidence is Evidence.TRADE:
            prints = self._tape.prints(outcome, side)
            return max(int(prints.known_at[row]) for row in prints.at(at))
        tape = self._tape.outcome(outcome)
        return int(tape.touch.known_at[tape.at(at)])

    def _account(self, outcome: int, side: Side) -> tuple[int, Side]:
        """Whose depth a quote's taker takes: buying NO takes what a seller of YES would."""
        if outcome and self._binary:
            return 0, (Side.SELL if side is Side.BUY else Side.BUY)
        return outcome, side

    def _next_message(self, at: Nanos) -> Nanos:
        times = self._tape.log.ts
        n = int(np.searchsorted(times, at, side="right"))
        return int(times[n]) if n < len(times) else FOREVER


def _legs(levels: Sequence[Level], side: Side) -> list[FillLeg]:
    return [FillLeg(level.price, level.size, side) for level in levels]


def _accepts(side: Side, limit: Micro | None, price: Micro) -> bool:
    return limit is None or (price <= limit if side is Side.BUY else price >= limit)


def _beyond(limit: Micro, best: Micro) -> Refused:
    detail = f"the best is {from_micro(best):f}, the limit {from_micro(limit):f}"
    return Refused(Reason.PRICE_BEYOND_LIMIT, detail)


def _wait(tape: OutcomeTape, side: Side, i: int, reason: Reason, detail: str) -> Waiting:
    row = tape.next_row(side, i)
    return Waiting(FOREVER if row is None else int(tape.touch.ts[row]), reason, detail)
