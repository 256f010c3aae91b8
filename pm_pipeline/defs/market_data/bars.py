"""Bars of trades, made of what the lake holds: no venue is asked."""

from typing import Final

import dagster as dg
from pydantic import Field

from pm_pipeline.defs.market_data.assets import find_markets
from pm_pipeline.defs.partitions import MARKETS
from pm_pipeline.defs.progress import counter
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.research.bars import write_bars


class Bars(dg.Config):
    """How long a bar is."""

    period_s: int = Field(60, ge=1, description="seconds of a bar")


@dg.asset(
    group_name="market_data",
    kinds={"parquet"},
    partitions_def=MARKETS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=["trades"],
)
def trade_bars(context: dg.AssetExecutionContext, workspace: Workspace, config: Bars) -> dg.MaterializeResult:
    """Open, high, low, close, volume, notional and bought volume of every minute with a trade.

    Blocks negotiated off the book are left out. A bar is known when it has ended and its last trade is known.
    """
    markets = find_markets(workspace, context.partition_keys)
    done = counter(context.log, "trade_bars", len(markets))
    rows = 0
    for market in markets:
        written = write_bars(
            workspace.lake, str(market.key), outcomes=len(market.instruments), period_s=config.period_s
        )
        rows += written.rows
        done(written)
    return dg.MaterializeResult(
        metadata={"dagster/row_count": rows, "markets": len(markets), "world": workspace.settings.label}
    )


MAKE_BARS: Final = dg.define_asset_job(
    "make_bars", selection=["trade_bars"], description="Makes bars of the trades of markets."
)
