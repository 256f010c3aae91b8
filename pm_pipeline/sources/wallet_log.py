"""From a venue into the tables of wallets: histories are replaced as a whole, readings are added.

A wallet's activity is its whole history, so a new answer takes the place of the former one, and a shorter
one is refused. Positions, holders and leaderboards are shown only as they are now: every reading is added to
those before it, and none is ever taken away. Each attempt leaves a row in ``ops.coverage``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import Nanos, day_of
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.book_log import ShorterAnswerError
from pm_pipeline.sources.errors import SourceError, UnsupportedError
from pm_pipeline.sources.ingest import Outcome, require_no_loss
from pm_pipeline.sources.polymarket.wallets.client import MOST_HOLDERS, Reach, WalletReader
from pm_pipeline.sources.polymarket.wallets.rows import MarketIds, as_table
from pm_pipeline.warehouse.conform import in_order
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, write_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.leaders import LEADERBOARD, Period, RankedBy
from pm_pipeline.warehouse.readings import (
    ACTIVITY,
    HOLDERS,
    POSITIONS,
    Reading,
    as_meta,
    of_reading,
    readings_of,
)
from pm_pipeline.warehouse.records import nanos_of, time_array
from pm_pipeline.warehouse.schema import table

AT_ONCE: Final = 4
"""Wallets or markets that are read at the same time."""

Done = Callable[[Outcome], None]
T = TypeVar("T")


async def ingest_activity(
    reader: WalletReader,
    lake: Lake,
    wallets: Sequence[str],
    ids: MarketIds,
    now: Nanos,
    *,
    reach: Reach = Reach.ALL,
    done: Done = lambda outcome: None,
) -> list[Outcome]:
    """Read all that each of ``wallets`` did; outcomes in the same order."""

    async def one(wallet: str) -> _Taken:
        former = lake.read(ACTIVITY, wallet) if lake.exists(ACTIVITY, wallet) else None
        found = await reader.activity(wallet, ids, now, reach, former)
        require_no_loss(lake, ACTIVITY, wallet, found.rows.num_rows)
        lake.write(ACTIVITY, wallet, found.rows)
        return _Taken.of(found.rows, found.combos, _combos(found.combos))

    return await _each(lake, ACTIVITY, wallets, str, now, one, done)


async def ingest_positions(
    reader: WalletReader,
    lake: Lake,
    wallets: Sequence[str],
    ids: MarketIds,
    now: Nanos,
    *,
    done: Done = lambda outcome: None,
) -> list[Outcome]:
    """Add a reading of what each of ``wallets`` holds; outcomes in the same order."""

    async def one(wallet: str) -> _Taken:
        began = await reader.moment()
        held = await reader.positions(wallet, ids)
        earlier = readings_of(lake, POSITIONS, wallet)
        if not held.rows and any(reading.rows for reading in earlier):
            raise ShorterAnswerError(
                f"the source now has no position of {wallet}, not even a closed one, and {earlier[-1].rows} "
                "were read before; nothing was added"
            )
        rows = append_reading(lake, POSITIONS, wallet, held.rows, began, await reader.moment())
        return _Taken.of(rows, held.combos, _combos(held.combos))

    return await _each(lake, POSITIONS, wallets, str, now, one, done)


async def ingest_holders(
    reader: WalletReader,
    lake: Lake,
    markets: Sequence[Market],
    now: Nanos,
    *,
    done: Done = lambda outcome: None,
) -> list[Outcome]:
    """Add a reading of the largest holders of each of ``markets``; outcomes in the same order."""

    async def one(market: Market) -> _Taken:
        if market.key.venue is not Venue.POLYMARKET:
            raise UnsupportedError(f"{market.key.venue} does not say who holds {market.key}")
        if market.condition_id is None:
            raise SourceError(f"{market.key} has no condition id; fetch its catalog entry again")
        began = await reader.moment()
        found = await reader.holders(market)
        rows = append_reading(lake, HOLDERS, str(market.key), found.rows, began, await reader.moment())
        reason = "".join(
            f"outcome {index}: only its {MOST_HOLDERS:,} largest holders are shown. " for index in found.cut
        )
        return _Taken.of(rows, len(found.cut), reason.strip())

    return await _each(lake, HOLDERS, markets, lambda market: str(market.key), now, one, done)


async def ingest_leaderboard(
    reader: WalletReader,
    lake: Lake,
    day: str,
    *,
    top: int = 100,
    periods: Sequence[Period] = tuple(Period),
    orders: Sequence[RankedBy] = tuple(RankedBy),
) -> Outcome:
    """Add a reading of the leaderboards to the partition of ``day``, which must be the source's present day.

    Raises
    ------
    UsageError
        for any other day: yesterday's list is gone, and today's is not yesterday's.
    """
    began = await reader.moment()
    if day != (today := day_of(began)):
        raise UsageError(
            f"a leaderboard can only be read as it is now, and the source's day is {today}; materialise that "
            f"partition instead of {day}"
        )

    async def one(_: str) -> _Taken:
        rows = []
        for period in periods:
            for order in orders:
                if not (ranked := await reader.leaderboard(period, order, top)):
                    raise SourceError(f"the leaderboard of {period} by {order} is empty, which cannot be")
                rows += ranked
        return _Taken.of(append_reading(lake, LEADERBOARD, day, rows, began, await reader.moment()))

    (outcome,) = await _each(lake, LEADERBOARD, [day], str, began, one, lambda outcome: None)
    return outcome


def append_reading(
    lake: Lake, name: str, partition: str, rows: Sequence[Mapping[str, Any]], began: Nanos, known_at: Nanos
) -> pa.Table:
    """Add the rows of one look at a source to a partition; all that it then holds.

    A second look at the same moment (in a replay, or in the sandbox, whose time stands still) counts once.

    Raises
    ------
    ShorterAnswerError
        when the same moment is now told with fewer rows. Nothing is written.
    """
    ts, known = began // 1000 * 1000, max(began, known_at) // 1000 * 1000
    declared = table(name)
    new = as_table(name, [dict(row) for row in rows], ts=ts, known_at=known, ingested_at=known)
    stored = lake.read(name, partition) if lake.exists(name, partition) else declared.arrow.empty_table()
    readings = {reading.ts: reading for reading in readings_of(lake, name, partition)}
    if ts in readings:
        same = of_reading(stored, ts)
        if new.num_rows < same.num_rows:
            raise ShorterAnswerError(
                f"the source now tells {new.num_rows} rows of {name} for {partition}, and told "
                f"{same.num_rows} of the same moment before; they were kept"
            )
        if _told(in_order(declared, new)).equals(_told(same)):
            return stored
        stored = _without(stored, ts)
    readings[ts] = Reading(ts, known, new.num_rows)
    joined = pa.concat_tables([stored, new])
    lake.write(name, partition, joined, meta=as_meta([*readings.values()]))
    return joined


def withdraw_reading(lake: Lake, outcome: Outcome, reason: str) -> Outcome:
    """Take the last reading of a partition out again, since it breaks a rule; those before it stay."""
    name, partition = outcome.coverage.table, outcome.market_key
    *kept, last = readings_of(lake, name, partition)
    rows = _without(lake.read(name, partition), last.ts)
    lake.write(name, partition, rows, meta=as_meta(kept))
    error = SourceError(reason)
    return _failed(lake, name, partition, outcome.coverage.ingested_at, error)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a partition holds after an answer: rows, their first and last time, and what is missing."""

    rows: int
    first: Nanos | None
    last: Nanos | None
    missing: int
    reason: str

    @classmethod
    def of(cls, rows: pa.Table, missing: int = 0, reason: str = "") -> "_Taken":
        if not rows.num_rows:
            return cls(0, None, None, missing, reason or "the source has no rows")
        times = nanos_of(rows["ts"])
        return cls(rows.num_rows, int(times.min()), int(times.max()), missing, reason)


