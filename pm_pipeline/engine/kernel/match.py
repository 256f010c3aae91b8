"""The loop: events and orders in the order of time, for all lanes in one pass.

Between two moments at which an order can do something, an event that concerns no resting order is one store.
At one moment: what the market did, then orders that the venue held, then commands in the order in which they
were sent. An order that expires, and a market that closes, do so before anything of that moment.
"""

from typing import Any

import numpy as np

from pm_pipeline.engine.kernel.book import best_ask, best_bid
from pm_pipeline.engine.kernel.cache import entry, jit
from pm_pipeline.engine.kernel.orders import Code, CommandKind, Status, TimeInForce
from pm_pipeline.engine.kernel.resting import lost, rebuilt, rest, watched
from pm_pipeline.engine.kernel.stream import ON_COMPLETE, ON_RESET, ON_TICKS
from pm_pipeline.engine.kernel.tables import (
    Tables,
    finish,
    leave,
    rebuild_watch,
    report,
    room,
)
from pm_pipeline.engine.kernel.taking import short_of_own, take, usable

_NEVER = 2**63 - 1
_OK = 0
_BELOW_MIN = int(Code.BELOW_MIN_SIZE)
_NOT_OPEN = int(Code.NOT_OPEN)
_CLOSED = int(Code.MARKET_CLOSED)
_CANCELLED = int(Code.CANCELLED)
_OFF_TICK = int(Code.OFF_TICK)
_OFF_LOT = int(Code.OFF_LOT)
_OUT_OF_RANGE = int(Code.OUT_OF_RANGE)
_WOULD_TAKE = int(Code.WOULD_TAKE)
_EXPIRED = int(Code.EXPIRED)
_GONE = int(Code.ORDER_GONE)
_SELF = int(Code.SELF_CROSS)
_DROPPED = int(Code.REST_DROPPED)
_FILLED = int(Code.FILLED)
_SENT = int(Status.SENT)
_HELD = int(Status.HELD)
_RESTING = int(Status.RESTING)
_GTC = int(TimeInForce.GTC)
_SUBMIT = int(CommandKind.SUBMIT)
_CANCEL = int(CommandKind.CANCEL)
OUT_OF_RANGE_LEVEL = -2

# what the venue looks at of an order; 0: nothing
CHECK_SIZE = 1
CHECK_PRICE = 2

# what a lane does next
_RELEASE = 0
_COMMAND = 1
_EXPIRE = 2
_CLOSE = 3


@jit
def freshen(t: Tables, start: int, row: int) -> None:
    """All rows before ``row`` are done. The last event of the book, not a trade, says how fresh it is."""
    state = t.state[0]
    state["position"] = row
    for n in range(row - 1, start - 1, -1):
        if t.cell[n] < 2 * len(t.price):
            state["last_message"] = t.ts[n]
            return


@jit
def turn(t: Tables, row: int) -> None:
    """A reset, the end of a snapshot, a gap, or a change of ticks."""
    state, levels = t.state[0], len(t.price)
    kind = np.int64(t.cell[row]) - 4 * levels
    if kind == ON_COMPLETE:
        state["snapshot"] = 0
        if state["known"]:
            rebuilt(t, row, t.ts[row])
    else:
        t.book[: 2 * levels] = 0
        state["known"] = kind == ON_RESET
        state["snapshot"] = kind == ON_RESET
        if kind == ON_TICKS:
            state["era"] = t.size[row]
        if kind != ON_RESET:
            lost(t)
    if kind != ON_TICKS:
        state["last_message"] = t.ts[row]
    rebuild_watch(t)


@jit
def halted(t: Tables) -> bool:
    """Whether the caller wants to be told now: something happened to an order of ours."""
    state = t.state[0]
    return bool(state["pauses"] != 0 and state["fills"] + state["reports"] > 0)


