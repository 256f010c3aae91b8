"""The code location: everything that Dagster loads."""

import warnings
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
from pm_pipeline.defs.io_manager import LakeIOManager
from pm_pipeline.defs.market_data.assets import build_assets
from pm_pipeline.defs.market_data.jobs import INGEST_MARKETS
from pm_pipeline.defs.progress import terminal
from pm_pipeline.defs.resources import Warehouse, Workspace
from pm_pipeline.strategies import REGISTRY, load_user_strategies

# backfill policies and pools are marked beta in this version of Dagster; there is nothing a user could do
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def build() -> dg.Definitions:
    """The definitions for the strategies that are registered now."""
    strategies = [REGISTRY.get(name) for name in REGISTRY.names()]
    names = [cls.name for cls in strategies]
    workspace = Workspace()
    return dg.Definitions(
        assets=[
            catalog,
            rules,
            *build_assets(),
            *(asset for cls in strategies for asset in (*chain(cls), portfolio(cls))),
            *build_reporting(names),
        ],
        jobs=[INGEST_CATALOG, INGEST_MARKETS, *asset_jobs(names), *build_jobs(resolve)],
        schedules=[DAILY_CATALOG],
        sensors=[universe_sensor],
        resources={"workspace": workspace, "lake": LakeIOManager(workspace=workspace), "duckdb": Warehouse()},
        loggers={"console": dg.colored_console_logger, "terminal": terminal},
        executor=dg.in_process_executor,
    )


def resolve(name: str) -> dg.JobDefinition:
    """A job of this code location."""
    return defs.resolve_job_def(name)


def run_job(name: str, plan: dict[str, Any]) -> None:
    """Run ``backtest`` or ``fetch`` in this process. What its ops raise is raised here."""
    config = {"ops": {"plan": {"config": plan}}, "loggers": {"terminal": {}}}
    resolve(name).execute_in_process(instance=dg.DagsterInstance.get(), run_config=config)


load_user_strategies(Settings.from_environment().strategy_paths)
defs = build()
