"""Recorded answers of the venue, and anything at all, through the parsers."""

import gzip
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.clock import SECOND, to_nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.units import from_micro
from pm_pipeline.sources.errors import BadResponse, SourceError
from pm_pipeline.sources.polymarket.books import clob
from pm_pipeline.sources.polymarket.catalog import gamma
from pm_pipeline.sources.polymarket.data import record
from pm_pipeline.sources.polymarket.history import trades
from pm_pipeline.sources.polymarket.wallets.records import PositionRow
from pm_pipeline.sources.polymarket.wire import (
    GammaMarket,
    History,
    PricePoint,
    ResolutionRow,
    TradeRow,
)
from pm_pipeline.sources.wire import convert
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.polymarket.material import MARKET, gamma_market, page, read
from pm_pipeline_tests.sources.server import json_response

SAMPLES = SHARED / "samples" / "polymarket"
DECODER = msgspec.json.Decoder(float_hook=Decimal)


def documents(name: str) -> Iterator[Any]:
    path = SAMPLES / name
    body = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    lines = body.splitlines() if "jsonl" in name or "ndjson" in name else [body]
    return (DECODER.decode(line) for line in lines)


def raw_markets(value: Any) -> Iterator[dict[str, Any]]:
    """Every Gamma market in a document, whatever it is wrapped in."""
    if isinstance(value, list):
        for item in value:
            yield from raw_markets(item)
    elif isinstance(value, dict):
        if "conditionId" in value and "outcomes" in value:
            yield value
        else:
            for name, item in value.items():
                if name != "clob_quotes":
                    yield from raw_markets(item)


@needs_shared
@pytest.mark.parametrize(
    ("name", "tradable", "unlisted"),
    [
        ("gamma/markets_keyset_page_xi_2026-10-06.json", 2, 0),
        ("gamma/btc5m_updown_markets_resolved_2026-07-24.jsonl.gz", 292, 0),
        ("gamma/weather_events_raw_2026-06-16.ndjson.gz", None, None),
        ("gamma/weather_events_raw_2026-07-03.ndjson.gz", None, None),
        ("gamma/pmvl_ext_market.json", 1, 0),
        ("gamma/pmvl_markets.json", 3, 0),
        ("gamma/pmvl_events.json", None, None),
        ("gamma/nba_event_atl_lal_2026-01-13.json", None, None),
        ("gamma/drmanhattan_polymarket_markets.json", 5, 0),
        ("gamma/nautilus_gamma_event.json", None, None),
        ("gamma/nautilus_search_response.json", None, None),
        ("gamma/nautilus_gamma_market_sports_market_money_line.json", 1, 0),
        ("gamma/nautilus_gamma_market_sports_market_map_handicap.json", 1, 0),
        ("gamma/nautilus_gamma_market_closed_binary_accepting_true.json", 1, 0),
        ("gamma/nautilus_gamma_market_closed_binary_accepting_false.json", 1, 0),
        # pools of 2020 to 2022, without an order book
        ("gamma/nautilus_gamma_market_closed_zero_zero_legacy.json", 0, 1),
        ("gamma/nautilus_gamma_market_closed_nonbinary_legacy.json", 0, 1),
        ("gamma/wakeupnemo_markets_page_00000_offset_00000000.json.gz", 25, 0),
        ("gamma/wakeupnemo_markets_page_00013_offset_00000325.json.gz", 25, 0),
        ("gamma/wakeupnemo_markets_page_00110_offset_00002750.json.gz", 25, 0),
        ("gamma/wakeupnemo_markets_page_01030_offset_00025750.json.gz", 25, 0),
    ],
)
def test_every_recorded_market_is_read(name: str, tradable: int | None, unlisted: int | None) -> None:
    found: list[Market] = []
    left_out: list[str] = []
    for document in documents(name):
        for row in raw_markets(document):
            raw = convert(row, GammaMarket, name)
            reason = gamma.unlisted(raw)
            if reason is None:
                found.append(gamma.to_market(raw, name))
            else:
                left_out.append(reason)
    assert found or left_out
    assert tradable is None or (len(found), len(left_out)) == (tradable, unlisted)
    for market in found:
        assert len(market.instruments) == 2
        assert market.opened_at is not None
        assert market.traded_until is None or market.traded_until > market.opened_at


