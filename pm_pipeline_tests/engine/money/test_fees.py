import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.engine.money.fees import (
    FeeModel,
    FeeModelName,
    FillLeg,
    Liquidity,
    RuleFees,
    affordable_size,
    all_in_cost,
    booking,
    exact_fee,
    fee_model,
    maker_rebate,
    settle_rounding,
)
from pm_pipeline.markets import FeeTerms, Side, to_micro
from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.rules import FeeRule, Formula, NoRuleError, RuleBook
from pm_pipeline.markets.units import MICRO, divide, notional
from pm_pipeline_tests.markets.builders import a_market
from pm_pipeline_tests.shared import SHARED, needs_shared

BOOK = RuleBook.default()
KALSHI_DAYS = {
    "whole cents": "2026-02-01",
    "cent balances": "2026-05-01",
    "direct member": "2026-08-01",
    "micro trade fee": "2026-10-01",
}


def golden(name: str) -> Any:
    return json.loads((SHARED / "golden" / name).read_text())


def kalshi_model(day: str, series: str = "KXHIGHNY") -> FeeModel:
    return fee_model(BOOK, a_market(f"kalshi:{series}-X"), parse_time(day))


def polymarket_rule(rate: str, exponent: int = 1, rebate: str = "0", day: str = "2026-07-12") -> FeeRule:
    terms = FeeTerms(rate=Decimal(rate), exponent=exponent, taker_only=True, rebate_rate=Decimal(rebate))
    return BOOK.fee(a_market(fee_terms=terms), parse_time(day))


WEATHER = RuleFees(polymarket_rule("0.05"))


def buy(price: str, size: str, liquidity: Liquidity = Liquidity.TAKER) -> FillLeg:
    return FillLeg(to_micro(price), to_micro(size), Side.BUY, liquidity)


# --- Polymarket -------------------------------------------------------------------------------------------


@needs_shared
def test_polymarkets_taker_fees_of_the_golden_file_are_reproduced() -> None:
    """Rounded to the nearest 1e-5, as its authors did. The venue cuts, which differs on one made-up tie."""
    cases = [c for c in golden("polymarket_fee_cases.json")["cases"] if c["role"] == "taker" and "fee" in c]
    assert len(cases) == 6
    differing = []
    for case in cases:
        size = to_micro(case["shares"])
        value = int(Fraction(case["price"]) * MICRO * size)
        rule = polymarket_rule(case["rate"], case["exponent"])
        nearest = RuleFees(replace(rule, rounding="half_even")).trade_fee(value, size, Liquidity.TAKER)
        assert nearest == to_micro(case["fee"]), case
        if RuleFees(rule).trade_fee(value, size, Liquidity.TAKER) != nearest:
            differing.append((case["shares"], case["price"], case["rate"]))
    assert differing == [("1", "0.5", "0.00022")]


@needs_shared
def test_the_official_clients_unrounded_fees_are_reproduced_exactly() -> None:
    cases = [c for c in golden("polymarket_fee_cases.json")["cases"] if "fee_unrounded" in c]
    assert len(cases) == 10
    for case in cases:
        size = to_micro(case["shares"])
        fee = exact_fee(
            Formula.CURVE, to_micro(case["rate"]), case["exponent"], to_micro(case["price"]) * size, size
        )
        assert Fraction(*fee) / MICRO == Fraction(case["fee_unrounded"]), case


@needs_shared
def test_maker_rebates_of_the_golden_file_are_reproduced() -> None:
    cases = [c for c in golden("polymarket_fee_cases.json")["cases"] if c["role"] == "maker_rebate"]
    assert len(cases) == 4
    for case in cases:
        rule = polymarket_rule(case["rate"], case["exponent"], case["rebate_rate"])
        assert maker_rebate(rule, to_micro(case["price"]), to_micro(case["shares"])) == to_micro(
            case["rebate"]
        )


@needs_shared
def test_the_fee_of_a_real_match_is_that_of_its_average_price() -> None:
    """London 27 C, 2026-07-12: one taker against nine makers; the chain took 1.625690."""
    text = (
        SHARED / "samples/polymarket/complete_markets/london_27C_2026-07-12_prices_trades_fill.json"
    ).read_text()
    recorded = json.loads(text, parse_float=Decimal)
    taker = recorded["target_trades"][0]
    makers = [
        row
        for row in recorded["market_trades_near_fill"]
        if row["transactionHash"] == taker["transactionHash"] and row["asset"] != taker["asset"]
    ]
    assert len(makers) == 9
    # A maker's purchase of NO at q is the other half of a purchase of YES at 1 - q.
    legs = [FillLeg(MICRO - to_micro(row["price"]), to_micro(row["size"]), Side.BUY) for row in makers]
    assert sum(leg.size for leg in legs) == to_micro(taker["size"])
    at = taker["timestamp"] * 10**9
    market = a_market(tags=("Weather",))
    assert fee_model(BOOK, market, at).open_order().charge(legs) == to_micro("1.625690")
    order = fee_model(BOOK, market, at).open_order()
    assert sum(order.charge([leg]) for leg in legs) < to_micro("1.6163")


