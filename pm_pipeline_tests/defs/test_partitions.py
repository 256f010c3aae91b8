from datetime import UTC, datetime
from itertools import pairwise

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.defs import partitions
from pm_pipeline.defs.partitions import DAYS, MARKETS, contiguous_ranges, register


@pytest.mark.parametrize(
    ("wanted", "ranges"),
    [
        ("", []),
        ("a", [("a", "a")]),
        ("abc", [("a", "c")]),
        ("abde", [("a", "b"), ("d", "e")]),
        ("ace", [("a", "a"), ("c", "c"), ("e", "e")]),
        ("z", []),
    ],
)
def test_ranges_are_the_runs_of_wanted_keys(wanted: str, ranges: list[tuple[str, str]]) -> None:
    assert contiguous_ranges(list("abcde"), set(wanted)) == ranges


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40))
def test_ranges_cover_exactly_what_is_wanted(chosen: list[bool]) -> None:
    ordered = [f"k{number:02}" for number in range(len(chosen))]
    wanted = {key for key, is_wanted in zip(ordered, chosen, strict=True) if is_wanted}
    ranges = contiguous_ranges(ordered, wanted)
    covered = [
        key for first, last in ranges for key in ordered[ordered.index(first) : ordered.index(last) + 1]
    ]
    assert covered == sorted(wanted)
    between = [ordered.index(later[0]) - ordered.index(former[1]) for former, later in pairwise(ranges)]
    assert all(gap > 1 for gap in between)


def test_new_keys_are_registered_once_and_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "CHUNK", 2)
    with dg.DagsterInstance.ephemeral() as instance:
        assert register(instance, MARKETS, ["m:c", "m:a", "m:b", "m:a"]) == 3
        assert register(instance, MARKETS, ["m:d", "m:a"]) == 1
        assert list(instance.get_dynamic_partitions("markets")) == ["m:a", "m:b", "m:c", "m:d"]


def test_the_days_end_today() -> None:
    with dg.partition_loading_context(datetime(2026, 6, 30, 0, 20, tzinfo=UTC)):
        assert DAYS.get_last_partition_key() == "2026-06-30"
        assert DAYS.get_first_partition_key() == "2021-01-01"
