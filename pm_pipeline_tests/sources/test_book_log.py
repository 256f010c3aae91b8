"""What a reading adds to the stored log of a book, and that none takes anything away."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.sources.adapter import to_batch
from pm_pipeline.sources.book_log import BOOKS, Seam, ShorterAnswerError, join, join_reading
from pm_pipeline.warehouse.lake import Lake

KEY = "polymarket:1"


def rows_of(script: str) -> list[dict[str, Any]]:
    """Rows from a script of ``seq:kind``: ``r3`` is a book of 3 levels, ``l`` a change, ``g`` a gap.

    ``7:r3@5`` was true at 5 and known at 7, which is also its number; without ``@`` it was true when known.
    """
    rows = []
    for word in script.split():
        seq, _, what = word.partition(":")
        what, _, ts = what.partition("@")
        common = {
            "market_key": KEY,
            "ts": int(ts or seq) * 1000,
            "known_at": int(seq) * 1000,
            "ingested_at": int(seq) * 1000,
            "seq": int(seq),
        }
        level = {**common, "kind": "level", "side": "bid", "size": 1}
        if what[0] == "r":
            rows.append({**common, "kind": "reset"})
            rows += [{**level, "price": n + 1} for n in range(int(what[1:]))]
        else:
            rows.append({**level, "price": 1} if what == "l" else {**common, "kind": "gap"})
    return rows


def table_of(script: str) -> pa.Table:
    return pa.Table.from_batches([to_batch(BOOKS, rows_of(script))])


def shown(lake: Lake) -> str:
    """The stored log as a script."""
    found: dict[int, list[str]] = {}
    for row in lake.read(BOOKS, KEY).to_pylist():
        found.setdefault(row["seq"], []).append(row["kind"])
    return " ".join(
        f"{seq}:"
        + (f"r{kinds.count('level')}" if kinds[0] == "reset" else kinds[0][0])
        + "+g" * ("gap" in kinds[1:])
        for seq, kinds in found.items()
    )


def lake_at(path: Path, former: str = "") -> Lake:
    lake = Lake(path, durability="rename")
    if former:
        lake.write(BOOKS, KEY, table_of(former), meta={"asked_to": "1"})
    return lake


@pytest.mark.parametrize(
    ("former", "reading", "then"),
    [
        ("", "5:r2", "5:r2"),
        ("5:r3", "9:r1", "5:r3 9:r1"),  # fewer levels than before: another book, not a loss
        ("5:r3", "9:r0", "5:r3 9:r0"),  # an empty book is one
        ("5:r3", "", "5:r3"),  # no book any more
        ("5:r3@4", "9:r3@4", "5:r3"),  # the same book again
        ("5:r3@4", "9:r2@4", "5:r3 9:r2"),  # changed within the same millisecond
        ("5:r3@4", "9:r2@3", "5:r3"),  # an older one, from a slow server
        ("5:r3 7:l", "20:r3", "5:r3 7:l 8:g 20:r3"),  # a stream that ended: nobody knows what came between
        ("5:r3 7:l 9:g", "20:r3", "5:r3 7:l 9:g 20:r3"),
        ("5:r3 7:l", "8:r3 9:l", "5:r3 7:l+g 8:r3 9:l"),
        ("5:r3 7:l", "5:r3 7:l", "5:r3 7:l"),  # a replay
        ("5:r3 7:l", "5:r3 7:l 9:l", "5:r3 7:l 9:l"),
        ("5:r3 7:l 8:g 20:r3", "5:r3 7:l 20:r3", "5:r3 7:l 20:r3"),  # the whole of what had a gap
        ("5:r3 7:l", "3:r3 5:r3 7:l", "3:r3 5:r3 7:l"),
        ("5:r3 7:l 20:r1", "5:r3 7:l 9:l", "5:r3 7:l 9:l 10:g 20:r1"),  # what was read later stays
        ("1:r1 5:r3 7:l", "5:r3 7:l 9:l", "1:r1 5:r3 7:l 9:l"),  # the source forgot its beginning
        ("20:r1 21:l", "5:r3 6:l", "5:r3 6:l 7:g 20:r1 21:l"),  # an earlier hour that is imported later
        ("20:r1 21:l 22:l", "20:r1 21:l", "20:r1 21:l+g 22:l"),  # a change that nobody can place
    ],
)
def test_a_reading_is_joined_behind_what_is_stored(
    former: str, reading: str, then: str, tmp_path: Path
) -> None:
    lake = lake_at(tmp_path, former)
    span = join_reading(lake, KEY, table_of(reading), {"asked_to": "2"})
    assert shown(lake) == then
    assert span.rows == lake.read(BOOKS, KEY).num_rows
    info = lake.info(BOOKS, KEY)
    assert info is not None
    assert info.meta == {"asked_to": "2"}


@pytest.mark.parametrize("reading", ["5:r3 9:l", "5:r2 7:l 9:l"])
def test_a_replay_that_lost_messages_or_levels_is_refused(reading: str, tmp_path: Path) -> None:
    lake = lake_at(tmp_path, "5:r3 7:l 9:l")
    before = lake.read(BOOKS, KEY)
    with pytest.raises(ShorterAnswerError, match="are already in the lake; they were kept"):
        join_reading(lake, KEY, table_of(reading))
    assert lake.read(BOOKS, KEY).equals(before)


def test_a_stream_goes_on_without_a_gap_where_its_writer_says_so(tmp_path: Path) -> None:
    lake = lake_at(tmp_path, "5:r3 7:l")
    batches = table_of("9:l 11:r2").to_batches()
    join(lake, KEY, lambda: iter(batches), seam=Seam.CONTINUOUS)
    assert shown(lake) == "5:r3 7:l 9:l 11:r2"
    info = lake.info(BOOKS, KEY)
    assert info is not None
    assert info.meta == {"asked_to": "1"}


@pytest.mark.parametrize(
    ("stored", "more", "then"),
    [
        ("5:r3 7:l", "9:l 11:r2", "5:r3 7:l 9:l 11:r2"),
        ("5:r3 7:l 8:g 10:r3", "9:l 11:l", "5:r3 7:l 9:l 11:l"),  # a reading that came in between
        ("5:r3 7:l 8:g 10:r3", "12:l", "5:r3 7:l 12:l"),
        ("5:r3 7:l 8:g 10:r3", "11:g 12:r1", "5:r3 7:l 8:g 10:r3 11:g 12:r1"),  # nobody recorded then
    ],
)
def test_a_writer_goes_on_where_he_left_off(stored: str, more: str, then: str, tmp_path: Path) -> None:
    lake = lake_at(tmp_path, stored)
    batches = table_of(more).to_batches()
    join(lake, KEY, lambda: iter(batches), seam=Seam.CONTINUOUS, since=7)
    assert shown(lake) == then


def test_nothing_is_written_for_a_market_of_which_nothing_came(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    assert join(lake, KEY, lambda: iter(()), seam=Seam.CONTINUOUS).rows == 0
    assert not lake.exists(BOOKS, KEY)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True), max_size=5))
def test_no_order_of_readings_loses_a_message_outside_of_the_time_they_cover(
    tmp_path_factory: pytest.TempPathFactory, readings: Iterable[list[int]]
) -> None:
    lake = lake_at(tmp_path_factory.mktemp("lake"))
    held: set[int] = set()
    for moments in readings:
        reading = sorted(moments)
        inside = {seq for seq in held if reading[0] <= seq <= reading[-1]}
        try:
            join_reading(lake, KEY, table_of(" ".join(f"{seq}:r1" for seq in reading)))
        except ShorterAnswerError:
            assert len(inside) > len(reading)
            continue
        stored = {row["seq"] for row in lake.read(BOOKS, KEY).to_pylist()}
        assert held - inside <= stored
        assert stored <= held | set(reading)
        held = stored


def test_two_who_add_to_a_log_at_once_both_find_their_rows_there(tmp_path: Path) -> None:
    """A book that was shown is shown once: the one that comes second waits for the first."""
    lake = lake_at(tmp_path, "1:r1")
    other = Thread(target=lambda: join_reading(Lake(tmp_path, durability="rename"), KEY, table_of("5:r2")))
    calls = iter(range(100))

    def pieces() -> Iterator[pa.RecordBatch]:
        if next(calls) == 1:  # the rows before are written already
            other.start()
            other.join(timeout=0.3)
        yield from table_of("9:r3").to_batches()

    join(lake, KEY, pieces, seam=Seam.BROKEN)
    other.join()
    assert shown(lake) == "1:r1 5:r2 9:r3"
