"""Orders that rest, through the whole simulation: money reserved, queues, fills in the order of time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st

from pm_pipeline.engine import Action, RunConfig, Scenario, Signal, SignalError, Signals, SimResult
from pm_pipeline.engine.simulation.core import Core
from pm_pipeline.engine.simulation.simulate import simulate_scenarios
from pm_pipeline.markets import MICRO, Resolution, Side
from pm_pipeline_tests.engine.builders import (
    CENT,
    at,
    book,
    enter,
    execution,
    given,
    leave,
    market,
    mids,
    reasons,
    resolved,
    run,
    snapshot,
)
from pm_pipeline_tests.warehouse import builders as warehouse

BOOK = snapshot(1, [(45, 100), (40, 200)], [(48, 50), (50, 150)], ts=1)
END = resolved(100, 200)
LATER = [warehouse.level(20, "bid", 44, 7)]


def quote(ts: int, price: int, size: int | None = 10, side: Side = Side.BUY, **stated: Any) -> Signal:
    size_of = None if size is None else size * MICRO
    stated = {"name": "q", "limit_price": price * CENT, "size": size_of, "side": side, **stated}
    return enter(ts, stated.pop("outcome", 0), action=Action.QUOTE, **stated)


def cancel(ts: int, name: str = "q", side: Side = Side.BUY, outcome: int = 0) -> Signal:
    return enter(ts, outcome, action=Action.CANCEL, name=name, side=side)


def prints(*rows: tuple[int, str, int, int]) -> dict[str, Any]:
    """Trades: second, what the taker did, cents, contracts."""
    found = [{"ts": t, "side": s, "price": p * CENT, "size": n * MICRO} for t, s, p, n in rows]
    return {"market_data.trades": warehouse.trades(found)}


def played(
    *signals: Signal,
    trades: Sequence[tuple[int, str, int, int]] = (),
    messages: Sequence[dict[str, Any]] = (),
    resolution: Resolution | None = END,
    **changes: Any,
) -> SimResult:
    tables = {**book([*BOOK, *messages]), **prints(*trades)}
    return run(given(tables, Signals.of(signals), resolution), **changes)


def fills(result: SimResult) -> list[tuple[int, str, int, int, str, str]]:
    """Second, side, cents, contracts, liquidity, evidence."""
    return [
        (
            round(row["ts"].timestamp() - at(0) / 10**9),
            row["side"],
            row["price"] // CENT,
            row["size"] // MICRO,
            row["liquidity"],
            row["evidence"],
        )
        for row in result.fills.to_pylist()
    ]


def ends(result: SimResult) -> list[tuple[str, int]]:
    return [(row["ended"], row["filled"] // MICRO) for row in result.orders.to_pylist()]


def test_a_bid_at_a_new_price_is_filled_by_the_first_who_sells_there() -> None:
    result = played(quote(2, 46), trades=[(2, "sell", 46, 5), (5, "sell", 46, 4), (6, "sell", 46, 9)])
    assert fills(result) == [(5, "buy", 46, 4, "maker", "trade"), (6, "buy", 46, 6, "maker", "trade")]
    assert ends(result) == [("filled", 10)]
    (trip,) = result.trips.to_pylist()
    assert (trip["size"], trip["cost"], trip["proceeds"]) == (10 * MICRO, 4_600_000, 10 * MICRO)
    assert (trip["ended_by"], trip["evidence"]) == ("settlement", "trade")


def test_a_bid_stands_behind_what_is_displayed() -> None:
    assert fills(played(quote(2, 45), trades=[(5, "sell", 45, 100)])) == []
    assert fills(played(quote(2, 45), trades=[(5, "sell", 45, 103)])) == [(5, "buy", 45, 3, "maker", "trade")]


def test_a_bid_without_a_size_spends_the_stake_of_the_run_and_moves_with_its_price() -> None:
    result = played(quote(2, 40, None), quote(5, 46, None), quote(8, 44, None))
    (order,) = result.orders.to_pylist()
    assert order["size"] == 227_260_000  # a hundred dollars at 44 cents, less what rounding may cost
    assert reasons(result) == []
    moved = played(quote(2, 40, None), quote(5, 46, None), trades=[(9, "sell", 46, 10_000)])
    assert sum(row["cash"] for row in moved.fills.to_pylist()) >= -100 * MICRO


def test_what_is_bought_at_rest_can_be_sold_at_rest() -> None:
    result = played(
        quote(2, 46),
        quote(20, 47, side=Side.SELL),
        trades=[(5, "sell", 46, 10), (30, "buy", 47, 4), (31, "buy", 47, 6)],
    )
    assert [fill[1] for fill in fills(result)] == ["buy", "sell", "sell"]
    (trip,) = result.trips.to_pylist()
    assert (trip["ended_by"], trip["pnl"]) == ("quote", 10 * CENT)
    assert result.equity.to_pylist()[-1]["equity"] == 10_000 * MICRO + 10 * CENT


def test_a_quote_of_the_same_name_changes_the_order_and_one_of_another_adds_to_it() -> None:
    changed = played(quote(2, 44), quote(5, 46), trades=[(8, "sell", 46, 20)])
    assert fills(changed) == [(8, "buy", 46, 10, "maker", "trade")]
    assert ends(changed) == [("filled", 10)]
    both = played(quote(2, 46), quote(5, 47, name="other"), trades=[(8, "sell", 46, 15)])
    assert fills(both) == [(8, "buy", 46, 5, "maker", "trade"), (8, "buy", 47, 10, "maker", "trade")]
    (trip,) = both.trips.to_pylist()
    assert trip["size"] == 15 * MICRO


def test_a_quote_asks_for_what_is_still_to_be_filled() -> None:
    result = played(quote(2, 46), quote(8, 46, 3), trades=[(5, "sell", 46, 4), (10, "sell", 46, 9)])
    assert [fill[3] for fill in fills(result)] == [4, 3]


@pytest.mark.parametrize(
    ("signals", "ended", "refused"),
    [
        ([quote(2, 46), cancel(5)], ["order_cancelled"], []),
        ([quote(2, 46, expires_at=at(6))], ["expired"], []),
        ([quote(2, 46)], ["market_closed"], []),
        ([quote(2, 48)], ["would_take"], ["would_take"]),
        ([quote(2, 46, limit_price=455_000)], ["off_tick"], ["off_tick"]),
        ([replace(quote(2, 46), size=1_000_001)], ["off_lot"], ["off_lot"]),
        ([replace(quote(2, 46), size=500_000)], ["below_min_size"], ["below_min_size"]),
        ([cancel(5)], [], ["order_gone"]),
        ([quote(2, 46), cancel(5), cancel(7)], ["order_cancelled"], ["order_gone"]),
        ([quote(2, 46), quote(5, 46, limit_price=455_000)], ["market_closed"], ["off_tick"]),
        ([quote(2, 60, side=Side.SELL)], [], ["no_position"]),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:24],
)
def test_how_orders_end_and_what_is_refused(
    signals: list[Signal], ended: list[str], refused: list[str]
) -> None:
    result = run(
        given(book(BOOK), Signals.of(signals), END),
        config=RunConfig(max_stake_fraction=1, execution=execution()),  # type: ignore[arg-type]
    )
    assert [row["ended"] for row in result.orders.to_pylist()] == ended
    assert reasons(result) == refused


def test_a_bid_of_more_than_the_bankroll_is_cut_and_a_row_says_so() -> None:
    config = RunConfig(max_stake_fraction=1, execution=execution())  # type: ignore[arg-type]
    result = run(given(book(BOOK), Signals.of([quote(2, 50, 100_000, post_only=False)]), END), config=config)
    assert result.orders.to_pylist()[0]["size"] < 20_000 * MICRO
    assert [row["kind"] for row in result.risk_events.to_pylist()] == ["trimmed"]


def test_nothing_rests_where_no_book_was_recorded() -> None:
    result = run(given(mids([(1, 45), (50, 45)]), Signals.of([quote(2, 44)]), END))
    assert reasons(result) == ["no_book"]


def test_a_quote_needs_a_price() -> None:
    with pytest.raises(SignalError, match="needs a limit_price"):
        Signals.of([quote(2, 44, limit_price=None)])


def test_a_cancelled_bid_gives_its_cash_back_and_can_be_filled_until_then() -> None:
    late = played(quote(2, 46), cancel(5), trades=[(5, "sell", 46, 4), (7, "sell", 46, 4)])
    assert [fill[3] for fill in fills(late)] == [4]
    assert ends(late) == [("order_cancelled", 4)]


def test_bids_reserve_what_they_may_cost() -> None:
    # 9,000 of 10,000 dollars are reserved by the first; the second does not fit until the first is gone
    first, second = quote(2, 45, 20_000, name="a"), quote(4, 44, 20_000, name="b")
    again = quote(8, 44, 20_000, name="c")
    config = RunConfig(max_stake_fraction=1, execution=execution())  # type: ignore[arg-type]
    result = run(given(book(BOOK), Signals.of([first, second, cancel(5, "a"), again]), END), config=config)
    assert reasons(result) == ["insufficient_cash"]
    assert [row["ended"] for row in result.orders.to_pylist()] == ["order_cancelled", "market_closed"]


def test_an_exit_takes_back_what_rests_and_sells_the_rest() -> None:
    result = played(
        enter(2, stake=10 * MICRO),
        quote(10, 60, 15, side=Side.SELL),
        leave(20),
        trades=[(15, "buy", 60, 5), (30, "buy", 60, 50)],
    )
    sides = [(fill[1], fill[3], fill[4]) for fill in fills(result)]
    assert sides == [("buy", 20, "taker"), ("sell", 5, "maker"), ("sell", 15, "taker")]
    assert [row["ended_by"] for row in result.trips.to_pylist()] == ["signal"]


def test_a_sale_that_rests_is_never_sold_twice() -> None:
    result = played(
        enter(2, stake=10 * MICRO),
        quote(10, 60, 15, side=Side.SELL, name="a"),
        quote(11, 61, 15, side=Side.SELL, name="b"),
    )
    assert reasons(result) == ["no_position"]


def test_buying_no_at_rest_waits_for_somebody_who_buys_yes() -> None:
    result = played(quote(2, 53, outcome=1), trades=[(5, "buy", 47, 4)])
    assert fills(result) == [(5, "buy", 53, 4, "maker", "trade")]
    (trip,) = result.trips.to_pylist()
    assert (trip["outcome_index"], trip["proceeds"]) == (1, 0)


def test_an_entry_never_trades_with_an_order_of_our_own() -> None:
    """A bid for NO at 53 offers YES at 47; who buys YES would meet it before the 48 of others."""
    result = played(quote(2, 53, outcome=1), enter(5, stake=MICRO))
    assert reasons(result) == ["self_cross"]
    assert fills(result) == []
    gone = played(quote(2, 53, outcome=1), enter(5, stake=MICRO), cancel(8, outcome=1), messages=LATER)
    assert [(fill[0], fill[1], fill[2]) for fill in fills(gone)] == [(20, "buy", 48)]


def test_fills_of_two_markets_come_to_one_bankroll_in_the_order_of_time() -> None:
    """The cash of a resting sale in one market pays for an entry in the other, seconds later."""
    one = {**book(BOOK), **prints((30, "buy", 60, 10_000))}
    buys = enter(2, stake=24 * MICRO)
    sells = quote(10, 60, None, side=Side.SELL)
    other = given(
        book(BOOK, "polymarket:2"),
        Signals.of([enter(29, stake=25 * MICRO), enter(31, stake=25 * MICRO)]),
        of=market("polymarket:2"),
    )
    config = RunConfig(
        bankroll=30 * MICRO,
        max_stake_fraction=1,  # type: ignore[arg-type]
        execution=execution(),
    )
    result = run(given(one, Signals.of([buys, sells]), END), other, config=config)
    assert reasons(result) == ["insufficient_cash"]
    assert [(fill[0], fill[1]) for fill in fills(result)] == [(3, "buy"), (30, "sell"), (32, "buy")]


def test_exit_rules_follow_what_was_bought_at_rest() -> None:
    falls = [
        warehouse.level(40, "bid", 45, 0),
        warehouse.level(40, "bid", 40, 0),
        warehouse.level(40, "bid", 30, 99),
    ]
    result = played(quote(2, 46, stop_price=35 * CENT), trades=[(5, "sell", 46, 10)], messages=falls)
    assert [(fill[0], fill[1], fill[2]) for fill in fills(result)] == [(5, "buy", 46), (41, "sell", 30)]
    assert [row["ended_by"] for row in result.trips.to_pylist()] == ["stop"]


def sets(ts: int, action: Action, size: int | None = None) -> Signal:
    return enter(ts, action=action, size=None if size is None else size * MICRO)


COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(["quote", "quote", "sell", "cancel", "enter", "exit", "split", "merge"]),
        st.integers(2, 90),
        st.integers(0, 1),
        st.integers(35, 60),
        st.integers(1, 40),
        st.sampled_from(["a", "b"]),
    ),
    max_size=25,
)
EVENTS = st.lists(
    st.tuples(
        st.integers(2, 95),
        st.sampled_from(["bid", "ask", "trade", "gap"]),
        st.integers(40, 55),
        st.integers(0, 60),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@hypothesis_given(
    commands=COMMANDS,
    events=EVENTS,
    latency=st.sampled_from([0, 1, 3 * 10**9]),
    fees=st.sampled_from(["venue", "flat_2pct"]),
    void=st.booleans(),
)
def test_the_books_balance_whatever_is_asked(
    commands: list[tuple[str, int, int, int, int, str]],
    events: list[tuple[int, str, int, int]],
    latency: int,
    fees: str,
    void: bool,
) -> None:
    signals = []
    for kind, ts, outcome, price, size, name in commands:
        side = Side.SELL if kind == "sell" else Side.BUY
        match kind:
            case "quote" | "sell":
                post = price % 2 == 0
                signals.append(quote(ts, price, size, side, name=name, outcome=outcome, post_only=post))
            case "cancel":
                signals.append(cancel(ts, name))
            case "split":
                signals.append(sets(ts, Action.SPLIT, size))
            case "merge":
                signals.append(sets(ts, Action.MERGE, size if size % 2 else None))
            case "enter":
                signals.append(enter(ts, outcome, stake=size * MICRO))
            case _:
                signals.append(leave(ts, outcome))
    rows, trades = [], []
    for seq, (ts, kind, price, size) in enumerate(sorted(events), start=2):
        if kind == "trade":
            trades.append((ts, "buy" if size % 2 else "sell", price, max(size, 1)))
        elif kind == "gap":
            rows.append(warehouse.event(seq, "gap", ts))
        else:
            rows.append(warehouse.level(seq, kind, price, size, ts))
    tables = {**book([*BOOK, *rows]), **prints(*trades)}
    end = resolved(100, 200, None, status="void") if void else END
    config = RunConfig(
        bankroll=60 * MICRO,
        max_stake_fraction=1,  # type: ignore[arg-type]
        execution=execution(latency=latency, fees=fees),
    )
    given_once = given(tables, Signals.of(signals), end)
    results = simulate_scenarios([given_once], config, strategy="test", run_id="r1")
    again = simulate_scenarios([given_once], config, tuple(Scenario)[::-1], strategy="test", run_id="r1")
    for scenario, result in results.items():
        assert result.fills.equals(again[scenario].fills)
        held = {0: 0, 1: 0}
        # what happened in one microsecond is not told apart in the table
        for _, moment in groupby(result.fills.to_pylist(), key=itemgetter("ts")):
            for row in moment:
                held[row["outcome_index"]] += row["size"] if row["side"] == "buy" else -row["size"]
            assert min(held.values()) >= 0
        profit = sum(row["pnl"] for row in result.trips.to_pylist())
        last = result.equity.to_pylist()[-1] if result.equity.num_rows else None
        assert last is None or last["equity"] == 60 * MICRO + profit
        assert all(row["cash"] >= 0 for row in result.equity.to_pylist())


def test_nothing_stays_reserved_when_all_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Core] = []
    made = Core.__init__

    def remember(core: Core, *told: Any) -> None:
        made(core, *told)
        seen.append(core)

    monkeypatch.setattr(Core, "__init__", remember)
    played(quote(2, 45, 50), quote(3, 44, 50, name="x"), quote(9, 43, 20), trades=[(30, "sell", 43, 400)])
    assert seen[0].ledger.reserved == 0
    assert seen[0].desk.manager.exposures.markets == 0


def test_latencies_that_vary_are_drawn_by_seed_and_order() -> None:
    def arrivals(seed: int) -> list[Any]:
        config = RunConfig(seed=seed, execution=execution(latency_sigma=0.5, cancel_latency=0))
        signals = [enter(2, stake=MICRO), quote(20, 44), quote(30, 43, name="x")]
        result = run(given(book(BOOK), Signals.of(signals), END), config=config)
        return [row["arrived_at"] for row in result.orders.to_pylist()]

    assert arrivals(1) == arrivals(1)
    assert arrivals(1) != arrivals(2)
    assert len(set(arrivals(1))) == 3


def test_taking_moves_the_price_of_what_we_take_next() -> None:
    signals = [enter(2, stake=10 * MICRO), enter(4, 1, stake=MICRO), leave(10), enter(20, stake=10 * MICRO)]
    plain, moved = (
        [fill[:4] for fill in fills(played(*signals, impact=impact, impact_half_life=10**12))]
        for impact in (0.0, 4_000.0)
    )
    assert plain[0] == moved[0] == (3, "buy", 48, 20)
    # twenty contracts moved it by 4,000 x sqrt(20) micro-dollars, up to the next cent
    assert plain[3][2] == 48
    assert moved[3][2] == 50


def test_a_dollar_becomes_a_set_and_a_set_a_dollar() -> None:
    result = played(
        sets(2, Action.SPLIT, 50), leave(10, 0), sets(20, Action.MERGE), sets(30, Action.MERGE, 5)
    )
    assert [(fill[1], fill[2], fill[3], fill[4], fill[5]) for fill in fills(result)] == [
        ("buy", 50, 50, "none", "rule"),
        ("buy", 50, 50, "none", "rule"),
        ("sell", 45, 50, "taker", "l2"),
    ]
    assert reasons(result) == ["no_position", "no_position"]
    yes, no = sorted(result.trips.to_pylist(), key=lambda row: row["outcome_index"])
    assert (yes["pnl"], yes["ended_by"]) == (-50 * 5 * CENT, "signal")
    assert (no["pnl"], no["ended_by"]) == (-25 * MICRO, "settlement")


def test_yes_and_no_that_were_bought_apart_merge_to_a_dollar_before_the_end() -> None:
    result = played(
        enter(2, stake=MICRO * 48 // 10), enter(4, 1, stake=MICRO * 55 // 10), sets(20, Action.MERGE)
    )
    assert [row["ended_by"] for row in result.trips.to_pylist()] == ["set", "set"]
    # ten of each: 4.80 + 5.50 paid, 10.00 back, long before the market pays
    assert sum(row["pnl"] for row in result.trips.to_pylist()) == -30 * CENT
    assert sum(row["proceeds"] for row in result.trips.to_pylist()) == 10 * MICRO


@pytest.mark.parametrize(
    ("key", "signal", "reason"),
    [
        ("kalshi:KXHIGHNY-26JUL10-B85.5", sets(2, Action.SPLIT, 5), "no_sets"),
        ("polymarket:1", sets(99, Action.SPLIT, 5), "market_closed"),
        ("polymarket:1", sets(99, Action.MERGE, 5), "market_closed"),
    ],
)
def test_sets_that_cannot_be_had_are_refused(key: str, signal: Signal, reason: str) -> None:
    end = resolved(100, 200, key=key)
    result = run(given(book(BOOK, key), Signals.of([signal]), end, market(key)))
    assert reasons(result) == [reason]


def test_more_sets_than_the_bankroll_pays_for_are_cut() -> None:
    result = played(sets(2, Action.SPLIT, 100_000))
    assert [row["kind"] for row in result.risk_events.to_pylist()] == ["trimmed"]
    assert {fill[3] for fill in fills(result)} == {1_000}


def test_a_run_among_others_in_many_threads_gives_the_rows_of_one_alone() -> None:
    signals = [quote(2, 46), enter(3, stake=5 * MICRO), quote(20, 44, name="x"), leave(40)]

    def once(_: int) -> SimResult:
        return played(*signals, trades=[(5, "sell", 46, 4), (30, "sell", 44, 900)], latency_sigma=0.3)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(once, range(12)))
    assert results[0].fills.num_rows > 3
    assert all(result == results[0] for result in results)
