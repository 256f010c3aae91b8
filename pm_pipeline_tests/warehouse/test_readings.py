"""What was known at a time is the last reading at or before it, and never a later one."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.clock import DAY, FOREVER, SECOND, day_of, parse_time
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.warehouse import to_table
from pm_pipeline.warehouse.holdings import differences, net_contracts
from pm_pipeline.warehouse.lake import Lake, MissingPartitionError
from pm_pipeline.warehouse.leaders import LEADERBOARD, leaders_known_at
from pm_pipeline.warehouse.readings import (
    ACTIVITY,
    HOLDERS,
    POSITIONS,
    Reading,
    activity_known_at,
    as_meta,
    holders_known_at,
    positions_known_at,
    readings_of,
)
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.warehouse.builders import KEY, lake_at

WALLET = "0x" + "1a" * 20
T = parse_time("2026-08-01T12:00:00Z")
CONDITION = "0x" + "ab" * 32


def rows_of(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    base: dict[str, Any] = {
        "wallet": WALLET, "market_key": KEY, "outcome_index": 0, "condition_id": CONDITION, "token_id": "1",
        "size": 1_000_000, "status": "open", "source": "test", "rank": 1, "period": "week", "ingested_at": T,
        "ranked_by": "pnl", "pnl": 5, "kind": "trade", "side": "buy", "tx": "0xt", "ordinal": 0,
    }  # fmt: skip
    return to_table(
        name,
        {c.name: [(base | row).get(c.name) for row in rows] for c in table(name).columns},
    )


def holdings(tmp_path: Path, readings: list[Reading]) -> Lake:
    """Positions and holders of these readings; the sizes of a reading tell which one it was."""
    lake = lake_at(tmp_path)
    told = [
        {"ts": r.ts, "known_at": r.known_at, "size": n, "token_id": str(k), "rank": k + 1}
        for n, r in enumerate(readings)
        for k in range(r.rows)
    ]
    lake.write(POSITIONS, WALLET, rows_of(POSITIONS, told), meta=as_meta(readings))
    lake.write(HOLDERS, KEY, rows_of(HOLDERS, told), meta=as_meta(readings))
    return lake


def test_a_reading_is_known_from_its_last_answer_on(tmp_path: Path) -> None:
    lake = holdings(tmp_path, [Reading(T, T + SECOND, 2), Reading(T + DAY, T + DAY + SECOND, 1)])
    key = MarketKey.parse(KEY)
    for t, sizes in (
        (T, None),
        (T + SECOND - 1, None),
        (T + SECOND, [0, 0]),
        (T + DAY, [0, 0]),
        (T + DAY + SECOND, [1]),
        (FOREVER, [1]),
    ):
        for found in (positions_known_at(lake, WALLET, t), holders_known_at(lake, key, t)):
            assert (None if found is None else found["size"].to_pylist()) == sizes


def test_an_empty_reading_is_what_was_known_and_no_reading_is_nothing(tmp_path: Path) -> None:
    lake = holdings(tmp_path, [Reading(T, T, 1), Reading(T + DAY, T + DAY, 0)])
    later = positions_known_at(lake, WALLET, T + 2 * DAY)
    assert later is not None
    assert later.num_rows == 0
    assert positions_known_at(lake, "0x" + "2b" * 20, T) is None
    assert readings_of(lake, POSITIONS, "0x" + "2b" * 20) == []


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)), max_size=6, unique_by=lambda each: each[0]),
    st.lists(st.integers(-1, 70), min_size=2, max_size=2),
)
def test_no_reading_is_seen_before_it_was_known_and_views_nest(
    tmp_path_factory: pytest.TempPathFactory, looks: list[tuple[int, int]], times: list[int]
) -> None:
    readings = [Reading(T + ts * SECOND, T + (ts + delay) * SECOND, 1) for ts, delay in looks]
    lake = holdings(tmp_path_factory.mktemp("lake"), readings)
    seen = []
    for t in sorted(times):
        found = positions_known_at(lake, WALLET, T + t * SECOND)
        known = [reading for reading in readings if reading.known_at <= T + t * SECOND]
        assert (found is None) == (not known)
        if found is not None:
            assert readings[found["size"][0].as_py()] == max(known)
        seen.append(max(known).ts if known else -1)
    assert seen == sorted(seen)


# leaderboards


def board(tmp_path: Path, lists: list[dict[str, Any]]) -> Lake:
    lake = lake_at(tmp_path)
    days: dict[str, list[dict[str, Any]]] = {}
    for each in lists:
        days.setdefault(day_of(each["ts"]), []).append({"known_at": each["ts"], **each})
    for day, rows in days.items():
        lake.write(LEADERBOARD, day, rows_of(LEADERBOARD, rows))
    return lake


def test_the_leaders_known_are_those_of_the_last_reading_and_never_todays_for_yesterday(
    tmp_path: Path,
) -> None:
    first, second = "0x" + "01" * 20, "0x" + "02" * 20
    lake = board(
        tmp_path,
        [
            {"ts": T, "wallet": first},
            {"ts": T, "wallet": second, "rank": 2},
            {"ts": T + SECOND, "wallet": second, "ranked_by": "volume", "volume": 3},
            {"ts": T + DAY, "known_at": T + DAY + SECOND, "wallet": second},
        ],
    )
    for t, wallets in (
        (T - 1, None),
        (T, [first, second]),
        (T + DAY - SECOND, [first, second]),
        (T + DAY, [first, second]),
        (T + DAY + SECOND, [second]),
        (T + 9 * DAY, [second]),
        (FOREVER, [second]),
    ):
        found = leaders_known_at(lake, t, "week", "pnl")
        assert (None if found is None else found["wallet"].to_pylist()) == wallets
    assert leaders_known_at(lake, T + DAY, "day", "pnl") is None
    by_volume = leaders_known_at(lake, T + DAY, "week", "volume")
    assert by_volume is not None
    assert by_volume["wallet"].to_pylist() == [second]
    with pytest.raises(ValueError, match="year"):
        leaders_known_at(lake, T, "year", "pnl")


# activity


def test_an_act_is_known_from_its_known_at_on(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    told = [{"ts": T + n * SECOND, "known_at": T + (n + 5) * SECOND} for n in range(3)]
    lake.write(ACTIVITY, WALLET, rows_of(ACTIVITY, told))
    assert [activity_known_at(lake, WALLET, T + n * SECOND).num_rows for n in range(9)] == [
        0, 0, 0, 0, 0, 1, 2, 3, 3,
    ]  # fmt: skip
    with pytest.raises(MissingPartitionError):
        activity_known_at(lake, "0x" + "2b" * 20, T)


# whether positions follow from activity


def acts(*rows: dict[str, Any]) -> pa.Table:
    return rows_of(ACTIVITY, [{"ts": T, "known_at": T, **row} for row in rows])


@pytest.mark.parametrize(
    ("rows", "left"),
    [
        ([{"size": 5}, {"size": 2, "side": "sell"}], {"1": 3}),
        ([{"kind": "split", "token_id": None, "side": None, "size": 4}], {"1": 4, "2": 4}),
        ([{"size": 5}, {"kind": "merge", "token_id": None, "side": None, "size": 2}], {"1": 3, "2": -2}),
        ([{"size": 5}, {"kind": "redeem", "side": None, "size": 5}], {"1": 0}),
        ([{"size": 5}, {"kind": "redeem", "token_id": None, "side": None, "size": 5}], {"1": 0, "2": 0}),
        ([{"size": 5}, {"kind": "conversion", "token_id": None, "side": None}], {}),
        ([{"kind": "reward", "token_id": None, "condition_id": None, "side": None}], {}),
    ],
)
def test_contracts_that_activity_left(rows: list[dict[str, Any]], left: dict[str, int]) -> None:
    assert net_contracts(acts(*rows), {CONDITION: {"1", "2"}}) == left


def test_a_difference_beyond_dust_is_told_with_both_values() -> None:
    held = rows_of(POSITIONS, [{"ts": T, "known_at": T, "size": 4_000_000}])
    assert list(differences(acts({"size": 4_100_000}), held)) == []
    (found,) = differences(acts({"size": 4_100_001}), held)
    assert str(found) == "token 1…: 4.100001 by activity, 4.000000 by position"
    untold, gone = differences(acts({"size": 4_000_000, "token_id": "2"}), held)
    assert (untold.by_activity, untold.by_position) == (0, 4_000_000)
    assert (gone.by_activity, gone.by_position) == (4_000_000, 0)


def test_a_position_of_which_no_activity_tells_is_a_difference_unless_a_conversion_may_have_made_it() -> None:
    held = rows_of(POSITIONS, [{"ts": T, "known_at": T, "size": 4_000_000}])
    (found,) = differences(acts(), held)
    assert str(found) == "token 1…: 0.000000 by activity, 4.000000 by position"
    elsewhere = {"kind": "conversion", "condition_id": "0x" + "cd" * 32, "token_id": None, "side": None}
    assert list(differences(acts(elsewhere), held)) == []
