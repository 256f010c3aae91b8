"""What was asked of a source and what came, so that no short answer passes for a quiet market."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.warehouse.conform import Partition
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.partition_file import PartitionInfo
from pm_pipeline.warehouse.records import to_table, with_nanos


class CoverageStatus(StrEnum):
    """What became of a request.

    ``COMPLETE``: rows came. ``PARTIAL``: rows came, but the source no longer keeps all that was asked for.
    ``EMPTY``: the source has none. ``UNSUPPORTED``: the venue does not offer this.
    ``FROZEN``: the source stopped for ever before the end of the window; what rows there are were written.
    ``QUIET``: the rows end long before they should; nothing was written. ``FAILED``: the source could not be
    read; nothing was written.
    """

    COMPLETE = "complete"
    PARTIAL = "partial"
    EMPTY = "empty"
    UNSUPPORTED = "unsupported"
    FROZEN = "frozen"
    QUIET = "quiet"
    FAILED = "failed"


_TABLE: Final = "ops.coverage"
_TIMES: Final = ("asked_from", "asked_to", "got_from", "got_to", "ingested_at")
_AS_THEY_ARE: Final = ("source", "status", "rows", "gaps", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """One source's answer for one partition. ``reason`` is empty when it is complete."""

    table: str
    partition: Partition
    source: str
    status: CoverageStatus
    asked_from: Nanos | None
    asked_to: Nanos | None
    got_from: Nanos | None
    got_to: Nanos | None
    rows: int
    gaps: int
    reason: str
    ingested_at: Nanos

    @property
    def complete(self) -> bool:
        """Whether the source gave rows, without a gap."""
        return self.status is CoverageStatus.COMPLETE and not self.gaps


def partition_text(partition: Partition | str) -> str:
    """A partition as one text: its parts joined by ``/``, a ``/`` or ``%`` within a part quoted."""
    parts = (partition,) if isinstance(partition, str) else partition
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def write_coverage(lake: Lake, coverage: Coverage | Sequence[Coverage]) -> PartitionInfo:
    """Replace what is recorded for one partition; several sources of it are given together.

    Raises :class:`UsageError` when the records are about different partitions, or there is none.
    """
    records = [coverage] if isinstance(coverage, Coverage) else list(coverage)
    about = {(record.table, record.partition) for record in records}
    if len(about) != 1:
        raise UsageError(f"coverage is written for one partition at a time, not for {len(about)}")
    [(table, partition)] = about
    rows = to_table(
        _TABLE,
        {name: [getattr(record, name) for record in records] for name in (*_AS_THEY_ARE, *_TIMES)}
        | {
            "table_name": [table] * len(records),
            "partition": [partition_text(partition)] * len(records),
        },
    )
    return lake.write(_TABLE, (table, partition_text(partition)), rows)


def read_coverage(lake: Lake, table: str, partition: Partition | str) -> list[Coverage]:
    """What is recorded for a partition, a record per source; empty where nothing was ever asked."""
    key = (table, partition_text(partition))
    if not lake.exists(_TABLE, key):
        return []
    return [
        Coverage(
            table=row["table_name"],
            partition=tuple(unquote(part) for part in row["partition"].split("/")),
            **{name: row[name] for name in (*_AS_THEY_ARE, *_TIMES)}
            | {"status": CoverageStatus(row["status"])},
        )
        for row in with_nanos(lake.read(_TABLE, key), _TIMES).to_pylist()
    ]
