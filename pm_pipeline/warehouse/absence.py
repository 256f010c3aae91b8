"""How a file says null in a column that is read at full speed: by a value that no row may hold.

A nullable column of Parquet carries for each row whether it is null, and decoding that takes as long as
decoding the numbers. So a column of :class:`~pm_pipeline.warehouse.columns.Column` may name a value that
stands for null in the file. Rows in memory, and the views in SQL, show null.
"""

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.warehouse.columns import Table
from pm_pipeline.warehouse.conform import SchemaError


def to_stored(table: Table, rows: pa.Table) -> pa.Table:
    """Declared rows as they lie in a file.

    Raises :class:`SchemaError` where a row holds the value that stands for null.
    """
    for place, column in enumerate(table.columns):
        if column.absent is None:
            continue
        values = rows.column(place)
        if pc.any(pc.equal(values, column.absent)).as_py():
            raise SchemaError(
                f"{table.name}: column {column.name!r} holds {column.absent!r}, "
                "which stands for null in a file"
            )
        filled = pc.fill_null(values, pa.scalar(column.absent, values.type))
        rows = rows.set_column(place, table.stored.field(place), filled)
    return rows


def from_stored(table: Table, rows: pa.Table) -> pa.Table:
    """Rows of a file, some columns of it or all, as they are declared. Files of old hold null as it is."""
    for place, field in enumerate(rows.schema):
        absent = table.column(field.name).absent if field.name in table.arrow.names else None
        if absent is None or field.nullable:
            continue
        values = rows.column(place)
        shown = pc.if_else(pc.equal(values, absent), pa.scalar(None, values.type), values)
        rows = rows.set_column(place, field.with_nullable(True), shown)
    return rows
