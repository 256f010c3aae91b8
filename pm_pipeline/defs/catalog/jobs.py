"""The daily reading of the catalog."""

from typing import Final

import dagster as dg

from pm_pipeline.defs.partitions import DAYS

INGEST_CATALOG: Final = dg.define_asset_job(
    "ingest_catalog", selection=["catalog"], partitions_def=DAYS, description="Reads today's catalog."
)
