"""From a venue into the lake: one partition per market, all of it or nothing, and a coverage row either way.

A read that fails, or that ends long before it should, writes no rows: the former partition stays, and the
reason stands in ``ops.coverage``. An answer replaces the partition, except for order books: venues show
them as they are now, so each reading is added to the log (:mod:`pm_pipeline.sources.book_log`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

import pyarrow as pa

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import FOREVER, HOUR, Nanos, format_time
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution, ResolutionStatus
from pm_pipeline.sources.adapter import PlatformAdapter, Window
from pm_pipeline.sources.book_log import BOOKS, ShorterAnswerError, join_reading
from pm_pipeline.sources.errors import SourceError, UnsupportedError
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, read_coverage, write_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import resolutions_to_table
from pm_pipeline.warehouse.schema import table

RESOLUTIONS: Final = "catalog.resolutions"

Feed: TypeAlias = Callable[[PlatformAdapter, Market], AsyncIterator[pa.RecordBatch]]

FEEDS: Final[Mapping[str, Feed]] = {
    "market_data.prices": lambda adapter, market: adapter.get_prices(market),
    "market_data.candles": lambda adapter, market: adapter.get_candles(market),
    "market_data.trades": lambda adapter, market: adapter.get_trades(market),
    "market_data.book_events": lambda adapter, market: adapter.get_orderbook(market),
}
"""How each table of market data is read from a venue."""

QUIET: Final[Mapping[str, Nanos]] = {"trading": 6 * HOUR, "closed": 48 * HOUR}
"""How long before the end of the asked window prices may fall silent, while a market trades and after it.

Midpoints are sampled for as long as there is a book; two days allow for a book that empties before the
venue closes the market. Candles are sparse: they come only when a quote moves, so the same bounds hold.
"""


ASKED_TO: Final = "asked_to"
"""Footer key of a partition: up to when (nanoseconds) the source was asked; a later time makes it stale."""

_FINAL: Final = {ResolutionStatus.RESOLVED, ResolutionStatus.VOID}


class QuietSourceError(SourceError):
    """A source answered, but its rows end long before they should."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one partition: its coverage, and the error where there is one."""

    market_key: str
    coverage: Coverage
    error: PipelineError | None = None


