import random
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.errors import UsageError
from pm_pipeline.warehouse import (
    SCHEMA_VERSION,
    TABLES,
    Lake,
    MissingPartitionError,
    SchemaError,
    SchemaVersionError,
    StorageError,
    migrate,
    table,
    time_array,
    to_table,
)
from pm_pipeline.warehouse.locks import LockTimeoutError
from pm_pipeline.warehouse.partition_file import ROW_GROUP
from pm_pipeline_tests.warehouse.builders import KEY, T0, lake_at, prices

PRICES = "market_data.prices"


def two_prices() -> pa.Table:
    return prices([{"ts": 1, "mid": 500_000}, {"ts": 2, "mid": 510_000}])


def runs(*run_ids: str, **changes: list[Any]) -> pa.Table:
    count = len(run_ids)
    columns: dict[str, Any] = {
        "run_id": list(run_ids),
        "started_at": [T0] * count,
        "finished_at": [None] * count,
        "status": ["success"] * count,
        "world": ["SANDBOX"] * count,
        "config": ["{}"] * count,
        "seed": [2**64 - 1] * count,
        "code_version": ["1"] * count,
        "data_fingerprint": ["f"] * count,
    }
    return to_table("backtest.runs", columns | changes)


def test_what_is_written_is_read_back_with_its_declared_schema(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    info = lake.write(PRICES, KEY, two_prices(), meta={"source": "test", "page": "1"})
    rows = lake.read(PRICES, KEY)
    assert rows.equals(two_prices())
    assert rows.schema.equals(table(PRICES).arrow)
    assert lake.info(PRICES, (KEY,)) == info
    assert (info.table, info.partition, info.rows, info.schema_version) == (PRICES, (KEY,), 2, SCHEMA_VERSION)
    assert info.meta == {"source": "test", "page": "1"}
    assert lake.exists(PRICES, KEY)


def test_a_partition_written_twice_holds_the_second_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")  # durable, as in production
    lake.write(PRICES, KEY, two_prices())
    lake.write(PRICES, KEY, two_prices().slice(1))
    assert lake.read(PRICES, KEY).equals(two_prices().slice(1))
    assert lake.partitions(PRICES) == [(KEY,)]
    assert not list(lake.root.rglob(".tmp-*"))


def test_rows_of_a_table_are_sorted_and_ties_keep_their_order(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, prices([{"ts": t, "mid": m} for t, m in [(3, 1), (1, 2), (3, 3), (2, 4)]]))
    assert lake.read(PRICES, KEY, ["mid"]).column("mid").to_pylist() == [2, 4, 1, 3]


def test_an_empty_partition_exists_and_a_missing_one_says_what_to_run(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    assert lake.write(PRICES, KEY, prices([])).rows == 0
    assert lake.read(PRICES, KEY).num_rows == 0
    assert lake.info(PRICES, "polymarket:2") is None
    with pytest.raises(MissingPartitionError, match=r"market_data\.prices .*polymarket:2.*bt fetch"):
        lake.read(PRICES, "polymarket:2")
    with pytest.raises(MissingPartitionError, match="bt backtest"):
        lake.read("backtest.runs", "r1")
    with pytest.raises(MissingPartitionError):
        list(lake.scan(PRICES, [KEY, "polymarket:2"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.append_column("midd", pa.array([1, 2])), "column 'midd' is not declared.*'mid'"),
        (lambda t: t.drop_columns(["mid"]), "column 'mid' is missing"),
        (lambda t: t.append_column("mid", pa.array([1, 2])), "column 'mid' is there more than once"),
        (lambda t: _with(t, "source", pa.array(["x", None])), "column 'source' has 1 null rows"),
        (lambda t: _with(t, "source", pa.nulls(2)), "column 'source' has 2 null rows"),
        (lambda t: _with(t, "mid", pa.array([0.5, 0.6])), "column 'mid' holds double, declared is int64"),
        (lambda t: _with(t, "mid", pa.array(["1", "2"])), "column 'mid' holds string"),
        (lambda t: _with(t, "ts", pa.array([datetime(2026, 1, 1)] * 2)), "'ts' holds timestamp"),  # noqa: DTZ001
        (
            lambda t: _with(t, "ts", pa.array([1, 2], pa.timestamp("ns", "UTC"))),
            "'ts' cannot become .* without loss",
        ),
        (lambda t: _with(t, "resolution_s", pa.array([1, 2**40])), "'resolution_s' cannot become int32"),
        (
            lambda t: _with(t, "market_key", pa.array([KEY, "polymarket:2"])),
            "names another market, for example polymarket:2",
        ),
    ],
)
def test_rows_that_do_not_follow_the_schema_are_refused_by_name(
    tmp_path: Path, change: Any, message: str
) -> None:
    lake = lake_at(tmp_path)
    with pytest.raises(SchemaError, match=rf"market_data\.prices, partition {KEY}: .*{message}"):
        lake.write(PRICES, KEY, change(two_prices()))
    assert not lake.exists(PRICES, KEY)


def _with(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("source", pa.array(["x", "x"]).dictionary_encode()),
        ("source", pa.array(["x", "x"], pa.large_string())),
        ("mid", pa.array([1, 2], pa.int16())),
        ("bid", pa.nulls(2)),
        ("ts", time_array([T0, T0 + 1000]).cast(pa.timestamp("ns", "UTC"))),
        ("ts", time_array([T0, T0 + 1000]).cast(pa.timestamp("us", "Europe/Berlin"))),
    ],
)
def test_other_representations_of_the_same_values_are_taken(tmp_path: Path, name: str, values: Any) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, _with(two_prices(), name, values))
    declared = table(PRICES).arrow.field(name).type
    assert lake.read(PRICES, KEY).column(name).to_pylist() == values.cast(declared).to_pylist()


