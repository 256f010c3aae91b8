"""A hash of what a partition says, whenever and in whatever pieces it was fetched."""

import hashlib
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.warehouse.columns import Table

_CIRCUMSTANCE: Final = frozenset({"ingested_at", "run_id"})
"""Columns that tell when and by whom a row was written, not what it says."""


class Fingerprint:
    """SHA-256 over the content of a table, fed piece by piece; ``ingested_at`` and ``run_id`` are left out.

    Each column is hashed as three streams (which rows are null, lengths, values), so that the result does
    not depend on how the rows were cut into batches. It does depend on their order.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns = {
            column.name: _ColumnHash() for column in table.columns if column.name not in _CIRCUMSTANCE
        }

    def update(self, rows: pa.Table) -> None:
        """Feed the next rows, which follow the declared schema."""
        for name, column in self._columns.items():
            for chunk in rows.column(name).chunks:
                column.update(chunk)

    def hexdigest(self) -> str:
        """The fingerprint of everything fed so far."""
        whole = hashlib.sha256(self._table.name.encode())
        for name, column in self._columns.items():
            whole.update(f"\n{name} {self._table.column(name).kind.name} {column.hexdigest()}".encode())
        return whole.hexdigest()


class _ColumnHash:
    """Hashes one column; the items of a list column are a column of their own."""

    def __init__(self) -> None:
        self._valid = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._values = hashlib.sha256()
        self._items: _ColumnHash | None = None

    def update(self, array: pa.Array) -> None:
        self._valid.update(_validity(array))
        if pa.types.is_list(array.type):
            self._lengths.update(pc.list_value_length(array).fill_null(0).to_numpy())
            self._items = self._items or _ColumnHash()
            self._items.update(array.flatten())
        elif pa.types.is_string(array.type):
            text = array.fill_null("") if array.null_count else array
            self._lengths.update(pc.binary_length(text).to_numpy())
            self._values.update(_characters(text))
        elif pa.types.is_fixed_size_binary(array.type):
            self._values.update(_bytes(array))
        else:
            self._values.update(_numbers(array))

    def hexdigest(self) -> str:
        items = self._items.hexdigest() if self._items else ""
        return f"{self._valid.hexdigest()}{self._lengths.hexdigest()}{self._values.hexdigest()}{items}"


def _validity(array: pa.Array) -> memoryview:
    if not array.null_count:
        return memoryview(b"\x01" * len(array))
    return memoryview(array.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False))


def _characters(text: pa.Array) -> memoryview:
    _, offsets, characters = text.buffers()
    if not len(text) or characters is None:
        return memoryview(b"")
    bounds = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    return memoryview(characters)[bounds[0] : bounds[-1]]


def _bytes(hashes: pa.Array) -> memoryview:
    """The bytes of values of one width; of a null, zeros."""
    width = hashes.type.byte_width
    whole = hashes.fill_null(bytes(width)) if hashes.null_count else hashes
    if not len(whole):
        return memoryview(b"")
    return memoryview(whole.buffers()[1])[whole.offset * width : (whole.offset + len(whole)) * width]


def _numbers(array: pa.Array) -> memoryview:
    if pa.types.is_timestamp(array.type):
        array = array.view(pa.int64())
    elif pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    return memoryview((array.fill_null(0) if array.null_count else array).to_numpy())
