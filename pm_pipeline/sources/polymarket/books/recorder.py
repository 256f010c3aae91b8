"""A recorder of the market WebSocket: raw frames to disk, on as many connections as there are tokens.

It keeps no book and interprets nothing that it writes: what a frame means is decided when it is read.

Tokens that join later get connections of their own, so nothing is ever asked of a connection that carries
books. The venue's pages let a client add to one, but its users report additions without a book and without
an error, and whatever it answered otherwise would be a gap in all books there.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

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
_LOOK_S: Final = 0.05
"""What came while this process was busy is read before a venue is called silent."""

Look: TypeAlias = Callable[[], Sequence[str] | None]
"""The tokens to watch from now on, ``None`` where nothing changed. It runs in a thread, and may fail."""

_BROKEN: Final = (httpx.TransportError, HTTPXWSException, ProtocolError)
"""How a connection breaks; ``ProtocolError``: something was sent after the venue had begun to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the recorder behaves; times in seconds.

    A connection on which nothing comes for ``silence_s``, not even the answer to a ping, is dead. One that
    only answers pings is frozen after ``quiet_s``. A lost connection is made again after a random time of at
    most ``backoff_s``, doubled each time up to ``backoff_max_s``. ``follow_s`` lie between two looks for more
    tokens.
    """

    tokens_per_connection: int = 200
    ping_s: float = 10.0
    silence_s: float = 30.0
    quiet_s: float = 300.0
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    follow_s: float = 300.0
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

    ``markets`` are to be watched, each by one token; ``tokens`` are watched now, of markets that ended too
    until their connection is made anew. ``awaited`` tokens have no book yet since their connection was made:
    a market without a book stays so. ``unfollowed`` says why the last look for more markets failed.
    """

    received: int
    acknowledged: int
    markets: int
    tokens: int
    connections: int
    open: int
    lost: int
    awaited: int
    segments: int
    written: int
    problem: str
    unfollowed: str

    def __str__(self) -> str:
        text = (
            f"{self.acknowledged} frames acknowledged of {self.received}, {self.open} of {self.connections} "
            f"connections, {self.tokens} tokens watched of {self.markets} markets, {self.lost} times lost, "
            f"{self.awaited} tokens without a book, {self.segments} segments, {self.written} bytes"
        )
        text += f"; last problem: {self.problem}" if self.problem else ""
        return text + (f"; new markets are not seen: {self.unfollowed}" if self.unfollowed else "")


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
    """Records ``tokens``, and what ``look`` finds later, to segments under ``root`` until told to stop."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        tokens: Sequence[str],
        root: Path,
        terms: Terms,
        *,
        look: Look | None = None,
        clock: Callable[[], Nanos] = time.time_ns,
    ) -> None:
        self._http = http
        self._url = url
        self._terms = terms
        self._look = look
        self._clock = clock
        self._wanted = dict.fromkeys(tokens)
        self._held: set[str] = set()
        self._free: list[str] = []
        self._connections = 0
        self._open: dict[int, list[str]] = {}
        self._awaited: dict[int, set[str]] = {}
        self._number = 0
        self._lost = 0
        self._problem = self._unfollowed = ""
        self._writer = SegmentWriter(root, terms.rotation, carried=self._carried, clock=clock)

    def status(self) -> Status:
        """Where it stands now."""
        return Status(
            received=self._writer.received,
            acknowledged=self._writer.acknowledged,
            markets=len(self._wanted),
            tokens=sum(map(len, self._open.values())),
            connections=self._connections,
            open=len(self._open),
            lost=self._lost,
            awaited=sum(map(len, self._awaited.values())),
            segments=self._writer.segments,
            written=self._writer.written,
            problem=self._problem,
            unfollowed=self._unfollowed,
        )

    async def run(self, stop: asyncio.Event) -> Status:
        """Record until ``stop`` is set; what came is on the disk when this returns.

        Raises
        ------
        StorageError
            when the disk takes no more. What was acknowledged is unharmed.
        """
        working, stopped = asyncio.create_task(self._work()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopped, working}, return_when=asyncio.FIRST_COMPLETED)
            failed = working.done()
            stopped.cancel()
            working.cancel()
            await asyncio.wait({stopped, working})
            if failed:
                working.result()
            await self._writer.put(Line(self._clock(), 0, "stop", tokens=sorted(self._held)))
            await self._writer.flush()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._writer.close()
        return self.status()

    def _carried(self) -> list[Line]:
        """What a new segment begins with: who is connected, and to what."""
        return [Line(self._clock(), number, "open", tokens=tokens) for number, tokens in self._open.items()]

    async def _work(self) -> None:
        """Write what comes, keep the connections, and look for more tokens, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run())
            self._connect(group)
            while self._look is not None:
                await asyncio.sleep(self._terms.follow_s)
                await self._follow(self._look)
                self._connect(group)

    async def _follow(self, look: Look) -> None:
        """Look once for what is wanted. No failure may end the recording: its books cannot be had again."""
        [found] = await asyncio.gather(asyncio.to_thread(look), return_exceptions=True)
        if isinstance(found, BaseException):
            self._unfollowed = f"{type(found).__name__}: {found}"
            return
        self._unfollowed = ""
        if found is not None:
            self._wanted = dict.fromkeys(found)

    def _connect(self, group: asyncio.TaskGroup) -> None:
        """Begin as many connections as the tokens need that were not there before."""
        new = [token for token in self._wanted if token not in self._held]
        self._held.update(new)
        self._free += new
        for _ in range(0, len(new), self._terms.tokens_per_connection):
            self._connections += 1
            group.create_task(self._keep_up())

    def _take(self) -> list[str]:
        """Tokens that no connection has, as many as one carries; what is not wanted any more is dropped."""
        wanted = [token for token in self._free if token in self._wanted]
        self._held.difference_update(set(self._free).difference(wanted))
        most = self._terms.tokens_per_connection
        taken, self._free = wanted[:most], wanted[most:]
        return taken

    async def _keep_up(self) -> None:
        """Keep one connection, for as long as there are tokens for it."""
        wait = self._terms.backoff_s
        while tokens := self._take():
            number = self._number = max(self._number + 1, self._clock())
            problem = await self._session(number, tokens)
            if number in self._open:
                had_books = len(self._awaited.pop(number)) < len(tokens)
                del self._open[number]
                self._lost += 1
                await self._writer.put(Line(self._clock(), number, "lost", problem, tokens))
                wait = self._terms.backoff_s if had_books else wait
            self._free += tokens  # those that are lost together come back on as few connections as they need
            self._problem = problem
            await asyncio.sleep(random.uniform(0, wait))
            wait = min(2 * wait, self._terms.backoff_max_s)
        self._connections -= 1

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
        subscription = {
            "type": "market",
            "assets_ids": tokens,
            "initial_dump": True,  # the default, but said: without a first book nothing is known
            "custom_feature_enabled": False,
        }
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
            until = min(ping_at, heard + self._terms.silence_s, told + self._terms.quiet_s)
            waiting = max(until - now, _LOOK_S)
            try:
                text = await socket.receive_text(timeout=waiting)
            except TimeoutError:
                ended = time.monotonic()
                stood_still = ended - now - waiting  # this process, which is not the venue's silence
                heard, told = heard + stood_still, told + stood_still
                if ended - heard >= self._terms.silence_s:
                    return f"silent for {self._terms.silence_s:g} s"
                if ended - told >= self._terms.quiet_s:
                    return f"frozen: only pings were answered for {self._terms.quiet_s:g} s"
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
