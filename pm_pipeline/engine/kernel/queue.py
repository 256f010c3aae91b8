"""Where a resting order stands in its level's queue, and how it moves up.

A trade and the smaller level that follows from it are two records of one event, in either order. They are
paired within the venue's window, so that neither is counted twice: of a drop only what no trade explains is
somebody leaving, and a trade takes back what a drop before it was believed to be.
"""

import math

from pm_pipeline.engine.kernel.cache import jit
from pm_pipeline.engine.kernel.tables import Tables

# Values of QueueMode, written out: compiled code reads plain numbers fastest
_RISK_AVERSE = 0
_PROPORTIONAL = 1


@jit
def join(t: Tables, lane: int, k: int, size: int) -> None:
    """Stand behind all that is displayed."""
    order = t.orders[lane, k]
    order["ahead"], order["shown"] = size, size
    order["traded"], order["dropped"], order["credit"] = 0, 0, 0


@jit
def left_in_front(mode: int, power: float, drop: int, ahead: int, behind: int) -> int:
    """How much of what left the level without a trade stood in front of us.

    At least what cannot have been behind, at most all that was in front.
    """
    least = max(0, drop - behind)
    most = min(drop, ahead)
    if mode == _RISK_AVERSE or ahead <= 0:
        return min(least, most)
    if behind <= 0:
        return most
    # proportional is the power one
    exponent = 1.0 if mode == _PROPORTIONAL else power
    share = 1.0 / (1.0 + (behind / ahead) ** exponent)
    return max(least, min(most, int(drop * share)))


@jit
def on_depth(t: Tables, lane: int, k: int, size: int, at: int) -> None:
    """The level of a resting order now shows ``size``."""
    order, terms, window = t.orders[lane, k], t.lanes[lane], t.venue[0]["pair_window"]
    drop = order["shown"] - size
    order["shown"] = size
    if drop <= 0:
        return  # who joins stands behind us
    if at - order["traded_at"] > window:
        order["traded"] = 0
    behind = max(0, size + drop - order["traded"] - order["ahead"])
    paired = min(drop, order["traded"])
    order["traded"] -= paired
    drop -= paired
    if drop == 0:
        return
    if at - order["dropped_at"] > window:
        order["dropped"], order["credit"] = 0, 0
    gain = left_in_front(terms["queue"], terms["power"], drop, order["ahead"], behind)
    order["ahead"] -= gain
    order["dropped"] += drop
    order["credit"] += gain
    order["dropped_at"] = at


@jit
def on_trade(t: Tables, lane: int, k: int, size: int, at: int) -> int:
    """``size`` traded at the level of a resting order; returns how much of it reaches us."""
    order, window = t.orders[lane, k], t.venue[0]["pair_window"]
    if at - order["dropped_at"] > window:
        order["dropped"], order["credit"] = 0, 0
    if at - order["traded_at"] > window:
        order["traded"] = 0
    paired = min(size, order["dropped"])
    back = 0
    if paired > 0:
        # rounded up: what is in doubt stays in front of us
        back = min(paired, math.ceil(order["credit"] * (paired / order["dropped"])))
        order["dropped"] -= paired
        order["credit"] = max(0, order["credit"] - back)
    order["traded"] += size - paired
    order["traded_at"] = at
    reaches = max(0, size - back - order["ahead"])
    order["ahead"] = max(0, order["ahead"] - (size - back))
    return int(reaches)
