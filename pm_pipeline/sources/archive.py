"""Keep every page as it arrives, and answer from what was kept: both are httpx transports.

Fine history expires at the venues, so the raw answer is written before anything tries to understand it; a
parser that is mended later reads it again without a request.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import httpx

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.sources.errors import PageNotArchived
from pm_pipeline.sources.http import ARCHIVED_AT, SANDBOX_NOW, read_whole, redacted
from pm_pipeline.warehouse.archive import PageArchive, canonical_request

_KEPT_HEADERS: Final = ("content-type", "date", "age", SANDBOX_NOW)
"""What is worth keeping of a response; cookies and their like are not."""

_ABSENT: Final = 404


class ArchivingTransport(httpx.AsyncBaseTransport):
    """Pass requests on to ``inner`` and write each whole answer to ``archive`` before it is parsed.

    Answers are 2xx, and 404: that there is no book, or that a market lies in the other tier, is knowledge
    which a replay needs. Failures and refusals are none.

    Parameters
    ----------
    clock:
        nanoseconds of the wall clock; the sandbox's own time goes before it.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        archive: PageArchive,
        *,
        clock: Callable[[], Nanos] = time.time_ns,
    ) -> None:
        self._inner = inner
        self._archive = archive
        self._clock = clock

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as ``inner`` does. A body that comes cut is not kept, and raises as a lost connection."""
        response = await self._inner.handle_async_request(request)
        if not (response.is_success or response.status_code == _ABSENT):
            return response
        response.request = request
        try:
            body = await read_whole(response)
        finally:
            await response.aclose()
        kept = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        asked = canonical_request(request.method, str(request.url), await request.aread())
        text = kept.get(SANDBOX_NOW, "")
        at = int(text) if text.isdecimal() else self._clock()
        await asyncio.to_thread(
            self._archive.put, asked, body, status=response.status_code, headers=kept, at=at
        )
        return httpx.Response(response.status_code, headers=kept, stream=httpx.ByteStream(body))


class ReplayTransport(httpx.AsyncBaseTransport):
    """Answer from ``archive`` alone; nothing leaves the machine.

    With ``since`` answers are those of the session that began then: the first from that moment on.
    """

    def __init__(self, archive: PageArchive, since: Nanos | None = None) -> None:
        self._archive = archive
        self._since = since

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The latest page kept for this request, or the first of the session.

        Raises
        ------
        PageNotArchived
            when it was never fetched.
        """
        asked = canonical_request(request.method, str(request.url), await request.aread())
        page = await asyncio.to_thread(self._archive.get, asked, self._since)
        if page is None:
            raise PageNotArchived(
                f"the archive holds no answer to {request.method} {redacted(request.url)}; fetch it once "
                "with PM_SOURCE=live (or sandbox), then replay it"
            )
        return httpx.Response(
            page.status,
            headers={**page.headers, ARCHIVED_AT: str(page.at)},
            stream=httpx.ByteStream(page.body),
        )
