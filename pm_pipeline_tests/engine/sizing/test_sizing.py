"""Sizing against outside truths: closed forms, brute force, scipy; and what must always hold."""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from pm_pipeline.engine.sizing import (
    MOST_SOLVED,
    Bet,
    DrawdownRisk,
    Ends,
    NoBet,
    Offer,
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
    shrink,
    simultaneous_fractions,
    walk_sets,
    wanted_stake,
    weight,
    within,
    worst_profit,
)
from pm_pipeline.errors import UsageError
from pm_pipeline.markets import MICRO
from pm_pipeline_tests.engine.builders import doc_table

PROBABILITY = st.floats(0.01, 0.99)
PRICE = st.integers(1, 99).map(lambda cents: Fraction(cents, 100))
LEVELS = st.lists(st.tuples(PRICE, st.integers(1, 1_000_000_000)), min_size=1, max_size=6).map(
    lambda rows: [Offer(cost, size) for cost, size in sorted(rows)]
)
EQUITY = 1_000 * MICRO


@pytest.mark.parametrize("row", doc_table("risk.md", "Ways of sizing"), ids=lambda r: r["mode"])
def test_every_way_of_sizing_is_in_the_documentation(row: dict[str, str]) -> None:
    assert row["mode"] in {*SizingMode}
    assert len(doc_table("risk.md", "Ways of sizing")) == len(SizingMode)


@pytest.mark.parametrize("row", doc_table("risk.md", "Worked fractions"), ids=lambda r: r["remark"])
def test_the_kelly_fraction_is_as_documented_and_grows_fastest(row: dict[str, str]) -> None:
    p, cost, payoff, f = (float(row[name]) for name in ("p", "cost", "payoff", "f"))
    assert kelly_fraction(p, cost, payoff) == pytest.approx(f, abs=1e-6)
    best = minimize_scalar(
        lambda x: -growth(p, cost, x, payoff), bounds=(0, 0.999), method="bounded", options={"xatol": 1e-10}
    )
    assert kelly_fraction(p, cost, payoff) == pytest.approx(best.x, abs=1e-6)


