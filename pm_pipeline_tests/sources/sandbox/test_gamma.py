import json
from typing import Any

import pytest

from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.sources.sandbox import World, generate_world
from pm_pipeline.sources.sandbox.plans import bucket_event
from pm_pipeline_tests.sources.sandbox.conftest import GAMMA, AppClient, Get, token


def crawl(get: Get, path: str, coll: str, **params: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = get(f"{GAMMA}{path}", **params, **cursor)
        rows += page[coll]
        if "next_cursor" not in page:
            return rows
        cursor = {"after_cursor": page["next_cursor"]}


def test_two_crawls_give_every_market_once_in_order(get: Get, world: World) -> None:
    found = [
        row["id"]
        for closed in ("false", "true")
        for row in crawl(get, "/markets/keyset", "markets", closed=closed, limit=5)
    ]
    assert sorted(found) == sorted(world.polymarket)
    assert len(found) == len(set(found))


def test_closed_markets_are_hidden_unless_asked_for(get: Get) -> None:
    rows = crawl(get, "/markets/keyset", "markets")
    assert rows
    assert not any(row["closed"] for row in rows)


def test_events_carry_their_markets_and_placeholders(get: Get) -> None:
    rows = crawl(get, "/events/keyset", "events", limit=2)
    assert len(rows) == 3
    weather = next(row for row in rows if row.get("negRisk"))
    assert len(weather["markets"]) == 8
    placeholders = [m for m in weather["markets"] if not m["active"]]
    assert [m["negRiskOther"] for m in placeholders] == [True]
    assert {m["negRiskMarketID"] for m in weather["markets"]} == {weather["negRiskMarketID"]}
    assert "events" not in weather["markets"][0]
    assert weather["seriesSlug"] == "london-daily-weather"


def test_lists_inside_a_market_are_json_in_a_string(get: Get, world: World) -> None:
    market = world.by_slug["tennis-final-2026-06-21"]
    row = get(f"{GAMMA}/markets/slug/tennis-final-2026-06-21")
    assert json.loads(row["outcomes"]) == ["Alcaraz", "Sinner"]
    assert json.loads(row["outcomePrices"]) == ["0.5", "0.5"]
    assert json.loads(row["clobTokenIds"]) == [token(market.market, 0), token(market.market, 1)]
    assert row["closed"] is True
    assert row["umaResolutionStatus"] == "resolved"
    assert row["closedTime"] == "2026-06-21 17:30:00+00"
    assert row["feeSchedule"] == {"exponent": 1, "rate": 0.03, "takerOnly": True, "rebateRate": 0.25}
    assert get(f"{GAMMA}/markets/{row['id']}") == row


def test_a_market_without_fees_has_no_schedule(get: Get) -> None:
    row = get(f"{GAMMA}/markets/slug/ceasefire-by-june-23-2026")
    assert row["feesEnabled"] is False
    assert "feeSchedule" not in row


def test_a_market_left_closed_names_no_outcome(get: Get) -> None:
    row = get(f"{GAMMA}/markets/slug/senate-passes-budget-by-june-24-2026")
    assert row["closed"] is True
    assert "umaResolutionStatus" not in row
    assert json.loads(row["outcomePrices"]) not in (["1", "0"], ["0", "1"])
    assert row["closedTime"] == "2026-06-24 12:30:00+00"


def test_a_dispute_stays_visible(get: Get) -> None:
    row = get(f"{GAMMA}/markets/slug/mayor-resigns-by-june-18-2026")
    assert json.loads(row["umaResolutionStatuses"]) == ["proposed", "disputed"]


def test_an_open_market_shows_its_touch(get: Get, world: World) -> None:
    row = get(f"{GAMMA}/markets/slug/eth-above-4k-on-july-3-2026")
    quotes = world.by_slug["eth-above-4k-on-july-3-2026"].quotes()
    assert row["bestBid"] == quotes.bid[-1] / 1e6
    assert row["bestAsk"] == quotes.ask[-1] / 1e6
    assert row["volumeNum"] > 0
    assert row["acceptingOrders"] is True


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"slug": "eth-above-4k-on-july-3-2026"}, {"eth-above-4k-on-july-3-2026"}),
        ({"slug": ["eth-above-4k-on-july-3-2026", "unknown"]}, {"eth-above-4k-on-july-3-2026"}),
        ({"tag_slug": "politics"}, {"prime-minister-out-by-july-10-2026"}),
        ({"end_date_min": "2026-07-05T00:00:00Z"}, {"prime-minister-out-by-july-10-2026"}),
        ({"series_slug": "crypto"}, {"eth-above-4k-on-july-3-2026"}),
        (
            {"end_date_max": "2026-07-05", "end_date_min": "2026-07-01T00:00:00Z"},
            {"eth-above-4k-on-july-3-2026"},
        ),
        ({"volume_num_min": "100000000"}, set()),
        ({"unheard_of": "1", "tag_slug": "crypto"}, {"eth-above-4k-on-july-3-2026"}),
    ],
)
def test_filters_narrow_the_list_and_unknown_ones_are_ignored(
    get: Get, params: dict[str, Any], expected: set[str]
) -> None:
    assert {row["slug"] for row in crawl(get, "/markets/keyset", "markets", **params)} == expected