@jit
def replay(t: Tables, until: int) -> bool:
    """Apply the events with ``ts <= until``; false where the tables of results must grow first, where the
    caller asked to be told, or where the stream goes on in another piece (``dry``).
    """
    state = t.state[0]
    end = state["position"] + np.searchsorted(t.ts[state["position"] :], until, side="right")
    row = state["position"]
    while row < end:
        control = t.controls[state["control"]] if state["control"] < len(t.controls) else end
        stop = min(end, control)
        start = row
        if state["watching"]:
            while row < stop:
                cell: Any = np.int64(t.cell[row])  # of signed and unsigned numba makes a float
                size = t.size[row]
                if t.watch[cell]:
                    if not room(t):
                        freshen(t, start, row)
                        return False
                    t.book[cell] = size
                    watched(t, row, cell, size, t.ts[row])
                    if halted(t):
                        freshen(t, start, row + 1)
                        return False
                else:
                    t.book[cell] = size
                row += 1
        else:
            book, cells, sizes = t.book, t.cell, t.size
            for n in range(row, stop):
                book[cells[n]] = sizes[n]
            row = stop
        freshen(t, start, row)
        if row < end:
            if not room(t):
                return False
            state["control"] += 1
            turn(t, row)
            row += 1
            state["position"] = row
            if halted(t):
                return False
    if end == len(t.ts) and state["more"]:
        state["dry"] = 1
        return False
    return True


@jit
def refusal(t: Tables, lane: int, k: int, level: int, size: int, at: int) -> int:
    """Why the venue does not take an order of this price and size; 0 where it does."""
    order, venue, state = t.orders[lane, k], t.venue[0], t.state[0]
    if at < venue["opens_at"]:
        return _NOT_OPEN
    if at >= venue["closes_at"]:
        return _CLOSED
    if order["checked"] == CHECK_PRICE:
        if level == OUT_OF_RANGE_LEVEL:
            return _OUT_OF_RANGE
        if level < 0 or not t.valid[state["era"], level]:
            return _OFF_TICK
    if order["checked"] != 0 or size <= 0:
        if size <= 0 or size < venue["min_size"]:
            return _BELOW_MIN
        if size % venue["lot"] != 0:
            return _OFF_LOT
    if order["tif"] >= _GTC and short_of_own(t, lane, order["buys"] != 0, level) != level:
        return _SELF
    return _OK


@jit
def marketable(t: Tables, buys: bool, level: int) -> bool:
    """Whether somebody is displayed at this price or better."""
    if not usable(t):
        return False
    if buys:
        return best_ask(t.book, len(t.price)) <= level
    return best_bid(t.book, len(t.price)) >= level


@jit
def execute(t: Tables, lane: int, k: int, at: int) -> None:
    """An order that has been taken in trades, rests, or dies."""
    order = t.orders[lane, k]
    if order["tif"] < _GTC:
        code = take(t, lane, k, at)
        if code == _OK:
            code = _FILLED if order["filled"] == order["size"] else _DROPPED
        finish(t, lane, k, at, code)
        return
    crossing = marketable(t, order["buys"] != 0, order["level"])
    if crossing and order["post_only"]:
        finish(t, lane, k, at, _WOULD_TAKE)
        return
    if crossing:
        take(t, lane, k, at)
        if order["filled"] == order["size"]:
            finish(t, lane, k, at, _FILLED)
            return
    rest(t, lane, k)
    rebuild_watch(t)


@jit
def arrive(t: Tables, lane: int, k: int, at: int) -> None:
    """A new order is at the door: refused, held for the venue's delay, or executed."""
    order = t.orders[lane, k]
    order["arrived_at"] = at
    code = refusal(t, lane, k, order["level"], order["size"], at)
    if code == _OK and order["expires_at"] <= at:
        code = _EXPIRED
    if code != _OK:
        finish(t, lane, k, at, code)
        return
    takes = order["tif"] < _GTC or (
        not order["post_only"] and marketable(t, order["buys"] != 0, order["level"])
    )
    if order["delay"] > 0 and takes:
        order["status"], order["release_at"] = _HELD, at + order["delay"]
        t.held[lane, t.lanes[lane]["held"]] = k
        t.lanes[lane]["held"] += 1
        return
    execute(t, lane, k, at)