@needs_shared
def test_the_weather_group_of_munich_excludes_one_another() -> None:
    (first, *_) = documents("gamma/weather_events_raw_2026-07-03.ndjson.gz")
    event = first["gamma_events"][0]
    raws = [convert(row, GammaMarket, "x") for row in raw_markets(event)]
    groups = {gamma.to_market(raw, "x").group_key for raw in raws if gamma.unlisted(raw) is None}
    assert groups == {f"polymarket:{event['negRiskMarketID']}"}


@needs_shared
@pytest.mark.parametrize(
    "name", ["clob_book/pmvl_book_2026-07-25.json", "clob_book/pmvl_ext_book_2026-08-09.json"]
)
def test_recorded_books_are_read_best_first_and_uncrossed(name: str) -> None:
    (body,) = documents(name)
    book = clob.to_book(body, body["asset_id"])
    assert not book.crossed
    assert len(book.bids) == len(body["bids"])
    assert len(book.asks) == len(body["asks"])


@needs_shared
def test_sixty_recorded_books_are_read_best_first() -> None:
    bodies = [
        body for line in documents("clob_book/books_batch_2026-03-11_run1.jsonl") for body in line["books"]
    ]
    assert len(bodies) == 60
    for body in bodies:
        book = clob.to_book(body, body["asset_id"])
        assert not book.crossed
        if body["bids"] and body["asks"]:  # the venue puts the best level last
            best = (Decimal(body["bids"][-1]["price"]), Decimal(body["asks"][-1]["price"]))
            assert (from_micro(book.bid or 0), from_micro(book.ask or 0)) == best


@needs_shared
def test_a_book_of_before_the_tick_size_field_is_read_too() -> None:
    (body,) = documents("clob_book/nautilus_book_2024.json")
    assert "tick_size" not in body
    assert clob.to_book(body, body["asset_id"]).bid == 100_000


@needs_shared
def test_recorded_answers_of_the_data_api_are_read() -> None:
    (feed,) = documents("data_api_v2/trades_global_2026-09-14.json")
    rows = [convert(row, TradeRow, "x") for row in feed["data"]]
    assert [(row.side, str(row.size), str(row.price)) for row in rows] == [
        ("BUY", "22.84", "0.52"),
        ("BUY", "5.0", "0.002"),
    ]
    (prices,) = documents("data_api_v2/prices_history_2026-09-14.json")
    assert [convert(p, PricePoint, "x").resolution_seconds for p in prices["data"]] == [60, 60]
    (resolutions,) = documents("data_api_v2/resolutions_2026-09-14.json")
    assert convert(resolutions["data"][0], ResolutionRow, "x").payouts == [1_000_000, 0]


@needs_shared
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("data_api_v1/nautilus_trades_sanitised.json", TradeRow),
        ("data_api_v1/wallet_trades_milan_june.json", TradeRow),
        ("data_api_v1/nautilus_positions.json", PositionRow),
    ],
)
def test_the_retired_data_api_is_refused_for_its_names(name: str, kind: type) -> None:
    (document,) = documents(name)
    rows = (
        document if isinstance(document, list) else next(v for v in document.values() if isinstance(v, list))
    )
    with pytest.raises(
        BadResponse, match=r"x: a row of the retired Data API v1 \(asset, conditionId, proxyWallet"
    ):
        record(rows[0], kind, "x")


@needs_shared
def test_recorded_mid_points_of_one_minute_are_read_exactly() -> None:
    (document,) = documents("prices_history/nyc_no_tokens_1min_2026-08-12.json")
    for bucket in document.values():
        history = convert({"history": bucket["no_history"]}, History, "x").history
        assert [point.p for point in history] == [point["p"] for point in bucket["no_history"]]


