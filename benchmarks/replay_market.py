"""A synthetic market for the replay benchmark: absolute level sizes and trades on whole cents, never crossed.

Needs numpy alone, so that a peer's environment can read what it writes.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

STEP_NS = 1_000_000
"""Time between two events."""
EVERY = 1_000
"""Events between two orders; an order comes half a step after an event, so that no clock can tie."""
CONTRACTS = 3_000
MAKERS = (30, 70)
"""Where a bid and an offer rest, in cents: in the book's depth, and further than an order walks."""
DEPTH = 17
TRADES = 0.048

Ints = npt.NDArray[np.int64]


class Events(NamedTuple):
    """Columns: is it a trade, the side of the book (0 bid, 1 ask), the price in cents, contracts."""

    trade: Ints
    side: Ints
    cents: Ints
    size: Ints


def make(count: int, seed: int = 7) -> Events:
    """``count`` events around a mid that wanders between 40 and 60 cents, 17 levels a side, 4.8 % trades."""
    rng = np.random.default_rng(seed)
    sides = rng.integers(0, 2, count).tolist()
    away = rng.integers(1, DEPTH + 1, count).tolist()
    sizes = rng.integers(100, 2_000, count).tolist()
    draws = rng.random(count).tolist()
    rows = np.empty((4, count), np.int64)
    mid = 50
    for n in range(count):
        side, cents, size, trade = sides[n], 0, sizes[n], 0
        if draws[n] < TRADES:
            trade, cents, size = 1, mid + (2 * side - 1), size // 20
        elif draws[n] < TRADES + 0.01 and 40 < mid + 2 * side - 1 < 60:
            mid += 2 * side - 1  # the level that it reaches empties
            cents, size = mid, 0
        else:
            cents = mid + (2 * side - 1) * away[n]
        rows[:, n] = trade, side, cents, size
    return Events(*rows)


def save(events: Events, path: Path) -> None:
    np.savez(path, **events._asdict())


def load(path: str) -> Events:
    with np.load(path) as stored:
        return Events(*(stored[name] for name in Events._fields))


class Result(NamedTuple):
    """What a worker reports: seconds of processor time for the replay alone, and what its takers got.

    The last three are the same for the last level of each order alone, which is all that hftbacktest books.
    """

    cpu_s: float
    fills: int
    contracts: int
    cost_cents: int
    last_fills: int
    last_contracts: int
    last_cost_cents: int


def answer(workers: dict[str, Callable[[Events], Result]]) -> None:
    """The main of a worker: run the one that is named on the stored events, print the result."""
    print(json.dumps(workers[sys.argv[1]](load(sys.argv[2]))._asdict()))


def timed(work: Callable[[], None]) -> float:
    """Seconds of processor time."""
    started = time.process_time()
    work()
    return time.process_time() - started
