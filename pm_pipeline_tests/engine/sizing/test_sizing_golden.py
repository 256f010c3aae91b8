"""Every block of the golden file on sizing and risk, to its last digit."""

import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from pm_pipeline.engine.sizing import (
    Bet,
    DrawdownRisk,
    Offer,
    Purchase,
    Sizing,
    SizingMode,
    best_fractions,
    break_even,
    break_even_mismatch,
    chance_of_falling_to,
    constrained_fraction,
    exclusive,
    exclusive_fractions,
    exclusive_growth,
    fair_price_error,
    growth,
    independent,
    kelly_fraction,
    kelly_purchase,
    payoff_after_fee,
    relative_growth,
    shrink,
    simultaneous_fractions,
    walk_sets,
    wanted_stake,
    weight,
    within,
    worst_profit,
)
from pm_pipeline.engine.sizing.portfolio import Ends, Floats
from pm_pipeline.markets import MICRO
from pm_pipeline.research.forecasts import wilson
from pm_pipeline_tests.shared import SHARED, needs_shared

pytestmark = needs_shared
PATH = SHARED / "golden" / "golden_risk.json"
GOLDEN: dict[str, Any] = json.loads(PATH.read_text("utf-8")) if PATH.is_file() else {}

HERE = {
    "seed2_table", "binary", "fees", "book_walk", "book_walk_single_level", "book_walk_existing",
    "path_independence", "multi_outcome", "simultaneous", "rck", "rck_multi", "rck_mc", "quarter_kelly_mc",
    "fractional_growth", "exact_growth_p60", "prob_ever_below_x_gaussian", "sizer", "arb_yes_no", "arb_walk",
    "arb_neg_risk", "arb_cross_venue", "wallet_edge", "wilson",
}  # fmt: skip
IN_TEST_RISK_GOLDEN = {
    "drawdown_stop", "daily_loss_limit", "max_open_positions", "position_cap", "volatility_filter",
}  # fmt: skip


def exactly(value: Any) -> Any:
    """All digits that are not noise of the last bits of a float."""
    return pytest.approx(value, rel=1e-12, abs=1e-14)


def fraction(value: float) -> Fraction:
    return Fraction(str(value))


def offers(levels: list[list[float]], fee: float = 0.0) -> list[Offer]:
    """``fee`` times p (1 - p) per contract comes on top of each price."""
    rate = fraction(fee)
    return [
        Offer(price + rate * price * (1 - price), int(size) * MICRO)
        for price, size in ((fraction(p), s) for p, s in levels)
    ]


def dollars(bought: Purchase) -> tuple[float, float]:
    return float(bought.size / MICRO), float(bought.cost / MICRO)


def test_every_block_of_the_file_has_its_test() -> None:
    assert set(GOLDEN) == HERE | IN_TEST_RISK_GOLDEN


def test_the_table_of_the_seed() -> None:
    for row in GOLDEN["seed2_table"]:
        full = kelly_fraction(row["win_rate"], 1 / (1 + row["odds"]))
        assert (full, full / 4) == (exactly(row["full"]), exactly(row["quarter"])), row


def test_binary_contracts_of_both_sides() -> None:
    for row in GOLDEN["binary"]:
        p, cost = (row["p"], row["cost"]) if row["side"] == "YES" else (1 - row["p_yes"], row["cost_no"])
        assert kelly_fraction(p, cost) == exactly(row["full"]), row


def test_fees_belong_to_the_cost_or_to_the_payoff() -> None:
    curve, rounded, winnings, notional, even_winnings, even_curve = GOLDEN["fees"]
    cost = 0.40 + 0.07 * 0.40 * 0.60
    assert cost == exactly(curve["c_eff"])
    assert kelly_fraction(0.5, cost) == exactly(curve["full"])
    assert kelly_fraction(0.5, 0.40) == exactly(curve["full_no_fee"])
    assert kelly_fraction(0.5, 0.40 + rounded["fee"] / 100) == exactly(rounded["full_100"])
    assert kelly_fraction(0.5, 0.40 + rounded["fee_1_contract"]) == exactly(rounded["full_1"])
    payoff = payoff_after_fee(0.40, 0.02)
    assert payoff == exactly(winnings["W"])
    assert kelly_fraction(0.5, 0.40, payoff) == exactly(winnings["full"])
    assert kelly_fraction(0.5, 0.40 * 1.01) == exactly(notional["full"])
    assert break_even(0.40, payoff) == exactly(even_winnings["p0"])
    assert break_even(cost) == exactly(even_curve["p0"])


