"""When market data are read without being asked."""

import logging
from typing import Final, TypeAlias

import dagster as dg

from pm_pipeline.defs.interrupts import complete
from pm_pipeline.defs.launch import RANGE_END, RANGE_START
from pm_pipeline.defs.market_data.archive import HISTORY, RESULTS, Followed, due, ranges, universe_markets
from pm_pipeline.defs.market_data.jobs import ARCHIVE_HISTORY, INGEST_RESULTS
from pm_pipeline.defs.partitions import MARKETS
from pm_pipeline.defs.resources import Workspace

EVERY_SIX_HOURS: Final = "40 */6 * * *"
EVERY_DAY: Final = "10 1 * * *"
"""After the catalog, which tells what has closed."""

Tick: TypeAlias = list[dg.RunRequest] | dg.SkipReason


def runs_due(
    instance: dg.DagsterInstance, workspace: Workspace, log: logging.Logger, followed: Followed
) -> Tick:
    """Ask for the markets that are due, in few ranges of the registered partitions."""
    assert MARKETS.name is not None
    registered = instance.get_dynamic_partitions(MARKETS.name)
    markets = {str(market.key): market for market in universe_markets(workspace)}
    known = [market for key, market in markets.items() if key in set(registered)]
    if missing := len(markets) - len(known):
        log.warning(f"{missing} markets of the universe are no partitions yet: see universe_sensor")
    wanted = [str(market.key) for market in complete(due(workspace, known, followed))]
    if not wanted:
        return dg.SkipReason(f"nothing new can be had of {len(known)} markets")
    return [
        dg.RunRequest(tags={RANGE_START: first, RANGE_END: last})
        for first, last in ranges(registered, wanted)
    ]


@dg.schedule(
    name="archive_history",
    job=ARCHIVE_HISTORY,
    cron_schedule=EVERY_SIX_HOURS,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Saves prices and trades of the universe's markets that trade, or closed within a week, "
    "before the venue forgets their fine history.",
)
def archive_history(context: dg.ScheduleEvaluationContext, workspace: Workspace) -> Tick:
    """What :func:`runs_due` asks for."""
    return runs_due(context.instance, workspace, context.log, HISTORY)


@dg.schedule(
    name="daily_results",
    job=INGEST_RESULTS,
    cron_schedule=EVERY_DAY,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Reads how the universe's markets ended that have closed, until their end is final.",
)
def daily_results(context: dg.ScheduleEvaluationContext, workspace: Workspace) -> Tick:
    """What :func:`runs_due` asks for."""
    return runs_due(context.instance, workspace, context.log, RESULTS)
