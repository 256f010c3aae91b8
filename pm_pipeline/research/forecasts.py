"""Forecast-level statistics: how good the probabilities were, next to the market's own price.

A forecast counts once its outcome is decided. The outcome is the payout of one contract in dollars, so it may
be a fraction (0.5 for a 50-50 resolution). A refunded market has no outcome and does not count.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from pm_pipeline.markets.units import MICRO
from pm_pipeline.research.figure import Figure, ratio, undefined
from pm_pipeline.research.returns import Floats, Ints
from pm_pipeline.research.trades import events

CLIP: Final = 1e-6
"""Forecasts are kept this far from 0 and 1 where a logarithm is taken: one micro-dollar of price."""

BINS: Final = 10
"""Equal-width bins of the reliability diagram."""

Edge: TypeAlias = Literal["lower", "upper"]
"""Which of its two edges a bin holds."""

_NONE: Final = "no settled forecast"
_STEPS: Final = 100


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Settled forecasts with the market's mid at the same moment. ``event`` numbers the events."""

    p: Floats
    market: Floats
    outcome: Floats
    event: Ints


def settled(trips: pa.Table) -> Forecasts:
    """The forecasts of a ``backtest.trips`` table that have a belief, a market price and a payout."""
    has_all = pc.and_(
        pc.and_(pc.is_valid(trips["p_hat"]), pc.is_valid(trips["p_market"])), pc.is_valid(trips["payout"])
    )
    table = trips.filter(has_all)

    def floats(name: str) -> Floats:
        return np.asarray(table[name].to_numpy(), dtype=np.float64)

    return Forecasts(floats("p_hat"), floats("p_market"), floats("payout") / MICRO, events(table))


def brier(p: Floats, outcome: Floats) -> Figure:
    """Mean squared error of the probabilities; 0 is perfect (Brier 1950)."""
    return Figure(float(np.mean((p - outcome) ** 2))) if p.size else undefined(_NONE)


def log_loss(p: Floats, outcome: Floats) -> Figure:
    """Mean negative log likelihood in nats; probabilities are clipped at :data:`CLIP`."""
    if not p.size:
        return undefined(_NONE)
    q = np.clip(p, CLIP, 1.0 - CLIP)
    return Figure(float(-np.mean(outcome * np.log(q) + (1.0 - outcome) * np.log1p(-q))))


def rps(p: Floats, outcome: Floats) -> Figure:
    """Ranked probability score of forecasts over ordered buckets, normalised to 0 … 1 (Epstein 1969).

    Rows are forecasts, columns buckets; ``outcome`` holds what each bucket paid.
    """
    if p.shape[0] == 0 or p.shape[1] < 2:
        return undefined("no settled forecast over at least two buckets")
    error = np.cumsum(p - outcome, axis=1)[:, :-1]
    return Figure(float(np.mean(error**2)))


@dataclass(frozen=True, slots=True)
class Bin:
    """Forecasts between ``low`` and ``high``, how often they came true, and the Wilson band of that."""

    low: float
    high: float
    count: int
    forecast: float
    outcome: float
    band: tuple[float, float]


