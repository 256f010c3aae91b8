"""What assets and ops may use: the workspace of the configured world, and the DuckDB file for people."""

from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from pm_pipeline.config import Settings
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.listed_fees import rules_of
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.sources.adapter import PlatformAdapter
from pm_pipeline.sources.connect import AsgiApp, SourceMode, open_adapter, open_fills
from pm_pipeline.sources.sandbox.app import build_app
from pm_pipeline.sources.sandbox.serve import load_world
from pm_pipeline.warehouse.archive import PageArchive
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.duck import open_warehouse
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import listed_fees_from_table

if TYPE_CHECKING:
    from pm_pipeline.sources.polymarket.onchain.ingest import FillSource

LISTED_FEES: Final = "catalog.listed_fees"


class Workspace(dg.ConfigurableResource):
    """The lake, the catalog and the venue clients of the world that the ``PM_*`` environment names."""

    @property
    def settings(self) -> Settings:
        """The settings, read anew so that a test or a run may change the environment."""
        return Settings.from_environment()

    @property
    def lake(self) -> Lake:
        """The partition files."""
        return Lake(self.settings.lake_dir)

    @property
    def catalog(self) -> Catalog:
        """What is known of markets."""
        return Catalog(self.lake)

    @property
    def rules(self) -> RuleBook:
        """The dated rules as they bind this account: the packaged ones, overlaid with what the venues listed.

        Read anew each time; a run that asks often keeps them.
        """
        lake = self.lake
        days = [lake.read(LISTED_FEES, day) for day in lake.partitions(LISTED_FEES)]
        listed = (fee for rows in days for fee in listed_fees_from_table(rows))
        account = RuleBook.default().for_account(kalshi_balance=self.settings.kalshi_balance)
        return account.overlaid(rules_of(listed)) if days else account

    @asynccontextmanager
    async def adapter(self, venue: Venue) -> AsyncIterator[PlatformAdapter]:
        """The client of one venue, pointed where ``PM_SOURCE`` says."""
        settings = self.settings
        endpoint = settings.polygon_rpc
        async with open_adapter(
            venue,
            settings.source,
            archive=self._archive(),
            sandbox_app=self._sandbox(),
            sandbox_url=settings.sandbox_url,
            contact=settings.contact,
            polygon_rpc=endpoint.get_secret_value() if endpoint else None,
            polygon_logs=settings.polygon_logs,
            asked=settings.resolutions,
        ) as adapter:
            yield adapter

    @asynccontextmanager
    async def fills(self) -> AsyncIterator["FillSource"]:
        """The source of Polymarket's on-chain fills that ``PM_ONCHAIN`` and its companions name."""
        settings = self.settings
        endpoint = settings.polygon_rpc
        async with open_fills(
            settings.source,
            settings.onchain,
            endpoint=endpoint.get_secret_value() if endpoint else None,
            files=settings.polygon_logs,
            archive=self._archive(),
            sandbox_app=self._sandbox(),
            sandbox_url=settings.sandbox_url,
            contact=settings.contact,
        ) as source:
            yield source

    def _archive(self) -> PageArchive | None:
        """Where raw pages are read from, or kept; ``None`` where they are not."""
        settings = self.settings
        replayed = settings.source is SourceMode.ARCHIVE
        if replayed and not settings.archive_dir.is_dir():
            raise UsageError(
                f"there is no archive of raw pages at {settings.archive_dir}; read with PM_SOURCE=live "
                "first, or set PM_DATA_DIR to the folder that holds it"
            )
        keep = (
            replayed
            or settings.archive_pages == "always"
            or (settings.archive_pages == "live" and settings.source is SourceMode.LIVE)
        )
        return PageArchive(settings.archive_dir) if keep else None

    def _sandbox(self) -> AsgiApp | None:
        """The sandbox, where it runs in this process."""
        settings = self.settings
        in_process = settings.source is SourceMode.SANDBOX and settings.sandbox_url is None
        return build_app(load_world(settings.sandbox_world)) if in_process else None


class Warehouse(DuckDBResource):
    """``warehouse.duckdb`` for reading, under the shared lock that its writer respects."""

    database: str = ""

    @contextmanager
    def get_connection(self) -> Generator[duckdb.DuckDBPyConnection, None, None]:
        """A read-only connection, to be kept for a short time: a writer waits for it."""
        named = Path(self.database) if self.database else Settings.from_environment().warehouse_path
        with open_warehouse(named) as connection:
            yield connection
