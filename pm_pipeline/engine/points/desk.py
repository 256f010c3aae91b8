"""Whether an order may be sent, and an entry with which stake: the steps of the risk manager that are
covered.

The steps, and within them the looks at the equity, come in the order of ``RiskManager.decide``.
"""

import math

from pm_pipeline.engine.points.account import equity, lost, note
from pm_pipeline.engine.points.account import mark as mark_of
from pm_pipeline.engine.points.cache import inlined, jit
from pm_pipeline.engine.points.fees import LARGEST, MICRO, SIZE, buy_cost, size_for_stake
from pm_pipeline.engine.points.quotes import price_at, regime_at, row_at, shown_at
from pm_pipeline.engine.points.records import (
    DAILY_LOSS,
    DRAWDOWN,
    LOSING_STREAK,
    Formula,
    Refusal,
    Sized,
    Tables,
)
from pm_pipeline.engine.points.rules import belief
from pm_pipeline.engine.points.sizing import kelly_stake

NO_RULE = int(Refusal.NO_RULE)
BELOW_MIN_SIZE = int(Refusal.BELOW_MIN_SIZE)
INSUFFICIENT_CASH = int(Refusal.INSUFFICIENT_CASH)
STALE_DATA = int(Refusal.RISK_STALE_DATA)
CROSSED_BOOK = int(Refusal.RISK_CROSSED_BOOK)
REDUCING = int(Refusal.RISK_REDUCING)
DAILY_LOSS_REACHED = int(Refusal.RISK_DAILY_LOSS)
DRAWDOWN_REACHED = int(Refusal.RISK_DRAWDOWN)
TOO_CLOSE = int(Refusal.RISK_TOO_CLOSE_TO_CLOSE)
MAX_POSITIONS = int(Refusal.RISK_MAX_POSITIONS)
NO_BELIEF = int(Refusal.RISK_NO_BELIEF)
NO_OFFER = int(Refusal.RISK_NO_OFFER)
NO_EDGE = int(Refusal.RISK_NO_EDGE)
LEAST_STAKE = int(Refusal.RISK_LEAST_STAKE)
FIRST_CAP = int(Refusal.RISK_POSITION_CAP)
BELOW_LOT = int(Refusal.RISK_BELOW_LOT)
RULELESS = int(Formula.NO_RULE)
FRACTION = int(Sized.FRACTION)
KELLY = int(Sized.KELLY)


@inlined
def quote_known(t: Tables, m: int, now: int) -> int:
    """The last row that was both true and known, or the one before the first."""
    i = row_at(t, m, now)
    while i >= t.markets[m]["first"] and t.known_at[i] > now:
        i -= 1
    return i


@inlined
def lot_at(t: Tables, regime: int) -> int:
    """The step of sizes: the venue's, or ours where that is coarser."""
    return int(max(t.regimes[regime]["lot"], t.terms[0]["lot"]))


@inlined
def leave_allowed(t: Tables, now: int) -> None:
    """An exit always passes; the manager looks at the equity all the same."""
    note(t, now, equity(t, now) if t.terms[0]["watches"] else -1)


@inlined
def enter_allowed(t: Tables, m: int, now: int) -> tuple[int, int]:
    """``(0, stake)``, or ``(reason, 0)``, for the signal in ``scratch``."""
    terms, signal = t.terms[0], t.scratch[0]
    outcome, regime = signal["outcome"], regime_at(t, m, now)
    rules = t.regimes[regime]
    if terms["looks"] and (rules["lot"] < 0 or rules["formula"] == RULELESS):
        return (NO_RULE, 0)
    note(t, now, equity(t, now) if terms["watches"] else -1)
    if terms["max_data_age"] >= 0 or terms["refuse_crossed"]:
        row, offer, size = _offer(t, m, now, regime)
        refused = _fresh(t, m, outcome, row, offer if size else -1, now)
        if refused:
            return (refused, 0)
    if t.latches[DAILY_LOSS] >= 0 or t.latches[DRAWDOWN] >= 0 or t.latches[LOSING_STREAK] >= 0:
        return (REDUCING, 0)
    if lost(t, DAILY_LOSS, now):
        return (DAILY_LOSS_REACHED, 0)
    if lost(t, DRAWDOWN, now):
        return (DRAWDOWN_REACHED, 0)
    least = terms["min_time_to_close"]
    if least >= 0:
        close = t.markets[m]["scheduled_close"]
        if close < 0 or close - now < least:
            return (TOO_CLOSE, 0)
    full = terms["max_positions"] >= 0 and t.state[0]["markets"] >= terms["max_positions"]
    if full and t.runs[m]["uses"] == 0:
        return (MAX_POSITIONS, 0)
    # what the market shows is looked up as late as can be: most entries are refused before
    row, offer, size = _offer(t, m, now, regime) if terms["looks"] else (-1, -1, 0)
    return _sized(t, m, now, regime, offer, size)


@jit
def _offer(t: Tables, m: int, now: int, regime: int) -> tuple[int, int, int]:
    """The row that was known, its offer, and how many contracts of it are there within the limit."""
    signal, size, offer = t.scratch[0], 0, -1
    row = quote_known(t, m, now)
    if row >= t.markets[m]["first"]:
        offer = price_at(t, signal["outcome"], True, row)
    if offer > 0:
        lot = lot_at(t, regime)
        size = shown_at(t, signal["outcome"], True, row, offer) // lot * lot
        limit = signal["limit"]
        if size < lot or (limit >= 0 and offer > limit):
            size = 0
    return (row, offer, size)


