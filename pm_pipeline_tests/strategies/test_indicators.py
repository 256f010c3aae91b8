import math
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
