"""How markets ended, into the lake: what every source claims, and the one state that they agree on.

A contested end is no end: where sources contradict each other, no state is stored, so that nothing is
settled on it. A market that was paid stays paid: a later reading that says otherwise is an error that shows
both values, and the former state stays, for money has moved on it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import FOREVER, Nanos, format_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution, ResolutionStatus, contradiction, shares
from pm_pipeline.sources.adapter import Ending, PlatformAdapter
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.ingest import ASKED_TO, RESOLUTIONS, Outcome
from pm_pipeline.warehouse.claims import add_claims
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, write_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import resolution_from_rows, resolutions_to_table

FINAL: Final = frozenset({ResolutionStatus.RESOLVED, ResolutionStatus.VOID})


class ContestedEndError(SourceError):
    """Sources contradict each other about what a market pays."""


class ChangedEndError(SourceError):
    """A market that was paid is now said to pay something else."""


async def ingest_resolutions(
    adapter: PlatformAdapter,
    lake: Lake,
    markets: Sequence[Market],
    *,
    concurrency: int = 8,
    done: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Fill ``catalog.resolutions`` and ``catalog.resolution_claims`` for ``markets`` of one venue.

    Outcomes come in the same order; a market without an answer, or with a contested one, is an error.
    Errors of the source are outcomes, anything else is raised.
    """
    gate = asyncio.Semaphore(concurrency)
    now = await adapter.now()
    size = adapter.endings_at_once

    async def some(part: Sequence[Market]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        async with gate:
            try:
                async for ending in adapter.get_endings(part):
                    outcomes.append(keep(lake, ending, now))
                    done(outcomes[-1])
            except SourceError as error:
                for market in part[len(outcomes) :]:
                    outcomes.append(keep(lake, Ending(market, None, (), error), now))
                    done(outcomes[-1])
        return outcomes

    try:
        async with asyncio.TaskGroup() as group:
            parts = [markets[start : start + size] for start in range(0, len(markets), size)]
            tasks = [group.create_task(some(part)) for part in parts]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [outcome for task in tasks for outcome in task.result()]


def keep(lake: Lake, ending: Ending, now: Nanos) -> Outcome:
    """Store one ending: its claims in any case, its state unless it is contested or takes money back."""
    key = str(ending.market.key)
    error: PipelineError | None = ending.error or _refused(lake, ending)
    if isinstance(error, ContestedEndError):  # first, or a kill would leave it, and nobody asks for it again
        lake.delete(RESOLUTIONS, key)
    add_claims(lake, key, ending.claims)
    if error is None:
        assert ending.resolution is not None
        final_to = FOREVER if ending.resolution.status in FINAL else now
        rows = resolutions_to_table([ending.resolution], ingested_at=now)
        lake.write(RESOLUTIONS, key, rows, meta={ASKED_TO: str(final_to)})
    coverage = Coverage(
        table=RESOLUTIONS,
        partition=(key,),
        source=RESOLUTIONS,
        status=CoverageStatus.FAILED if error else CoverageStatus.COMPLETE,
        asked_from=None if error else now,
        asked_to=now,
        got_from=None,
        got_to=None,
        rows=0 if error else 1,
        gaps=0,
        reason=str(error) if error else "",
        ingested_at=now,
    )
    write_coverage(lake, coverage)
    return Outcome(key, coverage, error)


def _refused(lake: Lake, ending: Ending) -> PipelineError | None:
    """Why the state must not be stored, if so."""
    market = ending.market
    if words := contradiction(ending.claims, whole=pays_whole(market)):
        return ContestedEndError(f"sources contradict each other about {market.key}: {words}")
    former, said = former_state(lake, str(market.key)), ending.resolution
    if former is None or said is None or former.status not in FINAL:
        return None
    if (said.status, said.payouts) == (former.status, former.payouts):
        return None
    return ChangedEndError(
        f"{market.key} was {former.status} with {shares(former.payouts)} by {former.source}, known since "
        f"{format_time(former.known_at)}; now it is {said.status} with {shares(said.payouts)} by "
        f"{said.source}. The former state stays; delete its partition of {RESOLUTIONS} to take the new one"
    )


def pays_whole(market: Market) -> bool:
    """Whether one outcome must take the whole dollar: the contract of neg-risk groups refuses to split it.

    That holds for augmented groups too, whose listed markets need not be all that may win.
    """
    return market.key.venue is Venue.POLYMARKET and market.group_key is not None


def former_state(lake: Lake, key: str) -> Resolution | None:
    """The state of a market that is stored, if any."""
    info = lake.info(RESOLUTIONS, key)
    return resolution_from_rows(lake.read(RESOLUTIONS, key)) if info is not None and info.rows else None