@pytest.mark.parametrize(
    ("paid", "shares", "fee"),
    [("30", "102.116", "1.05932"), ("44.274", "166.68", "1.62569")],
)
def test_fees_read_off_the_chain_are_reproduced(paid: str, shares: str, fee: str) -> None:
    size = to_micro(shares)
    assert WEATHER.trade_fee(to_micro(paid) * MICRO, size, Liquidity.TAKER) == to_micro(fee)


def test_a_crypto_fee_read_off_the_chain_is_cut_not_rounded() -> None:
    """A 5-minute bitcoin match of 2026 at rate 0.07: 10.132097 by the formula, 10.132090 on the chain."""
    size, price = to_micro("580.677591"), Fraction("0.527058567")
    model = RuleFees(BOOK.fee(a_market(tags=("Crypto", "5M")), parse_time("2026-09-01")))
    assert model.trade_fee(int(price * MICRO * size), size, Liquidity.TAKER) == to_micro("10.13209")


def test_what_is_below_the_fifth_decimal_is_cut() -> None:
    assert WEATHER.trade_fee(500_000 * 799, 799, Liquidity.TAKER) == 0
    assert WEATHER.trade_fee(500_000 * 800, 800, Liquidity.TAKER) == 10
    assert WEATHER.trade_fee(500_000 * 1_599, 1_599, Liquidity.TAKER) == 10


def test_the_fees_of_early_2026_shrink_with_the_price_too() -> None:
    """100 shares of a 15-minute market at 0.50 cost 0.78 dollars: 1.56 % of what was traded."""
    market = a_market(tags=("Crypto", "15M"))
    model = fee_model(BOOK, market, parse_time("2026-01-20"))
    assert model.open_order().charge([buy("0.50", "100")]) == 781_200
    assert model.open_order().charge([buy("0.10", "100")]) == 20_200
    assert model.rule.collected == "proceeds"


# Maker Rebates Program of 2026-01-06, for 100 shares: price, tokens of a buyer and USDC of a seller
OFFICIAL_2026_01 = [
    ("0.10", "0.20"),
    ("0.20", "0.64"),
    ("0.30", "1.10"),
    ("0.40", "1.44"),
    ("0.50", "1.56"),
    ("0.60", "1.44"),
    ("0.70", "1.10"),
    ("0.80", "0.64"),
    ("0.90", "0.20"),
]


@pytest.mark.parametrize(("price", "units"), OFFICIAL_2026_01)
def test_in_january_2026_sellers_paid_in_dollars_what_buyers_paid_in_shares(price: str, units: str) -> None:
    model = fee_model(BOOK, a_market(tags=("Crypto", "15M")), parse_time("2026-01-20"))
    size, cent = to_micro("100"), 10_000
    sold = model.open_order().charge([FillLeg(to_micro(price), size, Side.SELL)])
    assert divide(sold, cent, "half_even") * cent == to_micro(units)
    fee = model.open_order().charge([buy(price, "100")])
    got = booking(model.rule, Side.BUY, size, to_micro(price) * 100, fee)
    assert divide(size - got.contracts, cent, "half_even") * cent == to_micro(units)


