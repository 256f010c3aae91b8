"""Faults that real venues show, put into the sandbox's answers on purpose.

A plan says on which request to which path what goes wrong; the same plan on the same requests gives the same
answers. Paths are those of the venue and may hold ``*``.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from typing import Any, Final, Self, TypeAlias
from urllib.parse import parse_qs

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.sources.sandbox.fault_names import Fault
from pm_pipeline.sources.sandbox.frame_faults import SPOILED, spoiling
from pm_pipeline.sources.sandbox.wire import decode_cursor, encode_cursor

PREFIXES: Final = ("/gamma", "/clob", "/data", "/kalshi", "/goldsky", "/polygon")
"""Path prefixes that stand for the hosts on a loopback port."""


@dataclass(frozen=True, slots=True)
class Planned:
    """``fault`` on the ``nth`` request (from 1) to ``path``, and on the ``times - 1`` after it."""

    fault: Fault
    path: str
    nth: int = 1
    times: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``fault@path``, ``fault@path#3`` or ``fault@path#3x2``. Raises :class:`UsageError`."""
        name, at, rest = text.partition("@")
        path, _, place = rest.partition("#")
        nth, _, times = (place or "1").partition("x")
        if name not in {*Fault}:
            raise UsageError(f"there is no fault {name!r}{did_you_mean(name, [*Fault])}")
        if not at or not path.startswith("/") or not nth.isdecimal() or not (times or "1").isdecimal():
            raise UsageError(f"{text!r} is no planned fault; write for example rate_limited@/v2/trades#3x2")
        return cls(Fault(name), path, int(nth), int(times or "1"))

    def hits(self, path: str, request: int) -> bool:
        """Whether the ``request``-th request to ``path`` is meant."""
        return fnmatch(path, self.path) and self.nth <= request < self.nth + self.times


@dataclass(frozen=True, slots=True)
class Faults:
    """A plan: faults at given places, and ``share`` of all other requests hit by one of ``scattered``.

    ``seed`` decides which; ``stall_s`` is how long a stalled answer hangs before it fails with 504;
    ``dropped_delta`` says which order book change a sequence gap loses.
    """

    plan: tuple[Planned, ...] = ()
    scattered: tuple[Fault, ...] = ()
    share: float = 0.0
    seed: int = 0
    stall_s: float = 30.0
    dropped_delta: int = 3

    def at(self, path: str, request: int) -> Fault | None:
        """What befalls this request, if anything."""
        for planned in self.plan:
            if planned.hits(path, request):
                return planned.fault
        if not self.scattered:
            return None
        draw = int(sha256(f"{self.seed}:{path}:{request}".encode()).hexdigest()[:12], 16)
        chance, choice = divmod(draw, len(self.scattered))
        return self.scattered[choice] if chance / (2**48 / len(self.scattered)) < self.share else None


_Page: TypeAlias = dict[str, Any]
_Rows: TypeAlias = list[Any]
_Query: TypeAlias = Mapping[str, Sequence[str]]

_TIMES: Final = ("timestamp", "t", "end_period_ts", "created_time")
_CURSORS_IN: Final = ("cursor", "after_cursor")


def _rows_key(page: _Page) -> str | None:
    """Under which name a page has its rows; a market or event by itself is no page, whatever lists it has."""
    if ("id" in page or "condition_id" in page) and "jsonrpc" not in page:
        return None
    return next((key for key, value in page.items() if isinstance(value, list)), None)


def _asked_cursor(query: _Query) -> str | None:
    return next((query[name][0] for name in _CURSORS_IN if query.get(name)), None)


def _with_cursor(page: _Page, cursor: str | None) -> _Page:
    """The page with another cursor, wherever this venue keeps it."""
    if "pagination" in page:
        return page | {"pagination": page["pagination"] | {"next_cursor": cursor, "has_more": bool(cursor)}}
    if "cursor" not in page:
        rest = {key: value for key, value in page.items() if key != "next_cursor"}
        return rest | ({"next_cursor": cursor} if cursor else {})
    return page | {"cursor": cursor or ""}


def _empty_page(page: _Page, rows: _Rows, query: _Query) -> tuple[_Page, _Rows]:
    """No rows, but a cursor that leads to the rows which should have come."""
    asked = _asked_cursor(query)
    if "cursor" in page or "pagination" in page:
        fields = decode_cursor(asked)
        renamed = encode_cursor(fields | {"n": int(fields.get("n", 0)) + 1})
    else:
        # Gamma's cursors are a bare id; what follows a dot is not looked at.
        renamed = f"{asked or 'MA=='}.{len(asked or '')}"
    return _with_cursor(page, renamed), []


def _repeated_cursor(page: _Page, rows: _Rows, query: _Query) -> tuple[_Page, _Rows]:
    asked = _asked_cursor(query)
    return (_with_cursor(page, asked) if asked else page), rows


def _out_of_order(page: _Page, rows: _Rows, query: _Query) -> tuple[_Page, _Rows]:
    return page, rows[1::2] + rows[0::2]


def _duplicate_rows(page: _Page, rows: _Rows, query: _Query) -> tuple[_Page, _Rows]:
    return page, rows + rows[-1:]


