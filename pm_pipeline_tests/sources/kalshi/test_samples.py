"""Recorded answers of the venue, and anything at all, through the parsers."""

import gzip
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.sources.errors import BadResponse, SourceError
from pm_pipeline.sources.kalshi import history, rest
from pm_pipeline.sources.kalshi.books import BookLog, Frame, book_of
from pm_pipeline.sources.kalshi.wire import Candle, KalshiEvent, KalshiMarket, KalshiSeries, KalshiTrade
from pm_pipeline.sources.wire import convert
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.kalshi.material import MARKET, NOW, TICKER, market

SAMPLES = SHARED / "samples" / "kalshi"
DECODER = msgspec.json.Decoder(float_hook=Decimal)
EVENT = KalshiEvent("E", "S", "title", False)
SERIES = KalshiSeries("S", "Sports")


def document(name: str) -> Any:
    body = (SAMPLES / name).read_bytes()
    return DECODER.decode(gzip.decompress(body) if name.endswith(".gz") else body)


def objects(value: Any, *keys: str) -> Iterator[dict[str, Any]]:
    """Every object that has these keys, wherever it lies."""
    if isinstance(value, dict):
        if all(key in value for key in keys):
            yield value
        for item in value.values():
            yield from objects(item, *keys)
    elif isinstance(value, list):
        for item in value:
            yield from objects(item, *keys)


@needs_shared
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("2026-01_golden_transitional/market_single_response.json", 1),
        ("2026-01_golden_transitional/event_single_response.json", 1),
        ("2026-01_golden_transitional/markets_list_response.json", 5),
        ("2026-06_drmanhattan/kalshi_markets.json", 5),
        ("2026-07_crypto_headless/kxbtc_26jul0921_event_markets.raw.json.gz", 188),
        ("2026-07_crypto_headless/kxeth_26jul1016_event_markets.raw.json.gz", 75),
        ("2026-07_pmvl/kalshi-market.json", 1),
        ("2026-07_pmvl/kalshi_events.json", 9),
        ("2026-07_pmvl/kalshi_markets.json", 3),
        ("2026-07_weather_tmer/kxhighny_open_trimmed.json", 3),
        ("2026-07_weather_tmer/kxhighny_settled_trimmed.json", 2),
        ("2026-08_cockpit/candlesticks_pregame_mlb.json", 1),
        ("2026-08_cockpit/combo_priced_markets.json", 41),
        ("2026-08_cockpit/events_nfl_preseason.json", 64),
        ("2026-08_cockpit/events_sports_nested.json", 245),
        ("2026-08_cockpit/market_single.json", 2),
        ("2026-08_cockpit/markets_settled.json", 44),
    ],
)
def test_every_recorded_market_is_read_and_says_where_it_stands(name: str, count: int) -> None:
    found = list(objects(document(name), "ticker", "status", "event_ticker"))
    assert len(found) == count
    for row in found:
        raw = convert(row, KalshiMarket, name)
        listed = rest.to_market(raw, EVENT, SERIES)
        ended = rest.to_resolution(raw, NOW)
        assert all(0 < tick.step <= tick.start < tick.end < 1_000_000 for tick in listed.ticks)
        assert (ended.payouts is not None) == (row["status"] == "finalized")
        assert (listed.traded_until is None) == (row["status"] == "active")


@needs_shared
def test_markets_in_cents_of_2024_are_refused() -> None:
    rows = list(objects(document("2024-07_cents_sdk/market_data.json"), "_ticker")) or list(
        objects(document("2024-07_cents_sdk/market_data.json"), "ticker")
    )
    assert rows
    with pytest.raises(BadResponse, match="missing required field"):
        convert(rows[0], KalshiMarket, "x")


