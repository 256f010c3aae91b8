"""Numbered steps that bring a lake to the declared schema without losing a row.

A change of :mod:`pm_pipeline.warehouse.schema` raises ``SCHEMA_VERSION`` by one and adds one step here.
Step ``n`` turns files of version ``n - 1`` into version ``n``; files of other tables stay as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

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


MIGRATIONS: Final[tuple[Migration, ...]] = ()
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
