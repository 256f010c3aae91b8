"""The sandbox as one ASGI application: real host names in process, path prefixes on a loopback port."""

from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pm_pipeline.sources.sandbox import (
    clob,
    clob_markets,
    clob_ws,
    data_v2,
    gamma,
    kalshi,
    kalshi_ws,
    polygon,
)
from pm_pipeline.sources.sandbox.faults import FaultMiddleware, Faults
from pm_pipeline.sources.sandbox.wire import Refusal
from pm_pipeline.sources.sandbox.world import World

_VENUES: Final[tuple[tuple[Any, tuple[BaseRoute, ...], str, tuple[str, ...]], ...]] = (
    (gamma.error, tuple(gamma.ROUTES), "/gamma", ("gamma-api.polymarket.com",)),
    (
        clob.error,
        (*clob.ROUTES, *clob_markets.ROUTES, *clob_ws.ROUTES),
        "/clob",
        ("clob.polymarket.com", "ws-subscriptions-clob.polymarket.com"),
    ),
    (data_v2.error, tuple(data_v2.ROUTES), "/data", ("data-api.polymarket.com",)),
    (polygon.subgraph_error, tuple(polygon.SUBGRAPH_ROUTES), "/goldsky", ("api.goldsky.com",)),
    (polygon.rpc_error, tuple(polygon.RPC_ROUTES), "/polygon", ("polygon.invalid",)),
    (
        kalshi.error,
        (*kalshi.ROUTES, *kalshi_ws.ROUTES),
        "/kalshi",
        ("external-api.kalshi.com", "api.elections.kalshi.com", "external-api-ws.kalshi.com"),
    ),
)
"""Error form, routes, loopback prefix and hosts of each service."""


def build_app(world: World, faults: Faults | None = None) -> Starlette:
    """The application that serves ``world``, spoiled by ``faults``.

    Every answer carries ``x-sandbox-now`` (the world's present in nanoseconds) and ``x-sandbox`` (its label),
    so that nothing read here can be taken for a real venue.
    """
    routes: list[BaseRoute] = []
    for error_form, own_routes, prefix, hosts in _VENUES:
        service = _service(world, error_form, own_routes)
        routes += [Host(host, service) for host in hosts]
        routes.append(Mount(prefix, service))
    app = Starlette(routes=routes)
    app.state.world = world
    if faults is not None:
        app.add_middleware(FaultMiddleware, faults=faults)
    app.add_middleware(_Labelled, world=world)
    return app


def _service(world: World, error_form: Any, routes: tuple[BaseRoute, ...]) -> Starlette:
    def refused(_: Request, refusal: Exception) -> Response:
        assert isinstance(refusal, Refusal)
        response: Response = error_form(refusal)
        return response

    def unknown(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response: Response = error_form(Refusal(error.status_code, error.detail.lower()))
        return response

    service = Starlette(routes=list(routes), exception_handlers={Refusal: refused, HTTPException: unknown})
    service.state.world = world
    return service


class _Labelled:
    """Marks every answer as the sandbox's own."""

    def __init__(self, app: ASGIApp, world: World) -> None:
        self._app = app
        self._headers = [
            (b"x-sandbox-now", str(world.now).encode()),
            (b"x-sandbox", world.label.encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def labelled(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept"}:
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        await self._app(scope, receive, labelled)
