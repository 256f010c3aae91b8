"""On-chain fills of markets into the lake: from the subgraph, a node or files, all of a market or nothing.

A node and files are read once for all markets of a run, since logs cannot be asked for by token; the fills of
those markets are held in memory, about 200 bytes each. The subgraph is read market by market.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from pm_pipeline.markets.clock import FOREVER, HOUR, Nanos, format_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.ingest import ASKED_TO, Outcome, require_no_loss
from pm_pipeline.sources.polymarket.onchain.chain import LogFileError, tokens_of
from pm_pipeline.sources.polymarket.onchain.fills import FILLS, Events, to_rows
from pm_pipeline.sources.polymarket.onchain.goldsky import Subgraph
from pm_pipeline.sources.polymarket.onchain.logfiles import files_of, read_files
from pm_pipeline.sources.polymarket.onchain.rpc import Node
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, write_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.schema import table

BEHIND: Final[Nanos] = HOUR
"""How far before the end of the asked window a source may be: more, and it has stopped."""


class FrozenSourceError(SourceError):
    """A source stopped before a market began to trade: it can say nothing about it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The fills of one market, or why they could not be read."""

    market: Market
    events: Events
    error: SourceError | LogFileError | None = None


class FillSource(Protocol):
    """Where fills are read."""

    name: str

    async def reach(self) -> Window:
        """From when to when the source knows the chain."""
        ...

    def read(self, markets: Sequence[tuple[Market, Window]]) -> AsyncIterator[Reading]:
        """The fills of each market within its window, in any order of the markets."""
        ...


class SubgraphFills:
    """Fills from Goldsky: the V1 exchanges, up to the block at which the subgraph froze."""

    name = "goldsky"

    def __init__(self, subgraph: Subgraph) -> None:
        self._subgraph = subgraph

    async def reach(self) -> Window:
        """From the beginning of the chain to its last block."""
        return Window(0, (await self._subgraph.reach()).at)

    async def read(self, markets: Sequence[tuple[Market, Window]]) -> AsyncIterator[Reading]:
        """One market after the other."""
        for market, window in markets:
            parts: list[Events] = []
            try:
                parts += [piece async for piece in self._subgraph.events(market, window)]
            except SourceError as error:
                yield Reading(market, Events.none(), error)
            else:
                yield Reading(market, Events.joined(parts))


class NodeFills:
    """Fills from the logs of a node."""

    name = "rpc"

    def __init__(self, node: Node) -> None:
        self._node = node

    async def reach(self) -> Window:
        """From the beginning of the chain to the last block that is final."""
        return Window(0, await self._node.reach())

    async def read(self, markets: Sequence[tuple[Market, Window]]) -> AsyncIterator[Reading]:
        """All markets from one reading of the chain; windows that do not touch are read apart."""
        for group, window in _overlapping(markets):
            try:
                parts = [part async for part in self._node.events(tokens_of(group), window)]
            except SourceError as error:
                for market in group:
                    yield Reading(market, Events.none(), error)
            else:
                for reading in _divided(group, Events.joined(parts)):
                    yield reading


class FileFills:
    """Fills from files of logs."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._files = files_of(path)
        self._reach: Window | None = None

    async def reach(self) -> Window:
        """From the first log of an exchange in the files to the last."""
        if self._reach is None:
            _, self._reach = read_files(self._files, {})
        return self._reach

    async def read(self, markets: Sequence[tuple[Market, Window]]) -> AsyncIterator[Reading]:
        """All markets from one reading of the files."""
        group = [market for market, _ in markets]
        try:
            events, _ = read_files(self._files, tokens_of(group))
        except (SourceError, LogFileError) as error:
            for market in group:
                yield Reading(market, Events.none(), error)
        else:
            for reading in _divided(group, events):
                yield reading


def _overlapping(markets: Sequence[tuple[Market, Window]]) -> list[tuple[list[Market], Window]]:
    """Groups of markets whose windows overlap, each with the window that spans them."""
    groups: list[tuple[list[Market], Window]] = []
    for market, window in sorted(markets, key=lambda pair: pair[1]):
        if groups and window.start <= groups[-1][1].end:
            members, whole = groups[-1]
            groups[-1] = [*members, market], Window(whole.start, max(whole.end, window.end))
        else:
            groups.append(([market], window))
    return groups


def _divided(markets: Sequence[Market], events: Events) -> list[Reading]:
    return [Reading(market, events.take(events.market == number)) for number, market in enumerate(markets)]


