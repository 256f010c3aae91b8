"""DuckDB over the lake: in-memory views for assets, and one published file for people.

Both show the same names and types: prices, sizes and money as exact ``DECIMAL(18, 6)``, times as
``TIMESTAMPTZ`` in UTC. Always write the schema (``market_data.prices``): DuckDB takes a bare name that it
does not know for a Python variable.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import duckdb

from pm_pipeline.warehouse import schema
from pm_pipeline.warehouse.columns import Column, Kind, Table
from pm_pipeline.warehouse.conform import Partition
from pm_pipeline.warehouse.files import TEMPORARY, StorageError, make_folder, storing, sync
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.locks import file_lock
from pm_pipeline.warehouse.schema import TABLES

_SQL_TYPE: Final = {
    Kind.TEXT: "VARCHAR",
    Kind.MICRO: "DECIMAL(18, 6)",
    Kind.INT: "INTEGER",
    Kind.COUNT: "UBIGINT",
    Kind.FLAG: "BOOLEAN",
    Kind.TIME: "TIMESTAMPTZ",
    Kind.STAT: "DOUBLE",
    Kind.TEXTS: "VARCHAR[]",
    Kind.MICROS: "DECIMAL(18, 6)[]",
    Kind.HASH: "BLOB",
    Kind.ADDRESS: "BLOB",
}

_FILES: Final = "**/*.parquet"

_BIG: Final = frozenset({"market_data"})
"""Schemas whose tables stay in the lake and are published as views; all others are copied."""

_HELD: Final = "another program has it open for writing; close that program and try again"
_DAMAGED: Final = "it is damaged; remove it and materialise the warehouse asset, which makes it from the lake"


def connect(
    lake: Lake, tables: Iterable[str] | Mapping[str, Iterable[Partition | str]] | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with a view per table (all of them by default) over its partition files.

    Where ``tables`` names partitions, a view holds these alone, and opens no other file. Else it sees also
    partitions that are written later, unless the table had none at all when it was made.
    DuckDB opens a file twice: a query in the very moment in which one of its partitions is replaced may fail,
    or mix its old and new rows; ask again. :meth:`Lake.read`, which assets use, opens a file once.
    """
    lake.require_current()
    connection = duckdb.connect()
    # a misspelt table is an error, not a look-up among the caller's Python variables
    connection.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false").fetchall()
    with _reading(lake.root):
        for name in TABLES if tables is None else tables:
            table = schema.table(name)
            named = tables[name] if isinstance(tables, Mapping) else None
            _create(connection, table, "VIEW", _select(table, _files(lake, table, named)))
    return connection


def publish(lake: Lake, path: Path, *, timeout_s: float = 60.0) -> dict[str, int]:
    """Build the warehouse file anew and rename it over ``path``; the rows of each table that was copied.

    Catalog, backtest and ops tables are copied, market data are views over the lake by absolute path.
    Readers that hold the old file keep it until they close it.

    Raises
    ------
    StorageError
        for a damaged partition, or when the disk is full; the old file stays.
    LockTimeoutError
        when readers or another publisher do not let go within ``timeout_s``.
    """
    lake.require_current()
    path = Path(path)
    stem = f"{TEMPORARY}{path.name}-"
    with (
        file_lock(path, mode="exclusive", timeout_s=timeout_s),
        file_lock(lake.root, mode="shared", timeout_s=timeout_s),
        storing(path),
    ):
        make_folder(path.parent, lake.durability)
        for leftover in path.parent.glob(f"{stem}*"):  # of a killed publisher: we hold its lock
            leftover.unlink()
        temporary = path.with_name(f"{stem}{os.getpid()}-{uuid4().hex}")
        try:
            rows = _build(lake, temporary)
            sync(temporary)
            # a log that a killed writer left must never be replayed into the new file
            path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
            temporary.replace(path)
            sync(path.parent)
        finally:
            for leftover in path.parent.glob(f"{stem}*"):
                leftover.unlink()
    return rows


