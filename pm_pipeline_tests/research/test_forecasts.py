import json
from math import isnan, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.units import MICRO
from pm_pipeline.research import forecasts
from pm_pipeline.research.figure import Figure
from pm_pipeline.research.returns import Floats
from pm_pipeline_tests.reports.sample import rows, trip
from pm_pipeline_tests.shared import SHARED, needs_shared


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SHARED / "golden" / "golden_metrics.json").read_text())[
        "forecast_level"
    ]
    return loaded


def floats(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)


@needs_shared
def test_the_golden_twenty_forecasts_reproduce(golden: dict[str, Any]) -> None:
    p, outcome, market = (floats(*golden[k]) for k in ("forecast_prob", "outcome", "market_price"))
    sample = forecasts.Forecasts(p, market, outcome, np.arange(p.size))
    judged = forecasts.compare(forecasts.brier, sample)
    intercept, slope = forecasts.calibration_line(p, outcome)
    found = {
        "brier (scikit-learn brier_score_loss)": judged.ours,
        "brier_market_price (scikit-learn)": judged.market,
        "brier_skill_vs_market = 1 - BS/BS_market": judged.skill,
        "log_loss_nats (scikit-learn)": forecasts.log_loss(p, outcome),
        "ece_10_equal_width_bins": forecasts.ece(p, outcome),
        "calibration_logit_intercept (statsmodels Logit y ~ logit f)": intercept,
        "calibration_logit_slope": slope,
    }
    wanted = golden["values"]
    assert {k: f.value for k, f in found.items()} == {k: pytest.approx(wanted[k], rel=1e-12) for k in found}
    assert forecasts.calibration_slope(p, outcome) == slope


@needs_shared
def test_bins_that_hold_their_upper_edge_are_those_of_scikit_learn(golden: dict[str, Any]) -> None:
    p, outcome = (floats(*golden[k]) for k in ("forecast_prob", "outcome"))
    bins = forecasts.reliability(p, outcome, edge="upper")
    wanted = golden["values"]
    assert [b.outcome for b in bins] == pytest.approx(wanted["calibration_curve_prob_true (scikit-learn)"])
    assert [b.forecast for b in bins] == pytest.approx(wanted["calibration_curve_prob_pred"])


@needs_shared
def test_closing_line_value_is_taken_from_the_side_bought(golden: dict[str, Any]) -> None:
    clv = golden["clv"]
    bought = floats(*(1.0 if side == "YES" else -1.0 for side in clv["side_bought"]))
    found = forecasts.closing_line_value(
        floats(*clv["entry_yes_price"]), floats(*clv["closing_yes_price"]), bought
    )
    assert found.tolist() == pytest.approx(clv["clv_price_points"], rel=1e-12, abs=1e-15)
    assert found.mean() == pytest.approx(clv["mean_clv_price_points"], rel=1e-12)


@needs_shared
@pytest.mark.parametrize(("hits", "count"), [(27, 30), (9, 30)])
def test_wilson_bands_are_the_golden_ones(hits: int, count: int) -> None:
    wanted = json.loads((SHARED / "golden" / "golden_risk.json").read_text())["wilson"][f"{hits}/{count}"]
    assert forecasts.wilson(hits, count) == pytest.approx(wanted, rel=1e-12)


@given(st.integers(1, 500), st.floats(0, 1))
def test_a_wilson_band_holds_the_share_and_stays_a_probability(count: int, share: float) -> None:
    low, high = forecasts.wilson(share * count, count)
    assert 0.0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1.0


def test_an_outcome_of_one_half_is_scored_as_one_half() -> None:
    assert forecasts.brier(floats(0.7), floats(0.5)).value == pytest.approx(0.04)
    assert forecasts.log_loss(floats(0.7), floats(0.5)).value == pytest.approx(-(log(0.7) + log(0.3)) / 2)
    assert forecasts.reliability(floats(0.7), floats(0.5))[0].outcome == 0.5


def test_a_certain_forecast_that_failed_costs_a_large_finite_loss() -> None:
    assert forecasts.log_loss(floats(1.0), floats(0.0)).value == pytest.approx(-log(forecasts.CLIP))


