"""The latent probability is what it says: the chance of YES, at every moment."""

from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.markets.clock import DAY, HOUR, parse_time
from pm_pipeline.sources.sandbox.paths import (
    Interval,
    Payoff,
    Share,
    Tie,
    belief,
    end_figure,
    expected,
    payout,
    random_stream,
)

START = parse_time("2026-06-01T00:00:00Z")
TIMES = np.arange(START, START + DAY, HOUR, dtype=np.int64)


def chance_and_payout(seed: int, payoff: Payoff, mean: float) -> tuple[np.ndarray, float]:
    figure = end_figure(seed, "event", mean, 1.0)
    known = belief(seed, "event", mean, 1.0, figure, TIMES, START + DAY)
    return expected(payoff, known.known, known.remaining_sd), payout(payoff, figure)


@pytest.mark.parametrize("hour", [0, 6, 12, 18, 23])
def test_of_the_markets_priced_at_p_a_share_of_p_pays(hour: int) -> None:
    rng = np.random.default_rng(hour)
    told = [chance_and_payout(seed, Interval(float(rng.normal()), inf), 0.0) for seed in range(4000)]
    chances = np.array([chance[hour] for chance, _ in told])
    paid = np.array([pays for _, pays in told])
    for low in np.arange(0.0, 1.0, 0.2):
        inside = (chances >= low) & (chances < low + 0.2)
        if inside.sum() < 100:
            continue
        error = (paid[inside] - chances[inside]).mean()
        spread = np.sqrt((chances[inside] * (1 - chances[inside])).sum()) / inside.sum()
        assert abs(error) < 4 * spread + 1e-9


@pytest.mark.parametrize(
    "payoff", [Interval(0.3, inf), Interval(-0.5, 0.5), Tie(0.1, 0.4), Share(0.2, 0.7)], ids=repr
)
def test_the_price_is_a_martingale(payoff: Payoff) -> None:
    moves = []
    for seed in range(3000):
        chance, pays = chance_and_payout(seed, payoff, 0.0)
        moves.append([chance[12] - chance[0], chance[23] - chance[12], pays - chance[12]])
    table = np.array(moves)
    assert np.all(np.abs(table.mean(axis=0)) < 4 * table.std(axis=0) / np.sqrt(len(table)))


@given(st.integers(0, 10**6), st.lists(st.floats(-3, 3), min_size=1, max_size=6, unique=True))
@settings(max_examples=50, deadline=None)
def test_ranges_that_share_out_the_line_sum_to_one_and_one_pays(seed: int, edges: list[float]) -> None:
    cuts = [-inf, *sorted(edges), inf]
    ranges = [Interval(low, high) for low, high in pairwise(cuts)]
    told = [chance_and_payout(seed, r, 0.0) for r in ranges]
    np.testing.assert_allclose(sum(chance for chance, _ in told), 1.0, atol=1e-12)
    assert sorted(pays for _, pays in told) == [0.0] * (len(ranges) - 1) + [1.0]


@pytest.mark.parametrize(
    ("payoff", "figure", "pays"),
    [
        (Interval(0.0, 1.0), 1.0, 1.0),
        (Interval(0.0, 1.0), 0.0, 0.0),
        (Interval(-inf, 0.5), 0.5, 1.0),
        (Tie(0.0, 0.5), 0.2, 0.5),
        (Tie(0.0, 0.5), 0.7, 1.0),
        (Tie(0.0, 0.5), -0.7, 0.0),
        (Share(0.0, 1.0), 0.0, 0.5),
    ],
)
def test_a_payoff_pays_by_its_edges(payoff: Payoff, figure: float, pays: float) -> None:
    assert payout(payoff, figure) == pays


@given(st.integers(0, 10**9))
@settings(max_examples=50, deadline=None)
def test_a_prescribed_tie_ends_in_a_tie(seed: int) -> None:
    tie = Tie(0.3, 0.2)
    assert payout(tie, end_figure(seed, "final", 0.0, 1.0, tie)) == 0.5


def test_the_path_starts_at_the_prior_and_ends_at_the_figure() -> None:
    late = np.append(TIMES, [START + DAY, START + 2 * DAY])
    known = belief(3, "event", 20.0, 2.0, 23.5, late, START + DAY)
    assert known.known[0] == 20.0
    assert list(known.known[-2:]) == [23.5, 23.5]
    assert known.remaining_sd[0] == 2.0
    assert list(known.remaining_sd[-2:]) == [0.0, 0.0]


def test_streams_differ_by_name_and_by_seed() -> None:
    draws = {random_stream(*key).random() for key in ((1, "a"), (1, "b"), (2, "a"), (1, "a", "b"))}
    assert len(draws) == 4
    assert random_stream(1, "a").random() == random_stream(1, "a").random()