def test_lists_and_integers_for_statistics_are_taken(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    rows = to_table(
        "catalog.resolutions",
        {
            "market_key": [KEY],
            "status": ["resolved"],
            "payouts": [[1_000_000, 0]],
            "closed_at": [T0],
            "resolved_at": [T0],
            "was_disputed": [False],
            "source": ["x"],
            "known_at": [T0],
            "ingested_at": [T0],
        },
    )
    small = _with(rows, "payouts", pa.array([[1_000_000, 0]], pa.large_list(pa.int32())))
    assert (
        lake.write("catalog.resolutions", KEY, small).fingerprint
        == lake.write("catalog.resolutions", KEY, rows).fingerprint
    )
    with pytest.raises(SchemaError, match="'payouts' holds list"):
        lake.write("catalog.resolutions", KEY, _with(rows, "payouts", pa.array([["1"]])))
    metrics = to_table(
        "backtest.portfolio_metrics",
        {name: ["x"] for name in ("run_id", "strategy", "scenario", "metric", "note")} | {"value": [1.0]},
    )
    parts = ("x",) * (table("backtest.portfolio_metrics").partitioned_by.value.count("/") + 1)
    lake.write("backtest.portfolio_metrics", parts, _with(metrics, "value", pa.array([3])))
    assert lake.read("backtest.portfolio_metrics", parts).column("value").to_pylist() == [3.0]


# --------------------------------------------------------------------------- streams


def batches(rows: pa.Table, sizes: list[int]) -> Iterator[pa.RecordBatch]:
    start = 0
    for size in sizes:
        yield from rows.slice(start, size).combine_chunks().to_batches()
        start += size
    yield from rows.slice(start).combine_chunks().to_batches()


def test_a_stream_makes_the_same_partition_as_a_table(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    rows = prices([{"ts": t, "mid": t, "bid": None if t % 3 else t} for t in range(100)])
    whole = lake.write(PRICES, KEY, rows)
    assert lake.write(PRICES, KEY, batches(rows, [1, 0, 40])) == whole
    assert lake.read(PRICES, KEY).equals(rows)
    assert lake.write(PRICES, KEY, rows.combine_chunks().to_batches()[0]) == whole
    assert lake.write(PRICES, KEY, iter(())).rows == 0


@pytest.mark.parametrize("sizes", [[2], [1, 1, 1]])
def test_an_unsorted_stream_is_refused_and_the_old_rows_stay(tmp_path: Path, sizes: list[int]) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, two_prices())
    unsorted = prices([{"ts": t, "mid": 1} for t in (1, 2, 4, 3)])
    with pytest.raises(SchemaError, match="not sorted by outcome_index, ts"):
        lake.write(PRICES, KEY, batches(unsorted, sizes))
    assert lake.read(PRICES, KEY).equals(two_prices())
    assert not list(lake.root.rglob(".tmp-*"))


def test_an_error_of_the_source_reaches_the_caller_and_the_old_rows_stay(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, two_prices())

    def dying() -> Iterator[pa.RecordBatch]:
        yield from two_prices().to_batches()
        raise ConnectionResetError("the venue hung up")

    with pytest.raises(ConnectionResetError, match="the venue hung up"):
        lake.write(PRICES, KEY, dying())
    assert lake.read(PRICES, KEY).equals(two_prices())
    assert not list(lake.root.rglob(".tmp-*"))


def test_row_groups_have_a_fixed_size_however_the_rows_came(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    count = ROW_GROUP + 10
    seconds = T0 + np.arange(count, dtype=np.int64) * 1_000_000_000
    rows = to_table(
        PRICES,
        {
            "market_key": [KEY] * count,
            "outcome_index": [0] * count,
            "ts": seconds,
            "known_at": seconds,
            "ingested_at": seconds,
            "mid": [1] * count,
            "bid": pa.nulls(count, pa.int64()),
            "ask": pa.nulls(count, pa.int64()),
            "resolution_s": [0] * count,
            "source": ["x"] * count,
        },
    )
    written = {lake.write(PRICES, KEY, batches(rows, [7, 100_000, 20_000])).fingerprint}
    [path] = lake.paths(PRICES)
    footer = pq.read_metadata(path)
    assert [footer.row_group(n).num_rows for n in range(footer.num_row_groups)] == [ROW_GROUP, 10]
    written.add(lake.write(PRICES, KEY, rows).fingerprint)
    assert len(written) == 1
    assert [batch.num_rows for batch in lake.scan(PRICES, columns=["mid"])] == [ROW_GROUP, 10]


# --------------------------------------------------------------------------- fingerprints


def test_the_fingerprint_ignores_when_and_by_whom_rows_were_written(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    rows = two_prices()
    first = lake.write(PRICES, KEY, rows).fingerprint
    later = _with(rows, "ingested_at", time_array([T0 + 5_000_000, T0 + 6_000_000]))
    assert lake.write(PRICES, KEY, later).fingerprint == first
    assert (
        lake.write("backtest.runs", "a", runs("a")).fingerprint
        == lake.write("backtest.runs", "b", runs("b")).fingerprint
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.slice(1),
        lambda t: _with(t, "mid", pa.array([500_000, 510_001])),
        lambda t: _with(t, "mid", pa.array([500_000, None])),
        lambda t: _with(t, "mid", pa.array([None, 500_000])),
        lambda t: _with(t, "bid", t.column("mid")),
        lambda t: _with(t, "source", pa.array(["testt", "est"])),
        lambda t: _with(t, "known_at", time_array([T0 + 10**9, T0 + 10**10])),
    ],
)
def test_the_fingerprint_sees_every_other_change(tmp_path: Path, change: Any) -> None:
    lake = lake_at(tmp_path)
    first = lake.write(PRICES, KEY, two_prices()).fingerprint
    assert lake.write(PRICES, KEY, change(two_prices())).fingerprint != first


def test_zero_and_null_have_different_fingerprints(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    prints = {lake.write(PRICES, KEY, prices([{"ts": 1, "mid": mid}])).fingerprint for mid in (None, 0)}
    assert len(prints) == 2


# --------------------------------------------------------------------------- names


HOSTILE = [
    "0x000000000000000000000000000000000000000a",
    "100%",
    "%2F",
    "..",
    ".",
    ".tmp-1",
    "../../etc/passwd",
    "a/b",
    "a:b|c*?[x]",
    "name with 'quotes\" and \n line",
    "été",
    "2026-01-01",
    "x" * 200,
]


@pytest.mark.parametrize("key", HOSTILE)
def test_any_text_is_a_safe_partition_key(tmp_path: Path, key: str) -> None:
    lake = lake_at(tmp_path)
    lake.write("backtest.runs", key, runs(key))
    assert lake.partitions("backtest.runs") == [(key,)]
    assert lake.read("backtest.runs", key).column("run_id").to_pylist() == [key]
    [path] = lake.paths("backtest.runs")
    assert path.resolve().is_relative_to((lake.root / "backtest.runs").resolve())
    info = lake.info("backtest.runs", key)
    assert info is not None
    assert info.partition == (key,)


@pytest.mark.parametrize("leading", HOSTILE)
def test_any_text_is_a_safe_leading_part(tmp_path: Path, leading: str) -> None:
    lake = lake_at(tmp_path)
    rows = table("backtest.signals").arrow.empty_table()
    lake.write("backtest.signals", (leading, KEY), rows)
    lake.write("backtest.signals", ("other", KEY), rows)
    assert lake.partitions("backtest.signals") == sorted([(leading, KEY), ("other", KEY)])
    assert lake.partitions("backtest.signals", leading) == [(leading, KEY)]
    assert lake.partitions("backtest.signals", (leading, "else")) == []
    for path in lake.paths("backtest.signals"):
        assert path.resolve().is_relative_to((lake.root / "backtest.signals").resolve())


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), unique=True))
def test_partitions_lists_exactly_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str]
) -> None:
    lake = lake_at(tmp_path_factory.mktemp("lake"))
    empty = table("backtest.runs").arrow.empty_table()
    for key in keys:
        lake.write("backtest.runs", key, empty)
    assert lake.partitions("backtest.runs") == sorted((key,) for key in keys)


