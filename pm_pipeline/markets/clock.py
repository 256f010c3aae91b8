"""Times are UTC. In arrays they are int64 nanoseconds since 1970, in tables microsecond timestamps."""

from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias

from pm_pipeline.errors import PipelineError

Nanos: TypeAlias = int
"""Nanoseconds since 1970-01-01T00:00:00Z."""

SECOND: Final[Nanos] = 1_000_000_000
MINUTE: Final[Nanos] = 60 * SECOND
HOUR: Final[Nanos] = 3600 * SECOND
DAY: Final[Nanos] = 86_400 * SECOND
FOREVER: Final[Nanos] = 2**63 - 1
"""Later than any time that occurs; stands for "no end"."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TimeError(PipelineError):
    """Text is not a time, or a time lacks its zone."""


def to_nanos(moment: datetime) -> Nanos:
    """Nanoseconds of an aware datetime. A naive one is refused: guessing a zone invents knowledge."""
    if moment.tzinfo is None:
        raise TimeError(
            f"{moment.isoformat()} has no time zone; write it as UTC, for example {moment.isoformat()}Z"
        )
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def to_datetime(nanos: Nanos) -> datetime:
    """The UTC datetime of a nanosecond count, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=nanos // 1000)


def parse_time(text: str) -> Nanos:
    """Read an ISO 8601 time with a zone, also the forms ``2026-07-24 00:00:16+00`` and ``…T00:00:16Z``.

    More than six decimals of a second are cut. A date alone means its midnight in UTC.
    """
    try:
        if len(text) == 10 and text[4] == text[7] == "-":
            return to_nanos(datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC))
        return to_nanos(datetime.fromisoformat(text))
    except ValueError as error:
        raise TimeError(f"{text!r} is not an ISO 8601 time such as 2026-07-24T00:00:16Z") from error


def format_time(nanos: Nanos) -> str:
    """``2026-07-24T00:00:16Z``, with a fraction only where there is one."""
    return to_datetime(nanos).isoformat().replace("+00:00", "Z")


def day_of(nanos: Nanos) -> str:
    """The UTC day as ``YYYY-MM-DD``, the partition key of daily tables."""
    return to_datetime(nanos).date().isoformat()
