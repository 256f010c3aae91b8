"""On-chain fills of Polymarket: who traded, on which side, and who took."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import dagster as dg

from pm_pipeline.defs.interrupts import complete
from pm_pipeline.defs.market_data.assets import by_market, find_markets
from pm_pipeline.defs.market_data.checked import Results, materialised
from pm_pipeline.defs.market_data.checks import COVERAGE, Check, Violations, sql
from pm_pipeline.defs.partitions import MARKETS
from pm_pipeline.defs.progress import counter
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.ingest import Outcome
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.duck import connect
from pm_pipeline.warehouse.lake import Lake

TABLE: Final = "market_data.wallet_fills"

VOLUME_WITHIN: Final = Decimal("0.05")
"""How far the volume of the chain may lie from that of the venue: the venue counts until later or earlier."""

_DUST: Final = "0.01"
"""Contracts below which the chain's integer division can leave any price."""


def volumes(lake: Lake, keys: Sequence[str]) -> dict[str, Decimal]:
    """Dollars traded on the chain in each of these markets that has a partition, every match counted once."""
    stored = [key for key in keys if lake.exists(TABLE, key)]
    if not stored:
        return {}
    with connect(lake, {TABLE: stored}) as connection:
        rows = connection.execute(
            f"SELECT market_key, sum(cash) FROM {TABLE} WHERE counts_volume GROUP BY ALL"
        ).fetchall()
    return {str(key): Decimal(cash) for key, cash in rows}


def _volume(lake: Lake, outcomes: Sequence[Outcome]) -> Violations:
    """Markets whose volume on the chain is far from what the venue says, with the share that was found."""
    known = Catalog(lake).markets()
    found = volumes(lake, [o.market_key for o in outcomes if o.error is None])
    violations = []
    for outcome in outcomes:
        market = known.get(outcome.market_key)
        if market is None or market.key.venue is not Venue.POLYMARKET or not market.volume:
            continue
        said = Decimal(market.volume) / MICRO
        share = found.get(outcome.market_key, Decimal(0)) / said
        if abs(share - 1) > VOLUME_WITHIN:
            violations.append((outcome.market_key, f"{share:.1%} of the venue's ${said:,.2f}"))
    return violations


CHECKS: Final = (
    Check(
        "fills_are_possible",
        "Prices lie in [0, 1] (but for dust), nothing is negative, no fill is known before its block.",
        sql(
            TABLE,
            f"""
            SELECT market_key, count(*) || ' rows'
            FROM {{rows}}
            WHERE coalesce(price NOT BETWEEN 0 AND 1 AND size >= {_DUST}, false)
               OR size < 0 OR cash < 0 OR fee < 0 OR known_at <= ts
            GROUP BY market_key
            """,
        ),
    ),
    Check(
        "fills_balance",
        "In every match what the taker paid is what the makers got, give or take the sets made or dissolved.",
        sql(
            TABLE,
            """
            SELECT market_key, count(DISTINCT tx) || ' transactions do not balance: logs are missing'
            FROM {rows}
            WHERE balance = 'broken'
            GROUP BY market_key
            """,
        ),
        blocking=False,
        severity=dg.AssetCheckSeverity.WARN,
    ),
    Check(
        "onchain_volume",
        f"Dollars traded on the chain are those that the venue states, give or take {VOLUME_WITHIN:.0%}.",
        _volume,
        blocking=False,
        severity=dg.AssetCheckSeverity.WARN,
    ),
    COVERAGE,
)
"""The checks of on-chain fills, in the order in which they are shown."""


@dg.asset(
    name="onchain_fills",
    group_name="market_data",
    description="Fills as Polygon recorded them: a row per order and match, with its wallet.\n\n"
    "Read from Goldsky's subgraph (up to its freeze on 2026-04-28), a Polygon node or files of logs. Volume "
    "is the sum over `counts_volume`: a match is told by its makers and again by its taker.",
    kinds={"polymarket", "polygon", "parquet"},
    partitions_def=MARKETS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[dg.AssetDep("catalog", partition_mapping=dg.LastPartitionMapping())],
    check_specs=[
        dg.AssetCheckSpec(c.name, asset="onchain_fills", description=c.meaning, blocking=c.blocking)
        for c in CHECKS
    ],
    pool="venues",
)
def onchain_fills(context: dg.AssetExecutionContext, workspace: Workspace) -> Results:
    """The chain is read once for all markets of a run: materialise them together."""
    markets = find_markets(workspace, context.partition_keys)
    outcomes = complete(read_fills(workspace, markets, context.log))
    yield from materialised(context, workspace, CHECKS, outcomes, _told)


def _told(outcomes: Sequence[Outcome]) -> dict[str, int]:
    return by_market(outcomes) | {
        "frozen": sum(outcome.coverage.status == "frozen" for outcome in outcomes),
        "gaps": sum(outcome.coverage.gaps for outcome in outcomes),
    }


async def read_fills(
    workspace: Workspace, markets: Sequence[Market], log: dg.DagsterLogManager
) -> list[Outcome]:
    """Fill the partitions of ``markets``, from the source that the settings name."""
    from pm_pipeline.sources.polymarket.onchain.ingest import ingest_fills

    done = counter(log, "onchain_fills", len(markets))
    async with workspace.adapter(Venue.POLYMARKET) as adapter:
        now = await adapter.now()
    async with workspace.fills() as source:
        return await ingest_fills(source, workspace.lake, markets, now, done=done)


INGEST_ONCHAIN: Final = dg.define_asset_job(
    "ingest_onchain",
    selection=["onchain_fills"],
    description="Reads the on-chain fills of Polymarket markets.",
)
