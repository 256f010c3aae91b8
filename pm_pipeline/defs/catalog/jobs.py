"""The daily reading of the catalog."""

from typing import Final

import dagster as dg

INGEST_CATALOG: Final = dg.define_asset_job(
    "ingest_catalog", selection=["catalog"], description="Reads today's catalog."
)
