import json
from collections.abc import Callable
from functools import cache
from math import isnan, nan, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, HOUR
from pm_pipeline.research import returns, trades
from pm_pipeline.research.figure import Figure, ratio, undefined
from pm_pipeline.research.returns import Floats
from pm_pipeline_tests.shared import SHARED, needs_shared

SERIES = (
    "A_tiny20",
    "B_sine252",
    "C_pm365",
    "D_spy_real",
    "E_btc_real",
    "F_all_positive",
    "G_all_zero",
    "H_ruin",
)

CANONICAL: dict[str, Callable[[Floats, float], Figure]] = {
    "total_return": lambda r, p: returns.total_return(r),
    "cagr": lambda r, p: returns.cagr(r, p, least_years=0.0),
    "ann_vol": returns.ann_vol,
    "sharpe": returns.sharpe,
    "downside_dev_ann": returns.downside_deviation,
    "sortino": returns.sortino,
    "max_drawdown": lambda r, p: returns.max_drawdown(r),
    "calmar": lambda r, p: returns.calmar(r, p, least_years=0.0),
    "ulcer_index_excl_start": lambda r, p: returns.ulcer(r),
    "max_underwater_periods": lambda r, p: returns.longest_drawdown(r),
    "omega_0": lambda r, p: returns.omega(r),
    "tail_ratio": lambda r, p: returns.tail_ratio(r),
    "var_hist_5": lambda r, p: returns.var(r),
    "cvar_5_exact_empirical": lambda r, p: returns.cvar(r),
    "win_rate_nonzero": lambda r, p: trades.win_rate(r),
    "profit_factor": lambda r, p: trades.profit_factor(r),
    "payoff_ratio": lambda r, p: trades.payoff_ratio(r),
    "skew_biased": lambda r, p: returns.skew(r, moments="biased"),
    "skew_unbiased": lambda r, p: returns.skew(r),
    "excess_kurt_unbiased": lambda r, p: returns.kurt(r),
    "psr0_biased_moments": lambda r, p: returns.psr(r, moments="biased"),
    "psr0_unbiased_moments": lambda r, p: returns.psr(r),
}

WITH_RISK_FREE: dict[str, Callable[[Floats, float], Figure]] = {
    "sharpe": lambda r, p: returns.sharpe(r, p, risk_free=0.05),
    "sortino": lambda r, p: returns.sortino(r, p, risk_free=0.05),
    "omega_0": lambda r, p: returns.omega(r, threshold=1.05 ** (1.0 / p) - 1.0),
}


@cache
def golden() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SHARED / "golden" / "golden_metrics.json").read_text())
    return loaded


def near(value: float) -> Any:
    # skewness of a symmetric series is zero up to the last bit, where no relative error exists
    return pytest.approx(value, rel=1e-12, abs=1e-14, nan_ok=True)


@needs_shared
@pytest.mark.parametrize("name", SERIES)
def test_every_golden_series_reproduces(name: str) -> None:
    series = golden()["series"][name]
    sample, periods = np.array(series["returns"]), series["periods_per_year"]
    wanted = {k: float(v) for k, v in series["canonical"].items() if k in CANONICAL}
    assert len(wanted) >= 17
    assert {k: CANONICAL[k](sample, periods).value for k in wanted} == {k: near(v) for k, v in wanted.items()}


@needs_shared
@pytest.mark.parametrize("name", SERIES)
def test_every_golden_series_reproduces_over_a_risk_free_rate(name: str) -> None:
    series = golden()["series"][name]
    sample, periods = np.array(series["returns"]), series["periods_per_year"]
    wanted = {k: near(float(v)) for k, v in series["canonical_rf5pct"].items()}
    assert {k: f(sample, periods).value for k, f in WITH_RISK_FREE.items()} == wanted


@needs_shared
@pytest.mark.parametrize("name", SERIES)
def test_the_deepest_drawdown_is_found_where_the_golden_says(name: str) -> None:
    canonical = golden()["series"][name]["canonical"]
    wealth = np.concatenate(([1.0], np.cumprod(1.0 + np.array(golden()["series"][name]["returns"]))))
    assert returns.deepest_drawdown(wealth) == (canonical["mdd_peak_pos"], canonical["mdd_trough_pos"])


@needs_shared
def test_biased_kurtosis_is_the_golden_one_less_that_of_the_normal() -> None:
    series = golden()["series"]["A_tiny20"]
    excess = returns.kurt(np.array(series["returns"]), moments="biased").value
    assert excess + 3 == near(series["canonical"]["kurt_biased_full"])


