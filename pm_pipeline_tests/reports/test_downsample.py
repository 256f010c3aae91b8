import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pm_pipeline.reports.downsample import kept, landmarks
from pm_pipeline.research.returns import Floats, deepest_drawdown

WALK = 1000.0 + np.cumsum(np.random.default_rng(6).normal(size=50_000))


def test_a_short_curve_is_kept_whole() -> None:
    assert kept(WALK[:100], 100).tolist() == list(range(100))
    assert kept(np.empty(0), 10).size == 0
    assert landmarks(np.empty(0)).size == 0


def test_a_long_curve_keeps_its_ends_extremes_and_deepest_drawdown() -> None:
    at = kept(WALK, 200)
    assert at.size <= 200
    assert {0, WALK.size - 1, int(WALK.argmax()), int(WALK.argmin())} <= set(at.tolist())
    assert set(deepest_drawdown(WALK)) <= set(at.tolist())
    shown = WALK[at]
    assert (shown / np.maximum.accumulate(shown)).min() == (WALK / np.maximum.accumulate(WALK)).min()


def test_a_single_spike_between_two_calm_points_is_kept() -> None:
    calm = np.full(10_000, 100.0)
    calm[[1_234, 8_765]] = [101.0, 99.5]
    assert {1_234, 8_765} <= set(kept(calm, 50).tolist())


def test_every_fill_is_kept_where_there_is_room() -> None:
    wanted = np.arange(5, 50_000, 1_000)
    at = kept(WALK, 200, wanted)
    assert set(wanted.tolist()) <= set(at.tolist())
    assert at.size <= 200


def test_too_many_fills_are_thinned_evenly() -> None:
    at = kept(WALK, 100, np.arange(0, 50_000, 10))
    assert at.size <= 112
    assert np.diff(at).max() <= 2_000


@given(arrays(np.float64, st.integers(1, 400), elements=st.floats(-10, 1000, width=32)), st.integers(10, 60))
def test_positions_are_sorted_unique_and_bounded(values: Floats, limit: int) -> None:
    at = kept(values, limit, np.arange(0, values.size, 3))
    assert (np.diff(at) > 0).all()
    assert at.size <= max(limit, 6) + limit // 2 + 8
    assert values[at].max() == values.max()
    assert values[at].min() == values.min()


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [-1.0, -2.0, 5.0]])
def test_a_bankroll_at_or_below_zero_has_no_relative_drawdown(values: list[float]) -> None:
    assert deepest_drawdown(np.array(values)) == (0, 0)
