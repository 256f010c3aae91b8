"""A rule on one market alone, as a straight line: decide, buy, hold, sell, and again.

Where nothing but that can happen, no queue of events is needed. As soon as something else does (an order has
to wait, two orders cross, a limit of risk is set) the walk gives up, and the market is played by :mod:`~.run`
instead. Both come to the same rows.
"""

import numpy as np

from pm_pipeline.engine.points.cache import inlined, jit
from pm_pipeline.engine.points.fees import LARGEST, MICRO, buy_cost, most_lots, trade_fee
from pm_pipeline.engine.points.quotes import FOREVER, STOP, TARGET, TRAILING, shown_at
from pm_pipeline.engine.points.quotes import TIME as TIMED
from pm_pipeline.engine.points.records import BLOCK, Ended, Formula, Refusal, Sized, Tables

SIGNAL = int(Ended.SIGNAL)
SETTLEMENT = int(Ended.SETTLEMENT)
VOID = int(Ended.VOID)
BELOW_MIN_SIZE = int(Refusal.BELOW_MIN_SIZE)
MARKET_CLOSED = int(Refusal.MARKET_CLOSED)
CURVE = int(Formula.CURVE)
FIXED = int(Sized.FIXED)


@inlined
def walkable(t: Tables) -> bool:
    """Whether the settings leave a straight line: a fixed stake, and no limit that looks at anything else."""
    terms = t.terms[0]
    limits = terms["looks"] or terms["watches"] or terms["losing_streak"] >= 0 or terms["least"] > 0
    return bool(not limits and terms["sized"] == FIXED and terms["min_time_to_close"] < 0)


