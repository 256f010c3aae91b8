"""What the past of a price says about its risk: volatility, a jump, and who moves with whom.

Prices are daily closes as probabilities or dollars. A price of a prediction market lives between 0 and 1 and
is measured by changes of ``ln(p / (1 - p))``; a share by simple returns.
"""

from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pm_pipeline.markets.clock import DAY, Nanos
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.arrays import Quotes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_EDGE: Final = 0.0005
"""Prices are kept this far from 0 and 1, where a logit would run away."""


class Returns(StrEnum):
    """How a change of price is measured: of the logit, or as a share of the price before."""

    LOGIT = "logit"
    SIMPLE = "simple"


class Closes(NamedTuple):
    """The last mid of each UTC day on which one was seen: days since 1970 and prices, in order."""

    days: Ints
    prices: Floats


def daily_closes(quotes: Quotes, before: Nanos) -> Closes:
    """The closes of all full days before the day of ``before``, from quotes that were known then."""
    seen = np.flatnonzero((quotes.mid >= 0) & (quotes.ts < before // DAY * DAY))
    seen = seen[np.argsort(quotes.ts[seen], kind="stable")]
    days, mids = quotes.ts[seen] // DAY, quotes.mid[seen]
    last = np.flatnonzero(np.diff(days, append=days[-1:] + 1))
    return Closes(days[last], mids[last] / MICRO)


def changes(prices: Floats, returns: Returns) -> Floats:
    """The changes from each price to the next."""
    if returns is Returns.SIMPLE:
        return np.asarray(prices[1:] / prices[:-1] - 1.0)
    return np.asarray(np.diff(_logit(prices)))


def volatility(prices: Floats, window: int, returns: Returns) -> float | None:
    """Standard deviation (ddof 1) of the last ``window`` changes, per day, not annualised.

    ``None`` where there are fewer.
    """
    found = changes(prices[-(window + 1) :], returns)
    return float(np.std(found, ddof=1)) if len(found) == window else None


def jump(prices: Floats, price: float, window: int, returns: Returns) -> float | None:
    """How far ``price`` lies from the last close, in standard deviations of the last ``window`` changes.

    ``None`` where that is not defined: too short a past, or one in which nothing moved.
    """
    usual = volatility(prices, window, returns)
    if not usual:
        return None
    return abs(float(changes(np.array([prices[-1], price]), returns)[0])) / usual


def correlation(a: Closes, b: Closes, least: int) -> float | None:
    """Pearson correlation of the logit changes of two prices between the days on which both closed.

    ``None`` with fewer than ``least`` common changes, or where one of them never moved.
    """
    days, in_a, in_b = np.intersect1d(a.days, b.days, assume_unique=True, return_indices=True)
    if len(days) < least + 1:
        return None
    x, y = (changes(c.prices[rows], Returns.LOGIT) for c, rows in ((a, in_a), (b, in_b)))
    if x.std() == 0.0 or y.std() == 0.0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _logit(prices: Floats) -> Floats:
    p = np.clip(prices, _EDGE, 1.0 - _EDGE)
    return np.asarray(np.log(p / (1.0 - p)))
