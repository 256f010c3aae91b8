"""A recorder of the market WebSocket: raw frames to disk, on as many connections as there are tokens.

It keeps no book and interprets nothing that it writes: what a frame means is decided when it is read.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

import httpx
import msgspec
from httpx_ws import (
    AsyncWebSocketSession,
    HTTPXWSException,
    WebSocketDisconnect,
    WebSocketUpgradeError,
    aconnect_ws,
)
from wsproto.utilities import ProtocolError

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.books.frames import PONG, BookFrame, parse
from pm_pipeline.sources.polymarket.books.segments import Line, Rotation, SegmentWriter
from pm_pipeline.warehouse.locks import LockTimeoutError, file_lock

MOST_TOKENS: Final = 500
"""Beyond so many tokens on one connection the venue sends no books any more."""

LOCK: Final = "recorder"
_LARGEST_FRAME: Final = 16 << 20
_LONGEST_TRY_S: Final = 20.0
_BROKEN: Final = (httpx.TransportError, HTTPXWSException, ProtocolError)
"""How a connection breaks; ``ProtocolError``: something was sent after the venue had begun to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the recorder behaves; times in seconds.

    A connection on which nothing comes for ``silence_s``, not even the answer to a ping, is dead. One that
    only answers pings is frozen after ``quiet_s``. A lost connection is made again after a random time of at
    most ``backoff_s``, doubled each time up to ``backoff_max_s``.
    """

    tokens_per_connection: int = 200
    ping_s: float = 10.0
    silence_s: float = 30.0
    quiet_s: float = 300.0
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    rotation: Rotation = field(default_factory=Rotation)

    def __post_init__(self) -> None:
        if not 1 <= self.tokens_per_connection <= MOST_TOKENS:
            raise UsageError(
                f"a connection carries 1 to {MOST_TOKENS} tokens, not {self.tokens_per_connection}: beyond "
                "that the venue sends no books"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where the recorder stands. ``acknowledged`` frames are on the disk, whatever happens next.

    ``awaited`` tokens have no book yet since their connection was made: a market without a book stays so.
    """

    received: int
    acknowledged: int
    connections: int
    open: int
    lost: int
    awaited: int
    segments: int
    written: int
    problem: str

    def __str__(self) -> str:
        text = (
            f"{self.acknowledged} frames acknowledged of {self.received}, {self.open} of {self.connections} "
            f"connections, {self.lost} times lost, {self.awaited} tokens without a book, "
            f"{self.segments} segments, {self.written} bytes"
        )
        return f"{text}; last problem: {self.problem}" if self.problem else text


@contextmanager
def the_only_recorder(root: Path) -> Iterator[None]:
    """Hold the lock of the one recorder of a folder. Raises :class:`UsageError` where there is another."""
    try:
        with file_lock(root / LOCK, mode="exclusive", timeout_s=0):
            yield
    except LockTimeoutError:
        raise UsageError(
            f"another recorder writes to {root}; end it first, or use another PM_DATA_DIR"
        ) from None


