"""The one way to a venue over HTTP: paced, retried, decoded without loss, and loud when it fails.

Numbers with a fraction become :class:`decimal.Decimal` straight from the text of the answer; a float never
exists. Which server answers (a venue, the sandbox, the archive) is the choice of the httpx transport alone.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, TypeAlias

import httpx
import msgspec
import stamina

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.sources.errors import (
    BadRequest,
    BadResponse,
    PageNotArchived,
    RepeatedCursor,
    SourceError,
    SourceUnavailable,
    UnsupportedError,
)
from pm_pipeline.sources.limiter import AdaptiveLimiter

__all__ = [
    "BadRequest",
    "BadResponse",
    "HttpClient",
    "PageNotArchived",
    "Params",
    "RepeatedCursor",
    "Reply",
    "SourceError",
    "SourceUnavailable",
    "UnsupportedError",
    "read_whole",
    "redacted",
]

Value: TypeAlias = str | int | None
Params: TypeAlias = Mapping[str, Value | list[str]]

USER_AGENT: Final = "pm-pipeline/0.1 (market data research)"
SANDBOX_NOW: Final = "x-sandbox-now"
"""Response header of the sandbox: the time of its world, in nanoseconds."""
ARCHIVED_AT: Final = "x-archived-at"
"""Response header of a replay: when the page was fetched, in nanoseconds."""

MOST_EMPTY: Final = 20
"""Empty pages in a row after which a listing that always has a next cursor is no answer any more."""

CLOCK_WITHIN_S: Final = 300
"""Seconds by which our clock may differ from a server's before nothing that it dates is believed."""

RESTARTS: Final = 30
"""How often a host that restarts is asked again."""

_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_RESTARTING: Final = 425
"""What Polymarket answers while its matching engine restarts: each Tuesday at 7:00 in New York, for about 90
seconds, which is longer than a request is tried for other reasons."""
_ENDED: Final[frozenset[object]] = frozenset({None, "", "LTE="})
"""What stands for the end: no cursor or null (Gamma, Data API), "" (Kalshi), "LTE=" (CLOB)."""
_SECRET_NAME: Final = re.compile(r"key|secret|signature|passphrase|password|auth|token", re.I)
_NO_SECRET: Final = frozenset({"token_id", "clob_token_ids"})
_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)


class _Transient(SourceError):  # noqa: N818
    """One attempt failed in a way that may pass."""


class _Restarting(SourceError):  # noqa: N818
    """The venue restarts, and will be back."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A decoded answer, and the moment at which it was given: in the sandbox and in a replay, theirs."""

    value: Any
    at: Nanos


def redacted(url: httpx.URL) -> str:
    """Host, path and query without what could be a secret; ids of markets and tokens are none."""
    query = "&".join(
        f"{name}={'***' if _SECRET_NAME.search(name) and name not in _NO_SECRET else value}"
        for name, value in url.params.multi_items()
    )
    return f"{url.host}{url.path}" + (f"?{query}" if query else "")


async def read_whole(response: httpx.Response) -> bytes:
    """The decoded body, or ``RemoteProtocolError`` where fewer bytes came than were announced."""
    body = await response.aread()
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and response.num_bytes_downloaded < int(announced):
        raise httpx.RemoteProtocolError(
            f"the answer was cut after {response.num_bytes_downloaded} of {announced} bytes",
            request=response.request,
        )
    return body


