"""The queue of events, first to last: time, priority, market (numbered in the order of keys), then as
raised."""

from pm_pipeline.engine.points.cache import inlined
from pm_pipeline.engine.points.records import Tables

CLOSE, PAY, SELL, BUY, TRIGGER, DECIDE = range(6)
"""The members of ``core.Priority`` that points know, in its order; a test compares them."""

MARKETS = 1 << 32
"""A rank is a priority times this, plus the market."""


@inlined
def _before(t: Tables, i: int, at: int, rank: int, seq: int) -> bool:
    """Whether the event at a place comes before one of these terms."""
    event = t.heap[i]
    if event["at"] != at:
        return bool(event["at"] < at)
    if event["rank"] != rank:
        return bool(event["rank"] < rank)
    return bool(event["seq"] < seq)


@inlined
def _put(t: Tables, i: int, at: int, rank: int, seq: int, what: int, tag: int) -> None:
    event = t.heap[i]
    event["at"], event["rank"], event["seq"], event["what"], event["tag"] = at, rank, seq, what, tag


@inlined
def _move(t: Tables, i: int, j: int) -> None:
    """The event at one place goes to another."""
    event = t.heap[i]
    _put(t, j, event["at"], event["rank"], event["seq"], event["what"], event["tag"])


@inlined
def push(t: Tables, at: int, priority: int, m: int, what: int, tag: int) -> None:
    """Raise an event."""
    state = t.state[0]
    i, rank, seq = state["heap"], priority * MARKETS + m, state["seq"]
    state["heap"] += 1
    state["seq"] += 1
    while i > 0 and not _before(t, (i - 1) // 2, at, rank, seq):
        _move(t, (i - 1) // 2, i)
        i = (i - 1) // 2
    _put(t, i, at, rank, seq, what, tag)


@inlined
def pop(t: Tables) -> None:
    """Take the first event off."""
    state = t.state[0]
    state["heap"] -= 1
    count, i = state["heap"], 0
    last = t.heap[count]
    at, rank, seq, what, tag = last["at"], last["rank"], last["seq"], last["what"], last["tag"]
    while 2 * i + 1 < count:
        j = 2 * i + 1
        other = t.heap[j]
        if j + 1 < count and _before(t, j + 1, other["at"], other["rank"], other["seq"]):
            j += 1
        if not _before(t, j, at, rank, seq):
            break
        _move(t, j, i)
        i = j
    _put(t, i, at, rank, seq, what, tag)
