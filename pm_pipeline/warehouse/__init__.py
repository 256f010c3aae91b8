"""Where data lives: the lake of partition files, the DuckDB views over it, and the as-of door."""

from pm_pipeline.warehouse.archive import ArchiveError, Entry, Page, PageArchive, canonical_request
from pm_pipeline.warehouse.arrays import BookLog, Quote, Quotes, TradeArrays
from pm_pipeline.warehouse.asof import AsOfView, LookAheadError, MarketData, open_view, view_of
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.conform import Partition, SchemaError
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, read_coverage, write_coverage
from pm_pipeline.warehouse.duck import connect, open_warehouse, publish
from pm_pipeline.warehouse.files import Durability, StorageError
from pm_pipeline.warehouse.lake import (
    WHOLE,
    Lake,
    MissingPartitionError,
    SchemaVersionError,
)
from pm_pipeline.warehouse.locks import LockTimeoutError, file_lock
from pm_pipeline.warehouse.migrations import MIGRATIONS, Migration, migrate
from pm_pipeline.warehouse.partition_file import PartitionInfo
from pm_pipeline.warehouse.records import (
    events_from_table,
    events_to_table,
    groups_from_table,
    groups_to_table,
    markets_from_tables,
    markets_to_tables,
    resolution_from_rows,
    resolutions_to_table,
    time_array,
    to_table,
    trades_from_table,
    trades_to_batch,
)
from pm_pipeline.warehouse.replay import BookReplay
from pm_pipeline.warehouse.schema import SCHEMA_VERSION, TABLES, table

__all__ = [
    "MIGRATIONS",
    "SCHEMA_VERSION",
    "TABLES",
    "WHOLE",
    "ArchiveError",
    "AsOfView",
    "BookLog",
    "BookReplay",
    "Catalog",
    "Coverage",
    "CoverageStatus",
    "Durability",
    "Entry",
    "Lake",
    "LockTimeoutError",
    "LookAheadError",
    "MarketData",
    "Migration",
    "MissingPartitionError",
    "Page",
    "PageArchive",
    "Partition",
    "PartitionInfo",
    "Quote",
    "Quotes",
    "SchemaError",
    "SchemaVersionError",
    "StorageError",
    "TradeArrays",
    "canonical_request",
    "connect",
    "events_from_table",
    "events_to_table",
    "file_lock",
    "groups_from_table",
    "groups_to_table",
    "markets_from_tables",
    "markets_to_tables",
    "migrate",
    "open_view",
    "open_warehouse",
    "publish",
    "read_coverage",
    "resolution_from_rows",
    "resolutions_to_table",
    "table",
    "time_array",
    "to_table",
    "trades_from_table",
    "trades_to_batch",
    "view_of",
    "write_coverage",
]