def test_what_is_no_bet_is_said_so() -> None:
    assert kelly_fraction(0.99, 1.0) == -math.inf
    assert kelly_fraction(0.5, 0.5) == 0.0
    assert growth(0.5, 0.5, 1.0) == -math.inf
    assert growth(1.0, 0.5, 1.0) == pytest.approx(math.log(2))
    assert growth(0.0, 0.5, 0.5) == pytest.approx(math.log(0.5))
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="not a probability"):
            kelly_fraction(wrong, 0.5)
    for call in (
        lambda: kelly_fraction(0.5, 0.0),
        lambda: chance_of_falling_to(0.0, 1.0),
        lambda: chance_of_falling_to(0.5, 2.0),
        lambda: kelly_purchase(0.5, [Offer(Fraction(0), 1)], if_won=1, if_lost=1),
        lambda: DrawdownRisk.of(1.0, 0.1),
        lambda: DrawdownRisk.of(0.5, 0.0),
        lambda: weight(-1.0, 1.0),
        lambda: fair_price_error([]),
        lambda: exclusive_fractions([0.5], [0.4, 0.4]),
        lambda: exclusive_fractions([0.9, 0.9], [0.4, 0.4]),
        lambda: exclusive_fractions([0.5], [0.0]),
        lambda: independent([0.5], []),
        lambda: independent([0.5], [0.0]),
        lambda: simultaneous_fractions([0.5], [0.4], most=0.0),
        lambda: best_fractions(Ends(np.array([[1.0], [-2.0]]), np.array([0.5, 0.5]))),
        lambda: best_fractions(Ends(np.array([[1.0], [-1.0]]), np.array([0.5, 0.4]))),
        lambda: worst_profit([]),
        lambda: worst_profit([Offer(Fraction(1, 2), 1)], losers=1),
        lambda: break_even_mismatch(Fraction(1, 2), Fraction(2)),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            call()


# ---------------------------------------------------------------------- depth


@settings(max_examples=200, deadline=None)
@given(PROBABILITY, LEVELS, st.integers(0, 500), st.integers(0, 500), st.floats(0.05, 0.95))
def test_a_purchase_in_two_parts_ends_where_one_purchase_does(
    p: float, offers: list[Offer], yes: int, no: int, part: float
) -> None:
    won, lost = EQUITY + yes * MICRO, EQUITY + no * MICRO
    whole = kelly_purchase(p, offers, if_won=won, if_lost=lost)
    left, first, spent, rest = Fraction(int(whole.size * Fraction(part))), Fraction(0), Fraction(0), []
    for cost, size, payoff in offers:
        taken = min(left, Fraction(size))
        left, first, spent = left - taken, first + taken, spent + taken * cost
        rest.append(Offer(cost, size - int(taken), payoff))
    scale = spent.denominator
    after = kelly_purchase(
        p,
        [Offer(o.cost, o.size * scale) for o in rest],
        if_won=int((won - spent + first) * scale),
        if_lost=int((lost - spent) * scale),
    )
    assert first + after.size / scale == whole.size
    assert spent + after.cost / scale == whole.cost


@settings(max_examples=200, deadline=None)
@given(PROBABILITY, LEVELS)
def test_no_purchase_a_little_larger_or_smaller_grows_faster(p: float, offers: list[Offer]) -> None:
    bought = kelly_purchase(p, offers, if_won=EQUITY, if_lost=EQUITY)
    assert bought.cost <= EQUITY

    def grown(size: Fraction) -> float:
        left, cost = size, Fraction(0)
        for offer in offers:
            taken = min(left, Fraction(offer.size))
            left, cost = left - taken, cost + taken * offer.cost
        return p * math.log(EQUITY - cost + size) + (1 - p) * math.log(EQUITY - cost)

    here, depth = grown(bought.size), sum(offer.size for offer in offers)
    for other in (bought.size * Fraction(99, 100), bought.size + MICRO // 100):
        if other <= depth:
            assert grown(other) <= here + 1e-12


def test_a_walk_ends_at_a_contract_that_cannot_gain() -> None:
    offers = [Offer(Fraction(99, 100), 5 * MICRO), Offer(Fraction(101, 100), 5 * MICRO)]
    bought = kelly_purchase(1.0, offers, if_won=EQUITY, if_lost=EQUITY)
    assert bought.size == 5 * MICRO
    assert kelly_purchase(0.2, [Offer(Fraction(1, 2), MICRO)], if_won=EQUITY, if_lost=EQUITY).size == 0


# ---------------------------------------------------------------------- several bets


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 0.9)), min_size=1, max_size=5))
def test_the_closed_form_for_exclusive_outcomes_is_what_the_solver_finds(
    rows: list[tuple[float, float]],
) -> None:
    weights, costs = [w for w, _ in rows], [c for _, c in rows]
    p = [w / sum(weights) * 0.95 for w in weights]  # an outcome that is not listed wins the rest
    found = exclusive_fractions(p, costs)
    assert all(f >= -1e-12 for f in found.fractions)
    assert sum(found.fractions) == pytest.approx(1 - found.reserve)
    solved = best_fractions(exclusive(p, costs))
    assert exclusive_growth(p, costs, found.fractions) >= exclusive_growth(p, costs, solved.tolist()) - 1e-9
    assert exclusive_growth(p, costs, found.fractions) == pytest.approx(
        exclusive_growth(p, costs, solved.tolist()), abs=1e-7
    )


def test_an_exhaustive_group_below_a_dollar_takes_the_whole_bankroll() -> None:
    found = exclusive_fractions([0.5, 0.3, 0.2], [0.45, 0.30, 0.15])
    assert found.fractions == pytest.approx((0.5, 0.3, 0.2))
    assert found.reserve == 0.0
    assert exclusive_growth([0.5, 0.5], [0.4, 0.4], [1.0, 0.0]) == -math.inf


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(PROBABILITY, st.floats(0.05, 0.95)), min_size=1, max_size=4))
def test_bets_at_once_never_take_more_than_alone(rows: list[tuple[float, float]]) -> None:
    p, cost = [a for a, _ in rows], [b for _, b in rows]
    together = simultaneous_fractions(p, cost)
    alone = np.array([max(kelly_fraction(a, b), 0.0) for a, b in rows])
    assert np.all(together <= alone + 1e-5)
    assert together.sum() < 1.0
    assert (
        growth_of(independent(p, cost), together) >= growth_of(independent(p, cost), together * 0.99) - 1e-12
    )


def growth_of(ends: Ends, f: Any) -> float:
    return float(ends.chances @ np.log1p(ends.profits @ f))


