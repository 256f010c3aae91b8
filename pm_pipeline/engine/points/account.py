"""The bankroll: cash, marks, exposures, and the watch over its equity, as ledger, desk and risk manager have
it.

Every function is the compiled form of the method of the same name; the order in which they look at the equity
matters, because a value may be as old as ``revalue_every``.
"""

from pm_pipeline.engine.points.cache import inlined, jit
from pm_pipeline.engine.points.fees import LARGEST, MICRO
from pm_pipeline.engine.points.quotes import FOREVER, price_at
from pm_pipeline.engine.points.records import (
    DAILY_LOSS,
    DRAWDOWN,
    LOSING_STREAK,
    Fault,
    Tables,
)
from pm_pipeline.engine.points.wide import muldiv

DAY = 86_400 * 10**9
BOOKS = int(Fault.BOOKS)
TOO_LARGE = int(Fault.SIZE)


@inlined
def open_account(t: Tables) -> None:
    """Begin with the bankroll, and nothing at risk."""
    state, bankroll = t.state[0], t.terms[0]["bankroll"]
    state["cash"] = state["peak"] = state["reference"] = state["last"] = bankroll
    state["reserved"] = state["open_cost"] = state["fees"] = state["losses"] = state["markets"] = 0
    state["moved"] = -1
    state["last_record"] = state["begun"] = state["is_watched"] = state["is_valued"] = state["has_day"] = 0
    state["marked_to"] = -1
    state["heap"] = state["seq"] = state["held"] = 0
    t.latches[:] = -1


@inlined
def balance(t: Tables, cash: int, cost: int, fee: int, proceeds: int) -> None:
    """Book what moved, and see that cash was there and that nothing outgrew the arithmetic."""
    state = t.state[0]
    state["cash"] += cash
    state["open_cost"] += cost
    state["fees"] += fee
    state["paid"] += proceeds
    if state["cash"] < 0 or state["reserved"] < 0 or state["open_cost"] < 0:
        state["fault"] = BOOKS
    if state["cash"] >= LARGEST:
        state["fault"] = TOO_LARGE


# ------------------------------------------------------------------ marks


@inlined
def place(t: Tables, k: int, row: int) -> None:
    """Where the marks of a new position begin: at a row, and the last one up to it that has a value."""
    trip, valued = t.trips[k], row
    while valued >= t.markets[trip["market"]]["first"] and _value(t, trip["outcome"], valued) < 0:
        valued -= 1
    trip["row"], trip["bid_row"] = row, valued
    unvalue(t, k)


@inlined
def _seek(t: Tables, k: int, at: int) -> None:
    """Move a position's place in its quotes to a moment, and to the last row there that has a value."""
    trip = t.trips[k]
    m = trip["market"]
    first, end = t.markets[m]["first"], t.markets[m]["end"]
    i, valued = trip["row"], trip["bid_row"]
    while i >= first and t.ts[i] > at:
        i -= 1
    while i + 1 < end and t.ts[i + 1] <= at:
        i += 1
        if _value(t, trip["outcome"], i) >= 0:
            valued = i
    if valued > i:
        valued = i
        while valued >= first and _value(t, trip["outcome"], valued) < 0:
            valued -= 1
    trip["row"], trip["bid_row"] = i, valued


@inlined
def unvalue(t: Tables, k: int) -> None:
    """What was worked out of a position, and so of all, holds no longer."""
    t.trips[k]["valued_to"] = t.state[0]["marked_to"] = -1


@inlined
def _value(t: Tables, outcome: int, i: int) -> int:
    if not t.terms[0]["mark_mid"]:
        return price_at(t, outcome, False, i)
    mid = t.mid[i]
    return int(MICRO - mid if outcome and mid >= 0 else mid)


@inlined
def mark(t: Tables, k: int, at: int) -> int:
    """What a position could be sold for at a moment; its cost while nobody has bid."""
    trip = t.trips[k]
    if trip["locked"]:
        return int(trip["frozen"])
    if trip["valued_from"] <= at < trip["valued_to"]:
        return int(trip["value"])
    _seek(t, k, at)
    i = trip["row"]
    trip["valued_from"] = t.ts[i] if i >= t.markets[trip["market"]]["first"] else at
    trip["valued_to"] = t.ts[i + 1] if i + 1 < t.markets[trip["market"]]["end"] else FOREVER
    trip["value"] = _present_value(t, k)
    return int(trip["value"])


