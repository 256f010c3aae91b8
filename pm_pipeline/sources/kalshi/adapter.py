"""Kalshi as the pipeline sees it."""

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from math import inf
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets.clock import HOUR, Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.listed_fees import ListedFee
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution
from pm_pipeline.markets.units import Micro, from_micro
from pm_pipeline.sources.adapter import (
    EVERYTHING,
    Listing,
    PlatformAdapter,
    Position,
    Selection,
    Window,
    to_batch,
)
from pm_pipeline.sources.errors import QuietSourceError, UnsupportedError
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.kalshi import books, fees, history, rest
from pm_pipeline.sources.kalshi.history import Period, Tiers
from pm_pipeline.sources.resume import Since

PRICES: Final = "market_data.prices"
CANDLES: Final = "market_data.candles"
TRADES: Final = "market_data.trades"

COUNTED: Final = {TRADES: "size", CANDLES: "volume"}
"""Tables whose rows add up to the volume of their market, and the column that does."""

VOLUME_WITHIN: Final = Fraction(1, 20)
"""Share of the stated volume that they may lack: no recording has yet told whether they agree to the last."""


class BookFeed(StrEnum):
    """How order books are read: the channel as it comes, that of a past world, or the present book."""

    LIVE = "live"
    REPLAY = "replay"
    SNAPSHOT = "snapshot"


