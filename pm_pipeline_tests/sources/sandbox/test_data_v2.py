from collections import Counter
from typing import Any

import pytest

from pm_pipeline.markets.clock import DAY, SECOND
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.sandbox import World, WorldMarket
from pm_pipeline.sources.sandbox.data_trades import MAKERS
from pm_pipeline_tests.sources.sandbox.conftest import DATA, AppClient, Get, token

GAME = "mlb-nyy-bos-2026-06-25"


def market(world: World, slug: str = GAME) -> WorldMarket:
    return world.by_slug[slug]


def crawl(get: Get, path: str, **params: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = get(f"{DATA}{path}", **params, **cursor)
        rows += page["data"]
        following = page["pagination"]["next_cursor"]
        assert page["pagination"]["has_more"] == (following is not None)
        if following is None:
            return rows
        cursor = {"cursor": following}


def test_every_trade_of_a_market_comes_once_newest_first(get: Get, world: World) -> None:
    traded = market(world)
    rows = crawl(get, "/v2/trades", condition=traded.market.condition_id, limit=97, filter_amount="0.000001")
    trades = traded.trades()
    assert len(rows) == len(trades.ts)
    stamps = [row["timestamp"] for row in rows]
    assert stamps == sorted(stamps, reverse=True)
    assert sum(round(row["size"] * MICRO) for row in rows) == trades.size.sum()
    whole = {
        (
            int(t) // SECOND,
            round(trades.price_of_named(n) / MICRO, 6),
            "BUY" if trades.taker_buys(n) else "SELL",
        )
        for n, t in enumerate(trades.ts)
    }
    assert {(row["timestamp"], row["price"], row["side"]) for row in rows} == whole
    assert {row["token_id"] for row in rows} == {token(traded.market, 0), token(traded.market, 1)}


def test_maker_rows_add_up_to_the_takers(get: Get, world: World) -> None:
    condition = market(world).market.condition_id
    both = crawl(
        get, "/v2/trades", condition=condition, taker_only="false", filter_amount="0.000001", limit=1000
    )
    per_match: dict[str, list[dict[str, Any]]] = {}
    for row in both:
        per_match.setdefault(row["transaction_hash"], []).append(row)
    for taker, *makers in per_match.values():
        assert len(makers) == 2
        assert sum(round(m["size"] * MICRO) for m in makers) == round(taker["size"] * MICRO)
        assert {m["side"] for m in makers} == {"BUY" if taker["side"] == "SELL" else "SELL"}


def test_small_trades_are_hidden_by_default(get: Get, world: World) -> None:
    condition = market(world).market.condition_id
    shown = crawl(get, "/v2/trades", condition=condition, filter_type="CASH", filter_amount=20, limit=1000)
    assert shown
    assert all(row["size"] * row["price"] >= 20 for row in shown)
    large = crawl(get, "/v2/trades", condition=condition, filter_amount=50, limit=1000)
    assert large
    assert all(row["size"] >= 50 for row in large)


def test_a_bare_cursor_continues_the_feed_of_all_markets(get: Get, world: World) -> None:
    first = get(f"{DATA}/v2/trades", condition=market(world).market.condition_id, limit=50)
    bare = get(f"{DATA}/v2/trades", cursor=first["pagination"]["next_cursor"])
    assert bare["pagination"]["limit"] == 50
    assert len({row["condition_id"] for row in bare["data"]}) > 1


def test_the_cursor_keeps_the_size_of_the_first_page(get: Get, world: World) -> None:
    condition = market(world).market.condition_id
    first = get(f"{DATA}/v2/trades", condition=condition, limit=5)
    asked = {"condition": condition, "limit": 9, "cursor": first["pagination"]["next_cursor"]}
    assert len(get(f"{DATA}/v2/trades", **asked)["data"]) == 5


def test_the_bare_feed_reaches_back_to_the_start_of_the_previous_month(get: Get, world: World) -> None:
    page = get(f"{DATA}/v2/trades", limit=1000)
    assert page["pagination"]["has_more"] is True
    assert page["data"][0]["timestamp"] * SECOND <= world.now


def test_a_wallets_trades_are_found_in_a_window(get: Get, world: World) -> None:
    trades = market(world).trades()
    wallet, middle = str(trades.wallet[0]), int(trades.ts[len(trades.ts) // 2]) // SECOND
    early = crawl(get, "/v2/trades", user=wallet, start=1, end=middle, limit=500, filter_amount="0.000001")
    late = crawl(get, "/v2/trades", user=wallet, start=middle + 1, limit=500, filter_amount="0.000001")
    assert {row["proxy_wallet"] for row in early + late} == {wallet}
    everything = sum((m.trades().wallet == wallet).sum() for m in world.polymarket.values())
    assert len(early) + len(late) == everything


def test_trades_can_be_had_by_event_and_by_side(get: Get, world: World) -> None:
    event = market(world).event.event_id
    rows = crawl(get, "/v2/trades", event_id=event, side="SELL", limit=1000)
    assert rows
    assert {row["side"] for row in rows} == {"SELL"}
    assert {row["event_slug"] for row in rows} == {GAME}


@pytest.mark.parametrize(
    ("path", "params", "parameter"),
    [
        ("/v2/trades", {"offset": 1}, "offset"),
        ("/v2/trades", {"limit": 1001}, "limit"),
        ("/v2/trades", {"limit": 0}, "limit"),
        ("/v2/trades", {"limit": "x"}, "limit"),
        ("/v2/trades", {"cursor": "%%%"}, "cursor"),
        ("/v2/trades", {"start": 1}, "start"),
        ("/v2/trades", {"user": "0x1", "start": 0}, "start"),
        ("/v2/trades", {"side": "UP"}, "side"),
        ("/v2/trades", {"filter_type": "GOLD"}, "filter_type"),
        ("/v2/trades", {"filter_amount": "much"}, "filter_amount"),
        ("/v2/trades", {"taker_only": "perhaps"}, "taker_only"),
        ("/v2/trades", {"condition": ",".join(f"0x{n:064x}" for n in range(21))}, "condition"),
        ("/v2/trades", {"condition": "0x12"}, "condition"),
        ("/v2/prices-history", {"interval": "1d"}, "token_id"),
        ("/v2/prices-history", {"token_id": "1"}, "start"),
        ("/v2/prices-history", {"token_id": "1", "interval": "1d", "start": 5}, "start"),
        ("/v2/prices-history", {"token_id": "1", "interval": "1d", "end": 5}, "end"),
        ("/v2/prices-history", {"token_id": "1", "start": 0}, "start"),
        ("/v2/prices-history", {"token_id": "1", "interval": "2d"}, "interval"),
        ("/v2/prices-history", {"token_id": "1", "interval": "1w", "bucket_seconds": 60}, "bucket_seconds"),
        ("/v2/prices-history", {"token_id": "1", "start": 5, "bucket_seconds": 59}, "bucket_seconds"),
        ("/v2/prices-history", {"token_id": "1", "start": 5, "limit": 10_001}, "limit"),
        ("/v2/resolutions", {"offset": 1, "event_id": 1}, "offset"),
        ("/v2/resolutions", {"event_id": ",".join(map(str, range(21)))}, "event_id"),
        ("/v2/positions", {}, "user"),
        ("/v2/positions", {"condition": f"0x{1:064x},0x{2:064x}"}, "condition"),
        (
            "/v2/positions",
            {"user": "0x1", "status": "CLOSED", "include_archived": "true"},
            "include_archived",
        ),
    ],
)
def test_a_bad_request_names_the_parameter(
    refused: Get, path: str, params: dict[str, Any], parameter: str
) -> None:
    status, body = refused(DATA + path, **params)
    assert status == 400
    assert body["parameter"] == parameter
    assert body["retryable"] is False


def test_resolutions_need_exactly_one_kind_of_id(refused: Get) -> None:
    assert refused(f"{DATA}/v2/resolutions")[0] == 400
    assert refused(f"{DATA}/v2/resolutions", event_id="1", condition=f"0x{1:064x}")[0] == 400


def test_an_unknown_token_is_not_found(refused: Get) -> None:
    status, body = refused(f"{DATA}/v2/prices-history", token_id="1", interval="1d")
    assert (status, body["code"]) == (404, "NOT_FOUND")


def window(world: World, traded: WorldMarket) -> dict[str, Any]:
    opened = traded.market.opened_at or 0
    return {"start": opened // SECOND, "end": min(opened + 15 * DAY, world.now + SECOND) // SECOND}


@pytest.mark.parametrize("outcome", [0, 1])
def test_the_last_point_of_a_resolved_market_is_its_payout(get: Get, world: World, outcome: int) -> None:
    traded = market(world)
    name = token(traded.market, outcome)
    points = crawl(get, "/v2/prices-history", token_id=name, **window(world, traded), limit=700)
    resolution = traded.resolution
    assert resolution.payouts is not None
    assert resolution.resolved_at is not None
    assert points[-1] == {
        "timestamp": resolution.resolved_at // SECOND,
        "price": resolution.payouts[outcome] / MICRO,
        "resolution_seconds": 0,
    }
    assert {p["resolution_seconds"] for p in points[:-1]} == {60}
    stamps = [p["timestamp"] for p in points]
    assert stamps == sorted(set(stamps))


def test_a_point_holds_what_was_last_seen_in_the_bucket_that_begins_at_its_time(
    get: Get, world: World
) -> None:
    traded = market(world)
    quotes = traded.quotes()
    rows = crawl(
        get, "/v2/prices-history", token_id=token(traded.market), **window(world, traded), bucket_seconds=600
    )
    for row in rows[:-1]:
        at = quotes.at((row["timestamp"] + 600) * SECOND - 1)
        assert at is not None
        assert row["price"] == quotes.mid[at] / MICRO
        assert row["timestamp"] % 600 == 0


def test_an_expired_bucket_is_empty_and_without_one_the_server_coarsens(get: Get, world: World) -> None:
    traded = market(world, "album-released-by-june-12-2026")
    name, span = token(traded.market), window(world, traded)
    fine = crawl(get, "/v2/prices-history", token_id=name, **span, bucket_seconds=60)
    assert [row["resolution_seconds"] for row in fine] == [0]
    coarse = crawl(get, "/v2/prices-history", token_id=name, **span)
    assert {row["resolution_seconds"] for row in coarse} == {0, 300}


def test_as_of_gives_one_point_and_an_interval_the_recent_ones(get: Get, world: World) -> None:
    traded = market(world, "eth-above-4k-on-july-3-2026")
    name, moment = token(traded.market), (world.now - DAY) // SECOND
    (point,) = crawl(get, "/v2/prices-history", token_id=name, as_of=moment)
    assert point["timestamp"] == moment
    day = crawl(get, "/v2/prices-history", token_id=name, interval="1d")
    assert len(day) == 1441
    assert len(crawl(get, "/v2/prices-history", token_id=name, interval="max")) < len(day)


def test_a_window_over_fifteen_days_is_refused(refused: Get, world: World) -> None:
    end = world.now // SECOND
    status, body = refused(
        f"{DATA}/v2/prices-history",
        token_id=token(market(world).market),
        start=end - 15 * 86_400 - 1,
        end=end,
    )
    assert (status, body["parameter"]) == (400, "end")


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        (GAME, {"status": "resolved", "payouts": [1_000_000, 0], "was_disputed": False}),
        ("tennis-final-2026-06-21", {"status": "resolved", "payouts": [1_000_000, 1_000_000]}),
        ("mayor-resigns-by-june-18-2026", {"status": "resolved", "was_disputed": True, "price": "0"}),
        ("senate-passes-budget-by-june-24-2026", {"status": "posed", "price": "69"}),
        ("eth-above-4k-on-july-3-2026", {"status": "initialized", "price": "69"}),
    ],
)
def test_resolutions_say_how_far_a_market_is(
    get: Get, world: World, slug: str, expected: dict[str, Any]
) -> None:
    listed = market(world, slug).market
    (row,) = get(f"{DATA}/v2/resolutions", condition=listed.condition_id)["data"]
    assert expected.items() <= row.items()
    assert ("payouts" in row) == (row["status"] == "resolved" and "price" not in row)
    assert get(f"{DATA}/v2/resolutions", question_id=listed.question_id)["data"] == [row]


def test_an_events_resolutions_have_one_winner(get: Get, world: World) -> None:
    event = next(m.event for m in world.polymarket.values() if m.event.slug.endswith("nyc-on-june-26-2026"))
    rows = get(f"{DATA}/v2/resolutions", event_id=event.event_id)["data"]
    assert Counter(tuple(row["payouts"]) for row in rows) == {(1_000_000, 0): 1, (0, 1_000_000): 6}


def test_positions_are_what_the_trades_left(get: Get, world: World) -> None:
    traded = market(world)
    rows = crawl(get, "/v2/positions", condition=traded.market.condition_id, limit=20)
    assert len(rows) > 20
    trades = traded.trades()
    for row in rows[:10]:
        if row["proxy_wallet"] in MAKERS:
            continue
        mine = [
            n
            for n in range(len(trades.ts))
            if trades.wallet[n] == row["proxy_wallet"] and trades.outcome[n] == row["outcome_index"]
        ]
        bought = sum(int(trades.size[n]) for n in mine if trades.taker_buys(n))
        acts = crawl(get, "/v2/activity", user=row["proxy_wallet"], type="SPLIT", start=1, limit=500)
        made = sum(
            round(act["size"] * MICRO) for act in acts if act["condition_id"] == row["condition_id"]
        )  # who sells what he lacks makes full sets first
        assert round(row["total_size"] * MICRO) == bought + made
        assert row["current_size"] <= row["total_size"]
        assert row["status"] in {"REDEEMABLE", "CLOSED"}
    wallet = rows[0]["proxy_wallet"]
    assert {row["proxy_wallet"] for row in crawl(get, "/v2/positions", user=wallet)} == {wallet}


def test_status_says_that_nothing_lags(client: AppClient) -> None:
    body = client.get(f"{DATA}/v2/status").json()["data"]
    assert body["computed_at"] == "2026-06-30T00:00:00Z"
    assert body["serving"]["lag_seconds"] == 0
