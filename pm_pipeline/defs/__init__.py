"""The Dagster skin: assets, partitions, checks, jobs, schedules and sensors."""

import warnings

import dagster as dg

# backfill policies and pools are marked beta in this version of Dagster; there is nothing a user could do.
# It stands here because they are warned of while the modules of this package are imported.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