@pytest.mark.parametrize("name", ["id", "condition_ids", "clob_token_ids"])
def test_markets_are_found_by_their_ids(get: Get, world: World, name: str) -> None:
    market = next(m for m in world.polymarket.values() if m.resolution.status is ResolutionStatus.OPEN)
    value = {
        "id": market.native_id,
        "condition_ids": market.market.condition_id,
        "clob_token_ids": token(market.market, 1),
    }[name]
    rows = get(f"{GAMMA}/markets/keyset", **{name: value})["markets"]
    assert [row["id"] for row in rows] == [market.native_id]
    assert get(f"{GAMMA}/markets/keyset", **{name: value}, closed="true")["markets"] == []


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"offset": 5}, 422),
        ({"limit": "many"}, 422),
        ({"closed": "maybe"}, 422),
        ({"after_cursor": "é"}, 422),
        ({"end_date_min": "yesterday"}, 422),
        ({"volume_num_min": "much"}, 422),
        ({"id": [str(n) for n in range(101)]}, 422),
    ],
)
def test_a_bad_request_is_refused(refused: Get, params: dict[str, Any], status: int) -> None:
    code, body = refused(f"{GAMMA}/markets/keyset", **params)
    assert code == status
    assert body["type"] == "validation error"


def test_a_page_is_clamped_to_a_hundred_and_holds_twenty_by_default() -> None:
    plans = [bucket_event("nyc", f"2026-06-{day}", 84) for day in range(10, 26)]
    client = AppClient(generate_world(1, plans))
    for limit, rows in ((5000, 100), (None, 20)):
        params = {"closed": "true"} | ({} if limit is None else {"limit": str(limit)})
        page = client.get(f"{GAMMA}/markets/keyset", params).json()
        assert len(page["markets"]) == rows
        assert "next_cursor" in page


@pytest.mark.parametrize("path", ["/markets/1", "/markets/slug/none", "/events/1", "/events/slug/none"])
def test_what_does_not_exist_is_not_found(refused: Get, path: str) -> None:
    status, body = refused(GAMMA + path)
    assert (status, body["type"]) == (404, "not found error")


def test_an_event_is_found_by_id_and_slug(get: Get) -> None:
    row = get(f"{GAMMA}/events/slug/highest-temperature-in-nyc-on-june-26-2026")
    assert row["closed"] is True
    assert parse_time(row["endDate"]) == parse_time("2026-06-26T12:00:00Z")
    assert get(f"{GAMMA}/events/{row['id']}") == row
    tag = row["tags"][0]["id"]
    found = crawl(get, "/events/keyset", "events", closed="true", tag_id=tag)
    assert row["slug"] in {event["slug"] for event in found}
    assert crawl(get, "/events/keyset", "events", closed="true", slug=row["slug"]) == [row]
    series = row["series"][0]["id"]
    assert crawl(get, "/events/keyset", "events", closed="true", series_id=series) == [row]


def test_series_are_listed_by_slug_and_number(get: Get, world: World) -> None:
    (found,) = get(f"{GAMMA}/series", slug="london-daily-weather", exclude_events="true")
    assert found["slug"] == "london-daily-weather"
    assert "events" not in found
    assert get(f"{GAMMA}/series/{found['id']}") == found
    assert len(get(f"{GAMMA}/series")) == len({m.market.series for m in world.polymarket.values()})
    assert get(f"{GAMMA}/series", slug="nothing") == []


def test_an_unknown_series_is_not_found(refused: Get) -> None:
    assert refused(f"{GAMMA}/series/1")[0] == 404


@pytest.mark.parametrize("parameter", ["question_ids", "position_ids", "condition_ids", "clob_token_ids"])
def test_a_market_is_found_by_its_hashes_and_outcomes(get: Get, world: World, parameter: str) -> None:
    wanted = next(iter(world.polymarket.values())).market
    outcome = wanted.instruments[1]
    name = {
        "question_ids": wanted.question_id,
        "condition_ids": wanted.condition_id,
        "position_ids": outcome.position_id,
        "clob_token_ids": outcome.token_id,
    }[parameter]
    rows = [
        row
        for closed in ("false", "true")
        for row in crawl(get, "/markets/keyset", "markets", closed=closed, **{parameter: name})
    ]
    assert [row["id"] for row in rows] == [wanted.key.native_id]
    assert rows[0]["positionIds"] == [i.position_id for i in wanted.instruments]


def test_the_search_finds_events_by_the_words_of_their_names(get: Get, refused: Get) -> None:
    found = get(f"{GAMMA}/public-search", q="highest temperature in london", limit_per_type="1")
    assert [event["seriesSlug"] for event in found["events"]] == ["london-daily-weather"]
    assert get(f"{GAMMA}/public-search", q="qqq")["events"] is None
    assert refused(f"{GAMMA}/public-search")[0] == 422
    assert refused(f"{GAMMA}/public-search", q="london", limit_per_type="many")[0] == 422
