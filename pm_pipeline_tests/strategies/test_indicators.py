import math
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.markets.clock import SECOND
from pm_pipeline.strategies.indicators import Series, change_over, logit, rolling_z
from pm_pipeline_tests.engine.builders import at, data, market
from pm_pipeline_tests.warehouse import builders as warehouse


def test_logit_is_the_log_odds_drawn_into_its_bounds() -> None:
    found = logit(np.array([500_000, 750_000, 0, 1_000_000], dtype=np.int64))
    assert found == pytest.approx([0.0, math.log(3), math.log(0.001 / 0.999), math.log(999)])


def test_the_z_score_leaves_its_own_value_out_of_the_past() -> None:
    x = np.array([1.0, 2.0, 4.0, 10.0])
    found = rolling_z(x, 3)
    assert np.isnan(found[:3]).all()
    assert found[3] == pytest.approx((10 - mean([1, 2, 4])) / stdev([1, 2, 4]))


@pytest.mark.parametrize(
    ("x", "n"), [([], 3), ([1.0, 2.0], 3), ([1.0, 2.0, 3.0], 3), ([1.0] * 9, 3), ([1.0, 2.0], 1)]
)
def test_the_z_score_is_undefined_without_a_varied_past(x: list[float], n: int) -> None:
    assert np.isnan(rolling_z(np.array(x), n)).all()


def test_the_change_is_taken_to_the_last_value_old_enough() -> None:
    ts = np.array([0, 5, 10, 14, 50], dtype=np.int64)
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    found = change_over(ts, x, 10)
    assert np.isnan(found[[0, 1, 4]]).all()  # the last one would reach over a gap
    assert list(found[[2, 3]]) == [3.0, 7.0]
    assert len(change_over(ts[:0], x[:0], 10)) == 0


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(1, 99)), min_size=1, max_size=30),
    st.integers(0, 40),
)
def test_the_series_known_at_a_time_is_a_prefix_of_the_later_one(
    rows: list[tuple[int, int, int]], cut: int
) -> None:
    given_rows = [{"ts": t, "known_at": t + lag, "mid": mid * 10_000} for t, lag, mid in rows]
    of = data(market(), {"market_data.prices": warehouse.prices(given_rows)})
    whole, then = Series.of(of.quotes()), Series.of(of.quotes(until=at(cut)))
    n = len(then)
    assert list(whole.mid[:n]) == list(then.mid)
    assert (whole.known_at[n:] > at(cut)).all()
    assert (np.diff(whole.ts) > 0).all()
    assert (np.diff(whole.known_at) >= 0).all()


def series(*points: tuple[int, int, int]) -> Series:
    """Points as (ts, known_at, mid)."""
    columns = np.array(points, dtype=np.int64).reshape(-1, 3)
    return Series(columns[:, 0], columns[:, 1], columns[:, 2])


@pytest.mark.parametrize(
    ("points", "until", "looks"),
    [
        ([], 99, []),
        ([(1, 1, 50)], 99, [(1, 10, 50)]),
        ([(10, 10, 50)], 99, [(10, 10, 50)]),
        ([(1, 1, 50), (9, 9, 60), (10, 10, 70), (11, 11, 80)], 99, [(10, 10, 70), (11, 20, 80)]),
        ([(1, 12, 50)], 99, [(1, 20, 50)]),
        ([(1, 1, 50), (31, 31, 60)], 99, [(1, 10, 50), (31, 40, 60)]),
        ([(1, 1, 50), (11, 11, 60)], 20, [(1, 10, 50), (11, 20, 60)]),
        ([(1, 1, 50), (11, 11, 60)], 19, [(1, 10, 50)]),
        ([(1, 1, 50)], 9, []),
    ],
)
def test_a_look_finds_the_last_mid_known_by_then(
    points: list[tuple[int, int, int]], until: int, looks: list[tuple[int, int, int]]
) -> None:
    found = series(*points).every(10, until)
    assert list(zip(found.ts, found.known_at, found.mid, strict=True)) == looks


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9), st.integers(1, 99)), min_size=1, max_size=30),
    st.integers(1, 12),
    st.integers(0, 70),
)
def test_what_is_looked_at_until_a_time_is_a_prefix_of_what_is_looked_at_later(
    rows: list[tuple[int, int, int]], step: int, cut: int
) -> None:
    given_rows = [{"ts": t, "known_at": t + lag, "mid": mid * 10_000} for t, lag, mid in rows]
    of = data(market(), {"market_data.prices": warehouse.prices(given_rows)})
    whole = Series.of(of.quotes()).every(step * SECOND, at(1_000))
    then = Series.of(of.quotes(until=at(cut))).every(step * SECOND, at(cut))
    n = len(then)
    assert [list(column[:n]) for column in (whole.ts, whole.known_at, whole.mid)] == [
        list(column) for column in (then.ts, then.known_at, then.mid)
    ]
    assert (whole.known_at[n:] > at(cut)).all()
    assert (whole.known_at % (step * SECOND) == 0).all()
    assert (np.diff(whole.known_at) >= step * SECOND).all()
    assert (whole.ts <= whole.known_at).all()
