"""From a mode to an adapter: which servers the clients talk to is decided here, and nowhere else.

The clients, their paging, parsing and pacing are the same in every mode; only the httpx transport differs.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import httpx
from httpx_ws.transport import ASGIWebSocketTransport

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.sources.adapter import PlatformAdapter
from pm_pipeline.sources.archive import ArchivingTransport, ReplayTransport
from pm_pipeline.sources.endpoint import EndpointTransport
from pm_pipeline.sources.http import USER_AGENT, HttpClient
from pm_pipeline.sources.kalshi import BookFeed, KalshiAdapter
from pm_pipeline.sources.kalshi.auth import KalshiAuth
from pm_pipeline.sources.limiter import AdaptiveLimiter
from pm_pipeline.sources.polymarket import PolymarketAdapter
from pm_pipeline.sources.polymarket.endings.resolutions import Asked, ChainEnds, FileEnds, NodeEnds
from pm_pipeline.sources.polymarket.onchain.rpc import Node
from pm_pipeline.warehouse.archive import PageArchive, canonical_request

if TYPE_CHECKING:
    from pm_pipeline.sources.health import Sources
    from pm_pipeline.sources.polymarket.onchain.ingest import FillSource

AsgiApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application."""


class SourceMode(StrEnum):
    """Which world is read: the venues, the embedded sandbox, or raw pages kept earlier."""

    LIVE = "live"
    SANDBOX = "sandbox"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class Host:
    """A host of a venue: its address, its folder in a sandbox behind one address, and how fast we ask it.

    ``endpoints`` holds requests a second by the beginning of a path. All rates are half of what the venues
    publish, or below what was measured to pass without a 429 (Data API 20 a second over all of it, Kalshi 5
    to 8 anonymous); on a 429 they fall by themselves.
    """

    base: str
    folder: str
    rate_per_s: float
    burst: int
    endpoints: Mapping[str, float] = field(default_factory=dict)


HOSTS: Final[Mapping[str, Host]] = {
    "gamma": Host(
        "https://gamma-api.polymarket.com",
        "gamma",
        40,
        20,
        {"/markets": 15, "/events": 25, "/public-search": 17, "/tags": 10},
    ),
    "clob": Host(
        "https://clob.polymarket.com",
        "clob",
        80,
        40,
        {"/book": 75, "/books": 25, "/prices-history": 50, "/markets": 25, "/tick-size": 10},
    ),
    "data": Host(
        "https://data-api.polymarket.com",
        "data",
        15,
        15,
        {"/v2/positions": 10, "/v2/prices-history": 10},
    ),
    "kalshi": Host(
        "https://external-api.kalshi.com/trade-api/v2", "kalshi/trade-api/v2", 5, 10, {"/historical": 4}
    ),
    "goldsky": Host("https://api.goldsky.com", "goldsky", 5, 5),
    "polygon": Host("https://polygon.invalid", "polygon", 10, 10),
}
"""Every host that is read. In the sandbox's own process each is served under its real name. That of the node
is a placeholder: its real address holds a key."""

_NOW: Final = {
    Venue.POLYMARKET: f"{HOSTS['data'].base}/v2/status",
    Venue.KALSHI: f"{HOSTS['kalshi'].base}/exchange/status",
}
"""What a session asks first, to know how late it is."""

KALSHI_BOOKS: Final = "wss://external-api-ws.kalshi.com/trade-api/ws/v2"
POLYMARKET_BOOKS: Final = "wss://ws-subscriptions-clob.polymarket.com/ws/market"
_ATTEMPTS: Final = 6
_FEW: Final = 2
"""Attempts of a request that only asks whether somebody is there."""
_SANDBOX_RATE: Final = 10_000
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20)
"""The clients bound what they ask at once; the default of 100 would bound the sockets of a recorder."""