@needs_shared
def test_the_settled_weather_of_new_york_is_paid_when_the_report_came() -> None:
    """Golden: KXHIGHNY-26JUL10 settled on 2026-07-11 at 12:00:59 UTC, at 85 degrees."""
    found = {}
    for row in document("2026-07_weather_tmer/kxhighny_settled_trimmed.json")["markets"]:
        resolution = rest.to_resolution(convert(row, KalshiMarket, "x"), NOW)
        found[resolution.market_key.native_id] = resolution
    above = found["KXHIGHNY-26JUL10-T94"]
    assert above.payouts == (0, 1_000_000)
    assert above.closed_at == parse_time("2026-07-11T04:59:00Z")
    assert above.resolved_at == above.known_at == parse_time("2026-07-11T12:00:59.542488Z")
    assert sorted(r.payouts for r in found.values() if r.payouts) == [(0, 1_000_000), (1_000_000, 0)]


@needs_shared
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("2026-07_weather_tmer/candlesticks_trimmed.json", 3),
        ("2026-08_cockpit/candlesticks_mlb.json", None),
        ("2026-08_cockpit/candlesticks_pregame_mlb.json", None),
        ("2026-01_golden_transitional/series_candlesticks_response.json", None),
        ("2026-01_golden_transitional/candlesticks_batch_response.json", None),
    ],
)
def test_every_recorded_candle_is_read(name: str, count: int | None) -> None:
    rows = list(objects(document(name), "end_period_ts", "yes_bid"))
    assert len(rows) == count if count is not None else len(rows) > 10
    for row in rows:
        read = history._candle_row(convert(row, Candle, name), row["end_period_ts"] * 10**9, MARKET, 60, name)
        assert read["volume"] >= 0
        bid, ask = read["bid_close"], read["ask_close"]
        assert bid is None or ask is None or bid <= ask


@needs_shared
@pytest.mark.parametrize(
    ("name", "count"),
    [("2026-07_pmvl/kalshi_trades.json", 3), ("2026-01_golden_transitional/trades_list_response.json", 5)],
)
def test_every_recorded_trade_is_read(name: str, count: int) -> None:
    rows = list(objects(document(name), "trade_id"))
    assert len(rows) == count
    for row in rows:
        market_of = replace(MARKET, key=MarketKey(Venue.KALSHI, row["ticker"]))
        read = history.trade_row(convert(row, KalshiTrade, name), market_of, name)
        assert read["side"] == ("buy" if row["taker_side"] == "yes" else "sell")


@needs_shared
@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("2026-07_pmvl/kalshi_orderbook.json", (0, 10)),
        ("2026-01_golden_transitional/orderbook_response.json", (0, 0)),
        ("2026-07_pmvl/kalshi-orderbook.json", None),
        ("2026-08_cockpit/market_single.json", None),
        ("2026-08_cockpit/combo_orderbooks.json", None),
    ],
)
def test_every_recorded_book_is_read_and_uncrossed(name: str, levels: tuple[int, int] | None) -> None:
    found = [*objects(document(name), "orderbook_fp"), *objects(document(name), "orderbook")]
    read = [
        book_of(body, name) for body in found if "orderbook_fp" in body or "yes_dollars" in body["orderbook"]
    ]
    assert read
    for bids, asks in read:
        assert not bids or not asks or max(bids) < min(asks)
        assert levels is None or (len(bids), len(asks)) == levels


@needs_shared
def test_a_book_in_cents_of_2024_is_refused() -> None:
    (book, *_) = document("2024-07_cents_sdk/orderbook_data.json")[0].values()
    assert set(book) >= {"_yes", "_no"}
    with pytest.raises(BadResponse, match="yes_dollars is missing"):
        book_of({"orderbook": {name.lstrip("_"): levels for name, levels in book.items()}}, "x")


@needs_shared
def test_series_and_events_are_read() -> None:
    series = convert(document("2026-07_pmvl/kalshi_series.json")["series"], KalshiSeries, "x")
    assert (series.ticker, series.category, series.tags) == ("KXBTCD", "Crypto", ["Hourly", "BTC"])
    events = list(
        objects(document("2026-08_cockpit/events_sports_nested.json"), "series_ticker", "mutually_exclusive")
    )
    assert len([convert(event, KalshiEvent, "x") for event in events]) == 32


