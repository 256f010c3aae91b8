"""An address that holds a key: requests are sent there, and nothing else ever learns it.

Clients, their error messages and the archive see a placeholder; the real address is put in at the last
moment, and wiped out of what comes back.
"""

from types import TracebackType
from typing import Final, Self

import httpx

from pm_pipeline.errors import UsageError
from pm_pipeline.sources.http import read_whole

HIDDEN: Final = b"***"

_LEAST: Final = 8
"""Parts of an address shorter than this are no keys; wiping them out would maim answers."""


class EndpointTransport(httpx.AsyncBaseTransport):
    """Send every request to ``endpoint`` through ``inner``, whatever address it bears.

    Raises :class:`UsageError`, which does not repeat the address, where it is none.
    """

    def __init__(self, endpoint: str, inner: httpx.AsyncBaseTransport) -> None:
        try:
            self._url = httpx.URL(endpoint.strip())
        except (httpx.InvalidURL, ValueError):
            raise UsageError("the address of the node is not one; write https://host/key") from None
        if self._url.scheme not in {"http", "https"} or not self._url.host or self._url.userinfo:
            raise UsageError("the address of the node must be http(s)://host/key, without user and password")
        self._inner = inner
        parts = (*self._url.path.split("/"), *self._url.params.values(), self._url.host)
        self._secrets = sorted({p.encode() for p in parts if len(p) >= _LEAST}, key=len, reverse=True)

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
        """Answer as the endpoint does, without its address."""
        headers = [(name, value) for name, value in request.headers.multi_items() if name != "host"]
        sent = httpx.Request(
            request.method,
            self._url,
            headers=headers,
            content=await request.aread(),
            extensions=request.extensions,
        )
        try:
            response = await self._inner.handle_async_request(sent)
            response.request = sent
            try:
                body = await read_whole(response)
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            said = self._wiped(str(error).encode()).decode(errors="replace")
            raise type(error)(said, request=request) from None
        kept = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name not in {"content-length", "content-encoding", "transfer-encoding"}
        ]
        return httpx.Response(response.status_code, headers=kept, stream=httpx.ByteStream(self._wiped(body)))

    def _wiped(self, text: bytes) -> bytes:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text
