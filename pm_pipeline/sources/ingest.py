"""From a venue into the lake: one partition per market, all of it or nothing, and a coverage row either way.

A read that fails, or that ends long before it should, writes no rows: the former partition stays, and the
reason stands in ``ops.coverage``. Prices, and trades of a market that trades, are asked for from where the
last reading ended and joined with it (:mod:`pm_pipeline.sources.resume`); of order books venues show only the
present one, so each reading is added to the log (:mod:`pm_pipeline.sources.book_log`). Any other answer
replaces the partition.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Nanos,
    format_time,
    to_nanos,
)
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.adapter import PlatformAdapter, Window
from pm_pipeline.sources.book_log import BOOKS, ShorterAnswerError, join_reading
from pm_pipeline.sources.errors import (
    PageNotArchived,
    QuietSourceError,
    SourceError,
    UnsupportedError,
)
from pm_pipeline.sources.resume import join_prices, join_trades, prices_since, trades_since
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, read_coverage, write_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.schema import table

RESOLUTIONS: Final = "catalog.resolutions"
"""Filled by :mod:`pm_pipeline.sources.endings`."""

PRICES: Final = "market_data.prices"
TRADES: Final = "market_data.trades"

Feed: TypeAlias = Callable[[PlatformAdapter, Market], AsyncIterator[pa.RecordBatch]]

FEEDS: Final[Mapping[str, Feed]] = {
    "market_data.prices": lambda adapter, market: adapter.get_prices(market),
    "market_data.candles": lambda adapter, market: adapter.get_candles(market),
    "market_data.trades": lambda adapter, market: adapter.get_trades(market),
    "market_data.book_events": lambda adapter, market: adapter.get_orderbook(market),
}
"""How each table of market data is read from a venue."""

QUIET: Final[Mapping[str, Nanos]] = {"trading": 6 * HOUR, "closed": 48 * HOUR}
"""How long before the end of the asked window an outcome may fall silent, while it trades and after it.

A book empties before the venue closes the market: recorded temperature buckets that had become impossible
were silent for up to 48 hours.
"""

SAMPLED: Final[Mapping[Venue, tuple[Fraction, Fraction]]] = {
    Venue.POLYMARKET: (Fraction(1, 3), Fraction(4, 5)),
}
"""The share of its life for which an outcome may be silent, in a market of less than a day and a longer one.

For venues that sample a quote each minute for as long as there is a book. Of the recorded temperature
markets, one of 29 hours was silent for the last 76 % of them, the largest share; books of five-minute markets
had both sides until 25 seconds before the end. Kalshi's candles come only when a quote moves, and a market
that is decided has none to its end: there only :data:`QUIET` holds.
"""


ASKED_TO: Final = "asked_to"
"""Footer key of a partition: up to when (nanoseconds) the source was asked; a later time makes it stale."""


_UNREAD: Final = frozenset({CoverageStatus.FAILED, CoverageStatus.QUIET})


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

    A replay goes through the sessions that filled the archive in their order: what each asked for follows
    from what time it was, and from what those before it had stored.
    """
    if adapter.sessions is None:
        return await _ingest(adapter, lake, name, markets, concurrency, done)
    told: dict[str, Outcome] = {}
    async with aclosing(adapter.sessions()) as sessions:
        async for session in sessions:
            now = await session.now()
            due = [
                market
                for market in markets
                if (market.opened_at is None or market.opened_at < now)
                and not is_fresh(session, lake, name, market, now)
            ]
            for outcome in await _ingest(session, lake, name, due, concurrency):
                told[outcome.market_key] = outcome
    if not told:
        return await _ingest(adapter, lake, name, markets, concurrency, done)
    missing = [market for market in markets if str(market.key) not in told]
    rest = await _ingest(adapter, lake, name, missing, concurrency)
    told.update((outcome.market_key, outcome) for outcome in rest)
    outcomes = [told[str(market.key)] for market in markets]
    for outcome in outcomes:
        done(outcome)
    return outcomes


