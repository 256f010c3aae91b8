"""One asset per kind of market data, one partition per market."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Final

import dagster as dg

from pm_pipeline.defs.interrupts import complete
from pm_pipeline.defs.market_data.checked import Results, materialised
from pm_pipeline.defs.market_data.checks import CHECKS
from pm_pipeline.defs.partitions import MARKETS, READ_DAILY
from pm_pipeline.defs.progress import counter
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.endings import ingest_resolutions
from pm_pipeline.sources.ingest import RESOLUTIONS, Outcome, ingest

MEANINGS: Final = {
    "prices": "Mid points of each outcome, with bid and ask where the venue gives them.\n\n"
    "A mid is not a price anybody could trade at; fills on it assume a declared half-spread and say so.",
    "candles": "Candlesticks of bid, ask and trades, where the venue has them (Kalshi).",
    "trades": "Taker executions as the venue's feed shows them, multiplicity kept.",
    "book_events": "The order book of outcome 0 as a log of resets, levels and gaps.\n\n"
    "Fills on recorded depth are the best evidence there is; no order is filled across a gap.",
    "resolutions": "How each market ended: its payouts, when trading stopped, when money moved.\n\n"
    "No signal may depend on it: only settlement, research and reports read it.",
}
TABLES: Final = {name: f"{'catalog' if name == 'resolutions' else 'market_data'}.{name}" for name in MEANINGS}


def build_assets() -> list[dg.AssetsDefinition]:
    """The five assets of market data."""
    return [_build(name) for name in MEANINGS]


def _build(name: str) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        group_name="market_data" if name != "resolutions" else "resolutions",
        description=MEANINGS[name],
        kinds={"polymarket", "kalshi", "parquet"},
        partitions_def=MARKETS,
        freshness_policy=READ_DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[dg.AssetDep("catalog", partition_mapping=dg.LastPartitionMapping())],
        check_specs=[
            dg.AssetCheckSpec(check.name, asset=name, description=check.meaning, blocking=check.blocking)
            for check in CHECKS[name]
        ],
        pool="venues",
    )
    def asset(context: dg.AssetExecutionContext, workspace: Workspace) -> Results:
        markets = find_markets(workspace, context.partition_keys)
        outcomes = complete(
            read_markets(workspace, TABLES[name], markets, counter(context.log, name, len(markets)))
        )
        yield from materialised(context, workspace, CHECKS[name], outcomes, by_market)

    return asset


def by_market(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many markets were read, and how many of them have no rows."""
    return {
        "markets": len(outcomes),
        "without_rows": sum(outcome.coverage.rows == 0 for outcome in outcomes),
    }


def find_markets(workspace: Workspace, keys: Sequence[str]) -> list[Market]:
    """The catalog's records of the run's partitions, in order of their keys."""
    known = workspace.catalog.markets()
    if unknown := [key for key in keys if key not in known]:
        raise UsageError(
            f"the catalog does not know {len(unknown)} of the {len(keys)} markets, first {unknown[0]!r}"
            f"{did_you_mean(unknown[0], known)}; materialise the catalog first"
        )
    return [known[key] for key in sorted(keys)]


async def read_markets(
    workspace: Workspace, table: str, markets: Sequence[Market], done: Callable[[object], None]
) -> list[Outcome]:
    """Fill the partitions of ``table`` for ``markets``, venue by venue."""
    read = ingest_resolutions if table == RESOLUTIONS else partial(ingest, name=table)
    outcomes: list[Outcome] = []
    by_venue = sorted(markets, key=lambda market: market.key.venue)
    for venue, group in groupby(by_venue, key=lambda market: market.key.venue):
        async with workspace.adapter(venue) as adapter:
            outcomes += await read(adapter, workspace.lake, markets=list(group), done=done)
    return outcomes