SINGLE = Side.BUY, Liquidity.TAKER
BILLS: list[tuple[str, str, Any, tuple[Side, Liquidity], list[tuple[str, str]], str]] = [
    # what, day, market, order, fills of one match, fee by the official formula, worked out by hand
    ("weather", "2026-07-12", {"tags": ("Weather",)}, SINGLE, [("0.27", "100")], "0.98550"),
    (
        "the same sold",
        "2026-07-12",
        {"tags": ("Weather",)},
        (Side.SELL, Liquidity.TAKER),
        [("0.27", "100")],
        "0.98550",
    ),
    # 35 shares for 15.50: 0.05 * 15.5 * 19.5 / 35
    (
        "three levels",
        "2026-07-12",
        {"tags": ("Weather",)},
        SINGLE,
        [("0.40", "10"), ("0.45", "20"), ("0.50", "5")],
        "0.43178",
    ),
    (
        "three bids",
        "2026-07-12",
        {"tags": ("Weather",)},
        (Side.SELL, Liquidity.TAKER),
        [("0.50", "5"), ("0.45", "20"), ("0.40", "10")],
        "0.43178",
    ),
    ("sports in spring", "2026-07-09", {"tags": ("Sports",)}, SINGLE, [("0.30", "100")], "0.63000"),
    ("sports since July", "2026-07-10", {"tags": ("Sports",)}, SINGLE, [("0.30", "100")], "1.05000"),
    ("politics", "2026-05-20", {"tags": ("Politics",)}, SINGLE, [("0.60", "50")], "0.48000"),
    ("finance", "2026-05-20", {"category": "Finance"}, SINGLE, [("0.60", "50")], "0.48000"),
    ("crypto in spring", "2026-06-30", {"tags": ("Crypto",)}, SINGLE, [("0.27", "33")], "0.46830"),
    ("crypto since July", "2026-07-10", {"tags": ("Crypto",)}, SINGLE, [("0.27", "33")], "0.45530"),
    ("geopolitics", "2026-07-10", {"tags": ("Geopolitics",)}, SINGLE, [("0.27", "33")], "0"),
    (
        "economics at a fine tick",
        "2026-10-01",
        {"tags": ("Economics",)},
        SINGLE,
        [("0.9975", "250")],
        "0.03117",
    ),
    ("dust", "2026-10-01", {"tags": ("Economics",)}, SINGLE, [("0.001", "0.1")], "0"),
    (
        "a resting order",
        "2026-10-01",
        {"tags": ("Sports",)},
        (Side.BUY, Liquidity.MAKER),
        [("0.50", "1000")],
        "0",
    ),
    # four decimals: 33 * 0.25 * 0.1971 ** 2 shares, worth 0.27 each
    ("15 minutes bought", "2026-01-20", {"tags": ("Crypto", "15M")}, SINGLE, [("0.27", "33")], "0.0865"),
    (
        "15 minutes sold",
        "2026-01-20",
        {"tags": ("Crypto", "15M")},
        (Side.SELL, Liquidity.TAKER),
        [("0.27", "33")],
        "0.3204",
    ),
    (
        "sold since February",
        "2026-02-12",
        {"tags": ("Crypto", "15M")},
        (Side.SELL, Liquidity.TAKER),
        [("0.27", "33")],
        "0.0865",
    ),
    ("college basketball", "2026-03-01", {"tags": ("Sports", "NCAAB")}, SINGLE, [("0.50", "100")], "0.2187"),
    (
        "an ordinary market of that time",
        "2026-03-01",
        {"tags": ("Politics",)},
        SINGLE,
        [("0.50", "100")],
        "0",
    ),
    ("2025", "2025-11-01", {"tags": ("Crypto", "15M")}, SINGLE, [("0.50", "100")], "0"),
]


@pytest.mark.parametrize(("what", "day", "market", "order", "fills", "fee"), BILLS, ids=[b[0] for b in BILLS])
def test_a_polymarket_bill_is_that_of_the_official_formula(
    what: str,
    day: str,
    market: dict[str, Any],
    order: tuple[Side, Liquidity],
    fills: list[tuple[str, str]],
    fee: str,
) -> None:
    legs = [FillLeg(to_micro(price), to_micro(size), *order) for price, size in fills]
    model = fee_model(BOOK, a_market(**market), parse_time(day))
    assert model.open_order().charge(legs) == to_micro(fee)


def test_an_old_market_keeps_the_exponent_of_its_own_schedule() -> None:
    terms = FeeTerms(rate=Decimal("0.25"), exponent=2, taker_only=True, rebate_rate=Decimal("0.2"))
    model = fee_model(BOOK, a_market(tags=("Crypto", "15M"), fee_terms=terms), parse_time("2026-05-01"))
    assert model.open_order().charge([buy("0.50", "125.5")]) == to_micro("1.96093")


