import numpy as np
import pytest

from pm_pipeline.markets.units import MICRO
from pm_pipeline.research import intervals, trades
from pm_pipeline.research.forecasts import Forecasts
from pm_pipeline_tests.reports.sample import rows, trip


def trips(pnl: list[int], per_event: int) -> trades.Trips:
    return trades.closed(
        rows(
            "backtest.trips",
            [trip(pnl=p * MICRO, group_key=f"g{i // per_event}") for i, p in enumerate(pnl)],
        )
    )


PNL = [int(p) for p in np.random.default_rng(4).normal(1, 10, 60)]


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    done = trips(PNL, 1)
    assert intervals.mean_pnl(done, seed=3) == intervals.mean_pnl(done, seed=3)
    assert intervals.mean_pnl(done, seed=3) != intervals.mean_pnl(done, seed=4)


def test_the_batches_that_bound_the_memory_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = intervals.total_pnl(trips(PNL, 1), draws=500)
    monkeypatch.setattr(intervals, "_CELLS", 7 * 60)
    assert intervals.total_pnl(trips(PNL, 1), draws=500) == whole


def test_trips_of_one_event_are_one_bet() -> None:
    alone = intervals.mean_pnl(trips(PNL * 4, 1))
    doubled = intervals.mean_pnl(trips([p for p in PNL for _ in range(4)], 4))
    assert (alone.events, doubled.events) == (240, 60)
    assert alone.value == doubled.value == pytest.approx(np.mean(PNL))
    # four copies of a bet are no evidence: the interval is that of the 60, twice as wide as of 240
    assert doubled.high - doubled.low == pytest.approx(2 * (alone.high - alone.low), rel=0.15)


def test_the_interval_of_a_mean_is_near_that_of_theory() -> None:
    found = intervals.mean_pnl(trips(PNL, 1), draws=8000)
    half = 1.96 * np.std(PNL) / np.sqrt(len(PNL))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.1 * half)
    wider = intervals.mean_pnl(trips(PNL, 1), level=0.99, draws=8000)
    assert wider.low < found.low < found.value < found.high < wider.high
    assert (found.level, wider.level) == (0.95, 0.99)


def test_the_total_is_the_mean_times_the_trips_when_events_are_alike() -> None:
    done = trips(PNL, 1)
    mean, total = intervals.mean_pnl(done), intervals.total_pnl(done)
    assert (total.low, total.high) == pytest.approx((60 * mean.low, 60 * mean.high))


def test_brier_skill_has_its_interval() -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(0.1, 0.9, 300)
    sample = Forecasts(p, np.full(300, 0.5), (rng.random(300) < p).astype(float), np.arange(300) // 3)
    found = intervals.brier_skill(sample)
    assert found.events == 100
    assert 0.0 < found.low < found.value < found.high < 1.0
    assert [figure.value for figure in found.bounds] == [found.low, found.high]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_few_events_have_no_interval(count: int) -> None:
    found = intervals.mean_pnl(trips(PNL[:count], 1))
    assert found.note == f"needs at least 5 events, there are {count}"
    assert all(bound.note == found.note for bound in found.bounds)


def test_a_statistic_that_some_resample_lacks_has_no_interval() -> None:
    market = np.array([1.0, 1.0, 1.0, 1.0, 0.5])
    sample = Forecasts(np.full(5, 0.9), market, np.ones(5), np.arange(5))
    assert intervals.brier_skill(sample).note == "the statistic is undefined in a resample"
