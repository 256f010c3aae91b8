"""The assets of wallets: two by wallet, one by market, one by day. Each reading of the venue is kept."""

from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import dagster as dg
from pydantic import Field

from pm_pipeline.defs.config import Strict
from pm_pipeline.defs.interrupts import complete
from pm_pipeline.defs.market_data.assets import find_markets
from pm_pipeline.defs.market_data.checked import Results, TakeOut, materialised
from pm_pipeline.defs.partitions import DAYS, MARKETS, READ_DAILY
from pm_pipeline.defs.progress import counter
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.defs.wallets.checks import CHECKS
from pm_pipeline.defs.wallets.partitions import WALLETS
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.addresses import parse_address
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.sources.ingest import Outcome, withdraw
from pm_pipeline.sources.polymarket import PolymarketAdapter
from pm_pipeline.sources.polymarket.wallets.client import Reach, WalletReader
from pm_pipeline.sources.polymarket.wallets.rows import MarketIds
from pm_pipeline.sources.wallet_log import (
    ingest_activity,
    ingest_holders,
    ingest_leaderboard,
    ingest_positions,
    withdraw_reading,
)
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.readings import ACTIVITY, readings_of

FROM_CATALOG: Final = dg.AssetDep("catalog", partition_mapping=dg.LastPartitionMapping())


class ActivityConfig(Strict):
    """Which activity is read."""

    reach: Literal["all", "trading"] = Field(
        default="all", description="all: deposits and withdrawals too; trading: what the feed shows unasked"
    )


class BoardConfig(Strict):
    """How much of the leaderboards is read."""

    top: int = Field(default=100, ge=1, le=1000, description="places of each list")


@asynccontextmanager
async def reading(workspace: Workspace) -> AsyncIterator[tuple[WalletReader, Nanos]]:
    """A reader of wallets, and the moment as of which this session reads."""
    async with workspace.adapter(Venue.POLYMARKET) as adapter:
        assert isinstance(adapter, PolymarketAdapter)
        yield adapter.wallets, await adapter.now()


def _specs(asset: str) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(check.name, asset=asset, description=check.meaning, blocking=check.blocking)
        for check in CHECKS[asset]
    ]


@dg.asset(
    group_name="wallets",
    kinds={"polymarket", "parquet"},
    partitions_def=WALLETS,
    freshness_policy=READ_DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[FROM_CATALOG],
    check_specs=_specs("wallet_activity"),
    pool="venues",
)
def wallet_activity(
    context: dg.AssetExecutionContext, workspace: Workspace, config: ActivityConfig
) -> Results:
    """What a wallet did, from its first day: trades, splits, merges, redemptions, rewards, transfers.

    A row is known five seconds after its block, when anybody could have read it.
    """
    wallets = _wallets(context.partition_keys)
    done = counter(context.log, "wallet_activity", len(wallets))

    async def read() -> list[Outcome]:
        async with reading(workspace) as (reader, now):
            ids = MarketIds.of(workspace.catalog.markets().values())
            return await ingest_activity(
                reader, workspace.lake, wallets, ids, now, reach=Reach(config.reach), done=done
            )

    yield from _materialised(context, workspace, "wallet_activity", read(), withdraw)


@dg.asset(
    group_name="wallets",
    kinds={"polymarket", "parquet"},
    partitions_def=WALLETS,
    freshness_policy=READ_DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[FROM_CATALOG, wallet_activity],
    check_specs=_specs("wallet_positions"),
    pool="venues",
)
def wallet_positions(context: dg.AssetExecutionContext, workspace: Workspace) -> Results:
    """What a wallet holds of each outcome, dust and closed positions included; every reading is kept.

    Profit is as the venue counts it. What was held at an earlier time is the last reading before it.
    """
    wallets = _wallets(context.partition_keys)
    done = counter(context.log, "wallet_positions", len(wallets))

    async def read() -> list[Outcome]:
        async with reading(workspace) as (reader, now):
            ids = MarketIds.of(workspace.catalog.markets().values())
            return await ingest_positions(reader, workspace.lake, wallets, ids, now, done=done)

    yield from _materialised(context, workspace, "wallet_positions", read(), withdraw_reading)


@dg.asset(
    group_name="wallets",
    kinds={"polymarket", "parquet"},
    partitions_def=MARKETS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[FROM_CATALOG],
    check_specs=_specs("holders"),
    pool="venues",
)
def holders(context: dg.AssetExecutionContext, workspace: Workspace) -> Results:
    """The largest holders of each outcome, up to a thousand; every reading is kept."""
    markets = find_markets(workspace, context.partition_keys)
    done = counter(context.log, "holders", len(markets))

    async def read() -> list[Outcome]:
        async with reading(workspace) as (reader, now):
            return await ingest_holders(reader, workspace.lake, markets, now, done=done)

    yield from _materialised(context, workspace, "holders", read(), withdraw_reading)


@dg.asset(
    group_name="wallets",
    kinds={"polymarket", "parquet"},
    partitions_def=DAYS,
    freshness_policy=READ_DAILY,
    check_specs=_specs("leaderboard"),
    pool="venues",
)
def leaderboard(context: dg.AssetExecutionContext, workspace: Workspace, config: BoardConfig) -> Results:
    """The wallets that the venue ranks first by profit and by volume, over a day, a week, a month and all.

    A leaderboard is hindsight. Only today's can be read, and it may be used from its reading on.
    """

    async def read() -> list[Outcome]:
        async with reading(workspace) as (reader, _):
            return [await ingest_leaderboard(reader, workspace.lake, context.partition_key, top=config.top)]

    yield from _materialised(context, workspace, "leaderboard", read(), withdraw_reading)


def _wallets(keys: Sequence[str]) -> list[str]:
    """The wallets of a run. Raises :class:`UsageError` for a key that is no address in small letters."""
    for key in keys:
        if parse_address(key) != key:
            raise UsageError(f"write the address {key} in small letters: {parse_address(key)}")
    return sorted(keys)


def _materialised(
    context: dg.AssetExecutionContext,
    workspace: Workspace,
    name: str,
    read: Coroutine[Any, Any, list[Outcome]],
    take_out: TakeOut,
) -> Results:
    """Read, check, report; what failed before a check wrote nothing, so that there is nothing to take out."""

    def taken_out(lake: Lake, outcome: Outcome, reason: str) -> Outcome:
        return outcome if outcome.error else take_out(lake, outcome, reason)

    def told(outcomes: Sequence[Outcome]) -> dict[str, int]:
        lake = workspace.lake
        readings = (readings_of(lake, o.coverage.table, o.market_key) for o in outcomes)
        return {
            "partitions": len(outcomes),
            "left_out": sum(outcome.coverage.gaps for outcome in outcomes),
            "readings": 1 if ACTIVITY.endswith(name) else sum(map(len, readings)),
        }

    yield from materialised(context, workspace, CHECKS[name], complete(read), told, taken_out)