@pytest.mark.parametrize(
    ("day", "side", "booked"),
    [
        # 0.7812 dollars of fee are 1.5624 shares at 0.50
        ("2026-01-20", Side.BUY, ("98.4376", "49.2188", "0.7812")),
        ("2026-01-20", Side.SELL, ("100", "50", "1.5625")),
        ("2026-04-27", Side.BUY, ("96.4", "48.2", "1.8")),
        ("2026-04-28", Side.BUY, ("100", "50", "1.8")),
        ("2026-01-04", Side.BUY, ("100", "50", "0")),
    ],
)
def test_a_buyers_fee_was_taken_in_shares_until_exchange_v2(
    day: str, side: Side, booked: tuple[str, str, str]
) -> None:
    model = fee_model(BOOK, a_market(tags=("Crypto", "15M")), parse_time(day))
    fee = model.open_order().charge([FillLeg(500_000, to_micro("100"), side)])
    expected = tuple(to_micro(part) for part in booked)
    assert booking(model.rule, side, to_micro("100"), to_micro("50"), fee) == expected


@given(st.integers(1, MICRO - 1), st.integers(1, 10**12))
def test_a_fee_in_shares_leaves_the_cash_the_price_and_never_favours_the_buyer(price: int, size: int) -> None:
    model = fee_model(BOOK, a_market(tags=("Crypto", "15M")), parse_time("2026-04-01"))
    cash = notional(price, size, "ceil")
    fee = model.open_order().charge([FillLeg(price, size, Side.BUY)])
    got = booking(model.rule, Side.BUY, size, cash, fee)
    assert got.cash + got.fee == cash
    assert 0 <= got.contracts <= size
    assert (size - got.contracts) * cash >= fee * size > (size - got.contracts - 1) * cash or not fee


def test_polymarkets_makers_are_free_and_do_not_change_what_the_taker_pays() -> None:
    taken, rested = buy("0.40", "10"), buy("0.60", "1000", Liquidity.MAKER)
    assert WEATHER.open_order().charge([rested]) == 0
    assert WEATHER.open_order().charge([taken, rested]) == WEATHER.open_order().charge([taken]) == 120_000


def test_makers_pay_per_fill_where_a_schedule_binds_them() -> None:
    terms = FeeTerms(rate=Decimal("0.05"), exponent=1, taker_only=False, rebate_rate=Decimal(0))
    model = fee_model(BOOK, a_market(fee_terms=terms), parse_time("2026-07-12"))
    fills = [buy("0.40", "10", Liquidity.MAKER), buy("0.60", "10", Liquidity.MAKER)]
    assert model.open_order().charge(fills) == 2 * 120_000


LEGS = st.lists(st.tuples(st.integers(0, MICRO), st.integers(1, 10**12)), min_size=1, max_size=8)


@given(LEGS)
def test_the_fee_at_the_average_price_is_never_below_the_sum_over_levels(
    levels: list[tuple[int, int]],
) -> None:
    legs = [FillLeg(price, size, Side.BUY) for price, size in levels]
    whole = WEATHER.open_order().charge(legs)
    assert whole >= sum(WEATHER.open_order().charge([leg]) for leg in legs)
    assert whole == WEATHER.open_order().charge(legs[::-1])


# --- Kalshi -----------------------------------------------------------------------------------------------


def held_price(fill: dict[str, Any]) -> int:
    """The price of the contract traded. For a sale Kalshi names the side opposite to the one held."""
    side = fill["side"] if fill["action"] == "buy" else {"yes": "no", "no": "yes"}[fill["side"]]
    return to_micro(fill[f"{side}_price_dollars"])


@needs_shared
def test_the_real_bills_of_may_2026_are_reproduced() -> None:
    recorded = golden("kalshi_real_fill_fees_2026_05_sample.json")
    billed = 0
    for order in recorded["orders"]:
        model = fee_model(BOOK, a_market(f"kalshi:{order['ticker']}"), parse_time(order["created_time"]))
        fees = model.open_order()
        for fill in order["fills"]:
            leg = FillLeg(held_price(fill), to_micro(fill["count_fp"]), Side(fill["action"]))
            assert fees.charge([leg]) == to_micro(fill["fee_cost"]), (order["order"], fill)
            billed += 1
    assert billed == recorded["n_fills"] == 63


@needs_shared
def test_the_real_bills_of_august_2026_are_reproduced() -> None:
    path = SHARED / "samples/kalshi/2026-08_cockpit/portfolio_fills_redacted.json"
    fills = json.loads(path.read_text())["payload"]["fills"]
    assert len(fills) == 33
    for fill in fills:
        model = fee_model(BOOK, a_market(f"kalshi:{fill['ticker']}"), parse_time(fill["created_time"]))
        leg = FillLeg(held_price(fill), to_micro(fill["count_fp"]), Side(fill["action"]))
        assert model.open_order().charge([leg]) == to_micro(fill["fee_cost"]), fill["ticker"]


