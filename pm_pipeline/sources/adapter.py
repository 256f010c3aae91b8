"""What every venue offers to the pipeline, whatever its API looks like.

Everything streams: markets and resolutions page by page, rows as Arrow batches in the declared schema of
their table, so memory does not grow with history.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType, TracebackType
from typing import Any, Final, NamedTuple, Self

import pyarrow as pa

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.event import Event
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.listed_fees import ListedFee
from pm_pipeline.markets.market import Market, MarketGroup
from pm_pipeline.markets.resolution import Claim, Resolution
from pm_pipeline.markets.units import Micro
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.resume import Since
from pm_pipeline.warehouse.columns import Kind
from pm_pipeline.warehouse.schema import table


class Window(NamedTuple):
    """From ``start`` to ``end``, nanoseconds; empty where they are equal."""

    start: Nanos
    end: Nanos

    def split(self, length: Nanos) -> Iterable["Window"]:
        """Consecutive pieces of at most ``length``, each ``[start, end)``."""
        for start in range(self.start, self.end, length):
            yield Window(start, min(start + length, self.end))


EVERYTHING: Final[Since] = MappingProxyType({})
"""Every outcome from the start."""


class MarketState(StrEnum):
    """Which markets to look for: still trading, no longer, or both."""

    ANY = "any"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which markets of one venue to crawl. Everything given must hold; within a tuple, any may.

    ``ids`` name markets by any id of the venue, ``slugs`` by their slug (on Kalshi: the event ticker).
    ``category`` also finds a tag of that name, since Gamma gave up categories. ``closes_from`` and
    ``closes_to`` bound the announced close, both included. ``limit`` is the most markets to return.
    """

    venue: Venue
    ids: tuple[str, ...] = ()
    slugs: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    category: str | None = None
    tags: tuple[str, ...] = ()
    state: MarketState = MarketState.ANY
    min_volume: Micro | None = None
    closes_from: Nanos | None = None
    closes_to: Nanos | None = None
    limit: int | None = None

    @property
    def narrows_events(self) -> bool:
        """Whether a market may be wanted without the others of its event."""
        return bool(
            self.ids
            or self.state is not MarketState.ANY
            or any(
                bound is not None for bound in (self.min_volume, self.closes_from, self.closes_to, self.limit)
            )
        )

    def holds(self, market: Market) -> bool:
        """Whether ``market`` fits: venues ignore filters that they do not know. Names are not looked at."""
        close = market.scheduled_close
        tags = {_plain(tag) for tag in market.tags}
        trading = market.traded_until is None
        return (
            (not self.series or market.series in self.series)
            and (self.category is None or _plain(self.category) in {_plain(market.category or ""), *tags})
            and (not self.tags or any(_plain(tag) in tags for tag in self.tags))
            and (self.state is MarketState.ANY or trading == (self.state is MarketState.OPEN))
            and (self.min_volume is None or (market.volume or 0) >= self.min_volume)
            and (self.closes_from is None or (close is not None and close >= self.closes_from))
            and (self.closes_to is None or (close is not None and close <= self.closes_to))
        )


class Tally(NamedTuple):
    """How much a listing gave, beside how much its venue counts; ``what`` names it."""

    what: str
    listed: int
    stated: int