@contextmanager
def open_warehouse(path: Path, *, timeout_s: float = 30.0) -> Iterator[duckdb.DuckDBPyConnection]:
    """The published file, read-only, under a shared lock: publishers wait, so keep it short.

    Raises
    ------
    StorageError
        when the file is missing, damaged, or held by a program that takes no part in the locking.
    LockTimeoutError
        when a publisher holds it for longer than ``timeout_s``.
    """
    path = Path(path)
    if not path.exists():
        raise StorageError(f"there is no {path}: materialise the warehouse asset, which builds it")
    with file_lock(path, mode="shared", timeout_s=timeout_s):
        try:
            connection = duckdb.connect(str(path), read_only=True)
        except duckdb.Error as error:
            held = "lock" in str(error).lower() or isinstance(error, duckdb.ConnectionException)
            raise StorageError(f"cannot open {path}: {_HELD if held else _DAMAGED}. ({error})") from error
        try:
            connection.execute("SET TimeZone = 'UTC'").fetchall()
            yield connection
        finally:
            connection.close()


def _build(lake: Lake, path: Path) -> dict[str, int]:
    rows: dict[str, int] = {}
    with _reading(lake.root), duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'").fetchall()
        for name, table in TABLES.items():
            kind = "VIEW" if _schema_of(table) in _BIG else "TABLE"
            if kind == "VIEW":
                _create(connection, table, kind, _select(table, _files(lake, table)))
            else:
                with lake.snapshot(name) as folder:
                    _create(connection, table, kind, _select(table, _all_in(folder)))
            connection.execute(f"COMMENT ON {kind} {name} IS {_literal(table.meaning)}").fetchall()
            for column in table.columns:
                comment = _literal(column.meaning)
                connection.execute(f"COMMENT ON COLUMN {name}.{_name(column)} IS {comment}").fetchall()
            if kind == "TABLE":
                [(rows[name],)] = connection.execute(f"SELECT count(*) FROM {name}").fetchall()
    return rows


def _create(connection: duckdb.DuckDBPyConnection, table: Table, kind: str, select: str) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_schema_of(table)}").fetchall()
    connection.execute(f"CREATE {kind} {table.name} AS {select}").fetchall()


def _files(lake: Lake, table: Table, partitions: Iterable[Partition | str] | None = None) -> list[str]:
    """The files of these partitions, or a pattern for those of the whole table."""
    if partitions is None:
        return _all_in(lake.root / table.name)
    return [_verbatim(str(path.resolve())) for path in lake.paths(table.name, partitions)]


def _all_in(folder: Path) -> list[str]:
    """A pattern for the partition files in a folder; nothing where there is none."""
    if next(folder.glob(_FILES), None) is None:
        return []
    return [f"{_verbatim(str(folder.resolve()))}/{_FILES}"]


def _select(table: Table, files: Sequence[str]) -> str:
    """The rows of partition files, by names or patterns; a typed nothing where there is none.

    All files of a current lake have the declared columns, so that they need not all be opened to unite
    theirs.
    """
    if not files:
        columns = ", ".join(f"NULL::{_SQL_TYPE[column.kind]} AS {_name(column)}" for column in table.columns)
        return f"SELECT {columns} WHERE false"
    columns = ", ".join(f"{_shown(column)} AS {_name(column)}" for column in table.columns)
    named = ", ".join(map(_literal, files))
    return f"SELECT {columns} FROM read_parquet([{named}], hive_partitioning = false)"


def _shown(column: Column) -> str:
    stored = _name(column)
    if column.absent is not None:
        absent = _literal(column.absent) if isinstance(column.absent, str) else str(column.absent)
        stored = f"nullif({stored}, {absent})"
    if column.kind is Kind.MICRO:
        return _exact(stored)
    if column.kind is Kind.MICROS:
        return f"list_transform({stored}, lambda item: {_exact('item')})"
    return f"{stored}::{_SQL_TYPE[column.kind]}"


def _name(column: Column) -> str:
    return f'"{column.name}"'


def _exact(micro: str) -> str:
    """Millionths as a decimal; a product of decimals is exact, where DuckDB's division would be a float."""
    return f"({micro}::DECIMAL(18, 0) * 0.000001::DECIMAL(7, 6))::DECIMAL(18, 6)"


def _schema_of(table: Table) -> str:
    return table.name.partition(".")[0]


def _verbatim(path: str) -> str:
    """A path in which a glob takes no character for a wildcard."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


@contextmanager
def _reading(root: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise StorageError(
            f"DuckDB failed over the lake {root}: {error}. If it names a partition file, delete "
            "that file and materialise the partition again; if the disk is full, free some space"
        ) from error
