"""How new rows join the stored ones."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.clock import HOUR, MINUTE, SECOND, Nanos, parse_time
from pm_pipeline.sources.adapter import to_batch
from pm_pipeline.sources.resume import (
    OVERLAP,
    ConflictError,
    join_prices,
    join_trades,
    last_points,
    prices_since,
    trades_since,
)
from pm_pipeline.warehouse.schema import table

T = parse_time("2026-06-01T00:00:00Z")


def prices(*points: tuple[float, int], outcome: int = 0, seconds: int = 60, source: str = "clob") -> pa.Table:
    """Mids (in thousandths) at so many hours."""
    rows = [
        {
            "market_key": "polymarket:1",
            "outcome_index": outcome,
            "ts": T + round(hours * HOUR),
            "known_at": T + round(hours * HOUR),
            "ingested_at": T,
            "mid": mid * 1000,
            "resolution_s": seconds,
            "source": source,
        }
        for hours, mid in points
    ]
    return pa.Table.from_batches([to_batch("market_data.prices", rows)])


def shown(rows: pa.Table) -> list[tuple[int, float, int, int]]:
    found = [
        (
            r["outcome_index"],
            (int(r["ts"].timestamp()) * SECOND - T) / HOUR,
            r["mid"] // 1000,
            r["resolution_s"],
        )
        for r in rows.to_pylist()
    ]
    return sorted(found)


def joined(former: pa.Table, new: pa.Table) -> list[tuple[int, float, int, int]]:
    return shown(join_prices(former, new, prices_since(former)))


def test_each_outcome_is_read_again_from_a_little_before_its_last_price() -> None:
    stored = pa.concat_tables([prices((1, 5), (30, 5)), prices((8, 5), outcome=1)])
    assert last_points(stored) == {0: T + 30 * HOUR, 1: T + 8 * HOUR}
    assert prices_since(stored) == {0: T + 30 * HOUR - OVERLAP, 1: T + 8 * HOUR - OVERLAP}


@pytest.mark.parametrize(
    ("stored", "new", "expected"),
    [
        # what is new comes after
        (prices((1, 5), (2, 6)), prices((2, 6), (3, 7)), [(1, 5, 60), (2, 6, 60), (3, 7, 60)]),
        # nothing new
        (prices((1, 5), (2, 6)), prices((1, 5), (2, 6)), [(1, 5, 60), (2, 6, 60)]),
        (prices((1, 5)), prices(), [(1, 5, 60)]),
        # what the venue saw late is added, also within the overlap; not before it
        (prices((1, 5), (3, 6)), prices((2, 4), (3, 6)), [(1, 5, 60), (2, 4, 60), (3, 6, 60)]),
        (prices((1, 5), (9, 6)), prices((2, 4), (9, 6)), [(1, 5, 60), (9, 6, 60)]),
        # what the venue has forgotten stays
        (prices((1, 5), (2, 6), (3, 7)), prices((3, 7)), [(1, 5, 60), (2, 6, 60), (3, 7, 60)]),
        # coarser points never come between finer ones, only after them
        (
            prices((1, 5), (2, 6)),
            prices((1.5, 9), (2.5, 8), seconds=300),
            [(1, 5, 60), (2, 6, 60), (2.5, 8, 300)],
        ),
        # another source goes on, and is not mixed into what one told
        (
            prices((1, 5), (2, 6)),
            prices((1.5, 9), (2.5, 8), source="data"),
            [(1, 5, 60), (2, 6, 60), (2.5, 8, 60)],
        ),
        # coarse points may be chosen anew from the same observations
        (
            prices((1, 5), (4, 6), seconds=10_800),
            prices((2, 5), (5, 6), seconds=10_800),
            [(1, 5, 10_800), (2, 5, 10_800), (4, 6, 10_800), (5, 6, 10_800)],
        ),
        # what is left of a first hour months later is one observation from after it
        (
            prices((1, 5), (1.5, 6)),
            prices((3, 7), (6, 8), seconds=10_800),
            [(1, 5, 60), (1.5, 6, 60), (3, 7, 10_800), (6, 8, 10_800)],
        ),
        (
            prices((1, 5), seconds=10_800),
            prices((2, 7), (6, 8), seconds=10_800),
            [(1, 5, 10_800), (2, 7, 10_800), (6, 8, 10_800)],
        ),
    ],
)  # fmt: skip
def test_new_prices_join_the_stored_ones(stored: pa.Table, new: pa.Table, expected: list[Any]) -> None:
    assert [row[1:] for row in joined(stored, new)] == expected


def test_outcomes_are_joined_each_on_its_own() -> None:
    stored = pa.concat_tables([prices((1, 5), (9, 5)), prices((1, 4), outcome=1)])
    new = pa.concat_tables([prices((9, 5), (10, 6)), prices((1, 4), (2, 3), outcome=1)])
    assert [row for row in joined(stored, new) if row[0] == 1] == [(1, 1, 4, 60), (1, 2, 3, 60)]
    assert [row for row in joined(prices((9, 5)), new) if row[0] == 1] == [(1, 1, 4, 60), (1, 2, 3, 60)]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (prices((1, 5), (2, 7), (3, 7)), "at 2026-06-01T02:00:00Z were 6000/-/-, and are now 7000/-/-"),
        (prices((1.5, 5), (3, 7)), "of the 2 prices stored of 2026-05-31T20:00:00Z to .* none came again"),
        (prices((3, 7)), "none came again"),
    ],
)
def test_a_source_that_changes_its_past_is_not_believed(new: pa.Table, words: str) -> None:
    with pytest.raises(ConflictError, match=words):
        joined(prices((1, 5), (2, 6)), new)


minutes = st.sets(st.integers(0, 600), min_size=1, max_size=40)


@given(seen=minutes, cut=st.integers(0, 600))
def test_two_readings_amount_to_one(seen: set[int], cut: int) -> None:
    """However a history is cut, the joined readings are what one reading of it all gives."""

    def read(start: Nanos, end: int) -> pa.Table:
        points = [(m / 60, m % 9 + 1) for m in sorted(seen) if m <= end and T + m * MINUTE >= start]
        return prices(*points)

    former = read(0, cut)
    if not former.num_rows:
        return
    since = prices_since(former)
    assert shown(join_prices(former, read(since[0], 600), since)) == shown(read(0, 600))


def trades(*rows: tuple[float, int, int], at: Nanos = T) -> pa.Table:
    """Sizes and ordinals at so many hours."""
    made = [
        {
            "market_key": "polymarket:1", "outcome_index": 0, "ts": T + round(hours * HOUR),
            "known_at": T + round(hours * HOUR) + SECOND, "ingested_at": at, "trade_id": "0x",
            "ordinal": ordinal, "price": 500_000, "size": size, "side": "buy",
            "side_evidence": "feed", "is_block": False,
        }
        for hours, size, ordinal in rows
    ]  # fmt: skip
    return pa.Table.from_batches([to_batch("market_data.trades", made)])


def test_new_trades_take_the_place_of_the_stored_ones_of_their_time() -> None:
    stored = trades((0, 1, 0), (9, 2, 0), (9, 2, 1))
    since = trades_since(stored)
    assert since == T + 3 * HOUR
    new = trades((4, 7, 0), (9, 2, 0), (9, 2, 1), (9, 2, 2), (10, 5, 0), at=T + DAY_LATER)
    found = join_trades(stored, new, since).sort_by([("ts", "ascending"), ("ordinal", "ascending")])
    assert found["size"].to_pylist() == [1, 7, 2, 2, 2, 5]


DAY_LATER = 24 * HOUR


@pytest.mark.parametrize("new", [trades((9, 2, 0)), trades((9, 2, 0), (9, 3, 0)), trades()])
def test_a_stored_trade_that_does_not_come_again_is_a_conflict(new: pa.Table) -> None:
    stored = trades((0, 1, 0), (9, 2, 0), (9, 2, 1))
    with pytest.raises(
        ConflictError, match=r"of 2 trades stored since 2026-06-01T03:00:00Z, [12] did not come"
    ):
        join_trades(stored, new, trades_since(stored))


def test_the_joined_rows_are_rows_of_their_tables() -> None:
    assert (
        join_prices(prices((1, 5)), prices((2, 5), (1, 5)), {0: T}).schema
        == table("market_data.prices").arrow
    )
    assert join_trades(trades((1, 5, 0)), trades((1, 5, 0)), T).schema == table("market_data.trades").arrow
