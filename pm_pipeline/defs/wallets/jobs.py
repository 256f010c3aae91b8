"""Reading wallets: those named, those that are followed, and those that lead."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import dagster as dg
from pydantic import Field

from pm_pipeline.defs.config import Strict
from pm_pipeline.defs.interrupts import complete
from pm_pipeline.defs.launch import Launcher, Resolve
from pm_pipeline.defs.partitions import contiguous_ranges, register
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.defs.wallets.assets import reading
from pm_pipeline.defs.wallets.partitions import WALLETS
from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.markets.addresses import parse_address
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.leaders import leaders_known_at

READ_WALLETS: Final = dg.define_asset_job(
    "read_wallets",
    selection=["wallet_activity", "wallet_positions"],
    description="Reads activity and positions of wallets that are registered as partitions.",
)
INGEST_LEADERBOARD: Final = dg.define_asset_job(
    "ingest_leaderboard", selection=["leaderboard"], description="Reads today's leaderboards."
)
INGEST_HOLDERS: Final = dg.define_asset_job(
    "ingest_holders", selection=["holders"], description="Reads the largest holders of markets."
)

WALLET_JOBS: Final = (READ_WALLETS, INGEST_HOLDERS, INGEST_LEADERBOARD)


class Wallets(Strict):
    """Which wallets are read. Nothing named: all that are followed already."""

    wallets: list[str] = Field(default_factory=list, description="addresses; they are followed from now on")
    leaders: int = Field(
        default=0, ge=0, le=1000, description="also follow so many of the leaderboard that was read last"
    )
    period: Literal["day", "week", "month", "all"] = Field(
        default="month", description="of the leaderboard: day, week, month or all"
    )
    ranked_by: Literal["pnl", "volume"] = Field(
        default="pnl", description="of the leaderboard: pnl or volume"
    )
    reach: Literal["all", "trading"] = Field(
        default="all", description="all: deposits and withdrawals too; trading: without them"
    )


def build_wallet_jobs(resolve: Resolve) -> list[dg.JobDefinition]:
    """The job ``ingest_wallets``; ``resolve`` finds the asset job that it starts."""

    @dg.op(description="Registers the wallets that are asked for, and reads them.")
    def follow(context: dg.OpExecutionContext, config: Wallets, workspace: Workspace) -> None:
        wanted = {parse_address(text) for text in config.wallets}
        if config.leaders:
            wanted |= set(complete(leaders(workspace, config)))
        new = register(context.instance, WALLETS, sorted(wanted))
        assert WALLETS.name is not None
        known = list(context.instance.get_dynamic_partitions(WALLETS.name))
        chosen = wanted or set(known)
        if not chosen:
            raise UsageError(
                "no wallet is followed yet; name some in `wallets`, or set `leaders` to follow a leaderboard"
            )
        context.log.info(f"{workspace.settings.label}: {len(chosen)} wallets, {new} of them new")
        loggers = context.run_config.get("loggers", {})
        assert isinstance(loggers, Mapping)
        launcher = Launcher(context, resolve, loggers)
        ops = {"wallet_activity": {"config": {"reach": config.reach}}}
        first: PipelineError | None = None
        for bounds in contiguous_ranges(known, chosen):
            try:
                launcher.run("read_wallets", partitions=bounds, ops=ops)
            except PipelineError as error:
                first = first or error
        if first:
            raise first

    @dg.job(description="Reads wallets: those named, those of a leaderboard, or all that are followed.")
    def ingest_wallets() -> None:
        follow()

    return [ingest_wallets]


async def leaders(workspace: Workspace, config: Wallets) -> Sequence[str]:
    """The first wallets of the leaderboard that was known last at the source's present.

    Raises
    ------
    UsageError
        where no leaderboard of this period and order was read yet.
    """
    async with reading(workspace) as (_, now):
        rows = leaders_known_at(Lake(workspace.settings.lake_dir), now, config.period, config.ranked_by)
    if rows is None:
        raise UsageError(
            f"no leaderboard of {config.period} by {config.ranked_by} was read yet; materialise the asset "
            "`leaderboard` of today first"
        )
    found: list[str] = rows["wallet"].to_pylist()[: config.leaders]
    return found
