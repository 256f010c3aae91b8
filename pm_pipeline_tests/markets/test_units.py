from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.units import (
    Rounding,
    UnitError,
    divide,
    format_dollars,
    from_micro,
    notional,
    parse_decimal,
    to_micro,
)

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@pytest.mark.parametrize(
    ("text", "micro"),
    [("0.52", 520_000), ("13.50", 13_500_000), ("-0.000001", -1), ("1e-6", 1), (7, 7_000_000), ("0", 0)],
)
def test_a_wire_decimal_becomes_an_exact_integer(text: str | int, micro: int) -> None:
    assert to_micro(text) == micro


@given(INT64)
def test_micro_units_survive_the_way_there_and_back(value: int) -> None:
    assert to_micro(from_micro(value)) == value
    assert to_micro(str(from_micro(value))) == value


@pytest.mark.parametrize("value", [0.1, True, None, [], "NaN", "Infinity", "-inf", "", "0,5", "one"])
def test_what_is_no_finite_decimal_is_refused(value: Any) -> None:
    with pytest.raises(UnitError):
        parse_decimal(value)


def test_a_float_is_refused_even_where_it_looks_exact() -> None:
    with pytest.raises(UnitError, match=r"got float 0\.5"):
        to_micro(0.5)  # type: ignore[arg-type]


def test_more_than_six_decimals_are_refused_unless_a_rounding_is_named() -> None:
    with pytest.raises(UnitError, match="more than six decimals"):
        to_micro("0.0000005")
    assert to_micro("0.2656227501799856", "floor") == 265_622
    assert to_micro("0.2656227501799856", "ceil") == 265_623


@pytest.mark.parametrize(
    ("text", "rounding", "micro"),
    [
        ("0.0000005", "half_even", 0),
        ("0.0000015", "half_even", 2),
        ("-0.0000001", "floor", -1),
        ("-0.0000009", "ceil", 0),
    ],
)
def test_a_named_rounding_is_the_one_used(text: str, rounding: Rounding, micro: int) -> None:
    assert to_micro(text, rounding) == micro


def test_the_range_is_that_of_int64() -> None:
    assert to_micro("9223372036854.775807") == 2**63 - 1
    assert to_micro("-9223372036854.775808") == -(2**63)
    for text in ("9223372036854.775808", "-9223372036854.775809"):
        with pytest.raises(UnitError, match="64 bits"):
            to_micro(text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "$0.00"), (1_234_500_000, "$1,234.50"), (-1_234_500_000, "-$1,234.50"), (5_000, "$0.00")],
)
def test_dollars_are_shown_with_a_sign_before_the_currency(value: int, shown: str) -> None:
    assert format_dollars(value) == shown


def test_dollars_are_shown_with_the_places_asked_for() -> None:
    assert format_dollars(12_340, places=6) == "$0.012340"


@given(st.integers(), st.integers(min_value=1), st.sampled_from(["floor", "ceil", "half_even"]))
def test_a_division_is_off_by_less_than_one_in_the_stated_direction(
    numerator: int, denominator: int, rounding: Rounding
) -> None:
    error = divide(numerator, denominator, rounding) - Fraction(numerator, denominator)
    match rounding:
        case "floor":
            assert -1 < error <= 0
        case "ceil":
            assert 0 <= error < 1
        case "half_even":
            assert divide(numerator, denominator, rounding) == round(Fraction(numerator, denominator))


@pytest.mark.parametrize("denominator", [0, -1])
def test_a_division_needs_a_positive_denominator(denominator: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        divide(1, denominator, "floor")


def test_a_notional_is_rounded_the_way_the_caller_says() -> None:
    assert notional(333_333, 500_000, "floor") == 166_666
    assert notional(333_333, 500_000, "ceil") == 166_667
    assert notional(520_000, 10_000_000, "ceil") == notional(520_000, 10_000_000, "floor") == 5_200_000


@given(st.integers(0, 10**6), st.integers(0, 10**13))
def test_what_we_pay_is_never_less_than_what_we_receive(price: int, size: int) -> None:
    exact = from_micro(price) * from_micro(size)
    assert from_micro(notional(price, size, "floor")) <= exact <= from_micro(notional(price, size, "ceil"))
    assert notional(price, size, "ceil") - notional(price, size, "floor") <= 1


def test_decimals_pass_through_unchanged() -> None:
    assert parse_decimal(Decimal("0.10")) == Decimal("0.10")
    assert parse_decimal(" 1.5 ") == Decimal("1.5")
