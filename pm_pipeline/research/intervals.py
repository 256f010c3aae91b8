"""Confidence intervals by a bootstrap over events.

Trips of one event win and lose together, so whole events are drawn, not trips: resampling single trips would
claim far too narrow an interval. Percentile intervals (Efron 1979; blocks by event as in Cameron, Gelbach and
Miller 2008).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Final

import numpy as np

from pm_pipeline.markets.units import MICRO
from pm_pipeline.research.figure import Figure, undefined
from pm_pipeline.research.forecasts import Forecasts
from pm_pipeline.research.returns import Floats, Ints
from pm_pipeline.research.trades import Trips

DRAWS: Final = 2000
LEVEL: Final = 0.95

FEWEST_EVENTS: Final = 5
"""With fewer events the percentiles of a bootstrap say nothing."""

_CELLS: Final = 1_000_000
"""Drawn indices held at once; bounds the memory whatever the number of events and draws."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its interval at ``level``, from this many events; NaN with a note where undefined."""

    value: float
    low: float
    high: float
    level: float
    events: int
    note: str = ""

    @property
    def bounds(self) -> tuple[Figure, Figure]:
        """Both ends as figures."""
        if self.note:
            return undefined(self.note), undefined(self.note)
        return Figure(self.low), Figure(self.high)


def block_bootstrap(
    events: Ints,
    terms: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Interval of a statistic of sums, drawing whole events with replacement.

    ``terms`` has one row per observation and one column per sum; ``statistic`` maps rows of sums to values.
    ``events`` numbers the event of each observation from 0. Deterministic for a seed.
    """
    count = int(np.unique(events).size)
    if count < FEWEST_EVENTS:
        note = f"needs at least {FEWEST_EVENTS} events, there are {count}"
        return Interval(nan, nan, nan, level, count, note)
    sums = np.zeros((count, terms.shape[1]))
    np.add.at(sums, np.unique(events, return_inverse=True)[1], terms)
    rng = np.random.default_rng(seed)
    batch = max(1, _CELLS // count)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(sums.sum(axis=0, keepdims=True))[0])
        values = np.concatenate(
            [statistic(_drawn_sums(rng, sums, min(batch, draws - done))) for done in range(0, draws, batch)]
        )
    if not np.isfinite(value) or not np.isfinite(values).all():
        return Interval(nan, nan, nan, level, count, "the statistic is undefined in a resample")
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(value, float(low), float(high), level, count)


def _drawn_sums(rng: np.random.Generator, sums: Floats, draws: int) -> Floats:
    picks = rng.integers(len(sums), size=(draws, len(sums)))
    return np.column_stack([column[picks].sum(axis=1) for column in sums.T])


def mean_pnl(trips: Trips, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Interval of the mean profit per trade, dollars."""
    terms = np.column_stack((trips.pnl / MICRO, np.ones(trips.count)))
    return block_bootstrap(
        trips.event, terms, lambda s: s[:, 0] / s[:, 1], level=level, draws=draws, seed=seed
    )


def total_pnl(trips: Trips, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Interval of the total profit of as many events as there were, dollars."""
    terms = (trips.pnl / MICRO)[:, None]
    return block_bootstrap(trips.event, terms, lambda s: s[:, 0], level=level, draws=draws, seed=seed)


def brier_skill(forecasts: Forecasts, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Interval of the Brier skill against the market's price."""
    terms = np.column_stack(
        ((forecasts.p - forecasts.outcome) ** 2, (forecasts.market - forecasts.outcome) ** 2)
    )
    return block_bootstrap(
        forecasts.event, terms, lambda s: 1.0 - s[:, 0] / s[:, 1], level=level, draws=draws, seed=seed
    )
