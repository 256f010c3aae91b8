import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st

from pm_pipeline.engine import (
    Action,
    Mark,
    MarketInput,
    Reason,
    RunConfig,
    Scenario,
    Signal,
    SignalError,
    Signals,
    SimResult,
    Skip,
)
from pm_pipeline.engine.simulation.core import Priority
from pm_pipeline.engine.simulation.simulate import simulate
from pm_pipeline.errors import UsageError
from pm_pipeline.markets import MICRO, Resolution, ScheduleEvidence
from pm_pipeline.markets.clock import DAY, SECOND, parse_time, to_datetime, to_nanos
from pm_pipeline.markets.rule_tables import read_table
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.warehouse.asof import MarketData
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.engine.builders import (
    at,
    bbo,
    book,
    cents,
    data,
    doc_table,
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
    void,
)
from pm_pipeline_tests.warehouse import builders as warehouse

FLAT = bbo([(0, 40, 42), (60, 50, 52), (120, 44, 46)])
KALSHI = "kalshi:KXHIGHNY-26JUL10-B85.5"


def only(rows: pa.Table) -> dict[str, Any]:
    (row,) = rows.to_pylist()
    return dict(row)


def last_equity(result: SimResult) -> dict[str, Any]:
    return dict(result.equity.to_pylist()[-1])


def test_an_entry_held_to_its_payout_is_one_trip() -> None:
    signal = enter(5, stake=21 * MICRO, p_hat=0.7, p_market=0.41)
    of = market(group_key="event:7")
    result = run(given(FLAT, [signal], resolved(500, 900), of))
    trip = only(result.trips)
    expected = {
        "strategy": "test",
        "scenario": "base",
        "market_key": "polymarket:1",
        "outcome_index": 0,
        "group_key": "event:7",
        "size": 50 * MICRO,
        "cost": 21 * MICRO,
        "proceeds": 50 * MICRO,
        "fees": 0,
        "pnl": 29 * MICRO,
        "ended_by": "settlement",
        "payout": MICRO,
        "p_hat": 0.7,
        "p_market": 0.41,
        "closing_price": None,
        "evidence": "bbo",
        "hindsight_close": False,
        "run_id": "r1",
    }
    assert {name: trip[name] for name in expected} == expected
    assert (to_nanos(trip["entered_at"]), to_nanos(trip["exited_at"])) == (at(6), at(900))
    order = only(result.orders)
    assert (order["side"], order["reason"], order["size"], order["filled"]) == (
        "buy",
        "signal",
        50 * MICRO,
        50 * MICRO,
    )
    assert (to_nanos(order["decided_at"]), to_nanos(order["arrived_at"])) == (at(5), at(6))
    fill = only(result.fills)
    assert (fill["price"], fill["cash"], fill["evidence"]) == (420_000, -21 * MICRO, "bbo")
    assert fill["order_id"] == order["order_id"]
    assert last_equity(result)["equity"] == 10_029 * MICRO


def test_the_tables_are_in_the_declared_schemas_even_when_empty() -> None:
    for result in (run(), run(given(FLAT, [enter(5)], resolved(500, 900)))):
        for name, rows in (
            ("orders", result.orders),
            ("fills", result.fills),
            ("rejections", result.rejections),
            ("trips", result.trips),
        ):
            assert rows.schema == table(f"backtest.{name}").arrow
        assert result.equity.schema == table("backtest.portfolio_equity").arrow


