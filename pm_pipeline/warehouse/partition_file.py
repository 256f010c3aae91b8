"""One partition file: rows in Parquet, and a footer that says what they are.

How rows are cut into groups, what is noted beside them, and how a file is opened and held to its declared
columns. Where files lie, and who may replace which, is the lake's.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from pm_pipeline.warehouse.absence import to_stored
from pm_pipeline.warehouse.columns import Table
from pm_pipeline.warehouse.conform import Partition
from pm_pipeline.warehouse.files import Durability, StorageError, atomic_write, storing
from pm_pipeline.warehouse.fingerprint import Fingerprint

ROW_GROUP: Final = 131_072
"""Rows per row group; also the largest batch that :meth:`Lake.scan` yields."""

_FORMAT: Final[Mapping[str, Any]] = {
    "write_page_checksum": True,
    "max_rows_per_page": ROW_GROUP,  # pages of fewer rows cost a start of the decompressor each
}
_USER: Final = "pm.meta."
_VALUES: Final = "pm.values."
_LISTED: Final = 4_096
"""More distinct values than these are not listed in a footer."""

Bounds: TypeAlias = Callable[[str], tuple[Any, Any] | None]
"""The least and the greatest value of a column in a row group; ``None`` where they are not known."""


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """What the footer of a partition file says.

    ``fingerprint`` is a SHA-256 of the rows without ``ingested_at`` and ``run_id``: the same data fetched
    again has the same fingerprint.
    """

    table: str
    partition: Partition
    rows: int
    fingerprint: str
    schema_version: int
    meta: Mapping[str, str]


def write_file(
    path: Path,
    table: Table,
    partition: Partition,
    pieces: Iterable[pa.Table],
    *,
    meta: Mapping[str, str],
    schema_version: int,
    durability: Durability,
) -> PartitionInfo:
    """Replace a file by the pieces, which follow the declared columns and order; what its footer says.

    Only a row group is held at a time. On any error the file stays as it was.
    """
    fingerprint = Fingerprint(table)
    listed = {column.name: set[int]() for column in table.columns if column.listed}
    count = 0
    with atomic_write(path, durability) as temporary:
        with storing(path):
            writer = pq.ParquetWriter(temporary, table.stored, **_FORMAT, **table.storage)
        try:
            for group in _row_groups(pieces):
                fingerprint.update(group)
                _list_values(listed, group)
                count += group.num_rows
                stored = to_stored(table, group)
                with storing(path):
                    writer.write_table(stored, ROW_GROUP)
            info = PartitionInfo(
                table.name, partition, count, fingerprint.hexdigest(), schema_version, dict(meta)
            )
            writer.add_key_value_metadata(_footer(info) | _values(listed))
            with storing(path):
                writer.close()
        finally:
            # after an error the handle is let go of; the half-written file is removed in any case
            with suppress(OSError):
                writer.close()
    return info


def read_info(path: Path) -> PartitionInfo:
    """What the footer says. Raises ``pa.ArrowInvalid`` for a file that pm_pipeline did not write."""
    metadata = pq.read_metadata(path)
    footer = {key.decode(): value.decode() for key, value in (metadata.metadata or {}).items()}
    try:
        return PartitionInfo(
            footer["pm.table"],
            tuple(json.loads(footer["pm.partition"])),
            metadata.num_rows,
            footer["pm.fingerprint"],
            int(footer["pm.schema_version"]),
            {key.removeprefix(_USER): value for key, value in footer.items() if key.startswith(_USER)},
        )
    except KeyError as error:
        raise pa.ArrowInvalid(f"its footer lacks {error}: it was not written by pm_pipeline") from error


def read_values(path: Path, column: str) -> list[int] | None:
    """The distinct values of a ``listed`` column, rising; ``None`` where the footer does not list them."""
    found = (pq.read_metadata(path).metadata or {}).get(f"{_VALUES}{column}".encode())
    return None if found is None else [int(value) for value in json.loads(found)]


def open_file(path: Path, coded: Sequence[str] = ()) -> pq.ParquetFile:
    """The open file, to be closed. Nothing is read ahead: it would stay in memory until then."""
    return pq.ParquetFile(
        path, read_dictionary=list(coded), pre_buffer=False, page_checksum_verification=True
    )


def bounds_of(group: pq.RowGroupMetaData, places: Mapping[str, int], name: str) -> tuple[Any, Any] | None:
    """The least and the greatest value of a column in a row group, where the file notes them."""
    noted = group.column(places[name]).statistics
    if noted is None or not noted.has_min_max or noted.null_count:
        return None
    return noted.min, noted.max


def check_columns(path: Path, stored: pa.Schema, table: Table) -> None:
    """Raise :class:`StorageError` unless the file has the columns that are declared."""
    if not stored.equals(table.stored):
        raise StorageError(
            f"{path} does not have the declared columns of {table.name}: delete it and materialise it again"
        )


def _row_groups(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut and join the pieces into tables of :data:`ROW_GROUP` rows, the last one shorter."""
    held: list[pa.Table] = []
    rows = 0
    for piece in pieces:
        held.append(piece)
        rows += piece.num_rows
        while rows >= ROW_GROUP:
            joined = pa.concat_tables(held)
            yield joined.slice(0, ROW_GROUP)
            held, rows = [joined.slice(ROW_GROUP)], rows - ROW_GROUP
    if rows:
        yield pa.concat_tables(held)


def _list_values(listed: dict[str, set[int]], rows: pa.Table) -> None:
    """Add the values of these rows; a column of too many is listed no more."""
    for name in list(listed):
        listed[name].update(rows.column(name).drop_null().unique().to_pylist())
        if len(listed[name]) > _LISTED:
            del listed[name]


def _values(listed: Mapping[str, set[int]]) -> dict[str, str]:
    return {
        _VALUES + name: json.dumps(sorted(values), separators=(",", ":")) for name, values in listed.items()
    }


def _footer(info: PartitionInfo) -> dict[str, str]:
    return {
        "pm.table": info.table,
        "pm.partition": json.dumps(info.partition),
        "pm.schema_version": str(info.schema_version),
        "pm.fingerprint": info.fingerprint,
    } | {_USER + key: value for key, value in info.meta.items()}
