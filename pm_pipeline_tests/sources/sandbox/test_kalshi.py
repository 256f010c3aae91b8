from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND, Nanos, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.markets.units import MICRO, to_micro
from pm_pipeline.sources.sandbox import World, generate_world
from pm_pipeline.sources.sandbox.candles import candles
from pm_pipeline.sources.sandbox.plans import fifteen_minute_event
from pm_pipeline.sources.sandbox.world import ABSENT, NO_TRADES, Quotes, book_at
from pm_pipeline_tests.sources.sandbox.conftest import KALSHI, AppClient, Get

SETTLED = "KXHIGHNY-26JUN26-B84.5"
OPEN = "KXHIGHNY-26JUN29-B88.5"
OLD = "KXPAYROLLS-26APR03-T100000"


def crawl(get: Get, path: str, coll: str, **params: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = get(KALSHI + path, **params, **({"cursor": cursor} if cursor else {}))
        rows += page[coll]
        cursor = page["cursor"]
        if not cursor:
            return rows


def unix(text: str) -> int:
    return parse_time(text) // SECOND


def test_the_tiers_share_out_all_markets(get: Get, world: World) -> None:
    live = {row["ticker"] for row in crawl(get, "/markets", "markets", limit=4)}
    old = {row["ticker"] for row in crawl(get, "/historical/markets", "markets")}
    assert old == {OLD}
    assert live | old == set(world.kalshi)
    assert not live & old


@pytest.mark.parametrize(
    ("status", "word", "number"),
    [
        ("open", "active", 6),
        ("settled", "finalized", 10),
        ("closed", "", 0),
        ("unopened", "", 0),
        ("paused", "", 0),
    ],
)
def test_the_status_filter_speaks_another_language_than_the_field(
    get: Get, status: str, word: str, number: int
) -> None:
    rows = crawl(get, "/markets", "markets", status=status, limit=3)
    assert [row["status"] for row in rows] == [word] * number


@pytest.mark.parametrize(
    ("path", "params", "details"),
    [
        ("/markets", {"status": "finalized"}, "invalid status filter"),
        ("/markets", {"limit": 1001}, "lte"),
        ("/events", {"limit": 201}, "lte"),
        ("/markets", {"cursor": "!!"}, "invalid cursor"),
        ("/markets", {"min_close_ts": 1, "min_settled_ts": 1}, "mutually exclusive"),
        ("/markets", {"min_close_ts": 1, "min_updated_ts": 1}, "mutually exclusive"),
        ("/markets", {"min_close_ts": 1, "status": "settled"}, "cannot be combined"),
        ("/markets", {"min_updated_ts": 1, "status": "settled"}, "cannot be combined"),
        ("/markets", {"mve_filter": "some"}, "mve_filter"),
        ("/historical/markets", {"tickers": "A", "series_ticker": "B"}, "mutually exclusive"),
        ("/markets/orderbooks", {}, "tickers are required"),
        ("/markets/candlesticks", {"start_ts": 1, "end_ts": 2, "period_interval": 1}, "market_tickers"),
        (f"/markets/{OPEN}/orderbook", {"depth": 101}, "depth"),
        (
            f"/series/KXHIGHNY/markets/{OPEN}/candlesticks",
            {"start_ts": 1, "end_ts": 2},
            "Parameter validation",
        ),
        (
            f"/series/KXHIGHNY/markets/{OPEN}/candlesticks",
            {"start_ts": 5, "end_ts": 2, "period_interval": 1},
            "end_ts is before",
        ),
    ],
)
def test_a_bad_request_says_why(refused: Get, path: str, params: dict[str, Any], details: str) -> None:
    status, body = refused(KALSHI + path, **params)
    assert status == 400
    assert body["error"]["code"] == "bad_request"
    assert details in body["error"]["details"]


@pytest.mark.parametrize(
    "path",
    [
        "/markets/NONE",
        f"/markets/{OLD}",
        f"/historical/markets/{SETTLED}",
        "/events/NONE",
        "/series/NONE",
        f"/series/KXWRONG/markets/{OPEN}/candlesticks?start_ts=1&end_ts=2&period_interval=1",
    ],
)
def test_what_is_not_in_a_tier_is_not_found_there(client: AppClient, path: str) -> None:
    response = client.get(KALSHI + path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_a_settled_market_says_how(get: Get) -> None:
    row = get(f"{KALSHI}/markets/{SETTLED}")["market"]
    assert (row["result"], row["settlement_value_dollars"]) == ("yes", "1.0000")
    assert (row["strike_type"], row["floor_strike"], row["cap_strike"]) == ("between", 84.0, 85.0)
    assert row["close_time"] == "2026-06-27T04:59:00Z"
    assert row["settlement_ts"] == "2026-06-27T11:59:00Z"
    assert row["expiration_value"] == "84.00"
    assert (row["yes_bid_dollars"], row["yes_ask_dollars"]) == ("0.0000", "1.0000")


def test_tails_lack_the_strike_they_do_not_have(get: Get) -> None:
    low = get(f"{KALSHI}/markets/KXHIGHNY-26JUN26-T80")["market"]
    high = get(f"{KALSHI}/markets/KXHIGHNY-26JUN26-T87")["market"]
    assert "floor_strike" not in low
    assert low["cap_strike"] == 80
    assert "cap_strike" not in high
    assert high["floor_strike"] == 87


@pytest.mark.parametrize(
    ("ticker", "result", "value"),
    [("KXALBUM-26JUN20-T70", "", None), ("KXSHARE-26JUN22-S", "scalar", "0.1077")],
)
def test_void_and_scalar_markets(get: Get, ticker: str, result: str, value: str | None) -> None:
    row = get(f"{KALSHI}/markets/{ticker}")["market"]
    assert (row["status"], row["result"], row.get("settlement_value_dollars")) == ("finalized", result, value)


@pytest.mark.parametrize(
    ("params", "number"),
    [
        ({"event_ticker": "KXHIGHNY-26JUN29"}, 6),
        ({"series_ticker": "KXHIGHNY"}, 12),
        ({"tickers": f"{OPEN},{SETTLED},NONE"}, 2),
        ({"tickers": "NONE"}, 0),
        ({"mve_filter": "only"}, 0),
        ({"mve_filter": "exclude", "series_ticker": "KXBTC15M"}, 2),
        ({"min_close_ts": unix("2026-06-29T00:00:00Z")}, 6),
        ({"max_close_ts": unix("2026-06-21T00:00:00Z"), "status": "closed"}, 0),
        ({"min_settled_ts": unix("2026-06-27T00:00:00Z"), "status": "settled"}, 8),
        ({"min_created_ts": unix("2026-06-28T00:00:00Z"), "status": "open"}, 6),
        ({"min_updated_ts": unix("2026-06-28T00:00:00Z")}, 8),
    ],
)
def test_markets_are_filtered(get: Get, params: dict[str, Any], number: int) -> None:
    assert len(crawl(get, "/markets", "markets", **params)) == number


def test_historical_markets_are_filtered_by_name(get: Get) -> None:
    assert len(crawl(get, "/historical/markets", "markets", series_ticker="KXPAYROLLS")) == 1
    assert crawl(get, "/historical/markets", "markets", series_ticker="KXHIGHNY") == []
    assert get(f"{KALSHI}/historical/markets/{OLD}")["market"]["ticker"] == OLD


@pytest.mark.parametrize(
    ("params", "number"),
    [
        ({}, 7),
        ({"status": "open"}, 1),
        ({"series_ticker": "KXBTC15M"}, 2),
        ({"tickers": "KXHIGHNY-26JUN26,NONE"}, 1),
        ({"min_close_ts": unix("2026-06-28T16:20:00Z")}, 2),
    ],
)
def test_events_are_filtered(get: Get, params: dict[str, Any], number: int) -> None:
    assert len(crawl(get, "/events", "events", limit=2, **params)) == number


def test_events_outlive_their_archived_markets(get: Get) -> None:
    rows = crawl(get, "/events", "events", with_nested_markets="true")
    nested = {row["event_ticker"]: len(row["markets"]) for row in rows}
    assert nested["KXHIGHNY-26JUN26"] == 6
    assert nested["KXPAYROLLS-26APR03"] == 0
    body = get(f"{KALSHI}/events/KXHIGHNY-26JUN26", with_nested_markets="true")
    assert len(body["markets"]) == len(body["event"]["markets"]) == 6
    assert body["event"]["mutually_exclusive"] is True


def test_series_are_filtered_by_exact_category_and_tag(get: Get) -> None:
    assert len(get(f"{KALSHI}/series")["series"]) == 5
    weather = get(f"{KALSHI}/series", category="Climate and Weather")["series"]
    assert [row["ticker"] for row in weather] == ["KXHIGHNY"]
    assert get(f"{KALSHI}/series", category="climate")["series"] == []
    assert [row["ticker"] for row in get(f"{KALSHI}/series", tags="BTC")["series"]] == ["KXBTC15M"]
    assert get(f"{KALSHI}/series/KXHIGHNY")["series"]["frequency"] == "daily"


def test_an_order_book_lists_bids_of_both_sides_best_last(get: Get, world: World) -> None:
    body = get(f"{KALSHI}/markets/{OPEN}/orderbook")["orderbook_fp"]
    sides = book_at(world.kalshi[OPEN].book_log(), world.now)
    assert sides is not None
    for key, levels in (
        ("yes_dollars", sides.bids),
        ("no_dollars", {MICRO - p: s for p, s in sides.asks.items()}),
    ):
        shown = [(int(Decimal(p) * MICRO), int(Decimal(s) * MICRO)) for p, s in body[key]]
        assert shown == sorted(levels.items())
    shallow = get(f"{KALSHI}/markets/{OPEN}/orderbook", depth=1)["orderbook_fp"]
    assert shallow["yes_dollars"] == body["yes_dollars"][-1:]
    row = get(f"{KALSHI}/markets/{OPEN}")["market"]
    assert [row["yes_bid_dollars"], row["yes_bid_size_fp"]] == body["yes_dollars"][-1]


def test_order_books_come_in_batches_and_are_empty_after_the_close(get: Get) -> None:
    rows = get(f"{KALSHI}/markets/orderbooks", tickers=[OPEN, SETTLED, "NONE"])["orderbooks"]
    assert [row["ticker"] for row in rows] == [OPEN, SETTLED]
    assert rows[1]["orderbook_fp"] == {"yes_dollars": [], "no_dollars": []}


def test_trades_come_newest_first_and_blocks_can_be_told(get: Get, world: World) -> None:
    rows = crawl(get, "/markets/trades", "trades", ticker=SETTLED, limit=50)
    trades = world.kalshi[SETTLED].trades()
    assert len(rows) == len({row["trade_id"] for row in rows}) == len(trades.ts)
    stamps = [row["created_time"] for row in rows]
    assert stamps == sorted(stamps, reverse=True)
    assert sum(row["is_block_trade"] for row in rows) == 1
    for row in rows:
        assert Decimal(row["yes_price_dollars"]) + Decimal(row["no_price_dollars"]) == 1
        assert (row["taker_outcome_side"], row["taker_book_side"]) in {("yes", "bid"), ("no", "ask")}
    assert len(crawl(get, "/markets/trades", "trades", ticker=SETTLED, is_block_trade="true")) == 1
    day = crawl(
        get,
        "/markets/trades",
        "trades",
        ticker=SETTLED,
        min_ts=unix("2026-06-26T00:00:00Z"),
        max_ts=unix("2026-06-26T12:00:00Z"),
    )
    assert 0 < len(day) < len(rows)


def test_the_tiers_of_trades_overlap(world: World) -> None:
    plans = [fifteen_minute_event(day, 70_000.0) for day in ("2026-06-20T16:15:00Z", "2026-05-20T16:15:00Z")]
    client = AppClient(generate_world(3, [*plans, fifteen_minute_event("2026-04-20T16:15:00Z", 70_000.0)]))
    pages = [
        {row["ticker"] for row in client.get(f"{KALSHI}{path}", {"limit": "1000"}).json()["trades"]}
        for path in ("/markets/trades", "/historical/trades")
    ]
    assert pages[0] == {"KXBTC15M-26JUN201215-15", "KXBTC15M-26MAY201215-15"}
    assert pages[1] == {"KXBTC15M-26MAY201215-15", "KXBTC15M-26APR201215-15"}


def test_the_cutoff_differs_by_kind(get: Get, world: World) -> None:
    body = get(f"{KALSHI}/historical/cutoff")
    assert parse_time(body["market_settled_ts"]) == world.now - 50 * DAY
    assert parse_time(body["market_settled_ts"]) < parse_time(body["trades_created_ts"])
    assert parse_time(body["trades_created_ts"]) < parse_time(body["orders_updated_ts"])


def test_the_exchange_rests_on_thursday_mornings(get: Get) -> None:
    assert get(f"{KALSHI}/exchange/status")["trading_active"] is True
    (week,) = get(f"{KALSHI}/exchange/schedule")["schedule"]["standard_hours"]
    assert [span["close_time"] for span in week["thursday"]] == ["03:00", "00:00"]


def bars(get: Get, ticker: str, start: str, end: str, period: int) -> list[dict[str, Any]]:
    path = f"/series/KXHIGHNY/markets/{ticker}/candlesticks"
    rows: list[dict[str, Any]] = get(
        KALSHI + path, start_ts=unix(start), end_ts=unix(end), period_interval=period
    )["candlesticks"]
    return rows


def test_candles_are_sparse_and_add_up(get: Get, world: World) -> None:
    market = world.kalshi[SETTLED]
    rows = bars(get, SETTLED, "2026-06-25T00:00:00Z", "2026-06-28T00:00:00Z", 1)
    assert 100 < len(rows) < len(market.quotes().ts) / 2
    traded = int(market.trades().size.sum())
    assert sum(to_micro(row["volume_fp"]) for row in rows) == traded
    assert to_micro(rows[-1]["open_interest_fp"]) == traded
    quotes = market.quotes()
    for row in rows[::50]:
        at = quotes.at(row["end_period_ts"] * SECOND)
        assert at is not None
        bid = max(int(quotes.bid[at]), 0)
        assert int(Decimal(row["yes_bid"]["close_dollars"]) * MICRO) == bid
        assert Decimal(row["yes_bid"]["low_dollars"]) <= Decimal(row["yes_bid"]["high_dollars"])
        assert ("close_dollars" in row["price"]) == (to_micro(row["volume_fp"]) > 0)
    assert "previous_dollars" in rows[-1]["price"]


def test_hours_sum_up_their_minutes_and_days_end_at_new_york_midnight(get: Get) -> None:
    hours = bars(get, SETTLED, "2026-06-25T00:00:00Z", "2026-06-28T00:00:00Z", 60)
    days = bars(get, SETTLED, "2026-06-25T00:00:00Z", "2026-06-28T12:00:00Z", 1440)
    assert {row["end_period_ts"] % 3600 for row in hours} == {0}
    assert [row["end_period_ts"] for row in days] == [
        unix(f"2026-06-{day}T04:00:00Z") for day in (26, 27, 28)
    ]
    assert sum(Decimal(r["volume_fp"]) for r in hours) == sum(Decimal(r["volume_fp"]) for r in days)


def test_no_candle_ends_outside_the_window(get: Get) -> None:
    rows = bars(get, SETTLED, "2026-06-26T10:00:00Z", "2026-06-26T11:00:00Z", 1)
    assert rows
    assert all(
        unix("2026-06-26T10:00:00Z") <= r["end_period_ts"] <= unix("2026-06-26T11:00:00Z") for r in rows
    )


@pytest.mark.parametrize(("minutes", "status"), [(5000, 200), (5001, 400)])
def test_a_single_request_is_capped_by_its_range(client: AppClient, minutes: int, status: int) -> None:
    end = unix("2026-06-28T00:00:00Z")
    params = {"start_ts": end - minutes * 60, "end_ts": end, "period_interval": 1}
    response = client.get(f"{KALSHI}/series/KXHIGHNY/markets/{SETTLED}/candlesticks", params)
    assert response.status_code == status
    if status == 400:
        assert response.json()["error"]["details"] == (
            "requested time range with candlesticks: 5001, max candlesticks: 5000"
        )


@pytest.mark.parametrize(("minutes", "status"), [(5000, 200), (5001, 400)])
def test_a_batch_is_capped_by_tickers_times_range(client: AppClient, minutes: int, status: int) -> None:
    end = unix("2026-06-30T00:00:00Z")
    params = {
        "market_tickers": f"{OPEN},{SETTLED}",
        "start_ts": end - minutes * 60,
        "end_ts": end,
        "period_interval": 1,
    }
    response = client.get(f"{KALSHI}/markets/candlesticks", params)
    assert response.status_code == status
    if status == 200:
        assert [row["market_ticker"] for row in response.json()["markets"]] == [OPEN, SETTLED]
    else:
        assert "across all markets: 10002, max candlesticks: 10000" in response.json()["error"]["details"]


def test_historical_candles_use_the_old_names(get: Get) -> None:
    body = get(
        f"{KALSHI}/historical/markets/{OLD}/candlesticks",
        start_ts=unix("2026-04-01T00:00:00Z"),
        end_ts=unix("2026-04-03T12:00:00Z"),
        period_interval=60,
    )
    assert set(body["candlesticks"][0]) == {
        "end_period_ts",
        "yes_bid",
        "yes_ask",
        "price",
        "volume",
        "open_interest",
    }
    assert set(body["candlesticks"][0]["price"]) == {"open", "high", "low", "close", "mean", "previous"}


def ticks(*rows: tuple[Nanos, int, int]) -> Quotes:
    ts, bid, ask = zip(*rows, strict=True)
    return Quotes.of(np.array(ts, np.int64), np.array(bid, np.int64), np.array(ask, np.int64))


def test_a_candle_opens_with_the_quote_in_force_and_includes_its_end() -> None:
    start = parse_time("2026-06-01T00:00:00Z")
    quotes = ticks(
        (start + SECOND, 400_000, 420_000),
        (start + MINUTE, 410_000, 420_000),
        (start + MINUTE + SECOND, 390_000, 430_000),
        (start + 5 * MINUTE - SECOND, ABSENT, ABSENT),
    )
    found = candles(quotes, NO_TRADES, 1, start // SECOND, (start + HOUR) // SECOND)
    assert [(c.end_s - start // SECOND, tuple(c.bid), c.ask.close) for c in found] == [
        (60, (400_000, 410_000, 400_000, 410_000), 420_000),
        (120, (410_000, 410_000, 390_000, 390_000), 430_000),
        (300, (390_000, 390_000, 0, 0), MICRO),
    ]
    assert candles(quotes, NO_TRADES, 1, 0, 60) == []
    assert candles(Quotes.of(*[np.empty(0, np.int64)] * 3), NO_TRADES, 1, 0, 60) == []


def test_a_day_of_daylight_saving_lasts_25_hours() -> None:
    noon = parse_time("2026-11-01T12:00:00Z")
    quotes = ticks(*((noon + n * 6 * HOUR, 400_000 + n * 10_000, 600_000) for n in range(-6, 7)))
    ends = [c.end_s for c in candles(quotes, NO_TRADES, 1440, 0, noon // SECOND + 10 * 86_400)]
    assert {b - a for a, b in pairwise(ends)} == {86_400, 90_000}


def test_a_market_that_opens_later_is_initialized() -> None:
    plan = fifteen_minute_event("2026-06-28T16:15:00Z", 70_000.0)
    client = AppClient(generate_world(3, [plan], plan.opened_at - HOUR))
    body = client.get(f"{KALSHI}/markets", {"status": "unopened"}).json()
    assert [row["status"] for row in body["markets"]] == ["initialized"]


def test_every_kalshi_market_of_the_world_is_classified(world: World) -> None:
    assert {m.resolution.status for m in world.of_venue(Venue.KALSHI)} == {
        ResolutionStatus.OPEN,
        ResolutionStatus.RESOLVED,
        ResolutionStatus.VOID,
    }