@asynccontextmanager
async def open_adapter(
    venue: Venue,
    mode: SourceMode | str,
    *,
    archive: PageArchive | None = None,
    sandbox_app: AsgiApp | None = None,
    sandbox_url: str | None = None,
    contact: str | None = None,
    polygon_rpc: str | None = None,
    polygon_logs: Path | None = None,
    asked: Asked = Asked.AUTO,
    since: Nanos | None = None,
) -> AsyncIterator[PlatformAdapter]:
    """An open adapter of ``venue``; leave the block in the task that entered it.

    Parameters
    ----------
    archive:
        where pages are kept (live, sandbox; none are, without it), or read from (archive). Pages of the
        sandbox bear the venues' real addresses: give it an archive of its own.
    sandbox_app, sandbox_url:
        the sandbox in this process, or where it listens, for example ``http://127.0.0.1:8899``.
    contact:
        an address for the User-Agent, as venues ask for.
    polygon_rpc, polygon_logs:
        a Polygon node, or files of its logs, which go first, for how Polymarket's markets ended.
    asked:
        whom else to ask about that; with ``all`` also the node of the sandbox.
    since:
        replay the session that began then; without it, the latest page of each request.

    Raises
    ------
    UsageError
        when the mode lacks what it needs, or the venue has no client here.
    """
    source = _Source(SourceMode(mode), archive, sandbox_app, sandbox_url, contact, since)
    async with AsyncExitStack() as stack:
        if venue is Venue.POLYMARKET:
            chain: ChainEnds | None = FileEnds(polygon_logs) if polygon_logs else None
            own_node = source.mode is SourceMode.SANDBOX and asked is Asked.ALL
            if chain is None and (polygon_rpc or own_node):
                node = await stack.enter_async_context(source.client("polygon", endpoint=polygon_rpc))
                chain = NodeEnds(Node(node))
            adapter: PlatformAdapter = PolymarketAdapter(
                gamma=source.client("gamma"),
                clob=source.client("clob"),
                data=source.client("data"),
                chain=chain,
                asked=asked,
            )
        elif venue is Venue.KALSHI:
            adapter = _kalshi(source)
        else:
            raise UsageError(f"{venue} is no prediction market; open one of polymarket, kalshi")
        if source.mode is SourceMode.ARCHIVE and archive is not None and since is None:
            more = {"polygon_rpc": polygon_rpc, "polygon_logs": polygon_logs, "asked": asked}
            adapter.sessions = partial(_sessions, venue, archive, more)
        yield await stack.enter_async_context(adapter)


async def _sessions(
    venue: Venue, archive: PageArchive, more: Mapping[str, Any]
) -> AsyncGenerator[PlatformAdapter, None]:
    """Each asks its venue first how late it is, and all windows follow from the answer."""
    for moment in archive.moments(canonical_request("GET", _NOW[venue])):
        async with open_adapter(venue, SourceMode.ARCHIVE, archive=archive, since=moment, **more) as adapter:
            yield adapter


