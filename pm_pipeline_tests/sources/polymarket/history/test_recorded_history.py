"""Recorded prices and trades through the client: what was recorded is what is stored, and nothing else."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import DAY, MINUTE, SECOND, Nanos, parse_time, to_nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.units import to_micro
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.ingest import PRICES, TRADES, Outcome, ingest
from pm_pipeline.warehouse.coverage import CoverageStatus
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.polymarket.material import MARKET, page, read, status, venue
from pm_pipeline_tests.sources.server import Server, json_response
from pm_pipeline_tests.warehouse.builders import lake_at

SAMPLES: Final = SHARED / "samples" / "polymarket"
LONDON: Final = "complete_markets/london_27C_2026-07-12_prices_trades_fill.json"


def document(name: str) -> Any:
    return json.loads((SAMPLES / name).read_bytes(), parse_float=Decimal)


def with_tokens(yes: str, no: str, condition: str, opened: Nanos, closed: Nanos | None) -> Market:
    instruments = tuple(
        replace(instrument, token_id=token)
        for instrument, token in zip(MARKET.instruments, (yes, no), strict=True)
    )
    return replace(
        MARKET, instruments=instruments, condition_id=condition, opened_at=opened, traded_until=closed
    )


def stored(lake: Lake, table: str, market: Market, now: Nanos, **servers: Any) -> Outcome:
    async def run() -> Outcome:
        async with venue(**servers) as adapter:
            assert await adapter.now() == now
            [outcome] = await ingest(adapter, lake, table, [market])
            return outcome

    return asyncio.run(run())


def told(histories: dict[str, list[dict[str, Any]]], spacing: int = 60) -> Server:
    """The CLOB with recorded points, at the fineness in which they were recorded."""

    def answer(request: Request) -> Response:
        asked = request.query_params
        start, end = int(asked["startTs"]), int(asked["endTs"])
        fine = int(asked["fidelity"]) * 60 == spacing
        points = [p for p in histories[asked["market"]] if start <= p["t"] <= end] if fine else []
        return json_response(json.dumps({"history": points}, default=float))

    return Server({"/prices-history": answer})


def london() -> tuple[dict[str, Any], Market, Nanos]:
    whole = document(LONDON)
    names = whole["market"]
    first = min(points[0]["t"] for points in whole["price_history"].values())
    last = max(points[-1]["t"] for points in whole["price_history"].values())
    market = with_tokens(
        names["yes_token"], names["no_token"], names["condition_id"], first * SECOND, (last + 1) * SECOND
    )
    return whole, market, parse_time("2026-08-12T00:00:00Z")


@needs_shared
def test_london_a_month_after_its_end_gives_all_of_its_minutes(tmp_path: Any) -> None:
    whole, market, now = london()
    history = whole["price_history"]
    clob = told({whole["market"][f"{side}_token"]: history[side] for side in ("yes", "no")})
    lake = lake_at(tmp_path)
    outcome = stored(lake, PRICES, market, now, clob=clob, data={"/v2/status": status(now)})
    assert outcome.error is None
    assert (outcome.coverage.status, outcome.coverage.rows) == (CoverageStatus.COMPLETE, 1440)
    rows = lake.read(PRICES, str(market.key)).to_pylist()
    for index, side in enumerate(("yes", "no")):
        mine = [(to_nanos(row["ts"]) // SECOND, row["mid"]) for row in rows if row["outcome_index"] == index]
        assert mine == [(p["t"], to_micro(p["p"])) for p in history[side]]
    again = stored(lake, PRICES, market, now, clob=clob, data={"/v2/status": status(now)})
    assert (again.error, again.coverage.rows) == (None, 1440)


def in_the_form_of_v2(row: dict[str, Any]) -> dict[str, Any]:
    names = {
        "proxyWallet": "proxy_wallet",
        "asset": "token_id",
        "conditionId": "condition_id",
        "transactionHash": "transaction_hash",
        "outcomeIndex": "outcome_index",
        "eventSlug": "event_slug",
    }
    return {names.get(name, name): value for name, value in row.items()}


def feed(rows: list[dict[str, Any]], now: Nanos) -> Server:
    def answer(request: Request) -> Response:
        limit, at = int(request.query_params["limit"]), int(request.query_params.get("cursor", "0"))
        following = str(at + limit) if at + limit < len(rows) else None
        return json_response(json.dumps(page(rows[at : at + limit], following), default=str_or_float))

    return Server({"/v2/status": status(now), "/v2/trades": answer})


def str_or_float(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else str(value)


@needs_shared
def test_all_of_londons_recorded_trades_are_stored_as_often_as_they_were_made(tmp_path: Any) -> None:
    whole, market, now = london()
    recorded = [in_the_form_of_v2(row) for row in whole["market_trades_near_fill"]]
    assert len(recorded) == 214
    assert [row["timestamp"] for row in recorded] == sorted(
        (row["timestamp"] for row in recorded), reverse=True
    )  # the order that reading on rests on
    lake = lake_at(tmp_path)
    outcome = stored(lake, TRADES, market, now, data=feed(recorded, now))
    assert (outcome.error, outcome.coverage.rows) == (None, 214)
    tokens = {instrument.token_id: instrument.outcome_index for instrument in market.instruments}
    made = Counter(
        (
            row["timestamp"],
            row["transaction_hash"],
            tokens[row["token_id"]],
            row["side"].lower(),
            row["proxy_wallet"],
            to_micro(Decimal(str(float(row["size"]))), "half_even"),
        )
        for row in recorded
    )
    rows = lake.read(TRADES, str(market.key)).to_pylist()
    names = ("trade_id", "outcome_index", "side", "wallet", "size")
    assert made == Counter((to_nanos(row["ts"]) // SECOND, *(row[name] for name in names)) for row in rows)
    assert sum(row["ordinal"] for row in rows) == 1  # the one pair that is alike
    assert sum(row["price"] % 1000 != 0 for row in rows) > 0  # means of a match lie between two ticks


@needs_shared
def test_recorded_minutes_of_new_york_are_stored_exactly(tmp_path: Any) -> None:
    buckets = document("prices_history/nyc_no_tokens_1min_2026-08-12.json")
    for name, bucket in buckets.items():
        points = bucket["no_history"]
        opened, now = (points[0]["t"] - 60) * SECOND, (points[-1]["t"] + 1) * SECOND
        market = with_tokens("yes", bucket["no_token"], bucket["condition"], opened, None)
        mirrored = [{"t": p["t"], "p": 1 - p["p"]} for p in points]
        lake = lake_at(tmp_path / name)
        clob = told({"yes": mirrored, bucket["no_token"]: points})
        outcome = stored(lake, PRICES, market, now, clob=clob, data={"/v2/status": status(now)})
        assert outcome.error is None
        rows = lake.read(PRICES, str(market.key)).to_pylist()
        mine = [(to_nanos(row["ts"]) // SECOND, row["mid"]) for row in rows if row["outcome_index"] == 1]
        assert mine == [(p["t"], to_micro(p["p"])) for p in points]


@needs_shared
def test_the_recorded_buckets_of_the_data_api_are_stored_one_bucket_later(tmp_path: Any) -> None:
    answer = document("data_api_v2/prices_history_2026-09-14.json")
    stamps = [point["timestamp"] for point in answer["data"]]
    assert all(stamp % 300 == 0 or stamp % 60 == 0 for stamp in stamps)  # a multiple of its length: no help
    opened, now = (stamps[0] - 300) * SECOND, (stamps[-1] + 120) * SECOND
    market = with_tokens("yes", "no", "0x", opened, None)

    def history(request: Request) -> Response:
        fine = request.query_params["bucket_seconds"] == "60"
        rows = [
            point | {"price": float(point["price"])}
            for point in answer["data"]
            if int(request.query_params["start"]) <= point["timestamp"] < int(request.query_params["end"])
        ]
        return json_response(json.dumps(page(rows if fine else [])))

    servers = {"/v2/status": status(now), "/v2/prices-history": history}
    lake = lake_at(tmp_path)
    outcome = stored(lake, PRICES, market, now, clob={"/prices-history": {"history": []}}, data=servers)
    assert outcome.error is None
    assert outcome.coverage.status is CoverageStatus.PARTIAL
    assert "buckets of the Data API stand in" in outcome.coverage.reason
    rows = lake.read(PRICES, str(market.key)).to_pylist()
    assert [(to_nanos(row["known_at"]) - MINUTE) // SECOND for row in rows] == stamps * 2


@needs_shared
def test_a_recorded_row_of_the_whole_feed_is_a_trade_of_its_market() -> None:
    for row in document("data_api_v2/trades_global_2026-09-14.json")["data"]:
        now = (row["timestamp"] + 3600) * SECOND
        market = with_tokens(row["token_id"], "no", row["condition_id"], now - DAY, None)
        (trade,) = read(partial(_trades_of, market), data=feed([row], now))
        assert (trade["outcome_index"], trade["price"]) == (0, to_micro(row["price"]))
        assert to_nanos(trade["ts"]) == row["timestamp"] * SECOND


def _trades_of(market: Market, adapter: Any) -> Any:
    return adapter.get_trades(market)


# anything at all

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
times = st.integers(MARKET.opened_at // SECOND, MARKET.traded_until // SECOND)  # type: ignore[operator]


def bodies(name: str, point: dict[str, Any]) -> st.SearchStrategy[Any]:
    one = st.fixed_dictionaries({}, optional={k: st.just(v) | anything | times for k, v in point.items()})
    return anything | st.fixed_dictionaries({name: st.lists(one | anything, max_size=3) | anything})


@pytest.mark.parametrize("path", ["clob", "data"])
@given(data=st.data())
def test_any_json_is_a_price_history_or_a_source_error(path: str, data: st.DataObject) -> None:
    if path == "clob":
        body = data.draw(bodies("history", {"t": 1783700000, "p": 0.5}))
        servers: dict[str, Any] = {"clob": {"/prices-history": json_response(json.dumps(body))}}
    else:
        rows = data.draw(bodies("data", {"timestamp": 1783700000, "price": 0.5, "resolution_seconds": 60}))
        tail = {"pagination": {"has_more": False, "next_cursor": None}}
        body = rows | tail if isinstance(rows, dict) else rows
        servers = {
            "clob": {"/prices-history": {"history": []}},
            "data": {"/v2/prices-history": json_response(json.dumps(body))},
        }
    with suppress(SourceError):
        for row in read(lambda adapter: adapter.get_prices(MARKET), **servers):
            assert 0 < row["mid"] < 1_000_000
            assert MARKET.opened_at <= to_nanos(row["ts"]) <= to_nanos(row["known_at"])  # type: ignore[operator]