@needs_shared
def test_every_field_that_we_need_is_required_by_the_contract() -> None:
    path = SHARED / "specs" / "kalshi_openapi_marketdata_2026-10.yaml"
    schemas = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["components"][
        "schemas"
    ]
    for name, struct in (
        ("Market", KalshiMarket), ("EventData", KalshiEvent), ("Series", KalshiSeries),
        ("Trade", KalshiTrade), ("MarketCandlestick", Candle), ("MarketCandlestickHistorical", Candle),
    ):  # fmt: skip
        needed = {field.encode_name for field in msgspec.structs.fields(struct) if field.required}
        promised = set(schemas[name]["required"]) | ({"status", "result"} if name == "Market" else set())
        assert needed <= promised


# the order books of three markets, frame by frame

BTC = "2026-05_ws_btc15m"


def frames(name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Frames as the socket gave them; this recorder kept neither their sid nor the envelope."""
    with gzip.open(SAMPLES / BTC / name) as lines:
        for line in lines:
            row = json.loads(line)
            if row["type"] in {"ws_connected", "orderbook_snapshot", "orderbook_delta"}:
                yield row["recv_ns"], {"type": row["type"], "seq": row["seq"], "msg": row["msg"]}


@needs_shared
@pytest.mark.parametrize(
    ("name", "deltas", "kinds"),
    [
        ("KXBTC15M-26MAY150145-45.jsonl.gz", 12_177, {"reset": 2, "gap": 0}),
        ("KXBTC15M-26MAY140045-45_with_reconnect.jsonl.gz", 31_092, {"reset": 2, "gap": 1}),
    ],
)
def test_a_recorded_book_is_replayed_without_a_gap_but_for_the_reconnect(
    name: str, deltas: int, kinds: dict[str, int]
) -> None:
    ticker = name.partition(".")[0].removesuffix("_with_reconnect")
    log = BookLog(replace(MARKET, key=MarketKey(Venue.KALSHI, ticker)))
    rows: list[dict[str, Any]] = []
    sizes: dict[tuple[str, int], int] = {}
    connections = 0
    for received, frame in frames(name):
        if frame["type"] == "ws_connected":
            connections += 1
            rows += log.broken(received) if connections > 1 else []
        elif frame["msg"]["market_ticker"] == ticker:
            rows += log.apply(convert(frame, Frame, name), received)
    counted = {kind: sum(row["kind"] == kind for row in rows) for kind in ("reset", "gap", "level")}
    assert {kind: counted[kind] for kind in kinds} == kinds
    snapshot_levels = sum(
        len(frame["msg"].get(side, ()))
        for _, frame in frames(name)
        if frame["type"] == "orderbook_snapshot" and frame["msg"]["market_ticker"] == ticker
        for side in ("yes_dollars_fp", "no_dollars_fp")
    )
    assert counted["level"] == deltas + snapshot_levels
    assert all(row["known_at"] >= row["ts"] for row in rows)
    assert all(a["known_at"] <= b["known_at"] and a["seq"] <= b["seq"] for a, b in pairwise(rows))
    for row in rows:
        if row["kind"] == "reset":
            sizes.clear()
        elif row["kind"] == "level":
            sizes[(row["side"], row["price"])] = row["size"]
    assert all(size >= 0 for size in sizes.values())


@needs_shared
def test_twelve_markets_on_one_subscription_share_its_numbers() -> None:
    recorded = document("2026-08_cockpit/ws_orderbook_stream.json")
    total = 0
    for ticker in recorded["tickers"]:
        log = BookLog(replace(MARKET, key=MarketKey(Venue.KALSHI, ticker)))
        rows = [
            row
            for each in recorded["frames"]
            for row in log.apply(convert(each["frame"], Frame, "x"), each["received_ms"] * 10**6)
        ]
        assert not log.lost
        assert [row["kind"] for row in rows if row["kind"] != "level"] == ["reset"]
        total += len({row["seq"] for row in rows}) - 1
    assert total == recorded["counts"]["orderbook_delta"] == 245


@needs_shared
def test_raw_frames_of_april_2026_are_read() -> None:
    lines = (SAMPLES / "2026-04_ws_frames" / "kalshi_ws_frames.jsonl").read_text().splitlines()
    recorded = [json.loads(line) for line in lines]
    tickers = {t for each in recorded if (t := json.loads(each["raw"])["msg"].get("market_ticker"))}
    resets = 0
    for ticker in tickers:
        log = BookLog(replace(MARKET, key=MarketKey(Venue.KALSHI, ticker)))
        for each in recorded:
            frame = msgspec.json.decode(each["raw"], type=Frame)
            if frame.type == "error":  # of a channel that the recorder misspelt
                continue
            resets += sum(row["kind"] == "reset" for row in log.apply(frame, each["recv_ts_ns"]))
    assert resets > 1


# anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
odd = json_values | st.sampled_from(
    ["", "1e999999999", "NaN", "-0", "0.5", "2026-01-01T00:00:00Z", "finalized"]
)


def shaped(example: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: st.just(value) | odd for name, value in example.items()})


SETTLED = market(
    status="finalized", result="yes", settlement_ts="2026-07-11T12:00:59Z", settlement_value_dollars="1"
)


@given(shaped(SETTLED) | json_values)
def test_any_json_is_a_market_or_a_source_error(value: Any) -> None:
    with suppress(SourceError):
        raw = convert(value, KalshiMarket, "/m")
        assert rest.to_market(raw, EVENT, SERIES).ticks
        assert rest.to_resolution(raw, NOW).known_at > 0


QUOTE = {"open_dollars": "0.4", "high_dollars": "0.4", "low_dollars": "0.4", "close_dollars": "0.4"}
CANDLE = {
    "end_period_ts": 1783674000, "yes_bid": QUOTE, "yes_ask": QUOTE, "price": {}, "volume_fp": "1",
    "open_interest_fp": "1",
}  # fmt: skip


@given(shaped(CANDLE) | json_values)
def test_any_json_is_a_candle_or_a_source_error(value: Any) -> None:
    with suppress(SourceError):
        row = history._candle_row(convert(value, Candle, "/c"), 1, MARKET, 1, "/c")
        assert row["volume"] >= 0


TRADE = {
    "trade_id": "t", "ticker": TICKER, "count_fp": "1", "yes_price_dollars": "0.5",
    "taker_outcome_side": "no", "created_time": "2026-07-11T12:00:59Z",
}  # fmt: skip


@given(shaped(TRADE) | json_values)
def test_any_json_is_a_trade_or_a_source_error(value: Any) -> None:
    with suppress(SourceError):
        assert history.trade_row(convert(value, KalshiTrade, "/t"), MARKET, "/t")["side"] in {"buy", "sell"}


MSG = {
    "market_ticker": TICKER,
    "price_dollars": "0.5",
    "delta_fp": "1",
    "side": "yes",
    "ts_ms": 1783674000000,
}


@given(
    st.lists(
        st.tuples(st.sampled_from(["orderbook_snapshot", "orderbook_delta", "ok"]), shaped(MSG)), max_size=6
    )
)
def test_any_frames_are_rows_or_a_source_error(frames_of: list[tuple[str, dict[str, Any]]]) -> None:
    log = BookLog(MARKET)
    with suppress(SourceError):
        for seq, (kind, msg) in enumerate(frames_of):
            for row in log.apply(Frame(kind, msg, None, seq), None):
                assert row["kind"] in {"reset", "level", "gap"}
