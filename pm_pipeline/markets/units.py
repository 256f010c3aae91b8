"""Exact fixed-point numbers: price, size and money are integers in millionths.

A price of 0.52 dollar is ``520_000``, 13.5 contracts are ``13_500_000``, ten dollars are ``10_000_000``.
Wire text becomes such an integer through :class:`decimal.Decimal`, never through a float, so that sums are
exact and a bill can be reproduced to the micro-dollar.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Final, Literal, TypeAlias

from pm_pipeline.errors import PipelineError

MICRO: Final = 1_000_000
"""How many micro-units make one unit (dollar, contract)."""

Micro: TypeAlias = int
"""An integer count of millionths of a dollar or of a contract."""

Rounding: TypeAlias = Literal["floor", "ceil", "half_even"]

_ROUNDING: Final = {"floor": ROUND_FLOOR, "ceil": ROUND_CEILING, "half_even": ROUND_HALF_EVEN}
_INT64: Final = 2**63


class UnitError(PipelineError):
    """A value is not a finite decimal number, or not a whole number of micro-units."""


def parse_decimal(value: str | int | Decimal) -> Decimal:
    """Read a wire value as an exact, finite decimal.

    Raises
    ------
    UnitError
        for a float, a bool, text that is no number, NaN or an infinity.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise UnitError(f"expected a decimal as text or integer, got {type(value).__name__} {value!r}")
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise UnitError(f"{value!r} is not a decimal number") from error
    if not number.is_finite():
        raise UnitError(f"{value!r} is not a finite number")
    return number


def to_micro(value: str | int | Decimal, rounding: Rounding | None = None) -> Micro:
    """Turn a decimal into micro-units, exactly.

    Without ``rounding`` a value with more than six decimals is refused: an order, a balance or a fee that
    does not fit was misread. With it the value is rounded, which is right for what a venue derives (an
    average price, a mid point).
    """
    scaled = parse_decimal(value).scaleb(6)
    if rounding is not None:
        scaled = scaled.to_integral_value(_ROUNDING[rounding])
    elif scaled != scaled.to_integral_value():
        raise UnitError(f"{value!r} has more than six decimals; it is not a whole number of micro-units")
    result = int(scaled)
    if not -_INT64 <= result < _INT64:
        raise UnitError(f"{value!r} does not fit into 64 bits of micro-units")
    return result


def from_micro(value: Micro) -> Decimal:
    """Turn micro-units back into an exact decimal: ``from_micro(520_000) == Decimal("0.52")``."""
    return Decimal(value).scaleb(-6)


def format_dollars(value: Micro, *, places: int = 2) -> str:
    """Show micro-dollars to a person: ``-$1,234.50``."""
    sign = "-" if value < 0 else ""
    return f"{sign}${abs(from_micro(value)):,.{places}f}"


def divide(numerator: int, denominator: int, rounding: Rounding) -> int:
    """Divide integers with a stated rounding; the denominator must be positive."""
    if denominator <= 0:
        raise ValueError("the denominator must be positive")
    quotient, remainder = divmod(numerator, denominator)
    if not remainder or rounding == "floor":
        return quotient
    if rounding == "ceil":
        return quotient + 1
    twice = 2 * remainder
    return quotient + (twice > denominator or (twice == denominator and quotient % 2 == 1))


def notional(price: Micro, size: Micro, rounding: Rounding) -> Micro:
    """Dollars that ``size`` contracts at ``price`` are worth, in micro-dollars.

    The product has twelve decimals; the caller says which way it rounds: ``ceil`` for what we pay, ``floor``
    for what we receive, so that rounding is never in our favour.
    """
    return divide(price * size, MICRO, rounding)
