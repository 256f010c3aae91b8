import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pm_pipeline.warehouse import (
    MIGRATIONS,
    SCHEMA_VERSION,
    Lake,
    LockTimeoutError,
    Migration,
    SchemaVersionError,
    connect,
    file_lock,
    migrate,
    table,
)
from pm_pipeline_tests.warehouse.builders import book_events, event, lake_at, level, prices, trades

PRICES = "market_data.prices"
KEYS = [f"polymarket:{n}" for n in range(5)]


def _double(rows: pa.Table) -> pa.Table:
    mids = pc.multiply(rows.column("mid"), 2)
    return rows.set_column(rows.schema.get_field_index("mid"), rows.schema.field("mid"), mids)


def _add_source(rows: pa.Table) -> pa.Table:
    return rows.append_column("source", pa.repeat("unknown", len(rows)))


DOUBLE_TWICE = (
    Migration(2, PRICES, "mids are doubled", _double),
    Migration(3, PRICES, "and again", _double),
)


def old_lake(path: Path) -> Lake:
    lake = newer(lake_at(path), 1)
    for n, key in enumerate(KEYS):
        lake.write(PRICES, key, prices([{"ts": 1, "mid": n}], key), meta={"page": str(n)})
    lake.write("market_data.trades", KEYS[0], trades([{"ts": 1}], KEYS[0]))
    return lake


def newer(lake: Lake, version: int = 3) -> Lake:
    return Lake(lake.root, durability="rename", schema_version=version)


def mids(lake: Lake) -> list[int]:
    rows = pa.Table.from_batches(lake.scan(PRICES, columns=["mid"]))
    return list(rows.column("mid").to_pylist())


def test_the_registered_migrations_lead_to_the_declared_version() -> None:
    assert [step.number for step in MIGRATIONS] == list(range(2, SCHEMA_VERSION + 1))


def test_a_new_lake_is_marked_with_the_version_of_the_code(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEYS[0], prices([{"ts": 1, "mid": 1}], KEYS[0]))
    assert json.loads((lake.root / "_lake.json").read_text()) == {"schema_version": SCHEMA_VERSION}
    assert migrate(lake) == 0


def without(rows: pa.Table, *names: str) -> pa.Table:
    return rows.drop_columns(list(names))


ADDED = {
    "backtest.signals": ("all_or_none", "name", "side", "size", "post_only", "expires_at"),
    "backtest.orders": ("ended",),
}


@pytest.mark.parametrize("name", list(ADDED))
def test_rows_of_before_read_as_the_declared_table(name: str) -> None:
    declared = table(name).arrow
    old = pa.Table.from_pylist([dict.fromkeys(declared.names)] * 2, schema=nullable(declared))
    old = without(old, *ADDED[name])
    if "filled" in old.column_names:
        at = old.column_names.index("filled")
        old = old.set_column(at, "filled", pa.array([0, 5], pa.int64()))
    for step in MIGRATIONS:
        if step.table == name:
            old = step.upgrade(old)
    assert old.column_names == declared.names
    assert [field.type for field in old.schema] == [field.type for field in declared]
    if name == "backtest.orders":
        assert old.column("ended").to_pylist() == ["open", "filled"]
    else:
        assert old.select(ADDED[name]).to_pylist()[0] == {
            "all_or_none": False,
            "name": "",
            "side": "buy",
            "size": None,
            "post_only": True,
            "expires_at": None,
        }


def nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


