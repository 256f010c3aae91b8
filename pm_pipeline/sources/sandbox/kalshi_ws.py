"""Kalshi's order book channel. The whole life of each market asked for is played at once, then the server
closes normally (1000).

``seq`` counts per subscription over all its markets, and ``ok`` frames use it up. Offers of YES are bids for
NO at the complementary price, unless ``use_yes_price`` is set. The handshake is not checked: the sandbox has
no accounts.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.sandbox.candles import count, dollars
from pm_pipeline.sources.sandbox.kalshi_wire import levels_json, stable_uuid
from pm_pipeline.sources.sandbox.wire import iso
from pm_pipeline.sources.sandbox.world import World, WorldMarket

_CHANNEL: Final = "orderbook_delta"
_ERRORS: Final = {
    1: "Unable to process message",
    2: "Params required",
    3: "Channels required",
    5: "Unknown command",
    7: "Unknown subscription ID",
    8: "Unknown channel name",
    13: "Unsupported action",
    14: "Market Ticker required",
    16: "Market not found",
}
_SID: Final = 1


class _Refused(Exception):  # noqa: N818 - becomes an error frame
    def __init__(self, code: int) -> None:
        super().__init__(_ERRORS[code])
        self.code = code


class Message(NamedTuple):
    """One message about one market, before it is numbered."""

    ts: Nanos
    type: str
    msg: dict[str, object]


def life_of(market: WorldMarket, *, use_yes_price: bool = False) -> Iterator[Message]:
    """Every snapshot and level change of a market, in order."""
    log = market.book_log()
    names = {"market_ticker": market.native_id, "market_id": stable_uuid(market.native_id)}
    sizes: dict[tuple[bool, Micro], Micro] = {}
    row, rows = 0, len(log.ts)
    while row < rows:
        ts = int(log.ts[row])
        if log.reset[row]:
            end = row + 1
            while end < rows and log.seq[end] == log.seq[row]:
                end += 1
            sizes = {
                (bool(log.is_ask[at]), int(log.price[at])): int(log.size[at]) for at in range(row + 1, end)
            }
            yield Message(ts, "orderbook_snapshot", names | _snapshot(sizes, use_yes_price))
            row = end
            continue
        is_ask, price, size = bool(log.is_ask[row]), int(log.price[row]), int(log.size[row])
        change = size - sizes.get((is_ask, price), 0)
        sizes[(is_ask, price)] = size
        row += 1
        if change:
            yield Message(
                ts,
                "orderbook_delta",
                names
                | {
                    "price_dollars": dollars(_shown(is_ask, price, use_yes_price)),
                    "delta_fp": count(change),
                    "side": "no" if is_ask else "yes",
                    "ts": iso(ts),
                    "ts_ms": ts // 1_000_000,
                },
            )


def _shown(is_ask: bool, price: Micro, use_yes_price: bool) -> Micro:
    return MICRO - price if is_ask and not use_yes_price else price


def _snapshot(sizes: Mapping[tuple[bool, Micro], Micro], use_yes_price: bool) -> dict[str, object]:
    """Levels of both sides, rising; the key of an empty side is absent."""
    body: dict[str, object] = {}
    for is_ask, key in ((False, "yes_dollars_fp"), (True, "no_dollars_fp")):
        levels = sorted(
            (_shown(is_ask, price, use_yes_price), size)
            for (side, price), size in sizes.items()
            if side == is_ask and size
        )
        if levels:
            body[key] = levels_json(levels)
    return body


class _Session:
    """One connection: commands come in at any time, frames go out in order."""

    def __init__(self, socket: WebSocket, world: World) -> None:
        self._socket = socket
        self._world = world
        self._inbox: deque[str] = deque()
        self._arrived = asyncio.Event()
        self._gone = False
        self._playing: deque[Iterator[Message]] = deque()
        self._subscribed = False
        self._use_yes_price = False
        self._seq = 0

    async def run(self) -> None:
        reader = asyncio.create_task(self._read())
        try:
            while not self._gone:
                if not self._inbox and not self._playing:
                    if self._subscribed:
                        await self._socket.close(1000)
                        return
                    self._arrived.clear()
                    await self._arrived.wait()
                while self._inbox:
                    await self._obey(self._inbox.popleft())
                await self._play_on()
        except WebSocketDisconnect:
            return
        finally:
            reader.cancel()

    async def _read(self) -> None:
        try:
            while True:
                self._inbox.append(await self._socket.receive_text())
                self._arrived.set()
        except WebSocketDisconnect:
            self._gone = True
            self._arrived.set()

    async def _play_on(self, frames: int = 500) -> None:
        """Send a stretch of the present play, then look for commands again."""
        while self._playing and frames > 0:
            message = next(self._playing[0], None)
            if message is None:
                self._playing.popleft()
                continue
            self._seq += 1
            frames -= 1
            await self._send(
                {
                    "type": message.type,
                    "sid": _SID,
                    "seq": self._seq,
                    "msg": message.msg,
                    "sending_ts_ms": message.ts // 1_000_000,
                }
            )
        # A reader that is always behind must still get its turn.
        await asyncio.sleep(0)

    async def _send(self, frame: Mapping[str, object]) -> None:
        await self._socket.send_text(msgspec.json.encode(frame).decode())

    async def _obey(self, text: str) -> None:
        number: object = None
        try:
            command = msgspec.json.decode(text)
            if not isinstance(command, dict):
                raise _Refused(1)
            number = command.get("id")
            params = command.get("params")
            if not isinstance(params, dict):
                raise _Refused(2)
            name = command.get("cmd")
            if name == "subscribe":
                await self._subscribe(number, params)
            elif name == "update_subscription":
                await self._update(number, params)
            else:
                raise _Refused(5)
        except msgspec.MsgspecError:
            await self._refuse(number, 1)
        except _Refused as refused:
            await self._refuse(number, refused.code)

    async def _refuse(self, number: object, code: int) -> None:
        await self._send({"id": number, "type": "error", "msg": {"code": code, "msg": _ERRORS[code]}})

    async def _subscribe(self, number: object, params: Mapping[str, object]) -> None:
        channels = params.get("channels")
        if not isinstance(channels, list) or not channels:
            raise _Refused(3)
        if channels != [_CHANNEL]:
            raise _Refused(8)
        markets = self._markets(params)
        self._use_yes_price = params.get("use_yes_price") is True
        self._subscribed = True
        await self._send({"id": number, "type": "subscribed", "msg": {"channel": _CHANNEL, "sid": _SID}})
        self._play(markets)

    async def _update(self, number: object, params: Mapping[str, object]) -> None:
        if not self._subscribed or params.get("sids", [params.get("sid")]) != [_SID]:
            raise _Refused(7)
        if params.get("action") not in {"add_markets", "get_snapshot"}:
            raise _Refused(13)
        markets = self._markets(params)
        self._seq += 1
        tickers = {"market_tickers": [market.native_id for market in markets]}
        await self._send({"id": number, "type": "ok", "sid": _SID, "seq": self._seq, "msg": tickers})
        self._play(markets)

    def _markets(self, params: Mapping[str, object]) -> list[WorldMarket]:
        tickers = params.get("market_tickers", params.get("market_ticker"))
        names = [tickers] if isinstance(tickers, str) else tickers
        if not isinstance(names, list) or not names:
            raise _Refused(14)
        if any(name not in self._world.kalshi for name in names):
            raise _Refused(16)
        return [self._world.kalshi[name] for name in names]

    def _play(self, markets: list[WorldMarket]) -> None:
        lives = (life_of(market, use_yes_price=self._use_yes_price) for market in markets)
        self._playing.append(heapq.merge(*lives, key=lambda message: message.ts))


async def stream(socket: WebSocket) -> None:
    """``/trade-api/ws/v2``."""
    await socket.accept()
    await _Session(socket, socket.app.state.world).run()


ROUTES: Final = [WebSocketRoute("/trade-api/ws/v2", stream)]
"""Path of external-api-ws.kalshi.com, also served under api.elections.kalshi.com."""
