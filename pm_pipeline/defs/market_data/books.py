"""Order books beyond what a venue answers to: snapshots on a clock, and recorded frames."""

import time
from collections.abc import Iterator
from itertools import groupby
from typing import Final, Literal

import dagster as dg

from pm_pipeline.defs.interrupts import complete
from pm_pipeline.defs.market_data.checked import result_of
from pm_pipeline.defs.market_data.checks import CHECKS
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.sources.ingest import Outcome, snapshot_books
from pm_pipeline.sources.polymarket.books.ingest import require_all
from pm_pipeline.sources.polymarket.books.recordings import read_recording
from pm_pipeline.universe import choose, universe_of

LEVELS: Final = next(check for check in CHECKS["book_events"] if check.name == "book_levels_are_possible")


class Recording(dg.Config):
    """How recorded frames are read: ``on`` from where the last reading ended, or ``anew`` from the start."""

    reading: Literal["on", "anew"] = "on"


@dg.asset(
    group_name="market_data",
    kinds={"polymarket", "parquet"},
    deps=["catalog"],
    check_specs=[dg.AssetCheckSpec(LEVELS.name, asset="recorded_books", description=LEVELS.meaning)],
)
def recorded_books(
    context: dg.AssetExecutionContext, workspace: Workspace, config: Recording
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """What `bt record polymarket` kept, as order books: new frames are added to `market_data.book_events`.

    Where the recorder was away, or a frame could not be read, there is a gap, and no order is filled.
    """
    lake = workspace.lake
    reported = read_recording(
        lake,
        workspace.settings.frames_dir,
        workspace.catalog.markets().values(),
        now=time.time_ns(),
        reading=config.reading,
    )
    if reported.unknown:
        context.log.warning(
            f"the catalog knows no market of {len(reported.unknown)} recorded tokens, first "
            f"{min(reported.unknown)}; fetch their markets, then read the recording anew"
        )
    outcomes = [Outcome(each.market_key, each.coverage, each.error) for each in reported.taken]
    yield result_of(LEVELS, LEVELS.find(lake, outcomes), len(outcomes))
    require_all(reported.taken)
    yield dg.MaterializeResult(
        metadata={
            "frames": reported.frames,
            "markets": len(outcomes),
            "dagster/row_count": sum(outcome.coverage.rows for outcome in outcomes),
            "gaps": sum(outcome.coverage.gaps for outcome in outcomes),
            "tokens_without_a_market": len(reported.unknown),
            "world": workspace.settings.label,
        }
    )


@dg.op
def read_books(context: dg.OpExecutionContext, workspace: Workspace) -> None:
    """Add the present book of every market of the universe that trades to its log."""
    chosen = choose(universe_of(workspace.settings), workspace.catalog.markets().values())
    trading = sorted((m for m in chosen if m.traded_until is None), key=lambda market: market.key)

    async def read() -> int:
        count = 0
        for venue, group in groupby(trading, key=lambda market: market.key.venue):
            async with workspace.adapter(venue) as adapter:
                count += len(await snapshot_books(adapter, workspace.lake, list(group)))
        return count

    context.log.info(f"books of {complete(read())} of {len(trading)} markets that trade")


@dg.job(description="Reads the present book of each market of the universe that trades.")
def book_snapshots() -> None:
    """One snapshot of every book."""
    read_books()


BOOK_SNAPSHOTS: Final = dg.ScheduleDefinition(
    name="book_snapshots",
    job=book_snapshots,
    cron_schedule="*/5 * * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Reads every book of the universe each five minutes.",
)

READ_RECORDING: Final = dg.define_asset_job(
    "read_recording",
    selection=["recorded_books"],
    description="Turns the frames that `bt record` kept since the last time into order books.",
)
