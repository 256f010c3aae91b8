from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.sandbox import World, WorldMarket
from pm_pipeline_tests.sources.sandbox.conftest import CLOB, AppClient, Get, token

OPEN = "eth-above-4k-on-july-3-2026"
RESOLVED = "btc-above-80k-on-june-20-2026"


def market(world: World, slug: str) -> WorldMarket:
    return world.by_slug[slug]


def test_a_book_lists_its_best_level_last(get: Get, world: World) -> None:
    traded = market(world, OPEN)
    body = get(f"{CLOB}/book", token_id=token(traded.market))
    bids = [Decimal(level["price"]) for level in body["bids"]]
    asks = [Decimal(level["price"]) for level in body["asks"]]
    assert len(bids) == len(asks) == 12
    assert bids == sorted(bids)
    assert asks == sorted(asks, reverse=True)
    quotes = traded.quotes()
    assert (bids[-1], asks[-1]) == (
        Decimal(int(quotes.bid[-1])) / MICRO,
        Decimal(int(quotes.ask[-1])) / MICRO,
    )
    assert (body["tick_size"], body["min_order_size"], body["neg_risk"]) == ("0.01", "5", False)
    assert len(body["timestamp"]) == 13
    assert int(body["timestamp"]) * 1_000_000 <= world.now


def test_the_book_of_no_is_the_mirror_of_yes(get: Get, world: World) -> None:
    listed = market(world, OPEN).market
    yes, no = (get(f"{CLOB}/book", token_id=token(listed, outcome)) for outcome in (0, 1))
    mirrored = [{"price": f"{1 - Decimal(row['price'])}", "size": row["size"]} for row in yes["asks"]]
    assert [(Decimal(r["price"]), r["size"]) for r in no["bids"]] == [
        (Decimal(r["price"]), r["size"]) for r in mirrored
    ]
    assert no["last_trade_price"] == yes["last_trade_price"]


@pytest.mark.parametrize("path", ["/book", "/midpoint", "/spread", "/price?side=BUY"])
def test_a_resolved_market_has_no_book(refused: Get, world: World, path: str) -> None:
    listed = market(world, RESOLVED).market
    url, _, side = path.partition("?")
    params = {"side": "BUY"} if side else {}
    status, body = refused(CLOB + url, token_id=token(listed), **params)
    assert status == 404
    assert "No orderbook exists" in body["error"]


def test_books_come_in_another_order_and_without_the_missing(client: AppClient, world: World) -> None:
    tokens = [
        token(market(world, slug).market) for slug in (OPEN, RESOLVED, "prime-minister-out-by-july-10-2026")
    ]
    wanted = [{"token_id": name} for name in sorted(tokens, reverse=True)]
    response = client.request("POST", f"{CLOB}/books", json=wanted)
    assert [row["asset_id"] for row in response.json()] == sorted([tokens[0], tokens[2]])


@pytest.mark.parametrize("body", [[{"token_id": "1"}] * 501, {"token_id": "1"}])
def test_too_many_or_malformed_books_are_refused(client: AppClient, body: Any) -> None:
    assert client.request("POST", f"{CLOB}/books", json=body).status_code == 400


@pytest.mark.parametrize("outcome", [0, 1])
def test_midpoint_price_and_spread_are_of_the_same_touch(get: Get, world: World, outcome: int) -> None:
    name = token(market(world, OPEN).market, outcome)
    bid, ask = (Decimal(get(f"{CLOB}/price", token_id=name, side=side)["price"]) for side in ("BUY", "SELL"))
    assert Decimal(get(f"{CLOB}/midpoint", token_id=name)["mid"]) == (bid + ask) / 2
    assert Decimal(get(f"{CLOB}/spread", token_id=name)["spread"]) == ask - bid
    assert bid < ask
    assert get(f"{CLOB}/tick-size", token_id=name) == {"minimum_tick_size": 0.01}


def test_a_price_needs_a_side(refused: Get, world: World) -> None:
    assert refused(f"{CLOB}/price", token_id=token(market(world, OPEN).market), side="up")[0] == 400


