"""Makes rows follow their declared schema, or says exactly why they do not."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.errors import PipelineError, did_you_mean
from pm_pipeline.warehouse.columns import PartitionedBy, Table

Partition: TypeAlias = tuple[str, ...]
"""The parts that name one partition of a table, for example ``("polymarket:654414",)``."""


class SchemaError(PipelineError):
    """Rows do not follow the declared columns, nullability, order or partition of their table."""


def conform(table: Table, partition: Partition, rows: pa.Table | pa.RecordBatch) -> pa.Table:
    """The rows with the declared columns, in the declared order and types.

    Only changes of representation are made: other integer widths, text encodings, units of time. A float
    never becomes an integer, a time without a zone never becomes UTC: both would invent knowledge.
    """
    data = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    if not data.schema.equals(table.arrow):
        _check_names(table, partition, data.column_names)
        data = pa.Table.from_arrays(
            [_cast(table, partition, data.column(field.name), field) for field in table.arrow],
            schema=table.arrow,
        )
    for column, values in zip(table.columns, data.columns, strict=True):
        if values.null_count and not column.nullable:
            raise _error(table, partition, column.name, f"has {values.null_count} null rows, none is allowed")
    if table.partitioned_by is PartitionedBy.MARKET:
        _check_market(table, partition, data.column("market_key"))
    return data


def in_order(table: Table, rows: pa.Table) -> pa.Table:
    """The rows sorted by the table's ``sorted_by``; rows that tie keep their order."""
    return rows if _is_sorted(table, rows) else rows.take(_order(table, rows))


def check_order(table: Table, partition: Partition, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Pass the pieces on, raising :class:`SchemaError` where they are not sorted by ``sorted_by``."""
    last: pa.Table | None = None
    for piece in pieces:
        if piece.num_rows:
            joined = piece if last is None else pa.concat_tables([last, piece])
            if not _is_sorted(table, joined):
                raise SchemaError(
                    f"{_place(table, partition)}: the stream is not sorted by {', '.join(table.sorted_by)}; "
                    "sort it at the source, or write it as one pyarrow Table, which is sorted for you"
                )
            last = piece.slice(piece.num_rows - 1)
        yield piece


def _order(table: Table, rows: pa.Table) -> pa.Array:
    return pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in table.sorted_by])


def _is_sorted(table: Table, rows: pa.Table) -> bool:
    keys = [rows.column(name) for name in table.sorted_by]
    if any(key.null_count for key in keys):
        return bool(np.array_equal(_order(table, rows).to_numpy(), np.arange(len(rows))))
    rising = pa.scalar(True)
    for key in reversed(keys):  # from the last key on: neighbours rise, or tie and rise by what follows
        former, later = key.slice(0, len(key) - 1), key.slice(1)
        rising = pc.or_(pc.less(former, later), pc.and_(pc.equal(former, later), rising))
    return len(rows) < 2 or bool(pc.all(rising).as_py())


def _check_names(table: Table, partition: Partition, names: list[str]) -> None:
    declared = table.arrow.names
    for name in names:
        if name not in declared:
            raise _error(table, partition, name, f"is not declared{did_you_mean(name, declared)}")
    for name in declared:
        if names.count(name) != 1:
            how = "is missing" if name not in names else "is there more than once"
            raise _error(table, partition, name, how)


_Check: TypeAlias = Callable[[pa.DataType], bool]

_SAFE_SOURCES: Final[tuple[tuple[_Check, _Check], ...]] = (
    (pa.types.is_string, lambda t: pa.types.is_large_string(t) or pa.types.is_string_view(t)),
    (pa.types.is_integer, pa.types.is_integer),
    (pa.types.is_floating, lambda t: pa.types.is_floating(t) or pa.types.is_integer(t)),
    (pa.types.is_timestamp, lambda t: pa.types.is_timestamp(t) and t.tz is not None),
)
"""(declared type, types that may stand for it) beyond the declared type itself."""


def _representable(source: pa.DataType, target: pa.DataType) -> bool:
    if source.equals(target) or pa.types.is_null(source):
        return True
    if pa.types.is_dictionary(source):
        return _representable(source.value_type, target)
    if pa.types.is_list(target):
        is_list = pa.types.is_list(source) or pa.types.is_large_list(source)
        return is_list and _representable(source.value_type, target.value_type)
    return any(declared(target) and allowed(source) for declared, allowed in _SAFE_SOURCES)


def _cast(table: Table, partition: Partition, values: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if not _representable(values.type, field.type):
        raise _error(table, partition, field.name, f"holds {values.type}, declared is {field.type}")
    try:
        return values.cast(field.type)
    except pa.ArrowInvalid as error:
        raise _error(
            table, partition, field.name, f"cannot become {field.type} without loss: {error}"
        ) from error


def _check_market(table: Table, partition: Partition, keys: pa.ChunkedArray) -> None:
    foreign = pc.filter(keys, pc.not_equal(keys, partition[-1]))
    if len(foreign):
        raise _error(
            table, partition, "market_key", f"names another market, for example {foreign[0].as_py()}"
        )


def _place(table: Table, partition: Partition) -> str:
    return f"{table.name}, partition {'/'.join(partition)}"


def _error(table: Table, partition: Partition, column: str, what: str) -> SchemaError:
    return SchemaError(f"{_place(table, partition)}: column {column!r} {what}")
