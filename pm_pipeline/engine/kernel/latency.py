"""How long a command takes from our decision to the venue's door.

Draws are functions of seed, lane and the command's number, not of a generator that is passed around, so that
they are the same however the work is cut into pieces.
"""

from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.warehouse.records import Ints

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Median nanoseconds of each command; ``sigma`` is the spread of their logarithm, 0: none."""

    submit: Nanos = 0
    cancel: Nanos = 0
    amend: Nanos = 0
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if min(self.submit, self.cancel, self.amend) < 0 or not self.sigma >= 0:
            raise UsageError(f"a latency cannot be negative: {self}")

    @classmethod
    def constant(cls, nanos: Nanos) -> "Latency":
        """The same for every command."""
        return cls(submit=nanos, cancel=nanos, amend=nanos)

    def draw(self, kinds: Ints, numbers: Ints, seed: int) -> Ints:
        """The latency of each command, by its kind (0 submit, 1 cancel, 2 amend) and its number."""
        median = np.array([self.submit, self.cancel, self.amend], np.int64)[kinds]
        if not self.sigma:
            return median
        from scipy.special import ndtri  # takes long to import, and most latencies are constant

        normal = ndtri(uniform(seed, numbers))
        return np.rint(median * np.exp(self.sigma * normal)).astype(np.int64)


def named(latency: Latency, name: str, seed: int) -> Nanos:
    """The latency of an order that is known by a name and not by a number."""
    if not latency.sigma:
        return latency.submit
    number = np.array([crc32(name.encode())], np.int64)
    return int(latency.draw(np.zeros(1, np.int64), number, seed)[0])


def uniform(seed: int, numbers: Ints) -> npt.NDArray[np.float64]:
    """A number strictly between 0 and 1 for each (seed, number): the mixer of splitmix64, twice.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        start = _mixed(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) + _GOLDEN)
        mixed = _mixed(start + (numbers.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
