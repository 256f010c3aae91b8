import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets import Resolution, ResolutionStatus
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.warehouse import (
    TABLES,
    Coverage,
    CoverageStatus,
    Lake,
    LockTimeoutError,
    StorageError,
    connect,
    duck,
    file_lock,
    open_warehouse,
    publish,
    resolutions_to_table,
    write_coverage,
)
from pm_pipeline_tests.warehouse.builders import KEY, T0, book_events, event, lake_at, level, prices

PRICES = "market_data.prices"
RESOLUTIONS = "catalog.resolutions"


def resolved(payouts: tuple[int, ...] = (500_000, 500_000)) -> Resolution:
    return Resolution(
        market_key=MarketKey.parse(KEY),
        status=ResolutionStatus.RESOLVED,
        payouts=payouts,
        closed_at=T0,
        resolved_at=T0,
        known_at=T0,
        source="test",
    )


def filled(path: Path) -> Lake:
    lake = lake_at(path)
    lake.write(PRICES, KEY, prices([{"ts": 1, "mid": 520_001, "bid": 1}, {"ts": 2, "mid": 999_999}]))
    lake.write(RESOLUTIONS, KEY, resolutions_to_table([resolved()], T0))
    return lake


def rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


def test_columns_have_exact_types_and_values(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    lake.write("market_data.book_events", KEY, book_events([event(1, "reset"), level(2, "bid", 50, 3)]))
    with connect(lake) as connection:
        assert rows(connection, "SELECT mid, bid, ask FROM market_data.prices ORDER BY ts") == [
            (Decimal("0.520001"), Decimal("0.000001"), None),
            (Decimal("0.999999"), None, None),
        ]
        assert rows(connection, "SELECT payouts FROM catalog.resolutions") == [
            ([Decimal("0.500000"), Decimal("0.500000")],)
        ]
        first = datetime.fromtimestamp(T0 // 10**9 + 1, UTC)
        assert rows(connection, "SELECT min(ts) FROM market_data.prices") == [(first,)]
        types: dict[str, str] = dict(
            rows(
                connection,
                "SELECT table_name || '.' || column_name, data_type FROM information_schema.columns "
                "WHERE table_schema IN ('market_data', 'catalog')",
            )
        )
    assert types["prices.mid"] == "DECIMAL(18,6)"
    assert types["prices.ts"] == "TIMESTAMP WITH TIME ZONE"
    assert types["resolutions.payouts"] == "DECIMAL(18,6)[]"
    assert types["book_events.seq"] == "UBIGINT"
    assert types["prices.resolution_s"] == "INTEGER"


def test_empty_tables_are_typed_like_filled_ones(tmp_path: Path) -> None:
    query = (
        "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns "
        "ORDER BY table_schema, table_name, ordinal_position"
    )
    with connect(lake_at(tmp_path / "empty")) as connection:
        empty = rows(connection, query)
    lake = lake_at(tmp_path / "full")
    for name, table in TABLES.items():
        lake.write(name, ("x",) * len(table.partitioned_by.split("/")), table.arrow.empty_table())
    with connect(lake) as connection:
        assert rows(connection, query) == empty
    assert {f"{schema}.{name}" for schema, name, _, _ in empty} == set(TABLES)


@given(
    st.lists(st.none() | st.integers(-(10**18) + 1, 10**18 - 1), min_size=1, max_size=50),
)
def test_every_micro_amount_is_an_exact_decimal(
    tmp_path_factory: pytest.TempPathFactory, micros: list[int | None]
) -> None:
    lake = lake_at(tmp_path_factory.mktemp("lake"))
    lake.write(PRICES, KEY, prices([{"ts": n, "mid": mid} for n, mid in enumerate(micros)]))
    with connect(lake, [PRICES]) as connection:
        shown = rows(connection, "SELECT mid FROM market_data.prices ORDER BY ts")
    assert shown == [(None if mid is None else Decimal(mid).scaleb(-6),) for mid in micros]


def test_ids_stay_text_and_hostile_keys_are_read(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    ids = ["0x" + "0" * 39 + "a", "10", "2026-01-01", "..", "a=1%2F'x", "*[?]"]
    for native in ids:
        key = f"polymarket:{native}"
        lake.write(PRICES, key, prices([{"ts": 1, "mid": 1}], key))
    with connect(lake, [PRICES]) as connection:
        found = rows(connection, "SELECT market_key, typeof(market_key) FROM market_data.prices")
    assert sorted(found) == sorted((f"polymarket:{native}", "VARCHAR") for native in ids)


@pytest.mark.parametrize("folder", ["plain", "with [brackets] and *", "it's", "market_key=10"])
def test_the_lake_may_lie_anywhere(tmp_path: Path, folder: str) -> None:
    lake = filled(tmp_path / folder)
    publish(lake, tmp_path / folder / "warehouse.duckdb")
    with open_warehouse(tmp_path / folder / "warehouse.duckdb") as connection:
        assert rows(connection, "SELECT market_key FROM market_data.prices") == [(KEY,), (KEY,)]
        assert rows(connection, "SELECT market_key FROM catalog.resolutions") == [(KEY,)]
    with connect(lake) as connection:
        assert rows(connection, "SELECT market_key FROM market_data.prices") == [(KEY,), (KEY,)]


def test_a_view_of_named_partitions_opens_no_other_file(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    lake.write(PRICES, "polymarket:2", prices([{"ts": 1, "mid": 1}], "polymarket:2"))
    [other] = lake.paths(PRICES, [KEY])
    other.write_bytes(b"not parquet at all")
    with connect(lake, {PRICES: ["polymarket:2", "polymarket:absent"]}) as connection:
        assert rows(connection, "SELECT market_key FROM market_data.prices") == [("polymarket:2",)]
    with connect(lake, {PRICES: []}) as connection:
        assert rows(connection, "SELECT count(*) FROM market_data.prices") == [(0,)]


def test_a_view_sees_partitions_written_after_it(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    with connect(lake, [PRICES]) as connection:
        lake.write(PRICES, "polymarket:2", prices([{"ts": 1, "mid": 1}], "polymarket:2"))
        assert rows(connection, "SELECT count(*) FROM market_data.prices") == [(3,)]


def test_a_misspelt_table_is_an_error_and_not_a_python_variable(tmp_path: Path) -> None:
    prices_frame = prices([{"ts": 1, "mid": 1}]).to_pandas()
    assert len(prices_frame) == 1
    with connect(lake_at(tmp_path), []) as connection, pytest.raises(duckdb.CatalogException):
        connection.execute("SELECT * FROM prices_frame").fetchall()


def test_a_damaged_partition_is_an_error_that_names_it(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    [path] = lake.paths(PRICES)
    path.write_bytes(b"not parquet at all")
    with pytest.raises(StorageError, match="delete that file and materialise the partition again") as error:
        connect(lake)
    assert path.name in str(error.value)


# --------------------------------------------------------------------------- the published file


def test_publishing_twice_shows_the_lake_of_the_second_time(tmp_path: Path) -> None:
    lake, path = filled(tmp_path), tmp_path / "warehouse.duckdb"
    assert publish(lake, path)[RESOLUTIONS] == 1
    lake.write(RESOLUTIONS, KEY, resolutions_to_table([resolved(), resolved((1_000_000, 0))], T0))
    with open_warehouse(path) as connection:
        assert rows(connection, "SELECT count(*) FROM catalog.resolutions") == [(1,)]
    counted = publish(lake, path)
    assert counted[RESOLUTIONS] == 2
    assert counted["backtest.runs"] == 0
    assert not any(name.startswith("market_data.") for name in counted)
    with open_warehouse(path) as connection:
        assert rows(connection, "SELECT payouts FROM catalog.resolutions") == [
            ([Decimal("0.5"), Decimal("0.5")],),
            ([Decimal(1), Decimal(0)],),
        ]
        kinds: dict[str, str] = dict(
            rows(
                connection,
                "SELECT table_schema || '.' || table_name, table_type FROM information_schema.tables",
            )
        )
    assert set(kinds) == set(TABLES)
    assert {name for name, kind in kinds.items() if kind == "VIEW"} == {
        name for name in TABLES if name.startswith("market_data.")
    }
    assert {entry.name for entry in tmp_path.iterdir()} == {
        "lake",
        "lake.lock",
        "warehouse.duckdb",
        "warehouse.duckdb.lock",
    }


def test_copied_tables_are_read_from_a_snapshot_that_no_writer_can_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, path = filled(tmp_path), tmp_path / "warehouse.duckdb"
    create = duck._create

    def replaced_meanwhile(*arguments: Any) -> None:
        lake.write(RESOLUTIONS, KEY, resolutions_to_table([resolved((1_000_000, 0))] * 3, T0))
        create(*arguments)

    monkeypatch.setattr(duck, "_create", replaced_meanwhile)
    monkeypatch.setattr(duck, "TABLES", {RESOLUTIONS: TABLES[RESOLUTIONS]})
    assert publish(lake, path) == {RESOLUTIONS: 1}
    assert publish(lake, path) == {RESOLUTIONS: 3}


def test_views_work_from_another_working_directory(tmp_path: Path) -> None:
    code = (
        "import sys, duckdb\n"
        "with duckdb.connect(sys.argv[1], read_only=True) as c:\n"
        "    print(c.execute('SELECT sum(mid) FROM market_data.prices').fetchall())\n"
    )
    filled(tmp_path)
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        publish(Lake(Path("lake")), Path("warehouse.duckdb"))
    finally:
        os.chdir(here)
    (tmp_path / "elsewhere").mkdir()
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "warehouse.duckdb")],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "[(Decimal('1.520000'),)]\n"


def test_the_published_file_explains_its_tables_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    publish(filled(tmp_path), path)
    with open_warehouse(path) as connection:
        columns = {
            (f"{schema}.{name}", column): comment
            for schema, name, column, comment in rows(
                connection,
                "SELECT schema_name, table_name, column_name, comment FROM duckdb_columns() "
                "WHERE NOT internal",
            )
        }
        meanings: dict[str, str] = dict(
            rows(
                connection,
                "SELECT schema_name || '.' || table_name, comment FROM duckdb_tables() UNION ALL "
                "SELECT schema_name || '.' || view_name, comment FROM duckdb_views() WHERE NOT internal",
            )
        )
    assert meanings == {name: table.meaning for name, table in TABLES.items()}
    assert columns == {
        (name, column.name): column.meaning for name, table in TABLES.items() for column in table.columns
    }


def test_the_published_file_cannot_be_written_by_its_readers(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    publish(filled(tmp_path), path)
    with open_warehouse(path) as connection, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        connection.execute("DELETE FROM catalog.resolutions").fetchall()


def test_a_reader_keeps_publishers_out_and_readers_in(tmp_path: Path) -> None:
    lake, path = filled(tmp_path), tmp_path / "warehouse.duckdb"
    publish(lake, path)
    with (
        open_warehouse(path),
        open_warehouse(path, timeout_s=0),
        pytest.raises(LockTimeoutError, match="is in use"),
    ):
        publish(lake, path, timeout_s=0)
    with (
        file_lock(path, mode="exclusive", timeout_s=0),
        pytest.raises(LockTimeoutError),
        open_warehouse(path, timeout_s=0),
    ):
        pass
    publish(lake, path, timeout_s=0)


def test_a_missing_or_damaged_file_says_how_to_make_it_anew(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with pytest.raises(StorageError, match="materialise the warehouse asset"), open_warehouse(path):
        pass
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StorageError, match="damaged; remove it"), open_warehouse(path):
        pass
    publish(filled(tmp_path), path)
    with open_warehouse(path) as connection:
        assert rows(connection, "SELECT count(*) FROM catalog.resolutions") == [(1,)]


def test_a_program_that_holds_the_file_is_blamed_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    publish(filled(tmp_path), path)
    with (
        duckdb.connect(str(path)),
        pytest.raises(StorageError, match="another program has it open"),
        open_warehouse(path),
    ):
        pass
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time, duckdb\n"
            "c = duckdb.connect(sys.argv[1])\n"
            "print('open', flush=True)\n"
            "time.sleep(60)",
            str(path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StorageError, match="another program has it open"), open_warehouse(path):
            pass
        holder.kill()


def test_a_failed_publication_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    lake, path = filled(tmp_path), tmp_path / "warehouse.duckdb"
    publish(lake, path)
    [partition] = lake.paths(RESOLUTIONS)
    partition.write_bytes(partition.read_bytes()[:100])
    (tmp_path / ".tmp-warehouse.duckdb-1-killed").write_bytes(b"left by a killed publisher")
    with pytest.raises(StorageError):
        publish(lake, path)
    with open_warehouse(path) as connection:
        assert rows(connection, "SELECT count(*) FROM catalog.resolutions") == [(1,)]
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_log_left_by_a_killed_writer_is_not_replayed_into_the_new_file(tmp_path: Path) -> None:
    lake, path = filled(tmp_path), tmp_path / "warehouse.duckdb"
    publish(lake, path)
    stray = tmp_path / "warehouse.duckdb.wal"
    stray.write_bytes(b"a log of the old file")
    publish(lake, path)
    assert not stray.exists()


def test_coverage_is_visible_in_the_published_file(tmp_path: Path) -> None:
    lake, path = filled(tmp_path), tmp_path / "warehouse.duckdb"
    record = Coverage(
        table=PRICES,
        partition=(KEY,),
        source="clob",
        status=CoverageStatus.EMPTY,
        asked_from=T0,
        asked_to=T0,
        got_from=None,
        got_to=None,
        rows=0,
        gaps=0,
        reason="empty answer",
        ingested_at=T0,
    )
    write_coverage(lake, record)
    publish(lake, path)
    with open_warehouse(path) as connection:
        assert rows(connection, 'SELECT table_name, "partition", rows, reason FROM ops.coverage') == [
            (PRICES, KEY, 0, "empty answer")
        ]