def test_a_bin_holds_its_lower_edge_and_the_last_one_holds_one() -> None:
    bins = forecasts.reliability(floats(0.0, 0.1, 0.3, 0.7, 1.0), floats(0, 0, 1, 1, 1))
    assert [(b.low, b.high, b.count) for b in bins] == [
        (0.0, 0.1, 1),
        (0.1, 0.2, 1),
        (0.3, 0.4, 1),
        (0.7, 0.8, 1),
        (0.9, 1.0, 1),
    ]


def test_ranked_probability_punishes_distance() -> None:
    paid = floats(0, 0, 1)[None, :]
    near, far = floats(0, 1, 0)[None, :], floats(1, 0, 0)[None, :]
    assert forecasts.rps(paid, paid).value == 0.0
    assert forecasts.rps(near, paid).value == 0.5
    assert forecasts.rps(far, paid).value == 1.0
    assert forecasts.rps(np.empty((0, 3)), np.empty((0, 3))).note


def test_only_what_is_settled_and_believed_counts() -> None:
    trips = rows(
        "backtest.trips",
        [
            trip(p_hat=0.6, p_market=0.5, payout=MICRO // 2, market_key="kalshi:A"),
            trip(payout=None, ended_by="void"),
            trip(payout=None, ended_by="stop"),
            trip(p_hat=None),
            trip(p_market=None),
        ],
    )
    found = forecasts.settled(trips)
    assert (found.p.tolist(), found.market.tolist(), found.outcome.tolist()) == ([0.6], [0.5], [0.5])


def test_closing_line_value_of_trips_needs_only_a_closing_price() -> None:
    trips = rows(
        "backtest.trips",
        [
            trip(size=10 * MICRO, cost=4 * MICRO, closing_price=500_000),
            trip(size=10 * MICRO, cost=6 * MICRO, closing_price=550_000, payout=None, ended_by="stop"),
            trip(closing_price=None),
        ],
    )
    assert forecasts.mean_closing_line_value(trips).value == pytest.approx((0.1 - 0.05) / 2)
    assert forecasts.mean_closing_line_value(trips.slice(2)).note


def test_a_perfect_market_leaves_no_skill_to_measure() -> None:
    sample = forecasts.Forecasts(floats(0.9), floats(1.0), floats(1.0), np.array([0]))
    assert forecasts.compare(forecasts.brier, sample).skill.note == "the market's own price was perfect"


def test_a_score_that_one_side_lacks_has_no_skill() -> None:
    sample = forecasts.Forecasts(floats(0.9), floats(0.8), floats(1.0), np.array([0]))

    def only(value: float) -> Figure:
        return Figure(value) if value == 0.9 else Figure(float("nan"), "not for the market")

    assert forecasts.compare(lambda p, y: only(p[0]), sample).skill.note == "not for the market"


EMPTY = floats()


@pytest.mark.parametrize("score", [forecasts.brier, forecasts.log_loss, forecasts.ece])
def test_without_forecasts_no_score(score: Any) -> None:
    assert isnan(score(EMPTY, EMPTY).value)
    assert forecasts.compare(score, forecasts.Forecasts(EMPTY, EMPTY, EMPTY, np.array([]))).skill.note


@pytest.mark.parametrize(
    ("p", "outcome", "reason"),
    [
        (EMPTY, EMPTY, "no settled forecast"),
        (floats(0.5, 0.5), floats(0, 1), "all forecasts are alike"),
        (floats(0.2, 0.7), floats(1, 1), "all outcomes are alike"),
        (floats(0.2, 0.3, 0.7), floats(0, 0, 1), "a threshold on the forecast separates the outcomes"),
        (floats(0.2, 0.3, 0.7), floats(1, 1, 0), "a threshold on the forecast separates the outcomes"),
    ],
)
def test_a_calibration_line_that_does_not_exist_is_not_invented(
    p: Floats, outcome: Floats, reason: str
) -> None:
    assert [figure.note for figure in forecasts.calibration_line(p, outcome)] == [reason, reason]


def test_a_regression_that_runs_out_of_steps_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasts, "_STEPS", 1)
    found = forecasts.calibration_slope(floats(0.2, 0.4, 0.6, 0.8), floats(0, 1, 0, 1))
    assert found.note == "the regression did not converge"


def test_overconfident_forecasts_have_a_slope_below_one() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.2, 0.8, 4000)
    outcome = (rng.random(4000) < truth).astype(np.float64)
    stretched = 1.0 / (1.0 + (1.0 / truth - 1.0) ** 2)
    assert forecasts.calibration_slope(stretched, outcome).value == pytest.approx(0.5, abs=0.05)