@needs_shared
def test_the_deflated_sharpe_ratio_of_the_paper_reproduces() -> None:
    paper = golden()["selection_bias"]["dsr_paper_example"]
    benchmark = returns.expected_max_sharpe(100, 0.5 / 250)
    assert benchmark == near(paper["sr0 (ffn.calc_expected_max_sharpe)"])
    found = returns.probabilistic_sharpe(2.5 / sqrt(250), benchmark, 1250, -3.0, 10.0 - 3.0)
    assert found.value == near(paper["dsr"])


@needs_shared
def test_the_best_of_six_trials_is_deflated_by_all_six() -> None:
    bias = golden()["selection_bias"]
    trials = np.array(
        [
            [
                round(
                    0.0004 * j
                    + 0.01 * np.sin((1.3 + 0.17 * j) * x)
                    + 0.006 * np.cos((0.41 + 0.05 * j) * 1.1 * x),
                    10,
                )
                for j in range(6)
            ]
            for x in range(240)
        ]
    )
    per_day = [float(column.mean() / column.std(ddof=1)) for column in trials.T]
    annual = [returns.sharpe(column, 252).value for column in trials.T]
    assert annual == near(bias["trial_sharpes_ann (ffn)"])
    unbiased, biased = (returns.dsr(trials[:, 5], per_day, moments=m).value for m in ("unbiased", "biased"))
    assert unbiased == near(bias["dsr_best (ffn, unbiased moments)"])
    assert biased == near(bias["dsr_best (skfolio, biased moments)"])


def test_one_trial_is_not_deflated() -> None:
    sample = np.array([0.01, -0.005, 0.003, 0.0, 0.012])
    assert returns.dsr(sample, [0.4]) == returns.psr(sample)


ALL: dict[str, Callable[[Floats], Figure]] = {
    "total_return": returns.total_return,
    "cagr": returns.cagr,
    "ann_vol": returns.ann_vol,
    "sharpe": returns.sharpe,
    "sortino": returns.sortino,
    "downside_deviation": returns.downside_deviation,
    "calmar": returns.calmar,
    "max_drawdown": returns.max_drawdown,
    "longest_drawdown": returns.longest_drawdown,
    "longest_drawdown_days": returns.longest_drawdown_days,
    "ulcer": returns.ulcer,
    "omega": returns.omega,
    "tail_ratio": returns.tail_ratio,
    "var": returns.var,
    "cvar": returns.cvar,
    "skew": returns.skew,
    "kurt": returns.kurt,
    "psr": returns.psr,
    "dsr": lambda r: returns.dsr(r, [0.1, 0.2]),
}

FLAT = np.zeros(400)
GROWING = np.full(400, 0.001) + np.tile([0.0, 0.001], 200)
DEFINED: dict[str, tuple[Floats, set[str]]] = {
    "empty": (np.empty(0), set()),
    "missing": (np.full(400, nan), set()),
    "infinite": (np.array([0.01, np.inf, 0.02]), set()),
    "one point": (
        np.array([-0.01]),
        {
            "total_return",
            "downside_deviation",
            "max_drawdown",
            "longest_drawdown",
            "longest_drawdown_days",
            "ulcer",
            "omega",
            "var",
            "cvar",
        },
    ),
    "flat": (
        FLAT,
        {
            "total_return",
            "cagr",
            "ann_vol",
            "downside_deviation",
            "max_drawdown",
            "longest_drawdown",
            "longest_drawdown_days",
            "ulcer",
            "var",
            "cvar",
        },
    ),
    "never a loss": (GROWING, set(ALL) - {"sortino", "calmar", "omega"}),
    "less than a year": (np.tile([0.01, -0.02, 0.015], 100), set(ALL) - {"cagr", "calmar"}),
}


@pytest.mark.parametrize("case", DEFINED)
def test_a_figure_without_a_meaning_is_nan_with_a_reason(case: str) -> None:
    sample, defined = DEFINED[case]
    found = {name: compute(sample) for name, compute in ALL.items()}
    assert {name for name, figure in found.items() if figure.defined} == defined
    assert all(figure.note for figure in found.values() if not figure.defined)
    assert not any(figure.note for figure in found.values() if figure.defined)


def test_a_figure_that_is_not_finite_must_say_why() -> None:
    with pytest.raises(ValueError, match="needs a note"):
        Figure(nan)
    with pytest.raises(ValueError, match="needs a note"):
        Figure(np.inf)
    assert not undefined("no data").defined
    assert ratio(1.0, 4.0, "never") == Figure(0.25)
    assert isnan(ratio(1.0, 0.0, "no denominator").value)