@needs_shared
@pytest.mark.parametrize("number", range(3))
def test_the_official_rounding_examples_are_reproduced_from_their_trade_fees(number: int) -> None:
    recorded = golden("kalshi_fee_rounding_official.json")
    case = recorded["cases"][number]
    cent = to_micro(recorded["balance_precision"])
    accumulator = 0
    for i, lot in enumerate(case["lots"]):
        revenue = -notional(to_micro(case["price"]), to_micro(lot), "ceil")
        net, accumulator = settle_rounding(
            to_micro(case["trade_fee"][i]), revenue, accumulator, balance_step=cent, rebate_step=cent
        )
        rebate = to_micro(case["rebate"][i])
        assert net == to_micro(case["net_fee"][i])
        assert accumulator + rebate == to_micro(case["accumulator"][i])
        assert revenue - net - rebate == to_micro(case["balance_change"][i])


@needs_shared
def test_peers_cent_fees_are_reproduced() -> None:
    rules = {"taker": "KXHIGHNY", "maker": "KXCPI"}
    for case in golden("kalshi_fee_peer_units.json")["cases"]:
        model = kalshi_model(KALSHI_DAYS["whole cents"], rules[case["role"]])
        leg = FillLeg(case["price_cents"] * 10_000, case["n"] * MICRO, Side.BUY, Liquidity(case["role"]))
        assert model.open_order().charge([leg]) == case["fee_cents"] * 10_000, case


def test_the_worked_example_of_september_2026_is_reproduced() -> None:
    """1 contract at 0.055 of a member whose balance is kept in cents: net 0.005."""
    rule = replace(kalshi_model("2026-10-01").rule, balance_step=10_000, rebate_step=10_000)
    model = RuleFees(rule)
    assert model.trade_fee(55_000 * MICRO, MICRO, Liquidity.TAKER) == 3_639
    assert settle_rounding(3_639, -55_000, 0, balance_step=10_000, rebate_step=10_000) == (5_000, 1_361)
    assert model.open_order().charge([buy("0.055", "1")]) == 5_000


@pytest.mark.parametrize(
    ("regime", "series", "liquidity", "fee"),
    [
        ("whole cents", "KXHIGHNY", Liquidity.TAKER, "0.18"),
        ("cent balances", "KXHIGHNY", Liquidity.TAKER, "0.18"),
        ("direct member", "KXHIGHNY", Liquidity.TAKER, "0.175"),
        ("micro trade fee", "KXHIGHNY", Liquidity.TAKER, "0.175"),
        ("micro trade fee", "KXMLBGAME", Liquidity.TAKER, "0.0875"),
        ("micro trade fee", "KXBTCY", Liquidity.TAKER, "0"),
        ("micro trade fee", "KXHIGHNY", Liquidity.MAKER, "0"),
        ("micro trade fee", "KXCPI", Liquidity.MAKER, "0.0438"),
        ("micro trade fee", "KXMLBGAME", Liquidity.MAKER, "0.0219"),
    ],
)
def test_ten_contracts_at_fifty_cents_cost_what_the_regime_says(
    regime: str, series: str, liquidity: Liquidity, fee: str
) -> None:
    model = kalshi_model(KALSHI_DAYS[regime], series)
    assert model.open_order().charge([buy("0.50", "10", liquidity)]) == to_micro(fee)


