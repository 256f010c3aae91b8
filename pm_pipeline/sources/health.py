"""Which sources are alive, and how new the newest thing is that they tell.

Each probe asks one source one or two small questions. It says nothing about completeness: that is what
coverage and the checks of the assets are for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import httpx
import msgspec
from httpx_ws import AsyncWebSocketSession, HTTPXWSException, WebSocketUpgradeError, aconnect_ws
from wsproto.utilities import ProtocolError

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, Nanos, format_time
from pm_pipeline.sources.errors import BadResponse, SourceError
from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.polymarket.books.clob import order_book
from pm_pipeline.sources.polymarket.onchain.goldsky import Subgraph
from pm_pipeline.sources.polymarket.onchain.rpc import Node
from pm_pipeline.sources.polymarket.wire import GammaMarket, packed
from pm_pipeline.sources.wire import convert, moment, unix_seconds


class Verdict(StrEnum):
    """How a source is.

    ``ALIVE``: it answers, with new rows. ``STALE``: it answers, but its newest row is old. ``FROZEN``: it
    stopped for ever; what it has is history. ``DEAD``: it does not answer, or not with what it should.
    ``UNSET``: no address is configured for it.
    """

    ALIVE = "alive"
    STALE = "stale"
    FROZEN = "frozen"
    DEAD = "dead"
    UNSET = "unset"


@dataclass(frozen=True, slots=True)
class Health:
    """One source: its verdict, the time of its newest row (``None``: unknown), and what to do or to know."""

    source: str
    verdict: Verdict
    newest: Nanos | None
    note: str


@dataclass(frozen=True, slots=True)
class Retired:
    """A source that older programs use and that is gone: since when, and what serves instead."""

    source: str
    since: str
    instead: str


RETIRED: Final = (
    Retired("Goldsky subgraphs of Polymarket", "2026-04-28", "a Polygon node (PM_POLYGON_RPC), for V2 fills"),
    Retired("Data API v1 (/trades, /positions, /activity, /holders)", "2026-10-24", "Data API /v2/…"),
    Retired("CLOB /orderbook-history", "2026-02-20", "`bt record polymarket`, or `bt import` of archives"),
    Retired("Gamma /markets and /events with offset", "2026-05-01", "/markets/keyset and /events/keyset"),
    Retired("Polymarket exchange V1 contracts", "2026-04-28", "the V2 exchanges; V1 fills stay readable"),
)
"""What is named so that nobody waits for it; docs/polymarket.md has the sources."""


class Sources(NamedTuple):
    """Open clients of a world. ``node`` is ``None`` where no address is set; ``channel`` is a WebSocket."""

    clients: Mapping[str, HttpClient]
    node: HttpClient | None
    channel: tuple[httpx.AsyncClient, str]


Probe = Callable[[Sources], Awaitable[tuple[Nanos | None, str]]]


class _Page(msgspec.Struct):
    markets: list[dict[str, Any]]


class _Trades(msgspec.Struct):
    data: list[dict[str, Any]]


class _KalshiTrades(msgspec.Struct):
    trades: list[dict[str, Any]]


async def examine(sources: Sources, now: Nanos) -> list[Health]:
    """Ask every source; one that fails is a verdict, never an exception."""
    return list(await asyncio.gather(*(_examined(each, sources, now) for each in _PROBES)))


def needs_help(found: Iterable[Health]) -> list[Health]:
    """Those that should answer with new rows and do not."""
    return [each for each in found if each.verdict in {Verdict.DEAD, Verdict.STALE}]


@dataclass(frozen=True, slots=True)
class _Probed:
    """A source: how it is asked, and how old its newest row may be. One that is ``history`` may be frozen."""

    source: str
    ask: Probe
    fresh: Nanos
    history: bool = False


async def _examined(each: _Probed, sources: Sources, now: Nanos) -> Health:
    if each.ask is _node and sources.node is None:
        return Health(each.source, Verdict.UNSET, None, "set PM_POLYGON_RPC to read fills after 2026-04-28")
    try:
        newest, note = await each.ask(sources)
    except _NoTokenError as error:
        return Health(each.source, Verdict.UNSET, None, f"not asked, for Gamma names no token: {error}")
    except SourceError as error:
        return Health(each.source, Verdict.DEAD, None, str(error))
    if newest is None:
        return Health(each.source, Verdict.ALIVE, None, note or "it answers; nothing says how new it is")
    if now - newest <= each.fresh:
        return Health(each.source, Verdict.ALIVE, newest, note)
    return Health(each.source, Verdict.FROZEN if each.history else Verdict.STALE, newest, note)


async def _gamma(sources: Sources) -> tuple[Nanos | None, str]:
    rows = await _open_markets(sources.clients["gamma"])
    times = [
        moment(text, "/markets/keyset", name)
        for row in rows
        for name in ("updatedAt", "createdAt", "startDate")
        if isinstance(text := row.get(name), str)
    ]
    return max(times, default=None), f"{len(rows)} open markets on a page"


async def _clob(sources: Sources) -> tuple[Nanos | None, str]:
    token = await _traded_token(sources)
    found = await order_book(sources.clients["clob"], token)
    if found is None:
        return None, f"token {token[:12]}… has no book"
    return found[0].ts, f"book of token {token[:12]}…"


async def _data(sources: Sources) -> tuple[Nanos | None, str]:
    endpoint = "/v2/trades"
    page = convert(await sources.clients["data"].get(endpoint, {"limit": 1}), _Trades, endpoint)
    if not page.data:
        return None, "no trade in two months"
    return _seconds(page.data[0].get("timestamp"), endpoint), "newest trade of all markets"


async def _status(sources: Sources) -> tuple[Nanos | None, str]:
    endpoint = "/v2/status"
    body = await sources.clients["data"].get(endpoint)
    try:
        data, serving = body["data"], body["data"]["serving"]
        lag = f"serves {serving['lag_seconds']} s behind, worst: {serving['worst']}"
        return moment(data["computed_at"], endpoint, "computed_at"), lag
    except (KeyError, TypeError) as error:
        raise BadResponse(f"{endpoint}: {error} is missing") from error


async def _goldsky(sources: Sources) -> tuple[Nanos | None, str]:
    async with Subgraph(sources.clients["goldsky"]) as subgraph:
        reach = await subgraph.reach()
    return reach.at, f"indexed to block {reach.block}; history only, and not all of it"


async def _node(sources: Sources) -> tuple[Nanos | None, str]:
    assert sources.node is not None
    return await Node(sources.node).reach(), "last block that will not change"


_BROKEN: Final = (TimeoutError, OSError, httpx.HTTPError, HTTPXWSException, ProtocolError)
"""How a channel fails to give a frame."""

_PATIENCE_S: Final = 5.0


async def _channel(sources: Sources) -> tuple[Nanos | None, str]:
    """Subscribe to one token: the first frame is its book."""
    token = await _traded_token(sources)
    http, url = sources.channel
    asked = msgspec.json.encode({"type": "market", "assets_ids": [token], "initial_dump": True})
    try:
        socket: AsyncWebSocketSession
        async with aconnect_ws(url, http) as socket:
            await socket.send_text(asked.decode())
            frame = await socket.receive_text(timeout=_PATIENCE_S)
    except (WebSocketUpgradeError, *_BROKEN) as error:
        raise SourceError(f"{url}: no frame came: {type(error).__name__}") from error
    except BaseExceptionGroup as group:  # the task group of the socket wraps what happens in it
        broken, other = group.split(_BROKEN)
        if other is not None or broken is None:
            raise
        raise SourceError(f"{url}: no frame came: {broken.exceptions[0]!r}") from group
    try:
        body = msgspec.json.decode(frame)
        first = body[0] if isinstance(body, list) else body
        said = format_time(int(first["timestamp"]) * 1_000_000)
        return (
            None,
            f"a {first['event_type']} frame came at once, of {said}",
        )  # a quiet book is old, and right
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise BadResponse(f"{url}: the first frame is not what it should be: {frame[:80]!r}") from error


async def _kalshi(sources: Sources) -> tuple[Nanos | None, str]:
    endpoint = "/markets/trades"
    page = convert(await sources.clients["kalshi"].get(endpoint, {"limit": 1}), _KalshiTrades, endpoint)
    if not page.trades:
        return None, "no trade is listed"
    text = page.trades[0].get("created_time")
    if not isinstance(text, str):
        raise BadResponse(f"{endpoint}: created_time is missing")
    return moment(text, endpoint, "created_time"), "newest trade of all markets"


_PROBES: Final = (
    _Probed("polymarket gamma", _gamma, 6 * HOUR),
    _Probed("polymarket clob", _clob, HOUR),
    _Probed("polymarket websocket", _channel, 0),
    _Probed("polymarket data v2 trades", _data, HOUR),
    _Probed("polymarket data v2 status", _status, 10 * MINUTE),
    _Probed("goldsky subgraph", _goldsky, DAY, history=True),
    _Probed("polygon node", _node, HOUR),
    _Probed("kalshi", _kalshi, HOUR),
)
"""Every source that is read, and how old its newest row may be while it is well."""

HOSTS: Final = ("gamma", "clob", "data", "goldsky", "kalshi")
"""The clients that :func:`examine` needs; see :data:`~pm_pipeline.sources.connect.HOSTS`."""


async def _open_markets(client: HttpClient) -> list[dict[str, Any]]:
    endpoint = "/markets/keyset"
    page = convert(await client.get(endpoint, {"closed": "false", "limit": 100}), _Page, endpoint)
    if not page.markets:
        raise BadResponse(f"{endpoint}: no market is open")
    return page.markets


class _NoTokenError(SourceError):
    """Nothing can be asked of a source, since another does not say what there is."""


async def _traded_token(sources: Sources) -> str:
    """A token of the open market that trades most, of those on a page."""
    endpoint = "/markets/keyset"
    try:
        listed = await _open_markets(sources.clients["gamma"])
        rows = [convert(row, GammaMarket, endpoint) for row in listed]
    except SourceError as error:
        raise _NoTokenError(str(error)) from error
    best = max(rows, key=lambda row: (row.enable_order_book is not False, row.volume_num or 0))
    tokens = packed(best.clob_token_ids, endpoint, "clobTokenIds")
    if not tokens:
        raise BadResponse(f"{endpoint}: no open market has a token")
    return tokens[0]


def _seconds(value: object, endpoint: str) -> Nanos:
    if not isinstance(value, int):
        raise BadResponse(f"{endpoint}: timestamp is {value!r}")
    return unix_seconds(value, endpoint, "timestamp")
