"""The latent probability of each market of an event, as an exact martingale that decides the outcome.

A hidden figure ``X`` (a temperature, a price, a share of votes) is observed at the end. What is known of it
moves as a Brownian motion, so at clock ``s`` of 1 the belief is ``X ~ N(X_s, sd^2 (1 - s))`` and the
probability that ``X`` falls into an interval is a difference of two normal distribution functions. Intervals
that share out the line therefore sum to one exactly, exactly one of them pays, and the price of each is a
martingale: the chance of YES given the latent probability ``p`` at any moment is ``p``.

The end value is drawn first and the path to it is a Brownian bridge. That is the same law, and the outcome
is known without simulating the path.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.sources.sandbox.world import Ints

Floats = NDArray[np.float64]

_CLOCK_POWER: Final = 1.4
"""News comes faster towards the end: the clock is the elapsed share of time to this power."""


@dataclass(frozen=True, slots=True)
class Interval:
    """YES pays when the figure lies in ``(low, high]``; an infinite end is open."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Tie:
    """YES pays 1 above ``centre + half_width``, nothing below ``centre - half_width``, one half between."""

    centre: float
    half_width: float


@dataclass(frozen=True, slots=True)
class Share:
    """A scalar result: YES pays the share ``Phi((X - centre) / scale)`` of a dollar."""

    centre: float
    scale: float


Payoff = Interval | Tie | Share


def payout(payoff: Payoff, figure: float) -> float:
    """What YES pays, from 0 to 1, when the figure came out as ``figure``."""
    return float(expected(payoff, np.array([figure]), np.zeros(1))[0])


def expected(payoff: Payoff, known: Floats, remaining_sd: Floats) -> Floats:
    """The expected payout of YES when the figure is normal around ``known`` with ``remaining_sd``."""
    match payoff:
        case Interval(low, high):
            return _below(high, known, remaining_sd) - _below(low, known, remaining_sd)
        case Tie(centre, half):
            upper = _below(centre + half, known, remaining_sd)
            lower = _below(centre - half, known, remaining_sd)
            return 1.0 - 0.5 * (upper + lower)
        case Share(centre, scale):
            shares: Floats = ndtr((known - centre) / np.sqrt(scale**2 + remaining_sd**2))
            return shares


def _below(edge: float, known: Floats, remaining_sd: Floats) -> Floats:
    if np.isinf(edge):
        return np.full(known.shape, float(edge > 0))
    # The smallest positive divisor turns a certain figure into a step, with the edge itself included.
    result: Floats = ndtr((edge - known) / np.maximum(remaining_sd, 1e-300))
    return np.where((remaining_sd == 0) & (known == edge), 1.0, result)


class Belief(NamedTuple):
    """The mean of the figure as known at each time, and what spread is left."""

    ts: Ints
    known: Floats
    remaining_sd: Floats


def random_stream(seed: int, *names: str) -> np.random.Generator:
    """A generator of its own for each name, so that adding a market leaves the others as they were."""
    digest = sha256("\0".join(names).encode()).digest()
    words = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=words))


def end_figure(seed: int, name: str, mean: float, sd: float, within: Tie | None = None) -> float:
    """Draw what the hidden figure comes out as; ``within`` prescribes that it ends in a tie."""
    uniform = random_stream(seed, name, "end").random()
    if within is not None:
        low = ndtr((within.centre - within.half_width - mean) / sd)
        high = ndtr((within.centre + within.half_width - mean) / sd)
        # A hair inside the edges, where the payout is one half on both.
        uniform = low + (0.01 + 0.98 * uniform) * (high - low)
    return float(mean + sd * ndtri(uniform))


def belief(
    seed: int, name: str, mean: float, sd: float, figure: float, ts: Ints, decided_at: Nanos
) -> Belief:
    """The path from the prior mean at ``ts[0]`` to the figure at ``decided_at``, and certainty after it."""
    elapsed = np.minimum((ts - ts[0]) / float(decided_at - int(ts[0])), 1.0)
    clock = elapsed**_CLOCK_POWER
    steps = np.diff(clock, append=1.0)
    noise = random_stream(seed, name, "path").standard_normal(len(ts)) * np.sqrt(steps)
    walk = np.concatenate(([0.0], np.cumsum(noise)))
    bridge = walk[:-1] - clock * walk[-1]
    known = mean + sd * bridge + clock * (figure - mean)
    known[clock >= 1.0] = figure
    return Belief(ts, known, sd * np.sqrt(1.0 - clock))
