from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.clock import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    TimeError,
    day_of,
    format_time,
    parse_time,
    to_datetime,
    to_nanos,
)

SINCE_1970 = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=80_000))
MOMENTS = SINCE_1970.map(lambda age: datetime(1970, 1, 1, tzinfo=UTC) + age)


def test_the_units_of_time_fit_into_each_other() -> None:
    assert (MINUTE, HOUR, DAY) == (60 * SECOND, 60 * MINUTE, 24 * HOUR)


@given(MOMENTS)
def test_a_moment_survives_the_way_through_nanoseconds(moment: datetime) -> None:
    assert to_datetime(to_nanos(moment)) == moment


@given(MOMENTS)
def test_a_formatted_time_is_read_back(moment: datetime) -> None:
    assert parse_time(format_time(to_nanos(moment))) == to_nanos(moment)


def test_another_zone_names_the_same_moment() -> None:
    eastern = timezone(timedelta(hours=-4))
    assert to_nanos(datetime(2026, 7, 10, 20, tzinfo=eastern)) == parse_time("2026-07-11T00:00:00Z")


def test_a_naive_time_is_refused_with_the_remedy() -> None:
    with pytest.raises(TimeError, match="2026-07-10T20:00:00Z"):
        to_nanos(datetime(2026, 7, 10, 20))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-07-24T00:00:16Z", "2026-07-24T00:00:16Z"),
        ("2026-07-24 00:00:16+00", "2026-07-24T00:00:16Z"),
        ("2026-07-24T02:00:16+02:00", "2026-07-24T00:00:16Z"),
        ("2026-07-24", "2026-07-24T00:00:00Z"),
        ("2026-05-10T14:24:16.213635Z", "2026-05-10T14:24:16.213635Z"),
        ("2026-05-10T14:24:16.213635999Z", "2026-05-10T14:24:16.213635Z"),
    ],
)
def test_the_venues_ways_of_writing_a_time_are_read(text: str, iso: str) -> None:
    assert format_time(parse_time(text)) == iso


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-02-30", "1780000000", "20260724ab"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(TimeError):
        parse_time(text)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(TimeError, match="no time zone"):
        parse_time("2026-07-24T00:00:16")


def test_the_day_changes_at_midnight_in_utc() -> None:
    midnight = parse_time("2026-07-24")
    assert (day_of(midnight - 1), day_of(midnight)) == ("2026-07-23", "2026-07-24")