@pytest.mark.parametrize("partition", ["x", ("a", "b", "c"), ("a", ""), ()])
def test_a_partition_of_the_wrong_shape_is_refused(tmp_path: Path, partition: Any) -> None:
    with pytest.raises(UsageError, match=r"backtest\.signals, which is partitioned by strategy/market"):
        lake_at(tmp_path).exists("backtest.signals", partition)


def test_a_key_too_long_for_a_file_name_is_refused_with_advice(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    with pytest.raises(StorageError, match="use a shorter key"):
        lake.write("backtest.runs", "x" * 300, runs("x" * 300))
    assert not list(lake.root.rglob(".tmp-*"))


def test_unknown_tables_and_columns_are_refused_with_the_nearest_names(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, two_prices())
    with pytest.raises(UsageError, match=r"did you mean 'market_data\.prices'"):
        lake.read("market_data.price", KEY)
    with pytest.raises(UsageError, match="no column 'mids'; did you mean 'mid'"):
        lake.read(PRICES, KEY, ["mids"])
    assert lake.read(PRICES, KEY, ["mid", "ts"]).column_names == ["mid", "ts"]


# --------------------------------------------------------------------------- care


def test_scan_goes_through_all_partitions_or_those_named(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    for n in (3, 1, 2):
        key = f"polymarket:{n}"
        lake.write(PRICES, key, prices([{"ts": 1, "mid": n}], key))
    assert pa.Table.from_batches(lake.scan(PRICES)).column("mid").to_pylist() == [1, 2, 3]
    some = lake.scan(PRICES, ["polymarket:2", ("polymarket:1",)], ["mid"])
    assert [batch.to_pydict() for batch in some] == [{"mid": [2]}, {"mid": [1]}]
    assert list(lake.scan("catalog.rules")) == []


def test_a_deleted_partition_is_gone(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.write(PRICES, KEY, two_prices())
    assert lake.delete(PRICES, KEY)
    assert not lake.delete(PRICES, KEY)
    assert not lake.exists(PRICES, KEY)
    assert lake.partitions(PRICES) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_snapshot_keeps_the_rows_of_its_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    lake = lake_at(tmp_path)
    for key in (KEY, "polymarket:2"):
        lake.write(PRICES, key, prices([{"ts": 1, "mid": 1}], key))
    if not links:  # as on a file system that has none
        monkeypatch.setattr(Path, "hardlink_to", _refused)
    with lake.snapshot(PRICES) as folder:
        lake.write(PRICES, KEY, prices([{"ts": 1, "mid": 2}]))
        lake.delete(PRICES, "polymarket:2")
        kept = [pq.read_table(path).column("mid").to_pylist() for path in folder.glob("*/*.parquet")]
        assert kept == [[1], [1]]
        assert lake.partitions(PRICES) == [(KEY,)]
        assert lake.sweep(3600) == []
    assert not folder.exists()


def _refused(self: Path, target: Path) -> None:
    raise PermissionError(1, "hard links are not supported", str(target))


def test_the_sweep_removes_a_snapshot_left_by_a_killed_publisher(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, two_prices())
    left = lake.root / ".tmp-1-dead"
    (left / "ab").mkdir(parents=True)
    (left / "ab" / "x.parquet").hardlink_to(lake.paths(PRICES)[0])
    assert lake.sweep(-1) == [left]
    assert lake.read(PRICES, KEY).equals(two_prices())


def test_the_sweep_removes_old_leftovers_only(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, two_prices())
    leftover = lake.paths(PRICES)[0].parent / ".tmp-99-dead"
    leftover.write_bytes(b"half")
    assert lake.partitions(PRICES) == [(KEY,)]
    assert lake.sweep(3600) == []
    assert lake.sweep(-1) == [leftover]
    assert not leftover.exists()
    assert lake.read(PRICES, KEY).equals(two_prices())


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    """Damage one byte within the first data page."""
    return data[:60] + bytes([data[60] ^ 0xFF]) + data[61:]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda _: b"", lambda _: b"not parquet at all"])
def test_a_damaged_file_is_named_with_the_way_to_repair_it(tmp_path: Path, damage: Any) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, two_prices())
    [path] = lake.paths(PRICES)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StorageError, match=r"is damaged.*delete it and materialise") as error:
        lake.read(PRICES, KEY)
    assert str(path) in str(error.value)
    with pytest.raises(StorageError):
        list(lake.scan(PRICES))
    lake.delete(PRICES, KEY)
    lake.write(PRICES, KEY, two_prices())
    assert lake.read(PRICES, KEY).equals(two_prices())