def wilson(successes: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion; ``successes`` may be a fraction."""
    z = float(stats.norm.ppf(0.5 + level / 2.0))
    share = successes / count
    centre = share + z**2 / (2 * count)
    half = z * sqrt(share * (1.0 - share) / count + z**2 / (4 * count**2))
    scale = 1.0 + z**2 / count
    return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)


def reliability(
    p: Floats, outcome: Floats, *, bins: int = BINS, level: float = 0.95, edge: Edge = "lower"
) -> list[Bin]:
    """The reliability diagram: forecasts in bins of equal width, empty ones left out.

    A bin holds its lower edge, so 0.1 belongs to 0.1 … 0.2, and the last holds 1. With ``edge="upper"`` it
    holds its upper one, as scikit-learn's ``calibration_curve`` does.
    """
    edges = np.arange(bins + 1) / bins
    place = np.searchsorted(edges[1:-1], p, side="right" if edge == "lower" else "left")
    found = []
    for index in np.unique(place):
        inside = place == index
        hits, count = float(outcome[inside].sum()), int(inside.sum())
        found.append(
            Bin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                count=count,
                forecast=float(p[inside].mean()),
                outcome=hits / count,
                band=wilson(hits, count, level),
            )
        )
    return found


def ece(p: Floats, outcome: Floats, *, bins: int = BINS) -> Figure:
    """Expected calibration error: mean gap between forecast and outcome over the bins, by their count."""
    if not p.size:
        return undefined(_NONE)
    return Figure(
        sum(b.count * abs(b.forecast - b.outcome) for b in reliability(p, outcome, bins=bins)) / p.size
    )


def calibration_line(p: Floats, outcome: Floats) -> tuple[Figure, Figure]:
    """Intercept and slope of the logistic regression of the outcome on the log odds of the forecast.

    (0, 1) is calibrated; a slope below 1 is overconfident (Cox 1958). Maximum likelihood by Newton's method.
    Undefined where all forecasts or all outcomes are alike, or where a threshold separates the outcomes:
    then the likelihood has no maximum.
    """

    def none(reason: str) -> tuple[Figure, Figure]:
        return undefined(reason), undefined(reason)

    if not p.size:
        return none(_NONE)
    q = np.clip(p, CLIP, 1.0 - CLIP)
    x = np.log(q) - np.log1p(-q)
    could_win, could_lose = x[outcome > 0.0], x[outcome < 1.0]
    if np.ptp(x) == 0.0:
        return none("all forecasts are alike")
    if could_win.size == 0 or could_lose.size == 0:
        return none("all outcomes are alike")
    if could_win.min() >= could_lose.max() or could_win.max() <= could_lose.min():
        return none("a threshold on the forecast separates the outcomes")
    design = np.column_stack((np.ones_like(x), x))
    beta = np.zeros(2)
    for _ in range(_STEPS):
        fitted = 1.0 / (1.0 + np.exp(-(design @ beta)))
        information = design.T @ (design * (fitted * (1.0 - fitted))[:, None])
        step = np.linalg.solve(information, design.T @ (outcome - fitted))
        beta = beta + step
        if np.abs(step).max() <= 1e-12 * max(1.0, float(np.abs(beta).max())):
            return Figure(float(beta[0])), Figure(float(beta[1]))
    return none("the regression did not converge")


def calibration_slope(p: Floats, outcome: Floats) -> Figure:
    """Slope of :func:`calibration_line`: 1 is calibrated, below 1 overconfident."""
    return calibration_line(p, outcome)[1]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A score of the strategy, the same of the market's price, and the skill: 1 is perfect, 0 no better."""

    ours: Figure
    market: Figure
    skill: Figure


def compare(score: Callable[[Floats, Floats], Figure], forecasts: Forecasts) -> Comparison:
    """Judge the forecasts by a loss, next to the market: ``skill = 1 - loss / loss of the market``."""
    ours, market = score(forecasts.p, forecasts.outcome), score(forecasts.market, forecasts.outcome)
    if not ours.defined:
        return Comparison(ours, market, ours)
    if not market.defined:
        return Comparison(ours, market, market)
    lost = ratio(ours.value, market.value, "the market's own price was perfect")
    return Comparison(ours, market, Figure(1.0 - lost.value, lost.note))


def closing_line_value(entry: Floats, closing: Floats, bought: Floats | float = 1.0) -> Floats:
    """What the market moved our way between entry and close, dollars per contract.

    ``bought`` is 1 where the outcome whose prices these are was bought, -1 where its opposite was.
    """
    return np.asarray((closing - entry) * bought, dtype=np.float64)


def mean_closing_line_value(trips: pa.Table) -> Figure:
    """Mean closing-line value of the trips whose closing price is known, whatever they paid.

    Prices are those of the outcome held, so buying NO is judged by the closing price of NO.
    """
    table = trips.filter(pc.and_(pc.is_valid(trips["closing_price"]), pc.greater(trips["size"], 0)))
    if table.num_rows == 0:
        return undefined("no trade has a closing price")
    entry = np.asarray(table["cost"].to_numpy()) / np.asarray(table["size"].to_numpy())
    closing = np.asarray(table["closing_price"].to_numpy()) / MICRO
    return Figure(float(closing_line_value(entry, closing).mean()))