@needs_shared
def test_london_the_match_of_ten_legs_is_one_trade_of_its_taker() -> None:
    """Golden: 166.68 contracts for 44.274 dollars, told by the retired API leg by leg, by v2 as one row."""
    (document,) = documents("complete_markets/london_27C_2026-07-12_prices_trades_fill.json")
    market = document["market"]
    fill = document["known_onchain_fill"]
    (taker,) = document["target_trades"]
    row = {
        "proxy_wallet": taker["proxyWallet"],
        "side": taker["side"],
        "token_id": taker["asset"],
        "condition_id": taker["conditionId"],
        "size": taker["size"],
        "price": taker["price"],
        "timestamp": taker["timestamp"],
        "outcome_index": 999,
        "transaction_hash": taker["transactionHash"],
    }
    tokens = (market["yes_token"], market["no_token"])
    london = _with_tokens(tokens, market["condition_id"])
    answer = json_response(msgspec.json.Encoder(decimal_format="number").encode(page([row])).decode())
    (trade,) = read(lambda adapter: adapter.get_trades(london), data={"/v2/trades": answer})
    assert (trade["outcome_index"], trade["side"], trade["size"]) == (0, "buy", 166_680_000)
    assert trade["price"] == 265_623  # 44.274 / 166.68 = 0.26562275…, to the micro-dollar
    assert to_nanos(trade["ts"]) == fill["timestamp"] * SECOND
    assert to_nanos(trade["known_at"]) == (fill["timestamp"] + 1) * SECOND


def _with_tokens(tokens: tuple[str, str], condition: str) -> Market:
    instruments = tuple(
        replace(instrument, token_id=token)
        for instrument, token in zip(MARKET.instruments, tokens, strict=True)
    )
    return replace(MARKET, instruments=instruments, condition_id=condition)


# anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
odd = json_values | st.sampled_from(
    ["", "1e999999999", "NaN", "-0", "0.5", '["a","b"]', "2026-01-01T00:00:00Z"]
)


def shaped(example: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The example with some of its fields replaced by anything, or missing."""
    return st.fixed_dictionaries({}, optional={name: st.just(value) | odd for name, value in example.items()})


GAMMA = {
    **gamma_market(closed=True, closedTime="2026-07-12 18:00:00+00", negRisk=True, negRiskMarketID="0x2"),
    "orderPriceMinTickSize": Decimal("0.01"),
    "volumeNum": Decimal("1234.5"),
    "feeSchedule": None,
    "events": [{"id": "1"}],
}


@given(shaped(GAMMA) | json_values)
def test_any_json_is_a_market_or_a_source_error(value: Any) -> None:
    with suppress(SourceError):
        raw = convert(value, GammaMarket, "/m")
        if gamma.unlisted(raw) is None:
            market = gamma.to_market(raw, "/m")
            assert 0 < market.ticks[0].step <= market.ticks[0].end


@given(
    shaped(
        {"asset_id": "1", "timestamp": "1784958701198", "bids": [{"price": "0.1", "size": "1"}], "asks": []}
    )
    | json_values
)
def test_any_json_is_a_book_or_a_source_error(value: Any) -> None:
    with suppress(SourceError):
        book = clob.to_book(value, "1")
        assert all(0 <= level.price <= 1_000_000 and level.size > 0 for level in book.bids + book.asks)


TRADE = {
    "proxy_wallet": "w", "side": "BUY", "token_id": "111", "condition_id": MARKET.condition_id, "size": 1,
    "price": Decimal("0.5"), "timestamp": 1783862192, "transaction_hash": "t",
}  # fmt: skip


@given(shaped(TRADE) | json_values)
def test_any_json_is_a_trade_or_a_source_error(value: Any) -> None:
    outcomes = {i.token_id: i.outcome_index for i in MARKET.instruments}
    with suppress(SourceError):
        row = trades._trade(convert(value, TradeRow, "/t"), MARKET, outcomes)
        assert row["size"] >= 0
        assert 0 <= row["price"] <= 1_000_000