@pytest.mark.parametrize(
    ("p", "cost"),
    [
        ([0.9370625, 0.9995, 0.9995], [0.725, 0.725, 0.8375]),
        ([0.999, 0.5015917262074537, 0.6247585957595001], [0.8733065, 0.2814366910877258, 0.36192389284]),
        ([0.999, 0.994630276375003, 0.999, 0.758075194436961], [0.891, 0.8475753, 0.964514, 0.461]),
        ([0.5 + 1e-7], [0.5]),
        ([0.9934507949750739], [0.2504891176199856]),
    ],
)
def test_the_solver_copes_with_bets_that_take_nearly_all_or_nearly_nothing(
    p: list[float], cost: list[float]
) -> None:
    for risk in (None, DrawdownRisk.of(0.85, 0.1), DrawdownRisk.of(0.5, 0.01)):
        ends = independent(p, cost)
        f = best_fractions(ends, risk)
        wealth = 1 + ends.profits @ f
        assert np.all(f >= 0)
        assert f.sum() < 1
        if risk is not None:
            assert float(ends.chances @ wealth**-risk.lam) <= 1 + 1e-9
        for i in range(len(p)):
            for step in (0.99, 1.01):
                other = f.copy()
                other[i] *= step
                kept = risk is None or float(ends.chances @ (1 + ends.profits @ other) ** -risk.lam) <= 1.0
                if kept and other.sum() < 1:
                    assert growth_of(ends, f) >= growth_of(ends, other) - 1e-8


def test_many_bets_are_scaled_to_what_may_be_spent() -> None:
    count = MOST_SOLVED + 1
    found = simultaneous_fractions([0.6] * count, [0.5] * count, most=0.5)
    assert found == pytest.approx([0.5 / count] * count)
    assert simultaneous_fractions([0.51] * count, [0.5] * count) == pytest.approx([0.02] * count)
    assert simultaneous_fractions([], []).size == 0


@settings(max_examples=200, deadline=None)
@given(PROBABILITY, st.floats(0.02, 0.98), st.floats(0.05, 0.95), st.floats(0.01, 0.9))
@example(0.05638742985470281, 0.05638742985470281, 0.25, 0.265625)
def test_a_constrained_bet_keeps_its_bound_and_is_never_larger_than_kelly(
    p: float, cost: float, alpha: float, beta: float
) -> None:
    risk = DrawdownRisk.of(alpha, beta)
    f, full = constrained_fraction(p, cost, risk), max(kelly_fraction(p, cost), 0.0)
    assert 0.0 <= f <= full
    odds = (1 - cost) / cost
    bound = math.log(p) - risk.lam * math.log1p(f * odds), math.log1p(-p) - risk.lam * math.log1p(-f)
    assert np.logaddexp(*bound) <= 1e-9
    if 0 < f < full:
        assert np.logaddexp(*bound) == pytest.approx(0.0, abs=1e-9)


def test_a_sure_thing_and_no_constraint_are_plain_kelly() -> None:
    assert constrained_fraction(1.0, 0.5, DrawdownRisk.of(0.5, 0.1)) == 1.0
    assert constrained_fraction(0.6, 0.5, DrawdownRisk(0.0)) == pytest.approx(0.2)
    assert constrained_fraction(0.4, 0.5, DrawdownRisk.of(0.5, 0.1)) == 0.0
    for edge, lam in ((1e-13, 14.0), (2e-9, 1e6)):  # too small to be told from none
        assert best_fractions(independent([0.5 + edge], [0.5]), DrawdownRisk(lam)).tolist() == [0.0]
    both = independent([0.6, 0.6], [0.5, 0.5])
    assert best_fractions(both, DrawdownRisk(0.0)) == pytest.approx(best_fractions(both), abs=1e-7)


# ---------------------------------------------------------------------- doubt


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 10), st.floats(0, 10))
def test_a_shrunk_belief_lies_between_the_price_and_the_belief(
    belief: float, price: float, se: float, tau: float
) -> None:
    share = weight(se, tau)
    assert 0.0 <= share <= 1.0
    low, high = sorted((belief, price))
    assert low - 1e-12 <= shrink(belief, price, share) <= high + 1e-12


@pytest.mark.parametrize(
    ("se", "tau", "share"), [(0.0, 0.1, 1.0), (0.1, 0.0, 0.0), (0.1, 0.1, 0.5), (0.2, 0.1, 0.2)]
)
def test_the_weight_of_a_belief(se: float, tau: float, share: float) -> None:
    assert weight(se, tau) == pytest.approx(share)


# ---------------------------------------------------------------------- the sizer


