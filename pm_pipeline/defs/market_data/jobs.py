"""Reading the market data of some markets."""

from typing import Final

import dagster as dg

from pm_pipeline.defs.market_data.assets import MEANINGS

INGEST_MARKETS: Final = dg.define_asset_job(
    "ingest_markets",
    selection=list(MEANINGS),
    description="Reads prices, candles, trades, books and results of markets.",
)