def test_a_book_of_before_keeps_its_rows_and_its_fingerprint(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", durability="rename", schema_version=3)
    rows = book_events([event(1, "reset"), level(1, "bid", 45, 1), event(2, "gap")], KEYS[0])
    lake.write("market_data.book_events", KEYS[0], rows)
    [path] = lake.paths("market_data.book_events")
    footer = {k: v for k, v in pq.read_metadata(path).metadata.items() if k.startswith(b"pm.")}
    before = lake.info("market_data.book_events", KEYS[0])
    pq.write_table(rows.replace_schema_metadata(footer), path)  # null as null, as version 3 wrote it
    new = newer(lake, SCHEMA_VERSION)
    assert migrate(new) == 1
    after = new.info("market_data.book_events", KEYS[0])
    assert before is not None
    assert after == replace(before, schema_version=SCHEMA_VERSION)
    assert new.read("market_data.book_events", KEYS[0]).equals(rows)
    assert pq.read_table(path).column("side").to_pylist() == ["", "bid", ""]


def test_an_old_lake_is_refused_until_it_is_migrated(tmp_path: Path) -> None:
    lake = newer(old_lake(tmp_path))
    for use in (
        lambda: lake.read(PRICES, KEYS[0]),
        lambda: list(lake.scan(PRICES)),
        lambda: lake.write(PRICES, KEYS[0], prices([], KEYS[0])),
        lambda: connect(lake),
    ):
        with pytest.raises(SchemaVersionError, match=r"version 1, this code needs 3: run .*migrate"):
            use()
    assert migrate(lake, DOUBLE_TWICE) == 5
    assert mids(lake) == [0, 4, 8, 12, 16]


def test_migrating_keeps_meta_and_leaves_other_tables_alone(tmp_path: Path) -> None:
    lake = newer(old_lake(tmp_path))
    [untouched] = lake.paths("market_data.trades")
    inode = untouched.stat().st_ino
    migrate(lake, DOUBLE_TWICE)
    for n, key in enumerate(KEYS):
        info = lake.info(PRICES, key)
        assert info is not None
        assert (info.meta, info.schema_version, info.rows) == ({"page": str(n)}, 3, 1)
    assert untouched.stat().st_ino == inode
    assert migrate(lake, DOUBLE_TWICE) == 0
    assert mids(lake) == [0, 4, 8, 12, 16]


def test_a_migration_that_was_interrupted_goes_on_where_it_stood(tmp_path: Path) -> None:
    lake = newer(old_lake(tmp_path))
    left = 2

    def dying(rows: pa.Table) -> pa.Table:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return _double(rows)

    with pytest.raises(KeyboardInterrupt):
        migrate(lake, (Migration(2, PRICES, "dies", dying), DOUBLE_TWICE[1]))
    assert lake.version() == 1
    versions = [info.schema_version for key in KEYS if (info := lake.info(PRICES, key))]
    assert sorted(versions) == [1, 1, 1, 3, 3]
    assert migrate(lake, DOUBLE_TWICE) == 3
    assert mids(lake) == [0, 4, 8, 12, 16]
    assert lake.version() == 3


def test_a_migration_can_add_a_column(tmp_path: Path) -> None:
    lake = old_lake(tmp_path)
    for path in lake.paths(PRICES):  # as version 1 would have written it
        stored = pq.read_table(path)
        metadata = pq.read_metadata(path).metadata
        with pq.ParquetWriter(path, stored.drop_columns(["source"]).schema) as writer:
            writer.write_table(stored.drop_columns(["source"]))
            writer.add_key_value_metadata({k: v for k, v in metadata.items() if k.startswith(b"pm.")})
    new = newer(lake, 2)
    assert migrate(new, (Migration(2, PRICES, "source is added", _add_source),)) == 5
    rows = new.read(PRICES, KEYS[1])
    assert rows.schema.equals(table(PRICES).arrow)
    assert rows.column("source").to_pylist() == ["unknown"]


@pytest.mark.parametrize("steps", [(), DOUBLE_TWICE[:1], DOUBLE_TWICE[1:], (*DOUBLE_TWICE, DOUBLE_TWICE[0])])
def test_steps_that_do_not_lead_to_the_version_are_refused(
    tmp_path: Path, steps: tuple[Migration, ...]
) -> None:
    lake = newer(old_lake(tmp_path))
    with pytest.raises(SchemaVersionError, match="a step is missing"):
        migrate(lake, steps)
    assert lake.version() == 1


def test_a_lake_that_lost_its_marker_is_migrated_file_by_file(tmp_path: Path) -> None:
    lake = newer(old_lake(tmp_path))
    migrate(lake, DOUBLE_TWICE)
    (lake.root / "_lake.json").unlink()
    again = newer(lake)
    with pytest.raises(SchemaVersionError):
        again.read(PRICES, KEYS[0])
    assert migrate(again, DOUBLE_TWICE) == 0
    assert mids(again) == [0, 4, 8, 12, 16]


def test_two_migrations_do_not_run_at_once(tmp_path: Path) -> None:
    lake = newer(old_lake(tmp_path))
    with file_lock(lake.root, mode="exclusive", timeout_s=0), pytest.raises(LockTimeoutError):
        migrate(lake, DOUBLE_TWICE, timeout_s=0)
    assert lake.version() == 1
