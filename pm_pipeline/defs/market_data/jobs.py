"""Reading the market data of some markets."""

from typing import Final

import dagster as dg

from pm_pipeline.defs.market_data.assets import MEANINGS
from pm_pipeline.defs.partitions import MARKETS

INGEST_MARKETS: Final = dg.define_asset_job(
    "ingest_markets",
    selection=list(MEANINGS),
    partitions_def=MARKETS,
    description="Reads prices, candles, trades, books and results of markets.",
)
