"""The kernel against the plain Python beside it: the same books, the same touches, the same fills."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.engine import ExecutionConfig, Scenario
from pm_pipeline.engine.execution import Execution, Refused, TakerMarket, Waiting, size_for_stake, value
from pm_pipeline.engine.fees import FeeModel, FeeModelName, FillLeg, fee_model
from pm_pipeline.engine.kernel import Code, Lane, Session, Stream, VenueRules, touches
from pm_pipeline.engine.kernel.orders import REASONS
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.scenarios import Terms
from pm_pipeline.engine.tape import Kind, Tape, venue_order
from pm_pipeline.markets import MICRO, Book, Level, Market, Side
from pm_pipeline.markets.clock import FOREVER, SECOND, parse_time
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.warehouse import table
from pm_pipeline.warehouse.arrays import GAP, LEVEL, RESET, BookLog
from pm_pipeline.warehouse.asof import MarketData
from pm_pipeline.warehouse.replay import BookReplay
from pm_pipeline_tests.engine.builders import CENT, market
from pm_pipeline_tests.engine.kernel.scripts import book_log

RULES = RuleBook.default()
T0 = parse_time("2026-08-20T00:00:00Z")
LOT = CENT


class OldMarket:
    """Today's engine on a book log."""

    def __init__(self, log: BookLog, of: Market, terms: Terms, minimum: int) -> None:
        data = MarketData(of, lambda name: table(name).arrow.empty_table())
        data.__dict__["book_log"] = log
        self.tape = Tape(data, of.ticks, terms)
        self.market = TakerMarket(
            self.tape, terms, outcomes=2, min_order_size=minimum, lot=LOT, closed_at=FOREVER
        )


class NewMarket:
    """The same questions to the kernel; sizes for a stake and fees stay in Python."""

    def __init__(self, log: BookLog, of: Market, terms: Terms, minimum: int) -> None:
        stream = Stream.of(log, [(0, of.ticks)])
        rules = VenueRules(min_size=0, lot=LOT, max_age=terms.config.max_quote_age)
        self.session = Session(stream, rules, [Lane(depth=terms.depth)])
        self.minimum = max(minimum, LOT)

    def buy(self, outcome: int, stake: int, limit: int | None, at: int, model: FeeModel) -> tuple[Any, ...]:
        levels = self.session.depth(Side.BUY, at, outcome=outcome, limit=limit)
        if isinstance(levels, Code):
            return (REASONS[levels],)

        def fee(taken: Any) -> int:
            return model.open_order().charge([FillLeg(x.price, x.size, Side.BUY) for x in taken])

        best = levels[0].price
        asked = size_for_stake([Level(best, stake * MICRO // best)], stake, LOT, fee)
        size = asked if levels[0].size >= asked else size_for_stake(levels, stake, LOT, fee)
        if asked < self.minimum or not size:
            return (Reason.BELOW_MIN_SIZE,)
        return self._take(Side.BUY, outcome, size, limit, at, model)

    def sell(self, outcome: int, size: int, limit: int | None, at: int, model: FeeModel) -> tuple[Any, ...]:
        if size < self.minimum:
            return (Reason.BELOW_MIN_SIZE,)
        levels = self.session.depth(Side.SELL, at, outcome=outcome, limit=limit)
        if isinstance(levels, Code):
            return (REASONS[levels],)
        return self._take(Side.SELL, outcome, size, limit, at, model)

    def _take(
        self, side: Side, outcome: int, size: int, limit: int | None, at: int, model: FeeModel
    ) -> tuple[Any, ...]:
        number = self.session.take(side, size, at, outcome=outcome, limit=limit)
        record = self.session.orders[0, number]
        (legs,) = self.session.matches(number)
        assert value([Level(leg.price, leg.size) for leg in legs], side) == int(record["cash"])
        return int(record["filled"]), int(record["cash"]), model.open_order().charge(legs)


def old_answer(found: Execution | Refused | Waiting) -> tuple[Any, ...]:
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
    old, new = OldMarket(log, of, terms, minimum), NewMarket(log, of, terms, minimum)
    for action, outcome, amount, limit, after in sorted(asks, key=lambda ask: ask[4]):
        at = T0 + after
        if action == "buy":
            expected = old_answer(old.market.buy(outcome, amount, limit, at, model))
            found = new.buy(outcome, amount, limit, at, model)
        else:
            expected = old_answer(old.market.sell(outcome, amount, limit, at, model.open_order()))
            found = new.sell(outcome, amount, limit, at, model)
        if old.tape.outcome(outcome).at(at) < 0 and found == (Reason.BOOK_GAP,):
            found = (Reason.NO_QUOTE,)  # before its first price the tape does not know that a book is meant
        assert found == expected


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
    touch = OldMarket(log, market(), terms, 1).tape.outcome(0).touch
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