class KalshiAdapter(PlatformAdapter):
    """Reads Kalshi through one client.

    Parameters
    ----------
    book_feed, books_url:
        where order books come from; ``snapshot`` needs no key and no WebSocket.
    period:
        minutes of a candlestick; by the life of the market unless told.
    silence_s:
        seconds without a frame after which a live order book is told as far as it goes, and any other fails.
    watch_s:
        seconds after which a live order book is told as far as it goes, however busy it is.
    """

    venue = Venue.KALSHI
    after_close = HOUR  # a candle may end a period after the close

    def __init__(
        self,
        client: HttpClient,
        *,
        book_feed: BookFeed = BookFeed.SNAPSHOT,
        books_url: str = "",
        period: Period | None = None,
        silence_s: float = 30.0,
        watch_s: float = 60.0,
    ) -> None:
        self._client = client
        self._book_feed = book_feed
        self._books_url = books_url
        self._period = period
        self._silence_s = silence_s
        self._watch_s = watch_s
        self._catalog = rest.Catalog(client)
        self._now: Nanos | None = None
        self._cutoff: Tiers | None = None

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def now(self) -> Nanos:
        """The moment at which the exchange answered its first question in this session."""
        if self._now is None:
            self._now = (await self._client.fetch("GET", "/exchange/status")).at
        return self._now

    def get_markets(self, selection: Selection) -> AsyncIterator[list[Market]]:
        """Markets of both tiers; see :class:`~pm_pipeline.sources.kalshi.rest.Catalog`."""
        return self._catalog.crawl(selection)

    def get_listings(self, selection: Selection) -> AsyncIterator[Listing]:
        """Markets of both tiers, and their events with the strikes of each as a group."""
        return self._catalog.listings(selection)

    async def get_listed_fees(self, markets: Iterable[Market]) -> list[ListedFee]:
        """Fees stated on the series, events and markets that this session has listed, with all changes."""
        catalog = self._catalog
        return await fees.listed_fees(
            self._client, markets, catalog.series, catalog.events, catalog.waivers, await self.now()
        )

    async def get_candles(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        """Candlesticks of YES."""
        async for rows in self._candles(CANDLES, market):
            yield to_batch(CANDLES, rows)

    async def get_prices(self, market: Market, since: Since = EVERYTHING) -> AsyncIterator[pa.RecordBatch]:
        """Best bid and offer of YES at the end of each candle, known at that moment."""
        async for rows in self._candles(PRICES, market, since.get(0, 0)):
            prices = [{**history.price_row(row), "ingested_at": row["ingested_at"]} for row in rows]
            yield to_batch(PRICES, prices)

    async def get_trades(self, market: Market, since: Nanos = 0) -> AsyncIterator[pa.RecordBatch]:
        """Executions; block trades are marked, they never met the book."""
        now = await self.now()
        window = self.window(TRADES, market, now)
        window = window._replace(start=max(window.start, min(since, window.end)))
        spoke = False
        async for rows in history.trades(self._client, market, window, await self._tiers()):
            if rows:
                spoke = True
                yield to_batch(TRADES, [{**row, "ingested_at": now} for row in rows])
        if not spoke and not since:
            _require_untraded(market, "trade")

    async def get_orderbook(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        """The book of YES: its changes for a while, a whole replay, or the present book as one reset."""
        if self._book_feed is BookFeed.SNAPSHOT:
            endpoint = f"/markets/{market.key.native_id}/orderbook"
            reply = await self._client.fetch("GET", endpoint)
            bids, asks = books.book_of(reply.value, endpoint)
            yield to_batch("market_data.book_events", list(_snapshot_rows(market, bids, asks, reply.at)))
            return
        clock = time.time_ns if self._book_feed is BookFeed.LIVE else _unknown
        ingested = await self.now() if self._book_feed is BookFeed.REPLAY else None
        rows_of = books.stream(
            self._client.http,
            self._books_url,
            market,
            now=clock,
            silence_s=self._silence_s,
            watch_s=self._watch_s if self._book_feed is BookFeed.LIVE else inf,
        )
        async for rows in rows_of:
            stamped = rows if ingested is None else [{**row, "ingested_at": ingested} for row in rows]
            yield to_batch("market_data.book_events", stamped)

    async def get_orderbooks(
        self, markets: Sequence[Market]
    ) -> AsyncIterator[tuple[Market, pa.RecordBatch | None]]:
        """The present book of each market, a hundred at once, whatever the feed; ``None`` where the venue has
        none."""
        for start in range(0, len(markets), books.AT_ONCE):
            some = markets[start : start + books.AT_ONCE]
            params: Params = {"tickers": [market.key.native_id for market in some]}
            reply = await self._client.fetch("GET", books.MANY, params)
            found = books.books_of(reply.value)
            for market in some:
                if market.key.native_id not in found:
                    yield market, None
                    continue
                bids, asks = found[market.key.native_id]
                rows = list(_snapshot_rows(market, bids, asks, reply.at))
                yield market, to_batch("market_data.book_events", rows)

    async def get_resolutions(self, markets: Sequence[Market]) -> AsyncIterator[list[Resolution]]:
        """Where each market stands, one per page."""
        now = await self.now()
        for market in markets:
            yield [rest.to_resolution(await rest.single(self._client, market.key.native_id), now)]

    async def get_positions(self, wallet: str) -> AsyncIterator[list[Position]]:
        """Raises :class:`UnsupportedError`: on Kalshi only the owner sees positions, by signed requests."""
        raise UnsupportedError("Kalshi shows positions to their owner only; there is nothing public to read")
        yield []  # type: ignore[unreachable]  # pragma: no cover - makes this an asynchronous generator

    def window(self, name: str, market: Market, now: Nanos) -> Window:
        """Candles and trades are taken up to when they have settled."""
        window = self.prices_window(market, now)
        if name == TRADES:
            return history.settled(window, "trades", 1, now)
        if name in (PRICES, CANDLES):
            return history.settled(window, "candles", self._period_of(name, market, window), now)
        return window

    def shortfall(self, name: str, market: Market, rows: pa.Table, now: Nanos) -> str:
        """What trades and candles lack of the volume that the catalog stated."""
        if name not in COUNTED or not rows.num_rows:
            return ""
        told, stated = pc.sum(rows[COUNTED[name]]).as_py(), market.volume or 0
        if told >= stated * (1 - VOLUME_WITHIN):
            return ""
        return (
            f"Kalshi counts {from_micro(stated)} contracts traded in {market.key}, and its rows of {name} "
            f"hold {from_micro(told)}"
        )

    def _period_of(self, name: str, market: Market, window: Window) -> Period:
        """That of candles, which are always read whole, must not become coarser while a market trades."""
        if name == CANDLES and market.scheduled_close is not None:
            ends = (market.scheduled_close, market.traded_until or market.scheduled_close)
            window = window._replace(end=min(ends))
        return self._period or history.period_for(window)

    async def _candles(
        self, name: str, market: Market, since: Nanos = 0
    ) -> AsyncIterator[list[Mapping[str, Any]]]:
        now = await self.now()
        window = self.window(name, market, now)
        period = self._period_of(name, market, self.prices_window(market, now))
        window = window._replace(start=max(window.start, min(since, window.end)))
        spoke = False
        async for rows in history.candles(self._client, market, window, period, await self._tiers()):
            if rows:
                spoke = True
                yield [{**row, "ingested_at": now} for row in rows]
        if not spoke and not since:
            _require_untraded(market, "candle")

    async def _tiers(self) -> Tiers:
        if self._cutoff is None:
            self._cutoff = Tiers(*await rest.cutoff(self._client))
        return self._cutoff


def _require_untraded(market: Market, what: str) -> None:
    if market.volume:
        raise QuietSourceError(
            f"Kalshi has no {what} of {market.key}, of which {from_micro(market.volume)} contracts were "
            "traded; the source has gone quiet. Nothing was written"
        )


def _snapshot_rows(
    market: Market, bids: Mapping[Micro, Micro], asks: Mapping[Micro, Micro], at: Nanos
) -> Iterable[Mapping[str, Any]]:
    """The answer carries no time of its own: the book was true and known when it was read."""
    common = {
        "market_key": str(market.key),
        "ts": at,
        "known_at": at,
        "ingested_at": at,
        "seq": at // 1000,
    }
    yield {**common, "kind": "reset"}
    for side, sizes, falling in (("bid", bids, True), ("ask", asks, False)):
        for price in sorted(sizes, reverse=falling):
            if sizes[price]:
                yield {**common, "kind": "level", "side": side, "price": price, "size": sizes[price]}


def _unknown() -> None:
    """The receive time of a replayed frame: its own stamp counts."""