@inlined
def _entry_row(t: Tables, start: int, end: int, level: float) -> int:
    """The first row with ``z <= level``, or ``end``."""
    i = start
    while i < end:
        if i % BLOCK == 0 and i + BLOCK <= end and t.z_low[i // BLOCK] > level:
            i += BLOCK
        elif t.z[i] <= level:
            return i
        else:
            i += 1
    return end


@inlined
def _exit_row(t: Tables, start: int, end: int, level: float) -> int:
    """The first row with ``z >= level``, or ``end``."""
    i = start
    while i < end:
        if t.z[i] >= level:
            return i
        i += 1
    return end


@jit
def walk(t: Tables, m: int, keep: bool) -> bool:
    """Play a market; False: it is not that simple, and nothing has been written.

    What came of it is added to ``sums``; with ``keep`` the fills, trades and decisions are written down too.
    """
    terms, market, state = t.terms[0], t.markets[m], t.state[0]
    first, end = market["first"], market["end"]
    closed_at, opened_at = market["closed_at"], market["opened_at"]
    if market["paid_at"] == FOREVER or market["regime_end"] - market["regime"] < 1:
        return False
    if closed_at == FOREVER:
        return False
    enter, leave = -terms["entry"], -terms["exit"]
    latency, max_age = terms["latency"], terms["max_age"]
    worse, stake, most_share = terms["worse"], terms["stake"], terms["max_stake"]
    stop_share, target_share = terms["stop"], terms["target"]
    trailing_share, hold = terms["trailing"], terms["hold"]
    cash, regime = terms["bankroll"], market["regime"]
    fills, trades, decisions = state["fills"], state["trades"], state["decisions"]
    count = wins = pnl_sum = fee_sum = cost_sum = proceeds_sum = held_to_end = closed_out = too_small = 0
    sold_ts, sold_here, bought_ts = -1, 0, -1
    lot = min_size = -1
    i = first
    while True:
        # ---- decide to enter
        i = _entry_row(t, i, end, enter)
        if i >= end:
            break
        now = t.known_at[i]
        if now >= closed_at:
            break
        if now < opened_at:
            i += 1
            continue
        while regime + 1 < market["regime_end"] and t.regimes[regime + 1]["since"] <= now:
            regime += 1
        sent = t.regimes[regime]
        if sent["lot"] < 0 or sent["delay"] < 0 or sent["formula"] < CURVE:
            return False
        if lot < 0:
            lot = max(sent["lot"], terms["lot"])
            min_size = max(sent["min_size"], lot)
        arrival = now + latency + sent["delay"]
        if regime + 1 < market["regime_end"] and t.regimes[regime + 1]["since"] <= arrival:
            return False
        if stake * MICRO > most_share * cash:
            return False
        mid = int(t.mid[i])
        stop = mid * (MICRO - stop_share) // MICRO if stop_share >= 0 else -1
        target = min(-(-mid * (MICRO + target_share) // MICRO), MICRO) if target_share >= 0 else 2 * MICRO
        trailing = -(-mid * trailing_share // MICRO) if trailing_share >= 0 else -1
        time_out = now + hold if hold >= 0 else FOREVER
        if keep:
            row = t.decisions[decisions]
            decisions += 1
            row["market"], row["at"], row["row"], row["outcome"], row["enters"] = m, now, i, 0, 1
            row["stop"], row["trailing"] = stop, trailing
            row["target"] = target if target_share >= 0 else -1
            row["exit_at"] = time_out if hold >= 0 else -1
            total, seen, j = 0, 0, i - 1
            while seen < terms["window"]:
                if t.mid[j] >= 0:
                    total += t.mid[j]
                    seen += 1
                j -= 1
            row["p"] = float(total) / float(seen * MICRO)
        # ---- buy
        k, r = i + 1, i
        while k < end and t.known_at[k] < min(arrival, closed_at):
            if t.z[k] >= leave:
                return False
            k += 1
        if arrival >= closed_at:
            closed_out += 1
            break
        while r + 1 < end and t.ts[r + 1] <= arrival:
            r += 1
        if t.ts[r] > arrival or t.kind[r] == 0 or arrival - t.ts[r] > max_age or t.ask[r] < 0:
            return False
        price = int(t.ask[r])
        if worse:
            n = r + 1
            while n < end and t.ask[n] < 0:
                n += 1
            if n < end and t.ts[n] < closed_at:
                price = max(price, int(t.ask[n]))
        if bought_ts == t.ts[r]:
            return False
        size, cash_paid, fee = 0, 0, 0
        known = t.bought[r - first]
        if known["regime"] == regime and known["price"] == price:
            size, cash_paid, fee = known["size"], known["cash"], known["fee"]
        else:
            depth = shown_at(t, 0, True, r, price) // lot * lot
            asked = most_lots(t, regime, price, stake, stake * MICRO // price // lot, lot) * lot
            if asked >= LARGEST or depth >= LARGEST:
                return False
            size = min(asked, depth) if asked >= min_size else 0
            cash_paid = -(-price * size // MICRO)
            fee = buy_cost(t, regime, price, size) - cash_paid if size else 0
            known["regime"], known["price"], known["size"] = regime, price, size
            known["cash"], known["fee"] = cash_paid, fee
        if not size:
            too_small += 1
            i = max(i + 1, k)
            continue
        bought_ts = t.ts[r]
        cash -= cash_paid + fee
        if keep:
            row = t.fills[fills]
            fills += 1
            row["market"], row["outcome"], row["buys"], row["at"], row["decided_by"] = (
                m,
                0,
                1,
                arrival,
                SIGNAL,
            )
            row["size"], row["cash"], row["fee"], row["evidence"] = size, cash_paid, fee, t.kind[r]
            row["price"] = -(-cash_paid * MICRO // size)
        # ---- hold: which comes first, the rule's exit or one that is watched
        j = _exit_row(t, k, end, leave)
        leave_at = t.known_at[j] if j < end else FOREVER
        if leave_at >= closed_at:
            leave_at = FOREVER
        reason, quote_ts, watched_at = -1, -1, FOREVER
        horizon = min(leave_at + 2 * latency, closed_at - 1) if leave_at < FOREVER else closed_at - 1
        last = min(horizon, time_out)
        if stop >= 0 or trailing >= 0 or target <= MICRO:
            peak, n = int(t.bid[r]), r + 1
            while n < end and t.ts[n] <= last:
                whole = trailing < 0 and n % BLOCK == 0 and n + BLOCK <= end
                if whole and t.bid_low[n // BLOCK] > stop and t.bid_high[n // BLOCK] < target:
                    n += BLOCK
                    continue
                bid = t.bid[n]
                if bid >= 0 and (bid <= stop or bid >= target or trailing >= 0):
                    peak = max(peak, int(bid))
                    met = STOP if bid <= stop else -1
                    if met < 0 and trailing >= 0 and bid <= peak - trailing:
                        met = TRAILING
                    if met < 0 and bid >= target:
                        met = TARGET
                    if met >= 0:
                        if time_out >= t.known_at[n]:
                            reason, watched_at, quote_ts = met, t.known_at[n], t.ts[n]
                        break
                n += 1
        if reason < 0 and time_out < FOREVER:
            reason, watched_at, quote_ts = TIMED, max(time_out, arrival), -1
        if watched_at >= closed_at:
            watched_at = FOREVER
        decided = min(leave_at, watched_at)
        left, got, sell_fees, exited_at, evidence = size, 0, 0, arrival, t.kind[r]
        if decided < FOREVER:
            by_rule = leave_at < watched_at
            reason = SIGNAL if by_rule else reason
            later_than = -1 if by_rule else quote_ts
            if keep and by_rule:
                row = t.decisions[decisions]
                decisions += 1
                row["market"], row["at"], row["row"], row["outcome"], row["enters"] = m, leave_at, j, 0, 0
                row["stop"] = row["target"] = row["trailing"] = row["exit_at"] = -1
                row["p"] = np.nan
            while regime + 1 < market["regime_end"] and t.regimes[regime + 1]["since"] <= decided:
                regime += 1
            sent = t.regimes[regime]
            at = decided + latency + sent["delay"]
            changes = regime + 1 < market["regime_end"] and t.regimes[regime + 1]["since"] <= at
            if sent["delay"] < 0 or sent["formula"] < CURVE or changes or size < min_size:
                return False
            # ---- sell, when a quote comes that the order may trade on
            n, accumulator = r, 0
            while left > 0 and at < closed_at:
                if by_rule and (watched_at < at or at > horizon):
                    return False
                while n + 1 < end and t.ts[n + 1] <= at:
                    n += 1
                ok = t.kind[n] != 0 and t.ts[n] > later_than and at - t.ts[n] <= max_age and t.bid[n] >= 0
                depth = 0
                if ok:
                    price = int(t.bid[n])
                    if worse:
                        s = n + 1
                        while s < end and t.bid[s] < 0:
                            s += 1
                        if s < end and t.ts[s] < closed_at:
                            price = min(price, int(t.bid[s]))
                    depth = shown_at(t, 0, False, n, price) - (sold_here if sold_ts == t.ts[n] else 0)
                    depth = depth // lot * lot
                if depth > 0:
                    if at >= t.regimes[regime]["fee_ends"] or depth >= LARGEST:
                        return False
                    part = min(left, depth)
                    money = price * part // MICRO
                    fee_now = trade_fee(t, regime, price, part)
                    grid, unit = t.regimes[regime]["balance"], t.regimes[regime]["rebate"]
                    if grid > 0:
                        lost = (money - fee_now) % grid
                        fee_now += lost
                        accumulator += lost
                        if unit > 0:
                            units = min(max(accumulator - 1, 0) // unit, fee_now // unit)
                            accumulator -= units * unit
                            fee_now -= units * unit
                    if fee_now - money > cash:
                        return False
                    sold_here = part + (sold_here if sold_ts == t.ts[n] else 0)
                    sold_ts = t.ts[n]
                    cash += money - fee_now
                    left -= part
                    got += money
                    sell_fees += fee_now
                    exited_at = at
                    evidence = min(evidence, t.kind[n])
                    if keep:
                        row = t.fills[fills]
                        fills += 1
                        row["market"], row["outcome"], row["buys"], row["at"] = m, 0, 0, at
                        row["decided_by"], row["evidence"] = reason, t.kind[n]
                        row["size"], row["cash"], row["fee"] = part, money, fee_now
                        row["price"] = money * MICRO // part
                if left > 0:
                    s = n + 1
                    while s < end and t.bid[s] < 0:
                        s += 1
                    if s >= end or t.ts[s] >= closed_at:
                        return False
                    at = t.ts[s]
            if left > 0:
                if by_rule and (watched_at < closed_at or horizon < closed_at - 1):
                    return False
                closed_out += 1
        # ---- or wait for the payout
        payout, ended_by = -1, reason
        if left > 0:
            exited_at, ended_by = market["paid_at"], VOID
            amount = cash_paid
            if left < size:
                return False
            if not market["void"]:
                payout, ended_by = market["payout0"], SETTLEMENT
                amount = payout * left // MICRO // market["payout_step"] * market["payout_step"]
            got += amount
            cash += amount
            held_to_end += 1
        profit = got - cash_paid - fee - sell_fees
        count += 1
        wins += profit > 0
        pnl_sum += profit
        fee_sum += fee + sell_fees
        cost_sum += cash_paid
        proceeds_sum += got
        if keep:
            row = t.trades[trades]
            trades += 1
            row["market"], row["outcome"], row["entered_at"], row["exited_at"] = m, 0, arrival, exited_at
            row["size"], row["cost"], row["proceeds"], row["fees"] = size, cash_paid, got, fee + sell_fees
            row["ended_by"], row["payout"], row["evidence"] = ended_by, payout, evidence
        if left > 0:
            break
        if cash >= LARGEST:
            return False
        i = max(i + 1, k)
        if decided == leave_at and leave_at < FOREVER:
            i = max(i, j + 1 if leave_at < watched_at else j)
        while i < end and t.known_at[i] < exited_at:
            i += 1
    state["fills"], state["trades"], state["decisions"] = fills, trades, decisions
    t.refused[MARKET_CLOSED] += closed_out
    t.refused[BELOW_MIN_SIZE] += too_small
    sums = t.sums[terms["number"]]
    sums["trades"] += count
    sums["wins"] += wins
    sums["pnl"] += pnl_sum
    sums["fees"] += fee_sum
    sums["cost"] += cost_sum
    sums["proceeds"] += proceeds_sum
    sums["held_to_payout"] += held_to_end
    sums["refused"] += closed_out + too_small
    return True