def test_constant_returns_with_rounding_noise_have_no_sharpe_ratio() -> None:
    equity: Floats = np.array([100.0 * 1.001**day for day in range(300)])
    noisy = returns.to_returns(equity)
    assert np.ptp(noisy) > 0
    assert returns.sharpe(noisy).note == "all returns are alike"


@pytest.mark.parametrize(
    ("trial_sharpes", "reason"),
    [
        ([], "the Sharpe ratios of the trials are not known"),
        ([0.1, nan], "the Sharpe ratio of a trial is undefined"),
    ],
)
def test_without_its_trials_nothing_is_deflated(trial_sharpes: list[float], reason: str) -> None:
    assert returns.dsr(np.array([0.01, 0.02, -0.01, 0.0]), trial_sharpes).note == reason


def test_moments_that_leave_no_variance_leave_no_probability() -> None:
    assert returns.probabilistic_sharpe(1.0, 0.0, 100, 5.0, 0.0).note


def test_losing_more_than_everything_has_no_growth_rate() -> None:
    assert returns.cagr(np.array([0.1, -1.5]), 2).note == "more than everything was lost"


@pytest.mark.parametrize(
    ("sample", "periods"),
    [
        ([0.1, 0.1], 0.0),
        ([-0.1, 0.05, 0.05, 0.1], 3.0),
        ([0.2, -0.1, -0.1], 2.0),
        ([-0.1, 0.2, -0.1, -0.1, 0.5], 2.0),
    ],
)
def test_the_longest_drawdown_counts_periods_below_the_peak(sample: list[float], periods: float) -> None:
    assert returns.longest_drawdown(np.array(sample)).value == periods
    assert returns.longest_drawdown_days(np.array(sample), 73).value == periods * 5


def test_expected_shortfall_takes_the_last_return_in_part() -> None:
    sample = np.array([-0.10, -0.05, *[0.0] * 28])
    assert returns.cvar(sample).value == pytest.approx((-0.10 - 0.05 * 0.5) / 1.5)
    assert returns.cvar(np.arange(60.0)).value == 1.0


def test_an_equity_curve_is_put_on_whole_days_with_idle_days_kept() -> None:
    ts = np.array([DAY + 9 * HOUR, DAY + 10 * HOUR, 4 * DAY], dtype=np.int64)
    grid = returns.daily_equity(ts, np.array([100, 110, 99], dtype=np.int64), DAY + 9 * HOUR, 5 * DAY + HOUR)
    assert (grid.days // DAY).tolist() == [1, 2, 3, 4, 5, 6]
    assert grid.equity.tolist() == [100.0, 110.0, 110.0, 99.0, 99.0, 99.0]
    assert returns.to_returns(grid.equity).tolist() == pytest.approx([0.1, 0.0, -0.1, 0.0, 0.0])


def test_a_run_that_lasts_no_time_still_has_its_day() -> None:
    grid = returns.daily_equity(np.array([DAY]), np.array([7.0]), DAY, DAY)
    assert (grid.days // DAY).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("ts", "equity", "end"),
    [([], [], 1), ([1, 2], [1.0], 3), ([2, 1], [1.0, 2.0], 3), ([1, 2], [1.0, 2.0], -1)],
)
def test_a_curve_that_is_none_is_refused(ts: list[int], equity: list[float], end: int) -> None:
    with pytest.raises(UsageError):
        returns.daily_equity(np.array(ts, dtype=np.int64), np.array(equity), 0, end)


def test_after_ruin_nothing_happens_or_is_undefined() -> None:
    assert returns.to_returns(np.array([100.0, 0.0, 0.0])).tolist() == [-1.0, 0.0]
    assert isnan(returns.to_returns(np.array([100.0, 0.0, 5.0]))[1])


samples = arrays(np.float64, st.integers(4, 60), elements=st.floats(-0.5, 0.5, width=32))


@given(samples)
def test_tail_losses_are_never_milder_than_the_quantile(sample: Floats) -> None:
    assert returns.cvar(sample).value <= returns.var(sample).value + 1e-12
    assert sample.min() - 1e-12 <= returns.cvar(sample).value


@given(samples)
def test_ratios_have_the_sign_of_the_mean_and_drawdowns_stay_between_minus_one_and_zero(
    sample: Floats,
) -> None:
    assert -1.0 <= returns.max_drawdown(sample).value <= 0.0
    assert 0 <= returns.longest_drawdown(sample).value <= sample.size
    for ratio_of in (returns.sharpe, returns.sortino):
        found = ratio_of(sample)
        assert not found.defined or np.sign(found.value) == np.sign(sample.mean())
    chance = returns.psr(sample)
    assert not chance.defined or 0.0 <= chance.value <= 1.0