class Recorder:
    """Records ``tokens`` to segments under ``root`` until it is told to stop."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        tokens: Sequence[str],
        root: Path,
        terms: Terms,
        *,
        clock: Callable[[], Nanos] = time.time_ns,
    ) -> None:
        self._http = http
        self._url = url
        self._terms = terms
        self._clock = clock
        step = terms.tokens_per_connection
        self._shards = [list(tokens[at : at + step]) for at in range(0, len(tokens), step)]
        self._open: dict[int, list[str]] = {}
        self._awaited: dict[int, set[str]] = {}
        self._number = 0
        self._lost = 0
        self._problem = ""
        self._writer = SegmentWriter(root, terms.rotation, carried=self._carried, clock=clock)

    def status(self) -> Status:
        """Where it stands now."""
        return Status(
            received=self._writer.received,
            acknowledged=self._writer.acknowledged,
            connections=len(self._shards),
            open=len(self._open),
            lost=self._lost,
            awaited=sum(map(len, self._awaited.values())),
            segments=self._writer.segments,
            written=self._writer.written,
            problem=self._problem,
        )

    async def run(self, stop: asyncio.Event) -> Status:
        """Record until ``stop`` is set; what came is on the disk when this returns.

        Raises
        ------
        StorageError
            when the disk takes no more. What was acknowledged is unharmed.
        """
        tasks = [asyncio.create_task(self._writer.run())]
        tasks += [asyncio.create_task(self._keep_up(shard)) for shard in self._shards]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            failed = [task for task in tasks if task.done()]
            for task in (stopped, *tasks):
                task.cancel()
            await asyncio.wait({stopped, *tasks})
            for task in failed:
                task.result()
            await self._writer.put(Line(self._clock(), 0, "stop", tokens=list(chain(*self._shards))))
            await self._writer.flush()
        finally:
            self._writer.close()
        return self.status()

    def _carried(self) -> list[Line]:
        """What a new segment begins with: who is connected, and to what."""
        return [Line(self._clock(), number, "open", tokens=tokens) for number, tokens in self._open.items()]

    async def _keep_up(self, tokens: list[str]) -> None:
        """Keep one connection, for ever."""
        wait = self._terms.backoff_s
        while True:
            number = self._number = max(self._number + 1, self._clock())
            problem = await self._session(number, tokens)
            if number in self._open:
                had_books = len(self._awaited.pop(number)) < len(tokens)
                del self._open[number]
                self._lost += 1
                await self._writer.put(Line(self._clock(), number, "lost", problem, tokens))
                wait = self._terms.backoff_s if had_books else wait
            self._problem = problem
            await asyncio.sleep(random.uniform(0, wait))
            wait = min(2 * wait, self._terms.backoff_max_s)

    async def _session(self, number: int, tokens: list[str]) -> str:
        """One connection, until it ends; why it did."""
        try:
            socket: AsyncWebSocketSession
            async with aconnect_ws(
                self._url,
                self._http,
                keepalive_ping_interval_seconds=None,
                max_message_size_bytes=_LARGEST_FRAME,
                timeout=_LONGEST_TRY_S,
            ) as socket:
                return await self._read(socket, number, tokens)
        except WebSocketUpgradeError as error:
            return f"refused with HTTP {error.response.status_code}"
        except (TimeoutError, *_BROKEN) as error:
            return f"{type(error).__name__}: {error}"
        except BaseExceptionGroup as group:  # the task group of the socket wraps what happens in it
            broken, other = group.split(_BROKEN)
            if other is not None or broken is None:
                raise
            return repr(broken.exceptions[0])

    async def _read(self, socket: AsyncWebSocketSession, number: int, tokens: list[str]) -> str:
        subscription = {"type": "market", "assets_ids": tokens, "custom_feature_enabled": False}
        await socket.send_text(msgspec.json.encode(subscription).decode())
        self._open[number], self._awaited[number] = tokens, set(tokens)
        await self._writer.put(Line(self._clock(), number, "open", tokens=tokens))
        now = time.monotonic()
        heard = told = now
        ping_at = now + self._terms.ping_s
        while True:
            now = time.monotonic()
            if now >= ping_at:
                await socket.send_text("PING")
                ping_at = now + self._terms.ping_s
            if now - heard >= self._terms.silence_s:
                return f"silent for {self._terms.silence_s:g} s"
            if now - told >= self._terms.quiet_s:
                return f"frozen: only pings were answered for {self._terms.quiet_s:g} s"
            until = min(ping_at, heard + self._terms.silence_s, told + self._terms.quiet_s)
            try:
                text = await socket.receive_text(timeout=max(until - now, 0.001))
            except TimeoutError:
                continue
            except WebSocketDisconnect as end:
                return f"closed by the venue ({end.code})"
            heard = time.monotonic()
            if text == PONG:
                continue
            told = heard
            await self._writer.put(Line(self._clock(), number, text=text))
            if self._awaited[number] and '"book"' in text:
                self._awaited[number] -= _books_in(text)


def _books_in(text: str) -> set[str]:
    """The tokens whose books a frame holds; what cannot be read is the reader's to find."""
    try:
        return {event.asset_id for event in parse(text) if isinstance(event, BookFrame)}
    except BadResponse:
        return set()
