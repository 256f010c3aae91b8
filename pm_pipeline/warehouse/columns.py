"""What a table is made of: kinds of columns, how they are stored, and how a table is partitioned."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property
from typing import Any, Final

import pyarrow as pa


class Kind(Enum):
    """What a column holds, as its Arrow type in the lake."""

    TEXT = pa.string()
    MICRO = pa.int64()
    INT = pa.int32()
    COUNT = pa.uint64()
    FLAG = pa.bool_()
    TIME = pa.timestamp("us", "UTC")
    STAT = pa.float64()
    TEXTS = pa.list_(pa.string())
    MICROS = pa.list_(pa.int64())
    HASH = pa.binary(32)
    ADDRESS = pa.binary(20)


class Encoding(StrEnum):
    """How the values of a column are laid down in a Parquet file, before they are compressed.

    ``DELTA``: differences of neighbours, for numbers that climb. ``DICTIONARY``: each distinct value once,
    for what repeats.
    """

    DELTA = "DELTA_BINARY_PACKED"
    DICTIONARY = "RLE_DICTIONARY"


_USUAL: Final = {Kind.TIME: Encoding.DELTA, Kind.COUNT: Encoding.DELTA}
"""What suits a kind of column; a dictionary suits the others."""


class PartitionedBy(StrEnum):
    """What one partition file of a table holds."""

    DAY = "day"
    MARKET = "market"
    WALLET = "wallet"
    STRATEGY_MARKET = "strategy/market"
    TABLE_PARTITION = "table/partition"
    RUN = "run"
    RUN_STRATEGY = "run/strategy"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, kind, what it means, whether it may be null, and how it is stored.

    ``encoding`` is stated where that of the kind does not suit: times that jump and repeat. The distinct
    numbers of a ``listed`` column stand in the footer of a partition, as far as they are few. ``absent`` is
    what a file holds in place of null, see :mod:`pm_pipeline.warehouse.absence`.
    """

    name: str
    kind: Kind
    meaning: str
    nullable: bool = False
    encoding: Encoding | None = None
    listed: bool = False
    absent: int | str | None = None

    @property
    def stored_as(self) -> Encoding:
        """The encoding of the column."""
        return self.encoding or _USUAL.get(self.kind, Encoding.DICTIONARY)

    @property
    def leaf(self) -> str:
        """What Parquet calls the column's values."""
        return f"{self.name}.list.element" if pa.types.is_list(self.kind.value) else self.name


@dataclass(frozen=True)
class Table:
    """One table. ``name`` is ``schema.table``; rows of a partition are sorted by ``sorted_by``.

    The ``hot`` columns are read at full speed: they are compressed by LZ4, the others by Zstandard, which is
    smaller.
    """

    name: str
    meaning: str
    partitioned_by: PartitionedBy
    columns: tuple[Column, ...]
    sorted_by: tuple[str, ...]
    hot: tuple[str, ...] = ()

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of the rows."""
        return pa.schema([pa.field(c.name, c.kind.value, nullable=c.nullable) for c in self.columns])

    @cached_property
    def stored(self) -> pa.Schema:
        """The Arrow schema of a partition file."""
        return pa.schema(
            [pa.field(c.name, c.kind.value, nullable=c.nullable and c.absent is None) for c in self.columns]
        )

    @cached_property
    def storage(self) -> Mapping[str, Any]:
        """How all columns are encoded and compressed, as pyarrow's Parquet writer takes it."""
        stored = {c.leaf: c.stored_as for c in self.columns}
        return {
            "use_dictionary": [leaf for leaf, how in stored.items() if how is Encoding.DICTIONARY],
            "column_encoding": {
                leaf: how.value for leaf, how in stored.items() if how is not Encoding.DICTIONARY
            },
            "compression": {c.leaf: "lz4" if c.name in self.hot else "zstd" for c in self.columns},
        }

    def column(self, name: str) -> Column:
        """The column of this name."""
        return next(c for c in self.columns if c.name == name)
