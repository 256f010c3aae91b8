"""The market of the replay benchmark in blocks, at any length, and what a worker reports of it.

Needs numpy alone, so that a peer's environment can read it.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.replay_market import DEPTH, EVERY, TRADES, Events

BLOCK = 1_000_000
"""Events that are made and written at a time."""


REPEATS = 3
"""How often a process loads and plays; it reports the median. Nautilus, which takes long, does it once."""


class Report(NamedTuple):
    """Seconds of processor time with the load, peak memory in MB, and what the takers got.

    The last three are the same for the last level of each order alone, which is all that hftbacktest books.
    """

    cpu_s: float
    peak_mb: float
    fills: int
    contracts: int
    cost_cents: int
    last_fills: int
    last_contracts: int
    last_cost_cents: int


def blocks(count: int, seed: int = 7) -> Iterator[Events]:
    """``count`` events around a mid that wanders between 40 and 60 cents, 17 levels a side, 4.8 % trades."""
    mid = 50
    for number, start in enumerate(range(0, count, BLOCK)):
        rows = min(BLOCK, count - start)
        rng = np.random.default_rng((seed, number))
        side = rng.integers(0, 2, rows)
        away = rng.integers(1, DEPTH + 1, rows)
        size = rng.integers(100, 2_000, rows)
        draw = rng.random(rows)
        trade = draw < TRADES
        mids = np.empty(rows, np.int64)
        empties = np.zeros(rows, np.bool_)
        last = 0
        for n in np.flatnonzero(~trade & (draw < TRADES + 0.01)).tolist():
            moved = mid + 2 * int(side[n]) - 1
            if 40 < moved < 60:
                mids[last:n] = mid
                mid, last, empties[n] = moved, n, True  # the level that it reaches empties
        mids[last:] = mid
        step = 2 * side - 1
        cents = np.where(empties, mids, mids + step * np.where(trade, 1, away))
        size = np.where(trade, size // 20, np.where(empties, 0, size))
        yield Events(trade.astype(np.int64), side, cents, size)


def orders(count: int) -> int:
    """How many takers come during so many events."""
    return count // EVERY - 1


def answer(workers: Mapping[str, Callable[[Path, int], Report]]) -> None:
    """The main of a worker: run the one that is named on what was stored, print what it reports."""
    print(json.dumps(workers[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))._asdict()))


def report(cpu_s: float, booked: tuple[int, int, int], last: tuple[int, int, int]) -> Report:
    """What a worker reports, with the memory that it has taken so far."""
    return Report(cpu_s, _peak_mb(), *booked, *last)


def _peak_mb() -> float:
    """Peak memory of this process; ``getrusage`` would count that of the process which started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