def test_the_walk_along_a_book() -> None:
    case = GOLDEN["book_walk"]
    wealth = case["bankroll"] * MICRO
    bought = kelly_purchase(case["p"], offers(case["asks"]), if_won=wealth, if_lost=wealth)
    assert bought == Purchase(Fraction(300 * MICRO), Fraction(124 * MICRO))
    assert dollars(bought) == (case["total_qty"], case["total_cost"])
    assert float(bought.cost / wealth) == exactly(case["fraction"])
    assert float(bought.cost / bought.size) == exactly(case["avg_price"])
    assert dollars(bought)[0] == pytest.approx(case["brute_force_qty"], abs=1e-5)
    assert kelly_fraction(case["p"], 0.40) == exactly(case["naive_fraction_at_best_ask"])
    assert kelly_fraction(case["p"], case["avg_price"]) == exactly(case["naive_fraction_at_avg_price"])


def test_one_deep_level_is_the_closed_form() -> None:
    case = GOLDEN["book_walk_single_level"]
    bought = kelly_purchase(0.5, offers([[0.40, 1e6]]), if_won=1000 * MICRO, if_lost=1000 * MICRO)
    assert dollars(bought) == (exactly(case["qty"]), exactly(case["cost"]))
    assert kelly_fraction(0.5, 0.40) * 1000 == exactly(case["closed_form"])


def test_what_is_held_counts_and_the_path_does_not() -> None:
    case, paths = GOLDEN["book_walk_existing"], GOLDEN["path_independence"]
    levels = offers([[case["ask"], 1e6]])
    cash, held = case["cash"] * MICRO, case["yes"] * MICRO
    assert dollars(kelly_purchase(case["p"], levels, if_won=cash + held, if_lost=cash))[0] == exactly(
        case["qty"]
    )
    after = 1000 * MICRO - 200 * MICRO * 4 // 10
    second = kelly_purchase(0.5, levels, if_won=after + 200 * MICRO, if_lost=after)
    direct = kelly_purchase(0.5, levels, if_won=1000 * MICRO, if_lost=1000 * MICRO)
    assert dollars(second)[0] == exactly(paths["after_buying_200_at_040"])
    assert dollars(direct)[0] == exactly(paths["direct"])
    assert second.size + 200 * MICRO == direct.size
    assert dollars(second)[0] + 200 == exactly(paths["total"])


@pytest.mark.parametrize("case", GOLDEN.get("multi_outcome", []), ids=lambda c: c["name"])
def test_exclusive_outcomes(case: dict[str, Any]) -> None:
    p, c = case["p"], case["c"]
    found = exclusive_fractions(p, c)
    assert found.fractions == exactly(tuple(case["f"]))
    assert found.reserve == exactly(case["reserve_R"])
    assert [i for i, f in enumerate(found.fractions) if f > 0] == case["included"]
    assert found.fractions == pytest.approx(tuple(case["cvxpy"]), abs=3e-5)
    assert case["growth"] <= exclusive_growth(p, c, found.fractions) <= case["growth"] + 1e-8
    assert exclusive_growth(p, c, case["cvxpy"]) == pytest.approx(case["growth"], abs=1e-9)
    single = [max(kelly_fraction(pi, ci), 0.0) for pi, ci in zip(p, c, strict=True)]
    assert single == exactly(case["single_bet_kelly"])
    assert best_fractions(exclusive(p, c)) == pytest.approx(case["f"], abs=1e-7)


def expected_growth(ends: Ends, f: Floats) -> float:
    possible = ends.chances > 0
    return float(ends.chances[possible] @ np.log1p(ends.profits[possible] @ f))


def test_bets_at_the_same_time_do_at_least_as_well_as_the_general_solver() -> None:
    """Where the file's numbers are those of cvxpy, they are short of the optimum by its tolerance; so ours
    must lie near them *and* grow no slower."""
    two, same, three, five, copies = GOLDEN["simultaneous"]
    assert simultaneous_fractions([0.6] * 2, [0.5] * 2) == pytest.approx([two["each"]] * 2, abs=1e-8)
    assert kelly_fraction(0.6, 0.5) == exactly(two["single"])
    for p, c, f in (
        ([0.6] * 2, [0.5] * 2, same["f"]),
        ([0.55, 0.30, 0.80], [0.45, 0.22, 0.72], three["f"]),
        ([0.6] * 5, [0.5] * 5, five["f"]),
    ):
        found, ends = simultaneous_fractions(p, c), independent(p, c)
        assert found == pytest.approx(f, abs=3e-5)
        assert expected_growth(ends, found) >= expected_growth(ends, np.array(f)) - 1e-15
    singles = [kelly_fraction(p, c) for p, c in ((0.55, 0.45), (0.30, 0.22), (0.80, 0.72))]
    assert singles == exactly(three["single"])
    assert simultaneous_fractions([0.6] * 5, [0.5] * 5).sum() == pytest.approx(five["sum"], abs=1e-4)
    together = Ends(np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([0.6, 0.4]))
    assert best_fractions(together).sum() == pytest.approx(copies["total"], abs=1e-8)


