"""A stream read from the lake is the stream of the same rows held in memory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pm_pipeline.engine.kernel import Session, StoredStream, Stream
from pm_pipeline.engine.kernel.stream import Era
from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.markets import TickRange
from pm_pipeline.sources.sandbox.plans import TAPERED
from pm_pipeline.warehouse import Lake, MissingPartitionError, StorageError, to_table
from pm_pipeline.warehouse.arrays import BookLog, book_log_from, trades_from
from pm_pipeline.warehouse.records import time_array
from pm_pipeline_tests.engine.kernel.scripts import CENTS
from pm_pipeline_tests.engine.kernel.test_recorded import SESSIONS, log_of, needs_sessions
from pm_pipeline_tests.warehouse.builders import KEY, T0, at, book_events, event, lake_at, level, trades

BOOK, TRADES = "market_data.book_events", "market_data.trades"
ERAS: list[Era] = [(0, CENTS), (at(6), (TickRange(5_000, 995_000, 5_000),)), (at(100), CENTS)]

LOG: list[dict[str, Any]] = [
    level(0, "bid", 40, 1, ts=0),
    event(1, "reset", ts=1),
    level(1, "bid", 45, 100, ts=1),
    level(1, "ask", 48, 50, ts=1),
    level(1, "ask", 50, 50, ts=2),  # the clock moves within a message: it ends there
    level(2, "bid", 46, 10, ts=3),
    level(3, "bid", 46, 0, ts=2),  # and falls: held
    event(4, "gap", ts=4),
    event(5, "reset", ts=6),
    level(5, "bid", 44, 7, ts=6),
    level(5, "ask", 47, 7, ts=6),
    event(6, "reset", ts=6),
    event(7, "gap", ts=6),
    event(8, "reset", ts=7),
    level(8, "ask", 100, 9, ts=7),
]
TAPE: list[dict[str, Any]] = [
    {"ts": 0, "price": 450_000},
    {"ts": 1, "price": 460_000, "known_at": 9, "side": "sell"},
    {"ts": 1, "price": 470_000, "known_at": 8},
    {"ts": 1, "price": 333_000, "known_at": 8, "is_block": True},
    {"ts": 3, "price": 520_000, "known_at": 9, "outcome_index": 1},
    {"ts": 6, "price": 444_000, "size": 0},
    {"ts": 6, "price": 455_500, "known_at": 9, "outcome_index": 1, "side": "sell"},
    {"ts": 50, "price": 450_000, "known_at": 50},
]


def stored(
    folder: Path,
    log: Sequence[dict[str, Any]] | pa.Table,
    tape: Sequence[dict[str, Any]] = (),
    group: int = 3,
) -> Lake:
    """A lake with this book and these trades, in row groups of so many rows."""
    lake = lake_at(folder)
    with patch("pm_pipeline.warehouse.partition_file.ROW_GROUP", group):
        lake.write(BOOK, KEY, log if isinstance(log, pa.Table) else book_events(log))
        lake.write(TRADES, KEY, trades(tape))
    return lake


def in_memory(lake: Lake, eras: Sequence[Era] = ERAS, **terms: Any) -> Stream:
    log, tape = book_log_from(lake.read(BOOK, KEY)), trades_from(lake.read(TRADES, KEY))
    return Stream.of(log, eras, trades=tape, **terms)


def joined(found: StoredStream) -> dict[str, list[int]]:
    pieces = list(found.pieces())
    names = ("ts", "known_at", "cell", "size")
    columns = {name: [int(x) for piece in pieces for x in getattr(piece, name)] for name in names}
    starts = np.cumsum([0, *(len(piece) for piece in pieces)]).tolist()
    columns["controls"] = [
        int(row) + start for piece, start in zip(pieces, starts, strict=False) for row in piece.controls
    ]
    columns["price"] = found.grid.prices.tolist()
    return columns


def columns_of(whole: Stream) -> dict[str, list[int]]:
    names = ("ts", "known_at", "cell", "size", "controls")
    return {name: getattr(whole, name).tolist() for name in names} | {"price": whole.grid.prices.tolist()}


@pytest.mark.parametrize("group", [1, 2, 3, 5, 100])
def test_every_split_of_a_log_gives_the_same_rows(tmp_path: Path, group: int) -> None:
    lake = stored(tmp_path, LOG, TAPE, group)
    whole = columns_of(in_memory(lake))
    assert len(whole["ts"]) == 27
    for piece in range(1, 30):
        found = StoredStream.of(lake, KEY, ERAS, known=True, piece=piece)
        assert joined(found) == whole
        assert joined(found) == whole  # and it can be read again
        assert [len(p) for p in found.pieces()][:-1] == [piece] * ((27 - 1) // piece)


def test_known_at_is_read_only_where_it_is_asked_for(tmp_path: Path) -> None:
    lake = stored(tmp_path, LOG, TAPE)
    whole = columns_of(in_memory(lake))
    found = joined(StoredStream.of(lake, KEY, ERAS))
    assert found.pop("known_at") == []
    assert found == {name: column for name, column in whole.items() if name != "known_at"}


def test_without_trades_there_is_the_book_alone(tmp_path: Path) -> None:
    lake = stored(tmp_path, LOG, TAPE)
    whole = Stream.of(book_log_from(lake.read(BOOK, KEY)), ERAS)
    assert joined(StoredStream.of(lake, KEY, ERAS, trades=False, known=True)) == columns_of(whole)


@pytest.mark.parametrize("group", [2, 100])
def test_by_known_at_what_is_in_order_is_read_as_it_is(tmp_path: Path, group: int) -> None:
    log = [row | {"known_at": n} for n, row in enumerate(LOG)]
    tape = [row | {"known_at": 3 * n // 2} for n, row in enumerate(TAPE)]
    lake = stored(tmp_path, log, tape, group)
    whole = columns_of(in_memory(lake, clock="known_at"))
    for piece in (1, 4, 100):
        assert joined(StoredStream.of(lake, KEY, ERAS, clock="known_at", piece=piece)) == whole


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["levels", "levels", "levels", "snapshot", "gap"]),
        st.integers(-2, 3),
        st.lists(
            st.tuples(st.sampled_from(["bid", "ask"]), st.integers(0, 100), st.integers(0, 9)), max_size=4
        ),
        st.integers(0, 2),
    ),
    max_size=20,
)
PRINTS = st.lists(
    st.fixed_dictionaries(
        {
            "ts": st.integers(0, 25),
            "price": st.integers(0, 1000).map(lambda mills: mills * 1000),
            "known_at": st.integers(25, 28),
            "size": st.integers(0, 5),
            "side": st.sampled_from(["buy", "sell"]),
            "outcome_index": st.integers(0, 1),
            "is_block": st.booleans(),
        }
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, tape=PRINTS, group=st.integers(1, 9), piece=st.integers(1, 40))
def test_any_log_is_read_as_it_is_played_from_memory(
    tmp_path: Path, events: list[Any], tape: list[dict[str, Any]], group: int, piece: int
) -> None:
    rows: list[dict[str, Any]] = []
    ts = 0
    for seq, (kind, step, levels, moves) in enumerate(events):
        ts = max(0, ts + step)
        if kind == "snapshot":
            rows.append(event(seq, "reset", ts))
        if kind == "gap":
            rows.append(event(seq, "gap", ts))
        else:
            rows += [
                level(seq, side, price, size, ts=ts + n * moves)
                for n, (side, price, size) in enumerate(levels)
            ]
    lake = stored(tmp_path, rows, tape, group)
    found = StoredStream.of(lake, KEY, ERAS, known=True, piece=piece)
    assert joined(found) == columns_of(in_memory(lake))


def test_an_empty_partition_has_no_event(tmp_path: Path) -> None:
    found = StoredStream.of(stored(tmp_path, []), KEY, [(0, CENTS)])
    assert list(found.pieces()) == []
    assert Session(found).book(at(1)) is None


def test_a_file_of_an_earlier_version_is_read_too(tmp_path: Path) -> None:
    """Encodings and the list of prices came later; only the footer's own keys were there from the start."""
    lake = stored(tmp_path, LOG, TAPE)
    whole = columns_of(in_memory(lake))
    assert lake.values(BOOK, KEY, "price") == [n * 10_000 for n in (40, 44, 45, 46, 47, 48, 50, 100)]
    for name in (BOOK, TRADES):
        (path,) = lake.paths(name)
        rows = pq.ParquetFile(path).read()
        footer = {k: v for k, v in pq.read_metadata(path).metadata.items() if b"pm.values" not in k}
        pq.write_table(
            rows.replace_schema_metadata(footer),
            path,
            compression="snappy",
            use_dictionary=False,
            row_group_size=4,
        )
    assert lake.values(BOOK, KEY, "price") is None
    assert joined(StoredStream.of(lake, KEY, ERAS, known=True, piece=5)) == whole