def bet(**changes: Any) -> Bet:
    return Bet(
        **{
            "equity": EQUITY,
            "fixed": 7 * MICRO,
            "p": 0.5,
            "offers": [Offer(Fraction(2, 5), 10**6 * MICRO)],
            "if_won": EQUITY,
            "if_lost": EQUITY,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("sizing", "changes", "stake"),
    [
        (Sizing(), {}, 7 * MICRO),
        (Sizing(mode=SizingMode.FRACTION, fraction=Decimal("0.03")), {}, 30 * MICRO),
        (Sizing(mode=SizingMode.FRACTION), {"equity": -5}, 0),
        (Sizing(mode=SizingMode.KELLY, kelly_share=Decimal(1)), {}, 166_666_666),
        (Sizing(mode=SizingMode.KELLY), {}, 41_666_666),
        (Sizing(mode=SizingMode.KELLY), {"p": None}, NoBet.NO_BELIEF),
        (Sizing(mode=SizingMode.KELLY), {"p": math.nan}, NoBet.NO_BELIEF),
        (Sizing(mode=SizingMode.KELLY), {"offers": []}, NoBet.NO_OFFER),
        (Sizing(mode=SizingMode.KELLY), {"p": 0.4}, NoBet.NO_EDGE),
        (Sizing(mode=SizingMode.KELLY), {"offers": [Offer(Fraction(11, 10), MICRO)]}, NoBet.NO_EDGE),
        # half of the belief's distance from the price 0.40 is believed: 0.45, and a quarter of Kelly on that
        (
            Sizing(mode=SizingMode.KELLY, edge_spread=Decimal("0.05")),
            {"p_se": 0.05, "price": 0.4},
            20_833_333,
        ),
        (Sizing(mode=SizingMode.KELLY, edge_spread=Decimal("0.05")), {"p_se": 0.05}, 20_833_333),
        (Sizing(mode=SizingMode.KELLY, edge_spread=Decimal("0.05")), {"p_se": None}, 41_666_666),
        (
            Sizing(
                mode=SizingMode.DRAWDOWN_KELLY, drawdown_to=Decimal("0.85"), drawdown_chance=Decimal("0.05")
            ),
            {},
            16_956_904,  # golden: 0.01695690457220924 of the bankroll
        ),
    ],
)
def test_each_mode_wants_its_stake(sizing: Sizing, changes: dict[str, Any], stake: int | NoBet) -> None:
    found = wanted_stake(sizing, bet(**changes))
    assert found == stake or abs(int(found) - int(stake)) <= 1
    assert sizing.needs_belief is (sizing.mode in {SizingMode.KELLY, SizingMode.DRAWDOWN_KELLY})
    assert sizing.uses_equity is (sizing.mode is not SizingMode.FIXED)


@given(
    st.integers(-EQUITY, 2 * EQUITY),
    st.integers(0, EQUITY),
    st.integers(1, 100).map(lambda n: Decimal(n) / 100),
    st.integers(0, 99).map(lambda n: Decimal(n) / 100),
)
def test_the_caps_never_make_a_stake_larger(wanted: int, equity: int, most: Decimal, least: Decimal) -> None:
    stake = within(wanted, equity, most=most, least=least)
    assert 0 <= stake <= max(wanted, 0)
    assert stake <= most * equity
    assert stake == 0 or stake >= least * equity


@settings(max_examples=100, deadline=None)
@given(PROBABILITY, LEVELS, st.integers(1, 99))
def test_a_share_of_kelly_spends_no_more_than_kelly(p: float, offers: list[Offer], share: int) -> None:
    def stake(part: Decimal) -> int:
        found = wanted_stake(Sizing(mode=SizingMode.KELLY, kelly_share=part), bet(p=p, offers=offers))
        return 0 if isinstance(found, NoBet) else found

    assert stake(Decimal(share) / 100) <= stake(Decimal(1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"fraction": Decimal(0)},
        {"kelly_share": Decimal("1.1")},
        {"drawdown_to": Decimal(1)},
        {"drawdown_chance": Decimal(0)},
        {"edge_spread": Decimal(0)},
        {"least": Decimal(1)},
    ],
    ids=lambda w: next(iter(w)),
)
def test_numbers_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Sizing(**wrong)


# ---------------------------------------------------------------------- complete sets


@settings(max_examples=100, deadline=None)
@given(st.lists(LEVELS, min_size=2, max_size=3), st.integers(0, 5).map(lambda n: Fraction(n, 100)))
def test_sets_never_exceed_depth_and_never_lose(books: list[list[Offer]], least: Fraction) -> None:
    steps = walk_sets(books, least=least)
    assert sum(step.size for step in steps) <= min(sum(offer.size for offer in book) for book in books)
    assert all(step.profit > 0 and step.profit >= least and step.cost + step.profit == 1 for step in steps)
    assert [step.cost for step in steps] == sorted(step.cost for step in steps)


def test_no_book_has_no_set_and_a_break_even_is_the_cost() -> None:
    assert walk_sets([]) == []
    assert walk_sets([[], [Offer(Fraction(1, 2), MICRO)]]) == []
    assert break_even(0.4, 0.988) == pytest.approx(0.4 / 0.988)
