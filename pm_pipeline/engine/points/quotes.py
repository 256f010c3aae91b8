"""What a market quotes at a moment: the rows of ``engine.tape``, and what an order may take of one.

Outcome 1 is outcome 0 seen from the other side: its bid is one less the offer, its offer one less the bid.
"""

from pm_pipeline.engine.points.cache import inlined
from pm_pipeline.engine.points.fees import LARGEST, MICRO, SIZE
from pm_pipeline.engine.points.records import BLOCK, Ended, Refusal, Tables

FOREVER = 2**63 - 1
NO_QUOTE = int(Refusal.NO_QUOTE)
STALE_QUOTE = int(Refusal.STALE_QUOTE)
BOOK_GAP = int(Refusal.BOOK_GAP)
PRICE_BEYOND_LIMIT = int(Refusal.PRICE_BEYOND_LIMIT)
NO_DEPTH = int(Refusal.NO_DEPTH)
STOP = int(Ended.STOP)
TRAILING = int(Ended.TRAILING)
TARGET = int(Ended.TARGET)
TIME = int(Ended.TIME)


@inlined
def price_at(t: Tables, outcome: int, buys: bool, i: int) -> int:
    """What a taker meets in row ``i``, or -1: the offer when buying, the bid when selling."""
    if outcome == 0:
        return int(t.ask[i] if buys else t.bid[i])
    raw = t.bid[i] if buys else t.ask[i]
    return MICRO - raw if raw >= 0 else -1


@inlined
def row_at(t: Tables, m: int, at: int) -> int:
    """The last row with ``ts`` at or before ``at``, or the one before the first.

    Remembers it: asked in the order of time, all questions together pass over the rows once.
    """
    run = t.runs[m]
    i, end = run["row"], t.markets[m]["end"]
    while i >= t.markets[m]["first"] and t.ts[i] > at:
        i -= 1
    while i + 1 < end and t.ts[i + 1] <= at:
        i += 1
    run["row"] = i
    return int(i)


@inlined
def next_row(t: Tables, m: int, outcome: int, buys: bool, i: int) -> int:
    """The first row after ``i`` on which this side could trade, or -1."""
    for j in range(i + 1, t.markets[m]["end"]):
        if price_at(t, outcome, buys, j) >= 0:
            return j
    return -1


@inlined
def regime_at(t: Tables, m: int, at: int) -> int:
    """The rules in force at a moment."""
    k = t.markets[m]["regime"]
    while k + 1 < t.markets[m]["regime_end"] and t.regimes[k + 1]["since"] <= at:
        k += 1
    return int(k)


@inlined
def side_of(outcome: int, buys: bool) -> int:
    """Whose depth is taken: buying NO takes what a seller of YES would. 0: bids, 1: offers."""
    return 1 if buys == (outcome == 0) else 0


@inlined
def taken_of(t: Tables, m: int, side: int, ts: int) -> int:
    """What our fills took of the quote of this moment."""
    run = t.runs[m]
    if side:
        return run["taken1"] if run["taken_ts1"] == ts else 0
    return run["taken0"] if run["taken_ts0"] == ts else 0


@inlined
def take(t: Tables, m: int, side: int, ts: int, size: int) -> None:
    """Note that a fill took so much of a quote."""
    run = t.runs[m]
    before = taken_of(t, m, side, ts)
    if side:
        run["taken_ts1"], run["taken1"] = ts, before + size
    else:
        run["taken_ts0"], run["taken0"] = ts, before + size


