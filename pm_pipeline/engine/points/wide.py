"""Exact arithmetic on products that leave 64 bits: a product divided, and sums of products for Kelly.

Nothing here is approximate. :func:`muldiv` guesses a quotient with a float and corrects it by the remainder,
which fits into 64 bits whatever the product is; the rest works on numbers of eight limbs.
"""

import math
from typing import TypeAlias

from pm_pipeline.engine.points.cache import inlined, jit

Limbs: TypeAlias = tuple[int, int, int, int, int, int, int, int]
"""An unsigned number below 2**240 in limbs of thirty bits, the lowest first."""

BITS = 30
MASK = (1 << BITS) - 1


@inlined
def muldiv(a: int, b: int, d: int) -> tuple[int, int]:
    """``divmod(a * b, d)`` for non-negative ``a`` and ``b``, with a quotient below 2**52 and d up to 2**61.

    The guess is off by two at most, so the true remainder lies within three ``d`` and survives the wrapping
    of 64-bit products.
    """
    q = int(float(a) * float(b) / float(d))
    r = a * b - q * d
    while r < 0:
        q -= 1
        r += d
    while r >= d:
        q += 1
        r -= d
    return q, r


@jit
def half_even(quotient: int, remainder: int, d: int) -> int:
    """Round a division to the nearest, to even where it is in the middle."""
    twice = remainder - (d - remainder)
    return quotient + 1 if twice > 0 or (twice == 0 and quotient % 2 == 1) else quotient


@jit
def limbs(value: int) -> Limbs:
    """A non-negative integer as limbs."""
    return (value & MASK, (value >> 30) & MASK, (value >> 60) & MASK, 0, 0, 0, 0, 0)


@jit
def add(x: Limbs, y: Limbs) -> Limbs:
    """The sum."""
    s0 = x[0] + y[0]
    s1 = x[1] + y[1] + (s0 >> BITS)
    s2 = x[2] + y[2] + (s1 >> BITS)
    s3 = x[3] + y[3] + (s2 >> BITS)
    s4 = x[4] + y[4] + (s3 >> BITS)
    s5 = x[5] + y[5] + (s4 >> BITS)
    s6 = x[6] + y[6] + (s5 >> BITS)
    s7 = x[7] + y[7] + (s6 >> BITS)
    return (s0 & MASK, s1 & MASK, s2 & MASK, s3 & MASK, s4 & MASK, s5 & MASK, s6 & MASK, s7 & MASK)


@jit
def less(x: Limbs, y: Limbs) -> Limbs:
    """The difference, where it is not negative; a shift of a negative number borrows from the next limb."""
    s0 = x[0] - y[0]
    s1 = x[1] - y[1] + (s0 >> BITS)
    s2 = x[2] - y[2] + (s1 >> BITS)
    s3 = x[3] - y[3] + (s2 >> BITS)
    s4 = x[4] - y[4] + (s3 >> BITS)
    s5 = x[5] - y[5] + (s4 >> BITS)
    s6 = x[6] - y[6] + (s5 >> BITS)
    s7 = x[7] - y[7] + (s6 >> BITS)
    return (s0 & MASK, s1 & MASK, s2 & MASK, s3 & MASK, s4 & MASK, s5 & MASK, s6 & MASK, s7 & MASK)


@jit
def _scaled(x: Limbs, limb: int) -> Limbs:
    """The product with a number of one limb."""
    s0 = x[0] * limb
    s1 = x[1] * limb + (s0 >> BITS)
    s2 = x[2] * limb + (s1 >> BITS)
    s3 = x[3] * limb + (s2 >> BITS)
    s4 = x[4] * limb + (s3 >> BITS)
    s5 = x[5] * limb + (s4 >> BITS)
    s6 = x[6] * limb + (s5 >> BITS)
    s7 = x[7] * limb + (s6 >> BITS)
    return (s0 & MASK, s1 & MASK, s2 & MASK, s3 & MASK, s4 & MASK, s5 & MASK, s6 & MASK, s7 & MASK)


@jit
def _raised(x: Limbs) -> Limbs:
    """The product with 2**30."""
    return (0, x[0], x[1], x[2], x[3], x[4], x[5], x[6])


@jit
def times(x: Limbs, value: int) -> Limbs:
    """The product with a non-negative 64-bit integer."""
    low = _scaled(x, value & MASK)
    middle = _raised(_scaled(x, (value >> 30) & MASK))
    high = _raised(_raised(_scaled(x, (value >> 60) & MASK)))
    return add(add(low, middle), high)


@jit
def shifted(x: Limbs, count: int) -> Limbs:
    """The product with 2**count."""
    while count >= BITS:
        x = _raised(x)
        count -= BITS
    return _scaled(x, 1 << count)


@jit
def at_most(x: Limbs, y: Limbs) -> bool:
    """Whether ``x <= y``."""
    for k in range(7, -1, -1):
        if x[k] != y[k]:
            return x[k] < y[k]
    return True


@jit
def ratio(c: int, d: int) -> float:
    """The float nearest to ``c / d``, as Python divides integers, for 0 < c < d < 2**63."""
    if d < 1 << 53:
        return float(c) / float(d)
    # 55 bits of the quotient and whether anything is left: rounding them is rounding the truth
    exponent, quotient, rest = 0, 0, c
    while quotient < 1 << 54:
        quotient <<= 1
        exponent += 1
        if rest >= d - rest:  # twice the rest may not fit into 63 bits
            rest -= d - rest
            quotient += 1
        else:
            rest += rest
    return math.ldexp(float(quotient | (1 if rest else 0)), -exponent)
