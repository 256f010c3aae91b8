"""When wallets are read without being asked."""

from typing import Final

import dagster as dg

from pm_pipeline.defs.wallets.jobs import INGEST_LEADERBOARD

DAILY_WALLETS: Final = dg.ScheduleDefinition(
    name="daily_wallets",
    job_name="ingest_wallets",
    cron_schedule="50 0 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Reads every wallet that is followed, once a day.",
)

DAILY_LEADERBOARD: Final = dg.build_schedule_from_partitioned_job(
    INGEST_LEADERBOARD,
    name="daily_leaderboard",
    hour_of_day=0,
    minute_of_hour=40,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Reads the leaderboards of the day that has just begun (UTC).",
)
