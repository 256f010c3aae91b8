"""Registers a partition for each market of the universe as soon as the catalog knows it."""

import dagster as dg

from pm_pipeline.defs.partitions import CHUNK, MARKET_GROUPS, MARKETS
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.universe import choose, universe_of


@dg.sensor(
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Adds the markets of the universe, and their groups, as partitions.",
)
def universe_sensor(
    context: dg.SensorEvaluationContext, workspace: Workspace
) -> dg.SensorResult | dg.SkipReason:
    """Compare the catalog with the registered partitions and ask for those that are missing."""
    markets = choose(universe_of(workspace.settings), workspace.catalog.markets().values())
    wanted = {
        MARKETS: {str(market.key) for market in markets},
        MARKET_GROUPS: {market.group_key for market in markets if market.group_key},
    }
    requests = []
    for partitions, keys in wanted.items():
        assert partitions.name is not None
        missing = sorted(keys - set(context.instance.get_dynamic_partitions(partitions.name)))[:CHUNK]
        if missing:
            requests.append(partitions.build_add_request(missing))
    if not requests:
        return dg.SkipReason(f"all {len(markets)} markets of the universe are registered")
    return dg.SensorResult(dynamic_partitions_requests=requests)
