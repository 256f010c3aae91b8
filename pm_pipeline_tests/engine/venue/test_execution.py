import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.engine import Evidence, Scenario
from pm_pipeline.engine.money.fees import FeeModelName, FillLeg, fee_model
from pm_pipeline.engine.money.settlement import Settlement
from pm_pipeline.engine.reasons import Reason
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
from pm_pipeline.engine.venue.tape import Tape
from pm_pipeline.markets import MICRO, Level, Side, to_micro
from pm_pipeline.markets.clock import FOREVER, parse_time
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.warehouse.asof import MarketData
from pm_pipeline_tests.engine.builders import (
    CENT,
    at,
    bbo,
    book,
    data,
    doc_table,
    execution,
    market,
    mids,
    snapshot,
)
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.warehouse import builders as warehouse

RULES = RuleBook.default()
FREE = fee_model(RULES, market(), at(0), "zero")


def taker(of: MarketData, scenario: Scenario = Scenario.BASE, **changes: Any) -> TakerMarket:
    terms = execution(**changes).under(scenario)
    tape = Tape(of, Grids(of.market.ticks), terms)
    nothing = Settlement.of(None)
    session = open_book(of.market, tape.log, of.trades, nothing, RULES, terms, at=at(0))
    return TakerMarket(
        tape,
        terms,
        session,
        outcomes=len(of.market.instruments),
        min_order_size=of.market.min_order_size,
        lot=CENT,
        closed_at=FOREVER,
    )


def golden(name: str) -> Any:
    return json.loads((SHARED / "golden" / name).read_text("utf-8"))


@needs_shared
def test_the_walk_reaches_the_marginal_price_of_polymarkets_own_client() -> None:
    for case in golden("polymarket_market_price_walk.json")["cases"]:
        levels = [
            Level(to_micro(x["price"]), to_micro(x["size"])) for x in case["levels_api_order_worst_first"]
        ]
        levels.sort(reverse=case["side"] == "sell")
        amount = case["amount"] * MICRO
        if case["side"] == "buy":
            taken = take(levels, size_for_stake(levels, amount, 1, lambda _: 0))
            complete = value(taken, Side.BUY) >= amount
        else:
            taken = take(levels, amount)
            complete = sum(level.size for level in taken) >= amount
        raises = not taken or (case["order_type"] == "FOK" and not complete)
        assert raises == case["raises"], case
        if not raises:
            assert taken[-1].price == to_micro(str(case["expected_marginal_price"])), case


@needs_shared
def test_orders_of_prediction_market_bench_fill_as_published() -> None:
    cases = golden("pmbench_book_and_portfolio.json")
    asks = [(100 - price, size) for price, size in cases["book"]["no_bids"]]
    assert sorted(asks) == sorted((p, s) for p, s in cases["derived"]["yes_asks"])
    history = data(market(), book(snapshot(1, cases["book"]["yes_bids"], asks)))
    for order in cases["orders"]:
        venue = taker(history)
        limit = order["limit"] * 10_000 if "limit" in order else None
        found: Execution | Refused | Waiting
        if order["action"] == "sell":
            found = venue.sell(0, order["count"] * MICRO, limit, at(2), FREE.open_order())
        else:
            stake = order["count"] * order.get("first_price", 40) * 10_000
            found = venue.buy(0, stake, limit, at(2), FREE)
        if order.get("rejected"):
            assert isinstance(found, Refused)
            assert found.reason is Reason.PRICE_BEYOND_LIMIT
            continue
        assert isinstance(found, Execution)
        assert found.size == order["filled"] * MICRO
        fills = order.get("fills") or [[order["first_price"], order["filled"]]]
        assert found.cash == sum(price * size for price, size in fills) * 10_000