def log_table(log: BookLog) -> pa.Table:
    """A recorded log as it lies in the lake; it is in whole microseconds."""
    names = {0: "reset", 1: "level", 2: "gap"}
    missing = log.kind != 1
    return to_table(
        BOOK,
        {
            "market_key": [KEY] * len(log),
            "ts": time_array(log.ts),
            "known_at": time_array(log.known_at),
            "ingested_at": [T0] * len(log),
            "seq": pa.array(log.seq),
            "kind": [names[kind] for kind in log.kind.tolist()],
            "side": [{0: "bid", 1: "ask"}.get(side) for side in log.side.tolist()],
            "price": pa.array(log.price, mask=missing),
            "size": pa.array(log.size, mask=missing),
        },
    )


@needs_sessions
@pytest.mark.parametrize("path", SESSIONS[:3], ids=lambda path: path.parent.name[-24:])
def test_a_recorded_session_is_read_as_it_is_played_from_memory(tmp_path: Path, path: Path) -> None:
    ticker = next(iter(json.loads(path.read_text("utf-8"))["markets"]))
    log = log_of(path.parent, ticker)
    lake = stored(tmp_path, log_table(log), group=5_000)
    found = StoredStream.of(lake, KEY, [(0, TAPERED)], known=True, piece=1_777)
    whole = in_memory(lake, [(0, TAPERED)])
    assert joined(found) == columns_of(whole)
    (path,) = lake.paths(BOOK)
    assert len(log) < 10_000 or path.stat().st_size < 8 * len(log)


