"""What a fill at one price costs, as :mod:`pm_pipeline.engine.money.fees` computes it, in 64-bit integers.

A quote is one level, so a match is one fill at one price, and the average price of a match is that price.
"""

from pm_pipeline.engine.points.cache import inlined, jit
from pm_pipeline.engine.points.records import Fault, Formula, Rounding, Tables
from pm_pipeline.engine.points.wide import half_even, muldiv

MICRO = 1_000_000
TRILLION = 10**12
QUINTILLION = 10**18
LARGEST = 1 << 43
"""Sizes and money stay below: 8.8 million contracts, 8.8 million dollars. A price times a size then fits."""

CURVE = int(Formula.CURVE)
NOTIONAL = int(Formula.NOTIONAL)
UNCOVERED = int(Formula.UNCOVERED)
CEIL = int(Rounding.CEIL)
HALF_EVEN = int(Rounding.HALF_EVEN)
FEE = int(Fault.FEE)
SIZE = int(Fault.SIZE)


@inlined
def trade_fee(t: Tables, regime: int, price: int, size: int) -> int:
    """The model fee in whole steps, see ``fees.exact_fee``."""
    rule = t.regimes[regime]
    rate = rule["rate"]
    if rule["formula"] == UNCOVERED:
        t.state[0]["fault"] = FEE
        return 0
    if rate == 0:
        return 0
    step = rule["step"]
    if rule["formula"] == CURVE:
        d = QUINTILLION
        q, r = muldiv(size, rate * (price * (MICRO - price)), d)
    elif rule["formula"] == NOTIONAL:
        d = TRILLION
        q, r = muldiv(price * size, rate, d)
    else:
        d = MICRO
        q, r = muldiv(size, rate, d)
    steps = q // step if step > 1 else q
    rest = q - steps * step
    if rule["rounding"] == CEIL:
        if rest or r:
            steps += 1
    elif rule["rounding"] == HALF_EVEN:
        steps = _nearest(steps, rest, r, step, d)
    return int(steps * step)


@jit
def _nearest(steps: int, rest: int, r: int, step: int, d: int) -> int:
    """Round ``rest + r / d`` against half of a step."""
    twice = 2 * rest - step
    if twice == 0:
        return steps + 1 if r > 0 or steps % 2 == 1 else steps
    if twice == -1:
        return half_even(steps, r, d)
    return steps + 1 if twice > 0 else steps


@inlined
def buy_cost(t: Tables, regime: int, price: int, size: int) -> int:
    """What a new order pays for a fill, the fee included: price, trade fee, and the venue's grid of balances.

    An order's first fill is never paid back anything: that takes more than one unit of lost rounding, and no
    rule that is covered pays back in units finer than the grid.
    """
    total = -(-price * size // MICRO) + trade_fee(t, regime, price, size)
    grid = t.regimes[regime]["balance"]
    return -(-total // grid) * grid if grid > 1 else total


@inlined
def sell_fee(t: Tables, order: int, price: int, size: int) -> int:
    """The fee of a selling order's next fill; the order keeps what it lost by rounding."""
    k = t.orders[order]
    rule = t.regimes[k["regime"]]
    fee = trade_fee(t, k["regime"], price, size)
    grid, unit = rule["balance"], rule["rebate"]
    if grid == 0:
        return fee
    lost = (price * size // MICRO - fee) % grid
    fee += lost
    k["accumulator"] += lost
    if unit > 0:
        units = min(max(k["accumulator"] - 1, 0) // unit, fee // unit)
        k["accumulator"] -= units * unit
        fee -= units * unit
    return int(fee)


@jit
def most_lots(t: Tables, regime: int, price: int, stake: int, most: int, lot: int) -> int:
    """The most lots, up to ``most``, whose :func:`buy_cost` fits into ``stake``. Cost grows with size."""
    if most <= 0 or buy_cost(t, regime, price, lot) > stake:
        return 0
    rule = t.regimes[regime]
    share = float(price)
    if rule["formula"] == CURVE:
        share += float(rule["rate"]) * float(price) * float(MICRO - price) * 1e-12
    elif rule["formula"] == NOTIONAL:
        share += float(rule["rate"]) * float(price) * 1e-6
    else:
        share += float(rule["rate"])
    guess = min(max(int(float(stake) * 1e6 / (share * float(lot))), 1), most)
    # from the guess outwards until it is between two numbers, then halve
    reach = 1
    if buy_cost(t, regime, price, guess * lot) <= stake:
        low, high = guess, most + 1
        while low + reach < high:
            if buy_cost(t, regime, price, (low + reach) * lot) > stake:
                high = low + reach
                break
            low += reach
            reach *= 2
    else:
        low, high = 1, guess
        while high - reach > low:
            if buy_cost(t, regime, price, (high - reach) * lot) <= stake:
                low = high - reach
                break
            high -= reach
            reach *= 2
    while high - low > 1:
        middle = (low + high) // 2
        if buy_cost(t, regime, price, middle * lot) <= stake:
            low = middle
        else:
            high = middle
    return low


@inlined
def size_for_stake(t: Tables, regime: int, price: int, depth: int, stake: int, lot: int) -> int:
    """As ``execution.size_for_stake`` on one level of ``depth`` contracts."""
    if stake >= LARGEST or depth >= LARGEST:
        t.state[0]["fault"] = SIZE
        return 0
    most = min(depth, stake * MICRO // price) // lot
    return most_lots(t, regime, price, stake, most, lot) * lot