def _stale(page: _Page, rows: _Rows, query: _Query) -> tuple[_Page, _Rows]:
    """The source went quiet half-way through: the later half of the rows is missing, and nothing follows."""
    name = next((n for n in _TIMES if rows and isinstance(rows[0], dict) and n in rows[0]), None)
    if name is None:
        kept = rows[: (len(rows) + 1) // 2]
    else:
        middle = sorted(row[name] for row in rows)[(len(rows) - 1) // 2]
        kept = [row for row in rows if row[name] <= middle]
    return _with_cursor(page, None), kept


_PAGES: Final[Mapping[Fault, Callable[[_Page, _Rows, _Query], tuple[_Page, _Rows]]]] = {
    Fault.EMPTY_PAGE: _empty_page,
    Fault.REPEATED_CURSOR: _repeated_cursor,
    Fault.OUT_OF_ORDER: _out_of_order,
    Fault.DUPLICATE_ROWS: _duplicate_rows,
    Fault.STALE: _stale,
}

_NEEDED: Final = ("condition_id", "asset_id", "token_id", "user_id", "timestamp", "t", "id")
"""Fields of Polymarket's rows that nobody can do without; the first that a row has is the one to vanish."""

_ENVELOPES: Final = ("data", "markets", "events", "history")
"""Under which name answers hold rows; one that has none of these is a row itself, like one with an ``id``."""


def _new_field(row: dict[str, Any]) -> dict[str, Any]:
    return row | {Fault.NEW_FIELD.value: 1}


def _missing_field(row: dict[str, Any]) -> dict[str, Any]:
    lost = next((name for name in _NEEDED if name in row), None)
    return {name: value for name, value in row.items() if name != lost}


_ROWS: Final[Mapping[Fault, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    Fault.NEW_FIELD: _new_field,
    Fault.MISSING_FIELD: _missing_field,
}


def _drifted(body: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """The answer with each of its rows changed."""
    if isinstance(body, list):
        return [change(row) if isinstance(row, dict) else row for row in body]
    if not isinstance(body, dict):
        return body
    key = None if "id" in body else next((name for name in _ENVELOPES if name in body), None)
    if key is None:
        return change(body)
    return body | {key: _drifted(body[key], change)}


_ANSWERS: Final[Mapping[Fault, tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]]] = {
    Fault.RATE_LIMITED: (429, b'{"error":{"code":"too_many_requests","message":"too many requests"}}', ()),
    Fault.RATE_LIMITED_WITH_WAIT: (429, b'{"error":"too many requests"}', ((b"retry-after", b"1"),)),
    Fault.SERVER_ERROR: (500, b'{"error":"internal error"}', ()),
    Fault.UNAVAILABLE: (503, b"<html><body>503 Service Unavailable</body></html>", ()),
    Fault.RESTARTING: (425, b'{"error":"matching engine is restarting"}', ()),
}


class FaultMiddleware:
    """Counts requests by path and spoils those that the plan names."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults
        self._seen: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or spoil its answer."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        path = venue_path(scope["path"])
        self._seen[path] += 1
        fault = self._faults.at(path, self._seen[path])
        if fault is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, self._spoiled(send, fault))
        elif fault is Fault.STALL:
            await asyncio.sleep(self._faults.stall_s)
            await _respond(send, 504, b'{"error":"gateway timeout"}')
        elif fault in _ANSWERS:
            status, body, headers = _ANSWERS[fault]
            await _respond(send, status, body, headers)
        elif fault is Fault.CUT_BODY or fault in _PAGES or fault in _ROWS:
            query = parse_qs(scope["query_string"].decode())
            await self._app(scope, receive, _rewriting(send, fault, query))
        else:
            await self._app(scope, receive, send)

    def _spoiled(self, send: Send, fault: Fault) -> Send:
        """A channel whose frames go wrong: Kalshi's by a number that is lost, Polymarket's as planned."""
        if fault is Fault.SEQUENCE_GAP:
            return self._gapped(send)
        return spoiling(send, fault, self._faults.dropped_delta) if fault in SPOILED else send

    def _gapped(self, send: Send) -> Send:
        """Lose one order book change, so that ``seq`` jumps."""
        left = self._faults.dropped_delta

        async def sender(message: Message) -> None:
            nonlocal left
            if '"orderbook_delta"' in message.get("text", "") and '"seq"' in message["text"]:
                left -= 1
                if left == 0:
                    return
            await send(message)

        return sender


def venue_path(path: str) -> str:
    """The path on the venue's own host, without the loopback prefix."""
    for prefix in PREFIXES:
        if path.startswith(prefix + "/"):
            return path.removeprefix(prefix)
    return path


async def _respond(
    send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    length = (b"content-length", str(len(body)).encode())
    kind = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": status, "headers": [length, kind, *headers]})
    await send({"type": "http.response.body", "body": body})


def _rewriting(send: Send, fault: Fault, query: _Query) -> Send:
    """Hold back an answer, change its page or cut it, and send it on."""
    started: list[Message] = []
    chunks: list[bytes] = []

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.append(message)
            return
        chunks.append(message.get("body", b""))
        if message.get("more_body"):
            return
        start, body = started[0], b"".join(chunks)
        if start["status"] == 200 and (fault in _PAGES or fault in _ROWS):
            body = _changed(body, fault, query)
        others = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        start["headers"] = [(b"content-length", str(len(body)).encode()), *others]
        await send(start)
        await send(
            {
                "type": "http.response.body",
                "body": body[: len(body) // 2] if fault is Fault.CUT_BODY else body,
            }
        )

    return sender


def _changed(body: bytes, fault: Fault, query: _Query) -> bytes:
    page = msgspec.json.decode(body)
    if fault in _ROWS:
        return msgspec.json.encode(_drifted(page, _ROWS[fault]))
    return msgspec.json.encode(_page_spoiled(page, fault, query)) if isinstance(page, dict) else body


def _page_spoiled(page: _Page, fault: Fault, query: _Query) -> _Page:
    """The page with its first list changed; GraphQL has its lists within ``data``."""
    key = _rows_key(page)
    if key is not None:
        changed, rows = _PAGES[fault](page, page[key], query)
        return changed | {key: rows}
    if isinstance(page.get("data"), dict):
        return page | {"data": _page_spoiled(page["data"], fault, query)}
    return page
