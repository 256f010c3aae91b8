"""Small real servers for the tests of the clients: Starlette applications behind httpx's ASGI transport."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.limiter import AdaptiveLimiter

Answer: TypeAlias = Callable[[Request], Response]


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = body if isinstance(body, str) else json.dumps(body)
    return Response(text, status, dict(headers or {}), media_type="application/json")


class Server:
    """Answers each path with what is in its table, and remembers what it was asked.

    A sequence of answers is gone through once, the last one stays; anything else is the answer. Unknown
    paths are 404.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self._table = {
            path: list(answers) if isinstance(answers, Sequence) and not isinstance(answers, str) else answers
            for path, answers in table.items()
        }
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked.append((path, dict(request.query_params)))
        self.headers.append(dict(request.headers))
        if path not in self._table:
            return json_response({"error": "not found"}, 404)
        answer = self._table[path]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer) and not isinstance(answer, Response):
            answer = answer(request)
        return answer if isinstance(answer, Response) else json_response(answer)


class Sleeps:
    """A limiter's clock that moves only when it sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds

    def limiter(self) -> AdaptiveLimiter:
        return AdaptiveLimiter(1_000, 1_000, clock=self.clock, sleep=self.sleep)


def client_of(
    server: Server | httpx.AsyncBaseTransport, *, sleeps: Sleeps | None = None, **more: Any
) -> HttpClient:
    """A client of ``server`` that does not wait between its attempts."""
    transport = httpx.ASGITransport(server.app) if isinstance(server, Server) else server
    return HttpClient(
        "https://venue.test",
        transport=transport,
        limiter=(sleeps or Sleeps()).limiter(),
        **{"wait_initial_s": 0.0, "wait_max_s": 0.0, **more},
    )


async def rows_of(batches: Any) -> list[dict[str, Any]]:
    """All rows of a stream of Arrow batches; times as they lie in the tables."""
    return [row async for batch in batches for row in batch.to_pylist()]
