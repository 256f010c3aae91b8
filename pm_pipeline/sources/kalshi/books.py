"""Kalshi's order books as a log: from the WebSocket's snapshots and changes to absolute sizes.

The venue numbers all frames of one subscription, not those of one market. A missing number, a size below
zero or a lost connection is a gap: it is written down, and nothing is believed until the next snapshot.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final, TypeAlias

import httpx
import msgspec
from httpx_ws import (
    AsyncWebSocketSession,
    HTTPXWSException,
    WebSocketDisconnect,
    WebSocketNetworkError,
    WebSocketUpgradeError,
    aconnect_ws,
)

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.errors import BadResponse, SourceError, SourceUnavailable
from pm_pipeline.sources.kalshi.wire import levels
from pm_pipeline.sources.wire import convert, micro, moment, price

Row: TypeAlias = dict[str, Any]
Clock: TypeAlias = Callable[[], Nanos | None]
"""When a frame was received, or ``None`` where frames are replayed and their own stamps count."""

CHANNEL: Final = "orderbook_delta"
MANY: Final = "/markets/orderbooks"
AT_ONCE: Final = 100
"""Tickers that :data:`MANY` takes in one request."""

_ENDPOINT: Final = f"websocket {CHANNEL}"
_MILLISECOND: Final = 1_000_000
_LAST_MILLISECOND: Final = 4_102_444_800_000
_MOST_RESTARTS: Final = 50
_LONGEST_PAUSE_S: Final = 30
_BATCH: Final = 4_096
_SIDES: Final = frozenset({"yes_dollars_fp", "no_dollars_fp"})
_NORMAL_CLOSE: Final = 1000


class Frame(msgspec.Struct):
    """The envelope of every message. ``sending_ts_ms`` came in October 2026."""

    type: str
    msg: dict[str, Any] = msgspec.field(default_factory=dict)
    sid: int | None = None
    seq: int | None = None
    sending_ts_ms: int | None = None


@dataclass(slots=True)
class BookLog:
    """Turns frames into rows of ``market_data.book_events`` for one market, keeping the book to do so.

    Feed it frames in the order of arrival; ``received_at`` is our clock, or ``None`` for frames that are
    replayed, whose own stamps then count. ``lost`` says that a new snapshot must be asked for, ``begun`` that
    there was one.

    A replayed snapshot without a stamp, or from before what is already written (the replay began anew), is
    held: changes go into the book unwritten until one is later than all that was written.
    """

    market: Market
    lost: bool = False
    begun: bool = False
    _sid: int | None = None
    _seq: int | None = None
    _bids: dict[str, dict[Micro, Micro]] | None = None
    _held: bool = False
    _last_ts: Nanos = 0
    _last_known: Nanos = 0
    _last_row: int = -1

    def apply(self, frame: Frame, received_at: Nanos | None) -> list[Row]:
        """The rows that follow from one frame.

        Raises
        ------
        BadResponse
            for an error of the venue, or a frame that lacks what it needs.
        """
        if frame.type == "error":
            raise BadResponse(f"{_ENDPOINT}: error {frame.msg.get('code')}: {frame.msg.get('msg')}")
        if frame.type == "subscribed" and frame.msg.get("channel") == CHANNEL:
            self._sid, self._seq = convert(frame.msg.get("sid"), int, _ENDPOINT), None
        if frame.type not in {"ok", "orderbook_snapshot", "orderbook_delta"} or frame.sid != self._sid:
            return []
        if frame.seq is None:
            if frame.type == "ok":
                return []
            raise BadResponse(f"{_ENDPOINT}: a frame of type {frame.type} has no seq")
        if self._seq is not None and frame.seq <= self._seq:
            return []
        stamp = _stamp(frame)
        rows = self._missed(stamp, received_at) if self._seq not in {None, frame.seq - 1} else []
        self._seq = frame.seq
        if frame.msg.get("market_ticker") != self.market.key.native_id:
            return rows
        if frame.type == "orderbook_snapshot":
            return rows + self._snapshot(frame, stamp, received_at)
        if frame.type == "orderbook_delta":
            return rows + self._delta(frame, stamp, received_at)
        return rows

    def broken(self, received_at: Nanos | None) -> list[Row]:
        """The connection is gone: a gap, where there was a book, and a new subscription from its start."""
        self._sid = self._seq = None
        return self._missed(None, received_at)

    def finish(self, received_at: Nanos | None) -> list[Row]:
        """The end: a snapshot that nothing ever followed is dated now, or by the last that we knew."""
        held, self._held, at = self._held, False, received_at or self._last_known
        return self._reset(at, at) if held and at > self._last_ts else []

    def _missed(self, stamp: Nanos | None, received_at: Nanos | None) -> list[Row]:
        """The book is unsound since the last frame that we saw; that is known only now."""
        had_book = self._bids is not None and not self._held
        self._bids, self._held = None, False
        self.lost = True
        if not had_book:
            return []
        known = max(stamp or 0, received_at or 0, self._last_known)
        return [self._row(self._last_ts, known, self._next(known), "gap")]

    def _snapshot(self, frame: Frame, stamp: Nanos | None, received_at: Nanos | None) -> list[Row]:
        sides = {
            side: levels(frame.msg, f"{side}_dollars_fp", _ENDPOINT, absent_is_empty=True)
            for side in ("yes", "no")
        }
        _require_known_keys(frame.msg)
        self.lost, self.begun = False, True
        self._bids = sides
        ts = stamp if stamp is not None else received_at
        if ts is None or (received_at is None and ts < self._last_ts):
            self._held = True
            return []
        self._held = False
        return self._reset(ts, received_at)

    def _delta(self, frame: Frame, stamp: Nanos | None, received_at: Nanos | None) -> list[Row]:
        if self._bids is None:
            self.lost = True  # it may be the snapshot that is missing: no number tells of the first frame
            return []
        if stamp is None and received_at is None:
            raise BadResponse(f"{_ENDPOINT}: a change has neither ts_ms nor ts")
        ts = stamp if stamp is not None else received_at or 0
        rows: list[Row] = []
        if self._held and ts > self._last_ts:
            self._held = False
            rows = self._reset(ts, received_at)
        change = convert(frame.msg, _Delta, _ENDPOINT)
        at = price(change.price_dollars, _ENDPOINT, "price_dollars")
        if change.side not in self._bids:
            raise BadResponse(f"{_ENDPOINT}: side is {change.side!r}")
        side = self._bids[change.side]
        now = side.get(at, 0) + micro(change.delta_fp, _ENDPOINT, "delta_fp")
        if now < 0:
            return rows + self._missed(ts, received_at)
        side[at] = now
        if not now:
            del side[at]
        if self._held:
            return rows
        known = self._known(ts, received_at)
        self._last_ts = ts
        return [*rows, self._level(ts, known, self._next(known), change.side, at, now)]

    def _reset(self, ts: Nanos, received_at: Nanos | None) -> list[Row]:
        known = self._known(ts, received_at)
        number = self._next(known)
        self._last_ts = ts
        return [
            self._row(ts, known, number, "reset"),
            *(
                self._level(ts, known, number, side, at, held)
                for side, bids in (self._bids or {}).items()
                for at, held in sorted(bids.items(), reverse=True)
                if held
            ),
        ]

    def _level(self, ts: Nanos, known: Nanos, number: int, side: str, at: Micro, held: Micro) -> Row:
        """A bid for NO at ``q`` is an offer of YES at ``1 - q``."""
        yes = side == "yes"
        return {
            **self._row(ts, known, number, "level"),
            "side": "bid" if yes else "ask",
            "price": at if yes else MICRO - at,
            "size": held,
        }

    def _row(self, ts: Nanos, known: Nanos, number: int, kind: str) -> Row:
        return {
            "market_key": str(self.market.key),
            "ts": ts,
            "known_at": known,
            "ingested_at": known,
            "seq": number,
            "kind": kind,
        }

    def _known(self, ts: Nanos, received_at: Nanos | None) -> Nanos:
        """Never before it was true, before we had it, or before what came earlier."""
        self._last_known = max(ts, received_at or 0, self._last_known)
        return self._last_known

    def _next(self, known: Nanos) -> int:
        """The microsecond of knowing, moved on where two messages share it, so that recordings line up."""
        self._last_known = max(self._last_known, known)
        self._last_row = max(self._last_row + 1, known // 1000)
        return self._last_row


class _Delta(msgspec.Struct):
    """A change of one level: ``delta_fp`` is signed."""

    price_dollars: str
    delta_fp: str
    side: str


def book_of(body: object, endpoint: str) -> tuple[dict[Micro, Micro], dict[Micro, Micro]]:
    """Bids and offers of YES of a REST ``/orderbook`` answer, of either generation.

    Raises
    ------
    BadResponse
        when neither ``orderbook_fp`` nor ``orderbook`` with dollars is there: a renamed key must not pass
        for an empty book.
    """
    if not isinstance(body, Mapping):
        raise BadResponse(f"{endpoint}: no object, but {type(body).__name__}")
    book = body.get("orderbook_fp", body.get("orderbook"))
    if not isinstance(book, Mapping):
        raise BadResponse(f"{endpoint}: orderbook_fp and orderbook are both missing")
    yes, no = (levels(book, f"{side}_dollars", endpoint) for side in ("yes", "no"))
    return yes, {MICRO - at: held for at, held in no.items()}


def books_of(body: object) -> dict[str, tuple[dict[Micro, Micro], dict[Micro, Micro]]]:
    """Bids and offers of YES by ticker, of an answer to :data:`MANY`. Raises like :func:`book_of`."""
    rows = body.get("orderbooks") if isinstance(body, Mapping) else None
    if not isinstance(rows, list):
        raise BadResponse(f"{MANY}: the list orderbooks is missing")
    found = {}
    for row in rows:
        ticker = row.get("ticker") if isinstance(row, Mapping) else None
        if not isinstance(ticker, str):
            raise BadResponse(f"{MANY}: a book names no ticker")
        found[ticker] = book_of(row, f"{MANY} {ticker}")
    return found


def _stamp(frame: Frame) -> Nanos | None:
    """The venue's own time of a frame: of the change, else of sending; snapshots of before October 2026
    have none."""
    text = frame.msg.get("ts")
    if isinstance(text, str) and text:
        return moment(text, _ENDPOINT, "ts")
    value = frame.msg.get("ts_ms", frame.sending_ts_ms)
    if value is None:
        return None
    if not isinstance(value, int) or not 0 < value < _LAST_MILLISECOND:
        raise BadResponse(f"{_ENDPOINT}: ts_ms is {value!r}")
    return value * _MILLISECOND


def _require_known_keys(msg: Mapping[str, Any]) -> None:
    """An empty side is left out of a snapshot, so only an unknown name of a side can tell of a renaming."""
    unknown = [key for key in msg if key.startswith(("yes", "no")) and key not in _SIDES]
    if unknown and not _SIDES.intersection(msg):
        raise BadResponse(f"{_ENDPOINT}: a snapshot names its sides {unknown}, which we do not know")


async def stream(
    http: httpx.AsyncClient,
    url: str,
    market: Market,
    *,
    now: Clock,
    silence_s: float,
    watch_s: float = inf,
) -> AsyncIterator[list[Row]]:
    """The book of ``market`` from the ``orderbook_delta`` channel, in batches of rows.

    Ends when the server closes the connection. A live one also ends ``watch_s`` seconds after its first book,
    and when it sends nothing for ``silence_s``. A gap asks for a new snapshot; a connection that breaks is
    made again.

    Raises
    ------
    SourceUnavailable
        when the connection cannot be made, breaks or loses frames again and again, or falls silent before
        the book, or before the end of a replay.
    BadResponse
        when the venue answers with an error or with frames we cannot read.
    """
    batches: asyncio.Queue[list[Row]] = asyncio.Queue(maxsize=4)
    run = _Reader(http, url, market, now, silence_s, watch_s, batches).run()
    reader = asyncio.create_task(run)
    waiting: asyncio.Task[list[Row]] | None = None
    try:
        while True:
            waiting = asyncio.create_task(batches.get())
            await asyncio.wait({waiting, reader}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                yield waiting.result()
                continue
            waiting.cancel()
            while not batches.empty():
                yield batches.get_nowait()
            reader.result()
            return
    finally:
        tasks = {task for task in (reader, waiting) if task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class _Reader:
    """Owns the socket. It runs in a task of its own, so that no cancel scope spans a ``yield``."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        market: Market,
        now: Clock,
        silence_s: float,
        watch_s: float,
        batches: asyncio.Queue[list[Row]],
    ) -> None:
        self._http = http
        self._url = url
        self._log = BookLog(market)
        self._now = now
        self._silence_s = silence_s
        self._watch_s = watch_s
        self._until = inf
        self._batches = batches
        self._rows: list[Row] = []
        self._restarts = 0
        self._commands = 0
        self._sid: int | None = None

    async def run(self) -> None:
        """Read until the server ends it."""
        while not await self._session():
            self._restart("the connection broke")
            received_at = self._now()
            await self._keep(self._log.broken(received_at))
            if received_at is not None:
                await asyncio.sleep(min(self._restarts, _LONGEST_PAUSE_S))
        await self._keep(self._log.finish(self._now()), flush=True)

    async def _session(self) -> bool:
        """One connection; whether it ended as it should."""
        refused: SourceError | None = None
        ended = False
        try:
            socket: AsyncWebSocketSession
            async with aconnect_ws(
                self._url, self._http, keepalive_ping_interval_seconds=None, max_message_size_bytes=2**22
            ) as socket:
                try:
                    ended = await self._read(socket)
                except SourceError as error:  # the task group of the socket would wrap it
                    refused = error
        except WebSocketUpgradeError as error:
            raise SourceUnavailable(
                f"Kalshi refused the WebSocket (HTTP {error.response.status_code}); set "
                "KALSHI_API_KEY_ID and KALSHI_PRIVATE_KEY"
            ) from None
        except (httpx.TransportError, HTTPXWSException):
            return False
        except ExceptionGroup as group:
            _, other = group.split((httpx.TransportError, HTTPXWSException))
            if other is not None:
                raise other from None
            return False
        if refused is not None:
            raise refused
        return ended

    async def _read(self, socket: AsyncWebSocketSession) -> bool:
        await self._subscribe(socket)
        while True:
            try:
                patience = min(self._silence_s, self._until - time.monotonic())
                text = await socket.receive_text(timeout=max(patience, 0.0))
            except TimeoutError:
                return self._rested()
            except WebSocketDisconnect as end:
                told = self._log.begun or self._now() is None  # a past world may have no book to tell
                return end.code == _NORMAL_CLOSE and told
            except WebSocketNetworkError:
                return False
            frame = _frame(text)
            if frame.type == "subscribed":
                self._sid = frame.msg.get("sid")
            was_lost, was_begun = self._log.lost, self._log.begun
            await self._keep(self._log.apply(frame, self._now()))
            if self._log.begun and not was_begun:
                self._until = time.monotonic() + self._watch_s
            if self._log.lost and not was_lost:
                self._restart("frames are missing")
                await self._send(socket, "update_subscription", self._snapshot_wanted())

    def _rested(self) -> bool:
        """A live book may rest, and that is its present end. Silence is none of a replay, nor a book."""
        if self._log.begun and self._now() is not None:
            return True
        had = "did not go on to its end" if self._log.begun else "never sent the book"
        raise SourceUnavailable(
            f"Kalshi's order book feed {had}: nothing came for {self._silence_s:g} s. Nothing was written; "
            "read it again"
        )

    def _snapshot_wanted(self) -> Mapping[str, Any]:
        return {
            "action": "get_snapshot",
            "sids": [self._sid],
            "market_tickers": [self._log.market.key.native_id],
        }

    async def _subscribe(self, socket: AsyncWebSocketSession) -> None:
        params = {
            "channels": [CHANNEL],
            "market_tickers": [self._log.market.key.native_id],
            "use_yes_price": False,
        }
        await self._send(socket, "subscribe", params)

    async def _send(self, socket: AsyncWebSocketSession, command: str, params: Mapping[str, Any]) -> None:
        self._commands += 1
        await socket.send_text(
            msgspec.json.encode({"id": self._commands, "cmd": command, "params": params}).decode()
        )

    async def _keep(self, rows: list[Row], *, flush: bool = False) -> None:
        self._rows += rows
        if self._rows and (flush or len(self._rows) >= _BATCH):
            batch, self._rows = self._rows, []
            await self._batches.put(batch)

    def _restart(self, why: str) -> None:
        self._restarts += 1
        if self._restarts > _MOST_RESTARTS:
            raise SourceUnavailable(f"Kalshi's order book feed failed {_MOST_RESTARTS} times: {why}")


def _frame(text: str) -> Frame:
    try:
        return msgspec.json.decode(text, type=Frame)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadResponse(f"{_ENDPOINT}: {error}") from error
