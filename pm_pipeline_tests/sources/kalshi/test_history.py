from dataclasses import replace
from typing import Any

import pytest

from pm_pipeline.markets.clock import DAY, MINUTE, SECOND, to_nanos
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.errors import BadRequest, BadResponse, QuietSourceError, SourceError
from pm_pipeline.sources.kalshi.history import CANDLES_AT_ONCE, Tiers, _trade_tiers, period_for
from pm_pipeline_tests.sources.kalshi.material import CLOSED, MARKET, OPENED, SERIES, TICKER, read, venue
from pm_pipeline_tests.sources.server import json_response

LIVE = f"/series/{SERIES}/markets/{TICKER}/candlesticks"
ARCHIVED = f"/historical/markets/{TICKER}/candlesticks"
START = OPENED // SECOND


def ohlc(value: str | None, suffix: str = "_dollars") -> dict[str, Any]:
    return {f"{name}{suffix}": value for name in ("open", "high", "low", "close")}


def candle(end: int = START + 60, **changes: Any) -> dict[str, Any]:
    return {
        "end_period_ts": end,
        "yes_bid": ohlc("0.4000"),
        "yes_ask": ohlc("0.4300"),
        "price": ohlc("0.4100"),
        "volume_fp": "12.50",
        "open_interest_fp": "100.00",
        **changes,
    }


def candles(*rows: Any, market: Any = MARKET, **more: Any) -> list[dict[str, Any]]:
    return read(lambda a: a.get_candles(market), {LIVE: {"candlesticks": list(rows)}}, **more)


def test_a_candle_is_known_when_it_ends() -> None:
    (row,) = candles(candle())
    assert to_nanos(row["ts"]) == to_nanos(row["known_at"]) == OPENED + MINUTE
    assert (row["bid_close"], row["ask_close"], row["price_close"]) == (400_000, 430_000, 410_000)
    assert (row["volume"], row["open_interest"], row["period_s"]) == (12_500_000, 100_000_000, 60)


def test_an_empty_side_is_no_quote_and_a_quiet_candle_has_no_price() -> None:
    quiet = candle(yes_bid=ohlc("0.0000"), yes_ask=ohlc("1.0000"), price={"previous_dollars": "0.4"})
    (row,) = candles(quiet)
    assert (row["bid_close"], row["ask_close"], row["price_close"]) == (None, None, None)