class HttpClient:
    """A client of one host. Use it as an async context manager.

    A request that times out, loses its connection, comes back cut or undecodable, or is answered with 429,
    500, 502, 503 or 504 is sent again, up to ``attempts`` times with exponential backoff and jitter. A
    ``Retry-After`` holds back every request to the host, also where it exceeds the backoff; one beyond
    ``patience_s`` ends the request at once. A host that restarts (425) is asked again every ``restart_s``,
    :data:`RESTARTS` times. Any other 4xx is final.

    ``limiter`` paces the host; ``endpoints`` also paces what begins with a path, the longest one that fits.
    ``timeout_s`` bounds a whole attempt, also a body that trickles in.
    """

    def __init__(
        self,
        base_url: str,
        *,
        limiter: AdaptiveLimiter,
        endpoints: Mapping[str, AdaptiveLimiter] = MappingProxyType({}),
        transport: httpx.AsyncBaseTransport | None = None,
        timeout_s: float = 20.0,
        attempts: int = 6,
        wait_initial_s: float = 0.5,
        wait_max_s: float = 30.0,
        patience_s: float = 300.0,
        restart_s: float = 10.0,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
        user_agent: str = USER_AGENT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limiter = limiter
        self._endpoints = sorted(endpoints.items(), key=lambda item: -len(item[0]))
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._wait_initial_s = wait_initial_s
        self._wait_max_s = wait_max_s
        self._patience_s = patience_s
        self._restart_s = restart_s
        self._clock = clock
        self._secrets = tuple(value for value in (headers or {}).values() if len(value) > 3)
        self._http = httpx.AsyncClient(
            base_url=base_url,
            transport=transport,
            timeout=timeout_s,
            auth=auth,
            headers={"user-agent": user_agent, "accept": "application/json", **(headers or {})},
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        # Not told of the error: the task group of an ASGI transport would wrap it into an ExceptionGroup.
        await self._http.__aexit__()

    @property
    def http(self) -> httpx.AsyncClient:
        """The httpx client underneath, for a WebSocket over the same transport."""
        return self._http

    async def get(self, path: str, params: Params | None = None) -> Any:
        """The decoded answer to a GET; fractions are ``Decimal``. Parameters that are ``None`` are left out.

        Raises
        ------
        SourceUnavailable
            when every attempt failed.
        BadRequest
            for a 4xx that no retry can mend.
        """
        return (await self.fetch("GET", path, params)).value

    async def post(self, path: str, json: object) -> Any:
        """The decoded answer to a POST; raises like :meth:`get`."""
        return (await self.fetch("POST", path, json=json)).value

    async def fetch(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        *,
        json: object = None,
        decoder: msgspec.json.Decoder[Any] = _DECODER,
    ) -> Reply:
        """Like :meth:`get`, with the moment of the answer.

        A ``decoder`` of a msgspec type gives the answer as that type, without a detour by dictionaries; an
        answer that does not fit raises :class:`BadResponse`.
        """
        request = self._http.build_request(
            method,
            path,
            params={name: value for name, value in (params or {}).items() if value is not None},
            json=json,
        )
        pace = next((limit for prefix, limit in self._endpoints if path.startswith(prefix)), None)
        for _ in range(RESTARTS):
            try:
                return await self._tried(request, decoder, pace)
            except _Restarting:
                self._limiter.pause(self._restart_s)
        raise SourceUnavailable(
            f"{redacted(request.url)}: the venue has restarted (HTTP 425) for {RESTARTS * self._restart_s:g} "
            "s; on Tuesdays at 7:00 in New York it does so for about 90 s. Try again later"
        )

    async def _tried(
        self, request: httpx.Request, decoder: msgspec.json.Decoder[Any], pace: AdaptiveLimiter | None
    ) -> Reply:
        """An answer, after as many attempts as it takes."""
        tries = 0
        try:
            async for attempt in stamina.retry_context(
                on=_Transient,
                attempts=self._attempts,
                timeout=None,
                wait_initial=self._wait_initial_s,
                wait_max=self._wait_max_s,
                wait_jitter=self._wait_initial_s,
            ):
                with attempt:
                    tries += 1
                    return await self._attempt(request, decoder, pace)
        except _Transient as error:
            advice = (
                "Check the network" if isinstance(error.__cause__, httpx.ConnectError) else "Try again later"
            )
            raise SourceUnavailable(
                f"{redacted(request.url)} failed {tries} times; last: {error}. {advice}"
            ) from error.__cause__
        raise AssertionError("a retry loop ends by an answer or an error")

    async def pages(
        self,
        path: str,
        params: Params,
        *,
        rows: str,
        cursor_in: str,
        cursor_of: Callable[[Mapping[str, Any]], object],
        identity: Callable[[Any], Hashable] | None = None,
        max_pages: int = 100_000,
    ) -> AsyncIterator[list[Any]]:
        """Every page of a listing; the same filters are sent with each cursor.

        An empty page that still has a cursor is not the end. A cursor seen before, or a page that begins
        like one before it, raises :class:`RepeatedCursor`: the rest cannot be had. Only where a cursor
        brings nothing but itself, twice, the venue has no more. More than :data:`MOST_EMPTY` empty pages in a
        row raise :class:`BadResponse`.

        Parameters
        ----------
        rows:
            name of the list in the answer.
        cursor_in, cursor_of:
            the parameter that carries the cursor, and where the answer holds the next one.
        identity:
            what makes a row itself, compared on first rows; without it, whole pages are compared.
        max_pages:
            a listing longer than this is an error, never cut short.
        """
        seen_cursors: set[object] = set()
        seen_pages: set[Hashable] = set()
        cursor: object = None
        stalled, empty = False, 0
        for _ in range(max_pages):
            body = await self.get(path, {**params, cursor_in: None if cursor is None else str(cursor)})
            page, following = self._page(path, body, rows, cursor_of)
            empty = 0 if page else empty + 1
            if page:
                mark = identity(page[0]) if identity else _digest(page)
                if mark in seen_pages:
                    raise RepeatedCursor(f"{self._http.base_url.host}{path} gives the same page again")
                seen_pages.add(mark)
                yield page
            if following in _ENDED:
                return
            if following == cursor and not page:
                if stalled:
                    return
                stalled = True
                continue
            if empty > MOST_EMPTY:
                raise BadResponse(f"{self._http.base_url.host}{path} gave {empty} empty pages in a row")
            if following in seen_cursors:
                raise RepeatedCursor(
                    f"{self._http.base_url.host}{path} repeats the cursor {str(following)[:40]!r}"
                )
            seen_cursors.add(following)
            cursor, stalled = following, False
        raise BadResponse(
            f"{self._http.base_url.host}{path} has more than {max_pages} pages; ask for less at once"
        )

    def _page(
        self, path: str, body: Any, rows: str, cursor_of: Callable[[Mapping[str, Any]], object]
    ) -> tuple[list[Any], object]:
        where = f"{self._http.base_url.host}{path}"
        if not isinstance(body, Mapping) or not isinstance(body.get(rows), list):
            raise BadResponse(f"{where} answered without the list {rows!r}")
        following = cursor_of(body)
        if following is not None and not isinstance(following, str | int):
            raise BadResponse(f"{where} answered with a cursor of type {type(following).__name__}")
        return body[rows], following

    async def _attempt(
        self, request: httpx.Request, decoder: msgspec.json.Decoder[Any], pace: AdaptiveLimiter | None
    ) -> Reply:
        if pace is not None:
            await pace.acquire()
        await self._limiter.acquire()
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.send(request)
                body = await read_whole(response)
        except TimeoutError as error:
            raise _Transient(f"no answer within {self._timeout_s:g} s") from error
        except httpx.RequestError as error:  # also a body that cannot be unpacked
            raise _Transient(f"{type(error).__name__}: {self._scrubbed(str(error))}") from error
        if response.status_code == _RESTARTING:
            raise _Restarting(self._message(body))
        if response.status_code in _RETRIED:
            self._hold(response, pace or self._limiter)
            raise _Transient(f"HTTP {response.status_code}: {self._message(body)}")
        self._require_clock(response)
        if response.status_code >= 400:
            raise BadRequest(
                f"{redacted(request.url)} refused the request: HTTP {response.status_code}: "
                f"{self._message(body)}",
                response.status_code,
            )
        if not response.is_success:
            raise BadResponse(f"{redacted(request.url)} answered HTTP {response.status_code}")
        try:
            value = decoder.decode(body)
        except msgspec.ValidationError as error:
            raise BadResponse(f"{redacted(request.url)}: {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, RecursionError) as error:
            raise _Transient(f"the answer is not JSON: {error}") from error
        (pace or self._limiter).succeeded()
        return Reply(value, self._moment(response))

    def _hold(self, response: httpx.Response, pace: AdaptiveLimiter) -> None:
        if response.status_code == 429:
            pace.throttled()
        seconds = self._retry_after(response.headers.get("retry-after", ""))
        if seconds > self._patience_s:
            raise SourceUnavailable(
                f"{redacted(response.request.url)} asks to come back in {seconds:.0f} s (HTTP "
                f"{response.status_code}); we wait at most {self._patience_s:.0f} s. Try again later"
            )
        if seconds > 0:
            self._limiter.pause(seconds)

    def _retry_after(self, text: str) -> float:
        """Seconds to wait; RFC 9110 10.2.3 allows a number of seconds or a date. Nonsense counts as none."""
        if text.isdecimal():
            return float(text)
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return zoned.timestamp() - self._clock()

    def _moment(self, response: httpx.Response) -> Nanos:
        for name in (SANDBOX_NOW, ARCHIVED_AT):
            text = response.headers.get(name, "")
            if text.isdecimal():
                return int(text)
        return int(self._clock() * 1_000_000) * 1000

    def _require_clock(self, response: httpx.Response) -> None:
        """Raise :class:`SourceError` where our clock, which dates rows, is not the server's."""
        if SANDBOX_NOW in response.headers or ARCHIVED_AT in response.headers:
            return
        try:
            there = parsedate_to_datetime(response.headers.get("date", "")).timestamp()
        except ValueError:
            return
        age = response.headers.get("age", "")  # a cache keeps the date of the answer that it holds
        ahead = self._clock() - there - (int(age) if age.isdecimal() else 0)
        if abs(ahead) > CLOCK_WITHIN_S:
            where = "ahead of" if ahead > 0 else "behind"
            raise SourceError(
                f"the clock of this machine is {abs(ahead) / 60:.0f} minutes {where} that of "
                f"{self._http.base_url.host}. Set it: requests are signed, and what is read is dated by it. "
                "Nothing was stored"
            )

    def _message(self, body: bytes) -> str:
        """The venue's own words: each has its form of an error body, Kalshi even two."""
        try:
            found: Any = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = body.decode("utf-8", "replace")
        if isinstance(found, dict):
            inner = found.get("error", found.get("msg", found.get("message", "")))
            if isinstance(inner, dict):
                inner = ": ".join(str(inner[k]) for k in ("message", "details") if inner.get(k))
            found = inner
        return self._scrubbed(str(found))[:300] or "no message"

    def _scrubbed(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _digest(page: list[Any]) -> bytes:
    return blake2b(msgspec.json.encode(page), digest_size=16).digest()