@pytest.mark.parametrize("case", GOLDEN.get("rck", []), ids=lambda c: f"{c['p']}-{c['b']}-{c['alpha']}")
def test_risk_constrained_kelly(case: dict[str, Any]) -> None:
    risk, cost = DrawdownRisk.of(case["alpha"], case["beta"]), 1 / (1 + case["b"])
    full, f = kelly_fraction(case["p"], cost), constrained_fraction(case["p"], cost, risk)
    assert risk.lam == exactly(case["lam"])
    assert full == exactly(case["full"])
    assert f == pytest.approx(case["f"], rel=1e-10)
    assert f / full == pytest.approx(case["ratio"], rel=1e-10)
    assert risk.multiple == exactly(case["gaussian_fraction_2_over_1_plus_lambda"])


def test_risk_constrained_kelly_on_exclusive_outcomes_does_at_least_as_well_as_the_general_solver() -> None:
    case = GOLDEN["rck_multi"]
    risk, ends = DrawdownRisk.of(case["alpha"], case["beta"]), exclusive(case["p"], case["c"])
    assert risk.lam == exactly(case["lam"])
    found = best_fractions(ends, risk)
    assert found == pytest.approx(case["f"], abs=3e-7)
    possible = ends.chances > 0
    wealth = 1 + ends.profits[possible] @ found
    assert float(ends.chances[possible] @ wealth**-risk.lam) <= 1 + 1e-9
    assert expected_growth(ends, found) >= expected_growth(ends, np.array(case["f"]))


def falls(
    p: float, f: float, to: tuple[float, ...], *, paths: int = 20_000, bets: int = 3_000
) -> list[float]:
    """The share of simulated runs of even-money bets that are ever below each of ``to``."""
    random = np.random.default_rng(7)
    level = np.zeros(paths)
    lowest = np.zeros(paths)
    up, down = math.log1p(f), math.log1p(-f)
    for _ in range(bets):
        level += np.where(random.random(paths) < p, up, down)
        np.minimum(lowest, level, out=lowest)
    return [float(np.mean(lowest < math.log(x))) for x in to]


def test_the_bound_on_the_drawdown_holds_in_simulation() -> None:
    case = GOLDEN["rck_mc"]
    f = constrained_fraction(0.6, 0.5, DrawdownRisk.of(0.85, 0.1))
    assert f == pytest.approx(case["f"], rel=1e-10)
    [below] = falls(0.6, f, (0.85,))
    assert below == pytest.approx(case["P_min_below_085"], abs=0.01)
    assert below <= case["bound"]


def test_a_quarter_of_kelly_falls_as_often_as_said() -> None:
    case = GOLDEN["quarter_kelly_mc"]
    below_085, below_050 = falls(0.6, case["f"], (0.85, 0.5))
    assert below_085 == pytest.approx(case["P_below_085"], abs=0.012)
    assert below_050 == pytest.approx(case["P_below_050"], abs=0.003)
    assert chance_of_falling_to(0.85, 0.25) == exactly(case["gaussian"])
    assert chance_of_falling_to(0.5, 0.25) == exactly(case["gauss50"])


def test_growth_at_a_share_of_kelly() -> None:
    for multiple, value in GOLDEN["fractional_growth"].items():
        assert relative_growth(float(multiple)) == exactly(value)
    full = kelly_fraction(0.6, 0.5)
    for multiple, value in GOLDEN["exact_growth_p60"].items():
        assert growth(0.6, 0.5, float(multiple) * full) / growth(0.6, 0.5, full) == exactly(value)
    named = {"full": 1.0, "half": 0.5, "quarter": 0.25}
    for name, row in GOLDEN["prob_ever_below_x_gaussian"].items():
        for share, value in row.items():
            assert chance_of_falling_to(float(share), named[name]) == exactly(value)


def test_the_order_of_operations_of_the_sizer() -> None:
    equity = 10_000 * MICRO
    for row in GOLDEN["sizer"]:
        wanted = int(fraction(row["full"]) * fraction(row["fraction"]) * equity)
        cap, least = (Decimal(str(row[name])) for name in ("cap", "min"))
        assert within(wanted, equity, most=cap, least=least) == row["out"] * equity, row


def test_the_sizer_spends_its_share_of_kelly() -> None:
    for row in GOLDEN["seed2_table"]:
        cost = 1 / (1 + Fraction(row["odds"]))
        bet = Bet(
            equity=10_000 * MICRO,
            fixed=MICRO,
            p=row["win_rate"],
            offers=[Offer(cost, 10**9 * MICRO)],
            if_won=10_000 * MICRO,
            if_lost=10_000 * MICRO,
        )
        stake = wanted_stake(Sizing(mode=SizingMode.KELLY), bet)
        assert stake == pytest.approx(row["quarter"] * bet.equity, abs=2)