@pytest.mark.parametrize(
    ("resolution", "ended_by", "proceeds", "payout"),
    [
        (resolved(500, 900, (MICRO, 0)), "settlement", 50 * MICRO, MICRO),
        (resolved(500, 900, (0, MICRO)), "settlement", 0, 0),
        (resolved(500, 900, (MICRO // 2, MICRO // 2)), "settlement", 25 * MICRO, MICRO // 2),
        (resolved(500, 900, (580_000, 420_000)), "settlement", 29 * MICRO, 580_000),
        (void(500, 900), "void", 21 * MICRO, None),
        (None, "open", 22 * MICRO, None),
        (resolved(500, 900, status="disputed", payouts=None, resolved_at=None), "open", 22 * MICRO, None),
    ],
    ids=["yes", "no", "half", "scalar", "void", "unknown", "disputed"],
)
def test_every_way_a_market_ends_is_paid_for_what_it_is(
    resolution: Resolution | None, ended_by: str, proceeds: int, payout: int | None
) -> None:
    result = run(given(FLAT, [enter(5, stake=21 * MICRO)], resolution), fees="flat_1pct")
    trip = only(result.trips)
    assert (trip["size"], trip["cost"], trip["fees"]) == (49_500_000, 20_790_000, 207_900)
    scaled = proceeds * 99 // 100
    assert (trip["ended_by"], trip["proceeds"], trip["payout"]) == (ended_by, scaled, payout)
    assert trip["pnl"] == scaled - 20_790_000 - 207_900
    assert last_equity(result)["equity"] == 10_000 * MICRO + trip["pnl"]


def test_capital_is_locked_from_the_close_until_it_is_paid() -> None:
    day = 86_400
    result = run(given(FLAT, [enter(5, stake=21 * MICRO)], resolved(500, 3 * day)))
    rows = result.equity.to_pylist()
    # the day's beginning, the purchase, the midnights while it is unpaid, the payment
    assert [row["positions"] for row in rows] == [0, 20 * MICRO, *[0] * (len(rows) - 2)]
    assert [row["locked"] for row in rows] == [0, 0, *[22 * MICRO] * (len(rows) - 3), 0]
    assert [row["open_positions"] for row in rows] == [0, *[1] * (len(rows) - 2), 0]
    assert all(row["equity"] == row["cash"] + row["positions"] + row["locked"] for row in rows)


def test_equity_is_recorded_at_each_midnight_and_whenever_money_moves() -> None:
    result = run(
        given(FLAT, [enter(5), leave(20)], resolved(500, 3 * 86_400)),
        given(
            bbo([(0, 40, 42)], "polymarket:2"),
            [enter(7)],
            resolved(500, 3 * 86_400, key="polymarket:2"),
            market("polymarket:2"),
        ),
    )
    times = [to_nanos(row["ts"]) for row in result.equity.to_pylist()]
    first = at(5) // DAY * DAY
    assert times == [first, at(6), at(8), at(21), *(first + n * DAY for n in (1, 2, 3)), at(3 * 86_400)]


def test_an_open_position_is_marked_to_the_end_of_its_data() -> None:
    path = bbo([(0, 40, 42), (2 * 86_400, 60, 62)])
    result = run(given(path, [enter(5, stake=21 * MICRO)]))
    trip = only(result.trips)
    assert (trip["ended_by"], trip["proceeds"]) == ("open", 30 * MICRO)
    assert to_nanos(trip["exited_at"]) == to_nanos(last_equity(result)["ts"]) == at(2 * 86_400)
    assert last_equity(result)["positions"] == 30 * MICRO


def test_a_position_that_nobody_ever_bid_for_counts_at_its_cost() -> None:
    result = run(given(bbo([(0, None, 42)]), [enter(5, stake=21 * MICRO)]))
    assert (only(result.trips)["proceeds"], last_equity(result)["equity"]) == (21 * MICRO, 10_000 * MICRO)


def test_the_mark_may_be_the_mid() -> None:
    result = run(given(mids([(0, 41)]), [enter(5, stake=21 * MICRO)]), mark=Mark.MID)
    assert only(result.trips)["proceeds"] == 50 * MICRO * 41 // 100


@pytest.mark.parametrize(
    ("rules", "reason", "filled_at", "price"),
    [
        ({"target_price": cents(50)}, "target", 120, 44),
        ({"stop_price": cents(44)}, "stop", 180, 30),
        ({"trailing": cents(6)}, "trailing", 180, 30),
        ({"exit_at": at(100)}, "time", 101, 50),
    ],
    ids=["target", "stop", "trailing", "time"],
)
def test_an_exit_rule_trades_on_the_next_quote_and_not_at_its_own_price(
    rules: dict[str, Any], reason: str, filled_at: int, price: int
) -> None:
    path = bbo([(0, 40, 42), (60, 50, 52), (120, 44, 46), (180, 30, 32)])
    result = run(given(path, [enter(5, stake=21 * MICRO, **rules)], resolved(500, 900)))
    sale = result.fills.to_pylist()[1]
    assert (to_nanos(sale["ts"]), sale["price"]) == (at(filled_at), cents(price))
    assert sale["cash"] == 50 * price * CENT_DOLLAR
    assert only(result.trips)["ended_by"] == reason
    assert [row["reason"] for row in result.orders.to_pylist()] == ["signal", reason]


CENT_DOLLAR = 10_000


def test_slippage_is_what_was_lost_against_the_mid_at_the_decision() -> None:
    path = mids([(0, 40), (60, 50)])
    result = run(given(path, [enter(5, stake=21 * MICRO), leave(70)], resolved(500, 900)))
    buy, sale = result.fills.to_pylist()
    assert (buy["decision_price"], buy["price"], buy["slippage"]) == (400_000, 410_000, 10_000)
    assert (sale["decision_price"], sale["price"], sale["slippage"]) == (500_000, 490_000, 10_000)
    assert only(result.trips)["p_market"] == 0.4
    assert only(result.trips)["closing_price"] == 500_000


def test_a_stale_quote_makes_the_order_wait_for_the_next_one() -> None:
    path = bbo([(0, 40, 42), (2000, 50, 52)])
    result = run(given(path, [enter(1500, stake=26 * MICRO)], resolved(5000, 9000)))
    fill = only(result.fills)
    assert (to_nanos(fill["ts"]), fill["price"]) == (at(2000), 520_000)


@pytest.mark.parametrize(
    ("path", "signals", "resolution", "expected"),
    [
        (bbo([(0, 40, 42)]), [enter(1500)], None, ["stale_quote"]),
        (bbo([(0, 40, 42), (90_000, 50, 52)]), [enter(1500)], None, ["stale_quote"]),
        (bbo([(0, 40, 42), (2000, 50, 52)]), [enter(1500)], resolved(1800, 1900), ["stale_quote"]),
        (bbo([(10, 40, 42)]), [enter(5)], resolved(9, 10), ["no_quote"]),
        (mids([]), [enter(5)], None, ["no_quote"]),
        (FLAT, [enter(5, limit_price=cents(41))], None, ["price_beyond_limit"]),
        (FLAT, [enter(5, stake=MICRO // 10)], None, ["below_min_size"]),
        (FLAT, [leave(5)], None, ["no_position"]),
        (FLAT, [enter(5), enter(5, 0, tag="again")], None, ["position_open"]),
        (FLAT, [enter(5), enter(70)], None, ["position_open"]),
        (FLAT, [enter(499)], resolved(500, 900), ["market_closed"]),
        (FLAT, [enter(500)], resolved(500, 900), ["market_closed"]),
        (FLAT, [enter(900)], resolved(500, 900), ["after_resolution"]),
        (FLAT, [enter(-1)], None, ["not_open"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_what_cannot_be_done_is_a_row_with_its_reason(
    path: dict[str, pa.Table], signals: list[Signal], resolution: Resolution | None, expected: list[str]
) -> None:
    assert reasons(run(given(path, signals, resolution))) == expected


def test_a_bankroll_that_is_spent_refuses_the_next_entry_whole() -> None:
    config = RunConfig(
        bankroll=100 * MICRO, stake=60 * MICRO, max_stake_fraction=Decimal(1), execution=execution()
    )
    inputs = [
        given(bbo([(0, 40, 42)], key), [enter(5)], of=market(key)) for key in ("polymarket:1", "polymarket:2")
    ]
    result = run(*inputs, config=config)
    row = only(result.rejections)
    assert (row["market_key"], row["reason"]) == ("polymarket:2", "insufficient_cash")
    assert row["detail"] == "$40.000000 free, $60.000000 wanted"


def test_money_that_is_paid_at_a_moment_can_be_spent_at_that_moment() -> None:
    config = RunConfig(
        bankroll=60 * MICRO, stake=60 * MICRO, max_stake_fraction=Decimal(1), execution=execution()
    )
    first = given(bbo([(0, 40, 42)]), [enter(5)], resolved(50, 100))
    later = given(bbo([(90, 40, 42)], "polymarket:0"), [enter(100)], of=market("polymarket:0"))
    assert reasons(run(first, later, config=config)) == []


def test_a_position_takes_at_most_its_fraction_of_equity() -> None:
    config = RunConfig(
        bankroll=1_000 * MICRO, stake=500 * MICRO, max_stake_fraction=Decimal("0.05"), execution=execution()
    )
    result = run(given(bbo([(0, 49, 50)]), [enter(5)]), config=config)
    assert only(result.trips)["cost"] == 50 * MICRO


def test_the_fraction_counts_open_positions_as_equity() -> None:
    config = RunConfig(
        bankroll=1_000 * MICRO,
        stake=500 * MICRO,
        max_stake_fraction=Decimal("0.5"),
        execution=execution(depth_usd=10_000 * MICRO),
    )
    first = given(bbo([(0, 50, 50), (60, 75, 80)]), [enter(5)])
    second = given(bbo([(60, 49, 50)], "polymarket:2"), [enter(70)], of=market("polymarket:2"))
    result = run(first, second, config=config)
    # 500 cash and 1,000 contracts at 75 cents: half of 1,250 is more than the stake
    assert [trip["cost"] for trip in result.trips.to_pylist()] == [500 * MICRO, 500 * MICRO]


def test_a_partial_exit_goes_on_when_the_book_is_refilled() -> None:
    rows = [
        *snapshot(0, [(40, 100)], [(42, 100)]),
        warehouse.level(10, "bid", 40, 30),
        warehouse.level(20, "bid", 40, 0),
        warehouse.level(20, "bid", 39, 50),
        warehouse.level(30, "bid", 38, 100),
    ]
    result = run(given(book(rows), [enter(1, stake=42 * MICRO), leave(11)], resolved(500, 900)))
    sales = [
        (to_nanos(f["ts"]), f["price"], f["size"]) for f in result.fills.to_pylist() if f["side"] == "sell"
    ]
    assert sales == [
        (at(12), 400_000, 30 * MICRO),
        (at(20), 390_000, 50 * MICRO),
        (at(30), 380_000, 20 * MICRO),
    ]
    sell = result.orders.to_pylist()[1]
    assert (sell["size"], sell["filled"]) == (100 * MICRO, 100 * MICRO)
    trip = only(result.trips)
    assert (trip["proceeds"], trip["ended_by"], trip["evidence"]) == (39_100_000, "signal", "l2")


def test_what_no_exit_could_sell_is_settled_in_the_same_trip() -> None:
    rows = [*snapshot(0, [(40, 30)], [(42, 100)])]
    result = run(given(book(rows), [enter(1, stake=42 * MICRO), leave(11)], resolved(500, 900)))
    trip = only(result.trips)
    assert (trip["size"], trip["proceeds"], trip["ended_by"]) == (100 * MICRO, 82 * MICRO, "settlement")
    assert reasons(result) == ["no_depth"]


def test_an_exit_calls_off_an_entry_that_still_waits() -> None:
    path = bbo([(0, 40, None), (600, 40, 42)])
    result = run(given(path, [enter(5), leave(10)], resolved(900, 950)))
    assert reasons(result) == ["cancelled"]
    assert result.fills.num_rows == 0
    assert [row["filled"] for row in result.orders.to_pylist()] == [0, 0]


def test_a_rule_that_comes_after_the_exit_finds_nothing() -> None:
    path = bbo([(0, 40, 42), (60, 50, 52), (120, 44, 46)])
    result = run(given(path, [enter(5, target_price=cents(50)), leave(30)], resolved(500, 900)))
    assert only(result.trips)["ended_by"] == "signal"
    assert (reasons(result), result.orders.num_rows) == ([], 2)


def test_two_exits_sell_the_position_once() -> None:
    path = bbo([(0, 40, 42), (60, 50, 52), (120, 44, 46)])
    result = run(given(path, [enter(5, target_price=cents(50)), leave(119)], resolved(500, 900)))
    assert reasons(result) == ["no_position"]
    assert (
        sum(f["size"] for f in result.fills.to_pylist() if f["side"] == "sell") == only(result.trips)["size"]
    )


@pytest.mark.parametrize(
    ("key", "day", "size"),
    [
        (KALSHI, "2026-03-31", 196_000_000),
        (KALSHI, "2026-04-01", 196_070_000),
        ("polymarket:1", "2026-03-29", 196_070_000),
    ],
)
def test_an_order_is_a_whole_number_of_the_lots_of_its_day(key: str, day: str, size: int) -> None:
    later = (parse_time(day) - at(0)) // SECOND
    quotes = bbo([(later, 49, 51)], key)
    result = run(given(quotes, [enter(later)], of=market(key)))
    assert only(result.trips)["size"] == size


def test_an_exit_whose_fee_cannot_be_paid_is_refused() -> None:
    # one contract at 50 cents and a fee of 2 cents take all; a hundredth sold at a cent costs a cent of fee
    config = RunConfig(
        bankroll=520_000,
        stake=520_000,
        max_stake_fraction=Decimal(1),
        execution=execution(fees="venue"),
    )
    rows = [*snapshot(0, [], [(50, 10)]), warehouse.level(10, "bid", 1, 0) | {"size": 10_000}]
    inputs = given(book(rows, KALSHI), [enter(1), leave(11)], of=market(KALSHI))
    lots = read_table(
        "lots.csv", "venue,scope,valid_from,valid_to,lot,source\nkalshi,*,2021-06-30,,0.01,test\n"
    )
    result = run(inputs, config=config, rules=RuleBook.default().overlaid(lots))
    row = only(result.rejections)
    assert (row["reason"], row["detail"]) == ("insufficient_cash", "the fee is $0.010000")
    assert last_equity(result)["cash"] == 0


def test_skips_of_the_strategy_end_as_rejections() -> None:
    signals = Signals.of([], [Skip(at(3), Reason.NO_PRICE, "none in 2 h"), Skip(at(4), "own_reason", "", 1)])
    rows = run(given(FLAT, signals)).rejections.to_pylist()
    assert [(r["reason"], r["detail"], r["outcome_index"]) for r in rows] == [
        ("no_price", "none in 2 h", None),
        ("own_reason", "", 1),
    ]


@pytest.mark.parametrize(
    ("evidence", "uses_schedule", "marked"),
    [
        (ScheduleEvidence.HINDSIGHT, True, True),
        (ScheduleEvidence.HINDSIGHT, False, False),
        (ScheduleEvidence.LISTED, True, False),
    ],
)
def test_a_close_that_was_learned_in_hindsight_marks_the_trip(
    evidence: ScheduleEvidence, uses_schedule: bool, marked: bool
) -> None:
    config = RunConfig(execution=execution(), uses_schedule=uses_schedule)
    result = run(given(FLAT, [enter(5)], of=market(schedule_evidence=evidence)), config=config)
    assert only(result.trips)["hindsight_close"] is marked


def test_a_time_before_the_rules_of_the_venue_is_refused() -> None:
    of = market(opened_at=None)
    early = Signal(ts=0, inputs_known_at=0, outcome_index=0, action=Action.ENTER)
    assert reasons(run(given(FLAT, [early], of=of))) == ["no_rule"]


def rules_until(second: int, **later: str) -> RuleBook:
    """Polymarket's rules, which end at a time, or go on with these cells."""
    rows = RuleBook.default().to_rows()
    kept = [r for r in rows if r["venue"] == "polymarket" and r["scope"] == "*"]
    now = to_datetime(at(second))
    held = [r for r in kept if r["valid_from"] < now and (r["valid_to"] is None or r["valid_to"] > now)]  # type: ignore[operator]
    ended = [{**r, "valid_to": now} for r in held]
    changed = [
        {**r, "valid_from": now, "value": json.dumps(json.loads(str(r["value"])) | later)}
        for r in held
        if r["rule"] == "fee_schedule"
    ]
    others = [{**r, "valid_from": now} for r in held if r["rule"] != "fee_schedule"]
    return RuleBook.from_rows([*ended, *(changed + others if later else [])])


@pytest.mark.parametrize(
    ("path", "signal"),
    [
        (bbo([(0, 40, 42), (120, 50, 52)]), enter(5, target_price=cents(50))),
        (bbo([(0, 40, None), (120, 40, 42)]), enter(5)),
        (bbo([(0, 40, 42)]), enter(110)),
    ],
    ids=["trigger", "waiting order", "decision"],
)
def test_where_the_rules_end_nothing_is_guessed(path: dict[str, pa.Table], signal: Signal) -> None:
    found = run(given(path, [signal], resolved(500, 900)), rules=rules_until(105), fees="venue")
    assert reasons(found) == ["no_rule"]


def test_an_exit_that_waits_past_a_change_of_the_fees_pays_the_new_ones() -> None:
    path = bbo([(0, 40, 42), (90, None, 42), (120, 50, 52)])
    rules = rules_until(100, taker_rate="0.04")
    result = run(
        given(path, [enter(5, stake=21 * MICRO), leave(95)], resolved(500, 900)), rules=rules, fees="venue"
    )
    # 50 contracts at 50 cents: 50 x 0.04 x 0.25
    assert [fill["fee"] for fill in result.fills.to_pylist()] == [0, 500_000]


def test_the_stamp_tells_a_latency_below_the_floor() -> None:
    assert run(latency=0).stamp == "OPTIMISTIC"
    assert run().stamp == ""


def test_nonsense_is_refused_before_anything_is_simulated() -> None:
    with pytest.raises(SignalError, match="has no outcome 2"):
        run(given(FLAT, [enter(5, 2)]))
    with pytest.raises(UsageError, match="given twice"):
        run(given(FLAT, []), given(FLAT, []))
    for wrong in ({"bankroll": 0}, {"stake": 0}, {"max_stake_fraction": Decimal(0)}):
        with pytest.raises(UsageError):
            RunConfig(**wrong)


def test_a_market_is_loaded_at_its_first_signal_and_let_go_after_its_last() -> None:
    alive: set[str] = set()
    most = 0

    class Counted(MarketData):
        def __del__(self) -> None:
            alive.discard(str(self.market.key))

    def loader(key: str) -> Callable[[], MarketData]:
        def load() -> MarketData:
            nonlocal most
            alive.add(key)
            most = max(most, len(alive))
            of = market(key)
            tables = bbo([(n * 1000, 40, 42) for n in range(30)], key)
            return Counted(of, tables.get)

        return load

    inputs = [
        MarketInput(
            market(f"polymarket:{n}"),
            resolved(n * 1000 + 500, n * 1000 + 5_000, key=f"polymarket:{n}"),
            loader(f"polymarket:{n}"),
            Signals.of([enter(n * 1000 + 5)]),
        )
        for n in range(20)
    ]
    result = run(*inputs)
    assert (result.trips.num_rows, most, alive) == (20, 1, set())


def test_the_order_of_events_is_that_of_the_page() -> None:
    assert [row["first to last"] for row in doc_table("engine.md", "Order of events")] == [
        p.name for p in Priority
    ]


def test_worse_terms_never_end_better() -> None:
    path = mids([(0, 40), (60, 42), (120, 41), (180, 60), (240, 61)])
    signals = [enter(5), leave(130)]
    pnl = [
        only(run(given(path, signals, resolved(500, 900)), scenario=s).trips)["pnl"]
        for s in (Scenario.PESSIMISTIC, Scenario.BASE, Scenario.OPTIMISTIC)
    ]
    assert pnl == sorted(pnl)
    assert pnl[0] < pnl[1]


PRICES = st.lists(st.tuples(st.integers(1, 98), st.integers(1, 5)), min_size=2, max_size=12)
ONE = st.tuples(
    PRICES,
    st.lists(
        st.tuples(
            st.integers(0, 700),
            st.integers(0, 1),
            st.booleans(),
            st.sampled_from([None, 20, 45, 70]),
            st.sampled_from([None, 3, 30]),
        ),
        max_size=6,
    ),
    st.sampled_from([None, (MICRO, 0), (0, MICRO), (MICRO // 2, MICRO // 2), "void"]),
    st.integers(100, 700),
)


@settings(max_examples=80, deadline=None)
@hypothesis_given(
    st.lists(ONE, min_size=1, max_size=4), st.sampled_from(list(Scenario)), st.randoms(use_true_random=False)
)
def test_the_books_balance_and_the_order_of_markets_changes_nothing(
    markets: list[Any], scenario: Scenario, random: Any
) -> None:
    inputs = []
    for n, (path, wants, ending, closed) in enumerate(markets):
        key = f"polymarket:{n}"
        rows = [
            (i * 60, bid, bid + spread if bid + spread < 100 else None)
            for i, (bid, spread) in enumerate(path)
        ]
        signals = [
            enter(t, outcome, stop_price=cents(stop), trailing=cents(trailing))
            if entering
            else leave(t, outcome)
            for t, outcome, entering, stop, trailing in wants
        ]
        resolution = None
        if ending == "void":
            resolution = void(closed, closed + 100, key)
        elif ending is not None:
            resolution = resolved(closed, closed + 100, ending, key)
        inputs.append(given(bbo(rows, key), signals, resolution, market(key)))
    config = RunConfig(
        bankroll=250 * MICRO,
        stake=100 * MICRO,
        max_stake_fraction=Decimal("0.5"),
        execution=execution(fees="flat_2pct", depth_usd=40 * MICRO),
    )
    result = run(*inputs, scenario=scenario, config=config)

    pnl = sum(trip["pnl"] for trip in result.trips.to_pylist())
    if result.equity.num_rows:
        assert last_equity(result)["equity"] == config.bankroll + pnl
    for row in result.equity.to_pylist():
        assert row["cash"] >= 0
    for fill in result.fills.to_pylist():
        assert 0 < fill["price"] < MICRO
        if fill["side"] == "buy":
            assert fill["fee"] - fill["cash"] <= 100 * MICRO
    for order in result.orders.to_pylist():
        assert 0 <= order["filled"] <= order["size"]

    random.shuffle(inputs)
    again = run(*inputs, scenario=scenario, config=config)
    for name in ("orders", "fills", "rejections", "trips", "equity"):
        assert getattr(again, name).equals(getattr(result, name)), name


def test_a_run_without_fills_keeps_its_bankroll() -> None:
    config = replace(RunConfig(), execution=execution())
    result = run(given(FLAT, [leave(5)]), config=config)
    assert last_equity(result)["equity"] == config.bankroll
    assert data(market(), FLAT).quotes().last() is not None


@pytest.mark.parametrize("signals", [[], [enter(5)]])
def test_equity_is_recorded_over_the_whole_window_also_while_nothing_happens(signals: list[Signal]) -> None:
    window = (at(-9 * 86_400), at(30 * 86_400))
    result = simulate(
        [given(FLAT, signals, resolved(500, 600))],
        RunConfig(execution=execution()),
        Scenario.BASE,
        strategy="test",
        run_id="r1",
        window=window,
    )
    times = [to_nanos(row["ts"]) for row in result.equity.to_pylist()]
    assert (times[0], times[-1]) == (window[0] // DAY * DAY, window[1])
    assert len(times) >= 39
    assert result.equity["equity"][0].as_py() == 10_000 * MICRO