async def ingest_fills(
    source: FillSource,
    lake: Lake,
    markets: Sequence[Market],
    now: Nanos,
    *,
    done: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Fill ``market_data.wallet_fills`` for ``markets``; outcomes in order of their keys.

    The window is a market's time of trading. Where the source stops within it, its rows are written and the
    coverage says ``frozen``, never ``complete``; where it stops before, nothing is written and that is an
    error. Errors of the source are outcomes, anything else is raised.
    """
    outcomes: list[Outcome] = []

    def record(market: Market, coverage: Coverage, error: SourceError | LogFileError | None = None) -> None:
        write_coverage(lake, coverage)
        outcomes.append(Outcome(str(market.key), coverage, error))
        done(outcomes[-1])

    own = [market for market in markets if market.key.venue is Venue.POLYMARKET]
    for market in markets:
        if market not in own:
            record(market, _unsupported(source, lake, market, now))
    try:
        reach = await source.reach() if own else Window(0, 0)
    except (SourceError, LogFileError) as error:
        for market in own:
            record(market, _nothing(source, market, None, now, error), error)
        return sorted(outcomes, key=lambda outcome: outcome.market_key)
    asked: dict[str, Window] = {}
    readable: list[tuple[Market, Window]] = []
    for market in own:
        try:
            window = asked[str(market.key)] = _window(market, now)
            readable.append((market, _within(source.name, market, window, reach)))
        except SourceError as error:
            record(market, _nothing(source, market, asked.get(str(market.key)), now, error), error)
    async for reading in source.read(readable):
        market = reading.market
        window = asked[str(market.key)]
        try:
            if reading.error is not None:
                raise reading.error
            record(market, _written(source, lake, market, reading.events, window, reach, now))
        except (SourceError, LogFileError) as error:
            record(market, _nothing(source, market, window, now, error), error)
    return sorted(outcomes, key=lambda outcome: outcome.market_key)


def _window(market: Market, now: Nanos) -> Window:
    if market.opened_at is None:
        raise SourceError(f"nobody says when {market.key} opened, so its fills cannot be asked for")
    end = now if market.traded_until is None else min(now, market.traded_until + HOUR)
    return Window(market.opened_at, max(market.opened_at, end))


def _within(source: str, market: Market, window: Window, reach: Window) -> Window:
    """The part of a window that the source knows. Raises :class:`FrozenSourceError` where there is none."""
    if reach.end <= window.start or reach.start >= window.end:
        raise FrozenSourceError(
            f"FROZEN: {source} knows the chain from {format_time(reach.start)} to {format_time(reach.end)} "
            f"only, {market.key} traded from {format_time(window.start)}. Nothing was written; set "
            "PM_POLYGON_RPC or PM_POLYGON_LOGS"
        )
    return Window(max(window.start, reach.start), min(window.end, reach.end + 1))


def _written(
    source: FillSource, lake: Lake, market: Market, events: Events, window: Window, reach: Window, now: Nanos
) -> Coverage:
    kept = events.take((events.ts >= window.start // 10**9) & (events.ts * 10**9 < window.end))
    rows = to_rows(kept, market.key, source.name, now)
    key = str(market.key)
    require_no_loss(lake, FILLS, key, rows.num_rows)
    final_to = min(window.end, reach.end)
    lake.write(FILLS, key, rows, meta={ASKED_TO: str(final_to)})
    short = _short(source.name, window, reach)
    if short:
        status = CoverageStatus.FROZEN
    else:
        status = CoverageStatus.COMPLETE if rows.num_rows else CoverageStatus.EMPTY
    times = kept.ts * 10**9
    return Coverage(
        table=FILLS,
        partition=(key,),
        source=source.name,
        status=status,
        asked_from=window.start,
        asked_to=window.end,
        got_from=int(times.min()) if len(times) else None,
        got_to=int(times.max()) if len(times) else None,
        rows=rows.num_rows,
        gaps=int(bool(short)) + _broken(rows),
        reason=short or ("" if rows.num_rows else "the source has no rows"),
        ingested_at=now,
    )


def _short(source: str, window: Window, reach: Window) -> str:
    """Why the rows cannot be all; empty where they may be."""
    if reach.end < window.end - BEHIND:
        return (
            f"FROZEN: {source} ends at {format_time(reach.end)}, trading at {format_time(window.end)}; "
            "all later fills are missing"
        )
    if reach.start > window.start:
        return (
            f"FROZEN: {source} begins at {format_time(reach.start)}, trading at {format_time(window.start)}; "
            "all earlier fills are missing"
        )
    return ""


def _broken(rows: pa.Table) -> int:
    """Transactions in which a match does not balance."""
    broken = np.asarray(rows.column("balance").to_numpy() == "broken", dtype=np.bool_)
    return len(rows.filter(pa.array(broken)).column("tx").unique())


def _nothing(
    source: FillSource, market: Market, window: Window | None, now: Nanos, error: Exception
) -> Coverage:
    frozen = isinstance(error, FrozenSourceError)
    status = CoverageStatus.FROZEN if frozen else CoverageStatus.FAILED
    return _without_rows(source, market, status, window or Window(now, now), str(error), now)


def _unsupported(source: FillSource, lake: Lake, market: Market, now: Nanos) -> Coverage:
    """A market of a venue that settles elsewhere: known to have no fills on the chain."""
    lake.write(FILLS, str(market.key), table(FILLS).arrow.empty_table(), meta={ASKED_TO: str(FOREVER)})
    reason = f"{market.key.venue} does not settle on a public chain"
    return _without_rows(source, market, CoverageStatus.UNSUPPORTED, Window(now, now), reason, now)


def _without_rows(
    source: FillSource, market: Market, status: CoverageStatus, window: Window, reason: str, now: Nanos
) -> Coverage:
    return Coverage(
        table=FILLS,
        partition=(str(market.key),),
        source=source.name,
        status=status,
        asked_from=window.start,
        asked_to=window.end,
        got_from=None,
        got_to=None,
        rows=0,
        gaps=0,
        reason=reason,
        ingested_at=now,
    )
