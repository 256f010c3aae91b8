"""Resting orders: what events of the book and trades do to them."""

from pm_pipeline.engine.kernel.book import displayed
from pm_pipeline.engine.kernel.cache import jit
from pm_pipeline.engine.kernel.orders import Code, FillEvidence
from pm_pipeline.engine.kernel.queue import join, on_depth, on_trade
from pm_pipeline.engine.kernel.tables import RESTING, Tables, fill, finish, rebuild_watch, settle
from pm_pipeline.engine.kernel.taking import available, consume, usable

_L2 = int(FillEvidence.L2)
_TRADE = int(FillEvidence.TRADE)
_FILLED = int(Code.FILLED)


@jit
def rest(t: Tables, lane: int, k: int) -> None:
    """Put an order into the book, behind what is displayed at its level.

    The list of a lane is kept best price first, then by time, for each side.
    """
    order, terms, state = t.orders[lane, k], t.lanes[lane], t.state[0]
    order["status"] = RESTING
    cell = 2 * order["level"] + (0 if order["buys"] else 1)
    join(t, lane, k, displayed(t.book[cell]))
    if not state["known"] or state["snapshot"]:
        order["shown"] = -1  # nobody can know the queue; it is joined anew when the book is rebuilt
    n = 0
    while n < terms["resting"]:
        other = t.orders[lane, t.resting[lane, n]]
        better = order["level"] > other["level"] if order["buys"] else order["level"] < other["level"]
        if other["buys"] == order["buys"] and better:
            break
        n += 1
    for m in range(terms["resting"], n, -1):
        t.resting[lane, m] = t.resting[lane, m - 1]
    t.resting[lane, n] = k
    terms["resting"] += 1
    state["resting"] += 1


@jit
def made(t: Tables, lane: int, k: int, at: int, row: int, size: int, evidence: int) -> int:
    """A resting order is hit by up to ``size``; each hit is a match of its own. Returns what it took."""
    order = t.orders[lane, k]
    lot = t.venue[0]["lot"]
    got = min(size, order["size"] - order["filled"])
    if got < order["size"] - order["filled"]:
        got = got // lot * lot
    if got <= 0:
        return 0
    first = t.state[0]["fills"]
    fill(t, lane, k, at, row, order["level"], got, 1, evidence)
    settle(t, lane, k, first)
    if order["filled"] == order["size"]:
        finish(t, lane, k, at, _FILLED)
    return int(got)


@jit
def meet(t: Tables, at: int, row: int) -> None:
    """Fill resting orders against what the other side displays at their price or better.

    Somebody who offers there would have met them first. While the recorded book itself is crossed it proves
    nothing, and the question is put again at the next event.
    """
    state, levels = t.state[0], len(t.price)
    if not usable(t):
        state["recheck"] = 1
        return
    state["recheck"] = 0
    for lane in range(len(t.lanes)):
        n = 0
        while n < t.lanes[lane]["resting"]:
            k = t.resting[lane, n]
            order = t.orders[lane, k]
            step = 1 if order["buys"] else -1
            level = 0 if order["buys"] else levels - 1
            end = order["level"] + step
            while level != end and order["status"] == RESTING:
                cell = 2 * level + (1 if order["buys"] else 0)
                if t.book[cell] != 0:
                    got = made(t, lane, k, at, row, available(t, lane, cell), _L2)
                    if got > 0:
                        consume(t, lane, cell, got)
                level += step
            if order["status"] == RESTING:
                n += 1


@jit
def trade(t: Tables, side: int, level: int, size: int, at: int, row: int) -> None:
    """A taker hit ``side`` of the book at ``level``: the orders there and at better prices were met too."""
    for lane in range(len(t.lanes)):
        left, n = size, 0
        while n < t.lanes[lane]["resting"] and left > 0:
            k = t.resting[lane, n]
            order = t.orders[lane, k]
            own = 0 if order["buys"] else 1
            through = order["level"] > level if order["buys"] else order["level"] < level
            if own == side and (through or order["level"] == level):
                reaches = left
                if not through:
                    reaches = on_trade(t, lane, k, left, at)
                left -= made(t, lane, k, at, row, reaches, _TRADE)
            if order["status"] == RESTING:
                n += 1


@jit
def watched(t: Tables, row: int, cell: int, size: int, at: int) -> None:
    """An event that has just been stored concerns a resting order, or the book was crossed before it."""
    levels, state = len(t.price), t.state[0]
    before = state["resting"]
    again = state["recheck"]
    if cell >= 2 * levels:
        place = cell - 2 * levels
        trade(t, place & 1, place >> 1, size, at, row)
    else:
        crossing = again != 0
        for lane in range(len(t.lanes)):
            for n in range(t.lanes[lane]["resting"]):
                k = t.resting[lane, n]
                order = t.orders[lane, k]
                own = 2 * order["level"] + (0 if order["buys"] else 1)
                if own == cell:
                    on_depth(t, lane, k, size, at)
                elif size > 0 and (cell & 1) == (1 if order["buys"] else 0):
                    level = cell >> 1
                    crossing |= level <= order["level"] if order["buys"] else level >= order["level"]
        if crossing:
            meet(t, at, row)
    if state["resting"] != before or state["recheck"] != again:
        rebuild_watch(t)


@jit
def rebuilt(t: Tables, row: int, at: int) -> None:
    """A snapshot is complete: what it changed at the levels of resting orders counts as events of them."""
    for lane in range(len(t.lanes)):
        for n in range(t.lanes[lane]["resting"]):
            k = t.resting[lane, n]
            order = t.orders[lane, k]
            size = displayed(t.book[2 * order["level"] + (0 if order["buys"] else 1)])
            if order["shown"] < 0:
                join(t, lane, k, size)
            else:
                on_depth(t, lane, k, size, at)
    if t.state[0]["resting"] > 0:
        meet(t, at, row)


@jit
def lost(t: Tables) -> None:
    """The book is lost: nobody knows any more where a resting order stands."""
    for lane in range(len(t.lanes)):
        for n in range(t.lanes[lane]["resting"]):
            t.orders[lane, t.resting[lane, n]]["shown"] = -1