def legs(row: dict[str, Any]) -> list[Offer]:
    """YES and NO under the fee of a row of the file."""
    prices = [fraction(row["ask_yes"]), fraction(row["ask_no"])]
    if row["fee"].startswith("2%"):
        return [Offer(p, MICRO, 1 - fraction(0.02) * (1 - p)) for p in prices]
    rate = fraction(0.07) if row["fee"].startswith("7%") else Fraction(0)
    return [Offer(p + rate * p * (1 - p), MICRO) for p in prices]


@pytest.mark.parametrize("row", GOLDEN.get("arb_yes_no", []), ids=lambda r: f"{r['fee']}-{r['ask_yes']}")
def test_yes_and_no_together(row: dict[str, Any]) -> None:
    both = legs(row)
    cost = sum(leg.cost for leg in both)
    worst = worst_profit(both)
    assert float(worst) == exactly(row["worst"])
    assert [float(leg.payoff - cost) for leg in both] == exactly([row["profit_if_yes"], row["profit_if_no"]])
    assert float(cost) == exactly(row["sum"] + row["entry_fees"])
    assert float(worst / cost) == pytest.approx(row["worst_return_on_cost"], abs=5e-11)


@pytest.mark.parametrize(
    ("name", "fee", "least"),
    [
        ("min_net_profit_0_01", 0.0, "0.01"),
        ("min_net_profit_0_02", 0.0, "0.02"),
        ("with_7pct_fee_min0", 0.07, "0"),
    ],
)
def test_the_walk_along_both_books(name: str, fee: float, least: str) -> None:
    case = GOLDEN["arb_walk"]
    steps = walk_sets([offers(case["yes_asks"], fee), offers(case["no_asks"], fee)], least=Fraction(least))
    expected = case[name]
    assert [(s.size // MICRO, float(s.profit)) for s in steps] == [
        (size, exactly(profit)) for size, _, _, profit in expected["steps"]
    ]
    assert sum(s.size for s in steps) == expected["sets"] * MICRO
    assert float(sum(s.size * s.cost for s in steps) / MICRO) == exactly(expected["cost"])
    assert float(sum(s.size * s.profit for s in steps) / MICRO) == exactly(expected["profit"])


def test_all_outcomes_of_a_group() -> None:
    case = GOLDEN["arb_neg_risk"]
    no = [Offer(fraction(price), MICRO) for price in case["no_asks"]]
    assert float(worst_profit(no, losers=1)) == exactly(case["profit_per_set"])
    assert float(sum(leg.cost for leg in no)) == exactly(case["sum_no"])
    assert float(worst_profit(no, losers=1) + sum(leg.cost for leg in no)) == case["payoff_all_no"]
    bids = [Offer(1 - fraction(bid), MICRO) for bid in case["yes_bids"]]
    assert (worst_profit(bids, losers=1) == worst_profit(no, losers=1)) is case["equivalent"]
    example = case["buy_all_yes_example"]
    yes = [Offer(fraction(price), MICRO) for price in example["yes_asks"]]
    assert float(worst_profit(yes)) == exactly(example["profit"])


def test_two_venues() -> None:
    case = GOLDEN["arb_cross_venue"]
    fees = fraction(case["fees"])
    both = [Offer(fraction(case["yes_A"]) + fees, MICRO), Offer(fraction(case["no_B"]), MICRO)]
    cost = sum((leg.cost for leg in both), Fraction(0))
    assert float(cost) == exactly(case["cost"])
    assert float(worst_profit(both)) == exactly(case["profit_match"])
    assert float(break_even_mismatch(cost)) == exactly(case["break_even_mismatch_prob_if_payoff_0"])


def test_the_edge_of_a_wallet_shrinks_to_what_its_few_bets_support() -> None:
    case = GOLDEN["wallet_edge"]
    for wallet, name in (("favourite_buyer_90pct_hit", "fav"), ("longshot_buyer_30pct_hit", "long")):
        row, shrunk = case[wallet], case["shrunk"][name]
        se = fair_price_error([row["mean_price"]] * row["n"])
        edge = row["hit_rate"] - row["mean_price"]
        assert edge == exactly(row["edge"])
        assert edge / se == exactly(row["z_null"])
        assert norm.sf(edge / se) == exactly(row["p_one_sided"])
        assert shrink(edge, 0.0, weight(se, math.sqrt(shrunk["tau2"]))) == exactly(shrunk["edge_shrunk"])


def test_the_interval_of_a_hit_rate() -> None:
    for name, bounds in GOLDEN["wilson"].items():
        hits, count = map(int, name.split("/"))
        assert wilson(hits, count) == exactly(tuple(bounds))
