"""What each event does to a market: decide, buy, watch, sell, close, pay."""

from pm_pipeline.engine.points.account import balance, hold, let_go, mark, place, reserve, unvalue
from pm_pipeline.engine.points.cache import inlined, jit
from pm_pipeline.engine.points.desk import enter_allowed, leave_allowed, lot_at
from pm_pipeline.engine.points.fees import MICRO, sell_fee, size_for_stake, trade_fee
from pm_pipeline.engine.points.heap import BUY, CLOSE, DECIDE, PAY, SELL, TRIGGER, push
from pm_pipeline.engine.points.orders import (
    again,
    alive,
    end_order,
    end_trip,
    entry_of,
    free_order,
    free_trip,
    note_fill,
    refuse,
    submit,
    trip_of,
)
from pm_pipeline.engine.points.quotes import FOREVER, first_exit, offered, regime_at, side_of, take
from pm_pipeline.engine.points.records import Ended, Refusal, Tables
from pm_pipeline.engine.points.rules import belief, next_decision, signal_of

SIGNAL = int(Ended.SIGNAL)
SETTLEMENT = int(Ended.SETTLEMENT)
VOID = int(Ended.VOID)
BELOW_MIN_SIZE = int(Refusal.BELOW_MIN_SIZE)
INSUFFICIENT_CASH = int(Refusal.INSUFFICIENT_CASH)
POSITION_OPEN = int(Refusal.POSITION_OPEN)
NO_POSITION = int(Refusal.NO_POSITION)
CANCELLED = int(Refusal.CANCELLED)
NOT_OPEN = int(Refusal.NOT_OPEN)
MARKET_CLOSED = int(Refusal.MARKET_CLOSED)
AFTER_RESOLUTION = int(Refusal.AFTER_RESOLUTION)
NO_RULE = int(Refusal.NO_RULE)


@inlined
def _decide(t: Tables, m: int, now: int, what: int) -> None:
    """A signal: the next of the list, or the one that the rule gives at a row."""
    if not t.terms[0]["ruled"]:
        run = t.runs[m]
        run["next"] = what + 1
        if what + 1 < t.signal_first[m + 1]:
            push(t, t.signals[what + 1]["at"], DECIDE, m, what + 1, 0)
        t.scratch[0] = t.signals[what]
    else:
        t.runs[m]["next"], t.runs[m]["pending"] = what + 1, -1
        signal_of(t, m, now, what)
    reason = _barred(t, m, now)
    if not reason:
        reason = _act_on(t, m, now)
    _note_decision(t, m, now, what)
    if reason:
        refuse(t, reason)


@inlined
def _note_decision(t: Tables, m: int, now: int, what: int) -> None:
    state, signal = t.state[0], t.scratch[0]
    if not t.terms[0]["ruled"]:
        return
    row = t.decisions[state["decisions"]]
    state["decisions"] += 1
    row["market"], row["at"], row["row"], row["outcome"] = m, now, what, signal["outcome"]
    row["enters"], row["p"], row["stop"] = signal["enters"], signal["p"], signal["stop"]
    row["target"], row["trailing"], row["exit_at"] = signal["target"], signal["trailing"], signal["exit_at"]


@inlined
def _barred(t: Tables, m: int, now: int) -> int:
    market, signal = t.markets[m], t.scratch[0]
    if now >= market["paid_at"]:
        return AFTER_RESOLUTION
    if now >= market["closed_at"]:
        return MARKET_CLOSED
    if now < market["opened_at"]:
        return NOT_OPEN
    outcome = signal["outcome"]
    if signal["enters"] and (trip_of(t, m, outcome) >= 0 or entry_of(t, m, outcome) >= 0):
        return POSITION_OPEN
    return 0


@inlined
def _act_on(t: Tables, m: int, now: int) -> int:
    """Send the order that the signal in ``scratch`` asks for; returns why not."""
    signal, market, run = t.scratch[0], t.markets[m], t.runs[m]
    if not run["loaded"]:
        if t.regimes[regime_at(t, m, now)]["lot"] < 0:
            return NO_RULE
        run["loaded"] = 1
        t.runs[m]["terms"] = regime_at(t, m, now)
        if market["closed_at"] < FOREVER:
            push(t, market["closed_at"], CLOSE, m, 0, 0)
        if market["paid_at"] < FOREVER:
            push(t, market["paid_at"], PAY, m, 0, 0)
    if not signal["enters"]:
        return _leave(t, m, now, signal["outcome"], SIGNAL, signal["limit"], -1)
    refused, stake = enter_allowed(t, m, now)
    if refused:
        return refused
    if t.terms[0]["ruled"]:
        signal["p"] = belief(t, m, signal["row"])
    k = submit(t, m, now, signal["outcome"], True, SIGNAL)
    if k < 0:
        return NO_RULE
    order = t.orders[k]
    order["limit"], order["stake"], order["p"] = signal["limit"], stake, signal["p"]
    order["stop"], order["target"] = signal["stop"], signal["target"]
    order["trailing"], order["exit_at"] = signal["trailing"], signal["exit_at"]
    reserve(t, m, signal["outcome"], stake)
    return 0