KALSHI_BILLS: list[tuple[str, str, str, tuple[Side, Liquidity], list[tuple[str, str]], list[str]]] = [
    # what, day, series, order, its fills one after the other, net fees worked out by hand
    ("whole cents", "2026-02-01", "KXHIGHNY", SINGLE, [("0.33", "7")], ["0.11"]),
    ("a maker, whole cents", "2026-02-01", "KXCPI", (Side.BUY, Liquidity.MAKER), [("0.90", "100")], ["0.16"]),
    ("half rate of an index", "2026-01-15", "KXINXU", SINGLE, [("0.50", "10")], ["0.09"]),
    ("full rate of an index", "2026-07-04", "KXINXU", SINGLE, [("0.50", "10")], ["0.1750"]),
    # 0.0110 of trade fee, and 0.0040 to the next cent
    ("below a penny", "2026-05-01", "KXHIGHNY", SINGLE, [("0.055", "3")], ["0.015"]),
    # 0.0053 and 0.0047 each; the third brings the sum to 0.0141
    ("parts of a contract", "2026-05-01", "KXHIGHNY", SINGLE, [("0.50", "0.30")] * 3, ["0.01", "0.01", "0"]),
    # 0.0080 of 0.13, then 0.0159 of 0.26
    (
        "two sales",
        "2026-05-01",
        "KXHIGHNY",
        (Side.SELL, Liquidity.TAKER),
        [("0.13", "1"), ("0.13", "2")],
        ["0.01", "0.02"],
    ),
    # rounding of 0.0020 each, until six of them exceed a cent
    (
        "a rebate to a seller",
        "2026-05-01",
        "KXHIGHNY",
        (Side.SELL, Liquidity.TAKER),
        [("0.13", "1")] * 7,
        ["0.01"] * 5 + ["0", "0.01"],
    ),
    ("direct, below a penny", "2026-08-01", "KXHIGHNY", SINGLE, [("0.055", "3")], ["0.0110"]),
    # 0.0005 of trade fee; 0.009903 of price leaves 0.000097 to the next hundredth of a cent
    ("direct, parts", "2026-08-01", "KXHIGHNY", SINGLE, [("0.3301", "0.03")], ["0.000597"]),
    ("direct, half rate", "2026-08-15", "KXMLBTOTAL", SINGLE, [("0.62", "25")], ["0.2062"]),
    (
        "direct, a maker at half rate",
        "2026-08-15",
        "KXMLBGAME",
        (Side.BUY, Liquidity.MAKER),
        [("0.62", "25")],
        ["0.0516"],
    ),
    ("direct, free", "2026-08-15", "KXBTCY", SINGLE, [("0.62", "25")], ["0"]),
    (
        "direct, a maker for nothing",
        "2026-08-15",
        "KXHIGHNY",
        (Side.SELL, Liquidity.MAKER),
        [("0.62", "25")],
        ["0"],
    ),
    # 0.003639 each, rounding 0.000061; the second brings the sum to 0.000122
    ("micro", "2026-10-01", "KXHIGHNY", SINGLE, [("0.055", "1")] * 3, ["0.0037", "0.0036", "0.0037"]),
    # 0.0175 * 0.37 * 0.1234 * 0.8766 is 0.000701 rounded up, the price 0.045658
    (
        "micro, a maker",
        "2026-10-01",
        "KXCPI",
        (Side.SELL, Liquidity.MAKER),
        [("0.1234", "0.37")],
        ["0.000758"],
    ),
]


@pytest.mark.parametrize(
    ("what", "day", "series", "order", "fills", "net"), KALSHI_BILLS, ids=[b[0] for b in KALSHI_BILLS]
)
def test_a_kalshi_bill_is_that_of_the_official_formula(
    what: str,
    day: str,
    series: str,
    order: tuple[Side, Liquidity],
    fills: list[tuple[str, str]],
    net: list[str],
) -> None:
    account = kalshi_model(day, series).open_order()
    charged = [account.charge([FillLeg(to_micro(p), to_micro(size), *order)]) for p, size in fills]
    assert charged == [to_micro(fee) for fee in net]


def test_an_account_kept_in_cents_pays_the_worked_example_of_the_venue() -> None:
    model = fee_model(
        BOOK.for_account(kalshi_balance="cents"), a_market("kalshi:KXHIGHNY-X"), parse_time("2026-10-01")
    )
    assert model.open_order().charge([buy("0.055", "1")]) == 5_000


def test_makers_paid_a_quarter_of_a_cent_per_contract_before_july_2025() -> None:
    model = kalshi_model("2025-06-30", "KXCPI")
    assert model.open_order().charge([buy("0.90", "100", Liquidity.MAKER)]) == 250_000
    assert model.open_order().charge([buy("0.90", "1", Liquidity.MAKER)]) == 10_000


def test_the_accumulator_belongs_to_one_order_and_outlives_its_taker_fills() -> None:
    model = kalshi_model(KALSHI_DAYS["cent balances"], "KXCPI")
    order = model.open_order()
    taken, rested = buy("0.50", "0.30"), buy("0.50", "0.30", Liquidity.MAKER)
    assert order.charge([taken]) == 10_000  # 0.0053 of trade fee, 0.0047 of rounding
    assert order.charge([rested]) == 0  # 0.0014 and 0.0086, less the cent that 0.0133 has earned
    assert model.open_order().charge([rested]) == 10_000


REGIMES = st.sampled_from(sorted(KALSHI_DAYS.values()))
CENT_PRICES = st.integers(1, 99).map(lambda cents: cents * 10_000)
LOTS = st.lists(st.integers(1, 50_000).map(lambda hundredths: hundredths * 10_000), min_size=1, max_size=20)