@jit
def amend(t: Tables, lane: int, command: int, at: int) -> None:
    """Change price and size of a resting order. Less size at the same price keeps its place in the queue;
    anything else joins anew. A refused amendment leaves the order as it was.
    """
    asked = t.commands[command]
    k = asked["order"]
    order = t.orders[lane, k]
    if order["status"] != _RESTING:
        report(t, lane, k, at, _GONE, 0, command)
        return
    level = asked["level"] if asked["checked"] else order["level"]
    size = asked["size"] if asked["size"] >= 0 else order["size"]
    if size <= order["filled"]:
        finish(t, lane, k, at, _CANCELLED)
        rebuild_watch(t)
        return
    code = refusal(t, lane, k, level, size, at)
    if code == _OK and order["post_only"] and marketable(t, order["buys"] != 0, level):
        code = _WOULD_TAKE
    if code != _OK:
        report(t, lane, k, at, code, size, command)
        return
    stays = level == order["level"] and size <= order["size"]
    order["level"], order["size"] = level, size
    if not stays:
        leave(t, lane, k)
        rebuild_watch(t)
        execute(t, lane, k, at)


@jit
def obey(t: Tables, lane: int, command: int, at: int) -> None:
    """One command at the venue's door."""
    asked = t.commands[command]
    k = asked["order"]
    if asked["kind"] == _SUBMIT:
        arrive(t, lane, k, at)
    elif asked["kind"] == _CANCEL:
        status = t.orders[lane, k]["status"]
        if status in (_RESTING, _HELD):
            finish(t, lane, k, at, _CANCELLED)
            rebuild_watch(t)
        else:
            report(t, lane, k, at, _GONE, 0, command)
    else:
        amend(t, lane, command, at)


@jit
def next_of(t: Tables, lane: int) -> tuple[int, int, int]:
    """The next thing that happens to a lane's orders: after which moment's events, what, and to which."""
    terms, state = t.lanes[lane], t.state[0]
    at, kind, which = _NEVER, _COMMAND, -1
    for n in range(terms["held"]):
        k = t.held[lane, n]
        if t.orders[lane, k]["release_at"] < at:
            at, kind, which = t.orders[lane, k]["release_at"], _RELEASE, k
    command = terms["next_command"]
    if command < state["commands"] and t.arrival[lane, command] < at:
        at, kind, which = t.arrival[lane, command], _COMMAND, command
    for n in range(terms["resting"]):
        k = t.resting[lane, n]
        expires = t.orders[lane, k]["expires_at"]
        if expires < _NEVER and expires - 1 < at:
            at, kind, which = expires - 1, _EXPIRE, k
    closes = t.venue[0]["closes_at"]
    if not state["closed"] and closes < _NEVER and closes - 1 < at:
        at, kind, which = closes - 1, _CLOSE, 0
    return at, kind, which


@jit
def close(t: Tables, at: int) -> None:
    """Trading has ended: every order dies."""
    for lane in range(len(t.lanes)):
        terms = t.lanes[lane]
        while terms["resting"] > 0:
            finish(t, lane, t.resting[lane, 0], at, _CLOSED)
        while terms["held"] > 0:
            finish(t, lane, t.held[lane, 0], at, _CLOSED)
    t.state[0]["closed"] = 1
    rebuild_watch(t)


@entry
def strike(t: Tables, k: int, at: int) -> bool:
    """An order that is at the market already trades now, in every lane; false as in :func:`run`."""
    for lane in range(len(t.lanes)):
        if t.orders[lane, k]["status"] == _SENT:
            if not room(t):
                return False
            t.orders[lane, k]["arrived_at"] = at
            execute(t, lane, k, at)
    return True


@entry
def run(t: Tables, until: int) -> bool:
    """Go on to ``until``, all of that moment included; false where :func:`replay` is, or where the caller
    asked to be told and something happened.
    """
    state = t.state[0]
    while True:
        at, kind, which, lane = _NEVER, _COMMAND, -1, -1
        for n in range(len(t.lanes)):
            mine, what, whom = next_of(t, n)
            if mine < at:
                at, kind, which, lane = mine, what, whom, n
        late = kind in (_EXPIRE, _CLOSE)
        if lane < 0 or at + late > until:
            break
        if not replay(t, at) or not room(t):
            return False
        if kind == _RELEASE:
            leave(t, lane, which)
            execute(t, lane, which, at)
        elif kind == _COMMAND:
            t.lanes[lane]["next_command"] += 1
            obey(t, lane, which, at)
        elif kind == _EXPIRE:
            if t.orders[lane, which]["status"] == _RESTING:  # the events before may have filled it
                finish(t, lane, which, at + 1, _EXPIRED)
                rebuild_watch(t)
        else:
            close(t, at + 1)
        if halted(t):
            return False
    if not replay(t, until):
        return False
    state["now"] = until
    return True