@inlined
def _leave(t: Tables, m: int, now: int, outcome: int, reason: int, limit: int, later_than: int) -> int:
    leave_allowed(t, now)
    k = submit(t, m, now, outcome, False, reason)
    if k < 0:
        return NO_RULE
    t.orders[k]["limit"], t.orders[k]["later_than"] = limit, later_than
    return 0


@inlined
def _lot(t: Tables, m: int) -> int:
    """The step of sizes that was in force when the market's data was first needed."""
    return lot_at(t, t.runs[m]["terms"])


@inlined
def _min_size(t: Tables, m: int) -> int:
    return int(max(t.regimes[t.runs[m]["terms"]]["min_size"], _lot(t, m)))


@inlined
def _buy(t: Tables, k: int, now: int) -> None:
    order = t.orders[k]
    if not alive(t, k, now):
        free_order(t, k)
        return
    m, outcome, stake = order["market"], order["outcome"], order["stake"]
    lot = _lot(t, m)
    why, price, depth, row = offered(t, m, outcome, True, now, order["limit"], -1, lot)
    if why > 0:
        again(t, k, why, price, order["arrived_at"] + t.terms[0]["max_wait"])
        if order["done"]:
            free_order(t, k)
        return
    if why < 0:
        refuse(t, -why)
        end_order(t, k)
        free_order(t, k)
        return
    asked = size_for_stake(t, order["regime"], price, stake * MICRO // price, stake, lot)
    size = min(asked, depth)
    end_order(t, k)
    if asked < _min_size(t, m) or not size:
        refuse(t, BELOW_MIN_SIZE)
        free_order(t, k)
        return
    cash = -(-price * size // MICRO)
    fee = trade_fee(t, order["regime"], price, size)
    grid = t.regimes[order["regime"]]["balance"]
    if grid > 1:
        fee = -(-(cash + fee) // grid) * grid - cash
    ts = t.ts[row]
    take(t, m, side_of(outcome, True), ts, size)
    balance(t, -cash - fee, cash, fee, 0)
    note_fill(t, k, now, size, cash, fee, t.kind[row])
    _open_trip(t, k, now, size, cash, fee, row)
    free_order(t, k)


@inlined
def _open_trip(t: Tables, order_number: int, now: int, size: int, cash: int, fee: int, row: int) -> None:
    order, state = t.orders[order_number], t.state[0]
    m, outcome = order["market"], order["outcome"]
    k = state["free_trip"]
    if k >= 0:
        state["free_trip"] = t.trips[k]["link"]
    else:
        k = state["trips"]
        state["trips"] += 1
    trip = t.trips[k]
    trip["market"], trip["outcome"], trip["entered_at"] = m, outcome, now
    trip["size"] = trip["bought"] = size
    trip["cost"] = trip["held_cost"] = cash
    trip["fees"], trip["evidence"] = fee, t.kind[row]
    trip["proceeds"] = trip["locked"] = trip["ended"] = trip["waiting"] = 0
    place(t, k, row)
    if outcome:
        t.runs[m]["trip1"] = k
    else:
        t.runs[m]["trip0"] = k
    hold(t, k, cash + fee)
    at, rule, quote_ts = first_exit(
        t, m, outcome, now, order["stop"], order["trailing"], order["target"], order["exit_at"]
    )
    if at >= 0 and at < t.markets[m]["closed_at"]:
        trip["waiting"], trip["rule"], trip["quote_ts"] = 1, rule, quote_ts
        push(t, at, TRIGGER, m, k, 0)


@inlined
def _trigger(t: Tables, k: int, now: int) -> None:
    trip = t.trips[k]
    trip["waiting"] = 0
    if trip["ended"]:
        free_trip(t, k)
        return
    reason = _leave(t, trip["market"], now, trip["outcome"], trip["rule"], -1, trip["quote_ts"])
    if reason:
        refuse(t, reason)


@inlined
def _sell(t: Tables, k: int, now: int) -> None:
    order = t.orders[k]
    if not alive(t, k, now):
        free_order(t, k)
        return
    m, outcome = order["market"], order["outcome"]
    lot = _lot(t, m)
    while not order["done"]:
        trip_number = trip_of(t, m, outcome)
        if trip_number < 0:
            _nothing_to_sell(t, k)
            break
        trip = t.trips[trip_number]
        held = trip["size"]
        if held < _min_size(t, m) and not order["filled"]:
            refuse(t, BELOW_MIN_SIZE)
            end_order(t, k)
            break
        why, price, depth, row = offered(t, m, outcome, False, now, order["limit"], order["later_than"], lot)
        if why > 0:
            again(t, k, why, price, FOREVER)
            break
        if why < 0:
            refuse(t, -why)
            end_order(t, k)
            break
        size = min(held, depth)
        cash = price * size // MICRO
        fee = sell_fee(t, k, price, size)
        take(t, m, side_of(outcome, False), t.ts[row], size)
        if fee - cash > t.state[0]["cash"] - t.state[0]["reserved"]:
            refuse(t, INSUFFICIENT_CASH)
            end_order(t, k)
            break
        balance(t, cash - fee, 0, fee, cash)
        let_go(t, trip_number, size)
        note_fill(t, k, now, size, cash, fee, t.kind[row])
        order["filled"] += size
        trip["proceeds"] += cash
        trip["fees"] += fee
        trip["evidence"] = min(trip["evidence"], t.kind[row])
        if size == held:
            end_trip(t, trip_number, now, order["reason"], -1)
            end_order(t, k)
    if order["done"]:
        free_order(t, k)


@inlined
def _nothing_to_sell(t: Tables, k: int) -> None:
    """The position is gone, or never came: an entry that still waits is called off."""
    order = t.orders[k]
    entry_number = entry_of(t, order["market"], order["outcome"])
    if entry_number >= 0:
        refuse(t, CANCELLED)
        end_order(t, entry_number)
    elif not order["filled"]:
        refuse(t, NO_POSITION)
    end_order(t, k)


@jit
def _close(t: Tables, m: int, now: int) -> None:
    """Trading ends: orders die, positions wait for their payment at their last mark."""
    run = t.runs[m]
    while run["orders"] >= 0:
        refuse(t, MARKET_CLOSED)
        end_order(t, run["orders"])
    for outcome in range(2):
        k = trip_of(t, m, outcome)
        if k >= 0:
            t.trips[k]["frozen"] = mark(t, k, now)
            t.trips[k]["locked"] = 1
            unvalue(t, k)
    run["closed"] = 1


@inlined
def _lost_by_cutting(t: Tables, m: int) -> int:
    """What two positions would lose if each were cut by itself; see ``settlement.payout_amounts``."""
    market, yes, no = t.markets[m], trip_of(t, m, 0), trip_of(t, m, 1)
    if yes < 0 or no < 0:
        return 0
    step = market["payout_step"]
    first, second = market["payout0"] * t.trips[yes]["size"], market["payout1"] * t.trips[no]["size"]
    whole = first // MICRO + second // MICRO + (first % MICRO + second % MICRO) // MICRO
    return int((whole // step - first // MICRO // step - second // MICRO // step) * step)


@jit
def _pay(t: Tables, m: int, now: int) -> None:
    """The payout or the refund arrives."""
    market = t.markets[m]
    lost = 0 if market["void"] else _lost_by_cutting(t, m)
    for outcome in range(2):
        k = trip_of(t, m, outcome)
        if k < 0:
            continue
        trip = t.trips[k]
        payout, ended_by = -1, VOID
        amount = trip["held_cost"]
        if not market["void"]:
            payout, ended_by = market["payout1"] if outcome else market["payout0"], SETTLEMENT
            amount = payout * trip["size"] // MICRO // market["payout_step"] * market["payout_step"]
            if payout * trip["size"]:
                amount += lost
                lost = 0
        balance(t, amount, 0, 0, amount)
        trip["proceeds"] += amount
        let_go(t, k, trip["size"])
        end_trip(t, k, now, ended_by, payout)


@inlined
def reconsider(t: Tables, m: int, now: int) -> None:
    """The rule looks for its next decision from what is held now; one that was found before is void."""
    run, i = t.runs[m], -1
    while run["next"] < t.markets[m]["end"] and t.known_at[run["next"]] < now:
        run["next"] += 1
    engaged = run["trip0"] >= 0 or run["entry0"] >= 0
    if not engaged or run["leaving0"] == 0:
        i = next_decision(t, m, run["next"], engaged)
    if i != run["pending"]:
        run["pending"] = i
        run["decision"] += 1
        if i >= 0:
            push(t, t.known_at[i], DECIDE, m, i, run["decision"])


@inlined
def act(t: Tables, priority: int, m: int, at: int, what: int) -> None:
    """Play an event."""
    if priority == DECIDE:
        _decide(t, m, at, what)
    elif priority == BUY:
        _buy(t, what, at)
    elif priority == SELL:
        _sell(t, what, at)
    elif priority == TRIGGER:
        _trigger(t, what, at)
    elif priority == CLOSE:
        _close(t, m, at)
    else:
        _pay(t, m, at)
