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
from pm_pipeline.sources.adapter import PlatformAdapter, Position, Selection, to_batch
from pm_pipeline.sources.errors import SourceError, UnsupportedError
from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.polymarket import clob, data, gamma
from pm_pipeline.sources.polymarket.resolve import to_resolution


class PolymarketAdapter(PlatformAdapter):
    """Reads Polymarket through three clients, one per host."""

    venue = Venue.POLYMARKET

    def __init__(self, *, gamma: HttpClient, clob: HttpClient, data: HttpClient) -> None:
        self._gamma = gamma
        self._clob = clob
        self._data = data
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

    def get_markets(self, selection: Selection) -> AsyncIterator[list[Market]]:
        """Tradable markets; see :func:`~pm_pipeline.sources.polymarket.gamma.crawl`."""
        return gamma.crawl(self._gamma, selection)

    async def get_prices(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        """Mid points of every outcome, from the CLOB, or from the Data API where the CLOB is empty."""
        now = await self.now()
        window = self.prices_window(market, now)
        for instrument in market.instruments:
            token = _token(instrument.token_id, market)
            for piece in window.split(clob.LONGEST):
                rows = await clob.mid_history(self._clob, token, piece)
                rows = rows or await data.price_history(self._data, token, piece)
                common = {
                    "market_key": str(market.key),
                    "outcome_index": instrument.outcome_index,
                    "ingested_at": now,
                }
                known = [{**row, **common} for row in rows if row["known_at"] <= now]
                if known:
                    yield to_batch("market_data.prices", known)

    async def get_candles(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        """Raises :class:`UnsupportedError`: Polymarket serves no candlesticks."""
        raise UnsupportedError(f"Polymarket serves no candlesticks; use the prices of {market.key}")
        yield  # type: ignore[unreachable]  # pragma: no cover - makes this an asynchronous generator

    async def get_trades(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        """Taker executions as the Data API prints them."""
        now = await self.now()
        async for rows in data.trades(self._data, market):
            if rows:
                yield to_batch("market_data.trades", [{**row, "ingested_at": now} for row in rows])

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
        now = await self.now()
        for market in markets:
            if market.condition_id is None:
                raise SourceError(f"{market.key} has no condition id; fetch its catalog entry again")
            raw = await gamma.market_by_id(self._gamma, market.key.native_id)
            row = await data.resolution(self._data, market.condition_id)
            yield [to_resolution(market, raw, row, now)]

    def get_positions(self, wallet: str) -> AsyncIterator[list[Position]]:
        """What a wallet holds; public, as everything on the chain."""
        return data.positions(self._data, wallet)


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
