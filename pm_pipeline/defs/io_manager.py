"""The lake as Dagster's storage: an asset returns rows, a downstream asset receives them, by partition.

An asset declares its table in its metadata: ``metadata={"lake_table": "backtest.signals"}``, and, where its
partitions are qualified (a strategy's markets), ``"lake_prefix": "favourite"``. What it returns may be

- a ``pa.Table``, if the run holds one partition or the asset has none;
- a mapping or an iterator of ``(partition key, pa.Table)``; an iterator is drained one partition at a time,
  so that a backfill of thousands of markets needs the memory of one (a generator goes into ``dg.Output``,
  else Dagster takes it for a stream of events).

What it receives is always :class:`Partitions`, however many there are.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import dagster as dg
import pyarrow as pa

from pm_pipeline.defs.resources import Workspace
from pm_pipeline.errors import PipelineError
from pm_pipeline.warehouse.conform import Partition
from pm_pipeline.warehouse.lake import Lake

TABLE: Final = "lake_table"
PREFIX: Final = "lake_prefix"
WHOLE: Final = "all"
"""Partition key under which an asset without partitions is stored."""


def with_meta(rows: pa.Table, meta: Mapping[str, str]) -> pa.Table:
    """Rows with notes that the lake keeps in the footer of their partition."""
    return rows.replace_schema_metadata(dict(meta))


class PartitionsMissingError(PipelineError):
    """An asset returned other partitions than its run holds, or one of them twice."""


class Partitions(Mapping[str, pa.Table]):
    """The partitions of an upstream asset that this run may read: key to rows, read when asked for."""

    def __init__(self, lake: Lake, table: str, partitions: Mapping[str, Partition]) -> None:
        self._lake, self._table, self._partitions = lake, table, partitions

    def __getitem__(self, key: str) -> pa.Table:
        return self._lake.read(self._table, self._partitions[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._partitions)

    def __len__(self) -> int:
        return len(self._partitions)


class LakeIOManager(dg.ConfigurableIOManager):
    """Reads and writes the partitions of one declared table per asset."""

    workspace: dg.ResourceDependency[Workspace]

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write what an asset returned; every partition of the run must be there, and no other."""
        table, prefix = _address(context.definition_metadata)
        expected = list(context.asset_partition_keys) if context.has_asset_partitions else [WHOLE]
        missing, rows = set(expected), 0
        for key, part in _parts(obj, expected):
            if key not in missing:
                why = "twice" if key in expected else "which this run does not hold"
                raise PartitionsMissingError(f"{table}: the asset returned {key!r}, {why}")
            missing.remove(key)
            meta = {k.decode(): v.decode() for k, v in (part.schema.metadata or {}).items()}
            rows += self.workspace.lake.write(table, (*prefix, key), part, meta=meta).rows
        if missing:
            raise PartitionsMissingError(
                f"{table}: of the {len(expected)} partitions of this run the asset returned all but "
                f"{len(missing)}, first {min(missing)!r}; return an empty table for one without rows"
            )
        context.add_output_metadata({"dagster/row_count": rows, "partitions": len(expected)})

    def load_input(self, context: dg.InputContext) -> Partitions:
        """Offer the partitions of the upstream asset that this run depends on."""
        upstream = context.upstream_output
        assert upstream is not None
        table, prefix = _address(upstream.definition_metadata)
        # sorted, because Dagster gives them as they lie in a set
        keys = sorted(context.asset_partition_keys) if context.has_asset_partitions else [WHOLE]
        return Partitions(self.workspace.lake, table, {key: (*prefix, key) for key in keys})


def _address(metadata: Mapping[str, Any]) -> tuple[str, Partition]:
    prefix = metadata.get(PREFIX)
    return metadata[TABLE], (prefix,) if prefix else ()


def _parts(obj: Any, expected: list[str]) -> Iterable[tuple[str, pa.Table]]:
    if isinstance(obj, pa.Table):
        if len(expected) > 1:
            raise PartitionsMissingError(
                f"the asset returned one table, and this run holds {len(expected)} partitions; "
                "return them by key"
            )
        return [(expected[0], obj)]
    return obj.items() if isinstance(obj, Mapping) else obj