@inlined
def _fresh(t: Tables, m: int, outcome: int, row: int, offer: int, now: int) -> int:
    terms = t.terms[0]
    known = row >= t.markets[m]["first"]
    if terms["max_data_age"] >= 0 and (not known or now - t.ts[row] > terms["max_data_age"]):
        return STALE_DATA
    if terms["refuse_crossed"] and known and offer > 0:
        bid = price_at(t, outcome, False, row)
        if bid > 0 and bid >= offer:
            return CROSSED_BOOK
    return 0


@inlined
def _wanted(t: Tables, m: int, now: int, regime: int, offer: int, size: int) -> tuple[int, int]:
    """``(0, stake)`` as ``sizing.wanted_stake``, or ``(reason, 0)``."""
    terms, signal = t.terms[0], t.scratch[0]
    if terms["sized"] == FRACTION:
        return (0, _part(t, terms["fraction"], max(equity(t, now), 0)))
    if terms["sized"] != KELLY:
        return (0, terms["stake"])
    if terms["ruled"]:
        signal["p"] = belief(t, m, signal["row"])
    rest, if_won, if_lost = equity(t, now), 0, 0
    for o in range(2):
        k = t.runs[m]["trip1"] if o else t.runs[m]["trip0"]
        if k < 0:
            continue
        rest -= mark_of(t, k, now)
        if o == signal["outcome"]:
            if_won += t.trips[k]["size"]
        else:
            if_lost += t.trips[k]["size"]
    if math.isnan(signal["p"]):
        return (NO_BELIEF, 0)
    if not size:
        return (NO_OFFER, 0)
    if size > (1 << 62) // MICRO:
        t.state[0]["fault"] = SIZE
        return (NO_EDGE, 0)
    # the all-in cost of the offer taken whole; the fee alone is rounded to the venue's grid, not the price
    value = offer * size
    fee = buy_cost(t, regime, offer, size) + -value // MICRO
    paid = value + fee * MICRO
    stake = kelly_stake(
        signal["p"], terms["kelly"], paid, size * MICRO, rest + if_won, rest + if_lost, paid // MICRO
    )
    if stake < 0:
        t.state[0]["fault"] = SIZE
    return (0, stake) if stake > 0 else (NO_EDGE, 0)


@inlined
def _part(t: Tables, share: int, money: int) -> int:
    """A share in millionths of an amount, cut."""
    if money >= LARGEST:
        t.state[0]["fault"] = SIZE
        return 0
    return share * money // MICRO


@inlined
def _sized(t: Tables, m: int, now: int, regime: int, offer: int, size: int) -> tuple[int, int]:
    """The stake after the largest share of equity, the least, the caps, the cash, and the venue's minimum."""
    terms, signal, state = t.terms[0], t.scratch[0], t.state[0]
    stake, trimmed = signal["stake"], False
    if stake < 0:
        refused, stake = _wanted(t, m, now, regime, offer, size)
        if refused:
            return (refused, 0)
    most = _part(t, terms["max_stake"], state["cash"])
    if stake > most:
        most = _part(t, terms["max_stake"], equity(t, now))
        if stake > most:
            stake, trimmed = most, True
    least = terms["least"] * equity(t, now) if terms["least"] else 0
    if stake <= 0 or stake * MICRO < least:
        return (LEAST_STAKE, 0)
    if terms["has_caps"]:
        for dimension in range(6):
            cap, at_risk = _cap(t, dimension, m, signal["outcome"])
            if cap < 0:
                continue
            limit = max(_part(t, cap, equity(t, now)), 0)
            if at_risk >= limit:
                return (FIRST_CAP + dimension, 0)
            if at_risk + stake > limit:
                stake, trimmed = limit - at_risk, True
    if stake > state["cash"] - state["reserved"]:
        return (INSUFFICIENT_CASH, 0)
    if trimmed and size:
        rules = t.regimes[regime]
        lot = lot_at(t, regime)
        smallest = max(max(rules["min_size"], lot), 1)
        if size_for_stake(t, regime, offer, size, stake, 1) < smallest:
            return (BELOW_MIN_SIZE, 0)
        if size_for_stake(t, regime, offer, size, stake, lot) < smallest:
            return (BELOW_LOT, 0)
    return (0, stake)


@jit
def _cap(t: Tables, dimension: int, m: int, outcome: int) -> tuple[int, int]:
    """The cap of a dimension, in the order of ``risk.manager.CAPS``, and what is at risk in it."""
    count, terms, market = len(t.markets), t.terms[0], t.markets[m]
    if dimension == 0:
        return (terms["position_cap"], t.at_risk[2 * m + outcome])
    if dimension == 1:
        return (terms["market_cap"], t.at_risk[2 * count + m])
    if dimension == 2:
        return (terms["group_cap"], t.at_risk[3 * count + market["group"]])
    if dimension == 3:
        return (terms["strategy_cap"], t.at_risk[5 * count])
    if dimension == 4:
        return (terms["venue_cap"], t.at_risk[4 * count + market["venue"]])
    return (terms["gross_cap"], t.at_risk[5 * count])
