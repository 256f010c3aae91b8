"""Taking: what an order can have of the displayed depth at one moment, level by level."""

import math

from pm_pipeline.engine.kernel.book import best_ask, best_bid, displayed
from pm_pipeline.engine.kernel.cache import jit
from pm_pipeline.engine.kernel.orders import Code, FillEvidence, TimeInForce
from pm_pipeline.engine.kernel.tables import Tables, fill, settle
from pm_pipeline.warehouse.records import Ints

_OK = 0
_NO_QUOTE = int(Code.NO_QUOTE)
_STALE = int(Code.STALE_QUOTE)
_GAP = int(Code.BOOK_GAP)
_BEYOND = int(Code.PRICE_BEYOND_LIMIT)
_NO_DEPTH = int(Code.NO_DEPTH)
_SELF = int(Code.SELF_CROSS)
_NOT_ALL = int(Code.NOT_ALL)
_FOK = int(TimeInForce.FOK)
_L2 = int(FillEvidence.L2)


@jit
def usable(t: Tables) -> bool:
    """Whether the book is known, complete and not crossed."""
    state, levels = t.state[0], len(t.price)
    if not state["known"] or state["snapshot"]:
        return False
    return best_bid(t.book, levels) < best_ask(t.book, levels)


@jit
def obstacle(t: Tables, buys: bool, at: int) -> int:
    """Why nobody can be met on the other side now; 0 where somebody can."""
    state, levels = t.state[0], len(t.price)
    if not state["known"] or state["snapshot"]:
        return _GAP
    bid, ask = best_bid(t.book, levels), best_ask(t.book, levels)
    if bid >= ask or (bid < 0 and ask >= levels):
        return _GAP
    if at - state["last_message"] > t.venue[0]["max_age"]:
        return _STALE
    best = ask if buys else bid
    if best < 0 or best >= levels or not 0 < t.price[best] < 1_000_000:
        return _NO_QUOTE
    return _OK


@jit
def available(t: Tables, lane: int, cell: int) -> int:
    """What a cell still holds for this lane: its share of the display less what we took, in whole lots."""
    raw, terms, lot = t.book[cell], t.lanes[lane], t.venue[0]["lot"]
    size = displayed(raw) * terms["share_num"] // terms["share_den"]
    if raw < 0:
        size -= t.taken[lane, cell]
    return int(max(0, size // lot * lot))


@jit
def push(t: Tables, lane: int, buys: bool, at: int) -> float:
    """How far what we took lately holds the price away from a taker on this side, in micro-dollars."""
    terms = t.lanes[lane]
    if terms["impact"] == 0.0:
        return 0.0
    pushed = terms["pushed_buy"] if buys else terms["pushed_sell"]
    since = at - (terms["pushed_at_buy"] if buys else terms["pushed_at_sell"])
    return float(terms["impact"] * math.sqrt(pushed * 0.5 ** (since / terms["half_life"])))


@jit
def remember(t: Tables, lane: int, buys: bool, at: int, size: int) -> None:
    """Add to what we took lately. Volumes add up, so cutting an order in pieces moves the price no less."""
    terms = t.lanes[lane]
    if terms["impact"] == 0.0:
        return
    if buys:
        kept = terms["pushed_buy"] * 0.5 ** ((at - terms["pushed_at_buy"]) / terms["half_life"])
        terms["pushed_buy"], terms["pushed_at_buy"] = kept + size / 1e6, at
    else:
        kept = terms["pushed_sell"] * 0.5 ** ((at - terms["pushed_at_sell"]) / terms["half_life"])
        terms["pushed_sell"], terms["pushed_at_sell"] = kept + size / 1e6, at


@jit
def shifted(t: Tables, level: int, buys: bool, distance: float) -> int:
    """The level at least ``distance`` worse for a taker; -1 or ``len`` beyond the grid."""
    if distance <= 0.0:
        return level
    if buys:
        worst = t.price[level] + distance
        while level < len(t.price) and t.price[level] < worst:
            level += 1
    else:
        worst = t.price[level] - distance
        while level >= 0 and t.price[level] > worst:
            level -= 1
    return level


@jit
def offered(
    t: Tables, lane: int, buys: bool, limit: int, wanted: int, at: int, found: Ints, sizes: Ints, paid: Ints
) -> int:
    """List the levels that an order of ``wanted`` would take, best first; how many, or minus a code.

    ``found`` holds the levels taken from, ``paid`` those whose price is charged: the same without impact.
    """
    stop = obstacle(t, buys, at)
    if stop != _OK:
        return -stop
    levels = len(t.price)
    distance = push(t, lane, buys, at)
    best = best_ask(t.book, levels) if buys else best_bid(t.book, levels)
    level, step = best, 1 if buys else -1
    count, total, first = 0, 0, -1
    while 0 <= level < levels and total < wanted:
        cell = 2 * level + (1 if buys else 0)
        size = available(t, lane, cell) if 0 < t.price[level] < 1_000_000 else 0
        if size > 0:
            charged = shifted(t, level, buys, distance)
            if first < 0:
                first = charged
            inside = 0 <= charged < levels and 0 < t.price[charged] < 1_000_000
            if not inside or (charged > limit if buys else charged < limit):
                break
            found[count], paid[count] = level, charged
            sizes[count] = min(size, wanted - total)
            total += sizes[count]
            count += 1
        level += step
    if count > 0:
        return count
    if first < 0:
        first = best
        return -_BEYOND if (first > limit if buys else first < limit) else -_NO_DEPTH
    return -_BEYOND


@jit
def consume(t: Tables, lane: int, cell: int, size: int) -> None:
    """What we took of a cell stays taken, for this lane, until an event sets the cell anew."""
    if t.book[cell] >= 0:
        t.book[cell] = ~t.book[cell]
        t.taken[:, cell] = 0
    t.taken[lane, cell] += size


@jit
def short_of_own(t: Tables, lane: int, buys: bool, limit: int) -> int:
    """The last level up to ``limit`` that lies before every resting order of ours on the other side."""
    for n in range(t.lanes[lane]["resting"]):
        other = t.orders[lane, t.resting[lane, n]]
        if (other["buys"] != 0) != buys:
            limit = min(limit, other["level"] - 1) if buys else max(limit, other["level"] + 1)
    return limit


@jit
def take(t: Tables, lane: int, k: int, at: int) -> int:
    """Take what the order may have now; 0, or a code where it got nothing."""
    order = t.orders[lane, k]
    buys, wanted = order["buys"] != 0, order["size"] - order["filled"]
    found, sizes, paid = t.scratch[0], t.scratch[1], t.scratch[2]
    limit = short_of_own(t, lane, buys, order["level"])
    count = offered(t, lane, buys, limit, wanted, at, found, sizes, paid)
    if count == -_BEYOND and limit != order["level"]:
        return _SELF
    if count < 0:
        return -count
    total = 0
    for n in range(count):
        total += sizes[n]
    if order["tif"] == _FOK and total < wanted:
        return _NOT_ALL
    first, row = t.state[0]["fills"], t.state[0]["position"] - 1
    for n in range(count):
        consume(t, lane, 2 * found[n] + (1 if buys else 0), sizes[n])
        fill(t, lane, k, at, row, paid[n], sizes[n], 0, _L2)
    settle(t, lane, k, first)
    remember(t, lane, buys, at, total)
    return _OK
