import pytest

from pm_pipeline.sources.sandbox import World
from pm_pipeline_tests.sources.sandbox.conftest import AppClient


@pytest.mark.parametrize(
    "url",
    [
        "https://gamma-api.polymarket.com/markets/keyset",
        "https://clob.polymarket.com/prices-history?market=1&interval=max",
        "https://data-api.polymarket.com/v2/status",
        "https://external-api.kalshi.com/trade-api/v2/exchange/status",
        "https://api.elections.kalshi.com/trade-api/v2/exchange/status",
        "http://127.0.0.1:8765/gamma/markets/keyset",
        "http://127.0.0.1:8765/clob/prices-history?market=1&interval=max",
        "http://127.0.0.1:8765/data/v2/status",
        "http://127.0.0.1:8765/kalshi/trade-api/v2/exchange/status",
    ],
)
def test_every_service_answers_by_host_and_by_prefix_and_says_that_it_is_the_sandbox(
    client: AppClient, world: World, url: str
) -> None:
    response = client.get(url)
    assert response.status_code == 200
    assert response.headers["x-sandbox"] == "SANDBOX"
    assert response.headers["x-sandbox-now"] == str(world.now)


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("https://gamma-api.polymarket.com/nowhere", {"type": "not found error", "error": "not found"}),
        ("https://clob.polymarket.com/nowhere", {"error": "not found"}),
        (
            "https://external-api.kalshi.com/trade-api/v2/nowhere",
            {"error": {"code": "not_found", "message": "not found", "details": "not found"}},
        ),
    ],
)
def test_an_unknown_path_is_refused_in_the_venues_own_form(client: AppClient, url: str, body: object) -> None:
    response = client.get(url)
    assert (response.status_code, response.json()) == (404, body)


def test_an_unknown_host_is_not_served(client: AppClient) -> None:
    assert client.get("https://example.com/v2/status").status_code == 404
