"""The loop: events of all markets in the order of ``simulate``, from one queue.

What an event does is the compiled form of the method of the same name of the simulation and of its takers.
"""

from pm_pipeline.engine.points.account import (
    DAY,
    forget,
    mark,
    open_account,
    record,
    record_before,
    watch,
)
from pm_pipeline.engine.points.acts import act, reconsider
from pm_pipeline.engine.points.cache import entry, inlined, jit
from pm_pipeline.engine.points.heap import DECIDE, MARKETS, PAY, pop, push
from pm_pipeline.engine.points.orders import end_trip
from pm_pipeline.engine.points.records import Ended, Tables

OPEN = int(Ended.OPEN)


@jit
def begin(t: Tables, first: int, last: int) -> None:
    """Open the account and raise the first decision of each of these markets."""
    open_account(t)
    state = t.state[0]
    state["orders"] = state["trips"] = 0
    state["free_order"] = state["free_trip"] = -1
    for m in range(first, last):
        run, market = t.runs[m], t.markets[m]
        forget(t, m)
        run["row"], run["next"] = market["first"] - 1, market["first"]
        run["loaded"] = run["closed"] = run["leaving0"] = run["leaving1"] = run["uses"] = 0
        run["entry0"] = run["entry1"] = run["trip0"] = run["trip1"] = run["orders"] = -1
        run["taken_ts0"] = run["taken_ts1"] = -1
        run["terms"] = 0
        run["decision"], run["pending"] = 0, -1
        if t.terms[0]["ruled"]:
            reconsider(t, m, -1)
        elif t.signal_first[m] < t.signal_first[m + 1]:
            k = t.signal_first[m]
            push(t, t.signals[k]["at"], DECIDE, m, k, 0)


@inlined
def _room(t: Tables) -> bool:
    """Whether one more event fits into the tables, whatever it does."""
    state = t.state[0]
    few = 8
    fits = state["heap"] + few <= len(t.heap) and state["orders"] + few <= len(t.orders)
    fits = fits and state["trips"] + few <= len(t.trips) and state["held"] + few <= len(t.held)
    fits = fits and state["fills"] + few <= len(t.fills) and state["trades"] + few <= len(t.trades)
    return bool(fits and state["decisions"] + few <= len(t.decisions))


@inlined
def _curve_room(t: Tables, at: int) -> bool:
    state = t.state[0]
    if not t.terms[0]["curve"]:
        return True
    midnights = (at - state["last_record"]) // DAY if state["begun"] else 0
    return bool(state["curve"] + midnights + 8 <= len(t.curve))


@entry
def advance(t: Tables, resume: bool, first: int, last: int) -> bool:
    """Play all events of these markets with one bankroll; False: a table is full, make it longer and
    resume."""
    if not resume:
        begin(t, first, last)
    state, terms = t.state[0], t.terms[0]
    while state["heap"] > 0 and not state["fault"]:
        event = t.heap[0]
        at, rank, what, tag = event["at"], event["rank"], event["what"], event["tag"]
        priority, m = rank // MARKETS, rank % MARKETS
        if priority == DECIDE and terms["ruled"] and tag != t.runs[m]["decision"]:
            pop(t)
            continue
        if not _room(t) or not _curve_room(t, at):
            return False
        pop(t)
        if terms["curve"]:
            if not state["begun"]:
                state["begun"] = 1
                record(t, at // DAY * DAY)
            if 0 <= state["moved"] < at or (state["last_record"] // DAY + 1) * DAY < at:
                record_before(t, at)
        if terms["watches"]:
            watch(t, at)
        state["now"] = at
        state["events"] += 1
        cash, cost = state["cash"], state["open_cost"]
        act(t, priority, m, at, what)
        if state["cash"] != cash or state["open_cost"] != cost:
            state["moved"] = at
        if terms["ruled"] and priority > PAY:
            reconsider(t, m, at)
        if state["fault"]:
            state["fault_market"] = m
    return _finish(t, first, last)


@jit
def _finish(t: Tables, first: int, last: int) -> bool:
    """Mark what is still open at the last thing known of it, never at a guess of how it ends."""
    state = t.state[0]
    if state["fault"]:
        return True
    end, still = state["now"], 0
    for m in range(first, last):
        if t.runs[m]["trip0"] >= 0 or t.runs[m]["trip1"] >= 0:
            end = max(end, _last_ts(t, m))
            still += 2
    if state["trades"] + still > len(t.trades) or not _curve_room(t, end):
        return False
    if t.terms[0]["curve"] and state["begun"]:
        record_before(t, end)
        if state["last_record"] < end:
            record(t, end)
    for m in range(first, last):
        for outcome in range(2):
            k = t.runs[m]["trip1"] if outcome else t.runs[m]["trip0"]
            if k >= 0:
                t.trips[k]["proceeds"] += mark(t, k, end)
                end_trip(t, k, max(_last_ts(t, m), t.trips[k]["entered_at"]), OPEN, -1)
    return True


@inlined
def _last_ts(t: Tables, m: int) -> int:
    """The last moment at which something is known of a market's prices."""
    market = t.markets[m]
    return int(market["closed_at"] if t.runs[m]["closed"] else t.ts[market["end"] - 1])
