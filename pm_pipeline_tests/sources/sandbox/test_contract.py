"""The sandbox's answers against the venues' own contract and recorded answers."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pm_pipeline.markets.clock import SECOND
from pm_pipeline.sources.sandbox import World
from pm_pipeline.sources.sandbox.kalshi_ws import life_of
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.sandbox.conftest import CLOB, DATA, GAMMA, KALSHI, Get, token

OPENAPI = SHARED / "specs" / "kalshi_openapi_marketdata_2026-10.yaml"
ASYNCAPI = SHARED / "specs" / "kalshi_asyncapi_2026-08.yaml"
SAMPLES = SHARED / "samples" / "polymarket"

pytestmark = needs_shared


@cache
def contract(path: Path) -> Any:
    """The contract with OpenAPI's ``nullable`` put into JSON Schema's words."""
    return nullable(yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def nullable(node: Any) -> Any:
    if isinstance(node, list):
        return [nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: nullable(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [found, {"type": "null"}]} if node.get("nullable") is True else found


def faults_of(path: Path, schema: str, body: Any) -> list[str]:
    spec = contract(path)
    root = {"$ref": f"#/components/schemas/{schema}", "components": spec["components"]}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(root).iter_errors(body)]


SPAN = {"start_ts": 1782345600, "end_ts": 1782604800}
HIGH = "KXHIGHNY-26JUN26"


@pytest.mark.parametrize(
    ("path", "params", "schema"),
    [
        ("/exchange/status", {}, "ExchangeStatus"),
        ("/exchange/schedule", {}, "GetExchangeScheduleResponse"),
        ("/series", {}, "GetSeriesListResponse"),
        ("/series/KXHIGHNY", {}, "GetSeriesResponse"),
        ("/events", {"with_nested_markets": "true"}, "GetEventsResponse"),
        (f"/events/{HIGH}", {"with_nested_markets": "true"}, "GetEventResponse"),
        ("/markets", {"limit": 1000}, "GetMarketsResponse"),
        (f"/markets/{HIGH}-T87", {}, "GetMarketResponse"),
        ("/markets/KXHIGHNY-26JUN29-B88.5/orderbook", {}, "GetMarketOrderbookResponse"),
        ("/markets/orderbooks", {"tickers": f"{HIGH}-T87"}, "GetMarketOrderbooksResponse"),
        ("/markets/trades", {"limit": 200}, "GetTradesResponse"),
        (
            f"/series/KXHIGHNY/markets/{HIGH}-B84.5/candlesticks",
            {**SPAN, "period_interval": 60},
            "GetMarketCandlesticksResponse",
        ),
        (
            "/markets/candlesticks",
            {**SPAN, "market_tickers": f"{HIGH}-B84.5", "period_interval": 60},
            "BatchGetMarketCandlesticksResponse",
        ),
        ("/historical/cutoff", {}, "GetHistoricalCutoffResponse"),
        ("/historical/markets", {}, "GetMarketsResponse"),
        ("/historical/trades", {"limit": 50}, "GetTradesResponse"),
        (
            "/historical/markets/KXPAYROLLS-26APR03-T100000/candlesticks",
            {"start_ts": 1775000000, "end_ts": 1775200000, "period_interval": 60},
            "GetMarketCandlesticksHistoricalResponse",
        ),
    ],
)
def test_kalshi_answers_keep_the_contract(get: Get, path: str, params: dict[str, Any], schema: str) -> None:
    body = get(KALSHI + path, **params)
    assert len(json.dumps(body)) > 40
    assert faults_of(OPENAPI, schema, body) == []


def test_the_contract_would_notice_a_missing_field(get: Get) -> None:
    body = get(f"{KALSHI}/markets/{HIGH}-T87")
    del body["market"]["result"]
    assert faults_of(OPENAPI, "GetMarketResponse", body) != []


def test_channel_messages_keep_the_contract(world: World) -> None:
    seen: set[str] = set()
    for message in life_of(world.kalshi["KXBTC15M-26JUN281215-15"]):
        if message.type in seen:
            continue
        seen.add(message.type)
        schema = {
            "orderbook_snapshot": "orderbookSnapshotPayload",
            "orderbook_delta": "orderbookDeltaPayload",
        }
        frame = {"type": message.type, "sid": 1, "seq": 1, "msg": message.msg}
        assert faults_of(ASYNCAPI, schema[message.type], frame) == []
    assert seen == {"orderbook_snapshot", "orderbook_delta"}


# --- Polymarket: the keys and types of recorded answers -------------------------------------------------


def read(name: str) -> Any:
    path = SAMPLES / name
    raw = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    if name.endswith((".jsonl.gz", ".ndjson.gz", ".jsonl")):
        return [json.loads(line) for line in raw.splitlines()]
    return json.loads(raw)


@cache
def gamma_samples() -> tuple[list[Any], list[Any]]:
    """Recorded events, and recorded markets of several states."""
    events = [
        e for line in read("gamma/weather_events_raw_2026-06-16.ndjson.gz") for e in line["gamma_events"]
    ]
    markets = [m for event in events for m in event["markets"]]
    markets += read("gamma/markets_keyset_page_xi_2026-10-06.json")["markets"]
    markets += [row["raw"] for row in read("gamma/btc5m_updown_markets_resolved_2026-07-24.jsonl.gz")[:5]]
    markets += read("gamma/pmvl_markets.json")
    markets.append(read("gamma/nautilus_gamma_market_closed_binary_accepting_false.json"))
    return events, markets


def kind(value: Any) -> str:
    """JSON type; a venue's number may or may not have a fraction."""
    return (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    )


