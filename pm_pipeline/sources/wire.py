"""From decoded JSON to records: what every venue's wire module needs.

A needed field that is missing or of another type raises :class:`BadResponse` naming endpoint and field; a
field that a closed record does not know raises :class:`~pm_pipeline.sources.drift.DriftError`.
"""

from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import FOREVER, SECOND, Nanos, parse_time
from pm_pipeline.markets.units import MICRO, Micro, Rounding, parse_decimal, to_micro
from pm_pipeline.sources.drift import require_known
from pm_pipeline.sources.errors import BadResponse

T = TypeVar("T")

Number = str | int | Decimal
"""A number as venues write it: text, integer or fraction. A Struct's ``Decimal`` takes all three."""

_DIGITS: Final = 40
"""No number of a venue has more digits; more would be misread, or make arithmetic crawl."""
_LAST_SECOND: Final = 4_102_444_800
"""2100-01-01T00:00:00Z: an observation after it was misread, as milliseconds for example."""


def convert(value: object, kind: type[T], endpoint: str) -> T:
    """``value`` as the Struct ``kind``. Raises :class:`BadResponse` with the path of the bad field."""
    require_known(value, kind, endpoint)
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, ArithmeticError, RecursionError) as error:
        raise BadResponse(f"{endpoint}: {error}") from error


def micro(value: Number, endpoint: str, field: str, rounding: Rounding | None = None) -> Micro:
    """``value`` in micro-units; with ``rounding`` for what the venue derives."""
    try:
        number = parse_decimal(value)
        if number and not -_DIGITS < number.adjusted() < _DIGITS:
            raise BadResponse(f"{endpoint}: {field} is {str(value)[:60]}, which cannot be")
        return to_micro(number, rounding)
    except (PipelineError, ArithmeticError) as error:
        raise BadResponse(f"{endpoint}: {field}: {error}") from error


def price(value: Number, endpoint: str, field: str, rounding: Rounding | None = None) -> Micro:
    """Like :func:`micro`, from 0 to 1 dollar."""
    result = micro(value, endpoint, field, rounding)
    if not 0 <= result <= MICRO:
        raise BadResponse(f"{endpoint}: {field} is {value}, not a price from 0 to 1")
    return result


def size(value: Number, endpoint: str, field: str, rounding: Rounding | None = None) -> Micro:
    """Like :func:`micro`, never negative."""
    result = micro(value, endpoint, field, rounding)
    if result < 0:
        raise BadResponse(f"{endpoint}: {field} is {value}, which is negative")
    return result


def moment(text: str, endpoint: str, field: str) -> Nanos:
    """Nanoseconds of an ISO 8601 time; one that 64 bits cannot hold (after 2262) counts as for ever."""
    try:
        nanos = parse_time(text)
    except (PipelineError, OverflowError) as error:
        raise BadResponse(f"{endpoint}: {field}: {error}") from error
    if nanos < 0:
        raise BadResponse(f"{endpoint}: {field} is {text}, before 1970")
    return min(nanos, FOREVER)


def unix_seconds(value: int, endpoint: str, field: str) -> Nanos:
    """Nanoseconds of a count of seconds since 1970."""
    if not 0 < value < _LAST_SECOND:
        raise BadResponse(f"{endpoint}: {field} is {value}, not a time in seconds since 1970")
    return value * SECOND


def unix_millis(text: str, endpoint: str, field: str) -> Nanos:
    """Nanoseconds of a count of milliseconds since 1970, as text of 13 digits (from 2001 on)."""
    if not (text.isascii() and text.isdecimal() and len(text) == 13 and int(text) < _LAST_SECOND * 1000):
        raise BadResponse(f"{endpoint}: {field} {text[:40]!r} is not in milliseconds")
    return int(text) * 1_000_000
