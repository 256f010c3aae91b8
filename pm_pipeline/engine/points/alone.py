"""Markets one by one, each with its own bankroll: walked where that will do, else played event by event."""

import numpy as np

from pm_pipeline.engine.points.cache import entry, inlined, jit
from pm_pipeline.engine.points.records import BLOCK, Ended, Refusal, Tables
from pm_pipeline.engine.points.rules import z_row
from pm_pipeline.engine.points.run import advance
from pm_pipeline.engine.points.walk import walk, walkable

SETTLEMENT = int(Ended.SETTLEMENT)
BELOW_MIN_SIZE = int(Refusal.BELOW_MIN_SIZE)
MARKET_CLOSED = int(Refusal.MARKET_CLOSED)


@inlined
def _room(t: Tables, m: int) -> bool:
    """Whether a walk fits into the tables of results, whatever it does: a row decides once at most."""
    state = t.state[0]
    rows = t.markets[m]["end"] - t.markets[m]["first"]
    needed = 2 * rows + 8
    fits = state["fills"] + needed <= len(t.fills) and state["trades"] + needed <= len(t.trades)
    return bool(fits and state["decisions"] + needed <= len(t.decisions))


@inlined
def _forget_prices(t: Tables, m: int) -> None:
    for r in range(t.markets[m]["end"] - t.markets[m]["first"]):
        t.bought[r]["regime"] = -1


@entry
def advance_each(t: Tables, position: int, last: int, resume: bool) -> int:
    """Play markets one by one, each with its own bankroll.

    Returns twice the first market that is not done, and one more if it has begun; then a table is full.
    """
    while position < last:
        walks = walkable(t) and t.terms[0]["ruled"] and not resume
        if walks and not _room(t, position):
            return 2 * position
        if walks:
            _forget_prices(t, position)
        done = walks and walk(t, position, True)
        if not done and not advance(t, resume, position, position + 1):
            return 2 * position + 1
        if t.state[0]["fault"]:
            return 2 * position
        resume = False
        position += 1
    return 2 * position


@inlined
def _score(t: Tables, m: int, window: int) -> None:
    """The z-scores of one market, and their extremes in the blocks that lie in it."""
    first, end = t.markets[m]["first"], t.markets[m]["end"]
    z_row(t.mid, t.z, first, end, 0, window)
    for block in range(-(-first // BLOCK), end // BLOCK):
        low, high = np.inf, -np.inf
        for i in range(block * BLOCK, block * BLOCK + BLOCK):
            if t.z[i] < low:
                low = t.z[i]
            if t.z[i] > high:
                high = t.z[i]
        t.z_low[block], t.z_high[block] = low, high


@jit
def _add_trades(t: Tables) -> None:
    """Add what the loop of events wrote to the sums, and forget it."""
    sums, state = t.sums[t.terms[0]["number"]], t.state[0]
    for n in range(state["trades"]):
        row = t.trades[n]
        profit = row["proceeds"] - row["cost"] - row["fees"]
        sums["trades"] += 1
        sums["wins"] += profit > 0
        sums["pnl"] += profit
        sums["fees"] += row["fees"]
        sums["cost"] += row["cost"]
        sums["proceeds"] += row["proceeds"]
        sums["held_to_payout"] += row["ended_by"] >= SETTLEMENT
    for code in range(len(t.refused)):
        sums["refused"] += t.refused[code]
        t.refused[code] = 0
    state["trades"] = state["fills"] = state["decisions"] = 0


@entry
def sweep_each(t: Tables, position: int, resume: bool) -> int:
    """Play every combination of ``grid``, which is sorted by window, on every market alone.

    The z-scores are made once for a market and a window. Returns the place that was reached, as
    :func:`advance_each` does: market times combinations, plus combination.
    """
    count, last = len(t.grid), len(t.grid) * len(t.markets)
    window = -1
    while position < last:
        m, g = position // count, position % count
        t.terms[0] = t.grid[g]
        if g == 0:
            _forget_prices(t, m)
        if g == 0 or t.terms[0]["window"] != window:
            window = t.terms[0]["window"]
            _score(t, m, window)
        if resume or not walkable(t) or not walk(t, m, False):
            if not advance(t, resume, m, m + 1):
                return 2 * position + 1
            _add_trades(t)
        else:
            for code in (MARKET_CLOSED, BELOW_MIN_SIZE):
                t.refused[code] = 0
        if t.state[0]["fault"]:
            return 2 * position
        resume = False
        position += 1
    return 2 * position
