"""Markets of quotes for the benchmarks of points: a mid that wanders on a grid of a tenth of a cent, and its
z-score.

Needs numpy alone, so that a peer's environment can read what it writes.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

STEP_NS = 60 * 10**9
T0 = 1_782_000_000 * 10**9
"""In June 2026: the fee of the markets is their own, floored to a thousandth of a cent."""
STAKE = 100
RATE = 0.02
WINDOW = 24
ENTRY, EXIT = 2.03, 0.13
"""Thresholds that hardly a z-score of whole mids meets exactly, so that no rounding of a peer decides a
trade."""
STOP, TARGET = 0.10, 0.20

OFFSET_NS, HALF = 1_000_000, 1
BANKROLL, DEPTH = 10_000, 1_000
KELLY, MAX_STAKE, GROSS, MAX_POSITIONS = 0.25, 0.05, 0.6, 40
DRAWDOWN, COOLDOWN_NS = 0.5, 6 * 3600 * 10**9
"""The portfolio: a point a millisecond from market to market, half a spread of 0.1 cents, dollars, shares."""

Ints = npt.NDArray[np.int64]


class World(NamedTuple):
    """Mids in tenths of a cent, a row per market, and whether it pays."""

    mids: npt.NDArray[np.int16]
    pays: npt.NDArray[np.bool_]


def make(markets: int, points: int, seed: int = 7) -> World:
    """Mids between 10 and 90 cents with steps of at most 0.6 cents: no step alone meets a stop or a
    target."""
    rng = np.random.default_rng(seed)
    mids = np.empty((markets, points), np.int16)
    now = rng.integers(200, 800, markets)
    for n in range(points):
        now = now + rng.integers(-6, 7, markets)
        now = np.where(now < 100, 200 - now, np.where(now > 900, 1800 - now, now))
        mids[:, n] = now
    return World(mids, rng.random(markets) < mids[:, -1] / 1000)


class Combination(NamedTuple):
    """The parameters of one rule of a sweep."""

    window: int
    entry: float
    exit: float
    stop: float
    target: float


def grid() -> list[Combination]:
    """A thousand combinations: 5 windows, 10 entries, 5 exits, 2 stops, 2 targets."""
    entries = [round(1.03 + 0.2 * n, 2) for n in range(10)]
    return [
        Combination(*row)
        for row in product(
            (12, 24, 36, 48, 96), entries, (-0.37, -0.17, 0.13, 0.33, 0.53), (0.08, 0.12), (0.1, 0.2)
        )
    ]


def save(world: World, path: Path) -> None:
    np.savez(path, **world._asdict())


def load(path: str | Path) -> World:
    with np.load(path) as stored:
        return World(stored["mids"], stored["pays"])


def contracts() -> npt.NDArray[np.float64]:
    """What the stake buys at each price in tenths of a cent, in whole hundredths, its fee floored as the
    venue's."""
    found = np.zeros(1001)
    for mills in range(1, 1000):
        fee_of = RATE * mills * (1000 - mills) * 1e-6
        lots = int(STAKE * 100 / (mills / 1000 + fee_of)) + 2
        while (
            mills * lots * 10 + int(RATE * 1e6) * mills * (1000 - mills) * lots // 10**9 * 10 > STAKE * 10**6
        ):
            lots -= 1
        found[mills] = lots / 100
    return found


class Answer(NamedTuple):
    """What a worker reports: processor seconds of a run and of the whole process up to its first, and its
    memory."""

    warm_s: float
    fresh_s: float
    peak_mb: float
    results: int


def answer(warm_s: float, fresh_s: float, results: int) -> None:
    """Print it for the one who asked."""
    print(json.dumps(Answer(warm_s, fresh_s, peak_mb(), results)._asdict()))


def ask(command: list[str]) -> Answer:
    """Run a worker in a process and on one thread of its own; its modules are byte code, as those of
    installed packages are.
    """
    one = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=kept | one)
    return Answer(**json.loads(done.stdout.splitlines()[-1]))


def rounds(commands: dict[str, list[str]], count: int) -> dict[str, list[Answer]]:
    """Every worker once in each round, one after the other."""
    found: dict[str, list[Answer]] = {name: [] for name in commands}
    for _ in range(count):
        for name, command in commands.items():
            found[name].append(ask(command))
    return found


def show(found: dict[str, list[Answer]], units: int, says: dict[str, str], unit: str = "point") -> None:
    """The table of medians, and how often the first is faster than the others."""
    print(f"{'engine':<18}{'warm ns/' + unit:>26}{'[min .. max]':>20}{'fresh s':>9}{'MB':>8}{'trades':>12}")
    for name, answers in found.items():
        warm = [answer.warm_s * 1e9 / units for answer in answers]
        spread = f"[{min(warm):,.2f} .. {max(warm):,.2f}]"
        fresh, memory = (median(getattr(a, field) for a in answers) for field in ("fresh_s", "peak_mb"))
        print(
            f"{name:<18}{median(warm):>26,.2f}{spread:>20}{fresh:>9.2f}{memory:>8.0f}{answers[0].results:>12,}"
        )
    first, *others = found
    for name in others:
        ratios = {
            field: median(getattr(a, field) for a in found[name])
            / median(getattr(a, field) for a in found[first])
            for field in ("warm_s", "fresh_s", "peak_mb")
        }
        print(
            f"{first} against {name}: {ratios['warm_s']:,.1f}x warm, {ratios['fresh_s']:,.1f}x fresh, "
            f"{ratios['peak_mb']:,.1f}x less memory; {says[name]}"
        )


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    started = time.process_time()
    work()
    return time.process_time() - started


def peak_mb() -> float:
    """The most memory that this process has held, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan") if sys.platform == "linux" else 0.0
