"""When market data are read without being asked."""

import logging
from typing import Final

import dagster as dg

from pm_pipeline.defs.interrupts import complete
from pm_pipeline.defs.launch import RANGE_END, RANGE_START
from pm_pipeline.defs.market_data.archive import due, ranges, universe_markets
from pm_pipeline.defs.market_data.jobs import ARCHIVE_HISTORY
from pm_pipeline.defs.partitions import MARKETS
from pm_pipeline.defs.resources import Workspace

EVERY_SIX_HOURS: Final = "40 */6 * * *"


def runs_due(
    instance: dg.DagsterInstance, workspace: Workspace, log: logging.Logger
) -> list[dg.RunRequest] | dg.SkipReason:
    """Ask for the markets that are due, in few ranges of the registered partitions."""
    assert MARKETS.name is not None
    registered = instance.get_dynamic_partitions(MARKETS.name)
    markets = {str(market.key): market for market in universe_markets(workspace)}
    known = [market for key, market in markets.items() if key in set(registered)]
    if missing := len(markets) - len(known):
        log.warning(f"{missing} markets of the universe are no partitions yet: see universe_sensor")
    wanted = [str(market.key) for market in complete(due(workspace, known))]
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
def archive_history(
    context: dg.ScheduleEvaluationContext, workspace: Workspace
) -> list[dg.RunRequest] | dg.SkipReason:
    """What :func:`runs_due` asks for."""
    return runs_due(context.instance, workspace, context.log)
