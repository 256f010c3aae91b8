"""Every table of the project, declared once: its columns, their meaning, and how it is partitioned.

In the lake a price, size or sum of money is an int64 of millionths (:class:`Kind.MICRO`), which the engine
reads as it is. In SQL the same column is an exact ``DECIMAL(18, 6)`` of dollars or contracts. Times are
``timestamp[us, UTC]`` and ``TIMESTAMPTZ``.
"""

from typing import Final

from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.warehouse.columns import Table
from pm_pipeline.warehouse.schema.backtest import BACKTEST
from pm_pipeline.warehouse.schema.catalog import CATALOG
from pm_pipeline.warehouse.schema.market_data import MARKET_DATA
from pm_pipeline.warehouse.schema.ops import OPS

SCHEMA_VERSION: Final = 6
"""Version of all declarations below; every step in :mod:`pm_pipeline.warehouse.migrations` adds one."""

_SAME_COLUMNS: Final = {
    "backtest.portfolio_fills": "backtest.fills",
    "backtest.portfolio_trips": "backtest.trips",
    "backtest.portfolio_rejections": "backtest.rejections",
}


def _complete() -> dict[str, Table]:
    tables = {table.name: table for table in (*CATALOG, *MARKET_DATA, *BACKTEST, *OPS)}
    for name, model in _SAME_COLUMNS.items():
        table = tables[name]
        tables[name] = Table(
            name, table.meaning, table.partitioned_by, tables[model].columns, table.sorted_by
        )
    return tables


TABLES: Final[dict[str, Table]] = _complete()
"""All tables by their full name."""


def table(name: str) -> Table:
    """The table of this name. Raises :class:`UsageError` with the nearest names."""
    if name not in TABLES:
        raise UsageError(f"there is no table {name!r}{did_you_mean(name, TABLES)}")
    return TABLES[name]