def test_no_is_bought_from_the_bids_for_yes() -> None:
    history = data(market(), book(snapshot(1, [(45, 100), (40, 200)], [(48, 50), (50, 150)])))
    found = taker(history).buy(1, 67 * MICRO, None, at(2), FREE)
    assert isinstance(found, Execution)
    # 100 at 55 cents, then 20 at 60 cents
    assert (found.size, found.cash) == (120 * MICRO, 67 * MICRO)
    assert found.price == -(-67 * MICRO // 120)
    assert found.evidence is Evidence.L2


def test_yes_and_no_share_what_is_left_of_a_level() -> None:
    history = data(market(), book(snapshot(1, [(45, 100)], [(48, 50)])))
    venue = taker(history)
    first = venue.buy(1, 33 * MICRO, None, at(2), FREE)
    assert isinstance(first, Execution)
    assert first.size == 60 * MICRO
    second = venue.sell(0, 100 * MICRO, None, at(2), FREE.open_order())
    assert isinstance(second, Execution)
    assert second.size == 40 * MICRO


def test_a_level_we_emptied_stays_empty_until_it_is_set_anew() -> None:
    rows = [
        *snapshot(1, [(45, 100)], [(48, 50)]),
        warehouse.level(3, "bid", 44, 10),
        warehouse.level(5, "ask", 48, 30),
    ]
    venue = taker(data(market(), book(rows)))
    first = venue.buy(0, 100 * MICRO, None, at(2), FREE)
    assert isinstance(first, Execution)
    assert (first.size, first.asked) == (50 * MICRO, 208_330_000)
    waiting = venue.buy(0, 100 * MICRO, None, at(4), FREE)
    assert isinstance(waiting, Waiting)
    assert (waiting.reason, waiting.until) == (Reason.NO_DEPTH, at(5))
    again = venue.buy(0, 100 * MICRO, None, at(5), FREE)
    assert isinstance(again, Execution)
    assert again.size == 30 * MICRO


def test_a_reset_gives_all_levels_back() -> None:
    rows = [*snapshot(1, [(45, 100)], [(48, 50)]), *snapshot(3, [(45, 100)], [(48, 50)])]
    venue = taker(data(market(), book(rows)))
    assert isinstance(venue.buy(0, 100 * MICRO, None, at(2), FREE), Execution)
    again = venue.buy(0, 100 * MICRO, None, at(3), FREE)
    assert isinstance(again, Execution)
    assert again.size == 50 * MICRO


def test_nothing_fills_across_a_gap() -> None:
    rows = [
        *snapshot(1, [(45, 100)], [(48, 50)]),
        warehouse.event(3, "gap"),
        *snapshot(9, [(45, 9)], [(48, 9)]),
    ]
    found = taker(data(market(), book(rows))).buy(0, MICRO, None, at(4), FREE)
    assert isinstance(found, Waiting)
    assert (found.reason, found.until) == (Reason.BOOK_GAP, at(9))


def test_a_quiet_book_is_as_fresh_as_its_last_message() -> None:
    rows = [*snapshot(1, [(45, 100)], [(48, 50)]), warehouse.level(100, "bid", 40, 5)]
    venue = taker(data(market(), book(rows)), max_quote_age=10 * 10**9)
    assert isinstance(venue.buy(0, MICRO, None, at(105), FREE), Execution)
    late = venue.buy(0, MICRO, None, at(111), FREE)
    assert isinstance(late, Waiting)
    assert (late.reason, late.until) == (Reason.STALE_QUOTE, FOREVER)


def test_recorded_quotes_fill_at_the_recorded_side_and_the_declared_depth() -> None:
    venue = taker(data(market(), bbo([(0, 40, 44), (60, 41, None)])), depth_usd=22 * MICRO)
    found = venue.buy(0, 100 * MICRO, None, at(1), FREE)
    assert isinstance(found, Execution)
    assert (found.price, found.size, found.evidence) == (440_000, 50 * MICRO, Evidence.BBO)
    spent = venue.buy(0, 100 * MICRO, None, at(2), FREE)
    assert isinstance(spent, Waiting)
    assert (spent.reason, spent.until) == (Reason.NO_DEPTH, FOREVER)
    missing = venue.buy(0, 100 * MICRO, None, at(61), FREE)
    assert isinstance(missing, Waiting)
    assert missing.reason is Reason.NO_QUOTE


def test_before_the_book_the_quotes_trade() -> None:
    history = data(market(), mids([(0, 50), (20, 70)]), book(snapshot(10, [(45, 100)], [(48, 50)], ts=10)))
    venue = taker(history)
    before, after = (venue.buy(0, MICRO, None, at(t), FREE) for t in (5, 25))
    assert isinstance(before, Execution)
    assert isinstance(after, Execution)
    assert (before.evidence, before.price) == (Evidence.MID, 510_000)
    assert (after.evidence, after.price) == (Evidence.L2, 480_000)


def test_the_pessimist_gets_half_of_the_displayed_depth() -> None:
    history = data(market(), book(snapshot(1, [(45, 100)], [(48, 50)])))
    found = taker(history, Scenario.PESSIMISTIC).buy(0, 100 * MICRO, None, at(2), FREE)
    assert isinstance(found, Execution)
    assert found.size == 25 * MICRO


@pytest.mark.parametrize("row", doc_table("engine.md", "Worked fills"), ids=str)
def test_a_mid_fills_as_the_page_says(row: dict[str, str]) -> None:
    history = data(market(), mids([(0, float(row["mid before"])), (60, float(row["mid after"]))]))
    venue = taker(history, Scenario(row["scenario"]))
    if row["side"] == "buy":
        found = venue.buy(0, 10 * MICRO, None, at(30), FREE)
    else:
        found = venue.sell(0, 10 * MICRO, None, at(30), FREE.open_order())
    if isinstance(found, Execution):
        assert found.evidence is Evidence.MID
        assert found.price == round(float(row["price"]) * 10_000)
    else:
        assert found.reason == row["price"]


def test_an_exit_does_not_trade_on_the_quote_that_set_it_off() -> None:
    venue = taker(data(market(), mids([(0, 50), (60, 30)])))
    found = venue.sell(0, MICRO, None, at(1), FREE.open_order(), later_than=at(0))
    assert isinstance(found, Waiting)
    assert found.until == at(60)
    filled = venue.sell(0, MICRO, None, at(60), FREE.open_order(), later_than=at(0))
    assert isinstance(filled, Execution)
    assert filled.price == 290_000


@pytest.mark.parametrize(
    ("stake", "limit", "reason"),
    [
        (400_000, None, Reason.BELOW_MIN_SIZE),
        (10 * MICRO, 500_000, Reason.PRICE_BEYOND_LIMIT),
    ],
)
def test_a_bad_entry_is_refused_with_its_reason(stake: int, limit: int | None, reason: Reason) -> None:
    found = taker(data(market(), mids([(0, 50)]))).buy(0, stake, limit, at(1), FREE)
    assert isinstance(found, Refused)
    assert found.reason is reason


def test_a_bad_exit_is_refused_with_its_reason() -> None:
    venue = taker(data(market(), mids([(0, 50)])))
    small = venue.sell(0, MICRO // 2, None, at(1), FREE.open_order())
    assert isinstance(small, Refused)
    assert small.reason is Reason.BELOW_MIN_SIZE
    dear = venue.sell(0, MICRO, 500_000, at(1), FREE.open_order())
    assert isinstance(dear, Refused)
    assert (dear.reason, dear.asked) == (Reason.PRICE_BEYOND_LIMIT, MICRO)
    rest = venue.sell(0, MICRO // 2, None, at(1), FREE.open_order(), rest=True)
    assert isinstance(rest, Execution)


LEVELS = st.lists(
    st.tuples(st.integers(1, 99), st.integers(1, 5_000)), min_size=1, max_size=8, unique_by=lambda x: x[0]
)


@settings(max_examples=150, deadline=None)
@given(
    asks=LEVELS,
    stake=st.integers(1, 2_000 * MICRO),
    fees=st.sampled_from(["venue", "flat_2pct", "zero"]),
    key=st.sampled_from(["polymarket:1", "kalshi:KXHIGHNY-26JUL10-B85.5"]),
    scenario=st.sampled_from(list(Scenario)),
)
def test_a_buy_never_exceeds_its_stake_nor_the_displayed_size(
    asks: list[tuple[int, int]], stake: int, fees: FeeModelName, key: str, scenario: Scenario
) -> None:
    chosen = market(key)
    model = fee_model(RULES, chosen, parse_time("2026-08-20T00:00:00Z"), fees)
    history = data(chosen, book(snapshot(1, [], asks), key))
    venue = taker(history, scenario)
    total = 0
    for _ in range(3):
        found = venue.buy(0, stake, None, at(2), model)
        if not isinstance(found, Execution):
            break
        assert found.cash + found.fee <= stake
        assert 0 < found.size <= found.asked
        total += found.size
    share = Fraction(1, 2) if scenario is Scenario.PESSIMISTIC else 1
    assert total <= sum(size for _, size in asks) * MICRO * share


@settings(max_examples=100, deadline=None)
@given(
    asks=LEVELS,
    stake=st.integers(10_000, 500 * MICRO),
    fees=st.sampled_from(["venue", "flat_2pct", "zero"]),
)
def test_one_lot_more_would_not_fit_into_the_stake(
    asks: list[tuple[int, int]], stake: int, fees: FeeModelName
) -> None:
    model = fee_model(RULES, market(), parse_time("2026-08-20T00:00:00Z"), fees)
    levels = sorted(Level(price * 10_000, size * MICRO) for price, size in asks)
    lot = 10_000

    def fee(taken: Any) -> int:
        return model.open_order().charge([FillLeg(x.price, x.size, Side.BUY) for x in taken])

    size = size_for_stake(levels, stake, lot, fee)
    more = take(levels, size + lot)
    assert size == sum(x.size for x in levels) or value(more, Side.BUY) + fee(more) > stake
