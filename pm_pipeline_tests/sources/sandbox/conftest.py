import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pm_pipeline.markets.market import Market
from pm_pipeline.sources.sandbox import Faults, World, build_app, generate_world

GAMMA = "https://gamma-api.polymarket.com"
CLOB = "https://clob.polymarket.com"
DATA = "https://data-api.polymarket.com"
KALSHI = "https://external-api.kalshi.com/trade-api/v2"

Get = Callable[..., Any]


class AppClient:
    """Asks the application in process, as the real clients do."""

    def __init__(self, world: World, faults: Faults | None = None) -> None:
        self.app = build_app(world, faults)

    def get(self, url: str, params: Any = None) -> httpx.Response:
        return self.request("GET", url, params=params)

    def request(self, method: str, url: str, **rest: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app)) as client:
                return await client.request(method, url, **rest)

        return asyncio.run(ask())


@pytest.fixture(scope="session")
def world() -> World:
    return generate_world(7)


@pytest.fixture(scope="session")
def client(world: World) -> AppClient:
    return AppClient(world)


@pytest.fixture(scope="session")
def get(client: AppClient) -> Get:
    """The decoded answer to a GET that must succeed."""

    def fetch(url: str, **params: Any) -> Any:
        response = client.get(url, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    return fetch


@pytest.fixture(scope="session")
def refused(client: AppClient) -> Get:
    """Status and body of a GET that must be refused."""

    def fetch(url: str, **params: Any) -> tuple[int, Any]:
        response = client.get(url, params=params)
        assert response.status_code >= 400, response.text
        return response.status_code, response.json()

    return fetch


def token(market: Market, outcome: int = 0) -> str:
    found = market.instrument(outcome).token_id
    assert found is not None
    return found