class Listing(NamedTuple):
    """A page of a catalog: markets, the events that they belong to, and the groups that they settle in.

    Events and groups name all their markets that can be traded, also those that were not asked for.
    """

    markets: list[Market]
    events: list[Event]
    groups: list[MarketGroup]
    tally: Tally | None = None
    """At the end of a listing whose length the venue tells."""

    def of(self, chosen: list[Market]) -> "Listing":
        """The page as far as it is about these markets."""
        events, groups = {m.event_id for m in chosen}, {m.group_key for m in chosen}
        return Listing(
            chosen,
            [event for event in self.events if event.event_id in events],
            [group for group in self.groups if group.group_key in groups],
            self.tally,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What a wallet holds of one outcome: contracts, and the average price paid. ``market_key`` is ``None``
    where the venue names the market by another id only (then ``condition_id`` has it)."""

    wallet: str
    market_key: MarketKey | None
    condition_id: str
    token_id: str
    outcome_index: int | None
    size: Micro
    avg_price: Micro
    realised_pnl: Micro
    status: str


class Ending(NamedTuple):
    """How one market ended and what each source claims of it, or why that could not be told."""

    market: Market
    resolution: Resolution | None
    claims: tuple[Claim, ...]
    error: SourceError | None = None


class PlatformAdapter(ABC):
    """One venue. Use it as an async context manager; a session sees the venue as of one moment, :meth:`now`.

    All methods raise :class:`~pm_pipeline.sources.errors.SourceError` (or a subclass) and nothing else when
    the venue fails or answers nonsense.
    """

    venue: Venue
    endings_at_once: int = 1
    """Markets whose end is best asked for together."""
    sessions: Callable[[], AsyncGenerator["PlatformAdapter", None]] | None = None
    """In a replay: the venue as of each moment at which it was read, one after the other."""
    after_close: Nanos = 0
    """How long after the end of trading a last row may be stamped."""

    async def __aenter__(self) -> Self:
        return self

    @abstractmethod
    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Close all connections."""

    @abstractmethod
    async def now(self) -> Nanos:
        """The moment as of which this session reads: read once, then kept, so that a replay asks the same.

        The wall clock at a live venue, the world's own time in the sandbox, the time of fetching in a replay.
        """

    @abstractmethod
    def get_markets(self, selection: Selection) -> AsyncIterator[list[Market]]:
        """The markets of ``selection``, page by page."""

    async def get_listings(self, selection: Selection) -> AsyncIterator[Listing]:
        """The markets of ``selection`` with their events and groups, page by page.

        What comes twice changed in between, and the later word counts. A venue without events lists none.
        """
        async for markets in self.get_markets(selection):
            yield Listing(markets, [], [])

    async def get_listed_fees(self, markets: Iterable[Market]) -> list[ListedFee]:
        """Fees that the venue states beside its markets, dated; none where it attaches them to each market.

        ``markets`` are those that this session has listed.
        """
        del markets
        return []

    @abstractmethod
    def get_prices(self, market: Market, since: Since = EVERYTHING) -> AsyncIterator[pa.RecordBatch]:
        """``market_data.prices`` over :meth:`prices_window`, of each outcome from ``since`` on."""

    @abstractmethod
    def get_candles(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        """``market_data.candles`` over :meth:`prices_window`."""

    @abstractmethod
    def get_trades(self, market: Market, since: Nanos = 0) -> AsyncIterator[pa.RecordBatch]:
        """``market_data.trades``: all executions the venue still prints, from ``since`` on."""

    @abstractmethod
    def get_orderbook(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        """``market_data.book_events``: the book of outcome 0, as far as the venue shows it."""

    async def get_orderbooks(
        self, markets: Sequence[Market]
    ) -> AsyncIterator[tuple[Market, pa.RecordBatch | None]]:
        """The book of each market as it is now; ``None`` where there is none any more."""
        for market in markets:
            batches = [batch async for batch in self.get_orderbook(market)]
            rows = pa.Table.from_batches(batches).combine_chunks().to_batches() if batches else []
            yield market, rows[0] if rows else None

    @abstractmethod
    def get_resolutions(self, markets: Sequence[Market]) -> AsyncIterator[list[Resolution]]:
        """Where each market stands; at most one resolution per market."""

    async def get_endings(self, markets: Sequence[Market]) -> AsyncIterator[Ending]:
        """How each market ended, by the word of every source that the venue has, in order of ``markets``.

        What is wrong with one market is told in its place; what fails for all of them is raised.
        """
        now = await self.now()
        for market in markets:
            try:
                found = [each async for page in self.get_resolutions([market]) for each in page]
                if not found:
                    raise SourceError(f"{market.key.venue} said nothing about the state of {market.key}")
                yield Ending(market, found[-1], (Claim.of(found[-1], now),))
            except SourceError as error:
                yield Ending(market, None, (), error)

    @abstractmethod
    def get_positions(self, wallet: str) -> AsyncIterator[list[Position]]:
        """What a wallet holds."""

    def prices_window(self, market: Market, now: Nanos) -> Window:
        """What prices are asked for: from the opening to the end of trading, or to ``now`` before that.

        Raises
        ------
        SourceError
            when the venue does not say when trading began.
        """
        if market.opened_at is None:
            raise SourceError(f"nobody says when {market.key} opened, so its history cannot be asked for")
        end = min(now, market.traded_until) if market.traded_until is not None else now
        return Window(market.opened_at, max(market.opened_at, end))

    def window(self, name: str, market: Market, now: Nanos) -> Window:
        """What table ``name`` is asked for: :meth:`prices_window`, unless the venue needs time to settle."""
        del name
        return self.prices_window(market, now)

    def shortfall(self, name: str, market: Market, rows: pa.Table, now: Nanos) -> str:
        """What the venue does not keep of table ``name``, given the rows; empty where it is whole."""
        del name, market, rows, now
        return ""


_TIMES: Final = {
    name: frozenset(c.name for c in table(name).columns if c.kind is Kind.TIME)
    for name in ("market_data.prices", "market_data.candles", "market_data.trades", "market_data.book_events")
}


def to_batch(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Rows with nanosecond times as a batch of table ``name``; columns left out are null.

    Raises
    ------
    SourceError
        when a row lacks a column that may not be null, or holds a number beyond its type.
    """
    times, schema = _TIMES[name], table(name).arrow
    try:
        columns = [
            pa.array(
                [_micros(row.get(field.name)) for row in rows]
                if field.name in times
                else [row.get(field.name) for row in rows],
                type=field.type,
            )
            for field in schema
        ]
    except (pa.ArrowInvalid, OverflowError) as error:
        raise SourceError(f"a row of {name} does not fit its columns: {error}") from error
    for field, column in zip(schema, columns, strict=True):
        if column.null_count and not field.nullable:
            raise SourceError(f"a row of {name} lacks its {field.name}")
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _micros(nanos: Nanos | None) -> int | None:
    return None if nanos is None else nanos // 1000


def _plain(name: str) -> str:
    """A name as a slug, so that "Climate and Weather" finds "climate-and-weather"."""
    return name.strip().casefold().replace(" ", "-")