async def _each(
    lake: Lake,
    name: str,
    items: Sequence[T],
    key_of: Callable[[T], str],
    now: Nanos,
    one: Callable[[T], Awaitable[_Taken]],
    done: Done,
) -> list[Outcome]:
    """Read the items, a few at once. Errors of the source are outcomes, anything else is raised."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def attempt(item: T) -> Outcome:
        async with gate:
            try:
                taken = await one(item)
            except SourceError as error:
                outcome = _failed(lake, name, key_of(item), now, error)
            else:
                outcome = _taken(lake, name, key_of(item), now, taken)
        done(outcome)
        return outcome

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(attempt(item)) for item in items]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _taken(lake: Lake, name: str, partition: str, now: Nanos, taken: _Taken) -> Outcome:
    coverage = Coverage(
        table=name,
        partition=(partition,),
        source=name,
        status=CoverageStatus.COMPLETE if taken.rows else CoverageStatus.EMPTY,
        asked_from=None,
        asked_to=now,
        got_from=taken.first,
        got_to=taken.last,
        rows=taken.rows,
        gaps=taken.missing,
        reason=taken.reason,
        ingested_at=now,
    )
    write_coverage(lake, coverage)
    return Outcome(partition, coverage)


def _failed(lake: Lake, name: str, partition: str, now: Nanos, error: SourceError) -> Outcome:
    unsupported = isinstance(error, UnsupportedError)
    coverage = Coverage(
        table=name,
        partition=(partition,),
        source=name,
        status=CoverageStatus.UNSUPPORTED if unsupported else CoverageStatus.FAILED,
        asked_from=None,
        asked_to=now,
        got_from=None,
        got_to=None,
        rows=0,
        gaps=0,
        reason=str(error),
        ingested_at=now,
    )
    write_coverage(lake, coverage)
    return Outcome(partition, coverage, None if unsupported else error)


def _combos(count: int) -> str:
    return f"{count} rows about combos of markets were left out" if count else ""


def _told(rows: pa.Table) -> pa.Table:
    """What a source said, without when we learned it."""
    return rows.drop_columns(["known_at", "ingested_at"])


def _without(rows: pa.Table, ts: Nanos) -> pa.Table:
    return rows.filter(pc.not_equal(rows["ts"], time_array([ts])[0]))
