"""When the catalog is read without being asked."""

from typing import Final

import dagster as dg

from pm_pipeline.defs.catalog.jobs import INGEST_CATALOG

DAILY_CATALOG: Final = dg.build_schedule_from_partitioned_job(
    INGEST_CATALOG,
    name="daily_catalog",
    hour_of_day=0,
    minute_of_hour=20,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Reads the catalog of the day that has just begun (UTC).",
)