@inlined
def _present_value(t: Tables, k: int) -> int:
    trip = t.trips[k]
    if trip["bid_row"] < t.markets[trip["market"]]["first"]:
        return int(trip["held_cost"])
    value = _value(t, trip["outcome"], trip["bid_row"])
    ask = price_at(t, trip["outcome"], True, trip["row"])
    if ask >= 0:
        value = min(value, ask)
    return int(value * trip["size"] // MICRO)


@inlined
def worth(t: Tables, at: int) -> int:
    """Cash and every position at its mark."""
    state = t.state[0]
    if not state["marked_from"] <= at < state["marked_to"]:
        _mark_all(t, at)
    return int(state["cash"] + state["marked"])


@jit
def _mark_all(t: Tables, at: int) -> None:
    """What all positions could be sold for, and how long that holds."""
    state, total, since, until = t.state[0], 0, -1, FOREVER
    for n in range(state["held"]):
        total += mark(t, t.held[n], at)
        trip = t.trips[t.held[n]]
        if not trip["locked"]:
            since, until = max(since, trip["valued_from"]), min(until, trip["valued_to"])
    state["marked"], state["marked_from"], state["marked_to"] = total, since, until


@inlined
def equity(t: Tables, now: int) -> int:
    """The equity now, or one that is young enough; ``Desk._equity``."""
    state = t.state[0]
    if state["is_valued"]:
        same = state["valued_cash"] == state["cash"] and state["valued_cost"] == state["open_cost"]
        if now - state["valued"] < t.terms[0]["revalue_every"] or (state["valued"] == now and same):
            return int(state["valued_equity"])
    found = worth(t, now)
    state["is_valued"], state["valued"], state["valued_equity"] = 1, now, found
    state["valued_cash"], state["valued_cost"] = state["cash"], state["open_cost"]
    return found


# ------------------------------------------------------------------ the curve


@jit
def record(t: Tables, at: int) -> None:
    """A row of the equity curve."""
    state = t.state[0]
    row = t.curve[state["curve"]]
    row["ts"], row["cash"], row["open_positions"] = at, state["cash"], state["held"]
    row["positions"] = row["locked"] = 0
    for n in range(state["held"]):
        k = t.held[n]
        value = mark(t, k, at)
        if t.trips[k]["locked"]:
            row["locked"] += value
        else:
            row["positions"] += value
    state["curve"] += 1
    state["last_record"] = at


@jit
def record_before(t: Tables, at: int) -> None:
    """The last moment at which money moved, and each midnight, once all its events have happened."""
    state = t.state[0]
    if 0 <= state["moved"] < at:
        if state["moved"] > state["last_record"]:
            record(t, state["moved"])
        state["moved"] = -1
    while (t.state[0]["last_record"] // DAY + 1) * DAY < at:
        record(t, (t.state[0]["last_record"] // DAY + 1) * DAY)


# ------------------------------------------------------------------ what is at risk


@inlined
def _add(t: Tables, m: int, outcome: int, amount: int) -> None:
    count, market = len(t.markets), t.markets[m]
    t.at_risk[2 * m + outcome] += amount
    t.at_risk[2 * count + m] += amount
    t.at_risk[3 * count + market["group"]] += amount
    t.at_risk[4 * count + market["venue"]] += amount
    t.at_risk[5 * count] += amount


@inlined
def forget(t: Tables, m: int) -> None:
    """Nothing is at risk in a market, nor in what it belongs to."""
    count, market = len(t.markets), t.markets[m]
    t.at_risk[2 * m] = t.at_risk[2 * m + 1] = t.at_risk[2 * count + m] = 0
    t.at_risk[3 * count + market["group"]] = t.at_risk[4 * count + market["venue"]] = t.at_risk[5 * count] = 0


@inlined
def use(t: Tables, m: int, change: int) -> None:
    """A market is held or being entered once more, or once less."""
    run, before = t.runs[m], t.runs[m]["uses"]
    run["uses"] = before + change
    if before == 0:
        t.state[0]["markets"] += 1
    elif run["uses"] == 0:
        t.state[0]["markets"] -= 1


@inlined
def reserve(t: Tables, m: int, outcome: int, stake: int) -> None:
    """An entry is on its way with this stake."""
    t.state[0]["reserved"] += stake
    _add(t, m, outcome, stake)
    use(t, m, 1)


@inlined
def release(t: Tables, m: int, outcome: int, stake: int) -> None:
    """That entry is done, filled or not."""
    t.state[0]["reserved"] -= stake
    _add(t, m, outcome, -stake)
    use(t, m, -1)


@inlined
def hold(t: Tables, k: int, cost: int) -> None:
    """A position has cost this much, fees included."""
    trip, state = t.trips[k], t.state[0]
    trip["at_risk"] = cost
    trip["place"] = state["held"]
    t.held[state["held"]] = k
    state["held"] += 1
    _add(t, trip["market"], trip["outcome"], cost)
    use(t, trip["market"], 1)


@inlined
def let_go(t: Tables, k: int, size: int) -> None:
    """Contracts of a position leave: what they cost is no longer at risk, nor held."""
    trip, state = t.trips[k], t.state[0]
    held, cost, gone = trip["size"], trip["held_cost"], trip["at_risk"]
    if size < held:
        cost, _ = muldiv(cost, size, held)
        gone, _ = muldiv(gone, size, held)
    trip["size"] -= size
    unvalue(t, k)
    trip["held_cost"] -= cost
    trip["at_risk"] -= gone
    balance(t, 0, -cost, 0, 0)
    _add(t, trip["market"], trip["outcome"], -gone)
    if size == held:
        last = t.held[state["held"] - 1]
        t.held[trip["place"]] = last
        t.trips[last]["place"] = trip["place"]
        state["held"] -= 1
        use(t, trip["market"], -1)


# ------------------------------------------------------------------ the watch


@inlined
def share(loss: int, base: int) -> int:
    """A loss as a share of something in millionths, cut toward zero."""
    if base <= 0:
        return 0
    return loss * MICRO // base if loss >= 0 else -(-loss * MICRO // base)


@inlined
def note(t: Tables, now: int, seen: int) -> None:
    """See the equity (-1: it is not watched); latches that are due let go. ``RiskManager._note``."""
    state, new_day = t.state[0], False
    if seen >= 0:
        new_day = state["has_day"] != 0 and now >= state["day_ends"]
        if new_day:
            state["reference"] = state["last"]
        if new_day or not state["has_day"]:
            state["has_day"], state["day_ends"] = 1, (now // DAY + 1) * DAY
        state["last"] = seen
        state["peak"] = max(state["peak"], seen)
    cooldown = t.terms[0]["cooldown"]
    for latch in range(3):
        since = t.latches[latch]
        if since < 0:
            continue
        due = new_day if latch == DAILY_LOSS else cooldown >= 0 and now >= since + cooldown
        if due:
            t.latches[latch] = -1
            if latch == DRAWDOWN:
                state["peak"] = state["last"]
            elif latch == LOSING_STREAK:
                state["losses"] = 0


@inlined
def lost(t: Tables, latch: int, now: int) -> bool:
    """Whether the loss of the day, or from the peak, has reached its limit; then the latch trips."""
    state, terms = t.state[0], t.terms[0]
    if latch == DAILY_LOSS:
        limit, loss = terms["daily_loss"], share(state["reference"] - state["last"], state["reference"])
    else:
        limit, loss = terms["drawdown"], share(state["peak"] - state["last"], state["peak"])
    if limit < 0 or loss < limit:
        return False
    if t.latches[latch] < 0:
        t.latches[latch] = now
    return True


@inlined
def observe(t: Tables, now: int, seen: int) -> None:
    """See the equity at a moment; its limits may trip."""
    note(t, now, seen)
    lost(t, DAILY_LOSS, now)
    lost(t, DRAWDOWN, now)


@inlined
def watch(t: Tables, now: int) -> None:
    """Follow the equity up to an event that has not happened yet; ``Desk.watch``."""
    state, terms = t.state[0], t.terms[0]
    if not state["is_watched"]:
        state["is_watched"], state["watched"] = 1, now
    if (state["watched"] // DAY + 1) * DAY <= now:
        _watch_days(t, now)
    if now - state["watched"] >= terms["revalue_every"]:
        observe(t, now, equity(t, now))
        state["watched"] = now


@jit
def _watch_days(t: Tables, now: int) -> None:
    """See the equity at the last moment of each day that has ended."""
    state = t.state[0]
    while (state["watched"] // DAY + 1) * DAY <= now:
        end = (state["watched"] // DAY + 1) * DAY
        observe(t, end - 1, worth(t, end - 1))
        state["watched"] = end


@inlined
def trip_ended(t: Tables, now: int, profit: int) -> None:
    """A round trip ended with this profit after fees."""
    state, limit = t.state[0], t.terms[0]["losing_streak"]
    state["losses"] = state["losses"] + 1 if profit < 0 else 0
    if limit >= 0 and state["losses"] >= limit and t.latches[LOSING_STREAK] < 0:
        t.latches[LOSING_STREAK] = now
