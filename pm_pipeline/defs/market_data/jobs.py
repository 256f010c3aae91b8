"""Reading the market data of some markets."""

from typing import Final

import dagster as dg

from pm_pipeline.defs.market_data.archive import ARCHIVED, RESULTS, fine_history_is_saved
from pm_pipeline.defs.market_data.assets import MEANINGS

INGEST_MARKETS: Final = dg.define_asset_job(
    "ingest_markets",
    selection=dg.AssetSelection.assets(*MEANINGS) - dg.AssetSelection.checks(fine_history_is_saved),
    description="Reads prices, candles, trades, books and results of markets.",
)

ARCHIVE_HISTORY: Final = dg.define_asset_job(
    "archive_history",
    selection=dg.AssetSelection.assets(*ARCHIVED),
    description="Reads what is new of prices and trades, and warns of what is about to be lost.",
)

INGEST_RESULTS: Final = dg.define_asset_job(
    "ingest_results",
    selection=dg.AssetSelection.assets(*RESULTS.assets),
    description="Reads how markets ended.",
)
