"""On-chain fills as they were known at a time."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets.clock import FOREVER, Nanos, to_datetime
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.warehouse.columns import Kind
from pm_pipeline.warehouse.lake import Lake

FILLS: Final = "market_data.wallet_fills"


def fills_known_at(lake: Lake, market: MarketKey, until: Nanos = FOREVER) -> pa.Table:
    """The fills of a market that anybody could have read at ``until``, in the order of the chain.

    Raises :class:`~pm_pipeline.warehouse.lake.MissingPartitionError` where nobody has fetched them.
    """
    rows = lake.read(FILLS, str(market))
    if until >= FOREVER:
        return rows
    # to whole microseconds, as the rows are: a later one is not known yet
    last = pa.scalar(to_datetime(until), Kind.TIME.value)
    return rows.filter(pc.less_equal(rows.column("known_at"), last))
