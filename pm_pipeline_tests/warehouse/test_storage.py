"""How tables are laid down on disk: as they are declared; and what was written before is read."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pm_pipeline.warehouse import TABLES, Lake, connect, table, to_table
from pm_pipeline.warehouse.columns import Encoding, Kind
from pm_pipeline.warehouse.conform import SchemaError
from pm_pipeline.warehouse.partition_file import ROW_GROUP, Bounds
from pm_pipeline_tests.warehouse.builders import KEY, T0, book_events, event, lake_at, level, prices, trades

BOOK = "market_data.book_events"


def some(name: str, rows: int = 3) -> pa.Table:
    """A few rows of any table."""
    example: dict[Kind, Any] = {
        Kind.TEXT: "word",
        Kind.TIME: T0,
        Kind.FLAG: True,
        Kind.STAT: 0.5,
        Kind.TEXTS: ["a", "b"],
        Kind.MICROS: [1, 2],
        Kind.HASH: bytes(32),
        Kind.ADDRESS: bytes(20),
    }
    return to_table(name, {c.name: [example.get(c.kind, 7)] * rows for c in table(name).columns})


def column_of(path: Path, name: str) -> Any:
    group = pq.read_metadata(path).row_group(0)
    return next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == name)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_column_is_stored_as_its_table_declares(tmp_path: Path, name: str) -> None:
    pq.write_table(some(name), tmp_path / "file", **table(name).storage)
    for column in table(name).columns:
        stored = column_of(tmp_path / "file", column.leaf)
        if pa.types.is_boolean(column.kind.value):
            continue  # Parquet has one way to store a bit
        assert column.stored_as.value in stored.encodings
        assert stored.compression == ("LZ4" if column.name in table(name).hot else "ZSTD")


def test_times_and_order_are_differences_and_what_repeats_is_a_dictionary() -> None:
    book = table(BOOK)
    stored = {column.name: column.stored_as for column in book.columns}
    assert {name for name, how in stored.items() if how is Encoding.DELTA} == {
        "ts",
        "known_at",
        "ingested_at",
        "seq",
    }
    assert table("catalog.markets").column("opened_at").stored_as is Encoding.DICTIONARY


def busy_book(rows: int) -> pa.Table:
    """A book that moves every millisecond, as of a busy market."""
    rng = np.random.default_rng(1)
    ts = T0 + np.arange(rows, dtype=np.int64) * 1_000_000
    return to_table(
        BOOK,
        {
            "market_key": [KEY] * rows,
            "ts": ts,
            "known_at": ts,
            "ingested_at": np.full(rows, T0 + 10**16),
            "seq": pa.array(np.arange(rows)),
            "kind": ["level"] * rows,
            "side": pa.array(np.array(["bid", "ask"], object)[rng.integers(0, 2, rows)]),
            "price": pa.array(rng.integers(30, 70, rows) * 10_000),
            "size": pa.array(rng.integers(100, 2_000, rows) * 1_000_000),
        },
    )


def test_an_event_of_a_book_takes_less_than_four_bytes(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(BOOK, KEY, busy_book(ROW_GROUP))
    (path,) = lake.paths(BOOK)
    assert path.stat().st_size < 4 * ROW_GROUP


def test_what_was_written_before_is_read_and_replaced_by_the_same_fingerprint(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    rows = book_events([event(1, "reset"), level(1, "bid", 45, 1), level(2, "ask", 48, 2)])
    before = lake.write(BOOK, KEY, rows, meta={"a": "b"})
    (path,) = lake.paths(BOOK)
    footer = {k: v for k, v in pq.read_metadata(path).metadata.items() if not k.startswith(b"pm.values")}
    stored = pq.read_table(path).replace_schema_metadata(footer)
    pq.write_table(stored, path, compression="zstd", write_page_checksum=True)
    assert lake.info(BOOK, KEY) == before
    assert lake.read(BOOK, KEY).equals(rows)
    assert lake.values(BOOK, KEY, "price") is None
    assert lake.write(BOOK, KEY, rows, meta={"a": "b"}) == before
    assert lake.values(BOOK, KEY, "price") == [450_000, 480_000]


def test_duckdb_reads_every_encoding(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(BOOK, KEY, busy_book(1000))
    with connect(lake) as connection:
        found = connection.execute(
            "select count(*), count(distinct seq), sum(price), sum(size), max(ts) - min(ts), count(side) "
            f"from {BOOK}"
        ).fetchall()
    rows = busy_book(1000)
    ((count, seqs, price, size, span, sides),) = found
    assert (count, seqs, sides) == (1000, 1000, 1000)
    assert int(price * 10**6) == sum(rows.column("price").to_pylist())
    assert int(size * 10**6) == sum(rows.column("size").to_pylist())
    assert span.total_seconds() == 0.999


def test_many_distinct_values_are_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pm_pipeline.warehouse.partition_file._LISTED", 3)
    lake = lake_at(tmp_path)
    for count, listed in ((3, [400_000, 410_000, 420_000]), (4, None)):
        lake.write(BOOK, KEY, book_events([level(n, "bid", 40 + n, 1) for n in range(count)]))
        assert lake.values(BOOK, KEY, "price") == listed


def test_a_column_that_is_not_listed_has_no_values_in_the_footer(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write("market_data.prices", KEY, prices([{"ts": 1, "mid": 500_000}]))
    assert lake.values("market_data.prices", KEY, "mid") is None


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_what_is_stored_comes_in_batches_with_text_as_codes(tmp_path: Path, rows: int) -> None:
    lake = Lake(tmp_path / "lake", durability="rename")
    tape = trades([{"ts": n, "side": ("buy", "sell")[n % 2]} for n in range(5)])
    lake.write("market_data.trades", KEY, tape)
    found = list(lake.stored("market_data.trades", KEY, ("side", "ts"), coded=("side",), rows=rows))
    assert max(batch.num_rows for batch in found) == min(rows, 5)
    assert all(pa.types.is_dictionary(batch.schema.field("side").type) for batch in found)
    whole = pa.Table.from_batches([b.cast(tape.select(["side", "ts"]).schema) for b in found])
    assert whole.equals(tape.select(["side", "ts"]))


LOST = [event(1, "reset"), level(1, "bid", 45, 1), event(2, "gap")]


def test_a_value_stands_for_null_in_a_file_and_no_reader_sees_it(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    rows = book_events(LOST)
    lake.write(BOOK, KEY, rows)
    (path,) = lake.paths(BOOK)
    stored = pq.read_table(path)
    assert stored.column("side").to_pylist() == ["", "bid", ""]
    assert stored.column("price").to_pylist() == [-(2**63), 450_000, -(2**63)]
    assert not any(stored.schema.field(name).nullable for name in ("side", "price", "size"))
    assert lake.read(BOOK, KEY).equals(rows)
    assert lake.read(BOOK, KEY, ["size", "seq"]).equals(rows.select(["size", "seq"]))
    assert pa.Table.from_batches(lake.scan(BOOK)).equals(rows)
    assert pa.Table.from_batches(lake.batches(BOOK, KEY, ("side", "price"), rows=2)).equals(
        rows.select(["side", "price"])
    )
    with connect(lake) as connection:
        found = connection.execute(f"select side, price, size from {BOOK} order by seq, kind desc").fetchall()
    assert [row[0] for row in found] == [None, "bid", None]
    assert [row[1] is None and row[2] is None for row in found] == [True, False, True]


@pytest.mark.parametrize(("name", "value"), [("side", ""), ("price", -(2**63)), ("size", -(2**63))])
def test_a_row_may_not_hold_the_value_that_stands_for_null(tmp_path: Path, name: str, value: object) -> None:
    lake = lake_at(tmp_path)
    with pytest.raises(SchemaError, match=f"'{name}' holds {value!r}, which stands for null"):
        lake.write(BOOK, KEY, book_events([level(1, "bid", 45, 1) | {name: value}]))
    assert not lake.exists(BOOK, KEY)


def test_a_reader_may_leave_out_columns_of_a_row_group_by_what_it_holds(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    with patch("pm_pipeline.warehouse.partition_file.ROW_GROUP", 3):
        lake.write(BOOK, KEY, book_events([*LOST, *(level(n, "bid", 45, n) for n in range(3, 6))]))
    seen: list[Any] = []

    def needed(bounds: Bounds) -> list[str]:
        seen.append((bounds("kind"), bounds("seq")))
        return ["size"] if bounds("kind") == ("level", "level") else ["size", "kind"]

    found = list(lake.stored(BOOK, KEY, ("kind", "size"), needed=needed))
    assert seen == [(("gap", "reset"), (1, 2)), (("level", "level"), (3, 5))]
    assert [sorted(batch.schema.names) for batch in found] == [["kind", "size"], ["size"]]
    assert found[1].column(0).to_pylist() == [3_000_000, 4_000_000, 5_000_000]