@inlined
def shown_at(t: Tables, outcome: int, buys: bool, i: int, price: int) -> int:
    """How many contracts rest in row ``i``: its own size, or where it has none, what the declared dollars
    buy at this price.
    """
    if len(t.bid_size):
        if outcome == 0:
            size = t.ask_size[i] if buys else t.bid_size[i]
        else:
            size = t.no_ask_size[i] if buys else t.no_bid_size[i]
        if size >= 0:
            return int(size)
    return int(t.terms[0]["dollars"] * MICRO // price)


@inlined
def traded_price(t: Tables, m: int, outcome: int, buys: bool, i: int) -> int:
    """The price of row ``i`` by the rule of the scenario: its own, or the worse of it and the next."""
    price = price_at(t, outcome, buys, i)
    if t.terms[0]["worse"]:
        j = next_row(t, m, outcome, buys, i)
        if j >= 0 and t.ts[j] < t.markets[m]["closed_at"]:
            later = price_at(t, outcome, buys, j)
            price = max(price, later) if buys else min(price, later)
    return price


@inlined
def offered(
    t: Tables, m: int, outcome: int, buys: bool, at: int, limit: int, later_than: int, lot: int
) -> tuple[int, int, int, int]:
    """What an order may take now: ``(0, price, size, row)``; or why nothing.

    ``(reason, until, 0, row)`` is a reason to wait, until FOREVER where nothing comes; ``(-reason, price, 0,
    row)`` one that ends the order.
    """
    i = row_at(t, m, at)
    if i < t.markets[m]["first"]:
        return _wait(t, m, outcome, buys, i, NO_QUOTE)
    if t.kind[i] == 0:
        return _wait(t, m, outcome, buys, i, BOOK_GAP)
    ts = t.ts[i]
    if ts <= later_than:
        return _wait(t, m, outcome, buys, i, NO_QUOTE)
    if at - ts > t.terms[0]["max_age"]:
        return _wait(t, m, outcome, buys, i, STALE_QUOTE)
    if price_at(t, outcome, buys, i) < 0:
        return _wait(t, m, outcome, buys, i, NO_QUOTE)
    price = traded_price(t, m, outcome, buys, i)
    size = shown_at(t, outcome, buys, i, price) - taken_of(t, m, side_of(outcome, buys), ts)
    size = size // lot * lot
    if size >= LARGEST:
        t.state[0]["fault"] = SIZE
    if size > 0:
        if limit >= 0 and (price > limit if buys else price < limit):
            return (-PRICE_BEYOND_LIMIT, price, 0, i)
        return (0, price, size, i)
    best = price_at(t, outcome, buys, i)
    if limit >= 0 and (best > limit if buys else best < limit):
        return (-PRICE_BEYOND_LIMIT, best, 0, i)
    return _wait(t, m, outcome, buys, i, NO_DEPTH)


@inlined
def _wait(t: Tables, m: int, outcome: int, buys: bool, i: int, reason: int) -> tuple[int, int, int, int]:
    j = next_row(t, m, outcome, buys, i)
    return (reason, FOREVER if j < 0 else t.ts[j], 0, i)


@inlined
def _extremes(t: Tables, outcome: int, block: int) -> tuple[int, int]:
    """The lowest and the highest bid of a block of rows, of those that have one."""
    if outcome == 0:
        return t.bid_low[block], t.bid_high[block]
    cheap, dear = t.ask_low[block], t.ask_high[block]
    return (MICRO - dear if dear >= 0 else 2 * MICRO, MICRO - cheap if cheap <= MICRO else -1)


@inlined
def first_exit(
    t: Tables, m: int, outcome: int, at: int, stop: int, trailing: int, target: int, exit_at: int
) -> tuple[int, int, int]:
    """As ``exits.first_exit``: when, by which rule, and the time of the quote that met it; -1: never.

    Rules that are not set are -1. Blocks of rows in which no rule can be met are passed over.
    """
    first, end, closed_at = t.markets[m]["first"], t.markets[m]["end"], t.markets[m]["closed_at"]
    start = row_at(t, m, at) + 1
    time_out = max(exit_at, at) if exit_at >= 0 else FOREVER
    if stop >= 0 or trailing >= 0 or target >= 0:
        wanted = target if target >= 0 else 2 * MICRO
        peak = price_at(t, outcome, False, start - 1) if start > first else -1
        last = min(time_out, closed_at - 1)
        i = start
        while i < end and t.ts[i] <= last:
            if i % BLOCK == 0 and i + BLOCK <= end:
                low, high = _extremes(t, outcome, i // BLOCK)
                safe = low > stop and high < wanted
                if safe and (trailing < 0 or low > max(peak, high) - trailing):
                    peak = max(peak, high)
                    i += BLOCK
                    continue
            bid = price_at(t, outcome, False, i)
            if bid >= 0:
                peak = max(peak, bid)
                rule = -1
                if bid <= stop:
                    rule = STOP
                elif trailing >= 0 and bid <= peak - trailing:
                    rule = TRAILING
                elif bid >= wanted:
                    rule = TARGET
                if rule >= 0:
                    if time_out < t.known_at[i]:
                        break
                    return (t.known_at[i], rule, t.ts[i])
            i += 1
    if exit_at >= 0:
        return (time_out, TIME, -1)
    return (-1, -1, -1)
