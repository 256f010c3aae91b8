"""Numbered steps that bring a lake to the declared schema without losing a row.

A change of :mod:`pm_pipeline.warehouse.schema` raises ``SCHEMA_VERSION`` by one and adds one step here.
Step ``n`` turns files of version ``n - 1`` into version ``n``; files of other tables stay as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.warehouse.columns import Kind
from pm_pipeline.warehouse.lake import Lake, SchemaVersionError
from pm_pipeline.warehouse.locks import file_lock
from pm_pipeline.warehouse.schema import SCHEMA_VERSION

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "Migration", "migrate"]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: which table changes, what changes, and how its rows are rewritten.

    ``upgrade`` gets the rows of one partition as they are stored and returns them as the next version
    wants them. It must keep every row that it cannot carry over exactly as it found it, or raise.
    """

    number: int
    table: str
    what: str
    upgrade: Callable[[pa.Table], pa.Table]


def _with(rows: pa.Table, after: str, *columns: tuple[str, pa.DataType, Any]) -> pa.Table:
    """The rows with further columns behind one of them, each of one value throughout."""
    place = rows.column_names.index(after) + 1
    for offset, (name, kind, value) in enumerate(columns):
        values = pa.array([value] * len(rows), kind)
        rows = rows.add_column(place + offset, pa.field(name, kind, nullable=value is None), values)
    return rows


def _signals_rest(rows: pa.Table) -> pa.Table:
    return _with(
        rows,
        "tag",
        ("all_or_none", pa.bool_(), False),
        ("name", pa.string(), ""),
        ("side", pa.string(), "buy"),
        ("size", pa.int64(), None),
        ("post_only", pa.bool_(), True),
        ("expires_at", Kind.TIME.value, None),
    )


def _orders_end(rows: pa.Table) -> pa.Table:
    """What an order got is known, not why it got no more: an order that got nothing reads ``open``."""
    filled = pc.greater(rows.column("filled"), 0)
    rows = _with(rows, "limit_price", ("ended", pa.string(), ""))
    at = rows.column_names.index("ended")
    return rows.set_column(at, rows.schema.field("ended"), pc.if_else(filled, "filled", "open"))


def _instruments_positions(rows: pa.Table) -> pa.Table:
    return _with(rows, "token_id", ("position_id", pa.string(), None))


def _markets_sources(rows: pa.Table) -> pa.Table:
    """What the rules name is read anew with the next catalog; older readings keep their text as it was."""
    return _with(
        rows,
        "resolution_source",
        ("resolution_host", pa.string(), None),
        ("resolution_station", pa.string(), None),
    )


MIGRATIONS: Final[tuple[Migration, ...]] = (
    Migration(2, "backtest.signals", "signals may ask for orders that rest", _signals_rest),
    Migration(3, "backtest.orders", "orders say how they ended", _orders_end),
    Migration(4, "market_data.book_events", "a value stands for null in the file", lambda rows: rows),
    Migration(
        5, "catalog.instruments", "outcomes bear their id of the second protocol", _instruments_positions
    ),
    Migration(6, "catalog.markets", "markets say which page or station decides", _markets_sources),
)
"""All steps so far; version 1 is the first one and needs none."""


def migrate(lake: Lake, migrations: Sequence[Migration] = MIGRATIONS, *, timeout_s: float = 60.0) -> int:
    """Bring a lake to the version of the code; the number of files rewritten.

    Each file is replaced atomically and knows its version, so a killed migration is simply run again. The
    marker of the lake moves last: until then this code refuses to read or write the half-migrated lake. The
    exclusive lock on the lake keeps other migrations and publishers out; end running assets first.

    Raises
    ------
    SchemaVersionError
        when the steps do not lead to the version of the code.
    LockTimeoutError
        when another process holds the lake.
    """
    steps = sorted(migrations, key=lambda step: step.number)
    if [step.number for step in steps] != list(range(2, lake.schema_version + 1)):
        raise SchemaVersionError(
            f"the migrations {[step.number for step in steps]} do not lead from version 1 to version "
            f"{lake.schema_version}, one by one: a step is missing in pm_pipeline.warehouse.migrations"
        )
    with file_lock(lake.root, mode="exclusive", timeout_s=timeout_s):
        if lake.version() == lake.schema_version:
            return 0
        rewritten = sum(
            _migrate_table(lake, table, [step for step in steps if step.table == table])
            for table in sorted({step.table for step in steps})
        )
        lake.mark_version(lake.schema_version)
    return rewritten


def _migrate_table(lake: Lake, table: str, steps: Sequence[Migration]) -> int:
    rewritten = 0
    for partition in lake.partitions(table):
        info = lake.info(table, partition)
        due = [step for step in steps if info and step.number > info.schema_version]
        if due:
            rows, stored = lake.read_stored(table, partition)
            for step in due:
                rows = step.upgrade(rows)
            lake.rewrite(table, partition, rows, stored.meta)
            rewritten += 1
    return rewritten