async def ingest(
    adapter: PlatformAdapter,
    lake: Lake,
    name: str,
    markets: Sequence[Market],
    *,
    concurrency: int = 8,
    done: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Fill the partitions of table ``name`` for ``markets`` of one venue; outcomes in the same order.

    At most ``concurrency`` markets are in memory at once; ``done`` hears of each. Errors of the source are
    outcomes; anything else (a full disk, a bug) is raised, and ends the reading of the other markets.
    """
    gate = asyncio.Semaphore(concurrency)
    now = await adapter.now()

    async def one(market: Market) -> Outcome:
        async with gate:
            outcome = await _ingest_market(adapter, lake, name, market, now)
        done(outcome)
        return outcome

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(market)) for market in markets]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def ingest_resolutions(
    adapter: PlatformAdapter, lake: Lake, markets: Sequence[Market]
) -> list[Outcome]:
    """Fill ``catalog.resolutions`` for ``markets`` of one venue; a market without an answer is an error."""
    return await ingest(adapter, lake, RESOLUTIONS, markets)


async def snapshot_books(adapter: PlatformAdapter, lake: Lake, markets: Sequence[Market]) -> list[Outcome]:
    """Add the present book of each of ``markets`` of one venue to its log, as few requests as it takes.

    Markets without a book any more are left out. Raises :class:`SourceError` when the venue fails; what was
    read before stays.
    """
    outcomes = []
    async for market, batch in adapter.get_orderbooks(markets):
        if batch is None:
            continue
        key = str(market.key)
        log = join_reading(lake, key, pa.Table.from_batches([batch]))
        coverage = Coverage(
            table=BOOKS,
            partition=(key,),
            source="snapshots",
            status=CoverageStatus.COMPLETE,
            asked_from=None,
            asked_to=None,
            got_from=log.first_ts,
            got_to=log.last_ts,
            rows=log.rows,
            gaps=log.gaps,
            reason="",
            ingested_at=await adapter.now(),
        )
        write_coverage(lake, coverage)
        outcomes.append(Outcome(key, coverage))
    return outcomes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the last attempts to read some markets amount to."""

    quiet: tuple[str, ...]
    failed: tuple[str, ...]
    dead: bool
    """Most of those that trade, or most of the others, have gone quiet: then it is the source."""


def verdict(lake: Lake, names: Iterable[str], markets: Sequence[Market]) -> Verdict:
    """Look up how the last attempt to fill tables ``names`` for ``markets`` of one venue ended.

    Markets that trade and markets that have closed are judged apart: a source that died today still has all
    that it ever said about last year.
    """
    found: dict[CoverageStatus, set[str]] = {status: set() for status in CoverageStatus}
    for name in names:
        for market in markets:
            for coverage in read_coverage(lake, name, str(market.key)):
                found[coverage.status].add(str(market.key))
    quiet, failed = found[CoverageStatus.QUIET], found[CoverageStatus.FAILED]
    open_, closed = (
        [str(market.key) in quiet for market in markets if (market.traded_until is None) is trading]
        for trading in (True, False)
    )
    dead = any(2 * sum(part) > len(part) for part in (open_, closed))
    return Verdict(tuple(sorted(quiet)), tuple(sorted(failed)), dead)


def is_fresh(adapter: PlatformAdapter, lake: Lake, name: str, market: Market, now: Nanos) -> bool:
    """Whether the lake already holds all that the source could give for this partition."""
    info = lake.info(name, str(market.key))
    if info is None:
        return False
    wanted = now if name == RESOLUTIONS else adapter.prices_window(market, now).end
    return int(info.meta.get(ASKED_TO, 0)) >= wanted


def withdraw(lake: Lake, outcome: Outcome, reason: str) -> Outcome:
    """Take a partition that breaks a rule out of the lake again, so that nothing is computed from it."""
    coverage = replace(
        outcome.coverage,
        status=CoverageStatus.FAILED,
        rows=0,
        gaps=0,
        got_from=None,
        got_to=None,
        reason=reason,
    )
    lake.delete(coverage.table, coverage.partition)
    write_coverage(lake, coverage)
    return Outcome(outcome.market_key, coverage, SourceError(reason))


@dataclass(frozen=True, slots=True)
class _Answer:
    """The rows that a source gave, the window they were asked for, and up to when they are final."""

    rows: pa.Table
    window: Window
    final_to: Nanos


async def _ask(adapter: PlatformAdapter, name: str, market: Market, now: Nanos) -> _Answer:
    window = adapter.prices_window(market, now)
    batches = [batch async for batch in FEEDS[name](adapter, market)]
    rows = pa.Table.from_batches(batches, schema=table(name).arrow)
    if name == "market_data.prices":
        _require_sound(str(market.key), _span(rows), window, now)
    return _Answer(rows, window, window.end)


async def _ask_resolution(adapter: PlatformAdapter, market: Market, now: Nanos) -> _Answer:
    pages = [page async for page in adapter.get_resolutions([market])]
    found: list[Resolution] = [resolution for page in pages for resolution in page]
    if not found:
        raise SourceError(f"{market.key.venue} said nothing about the state of {market.key}")
    rows = resolutions_to_table(found, ingested_at=now)
    return _Answer(rows, Window(now, now), FOREVER if found[-1].status in _FINAL else now)


async def _ingest_market(
    adapter: PlatformAdapter, lake: Lake, name: str, market: Market, now: Nanos
) -> Outcome:
    key = str(market.key)
    report = partial(Coverage, table=name, partition=(key,), source=name, ingested_at=now)
    nothing = partial(report, rows=0, gaps=0, got_from=None, got_to=None)
    error = None
    try:
        if name == RESOLUTIONS:
            answer = await _ask_resolution(adapter, market, now)
        else:
            answer = await _ask(adapter, name, market, now)
        kept = _keep(lake, name, key, answer)
        coverage = report(
            asked_from=answer.window.start,
            asked_to=answer.window.end,
            rows=kept.rows,
            got_from=kept.got.start if kept.got else None,
            got_to=kept.got.end if kept.got else None,
            gaps=kept.gaps,
            status=CoverageStatus.COMPLETE if kept.rows else CoverageStatus.EMPTY,
            reason="" if kept.rows else "the source has no rows",
        )
    except UnsupportedError as unsupported:
        start, end = adapter.prices_window(market, now)
        former = lake.info(name, key)
        if former is None or not former.rows:
            lake.write(name, key, table(name).arrow.empty_table(), meta={ASKED_TO: str(end)})
        coverage = nothing(
            status=CoverageStatus.UNSUPPORTED, asked_from=start, asked_to=end, reason=str(unsupported)
        )
    except SourceError as failure:
        quiet = isinstance(failure, QuietSourceError)
        coverage = nothing(
            status=CoverageStatus.QUIET if quiet else CoverageStatus.FAILED,
            asked_from=None,
            asked_to=now,
            reason=str(failure),
        )
        error = failure
    write_coverage(lake, coverage)
    return Outcome(key, coverage, error)


def _span(rows: pa.Table) -> Window | None:
    if not rows.num_rows or "ts" not in rows.column_names:
        return None
    times = rows["ts"].cast(pa.int64()).to_numpy()
    return Window(int(times.min()) * 1000, int(times.max()) * 1000)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the partition holds after an answer was written."""

    rows: int
    got: Window | None
    gaps: int = 0


def _keep(lake: Lake, name: str, key: str, answer: _Answer) -> _Kept:
    """Write an answer. Raises :class:`ShorterAnswerError` where it would take rows away."""
    meta = {ASKED_TO: str(answer.final_to)}
    if name == BOOKS:
        log = join_reading(lake, key, answer.rows, meta)
        return _Kept(log.rows, Window(log.first_ts, log.last_ts) if log.rows else None, log.gaps)
    require_no_loss(lake, name, key, answer.rows.num_rows)
    lake.write(name, key, answer.rows, meta=meta)
    return _Kept(answer.rows.num_rows, _span(answer.rows))


def require_no_loss(lake: Lake, name: str, key: str, rows: int) -> None:
    """Raise :class:`ShorterAnswerError` where the lake already holds more rows of this partition."""
    former = lake.info(name, key)
    if former is not None and rows < former.rows:
        raise ShorterAnswerError(
            f"the source now has {rows} rows for {name} of {key}, and {former.rows} are already in the lake; "
            "they were kept. Delete the partition first if the former rows were wrong"
        )


def _require_sound(key: str, got: Window | None, window: Window, now: Nanos) -> None:
    if got is None:
        return
    allowed = QUIET["trading" if window.end >= now else "closed"]
    if got.end < window.end - allowed:
        raise QuietSourceError(
            f"prices of {key} end at {format_time(got.end)}, {(window.end - got.end) / HOUR:.0f} hours "
            f"before {format_time(window.end)}; the source has gone quiet. Nothing was written"
        )
