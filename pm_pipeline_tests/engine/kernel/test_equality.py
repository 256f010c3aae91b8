"""The kernel against the plain Python beside it: the same books, the same touches, the same fills."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.engine import ExecutionConfig, Scenario
from pm_pipeline.engine.kernel import Session, Stream, touches
from pm_pipeline.engine.money.fees import FeeModel, FeeModelName, FillLeg, fee_model
from pm_pipeline.engine.money.settlement import Settlement
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.scenarios import Terms
from pm_pipeline.engine.venue.books import open_book
from pm_pipeline.engine.venue.execution import (
    Execution,
    Refused,
    TakerMarket,
    Waiting,
    size_for_stake,
    take,
    value,
)
from pm_pipeline.engine.venue.grids import Grids
from pm_pipeline.engine.venue.tape import Kind, Tape, venue_order
from pm_pipeline.markets import MICRO, Book, Level, Market, Side
from pm_pipeline.markets.clock import FOREVER, SECOND, parse_time
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.warehouse import table
from pm_pipeline.warehouse.arrays import ASK, BID, GAP, LEVEL, RESET, BookLog
from pm_pipeline.warehouse.asof import MarketData
from pm_pipeline.warehouse.replay import BookReplay
from pm_pipeline_tests.engine.builders import CENT, market
from pm_pipeline_tests.engine.kernel.scripts import book_log

RULES = RuleBook.default()
T0 = parse_time("2026-08-20T00:00:00Z")
LOT = CENT


class PlainMarket:
    """The rules of taking in a few lines of plain Python, with dictionaries for books; the truth to hold to.

    What we took of a level stays taken until a message sets that level anew.
    """

    def __init__(self, log: BookLog, terms: Terms, minimum: int) -> None:
        self.log, self.terms, self.minimum = venue_order(log), terms, max(minimum, LOT)
        self.replay = BookReplay(self.log, "ts")
        self.read = 0
        self.taken: dict[tuple[int, int], int] = {}

    def buy(self, outcome: int, stake: int, limit: int | None, at: int, model: FeeModel) -> tuple[Any, ...]:
        levels = self.levels(outcome, Side.BUY, at, limit)
        if isinstance(levels, Reason):
            return (levels,)

        def fee(taken: Any) -> int:
            return model.open_order().charge([FillLeg(x.price, x.size, Side.BUY) for x in taken])

        best = levels[0].price
        asked = size_for_stake([Level(best, stake * MICRO // best)], stake, LOT, fee)
        size = asked if levels[0].size >= asked else size_for_stake(levels, stake, LOT, fee)
        if asked < self.minimum or not size:
            return (Reason.BELOW_MIN_SIZE,)
        return self.book(outcome, Side.BUY, take(levels, size), model)

    def sell(self, outcome: int, size: int, limit: int | None, at: int, model: FeeModel) -> tuple[Any, ...]:
        if size < self.minimum:
            return (Reason.BELOW_MIN_SIZE,)
        levels = self.levels(outcome, Side.SELL, at, limit)
        if isinstance(levels, Reason):
            return (levels,)
        return self.book(outcome, Side.SELL, take(levels, size), model)

    def levels(self, outcome: int, side: Side, at: int, limit: int | None) -> Reason | list[Level]:
        read, self.read = self.read, int(np.searchsorted(self.log.ts, at, side="right"))
        for n in range(read, self.read):
            if self.log.kind[n] == LEVEL:
                self.taken.pop((int(self.log.side[n]), int(self.log.price[n])), None)
            else:
                self.taken.clear()
        book = self.replay.advance(at)
        if book is None or not (book.bids or book.asks):
            return Reason.BOOK_GAP
        if at - int(self.log.ts[self.read - 1]) > self.terms.config.max_quote_age:
            return Reason.STALE_QUOTE
        mine = book.mirrored() if outcome else book
        shown = mine.asks if side is Side.BUY else mine.bids
        if not shown or not 0 < shown[0].price < MICRO:
            return Reason.NO_QUOTE
        found = []
        for price, size in shown:
            left = int(size * self.terms.depth) - self.taken.get(self.key(outcome, side, price), 0)
            if (lots := left // LOT * LOT) > 0 and 0 < price < MICRO:
                found.append(Level(price, lots))

        def accepts(price: int) -> bool:
            return limit is None or (price <= limit if side is Side.BUY else price >= limit)

        if accepted := [level for level in found if accepts(level.price)]:
            return accepted
        first = found[0].price if found else shown[0].price
        return Reason.NO_DEPTH if accepts(first) else Reason.PRICE_BEYOND_LIMIT

    def book(self, outcome: int, side: Side, taken: Sequence[Level], model: FeeModel) -> tuple[Any, ...]:
        for price, size in taken:
            key = self.key(outcome, side, price)
            self.taken[key] = self.taken.get(key, 0) + size
        fee = model.open_order().charge([FillLeg(x.price, x.size, side) for x in taken])
        return sum(x.size for x in taken), value(taken, side), fee

    def key(self, outcome: int, side: Side, price: int) -> tuple[int, int]:
        hit = ASK if (side is Side.BUY) != (outcome == 1) else BID
        return hit, MICRO - price if outcome else price


class KernelMarket:
    """The engine's own way: the kernel's session behind the market that takes orders."""

    def __init__(self, log: BookLog, of: Market, terms: Terms, minimum: int) -> None:
        data = MarketData(of, lambda name: table(name).arrow.empty_table())
        data.__dict__["book_log"] = log
        self.tape = Tape(data, Grids(of.ticks), terms)
        session = open_book(of, self.tape.log, data.trades, Settlement.of(None), RULES, terms, at=T0)
        self.market = TakerMarket(
            self.tape, terms, session, outcomes=2, min_order_size=minimum, lot=LOT, closed_at=FOREVER
        )

    def buy(self, outcome: int, stake: int, limit: int | None, at: int, model: FeeModel) -> tuple[Any, ...]:
        return _answer(self.market.buy(outcome, stake, limit, at, model))

    def sell(self, outcome: int, size: int, limit: int | None, at: int, model: FeeModel) -> tuple[Any, ...]:
        return _answer(self.market.sell(outcome, size, limit, at, model.open_order()))


def _answer(found: Execution | Refused | Waiting) -> tuple[Any, ...]:
    if isinstance(found, Execution):
        return found.size, found.cash, found.fee
    return (found.reason,)


@st.composite
def logs(draw: st.DrawFn) -> BookLog:
    """Books with gaps, crossings, snapshots and messages of several rows; prices from 0 to 1."""
    rows: list[tuple[int, int, int, int, int, int]] = []
    ts, seq = T0, 0
    for _ in range(draw(st.integers(1, 25))):
        ts += draw(st.sampled_from([0, 1, SECOND, 400 * SECOND, 1200 * SECOND]))
        seq += 1
        kind = draw(st.sampled_from(["levels", "levels", "levels", "snapshot", "gap"]))
        if kind == "gap" or not rows:
            rows.append((ts, seq, GAP if kind == "gap" else RESET, -1, -1, -1))
            continue
        if kind == "snapshot":
            rows.append((ts, seq, RESET, -1, -1, -1))
        for _ in range(draw(st.integers(1, 5))):
            side = draw(st.integers(0, 1))
            cents = draw(st.integers(0, 55) if side == 0 else st.integers(45, 100))
            size = draw(st.one_of(st.just(0), st.integers(1, 300 * MICRO)))
            rows.append((ts, seq, LEVEL, side, cents * CENT, size))
    return book_log(rows)


ASKS = st.tuples(
    st.sampled_from(["buy", "sell"]),
    st.integers(0, 1),
    st.integers(1, 200 * MICRO),
    st.one_of(st.none(), st.integers(1, MICRO - 1)),
    st.integers(0, 3000 * SECOND),
)


@settings(max_examples=100, deadline=None)
@given(
    log=logs(),
    asks=st.lists(ASKS, min_size=1, max_size=8),
    fees=st.sampled_from(["venue", "flat_2pct", "zero"]),
    key=st.sampled_from(["polymarket:1", "kalshi:KXHIGHNY-26JUL10-B85.5"]),
    scenario=st.sampled_from(list(Scenario)),
    minimum=st.sampled_from([1, MICRO]),
)
def test_takers_get_the_same_from_both(
    log: BookLog,
    asks: list[tuple[str, int, int, int | None, int]],
    fees: FeeModelName,
    key: str,
    scenario: Scenario,
    minimum: int,
) -> None:
    of = market(key)
    terms = ExecutionConfig(fees=fees, lot=LOT).under(scenario)
    model = fee_model(RULES, of, T0, fees)
    plain, kernel = PlainMarket(log, terms, minimum), KernelMarket(log, of, terms, minimum)
    for action, outcome, amount, limit, after in sorted(asks, key=lambda ask: ask[4]):
        at = T0 + after
        answers = [getattr(each, action)(outcome, amount, limit, at, model) for each in (plain, kernel)]
        if kernel.tape.outcome(outcome).at(at) < 0 and answers[0] == (Reason.BOOK_GAP,):
            answers[0] = (
                Reason.NO_QUOTE,
            )  # before its first price the tape does not know that a book is meant
        assert answers[1] == answers[0]


@settings(max_examples=60, deadline=None)
@given(log=logs(), clock=st.sampled_from(["ts", "known_at"]), swap=st.integers(0, 30))
def test_touches_and_books_are_those_of_the_plain_replay(log: BookLog, clock: Any, swap: int) -> None:
    if clock == "known_at" and len(log) > swap:  # a message that arrives late
        seq = log.seq.copy()
        seq[swap:] -= seq[swap] - 1
        log = BookLog(log.ts, log.known_at, seq, log.kind, log.side, log.price, log.size)
    rows, bids, asks = touches(log, clock)
    plain = list(BookReplay(log, clock).touches())
    assert list(zip(rows.tolist(), zip(bids.tolist(), asks.tolist(), strict=True), strict=True)) == plain
    if clock == "ts":
        session = Session(Stream.of(log, [(0, market().ticks)]))
        replay = BookReplay(log, "ts")
        for at in np.unique(log.ts).tolist():
            assert session.book(at) == replay.advance(at)


def test_an_empty_log_has_no_touches_and_no_book() -> None:
    log = book_log([])
    assert [len(column) for column in touches(log)] == [0, 0, 0]
    assert Session(Stream.of(log, [(0, market().ticks)])).book(T0) is None


def test_a_log_of_gaps_alone_has_no_touches() -> None:
    assert len(touches(book_log([(T0, 1, GAP, -1, -1, -1)]))[0]) == 0


def test_touches_are_what_the_tape_is_made_of() -> None:
    log = book_log(
        [
            (T0, 1, RESET, -1, -1, -1),
            (T0, 1, LEVEL, 0, 45 * CENT, MICRO),
            (T0, 1, LEVEL, 1, 48 * CENT, MICRO),
            (T0 + 1, 2, LEVEL, 0, 46 * CENT, MICRO),
            (T0 + 2, 3, LEVEL, 0, 46 * CENT, 0),
            (T0 + 3, 4, GAP, -1, -1, -1),
        ]
    )
    terms = ExecutionConfig().under(Scenario.BASE)
    touch = KernelMarket(log, market(), terms, 1).tape.outcome(0).touch
    rows, bids, asks = touches(venue_order(log))
    assert touch.ts.tolist() == log.ts[rows].tolist()
    assert (touch.bid.tolist(), touch.ask.tolist()) == (bids.tolist(), asks.tolist())
    assert [Kind(k) for k in touch.kind.tolist()] == [Kind.L2] * 3 + [Kind.GAP]


@pytest.mark.parametrize("at", [T0, T0 + SECOND])
def test_the_mirror_of_a_kernel_book_is_the_other_outcomes(at: int) -> None:
    log = book_log([(T0, 1, RESET, -1, -1, -1), (T0, 1, LEVEL, 0, 45 * CENT, MICRO)])
    book = Session(Stream.of(log, [(0, market().ticks)])).book(at)
    assert book == Book(T0, (Level(45 * CENT, MICRO),), ())
    assert book is not None
    assert book.mirrored().ask == 55 * CENT