def test_the_keys_of_the_archive_tier_are_read_too() -> None:
    old = {
        "end_period_ts": START + 60,
        "yes_bid": ohlc("0.4000", ""),
        "yes_ask": ohlc("0.4300", ""),
        "price": ohlc(None, ""),
        "volume": "12.50",
        "open_interest": "100.00",
    }
    (row,) = candles(old)
    assert (row["bid_open"], row["ask_low"], row["price_open"], row["volume"]) == (
        400_000,
        430_000,
        None,
        12_500_000,
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"yes_bid": {}}, r"yes_bid\.open is missing"),
        ({"yes_ask": ohlc(None)}, r"yes_ask\.open is missing"),
        ({"yes_bid": {"open": 40, "high": 40, "low": 40, "close": 40}}, "not dollars as text"),
        ({"volume_fp": None}, "volume_fp and volume are both missing"),
        ({"end_period_ts": (START + 60) * 1000}, "not a time in seconds"),
        ({"yes_bid": ohlc("40")}, "not a price"),
    ],
)
def test_a_candle_of_another_generation_fails_loudly(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        candles(candle(**changes))


def test_candles_come_once_in_order_and_only_within_the_life_of_the_market() -> None:
    ends = [START + 120, START + 60, START + 120, START, CLOSED // SECOND + 60, CLOSED // SECOND + 120]
    assert [to_nanos(r["ts"]) // SECOND for r in candles(*(candle(end) for end in ends))] == [
        START + 60, START + 120, CLOSED // SECOND + 60,
    ]  # fmt: skip


def test_a_candle_that_has_not_ended_is_left_out() -> None:
    now = OPENED + 90 * SECOND
    open_market = replace(MARKET, traded_until=None)
    server = venue({LIVE: {"candlesticks": [candle(START + 60), candle(START + 120)]}}, now)
    rows = read(lambda a: a.get_candles(open_market), server)
    assert [to_nanos(r["ts"]) // SECOND for r in rows] == [START + 60]


def test_no_request_is_as_long_as_the_venue_refuses_and_windows_meet() -> None:
    long_lived = replace(MARKET, opened_at=OPENED - 10 * DAY)
    server = venue({LIVE: {"candlesticks": []}})
    read(lambda a: a.get_candles(long_lived), server, period=1)
    asked = [params for path, params in server.asked if path == LIVE]
    lengths = [(int(p["end_ts"]) - int(p["start_ts"])) // 60 for p in asked]
    assert max(lengths) <= CANDLES_AT_ONCE < 5_000
    assert len(asked) > 2
    assert [p["end_ts"] for p in asked[:-1]] == [p["start_ts"] for p in asked[1:]]
    assert all("include_latest_before_start" not in p for p in asked)


def test_short_lived_markets_are_read_by_the_minute() -> None:
    assert period_for(Window(0, 14 * DAY)) == 1
    assert period_for(Window(0, 15 * DAY)) == 60


@pytest.mark.parametrize(
    ("served", "closed", "first"),
    [(LIVE, CLOSED, LIVE), (ARCHIVED, CLOSED, LIVE), (ARCHIVED, OPENED, ARCHIVED), (LIVE, OPENED, ARCHIVED)],
)
def test_the_tier_follows_the_cutoff_and_a_404_tries_the_other(served: str, closed: int, first: str) -> None:
    moved = replace(
        MARKET, opened_at=OPENED - 60 * DAY, traded_until=closed - 45 * DAY if closed == OPENED else closed
    )
    server = venue({served: {"candlesticks": []}})
    read(lambda a: a.get_candles(moved), server, period=60)
    paths = [path for path in server.paths if path.endswith("candlesticks")]
    assert paths[0] == first
    assert served in paths


def test_candles_in_neither_tier_are_an_error() -> None:
    with pytest.raises(BadRequest, match="neither tier"):
        read(lambda a: a.get_candles(MARKET), {})
    with pytest.raises(BadRequest) as caught:
        read(lambda a: a.get_candles(MARKET), {LIVE: json_response({"msg": "too long"}, 400)})
    assert caught.value.status == 400
    with pytest.raises(SourceError, match="no series"):
        read(lambda a: a.get_candles(replace(MARKET, series=None)), {})


def test_prices_are_the_quotes_at_the_end_of_each_candle_with_a_mid_only_between_two_sides() -> None:
    rows = read(
        lambda a: a.get_prices(MARKET),
        {LIVE: {"candlesticks": [candle(), candle(START + 120, yes_bid=ohlc("0.0000"))]}},
    )
    assert [(r["bid"], r["ask"], r["mid"], r["resolution_s"]) for r in rows] == [
        (400_000, 430_000, 415_000, 60),
        (None, 430_000, None, 60),
    ]
    assert {r["known_at"] == r["ts"] for r in rows} == {True}


# trades


def trade(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "trade_id": f"t{number}",
        "ticker": TICKER,
        "count_fp": "12.61",
        "yes_price_dollars": "0.3800",
        "no_price_dollars": "0.6200",
        "taker_outcome_side": "yes",
        "created_time": "2026-07-10T05:51:39.54467Z",
        "is_block_trade": False,
        **changes,
    }


def trades(*rows: Any) -> list[dict[str, Any]]:
    return read(lambda a: a.get_trades(MARKET), {"/markets/trades": {"trades": list(rows), "cursor": ""}})


def test_a_taker_for_no_has_sold_yes_at_the_same_price() -> None:
    yes, no = trades(trade(1), trade(2, taker_outcome_side="no"))
    assert (yes["side"], no["side"]) == ("buy", "sell")
    assert {(r["outcome_index"], r["price"], r["size"]) for r in (yes, no)} == {(0, 380_000, 12_610_000)}
    assert to_nanos(yes["ts"]) == to_nanos(yes["known_at"])


def test_block_trades_are_marked_and_the_older_names_are_read() -> None:
    old = trade(2, count_fp=None, count=5, taker_outcome_side=None, taker_side="no", is_block_trade=True)
    (row,) = trades({k: v for k, v in old.items() if v is not None})
    assert (row["is_block"], row["size"], row["side"]) == (True, 5_000_000, "sell")


def test_trades_come_once_oldest_first_from_both_tiers() -> None:
    early = "2026-06-14T00:00:00Z"
    old = replace(MARKET, opened_at=OPENED - 30 * DAY)
    both = trade(9, created_time=early)
    server = venue(
        {
            "/historical/trades": {
                "trades": [both, trade(8, created_time="2026-06-13T00:00:00Z")],
                "cursor": "",
            },
            "/markets/trades": {
                "trades": [trade(2, created_time="2026-07-10T06:00:00Z"), trade(1), trade(1), both],
                "cursor": "",
            },
        }
    )
    rows = read(lambda a: a.get_trades(old), server)
    assert [r["trade_id"] for r in rows] == ["t8", "t9", "t1", "t2"]


def test_the_tier_of_a_week_follows_the_cutoff() -> None:
    tiers = Tiers(0, 100)
    assert _trade_tiers(Window(100, 200), tiers) == ("/markets/trades",)
    assert _trade_tiers(Window(0, 100), tiers) == ("/historical/trades",)
    assert _trade_tiers(Window(50, 150), tiers) == ("/historical/trades", "/markets/trades")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ticker": "OTHER"}, "asked for"),
        ({"taker_outcome_side": "both"}, "taker_outcome_side is 'both'"),
        ({"yes_price_dollars": "38"}, "not a price"),
        ({"created_time": "now"}, "created_time"),
        ({"count_fp": None}, "count_fp and count are both missing"),
    ],
)
def test_an_impossible_trade_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        trades({k: v for k, v in trade(**changes).items() if v is not None})


@pytest.mark.parametrize(
    ("feed", "what"), [("get_candles", "candle"), ("get_prices", "candle"), ("get_trades", "trade")]
)
def test_a_market_that_was_traded_has_candles_and_trades(feed: str, what: str) -> None:
    traded, never = (replace(MARKET, volume=volume) for volume in (12_500_000, 0))
    nothing: Any = {LIVE: {"candlesticks": []}, "/markets/trades": {"trades": [], "cursor": ""}}
    with pytest.raises(QuietSourceError, match=rf"no {what} of .*, of which 12\.5\S* contracts were traded"):
        read(lambda a: getattr(a, feed)(traded), nothing)
    assert read(lambda a: getattr(a, feed)(never), nothing) == []


def test_candles_and_trades_are_read_on_from_a_time() -> None:
    since = OPENED + 10 * MINUTE
    ends = [START + 60 * minute for minute in (5, 10, 11, 12)]
    server = venue({LIVE: {"candlesticks": [candle(end) for end in ends]}})
    rows = read(lambda a: a.get_prices(MARKET, {0: since}), server)
    assert [to_nanos(row["ts"]) for row in rows] == [OPENED + 11 * MINUTE, OPENED + 12 * MINUTE]
    (asked,) = [params for path, params in server.asked if path == LIVE]
    assert asked["start_ts"] == str(since // SECOND)
    quiet = replace(MARKET, volume=12_500_000)
    assert read(lambda a: a.get_prices(quiet, {0: since}), {LIVE: {"candlesticks": []}}) == []