@asynccontextmanager
async def open_market_channel(
    mode: SourceMode | str,
    *,
    sandbox_app: AsgiApp | None = None,
    sandbox_url: str | None = None,
    contact: str | None = None,
) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client for Polymarket's market WebSocket, and its address; parameters as of :func:`open_adapter`.

    Raises
    ------
    UsageError
        for the archive, which holds no frames.
    """
    source = _Source(SourceMode(mode), None, sandbox_app, sandbox_url, contact)
    async with source.client("clob") as client:
        yield client.http, source.channel_url()


@asynccontextmanager
async def open_sources(
    mode: SourceMode | str,
    *,
    endpoint: str | None = None,
    sandbox_app: AsgiApp | None = None,
    sandbox_url: str | None = None,
    contact: str | None = None,
) -> AsyncIterator["Sources"]:
    """Clients of every source, to see which are alive; they give up sooner than others.

    Parameters as of :func:`open_adapter`, ``endpoint`` as of :func:`open_fills`. Raises :class:`UsageError`
    for the archive, where nothing can be alive.
    """
    from pm_pipeline.sources.health import HOSTS as EXAMINED
    from pm_pipeline.sources.health import Sources

    mode = SourceMode(mode)
    if mode is SourceMode.ARCHIVE:
        raise UsageError("PM_SOURCE=archive reads pages kept earlier; PM_SOURCE=live shows what is alive")
    source = _Source(mode, None, sandbox_app, sandbox_url, contact)
    async with AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(source.client(name, attempts=_FEW)) for name in EXAMINED
        }
        node = None
        if endpoint or mode is SourceMode.SANDBOX:
            client = source.client("polygon", endpoint=endpoint, attempts=_FEW)
            node = await stack.enter_async_context(client)
        channel = await stack.enter_async_context(source.client("clob"))
        yield Sources(clients, node, (channel.http, source.channel_url()))


@dataclass(frozen=True, slots=True)
class _Source:
    mode: SourceMode
    archive: PageArchive | None
    app: AsgiApp | None
    url: str | None
    contact: str | None
    since: Nanos | None = None

    def __post_init__(self) -> None:
        if self.mode is SourceMode.ARCHIVE and self.archive is None:
            raise UsageError("PM_SOURCE=archive needs an archive of pages to read from")
        if self.mode is SourceMode.SANDBOX and (self.app is None) == (self.url is None):
            raise UsageError("PM_SOURCE=sandbox needs either a sandbox in this process or its address")

    def client(
        self,
        name: str,
        auth: httpx.Auth | None = None,
        endpoint: str | None = None,
        attempts: int = _ATTEMPTS,
    ) -> HttpClient:
        """A client of one host. Each has a transport of its own, which its closing closes."""
        host = HOSTS[name]
        local = self.mode is not SourceMode.LIVE
        rate, burst = (_SANDBOX_RATE, _SANDBOX_RATE) if local else (host.rate_per_s, host.burst)
        return HttpClient(
            self._address(host),
            limiter=AdaptiveLimiter(rate, burst),
            endpoints={} if local else {path: AdaptiveLimiter(r) for path, r in host.endpoints.items()},
            transport=self._transport(endpoint),
            auth=auth,
            # nothing is lost on the way to a local server: a busy machine only takes longer
            timeout_s=120.0 if local else 20.0,
            attempts=attempts,
            wait_initial_s=0.05 if local else 0.5,
            restart_s=0.05 if local else 10.0,
            user_agent=f"{USER_AGENT} contact: {self.contact}" if self.contact else USER_AGENT,
        )

    def _address(self, host: Host) -> str:
        return f"{self.url.rstrip('/')}/{host.folder}" if self.url and self._in_sandbox else host.base

    @property
    def _in_sandbox(self) -> bool:
        return self.mode is SourceMode.SANDBOX

    def books_url(self) -> str:
        """Where the WebSocket of Kalshi is."""
        return self._socket_url(KALSHI_BOOKS, "kalshi/trade-api/ws/v2")

    def channel_url(self) -> str:
        """Where the market WebSocket of Polymarket is."""
        return self._socket_url(POLYMARKET_BOOKS, "clob/ws/market")

    def _socket_url(self, real: str, folder: str) -> str:
        if not (self.url and self._in_sandbox):
            return real
        scheme, _, rest = self.url.rstrip("/").partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/{folder}"

    def _transport(self, endpoint: str | None) -> httpx.AsyncBaseTransport:
        if self.mode is SourceMode.ARCHIVE and self.archive is not None:
            return ReplayTransport(self.archive, self.since)
        inner: httpx.AsyncBaseTransport = (
            ASGIWebSocketTransport(self.app, initial_receive_timeout=10.0)
            if self.app is not None and self._in_sandbox
            else httpx.AsyncHTTPTransport(retries=0, limits=_LIMITS)
        )
        if endpoint is not None and not self._in_sandbox:
            inner = EndpointTransport(endpoint, inner)
        return inner if self.archive is None else ArchivingTransport(inner, self.archive)


class FillsFrom(StrEnum):
    """Where on-chain fills are read.

    ``AUTO``: from files or a node where one is named, else from the subgraph; in the sandbox from its node.
    """

    AUTO = "auto"
    GOLDSKY = "goldsky"
    NODE = "node"
    FILES = "files"


@asynccontextmanager
async def open_fills(
    mode: SourceMode | str,
    how: FillsFrom = FillsFrom.AUTO,
    *,
    endpoint: str | None = None,
    files: Path | None = None,
    archive: PageArchive | None = None,
    sandbox_app: AsgiApp | None = None,
    sandbox_url: str | None = None,
    contact: str | None = None,
) -> AsyncIterator["FillSource"]:
    """An open source of Polymarket's on-chain fills; see :func:`open_adapter` for the rest.

    Parameters
    ----------
    endpoint:
        address of a Polygon node, which may hold a key; the sandbox has its own, and a replay needs none.
    files:
        a file of logs, or a folder of them.

    Raises
    ------
    UsageError
        when what is asked for lacks its address.
    """
    from pm_pipeline.sources.polymarket.onchain.goldsky import Subgraph
    from pm_pipeline.sources.polymarket.onchain.ingest import FileFills, NodeFills, SubgraphFills

    mode = SourceMode(mode)
    if how is FillsFrom.AUTO:
        named = FillsFrom.NODE if endpoint or mode is SourceMode.SANDBOX else FillsFrom.GOLDSKY
        how = FillsFrom.FILES if files else named
    if how is FillsFrom.FILES:
        if files is None:
            raise UsageError("fills from files need PM_POLYGON_LOGS: a file of logs, or a folder of them")
        yield FileFills(files)
        return
    source = _Source(mode, archive, sandbox_app, sandbox_url, contact)
    if how is FillsFrom.GOLDSKY:
        async with source.client("goldsky") as client, Subgraph(client) as subgraph:
            yield SubgraphFills(subgraph)
        return
    if mode is SourceMode.LIVE and not endpoint:
        raise UsageError("fills from a node need PM_POLYGON_RPC: the address of a Polygon node")
    async with source.client("polygon", endpoint=endpoint) as client:
        yield NodeFills(Node(client))


def _kalshi(source: _Source) -> KalshiAdapter:
    auth = KalshiAuth.from_environment() if source.mode is SourceMode.LIVE else None
    feed = {
        SourceMode.LIVE: BookFeed.LIVE if auth else BookFeed.SNAPSHOT,
        SourceMode.SANDBOX: BookFeed.REPLAY,
        SourceMode.ARCHIVE: BookFeed.SNAPSHOT,
    }[source.mode]
    return KalshiAdapter(
        source.client("kalshi", auth),
        book_feed=feed,
        books_url=source.books_url(),
    )