async def _ingest(
    adapter: PlatformAdapter,
    lake: Lake,
    name: str,
    markets: Sequence[Market],
    concurrency: int,
    done: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """One session of :func:`ingest`."""
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
    """Whether the lake already holds all that the source could give for this partition, and says so.

    What was asked for beyond the end of trading was asked when nobody knew of it, and is asked for anew; so
    is what a killed run wrote without its coverage.
    """
    info = lake.info(name, str(market.key))
    if info is None:
        return False
    asked_to = int(info.meta.get(ASKED_TO, 0))
    if not _is_covered(lake, name, str(market.key), asked_to):
        return False
    if name == RESOLUTIONS:
        return asked_to >= now
    wanted = adapter.window(name, market, now).end
    return asked_to == wanted or (market.traded_until is None and asked_to > wanted)


def _is_covered(lake: Lake, name: str, key: str, asked_to: Nanos) -> bool:
    """Whether the coverage of a partition is about the rows that it holds; an end covers all time."""
    found = read_coverage(lake, name, key)
    return bool(found) and not any(
        each.status in _UNREAD
        or (each.source == name != RESOLUTIONS and (each.asked_to or 0) // 1000 != asked_to // 1000)
        for each in found
    )


def withdraw(lake: Lake, outcome: Outcome, reason: str) -> Outcome:
    """Take a partition that breaks a rule out of the lake again, so that nothing is computed from it.

    Its file is kept aside (:meth:`Lake.set_aside`), for it may hold history that the venue no longer has.
    """
    lake.set_aside(outcome.coverage.table, outcome.coverage.partition)
    coverage = replace(
        outcome.coverage,
        status=CoverageStatus.FAILED,
        rows=0,
        gaps=0,
        got_from=None,
        got_to=None,
        reason=reason,
    )
    write_coverage(lake, coverage)
    return Outcome(outcome.market_key, coverage, SourceError(reason))


@dataclass(frozen=True, slots=True)
class _Answer:
    """The rows of a partition, the window they were asked for, up to when they are final, and what of the
    window the source no longer keeps."""

    rows: pa.Table
    window: Window
    final_to: Nanos
    shortfall: str = ""


async def _ask(adapter: PlatformAdapter, lake: Lake, name: str, market: Market, now: Nanos) -> _Answer:
    window = adapter.window(name, market, now)
    former = _former(adapter, lake, name, market, window)
    if former is None:
        rows = await _rows(name, FEEDS[name](adapter, market))
    elif name == PRICES:
        since = prices_since(former)
        rows = join_prices(former, await _rows(name, adapter.get_prices(market, since)), since)
    else:
        start = trades_since(former)
        rows = join_trades(former, await _rows(name, adapter.get_trades(market, start)), start)
    if name == PRICES:
        _require_sound(market, rows, window, now)
    return _Answer(rows, window, window.end, adapter.shortfall(name, market, rows, now))


async def _rows(name: str, feed: AsyncIterator[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches([batch async for batch in feed], schema=table(name).arrow)


def _former(
    adapter: PlatformAdapter, lake: Lake, name: str, market: Market, window: Window
) -> pa.Table | None:
    """What is stored, where the reading can go on from it; without what turned out to be after the close.

    Trades of a market that has closed are read anew once, from the start: what the feed added late is found.
    """
    key, closed = str(market.key), market.traded_until is not None
    if name not in (PRICES, TRADES) or not lake.exists(name, key) or (name == TRADES and closed):
        return None
    rows = lake.read(name, key)
    if name == PRICES and closed:
        last = (window.end + adapter.after_close - (adapter.after_close == 0)) // 1000
        rows = rows.filter(pc.less_equal(rows["ts"].cast(pa.int64()), last))
    return rows if rows.num_rows else None


async def _ingest_market(
    adapter: PlatformAdapter, lake: Lake, name: str, market: Market, now: Nanos
) -> Outcome:
    key = str(market.key)
    report = partial(Coverage, table=name, partition=(key,), source=name, ingested_at=now)
    nothing = partial(report, rows=0, gaps=0, got_from=None, got_to=None)
    error = None
    covered = read_coverage(lake, name, key)
    try:
        answer = await _ask(adapter, lake, name, market, now)
        kept = _keep(lake, name, key, answer)
        coverage = report(
            asked_from=answer.window.start,
            asked_to=answer.window.end,
            rows=kept.rows,
            got_from=kept.got.start if kept.got else None,
            got_to=kept.got.end if kept.got else None,
            gaps=kept.gaps,
            status=_status(kept.rows, answer.shortfall),
            reason=answer.shortfall or ("" if kept.rows else "the source has no rows"),
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
        if isinstance(failure, PageNotArchived) and covered and covered[0].status not in _UNREAD:
            return Outcome(key, covered[0])  # another session has read it, this one did not
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


def _status(rows: int, shortfall: str) -> CoverageStatus:
    if not rows:
        return CoverageStatus.EMPTY
    return CoverageStatus.PARTIAL if shortfall else CoverageStatus.COMPLETE


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
    if name != PRICES:  # these keep what is stored already, but for what is after the close
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


def _require_sound(market: Market, rows: pa.Table, window: Window, now: Nanos) -> None:
    """Raise :class:`QuietSourceError` where an outcome has prices, and they end long before they should."""
    ends = rows.group_by("outcome_index").aggregate([("ts", "max"), ("resolution_s", "max")])
    trading = market.traded_until is None or market.traded_until >= now
    for row in ends.sort_by("outcome_index").to_pylist():
        last = to_nanos(row["ts_max"])
        allowed = max(
            allowed_silence(market.key.venue, window, trading=trading),
            2 * row["resolution_s_max"] * SECOND,
        )
        if last < window.end - allowed:
            raise QuietSourceError(
                f"prices of {market.key} end at {format_time(last)}, {_duration(window.end - last)} before "
                f"{format_time(window.end)}; the source has gone quiet. Nothing was written"
            )


def allowed_silence(venue: Venue, window: Window, *, trading: bool) -> Nanos:
    """How long before the end of ``window`` prices of a market may end; see :data:`SAMPLED`."""
    most = QUIET["trading" if trading else "closed"]
    if venue not in SAMPLED:
        return most
    life = window.end - window.start
    share = SAMPLED[venue][life >= DAY]
    return min(most, int(life * share))


def _duration(length: Nanos) -> str:
    return f"{length / HOUR:.0f} hours" if length >= 2 * HOUR else f"{length / MINUTE:.0f} minutes"
