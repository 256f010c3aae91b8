"""What a table is made of: kinds of columns, columns, and how a table is partitioned."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property

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


class PartitionedBy(StrEnum):
    """What one partition file of a table holds."""

    DAY = "day"
    MARKET = "market"
    STRATEGY_MARKET = "strategy/market"
    TABLE_PARTITION = "table/partition"
    RUN = "run"
    RUN_STRATEGY = "run/strategy"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, kind, what it means, and whether it may be null."""

    name: str
    kind: Kind
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One table. ``name`` is ``schema.table``; rows of a partition are sorted by ``sorted_by``."""

    name: str
    meaning: str
    partitioned_by: PartitionedBy
    columns: tuple[Column, ...]
    sorted_by: tuple[str, ...]

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of a partition file."""
        return pa.schema([pa.field(c.name, c.kind.value, nullable=c.nullable) for c in self.columns])

    def column(self, name: str) -> Column:
        """The column of this name."""
        return next(c for c in self.columns if c.name == name)
