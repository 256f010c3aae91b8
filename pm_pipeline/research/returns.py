"""Equity-level statistics of simple returns on a complete calendar grid, idle days kept as zero.

``periods`` is how many returns make a year: 365 for markets that never close (all prediction markets), 252
for exchanges with sessions. Dropping idle days and still annualising by 365 would inflate every ratio.
A year of 365 days is meant wherever days are converted.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from math import e, sqrt
from typing import Concatenate, Final, Literal, NamedTuple, ParamSpec, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, Nanos
from pm_pipeline.research.figure import Figure, ratio, undefined

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Moments: TypeAlias = Literal["unbiased", "biased"]
"""Whether skewness and kurtosis are corrected for the size of the sample; the two differ by ~1e-3 at n=20."""

CALENDAR: Final = 365.0
"""Periods per year of a market that never closes, on a daily grid."""

_EULER: Final = 0.57721566490153286
_FLAT: Final = 1e-12
"""Relative spread below which returns are all alike: what is left is the noise of floating point."""

_P = ParamSpec("_P")


def _needs(
    least: int,
) -> Callable[[Callable[Concatenate[Floats, _P], Figure]], Callable[Concatenate[Floats, _P], Figure]]:
    """Answer NaN with the reason for fewer than ``least`` returns, or where one of them is missing."""

    def wrap(compute: Callable[Concatenate[Floats, _P], Figure]) -> Callable[Concatenate[Floats, _P], Figure]:
        @wraps(compute)
        def checked(returns: Floats, /, *args: _P.args, **kwargs: _P.kwargs) -> Figure:
            if returns.size < least:
                return undefined(f"needs at least {least} returns, there are {returns.size}")
            if not np.isfinite(returns).all():
                return undefined("a return is missing or infinite")
            return compute(returns, *args, **kwargs)

        return checked

    return wrap


class DailyEquity(NamedTuple):
    """Equity at UTC midnights: ``days`` in nanoseconds, ``equity`` in the unit it came in."""

    days: Ints
    equity: Floats


def daily_equity(ts: Ints, equity: NDArray[np.generic], start: Nanos, end: Nanos) -> DailyEquity:
    """Put a step curve on the UTC midnights from the start of one day to the end of another.

    The grid reaches from the midnight before ``start`` to the midnight after ``end``.
    A midnight has the last equity at or before it, so idle days repeat the previous one; midnights before
    the first observation have the first. ``ts`` is sorted. Raises :class:`UsageError` for an empty curve, an
    unsorted one, or an ``end`` before ``start``.
    """
    if ts.size == 0 or ts.size != equity.size:
        raise UsageError(f"an equity curve needs as many times as values, got {ts.size} and {equity.size}")
    if end < start or (np.diff(ts) < 0).any():
        raise UsageError("the equity curve must be sorted by time and must not end before it starts")
    first = start // DAY * DAY
    last = max(-(-end // DAY) * DAY, first + DAY)
    days = np.arange(first, last + DAY, DAY, dtype=np.int64)
    at = np.searchsorted(ts, days, side="right") - 1
    return DailyEquity(days, equity.astype(np.float64)[np.maximum(at, 0)])


def to_returns(equity: Floats) -> Floats:
    """Simple returns between consecutive points of equity.

    Once the money is gone an unchanged equity returns 0; anything else has no return and is NaN.
    """
    before, after = equity[:-1], equity[1:]
    result = np.full(before.shape, np.nan)
    alive = before > 0
    result[alive] = after[alive] / before[alive] - 1.0
    result[(before <= 0) & (after == before)] = 0.0
    return result


def _wealth(returns: Floats) -> Floats:
    """What 1 becomes; the starting point is included, so a first loss is a drawdown."""
    return np.concatenate(([1.0], np.cumprod(1.0 + returns)))


def _flat(returns: Floats) -> bool:
    return bool(np.ptp(returns) <= _FLAT * np.abs(returns).max())


def _per_period(risk_free: float, periods: float) -> float:
    """The return of one period that compounds to the annual rate ``risk_free``."""
    return float((1.0 + risk_free) ** (1.0 / periods) - 1.0)


@_needs(1)
def total_return(returns: Floats) -> Figure:
    """Growth over the whole sample: ``prod(1 + r) - 1``."""
    return Figure(float(_wealth(returns)[-1]) - 1.0)


@_needs(1)
def cagr(returns: Floats, periods: float = CALENDAR, *, least_years: float = 1.0) -> Figure:
    """Compound annual growth: ``(1 + total) ** (periods / n) - 1``.

    Undefined below ``least_years`` of data: compounding a few good weeks to a year claims what nobody saw.
    """
    years = returns.size / periods
    if years < least_years:
        return undefined(f"{returns.size} returns are {years:.2f} years, less than {least_years:g}")
    growth = float(_wealth(returns)[-1])
    if growth < 0:
        return undefined("more than everything was lost")
    return Figure(growth ** (1.0 / years) - 1.0)


@_needs(2)
def ann_vol(returns: Floats, periods: float = CALENDAR) -> Figure:
    """Annualised volatility: ``std(r, ddof=1) * sqrt(periods)``."""
    return Figure(float(returns.std(ddof=1)) * sqrt(periods))


@_needs(2)
def sharpe(returns: Floats, periods: float = CALENDAR, *, risk_free: float = 0.0) -> Figure:
    """Annualised Sharpe ratio: ``mean(e) / std(e, ddof=1) * sqrt(periods)`` of the excess returns ``e``.

    ``risk_free`` is an annual rate. Undefined where all returns are alike.
    """
    excess = returns - _per_period(risk_free, periods)
    if _flat(returns):
        return undefined("all returns are alike")
    return Figure(float(excess.mean() / excess.std(ddof=1)) * sqrt(periods))


@_needs(1)
def downside_deviation(returns: Floats, periods: float = CALENDAR, *, risk_free: float = 0.0) -> Figure:
    """Annualised downside deviation: ``sqrt(mean(min(e, 0) ** 2)) * sqrt(periods)``, over all n."""
    excess = returns - _per_period(risk_free, periods)
    return Figure(float(np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2))) * sqrt(periods))


@_needs(2)
def sortino(returns: Floats, periods: float = CALENDAR, *, risk_free: float = 0.0) -> Figure:
    """Annualised Sortino ratio: mean excess return over the downside deviation of all n returns."""
    excess = returns - _per_period(risk_free, periods)
    downside = float(np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2)))
    return ratio(float(excess.mean()) * sqrt(periods), downside, "no return is negative")


def drawdowns(returns: Floats) -> Floats:
    """Depth below the running peak at the start and after each return; zero or negative."""
    wealth = _wealth(returns)
    return wealth / np.maximum.accumulate(wealth) - 1.0


def deepest_drawdown(wealth: Floats) -> tuple[int, int]:
    """Positions of the peak and the trough of the deepest drawdown of a wealth or equity curve.

    Both are 0 where the curve never falls.
    """
    peaks = np.maximum.accumulate(wealth)
    trough = int(np.argmin(np.where(peaks > 0, wealth / np.where(peaks > 0, peaks, 1.0) - 1.0, 0.0)))
    return int(np.argmax(wealth[: trough + 1])), trough


@_needs(1)
def max_drawdown(returns: Floats) -> Figure:
    """Deepest fall from a running peak, the starting capital included; negative, 0 if it never fell."""
    return Figure(float(drawdowns(returns).min()))


@_needs(1)
def longest_drawdown(returns: Floats) -> Figure:
    """Length of the longest drawdown: most consecutive periods spent below an earlier peak."""
    above = np.flatnonzero(drawdowns(returns) >= 0.0)
    gaps = np.diff(np.append(above, returns.size + 1)) - 1
    return Figure(float(gaps.max()))


def longest_drawdown_days(returns: Floats, periods: float = CALENDAR) -> Figure:
    """The longest drawdown in calendar days."""
    found = longest_drawdown(returns)
    return Figure(found.value * CALENDAR / periods, found.note)


@_needs(1)
def calmar(returns: Floats, periods: float = CALENDAR, *, least_years: float = 1.0) -> Figure:
    """Compound annual growth over the deepest drawdown of the whole sample."""
    growth = cagr(returns, periods, least_years=least_years)
    if not growth.defined:
        return growth
    return ratio(growth.value, abs(max_drawdown(returns).value), "there is no drawdown")


@_needs(1)
def ulcer(returns: Floats) -> Figure:
    """Ulcer index, as a fraction: root mean square of the drawdowns after the start (Martin 1987)."""
    return Figure(float(np.sqrt(np.mean(drawdowns(returns)[1:] ** 2))))


@_needs(1)
def omega(returns: Floats, *, threshold: float = 0.0) -> Figure:
    """Gains above a return per period over losses below it (Keating and Shadwick 2002)."""
    excess = returns - threshold
    losses = float(np.maximum(-excess, 0.0).sum())
    return ratio(float(np.maximum(excess, 0.0).sum()), losses, "no return is below the threshold")


@_needs(2)
def tail_ratio(returns: Floats, *, tail: float = 0.05) -> Figure:
    """Size of the upper tail quantile over that of the lower one."""
    low, high = np.abs(np.quantile(returns, [tail, 1.0 - tail]))
    return ratio(float(high), float(low), "the lower tail quantile is zero")


@_needs(1)
def var(returns: Floats, *, tail: float = 0.05) -> Figure:
    """Historical value at risk: the lower tail quantile of the returns, linearly interpolated."""
    return Figure(float(np.quantile(returns, tail)))


@_needs(1)
def cvar(returns: Floats, *, tail: float = 0.05) -> Figure:
    """Exact empirical expected shortfall: mean of the worst ``tail * n`` returns, the last one in part.

    Acerbi and Tasche 2002. Unlike the mean of all returns at or below the quantile it does not collapse when
    most days are idle and tie at zero.
    """
    ordered = np.sort(returns)
    count = tail * returns.size
    # 0.05 * 60 is 3.0000000000000004 in floats: a whole number is meant
    whole = int(count + 1e-9)
    part = max(count - whole, 0.0)
    following = float(ordered[whole]) if whole < returns.size else 0.0
    return Figure((float(ordered[:whole].sum()) + part * following) / count)


@_needs(1)
def skew(returns: Floats, *, moments: Moments = "unbiased") -> Figure:
    """Skewness."""
    return _moment(stats.skew, returns, moments, least=3)


@_needs(1)
def kurt(returns: Floats, *, moments: Moments = "unbiased") -> Figure:
    """Excess kurtosis: 0 for a normal distribution."""
    return _moment(stats.kurtosis, returns, moments, least=4)


def _moment(moment: Callable[..., object], returns: Floats, moments: Moments, *, least: int) -> Figure:
    if moments == "unbiased" and returns.size < least:
        return undefined(f"needs at least {least} returns, there are {returns.size}")
    if _flat(returns):
        return undefined("all returns are alike")
    return Figure(float(np.asarray(moment(returns, bias=moments == "biased")).item()))


def probabilistic_sharpe(
    sharpe_ratio: float, benchmark: float, count: int, skewness: float, excess_kurtosis: float
) -> Figure:
    """Probability that the true Sharpe ratio exceeds ``benchmark``, both per period, from ``count`` returns.

    Bailey and Lopez de Prado 2012: ``Phi((SR - SR*) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2))`` with
    the full kurtosis g4. Undefined where the variance under the root is not positive.
    """
    variance = 1.0 - skewness * sharpe_ratio + (excess_kurtosis + 2.0) / 4.0 * sharpe_ratio**2
    if variance <= 0:
        return undefined("the moments give the Sharpe ratio no positive variance")
    distance = (sharpe_ratio - benchmark) * sqrt(count - 1) / sqrt(variance)
    return Figure(float(stats.norm.cdf(distance)))


def expected_max_sharpe(trials: int, variance: float) -> float:
    """Sharpe ratio that the best of ``trials`` worthless strategies is expected to show.

    ``variance`` is that of the trials' Sharpe ratios, in the unit of the result squared. Zero for one trial.
    Bailey and Lopez de Prado 2014.
    """
    if trials < 2:
        return 0.0
    normal = stats.norm.ppf
    best = (1.0 - _EULER) * normal(1.0 - 1.0 / trials) + _EULER * normal(1.0 - 1.0 / (trials * e))
    return sqrt(variance) * float(best)


@_needs(2)
def psr(returns: Floats, *, benchmark: float = 0.0, moments: Moments = "unbiased") -> Figure:
    """Probabilistic Sharpe ratio against a benchmark Sharpe ratio per period (not annualised)."""
    third, fourth = skew(returns, moments=moments), kurt(returns, moments=moments)
    for moment in (third, fourth):
        if not moment.defined:
            return moment
    per_period = float(returns.mean() / returns.std(ddof=1))
    return probabilistic_sharpe(per_period, benchmark, returns.size, third.value, fourth.value)


@_needs(2)
def dsr(returns: Floats, trial_sharpes: Sequence[float], *, moments: Moments = "unbiased") -> Figure:
    """Deflated Sharpe ratio: the probabilistic one against the best that luck would show in all trials.

    ``trial_sharpes`` are the Sharpe ratios per period of *every* trial made, this one included.
    """
    trials = np.asarray(trial_sharpes, dtype=np.float64)
    if trials.size == 0:
        return undefined("the Sharpe ratios of the trials are not known")
    if not np.isfinite(trials).all():
        return undefined("the Sharpe ratio of a trial is undefined")
    spread = float(trials.var(ddof=1)) if trials.size > 1 else 0.0
    return psr(returns, benchmark=expected_max_sharpe(trials.size, spread), moments=moments)