def strangers(body: dict[str, Any], samples: list[dict[str, Any]]) -> list[str]:
    """Fields that no sample has, or only with other types."""
    known: dict[str, set[str]] = {}
    for sample in samples:
        for key, value in sample.items():
            known.setdefault(key, set()).add(kind(value))
    return [
        f"{key}: {kind(value)}" for key, value in body.items() if kind(value) not in known.get(key, set())
    ]


ESSENTIAL = {
    "id", "question", "conditionId", "slug", "endDate", "startDate", "outcomes", "outcomePrices", "active",
    "closed", "archived", "questionID", "enableOrderBook", "orderPriceMinTickSize", "orderMinSize",
    "volumeNum", "clobTokenIds", "acceptingOrders", "negRisk", "feesEnabled", "umaResolutionStatuses",
}  # fmt: skip


@pytest.mark.parametrize("closed", ["true", "false"])
def test_gamma_markets_have_the_fields_and_types_of_recorded_ones(get: Get, closed: str) -> None:
    _, samples = gamma_samples()
    for row in get(f"{GAMMA}/markets/keyset", closed=closed, limit=100)["markets"]:
        events = row.pop("events")
        assert strangers(row, samples) == []
        if row["active"]:
            assert set(row) >= ESSENTIAL
        recorded = [event for sample in samples for event in sample.get("events", [])]
        assert strangers(events[0], [*recorded, *gamma_samples()[0]]) == []


def test_gamma_events_have_the_fields_and_types_of_recorded_ones(get: Get) -> None:
    samples, _ = gamma_samples()
    for row in get(f"{GAMMA}/events/keyset", closed="true")["events"]:
        assert strangers(row, samples) == []
        for key in ("tags", "series"):
            recorded = [item for sample in samples for item in sample[key]]
            assert strangers(row[key][0], recorded) == []


def test_clob_markets_have_the_shape_of_recorded_ones(get: Get, world: World) -> None:
    listed = next(m.market for m in world.polymarket.values() if m.resolution.payouts == (1_000_000, 0))
    body = get(f"{CLOB}/markets/{listed.condition_id}")
    sample = read("clob_other/nautilus_clob_market_closed_binary_accepting_true.json")
    assert body.keys() == sample.keys()
    assert body["tokens"][0].keys() == sample["tokens"][0].keys()
    assert [token["winner"] for token in body["tokens"]] == [True, False]


def test_clob_books_have_the_shape_of_recorded_ones(get: Get, world: World) -> None:
    listed = world.by_slug["eth-above-4k-on-july-3-2026"].market
    body = get(f"{CLOB}/book", token_id=token(listed))
    sample = read("clob_book/pmvl_book_2026-07-25.json")
    assert {key: kind(value) for key, value in body.items()} == {k: kind(v) for k, v in sample.items()}
    assert body["bids"][0].keys() == sample["asks"][0].keys()
    market = get(f"{CLOB}/clob-markets/{listed.condition_id}")
    assert set(market) <= {*read("clob_other/clob-markets_xi_2026-10-06.json"), "nr"}


@pytest.mark.parametrize(
    ("path", "sample"),
    [
        ("/v2/trades", "data_api_v2/trades_global_2026-09-14.json"),
        ("/v2/prices-history", "data_api_v2/prices_history_2026-09-14.json"),
        ("/v2/resolutions", "data_api_v2/resolutions_2026-09-14.json"),
        ("/v2/status", "data_api_v2/status_2026-09-14.json"),
    ],
)
def test_data_answers_have_the_shape_of_recorded_ones(get: Get, world: World, path: str, sample: str) -> None:
    listed = world.by_slug["mlb-nyy-bos-2026-06-25"].market
    params: dict[str, dict[str, Any]] = {
        "/v2/prices-history": {"token_id": token(listed), "start": world.now // SECOND - 14 * 86_400},
        "/v2/resolutions": {"condition": listed.condition_id},
    }
    body, recorded = get(DATA + path, limit=2, **params.get(path, {})), read(sample)
    assert body.keys() == recorded.keys()
    mine, theirs = (b["data"][0] if isinstance(b["data"], list) else b["data"] for b in (body, recorded))
    shapes = [{key: kind(value) for key, value in row.items()} for row in (mine, theirs)]
    assert shapes[0] == shapes[1]
    if "pagination" in recorded:
        assert body["pagination"].keys() == recorded["pagination"].keys()