def test_a_foreign_parquet_file_is_not_taken_for_a_partition(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, two_prices())
    [path] = lake.paths(PRICES)
    pq.write_table(pa.table({"mid": [1]}), path)
    with pytest.raises(StorageError, match="does not have the declared columns"):
        lake.read(PRICES, KEY)
    with pytest.raises(StorageError, match="not written by pm_pipeline"):
        lake.info(PRICES, KEY)


def test_a_lake_of_newer_code_is_refused(tmp_path: Path) -> None:
    lake_at(tmp_path).mark_version(99)
    with pytest.raises(
        SchemaVersionError, match=rf"version 99, this code knows {SCHEMA_VERSION}.*newer pm_pipeline"
    ):
        lake_at(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": null}', "\ufffd"])
def test_a_damaged_marker_is_an_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, two_prices())
    (lake.root / "_lake.json").write_text(text)
    with pytest.raises(StorageError, match=r"_lake\.json is damaged"):
        lake_at(tmp_path)
    (lake.root / "_lake.json").unlink()
    assert migrate(lake_at(tmp_path)) == 0
    assert lake_at(tmp_path).read(PRICES, KEY).num_rows == 2


def test_every_declared_table_can_be_written_and_read(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    rng = random.Random(1)
    for name, declared in TABLES.items():
        parts = tuple(f"p{rng.random()}" for _ in declared.partitioned_by.split("/"))
        lake.write(name, parts, declared.arrow.empty_table())
        assert lake.read(name, parts).schema.equals(declared.arrow)
        assert lake.partitions(name) == [parts]
    assert repr(lake) == f"Lake({str(lake.root)!r})"


def test_a_partition_that_is_changed_is_held_against_others_and_only_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pm_pipeline.warehouse.lake._HELD_FOR_S", 0.0)
    lake, other = lake_at(tmp_path), lake_at(tmp_path)
    with lake.changing(PRICES, KEY):
        with pytest.raises(LockTimeoutError, match="is in use"), other.changing(PRICES, KEY):
            pass
        with other.changing(PRICES, "polymarket:2"):
            assert lake.partitions(PRICES) == []
    with other.changing(PRICES, KEY):
        other.write(PRICES, KEY, two_prices())
    assert lake_at(tmp_path).read(PRICES, KEY).num_rows == 2
