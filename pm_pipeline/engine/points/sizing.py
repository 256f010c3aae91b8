"""Kelly on one offer, equal to :mod:`pm_pipeline.engine.sizing` to the last micro-dollar.

A purchase of one level costs ``X = p W0 - (1 - p) W1 c / (1 - c)`` dollars, where ``W1`` and ``W0`` are the
wealth if it wins and loses and ``c = C / D`` the all-in cost of a contract; or all of the level, if that is
less. The probability is a float, so a fraction ``a / 2**k``, and X is cut to whole millionths by integers
alone.
"""

import math

from pm_pipeline.engine.points.cache import jit
from pm_pipeline.engine.points.fees import LARGEST
from pm_pipeline.engine.points.wide import add, at_most, less, limbs, ratio, shifted, times


@jit
def _affords(s: int, a: int, k: int, won: int, lost: int, c: int, d: int) -> bool:
    """Whether ``s <= X``: ``s 2**k (D - C) + (2**k - a) W1 C <= a W0 (D - C)``."""
    gain = d - c
    left = shifted(times(limbs(s), gain), k)
    rest = times(times(less(shifted(limbs(1), k), limbs(a)), won), c)
    return at_most(add(left, rest), times(times(limbs(a), lost), gain))


@jit
def kelly_stake(p: float, share: float, cost: int, whole: int, won: int, lost: int, level: int) -> int:
    """What to spend: ``whole`` contracts (times a million) cost ``cost`` in all, ``level`` what the offer
    costs.

    -1: a size that does not fit; 0: no edge.
    """
    if cost >= whole:
        return 0
    even = ratio(cost, whole)
    full = p - (1.0 - p) * even / (1.0 - even)
    if full <= 0.0:
        return 0
    belief = even + share * (p - even)
    if belief <= 0.0:
        return 0
    if belief < 1e-4 or lost >= LARGEST or won >= LARGEST:
        return -1
    mantissa, exponent = math.frexp(belief)
    a, k = int(mantissa * 9007199254740992.0), 53 - exponent
    while a % 2 == 0:
        a //= 2
        k -= 1
    if k < 0:
        return -1
    guess = int(belief * float(lost) - (1.0 - belief) * float(won) * (float(cost) / float(whole - cost)))
    guess = min(max(guess, 0), level)
    while guess > 0 and not _affords(guess, a, k, won, lost, cost, whole):
        guess -= 1
    while guess < level and _affords(guess + 1, a, k, won, lost, cost, whole):
        guess += 1
    return guess
