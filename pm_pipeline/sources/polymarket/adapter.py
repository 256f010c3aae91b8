"""Polymarket as the pipeline sees it: Gamma for the catalog, CLOB and Data API v2 for everything else."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from pm_pipeline.markets.book import Book
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution
from pm_pipeline.sources.adapter import (
    EVERYTHING,
    Ending,
    Listing,
    PlatformAdapter,
    Position,
    Selection,
    Window,
    to_batch,
)
from pm_pipeline.sources.errors import QuietSourceError, SourceError, UnsupportedError
from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.polymarket.books import clob
from pm_pipeline.sources.polymarket.catalog import gamma
from pm_pipeline.sources.polymarket.endings.resolutions import Asked, ChainEnds, Endings
from pm_pipeline.sources.polymarket.history import prices, trades
from pm_pipeline.sources.polymarket.wallets.client import WalletReader, positions
from pm_pipeline.sources.resume import Since


class PolymarketAdapter(PlatformAdapter):
    """Reads Polymarket through three clients, one per host."""

    venue = Venue.POLYMARKET

    endings_at_once = 200

    def __init__(
        self,
        *,
        gamma: HttpClient,
        clob: HttpClient,
        data: HttpClient,
        chain: ChainEnds | None = None,
        asked: Asked = Asked.AUTO,
    ) -> None:
        """``chain`` is where the chain's resolutions are read, if at all; ``asked`` whom else to ask."""
        self._gamma = gamma
        self._clob = clob
        self._data = data
        self._chain = chain
        self._asked = asked
        self._now: Nanos | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for client in (self._gamma, self._clob, self._data):
                await stack.enter_async_context(client)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def now(self) -> Nanos:
        """The moment at which the Data API first told its state in this session."""
        if self._now is None:
            self._now = (await self._data.fetch("GET", "/v2/status")).at
        return self._now

    async def get_markets(self, selection: Selection) -> AsyncIterator[list[Market]]:
        """Tradable markets; see :func:`~pm_pipeline.sources.polymarket.catalog.gamma.crawl`."""
        async for listing in self.get_listings(selection):
            yield listing.markets

    def get_listings(self, selection: Selection) -> AsyncIterator[Listing]:
        """Tradable markets, their events and neg-risk groups."""
        return gamma.crawl(self._gamma, selection)

    async def get_prices(self, market: Market, since: Since = EVERYTHING) -> AsyncIterator[pa.RecordBatch]:
        """Mid points of every outcome; see :func:`~pm_pipeline.sources.polymarket.history.prices.history`.

        YES and NO share one book, so an outcome without any price beside one that has some is no answer.
        """
        now = await self.now()
        whole = self.prices_window(market, now)
        silent, spoke = [], bool(since)
        for instrument in market.instruments:
            outcome, token = instrument.outcome_index, _token(instrument.token_id, market)
            asked = Window(max(whole.start, since.get(outcome, 0)), whole.end)
            points = await prices.history(
                prices.clob_history(self._clob, token),
                prices.data_history(self._data, token),
                asked,
                whole,
                now,
            )
            common = {"market_key": str(market.key), "outcome_index": outcome, "ingested_at": now}
            async for rows in prices.rows_of([point for point in points if point.known_at <= now], common):
                yield to_batch("market_data.prices", rows)
            spoke = spoke or bool(points)
            if not points and outcome not in since:
                silent.append(instrument.label)
        if spoke and silent:
            raise QuietSourceError(
                f"{market.key} has prices of one outcome and none of {silent[0]!r}, which shares its book. "
                "Nothing was written"
            )

    async def get_candles(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        """Raises :class:`UnsupportedError`: Polymarket serves no candlesticks."""
        raise UnsupportedError(f"Polymarket serves no candlesticks; use the prices of {market.key}")
        yield  # type: ignore[unreachable]  # pragma: no cover - makes this an asynchronous generator

    async def get_trades(self, market: Market, since: Nanos = 0) -> AsyncIterator[pa.RecordBatch]:
        """Taker executions as the Data API prints them, once they have settled."""
        now = await self.now()
        window = Window(since, now - trades.SETTLED_AFTER)
        async for batch in trades.trades(self._data, market, window, now):
            yield batch

    def window(self, name: str, market: Market, now: Nanos) -> Window:
        """Trades are taken up to when they have settled."""
        window = self.prices_window(market, now)
        if name != "market_data.trades":
            return window
        return Window(window.start, max(window.start, min(window.end, now - trades.SETTLED_AFTER)))

    def shortfall(self, name: str, market: Market, rows: pa.Table, now: Nanos) -> str:
        """Fine prices expire, and the feed of trades goes back three years."""
        if name == "market_data.prices":
            return prices.expired(rows, market.opened_at)
        return trades.out_of_reach(market.opened_at, now) if name == "market_data.trades" else ""

    async def get_orderbook(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        """The present book of outcome 0 as one reset; nothing where the market has no book any more.

        Polymarket keeps no history of its books; the book of the other outcome is the mirror of this one.
        """
        found = await clob.order_book(self._clob, _token(market.instruments[0].token_id, market))
        if found is not None:
            book, read_at = found
            yield to_batch("market_data.book_events", list(book_rows(market, book, read_at)))

    async def get_orderbooks(
        self, markets: Sequence[Market]
    ) -> AsyncIterator[tuple[Market, pa.RecordBatch | None]]:
        """The present books of many markets, 500 per request."""
        tokens = {_token(market.instruments[0].token_id, market): market for market in markets}
        books = await clob.order_books(self._clob, list(tokens))
        for token, market in tokens.items():
            found = books.get(token)
            yield (
                market,
                to_batch("market_data.book_events", list(book_rows(market, *found))) if found else None,
            )

    async def get_resolutions(self, markets: Sequence[Market]) -> AsyncIterator[list[Resolution]]:
        """Where each market stands, one per page."""
        async for ending in self.get_endings(markets):
            if ending.error is not None:
                raise ending.error
            yield [ending.resolution] if ending.resolution is not None else []

    async def get_endings(self, markets: Sequence[Market]) -> AsyncIterator[Ending]:
        """How each market ended; see :class:`~pm_pipeline.sources.polymarket.endings.resolutions.Endings`."""
        sources = Endings(self._gamma, self._clob, self._data, self._chain, self._asked)
        async for ending in sources.of(markets, await self.now()):
            yield ending

    def get_positions(self, wallet: str) -> AsyncIterator[list[Position]]:
        """What a wallet holds; public, as everything on the chain."""
        return positions(self._data, wallet)

    @property
    def wallets(self) -> WalletReader:
        """What the venue tells of wallets."""
        return WalletReader(self._data)


def book_rows(market: Market, book: Book, read_at: Nanos) -> Iterable[Mapping[str, Any]]:
    """A whole book as a reset and its levels, known when it was read.

    ``seq`` is the microsecond of reading, so that later readings come after it.
    """
    common = {
        "market_key": str(market.key),
        "ts": book.ts,
        "known_at": max(book.ts, read_at),
        "ingested_at": read_at,
        "seq": read_at // 1000,
    }
    yield {**common, "kind": "reset"}
    for side, levels in (("bid", book.bids), ("ask", book.asks)):
        for level in levels:
            yield {**common, "kind": "level", "side": side, "price": level.price, "size": level.size}


def _token(token_id: str | None, market: Market) -> str:
    if token_id is None:
        raise SourceError(f"{market.key} has no token id; fetch its catalog entry again")
    return token_id
