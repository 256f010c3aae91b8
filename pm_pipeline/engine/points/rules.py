"""A rule that trades on the z-score of the mid: bought when it is low, sold when it has come back.

The z-score of a row compares its mid with the ``window`` mids before it, itself not among them: ``(x - mean)
/ sd``, sd with ddof 1; undefined for the first ``window`` mids, and where the past did not vary. It is the
definition of ``strategies.indicators.rolling_z``. Mids are whole millionths, so the sums behind it are exact
integers: no error accumulates over a row, and every machine finds the same last digit.
"""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.kernel.cache import compile_entry
from pm_pipeline.engine.points.cache import entry, inlined, jit
from pm_pipeline.engine.points.fees import MICRO
from pm_pipeline.engine.points.records import BLOCK, Floats, Prices, Tables
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.units import to_micro
from pm_pipeline.warehouse.records import Ints

LONGEST = 3_000
"""The longest window: the square of the sum of so many mids fits into 63 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZRule:
    """Buy outcome 0 where ``z <= -entry``, sell where ``z >= -exit`` (``None``: never for that reason).

    ``stop``, ``target`` and ``trailing`` are shares of the mid at the decision, ``hold`` a time after it;
    they become the exit rules of the signal, cut to the millionth in the direction that is met later. The
    rule sees its fills: it asks for an entry only while nothing is held or asked for, and for an exit while
    something is and no exit is on its way. Its belief, where a size needs one, is the mean of the window.
    """

    window: int = 24
    entry: float = 2.0
    exit: float | None = 0.0
    stop: Decimal | None = None
    target: Decimal | None = None
    trailing: Decimal | None = None
    hold: Nanos | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.window <= LONGEST:
            raise UsageError(f"window is {self.window}; it lies between 2 and {LONGEST}")
        if not self.entry > 0:
            raise UsageError(f"entry is {self.entry}; it must be positive")
        if self.exit is not None and not self.exit < self.entry:
            raise UsageError(f"exit {self.exit} must be below entry {self.entry}")
        for name in ("stop", "target", "trailing"):
            share = getattr(self, name)
            if share is not None and (not 0 < share <= 1 or share != round(share, 6)):
                raise UsageError(f"{name} is {share}; it is a share with at most six decimals in (0, 1]")
        if self.hold is not None and self.hold <= 0:
            raise UsageError(f"hold is {self.hold}; it must be positive")

    def shares(self) -> dict[str, int]:
        """Stop, target, trailing in millionths and the time to hold; -1 where there is none."""
        found = {n: getattr(self, n) for n in ("stop", "target", "trailing")}
        plain = {name: -1 if share is None else to_micro(share) for name, share in found.items()}
        return plain | {"hold": -1 if self.hold is None else self.hold}


@jit
def z_row(mid: Prices, z: Floats, first: int, end: int, base: int, window: int) -> None:
    """The z-scores of rows ``first`` to ``end`` into ``z``, from ``z[first - base]`` on; NaN where
    undefined."""
    count, total, squares, tail = 0, 0, 0, first
    scale = window / (window - 1.0)
    for i in range(first, end):
        x = int(mid[i])
        z[i - base] = np.nan
        if x < 0:
            continue
        if count == window:
            spread = window * squares - total * total
            if spread > 0:
                z[i - base] = (window * x - total) / np.sqrt(spread * scale)
            while mid[tail] < 0:
                tail += 1
            old = int(mid[tail])
            total -= old
            squares -= old * old
            tail += 1
        else:
            count += 1
        total += x
        squares += x * x


@entry
def z_rows(mid: Prices, z: Floats, first: Ints, window: int) -> None:
    """The z-scores of all markets; market m has the rows from ``first[m]`` to ``first[m + 1]``."""
    for m in range(len(first) - 1):
        z_row(mid, z, first[m], first[m + 1], 0, window)


@entry
def price_extremes(values: Prices, low: Prices, high: Prices) -> None:
    """The lowest and the highest price of each block of rows, of those that are there."""
    for block in range(len(low)):
        least, most = 2_000_000, -1
        for i in range(block * BLOCK, min(block * BLOCK + BLOCK, len(values))):
            value = values[i]
            most = max(most, value)
            least = min(least, value if value >= 0 else 2_000_000)
        low[block], high[block] = least, most


@entry
def score_extremes(values: Floats, low: Floats, high: Floats) -> None:
    """The lowest and the highest score of each block of rows; infinite where none is defined."""
    for block in range(len(low)):
        least, most = np.inf, -np.inf
        for i in range(block * BLOCK, min(block * BLOCK + BLOCK, len(values))):
            value = values[i]
            if value < least:
                least = value
            if value > most:
                most = value
        low[block], high[block] = least, most


@inlined
def next_decision(t: Tables, m: int, start: int, engaged: bool) -> int:
    """The first row from ``start`` on at which the rule asks for something while the market is open, or
    -1."""
    terms, market = t.terms[0], t.markets[m]
    i, end, found = start, market["end"], False
    while i < end and not found:
        if i % BLOCK == 0 and i + BLOCK <= end:
            block = i // BLOCK
            if (t.z_high[block] < -terms["exit"]) if engaged else (t.z_low[block] > -terms["entry"]):
                i += BLOCK
                continue
        found = (t.z[i] >= -terms["exit"]) if engaged else (t.z[i] <= -terms["entry"])
        found = found and t.known_at[i] >= market["opened_at"]
        i += 1
    if not found or t.known_at[i - 1] >= market["closed_at"] or t.known_at[i - 1] >= market["paid_at"]:
        return -1
    return i - 1


@inlined
def signal_of(t: Tables, m: int, now: int, i: int) -> None:
    """The signal of row ``i`` into ``scratch``."""
    terms, signal = t.terms[0], t.scratch[0]
    run, mid = t.runs[m], int(t.mid[i])
    enters = run["trip0"] < 0 and run["entry0"] < 0
    signal["row"], signal["at"], signal["outcome"], signal["enters"] = i, now, 0, enters
    signal["limit"] = signal["stake"] = signal["stop"] = signal["target"] = -1
    signal["trailing"] = signal["exit_at"] = -1
    signal["p"] = np.nan
    if not enters:
        return
    if terms["stop"] >= 0:
        signal["stop"] = mid * (MICRO - terms["stop"]) // MICRO
    if terms["target"] >= 0:
        signal["target"] = min(-(-mid * (MICRO + terms["target"]) // MICRO), MICRO)
    if terms["trailing"] >= 0:
        signal["trailing"] = -(-mid * terms["trailing"] // MICRO)
    if terms["hold"] >= 0:
        signal["exit_at"] = now + terms["hold"]


@inlined
def belief(t: Tables, m: int, i: int) -> float:
    """The mean of the window before a row, in dollars."""
    total, count, j = 0, 0, i - 1
    while count < t.terms[0]["window"]:
        if t.mid[j] >= 0:
            total += t.mid[j]
            count += 1
        j -= 1
    return float(total) / float(count * MICRO)


def scores(mid: Prices, first: Ints, window: int) -> npt.NDArray[np.float64]:
    """The z-score of each row; market m has the rows from ``first[m]`` to ``first[m + 1]``."""
    compile_entry(z_rows)
    found = np.empty(len(mid), np.float64)
    z_rows(mid, found, first, window)
    return found