def test_the_fee_schedule_is_on_the_clob_market(get: Get, world: World) -> None:
    listed = market(world, OPEN).market
    body = get(f"{CLOB}/clob-markets/{listed.condition_id}")
    assert body["fd"] == {"r": 0.07, "e": 1, "to": True}
    assert [t["t"] for t in body["t"]] == [token(listed, 0), token(listed, 1)]
    assert "fd" not in get(
        f"{CLOB}/clob-markets/{market(world, 'ceasefire-by-june-23-2026').market.condition_id}"
    )


@pytest.mark.parametrize("path", ["/clob-markets/0x0", "/tick-size?token_id=1"])
def test_unknown_markets_are_not_found(refused: Get, path: str) -> None:
    assert refused(CLOB + path)[0] == 404


def history(get: Get, world: World, slug: str, outcome: int = 0, **params: Any) -> list[tuple[int, Decimal]]:
    body = get(f"{CLOB}/prices-history", market=token(market(world, slug).market, outcome), **params)
    return [(point["t"], Decimal(str(point["p"]))) for point in body["history"]]


def test_fine_history_is_the_quoted_mid_of_the_last_week(get: Get, world: World) -> None:
    start = (world.now - 6 * HOUR) // SECOND
    points = history(get, world, OPEN, startTs=start, endTs=world.now // SECOND, fidelity=1)
    quotes = market(world, OPEN).quotes()
    inside = quotes.ts >= start * SECOND
    assert [t for t, _ in points] == (quotes.ts[inside] // SECOND).tolist()
    assert [int(p * MICRO) for _, p in points] == quotes.mid[inside].tolist()
    mirrored = history(get, world, OPEN, 1, startTs=start, endTs=world.now // SECOND, fidelity=1)
    assert {a + b for (_, a), (_, b) in zip(points, mirrored, strict=True)} == {Decimal(1)}


def test_fine_points_expire_and_coarser_ones_stay(get: Get, world: World) -> None:
    resolution = market(world, RESOLVED).resolution
    assert resolution.closed_at is not None
    begin, end = (resolution.closed_at - DAY) // SECOND, resolution.closed_at // SECOND
    assert world.now - resolution.closed_at > 7 * DAY
    assert history(get, world, RESOLVED, startTs=begin, endTs=end, fidelity=1) == []
    assert len(history(get, world, RESOLVED, startTs=begin, endTs=end, fidelity=5)) == 288


def test_the_whole_history_of_a_resolved_market_is_empty_unless_coarse(get: Get, world: World) -> None:
    assert history(get, world, RESOLVED, interval="max", fidelity=60) == []
    assert len(history(get, world, RESOLVED, interval="max", fidelity=720)) > 10
    assert history(get, world, OPEN, interval="1d", fidelity=10)


def test_an_unknown_token_has_an_empty_history(get: Get) -> None:
    assert get(f"{CLOB}/prices-history", market="1", interval="1d") == {"history": []}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"market": "1"},
        {"market": "1", "interval": "1d", "startTs": 1},
        {"market": "1", "startTs": "soon"},
    ],
)
def test_history_selectors_exclude_each_other(refused: Get, params: dict[str, Any]) -> None:
    assert refused(f"{CLOB}/prices-history", **params)[0] == 400


@pytest.mark.parametrize(("fidelity", "allowed"), [(1, False), (179, False), (180, True)])
def test_a_long_window_must_be_coarse(client: AppClient, world: World, fidelity: int, allowed: bool) -> None:
    params = {
        "market": token(market(world, OPEN).market),
        "startTs": (world.now - 15 * DAY - MINUTE) // SECOND,
        "endTs": world.now // SECOND,
        "fidelity": fidelity,
    }
    assert (client.get(f"{CLOB}/prices-history", params).status_code == 200) == allowed


def test_an_unknown_interval_is_refused(refused: Get, world: World) -> None:
    assert (
        refused(f"{CLOB}/prices-history", market=token(market(world, OPEN).market), interval="2d")[0] == 400
    )


def test_history_never_runs_ahead_of_the_present(get: Get, world: World) -> None:
    later = (world.now + DAY) // SECOND
    points = history(get, world, OPEN, startTs=later - 2 * 86_400, endTs=later, fidelity=1)
    assert np.max([t for t, _ in points]) * SECOND <= world.now
