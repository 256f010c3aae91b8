"""Kelly on several bets at once, from a table of how they can end together.

The table has a row for each joint end and a column for each bet: the profit per dollar spent, at least -1. It
holds independent bets, exclusive outcomes and any dependence between. Growth is concave in the fractions and
the constraints are convex, so an interior-point method finds the one optimum there is (Boyd and Vandenberghe,
"Convex Optimization", 2004, chapter 11); where bets are copies of each other, it splits them evenly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.sizing.constrained import DrawdownRisk
from pm_pipeline.engine.sizing.kelly import check_probability, kelly_fraction
from pm_pipeline.errors import PipelineError

Floats = npt.NDArray[np.float64]

MOST_SOLVED: Final = 10
"""Independent bets up to this number are solved exactly; their table has two to that power rows."""

_CLOSE: Final = 1e-6
"""A Newton step that promises less is the last one."""

_NOISE: Final = 1e-4
"""The barrier is made sharper until the last bits of its value amount to this."""

_SHARP_ENOUGH: Final = 1e8
"""The growth that is found lies within the number of bets, divided by this, of the best there is."""

_NOTHING: Final = 1e-9
"""A fraction below this is none."""


class Ends(NamedTuple):
    """How bets can end together: profit per dollar spent (a row per end), and the probability of each."""

    profits: Floats
    chances: Floats


def independent(p: Sequence[float], cost: Sequence[float]) -> Ends:
    """Bets that have nothing to do with each other; ``cost`` in dollars per dollar paid on a win."""
    _check(p, cost)
    wins = np.array(list(product((0.0, 1.0), repeat=len(p)))).reshape(-1, len(p))
    chances = np.prod(np.where(wins > 0, np.array(p), 1.0 - np.array(p)), axis=1)
    return Ends(wins / np.array(cost) - 1.0, chances)


def exclusive(p: Sequence[float], cost: Sequence[float]) -> Ends:
    """Outcomes of which one wins; the last row is that none of these does, where that is possible."""
    _check(p, cost)
    wins = np.vstack([np.eye(len(p)), np.zeros(len(p))])
    chances = np.array([*p, max(1.0 - math.fsum(p), 0.0)])
    return Ends(wins / np.array(cost) - 1.0, chances)


def best_fractions(ends: Ends, risk: DrawdownRisk | None = None) -> Floats:
    """The share of the bankroll to spend on each bet for the fastest growth, within ``risk`` if given.

    Raises
    ------
    ValueError
        where the table is not one of profits, at least -1, with probabilities that sum to one.
    PipelineError
        where the solver does not come to an end.
    """
    if np.any(ends.profits < -1.0) or np.any(ends.chances < 0) or abs(math.fsum(ends.chances) - 1.0) > 1e-9:
        raise ValueError("profits are at least -1 and the probabilities of all ends sum to one")
    possible = ends.chances > 0
    profits, chances = ends.profits[possible], ends.chances[possible]
    edges = chances @ profits
    if not np.any(edges > _NOTHING):
        return np.zeros(profits.shape[1])
    problem = _Problem(profits, chances, risk.lam if risk is not None else 0.0)
    f = problem.start(int(np.argmax(edges)))
    if f is None:
        return np.zeros(profits.shape[1])
    sharpness = 100.0
    while problem.noise(f, sharpness) < _NOISE:
        centred = problem.centre(f, sharpness)
        if centred is None:
            break
        f, sharpness = centred, sharpness * 10.0
    if sharpness < _SHARP_ENOUGH:
        raise PipelineError(f"the sizes of {len(f)} bets were not found; use fewer bets")
    return np.where(f < _NOTHING, 0.0, f)


class _Derivatives(NamedTuple):
    value: float
    slope: Floats
    bend: Floats


@dataclass(frozen=True, slots=True)
class _Problem:
    """Minimise minus the growth, with ``f > 0``, ``sum f < 1`` and ``log E[wealth ** -lam] < 0``."""

    profits: Floats
    chances: Floats
    lam: float

    def start(self, best: int) -> Floats | None:
        """A point inside: a little of everything, mostly of the bet with the largest edge.

        ``None`` where that edge is too small to be told from none.
        """
        count = self.profits.shape[1]
        step = 0.5
        while step > 1e-12:
            f = np.full(count, step * step / count)
            f[best] = step * 0.9
            if math.isfinite(self._value(f, 1.0)):
                return f
            step /= 2.0
        return None

    def centre(self, f: Floats, sharpness: float) -> Floats | None:
        """Newton's method to the lowest point of ``sharpness`` times the loss plus the barriers.

        ``None`` where the last bits of the value do not let it come closer.
        """
        for _ in range(60):
            value, slope, bend = self._derivatives(f, sharpness)
            move = np.linalg.solve(bend, -slope)
            gain = -float(slope @ move)
            if gain < _CLOSE:
                return f + move if math.isfinite(self._value(f + move, sharpness)) else f
            step = 1.0
            while self._value(f + step * move, sharpness) > value - 0.1 * step * gain:
                step /= 2.0
            f = f + step * move
        return None

    def noise(self, f: Floats, sharpness: float) -> float:
        """What rounding alone may change of the value to be minimised."""
        moved = np.abs(self.profits) @ f
        return 1e-15 * sharpness * float(self.chances @ (moved / (1.0 + self.profits @ f)))

    def _value(self, f: Floats, sharpness: float) -> float:
        """Infinite outside of the constraints."""
        left = 1.0 - float(f.sum())
        if left <= 0.0 or np.any(f <= 0.0):
            return math.inf
        logs = np.log1p(self.profits @ f)
        value = -sharpness * float(self.chances @ logs) - float(np.log(f).sum()) - math.log(left)
        if self.lam:
            slack = -self._fall(logs)
            value += -math.log(slack) if slack > 0.0 else math.inf
        return value

    def _fall(self, logs: Floats) -> float:
        """``log E[wealth ** -lam]``, exact for small bets too; infinite where it overflows."""
        with np.errstate(over="ignore"):
            return math.log1p(float(self.chances @ np.expm1(-self.lam * logs)))

    def _derivatives(self, f: Floats, sharpness: float) -> _Derivatives:
        profits, left = self.profits, 1.0 - float(f.sum())
        wealth = 1.0 + profits @ f
        slope = -sharpness * (self.chances / wealth) @ profits - 1.0 / f + 1.0 / left
        bend = profits.T @ (profits * (sharpness * self.chances / wealth**2)[:, None])
        bend = bend + np.diag(1.0 / f**2) + 1.0 / left**2
        if self.lam:
            logs = np.log1p(profits @ f)
            fall = self._fall(logs)
            share = self.chances * np.exp(-self.lam * logs - fall)
            steep = -self.lam * (share / wealth) @ profits
            curved = self.lam * (1.0 + self.lam) * profits.T @ (profits * (share / wealth**2)[:, None])
            square = np.outer(steep, steep)
            slope = slope - steep / fall
            bend = bend + (curved - square) / -fall + square / fall**2
        return _Derivatives(self._value(f, sharpness), slope, bend)


def simultaneous_fractions(p: Sequence[float], cost: Sequence[float], *, most: float = 1.0) -> Floats:
    """The share of the bankroll for each of several independent bets placed at the same time.

    Up to :data:`MOST_SOLVED` bets the optimum; beyond, each bet's own Kelly fraction. Where they would spend
    more than ``most`` of the bankroll together, all are scaled down alike.

    Raises ``ValueError`` as :func:`independent` does, or unless ``most`` lies in (0, 1].
    """
    if not 0.0 < most <= 1.0:
        raise ValueError(f"most is {most}; it lies in (0, 1]")
    _check(p, cost)
    if not p:
        return np.zeros(0)
    alone = np.array([max(kelly_fraction(pi, ci), 0.0) for pi, ci in zip(p, cost, strict=True)])
    # no independent bet deserves more in company than alone
    found = np.minimum(best_fractions(independent(p, cost)), alone) if len(p) <= MOST_SOLVED else alone
    total = float(found.sum())
    return found * (most / total) if total > most else found


def _check(p: Sequence[float], cost: Sequence[float]) -> None:
    if len(p) != len(cost):
        raise ValueError(f"{len(p)} probabilities for {len(cost)} costs")
    for chance in p:
        check_probability(chance)
    if any(c <= 0 for c in cost):
        raise ValueError("every cost must be positive")
