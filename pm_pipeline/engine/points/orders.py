"""Orders and positions from their first event to their last, in records that are used again."""

from pm_pipeline.engine.points.account import release, trip_ended
from pm_pipeline.engine.points.cache import inlined, jit
from pm_pipeline.engine.points.fees import MICRO
from pm_pipeline.engine.points.heap import BUY, SELL, push
from pm_pipeline.engine.points.quotes import regime_at
from pm_pipeline.engine.points.records import Ended, Formula, Refusal, Tables

RULELESS = int(Formula.NO_RULE)
NO_RULE = int(Refusal.NO_RULE)
OPEN = int(Ended.OPEN)


@inlined
def trip_of(t: Tables, m: int, outcome: int) -> int:
    """The position in an outcome, or -1."""
    return int(t.runs[m]["trip1"] if outcome else t.runs[m]["trip0"])


@inlined
def entry_of(t: Tables, m: int, outcome: int) -> int:
    """The entry on its way, or -1."""
    return int(t.runs[m]["entry1"] if outcome else t.runs[m]["entry0"])


@inlined
def refuse(t: Tables, reason: int) -> None:
    """Count what was not done."""
    t.refused[reason] += 1


@inlined
def submit(t: Tables, m: int, now: int, outcome: int, buys: bool, reason: int) -> int:
    """Send an order; returns its number, or -1 where no dated rule says when it arrives or what it pays."""
    state, run = t.state[0], t.runs[m]
    sent = t.regimes[regime_at(t, m, now)]
    if sent["delay"] < 0:
        return -1
    arrival = now + t.terms[0]["latency"] + sent["delay"]
    regime = regime_at(t, m, arrival)
    if t.regimes[regime]["formula"] == RULELESS:
        return -1
    k = state["free_order"]
    if k >= 0:
        state["free_order"] = t.orders[k]["link"]
    else:
        k = state["orders"]
        state["orders"] += 1
    order = t.orders[k]
    order["market"], order["outcome"], order["buys"], order["reason"] = m, outcome, buys, reason
    order["arrived_at"], order["regime"] = arrival, regime
    order["limit"] = order["later_than"] = -1
    order["accumulator"] = order["filled"] = order["stake"] = order["done"] = 0
    order["link"] = run["orders"]
    run["orders"] = k
    if buys:
        if outcome:
            run["entry1"] = k
        else:
            run["entry0"] = k
    elif outcome:
        run["leaving1"] += 1
    else:
        run["leaving0"] += 1
    push(t, arrival, BUY if buys else SELL, m, k, 0)
    return int(k)


@jit
def end_order(t: Tables, k: int) -> None:
    """The order is done; its event is still to come, or being handled, and frees the record."""
    order = t.orders[k]
    m, run = order["market"], t.runs[order["market"]]
    order["done"] = 1
    if run["orders"] == k:
        run["orders"] = order["link"]
    else:
        j = run["orders"]
        while t.orders[j]["link"] != k:
            j = t.orders[j]["link"]
        t.orders[j]["link"] = order["link"]
    if order["buys"]:
        if order["outcome"]:
            run["entry1"] = -1
        else:
            run["entry0"] = -1
        release(t, m, order["outcome"], order["stake"])
    elif order["outcome"]:
        run["leaving1"] -= 1
    else:
        run["leaving0"] -= 1


@inlined
def free_order(t: Tables, k: int) -> None:
    """The record of an order may be used again."""
    t.orders[k]["link"] = t.state[0]["free_order"]
    t.state[0]["free_order"] = k


@inlined
def alive(t: Tables, k: int, now: int) -> bool:
    """Whether the order may trade now; one that waited past a change of the fees gets the new ones."""
    order = t.orders[k]
    if order["done"]:
        return False
    if now >= t.regimes[order["regime"]]["fee_ends"]:
        regime = regime_at(t, order["market"], now)
        if t.regimes[regime]["formula"] == RULELESS:
            refuse(t, NO_RULE)
            end_order(t, k)
            return False
        order["regime"], order["accumulator"] = regime, 0
    return True


@inlined
def again(t: Tables, k: int, reason: int, until: int, give_up: int) -> None:
    """Wait for the next quote, unless it comes too late."""
    order = t.orders[k]
    if until >= t.markets[order["market"]]["closed_at"] or until > give_up:
        refuse(t, reason)
        end_order(t, k)
    else:
        push(t, until, BUY if order["buys"] else SELL, order["market"], k, 0)


@inlined
def note_fill(t: Tables, k: int, now: int, size: int, cash: int, fee: int, evidence: int) -> None:
    """Write a fill down."""
    order, state = t.orders[k], t.state[0]
    row = t.fills[state["fills"]]
    state["fills"] += 1
    row["market"], row["outcome"], row["buys"], row["at"] = (
        order["market"],
        order["outcome"],
        order["buys"],
        now,
    )
    row["decided_by"], row["size"], row["cash"], row["fee"] = order["reason"], size, cash, fee
    row["price"] = -(-cash * MICRO // size) if order["buys"] else cash * MICRO // size
    row["evidence"] = evidence


@inlined
def end_trip(t: Tables, k: int, at: int, ended_by: int, payout: int) -> None:
    """Write the round trip down. The record is free once its trigger, if it has one, has come."""
    trip, state = t.trips[k], t.state[0]
    run = t.runs[trip["market"]]
    if trip["outcome"]:
        run["trip1"] = -1
    else:
        run["trip0"] = -1
    trip["ended"] = 1
    if ended_by != OPEN:
        trip_ended(t, at, trip["proceeds"] - trip["cost"] - trip["fees"])
    row = t.trades[state["trades"]]
    state["trades"] += 1
    row["market"], row["outcome"], row["entered_at"] = trip["market"], trip["outcome"], trip["entered_at"]
    row["exited_at"], row["size"], row["cost"] = at, trip["bought"], trip["cost"]
    row["proceeds"], row["fees"], row["ended_by"] = trip["proceeds"], trip["fees"], ended_by
    row["payout"], row["evidence"] = payout, trip["evidence"]
    if not trip["waiting"]:
        free_trip(t, k)


@inlined
def free_trip(t: Tables, k: int) -> None:
    """The record of a position may be used again."""
    t.trips[k]["link"] = t.state[0]["free_trip"]
    t.state[0]["free_trip"] = k