@pytest.mark.parametrize(
    ("log", "tape", "error", "words"),
    [
        ([event(1, "reset"), level(1, "bid", 101, 1)], [], StorageError, "seq 1 sets no possible level"),
        ([level(1, "bid", 40, -1)], [], StorageError, "seq 1 sets no possible level"),
        ([level(1, "bid", 40, 1) | {"side": None}], [], StorageError, "seq 1 sets no possible level"),
        ([level(1, "bid", 40, 1) | {"size": None}], [], StorageError, "seq 1 sets no possible level"),
        ([level(1, "bid", 40, 1), event(1, "reset")], [], StorageError, "does not begin with its reset"),
        ([event(1, "gap"), level(1, "bid", 40, 1)], [], StorageError, "does not begin with its reset"),
        ([level(1, "bid", 40, 1) | {"side": "left"}], [], StorageError, "'left' is none of bid, ask"),
        ([event(1, "lost")], [], StorageError, "'lost' is none of reset, level, gap"),
        ([], [{"ts": 1, "price": 1_000_001}], UsageError, "impossible price"),
        ([], [{"ts": 1, "outcome_index": 2}], UsageError, "two outcomes"),
        ([], [{"ts": 1, "side": "give"}], StorageError, "'give' is none of buy, sell"),
    ],
)
@pytest.mark.parametrize("before", [0, 4])
def test_rows_that_no_book_can_have_end_the_reading(
    tmp_path: Path,
    log: list[dict[str, Any]],
    tape: list[dict[str, Any]],
    error: type[PipelineError],
    words: str,
    before: int,
) -> None:
    good = [level(0, "bid", 40, 1, ts=0) for _ in range(before)]
    lake = stored(tmp_path, [*good, *log], tape, 100)
    with pytest.raises(error, match=words):
        list(StoredStream.of(lake, KEY, ERAS).pieces())


@pytest.mark.parametrize(
    ("log", "tape"),
    [
        ([level(1, "bid", 40, 1, known_at=5), level(2, "bid", 40, 1, known_at=4)], []),
        ([level(1, "bid", 40, 1, known_at=5), event(2, "gap", known_at=4)], []),
        ([], [{"ts": 1, "known_at": 5}, {"ts": 2, "known_at": 4}]),
    ],
)
@pytest.mark.parametrize("group", [1, 2])
def test_by_known_at_what_is_not_in_order_is_refused(
    tmp_path: Path, log: list[dict[str, Any]], tape: list[dict[str, Any]], group: int
) -> None:
    lake = stored(tmp_path, log, tape, group)
    with pytest.raises(UsageError, match=r"became known before what precedes it.*Stream\.of"):
        list(StoredStream.of(lake, KEY, ERAS, clock="known_at", piece=group).pieces())


@pytest.mark.parametrize(
    "log", [[level(1, "bid", 41, 1)], [level(0, "bid", 40, 1), event(1, "gap"), level(2, "ask", 41, 1)]]
)
def test_a_file_that_is_replaced_meanwhile_is_told(tmp_path: Path, log: list[dict[str, Any]]) -> None:
    eras: list[Era] = [(0, [TickRange(100_000, 900_000, 100_000)])]
    found = StoredStream.of(stored(tmp_path, [level(1, "bid", 40, 1)]), KEY, eras)
    stored(tmp_path, log)
    with pytest.raises(StorageError, match="replaced meanwhile"):
        list(found.pieces())


def test_a_trade_at_a_price_that_was_not_there_is_told(tmp_path: Path) -> None:
    eras: list[Era] = [(0, [TickRange(100_000, 900_000, 100_000)])]
    found = StoredStream.of(stored(tmp_path, [], [{"ts": 1}]), KEY, eras)
    stored(tmp_path, [], [{"ts": 1, "price": 440_000}])
    with pytest.raises(StorageError, match="replaced meanwhile"):
        list(found.pieces())


def test_what_is_missing_is_told_before_anything_is_played(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(BOOK, KEY, book_events(LOG))
    with pytest.raises(MissingPartitionError, match=r"market_data\.trades has no partition"):
        StoredStream.of(lake, KEY, ERAS)
    with pytest.raises(UsageError, match="at least one era"):
        StoredStream.of(lake, KEY, [], trades=False)