@given(REGIMES, CENT_PRICES, LOTS, st.sampled_from([*Side]))
def test_splitting_a_kalshi_order_into_lots_costs_no_more_than_the_documented_bound(
    day: str, price: int, lots: list[int], side: Side
) -> None:
    """Each lot adds less than a step of the trade fee and one of the balance; docs/fees.md."""
    model = kalshi_model(day)
    rule = model.rule
    order, whole = model.open_order(), model.open_order()
    fees = [order.charge([FillLeg(price, lot, side)]) for lot in lots]
    once = whole.charge([FillLeg(price, sum(lots), side)])
    assert min(fees) >= 0
    assert abs(sum(fees) - once) < len(lots) * (rule.step + rule.balance_step) + max(
        rule.balance_step, rule.rebate_step
    )


@given(REGIMES, CENT_PRICES, LOTS)
def test_a_balance_stays_on_its_grid_after_every_fill(day: str, price: int, lots: list[int]) -> None:
    model = kalshi_model(day)
    order, step = model.open_order(), model.rule.balance_step or 1
    for lot in lots:
        leg = FillLeg(price, lot, Side.BUY)
        assert (notional(leg.price, leg.size, "ceil") + order.charge([leg])) % step == 0


@given(st.integers(0, 20_000), st.integers(-(10**7), 10**7), st.integers(0, 30_000))
def test_a_rebate_never_exceeds_the_fee_nor_what_was_accumulated(fee: int, revenue: int, kept: int) -> None:
    net, left = settle_rounding(fee, revenue, kept, balance_step=10_000, rebate_step=10_000)
    assert 0 <= net < fee + 10_000
    assert left >= 0
    assert (revenue - net) % 10_000 == 0
    assert net - left == fee - kept


def test_without_a_rebate_unit_nothing_is_paid_back() -> None:
    assert settle_rounding(100, -50, 9_000_000, balance_step=10_000, rebate_step=0) == (9_950, 9_009_850)


# --- all venues -------------------------------------------------------------------------------------------

MODELS = [
    *(kalshi_model(day, series) for day in KALSHI_DAYS.values() for series in ("KXHIGHNY", "KXCPI")),
    WEATHER,
    fee_model(BOOK, a_market(tags=("Crypto", "15M")), parse_time("2026-01-20")),
    *(fee_model(BOOK, a_market(), parse_time("2026-10-01"), name) for name in get_args(FeeModelName)),
    fee_model(BOOK, a_market("alpaca:BTCUSD", category="crypto"), parse_time("2026-10-01")),
]
ANY_MODEL = st.sampled_from(MODELS)
TRADED = (Liquidity.TAKER, Liquidity.MAKER)
SIZES = st.integers(0, 10**12)
PRICES = st.integers(0, MICRO)


@given(ANY_MODEL, PRICES, SIZES, SIZES, st.sampled_from(TRADED))
def test_a_fee_is_never_negative_and_never_falls_as_the_size_grows(
    model: FeeModel, price: int, size: int, more: int, liquidity: Liquidity
) -> None:
    rule = replace(model.rule, balance_step=0)  # what a balance is rounded by depends on the cents left over
    small, large = (
        RuleFees(rule).open_order().charge([FillLeg(price, s, Side.BUY, liquidity)])
        for s in (size, size + more)
    )
    assert 0 <= small <= large


@given(ANY_MODEL, PRICES, SIZES, SIZES)
def test_what_a_purchase_takes_from_the_cash_never_falls_as_the_size_grows(
    model: FeeModel, price: int, size: int, more: int
) -> None:
    def cash(size: int) -> int:
        return notional(price, size, "ceil") + model.open_order().charge([FillLeg(price, size, Side.BUY)])

    assert model.open_order().charge([FillLeg(price, size, Side.BUY)]) >= 0
    assert cash(size) <= cash(size + more)


@given(ANY_MODEL, st.lists(st.tuples(PRICES, st.integers(1, 10**10)), min_size=1, max_size=6), PRICES)
def test_the_all_in_cost_bounds_every_way_a_buy_order_can_be_filled(
    model: FeeModel, levels: list[tuple[int, int]], limit: int
) -> None:
    legs = [FillLeg(min(price, limit), size, Side.BUY) for price, size in levels]
    order, paid = model.open_order(), 0
    for leg in legs:
        paid += order.charge([leg]) + notional(leg.price, leg.size, "floor")
    size = sum(leg.size for leg in legs)
    assert paid <= all_in_cost(model, limit, size, fills=len(legs))
    at_once = model.open_order().charge(legs) + sum(notional(*leg[:2], "floor") for leg in legs)
    assert at_once <= all_in_cost(model, limit, size, fills=len(legs))


