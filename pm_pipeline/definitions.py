"""The code location: everything that Dagster loads."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from pm_pipeline.config import Settings
from pm_pipeline.defs.backtest.assets import chain
from pm_pipeline.defs.backtest.jobs import asset_jobs, build_jobs
from pm_pipeline.defs.backtest.portfolio import build_reporting, portfolio
from pm_pipeline.defs.catalog.assets import catalog, rules
from pm_pipeline.defs.catalog.jobs import INGEST_CATALOG
from pm_pipeline.defs.catalog.schedules import DAILY_CATALOG
from pm_pipeline.defs.catalog.sensors import universe_sensor
from pm_pipeline.defs.config import BacktestConfig
from pm_pipeline.defs.io_manager import LakeIOManager
from pm_pipeline.defs.lineage import require_blind_signals
from pm_pipeline.defs.market_data.archive import fine_history_is_saved
from pm_pipeline.defs.market_data.assets import build_assets
from pm_pipeline.defs.market_data.bars import MAKE_BARS, trade_bars
from pm_pipeline.defs.market_data.books import BOOK_SNAPSHOTS, READ_RECORDING, book_snapshots, recorded_books
from pm_pipeline.defs.market_data.jobs import ARCHIVE_HISTORY, INGEST_MARKETS, INGEST_RESULTS
from pm_pipeline.defs.market_data.onchain import INGEST_ONCHAIN, onchain_fills
from pm_pipeline.defs.market_data.reconcile import RECONCILE, reconciliation
from pm_pipeline.defs.market_data.schedules import archive_history, daily_results
from pm_pipeline.defs.progress import terminal
from pm_pipeline.defs.resources import Warehouse, Workspace
from pm_pipeline.defs.wallets.assets import holders, leaderboard, wallet_activity, wallet_positions
from pm_pipeline.defs.wallets.jobs import WALLET_JOBS, build_wallet_jobs
from pm_pipeline.defs.wallets.schedules import DAILY_LEADERBOARD, DAILY_WALLETS
from pm_pipeline.strategies import REGISTRY, load_user_strategies


def build() -> dg.Definitions:
    """The definitions for the strategies that are registered now.

    Raises :class:`~pm_pipeline.defs.lineage.LineageError` if one of them could see a resolution.
    """
    strategies = [REGISTRY.get(name) for name in REGISTRY.names()]
    names = [cls.name for cls in strategies]
    workspace = Workspace()
    definitions = dg.Definitions(
        assets=[
            catalog,
            rules,
            *build_assets(),
            onchain_fills,
            recorded_books,
            reconciliation,
            trade_bars,
            wallet_activity,
            wallet_positions,
            holders,
            leaderboard,
            *(asset for cls in strategies for asset in (*chain(cls), portfolio(cls))),
            *build_reporting(names),
        ],
        asset_checks=[fine_history_is_saved],
        jobs=[
            INGEST_CATALOG,
            INGEST_MARKETS,
            ARCHIVE_HISTORY,
            INGEST_RESULTS,
            INGEST_ONCHAIN,
            READ_RECORDING,
            MAKE_BARS,
            RECONCILE,
            book_snapshots,
            *asset_jobs(names),
            *build_jobs(resolve),
            *WALLET_JOBS,
            *build_wallet_jobs(resolve),
        ],
        schedules=[
            DAILY_CATALOG,
            BOOK_SNAPSHOTS,
            archive_history,
            daily_results,
            DAILY_WALLETS,
            DAILY_LEADERBOARD,
        ],
        sensors=[universe_sensor],
        resources={"workspace": workspace, "lake": LakeIOManager(workspace=workspace), "duckdb": Warehouse()},
        loggers={"console": dg.colored_console_logger, "terminal": terminal},
        executor=dg.in_process_executor,
    )
    require_blind_signals(definitions)
    return definitions


def resolve(name: str) -> dg.JobDefinition:
    """A job of this code location."""
    return defs.resolve_job_def(name)


def run_job(name: str, asked: dict[str, Any], also: Sequence[str] = ()) -> str:
    """Run ``backtest`` or ``fetch`` in this process; the run's id. What its ops raise is raised here.

    ``also`` names what ``fetch`` reads and makes beside the market data.

    Raises :class:`UsageError` for what does not fit :class:`BacktestConfig`, before anything is started.
    """
    plan = BacktestConfig.parse(asked, name)
    ops = {"plan": {"config": plan}} | ({"enrich": {"config": {"also": list(also)}}} if also else {})
    config = {"ops": ops, "loggers": {"terminal": {}}}
    with dg.DagsterInstance.get() as instance:
        return resolve(name).execute_in_process(instance=instance, run_config=config).run_id


def run_wallets(asked: dict[str, Any]) -> str:
    """Run ``ingest_wallets`` in this process; the run's id. What its op raises is raised here."""
    config = {"ops": {"follow": {"config": asked}}, "loggers": {"terminal": {}}}
    with dg.DagsterInstance.get() as instance:
        return resolve("ingest_wallets").execute_in_process(instance=instance, run_config=config).run_id


load_user_strategies(Settings.from_environment().strategy_paths)
defs = build()
