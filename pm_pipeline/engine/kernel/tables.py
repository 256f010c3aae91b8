"""What the compiled loop reads and writes, and the small steps that every part of it takes."""

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from pm_pipeline.engine.kernel.cache import jit
from pm_pipeline.engine.kernel.orders import (
    COMMAND,
    FILL,
    LANE,
    ORDER,
    REPORT,
    STATE,
    VENUE,
    Code,
    Records,
    Status,
)
from pm_pipeline.engine.kernel.stream import Cells
from pm_pipeline.warehouse.records import Ints

RESTING = int(Status.RESTING)
DONE = int(Status.DONE)
FILLED = int(Code.FILLED)


class Tables(NamedTuple):
    """All arrays of a session. Two dimensions: lane, then level cell, order or command."""

    ts: Ints
    cell: Cells
    size: Ints
    controls: Ints
    price: Ints
    valid: npt.NDArray[np.bool_]
    book: Ints
    taken: Ints
    watch: npt.NDArray[np.uint8]
    scratch: Ints
    venue: Records
    lanes: Records
    commands: Records
    arrival: Ints
    orders: Records
    resting: Ints
    held: Ints
    fills: Records
    reports: Records
    state: Records

    @classmethod
    def numba_type(cls) -> Any:
        """The one type that the kernel is compiled for."""
        make: Any = types.NamedTuple
        return make([_array_type(name) for name in cls._fields], cls)


_RECORDS: Final = {
    "venue": VENUE,
    "lanes": LANE,
    "commands": COMMAND,
    "orders": ORDER,
    "fills": FILL,
    "reports": REPORT,
    "state": STATE,
}
_PLAIN: Final = {"cell": types.uint16, "valid": types.boolean, "watch": types.uint8}
_TWO_DIMENSIONS: Final = {"valid", "taken", "scratch", "arrival", "orders", "resting", "held"}


def _array_type(name: str) -> Any:
    dtype: Any = _PLAIN.get(name, types.int64)
    if name in _RECORDS:
        dtype = numba.from_dtype(_RECORDS[name])
    return types.Array(dtype, 2 if name in _TWO_DIMENSIONS else 1, "C")


@jit
def room(t: Tables) -> bool:
    """Whether one more step fits into the tables of results, whatever it does."""
    state = t.state[0]
    needed = len(t.price) + state["resting"] + 8
    return bool(len(t.fills) - state["fills"] >= needed and len(t.reports) - state["reports"] >= needed)


@jit
def report(t: Tables, lane: int, order: int, at: int, code: int, size: int, command: int) -> None:
    """Note that something was refused, or that an order ended."""
    state = t.state[0]
    row = t.reports[state["reports"]]
    row["lane"], row["order"], row["at"], row["code"] = lane, state["first_order"] + order, at, code
    row["size"], row["command"] = size, command if command < 0 else state["first_command"] + command
    state["reports"] += 1


@jit
def rebuild_watch(t: Tables) -> None:
    """Mark the cells whose events concern a resting order: its level, and what trades with or through it."""
    state = t.state[0]
    levels = len(t.price)
    t.watch[:] = 1 if state["recheck"] else 0
    for lane in range(len(t.lanes)):
        for n in range(t.lanes[lane]["resting"]):
            order = t.orders[lane, t.resting[lane, n]]
            at = order["level"]
            side = 0 if order["buys"] else 1
            t.watch[2 * at + side] = 1
            low, high = (0, at + 1) if order["buys"] else (at, levels)
            for level in range(low, high):
                t.watch[2 * level + 1 - side] = 1
                t.watch[2 * levels + 2 * level + side] = 1
    state["watching"] = state["resting"] > 0 and state["known"] and not state["snapshot"]


@jit
def leave(t: Tables, lane: int, k: int) -> None:
    """Take an order off the lists of those that wait, wherever it is."""
    terms = t.lanes[lane]
    for n in range(terms["resting"]):
        if t.resting[lane, n] == k:
            for m in range(n, terms["resting"] - 1):
                t.resting[lane, m] = t.resting[lane, m + 1]
            terms["resting"] -= 1
            t.state[0]["resting"] -= 1
            return
    for n in range(terms["held"]):
        if t.held[lane, n] == k:
            for m in range(n, terms["held"] - 1):
                t.held[lane, m] = t.held[lane, m + 1]
            terms["held"] -= 1
            return


@jit
def finish(t: Tables, lane: int, k: int, at: int, code: int) -> None:
    """The order trades no more; unless it got everything, a report says why. Call rebuild_watch after."""
    order = t.orders[lane, k]
    leave(t, lane, k)
    order["status"], order["code"] = DONE, code
    if code != FILLED:
        report(t, lane, k, at, code, order["size"] - order["filled"], -1)


@jit
def fill(
    t: Tables, lane: int, k: int, at: int, row: int, level: int, size: int, maker: int, evidence: int
) -> None:
    """Book a fill at a level, in the price of the order's own outcome; the match number is the caller's.

    ``row`` counts from the start of the piece in hand, the fill's from the start of the stream.
    """
    state, order = t.state[0], t.orders[lane, k]
    found = t.fills[state["fills"]]
    found["lane"], found["order"], found["match"] = lane, state["first_order"] + k, state["matches"]
    found["at"], found["row"], found["level"] = at, state["base"] + row, level
    found["price"] = 1_000_000 - t.price[level] if order["mirrored"] else t.price[level]
    found["size"], found["maker"], found["evidence"] = size, maker, evidence
    state["fills"] += 1
    order["filled"] += size


@jit
def settle(t: Tables, lane: int, k: int, first: int) -> None:
    """End a match: add its cash to the order, rounded against us; ``first`` is its first fill.

    Whole contracts and the rest are summed apart, so that no product leaves 64 bits.
    """
    state, order = t.state[0], t.orders[lane, k]
    whole, rest = 0, 0
    for n in range(first, state["fills"]):
        price, size = t.fills[n]["price"], t.fills[n]["size"]
        whole += price * (size // 1_000_000)
        rest += price * (size % 1_000_000)
    pays = bool(order["buys"]) != bool(order["mirrored"])
    order["cash"] += whole + (-(-rest // 1_000_000) if pays else rest // 1_000_000)
    state["matches"] += 1