@given(ANY_MODEL, st.integers(1, MICRO), st.integers(-10, 10**10), st.integers(1, 5))
def test_the_affordable_size_is_the_largest_that_the_cash_pays(
    model: FeeModel, price: int, cash: int, fills: int
) -> None:
    size = affordable_size(model, cash, price, fills=fills)
    assert size >= 0
    assert size == 0 or all_in_cost(model, price, size, fills=fills) <= cash
    assert all_in_cost(model, price, size + 1, fills=fills) > cash


def test_a_price_of_zero_has_no_affordable_size() -> None:
    with pytest.raises(ValueError, match="any size"):
        affordable_size(WEATHER, 1_000_000, 0)


@pytest.mark.parametrize("price", [0, MICRO])
@pytest.mark.parametrize("model", [WEATHER, *(kalshi_model(day) for day in KALSHI_DAYS.values())])
def test_a_certain_contract_costs_no_fee(model: FeeModel, price: int) -> None:
    assert model.open_order().charge([FillLeg(price, 7 * MICRO, Side.BUY)]) == 0
    assert exact_fee(Formula.CURVE, 70_000, 1, price * MICRO, MICRO).numerator == 0


@pytest.mark.parametrize("price", [-1, MICRO + 1])
def test_a_curve_refuses_a_price_that_is_no_probability(price: int) -> None:
    with pytest.raises(ValueError, match=r"price within \[0, 1\]"):
        WEATHER.open_order().charge([FillLeg(price, MICRO, Side.BUY)])


@pytest.mark.parametrize("model", MODELS)
def test_no_fills_cost_nothing(model: FeeModel) -> None:
    assert model.open_order().charge([]) == 0


@pytest.mark.parametrize(
    ("name", "fees"),
    [("flat_2pct", (10_400, 1)), ("flat_1pct", (5_200, 1)), ("zero", (0, 0))],
)
def test_the_named_alternatives_charge_a_share_of_what_is_traded(
    name: FeeModelName, fees: Sequence[int]
) -> None:
    for market in (a_market(), a_market("kalshi:KXMLBGAME-X")):
        model = fee_model(BOOK, market, parse_time("2010-01-01"), name)
        for liquidity in TRADED:
            assert model.open_order().charge([buy("0.52", "1", liquidity)]) == fees[0]
        assert model.open_order().charge([buy("0.000001", "0.01")]) == fees[1]
        assert name in model.rule.source


def test_alpaca_charges_crypto_by_the_notional() -> None:
    model = fee_model(BOOK, a_market("alpaca:BTCUSD", category="crypto"), parse_time("2026-10-01"))
    assert model.open_order().charge([buy("60000", "0.5")]) == to_micro("75")
    assert model.open_order().charge([buy("60000", "0.5", Liquidity.MAKER)]) == to_micro("45")


def test_the_venues_model_needs_a_rule_for_that_time() -> None:
    with pytest.raises(NoRuleError):
        fee_model(BOOK, a_market(), parse_time("2020-01-01"))


@given(
    st.sampled_from([*Formula]), st.integers(0, 300_000), st.integers(1, 2), PRICES, st.integers(1, 10**12)
)
def test_every_formula_agrees_with_its_definition_in_fractions(
    formula: Formula, rate: int, exponent: int, price: int, size: int
) -> None:
    p, r, n = Fraction(price, MICRO), Fraction(rate, MICRO), Fraction(size, MICRO)
    curve = n * r * (p * (1 - p)) ** exponent
    bought, sold = {
        Formula.CURVE: (curve, curve),
        Formula.PRICE_CURVE: (p * curve, p * curve),
        Formula.RECEIVED_CURVE: (p * curve, curve),
        Formula.NOTIONAL: (n * p * r, n * p * r),
        Formula.PER_CONTRACT: (n * r, n * r),
    }[formula]
    fee = exact_fee(formula, rate, exponent, price * size, size, Side.SELL)
    assert Fraction(*fee) == sold * MICRO
    fee = exact_fee(formula, rate, exponent, price * size, size)
    assert Fraction(*fee) == bought * MICRO
    assert fee.rounded(10, "floor") == divide(fee.numerator, fee.denominator * 10, "floor") * 10
