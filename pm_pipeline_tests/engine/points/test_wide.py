"""Integers that leave 64 bits, against Python's own."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.engine.kernel.cache import compile_entry
from pm_pipeline.engine.points import wide
from pm_pipeline.engine.points.cache import entry


@entry
def divided(a: int, b: int, d: int) -> tuple[int, int]:
    return wide.muldiv(a, b, d)


@entry
def nearest(quotient: int, remainder: int, d: int) -> int:
    return wide.half_even(quotient, remainder, d)


@entry
def divided_floats(c: int, d: int) -> float:
    return wide.ratio(c, d)


@entry
def not_above(a: int, b: int, c: int, shift: int, x: int, y: int, z: int) -> bool:
    left = wide.shifted(wide.times(wide.times(wide.limbs(a), b), c), shift)
    return wide.at_most(wide.add(left, wide.limbs(a)), wide.times(wide.times(wide.limbs(x), y), z))


def setup_module() -> None:
    for function in (divided, nearest, divided_floats, not_above):
        compile_entry(function, lambda _: None)


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(1, 2**61))
@settings(max_examples=500)
def test_a_product_of_128_bits_is_divided_exactly(a: int, b: int, d: int) -> None:
    b = min(b, (2**52 - 1) * d // max(a, 1))
    assert divided(a, b, d) == divmod(a * b, d)


@given(st.integers(0, 2**40), st.integers(1, 2**61), st.data())
def test_half_even_rounds_as_fractions_do(quotient: int, d: int, data: st.DataObject) -> None:
    middle = st.sampled_from([d // 2, (d - 1) // 2, d - 1, 0])
    remainder = data.draw(middle | st.integers(0, d - 1))
    assert nearest(quotient, remainder, d) == round(quotient + Fraction(remainder, d))


@given(st.integers(2, 2**63 - 1), st.data())
@settings(max_examples=500)
def test_a_ratio_is_the_nearest_float(d: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(1, d - 1))
    assert divided_floats(c, d) == c / d


big = st.integers(0, 2**63 - 1)


@given(big, big, st.integers(0, 2**43), st.integers(0, 60), big, big, big)
def test_products_of_many_limbs_compare_as_they_are(
    a: int, b: int, c: int, shift: int, x: int, y: int, z: int
) -> None:
    assert not_above(a, b, c, shift, x, y, z) == ((a * b * c << shift) + a <= x * y * z)
    assert not_above(a, b, c, 0, a, b, c) == (a == 0)
