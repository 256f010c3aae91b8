"""The CLOB's market channel. Books are played on from where the last connection left them, change by change.

Frames bear no numbers. A connection begins with a whole book of each token, a change names both tokens of a
market, and ``PING`` is answered with ``PONG``. When all is played the connection stays open and silent.
"""

import asyncio
import heapq
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from starlette.datastructures import State
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.sandbox.wire import text
from pm_pipeline.sources.sandbox.world import Token, World

FRAMES: Final = 20
PAUSE_S: Final = 0.01
"""So many frames are sent at once, then the channel rests: about two thousand a second."""

_Sizes = dict[tuple[bool, Micro], Micro]


def frames_of(token: Token, token_id: str, start: int = 0) -> Iterator[tuple[int, Nanos, dict[str, object]]]:
    """The frames about one token from row ``start`` of its market's log on, each with the row that is next.

    The first is the book as it stands there.
    """
    log = token.market.book_log()
    sizes: _Sizes = {}
    row, rows, shown = 0, len(log.ts), False
    while row < rows:
        end = row + 1
        while end < rows and log.seq[end] == log.seq[row]:
            end += 1
        ts, reset = int(log.ts[row]), bool(log.reset[row])
        levels = {
            (bool(log.is_ask[at]), int(log.price[at])): int(log.size[at])
            for at in range(row, end)
            if not log.reset[at]
        }
        sizes = levels if reset else sizes | levels
        row = end
        if row <= start:
            continue
        whole = reset or not shown
        shown = True
        yield row, ts, _book(token, token_id, ts, sizes) if whole else _changes(token, ts, levels)


def _names(token: Token, ts: Nanos) -> dict[str, object]:
    return {"market": token.market.market.condition_id, "timestamp": str(ts // 1_000_000)}


def _book(token: Token, token_id: str, ts: Nanos, sizes: _Sizes) -> dict[str, object]:
    """Bids rise and asks fall, as on ``/book``."""
    own = {_mirrored(*place) if token.outcome else place: size for place, size in sizes.items() if size}
    sides = {
        name: [
            {"price": text(at), "size": text(own[ask, at])}
            for ask, at in sorted((place for place in own if place[0] == is_ask), reverse=is_ask)
        ]
        for name, is_ask in (("bids", False), ("asks", True))
    }
    return {"event_type": "book", "asset_id": token_id, **_names(token, ts), **sides}


def _changes(token: Token, ts: Nanos, levels: _Sizes) -> dict[str, object]:
    changes = []
    for instrument in token.market.market.instruments:
        for place, size in levels.items():
            is_ask, at = _mirrored(*place) if instrument.outcome_index else place
            changes.append(
                {
                    "asset_id": instrument.token_id,
                    "price": text(at),
                    "size": text(size),
                    "side": "SELL" if is_ask else "BUY",
                }
            )
    return {"event_type": "price_change", **_names(token, ts), "price_changes": changes}


def _mirrored(is_ask: bool, at: Micro) -> tuple[bool, Micro]:
    return not is_ask, MICRO - at


def _play(world: World, places: dict[str, int], token_ids: list[str]) -> Iterator[str]:
    """The frames of the tokens, merged in time; ``places`` keeps how far each was played."""

    def own(token_id: str) -> Iterator[tuple[Nanos, str, int, dict[str, object]]]:
        found = frames_of(world.by_token[token_id], token_id, places.get(token_id, 0))
        for row, ts, frame in found:
            yield ts, token_id, row, frame

    lives = [own(token_id) for token_id in token_ids if token_id in world.by_token]
    for _, token_id, row, frame in heapq.merge(*lives, key=lambda each: each[:2]):
        places[token_id] = max(places.get(token_id, 0), row)
        yield msgspec.json.encode(frame).decode()


class _Session:
    def __init__(self, socket: WebSocket, world: World, places: dict[str, int]) -> None:
        self._socket = socket
        self._world = world
        self._places = places
        self._play: Iterator[str] = iter(())

    async def run(self) -> None:
        player = asyncio.create_task(self._send())
        try:
            while True:
                await self._obey(await self._socket.receive_text())
        except WebSocketDisconnect:
            return
        finally:
            player.cancel()

    async def _send(self) -> None:
        while True:
            for _ in range(FRAMES):
                frame = next(self._play, None)
                if frame is None:
                    break
                await self._socket.send_text(frame)
            await asyncio.sleep(PAUSE_S)

    async def _obey(self, command: str) -> None:
        if command == "PING":
            await self._socket.send_text("PONG")
            return
        try:
            asked: Any = msgspec.json.decode(command)
            tokens = msgspec.convert(asked["assets_ids"], list[str])
        except (msgspec.MsgspecError, KeyError, TypeError):
            await self._socket.send_text("INVALID OPERATION")
            return
        self._play = _play(self._world, self._places, tokens)


def _places(state: State) -> dict[str, int]:
    """How far each token was played in this sandbox."""
    if not hasattr(state, "clob_places"):
        state.clob_places = {}
    places: dict[str, int] = state.clob_places
    return places


async def market(socket: WebSocket) -> None:
    """``/ws/market``."""
    await socket.accept()
    await _Session(socket, socket.app.state.world, _places(socket.app.state)).run()


ROUTES: Final = [WebSocketRoute("/ws/market", market)]
"""Path of ws-subscriptions-clob.polymarket.com."""
