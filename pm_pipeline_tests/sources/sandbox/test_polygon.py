"""The sandbox's chain: the same trades as its Data API, in the forms of a node and of the subgraph."""

import asyncio
from decimal import Decimal
from typing import Any

import httpx
import pytest

from pm_pipeline.sources.polymarket.onchain.chain import Log, in_order, of_exchanges, require_matched
from pm_pipeline.sources.polymarket.onchain.goldsky import FROZEN_BLOCK, ORDERBOOK, QUERY
from pm_pipeline.sources.sandbox import build_app, polygon
from pm_pipeline.sources.wire import convert
from pm_pipeline_tests.sources.polymarket.chain_material import chain_world
from pm_pipeline_tests.sources.sandbox.conftest import AppClient

NODE = "https://polygon.invalid/"
SUBGRAPH = f"https://api.goldsky.com{ORDERBOOK}"


@pytest.fixture(scope="module")
def chain() -> AppClient:
    return AppClient(chain_world())


def rpc(chain: AppClient, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
    answer = chain.request("POST", NODE, json=body).json()
    assert answer["id"] == 7
    return answer.get("result", answer.get("error"))


def logs(chain: AppClient, first: int = 0, last: int = 2**31, **more: Any) -> Any:
    return rpc(chain, "eth_getLogs", {"fromBlock": hex(first), "toBlock": hex(last), **more})


def ask(chain: AppClient, **where: Any) -> Any:
    variables = {"from": "0", "to": "4000000000", "tokens": [], "bought": "", "sold": "", **where}
    body = QUERY.payload | {"variables": variables}
    return chain.request("POST", SUBGRAPH, json=body).json()


def test_the_active_orders_are_the_trades_of_the_data_api(chain: AppClient) -> None:
    world = chain_world()
    market = next(iter(world.polymarket.values())).market
    page = chain.get(
        "https://data-api.polymarket.com/v2/trades",
        {"condition": market.condition_id, "limit": 1000, "filter_amount": "0.000001"},
    ).json()["data"]
    tokens = {i.token_id for i in market.instruments}
    active = {
        trade.tx: trade
        for second in polygon.trades_on_chain(world, 0, 2**31)
        for trade in second
        if trade.active.token in tokens
    }
    assert len(page) == len(active) > 100
    for row in page:
        trade = active[row["transaction_hash"]]
        assert row["timestamp"] == trade.second
        assert row["proxy_wallet"] == trade.active.wallet
        assert row["token_id"] == trade.active.token
        assert (row["side"] == "BUY") == trade.active.buys
        assert Decimal(str(row["size"])) * 10**6 == trade.active.size
        assert Decimal(str(row["price"])) * trade.active.size == trade.active.cash


def test_all_three_kinds_of_matches_occur() -> None:
    kinds = {
        (trade.active.buys, leg.buys == trade.active.buys)
        for second in polygon.trades_on_chain(chain_world(), 0, 2**31)
        for trade in second
        for leg in trade.resting
    }
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}


def test_logs_are_numbered_whatever_window_or_filter_is_asked_for(chain: AppClient) -> None:
    whole = logs(chain)
    assert in_order([convert(log, Log, "log") for log in whole])
    fills, matches = of_exchanges([convert(log, Log, "log") for log in whole])
    require_matched(fills, matches)
    block = int(whole[50]["blockNumber"], 16)
    assert logs(chain, block, block) == [log for log in whole if log["blockNumber"] == hex(block)]
    address, topic = whole[0]["address"], whole[0]["topics"][0]
    some = logs(chain, address=address, topics=[topic])
    assert some == [log for log in whole if (log["address"], log["topics"][0]) == (address, topic)]


def test_the_exchanges_change_at_the_block_of_the_freeze(chain: AppClient) -> None:
    last_old = max(int(log["blockNumber"], 16) for log in logs(chain) if "blockTimestamp" not in log)
    first_new = min(int(log["blockNumber"], 16) for log in logs(chain) if "blockTimestamp" in log)
    assert last_old <= FROZEN_BLOCK < first_new
    assert int(rpc(chain, "eth_getBlockByNumber", hex(FROZEN_BLOCK), False)["timestamp"], 16) == 1_777_374_040


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("eth_call", [], -32601),
        ("eth_getLogs", [], -32602),
        ("eth_getLogs", [{"fromBlock": "soon", "toBlock": "0x1"}], -32602),
        ("eth_getBlockByNumber", [None], -32602),
    ],
)
def test_a_bad_call_is_an_error_of_the_protocol(
    chain: AppClient, method: str, params: list[Any], code: int
) -> None:
    assert rpc(chain, method, *params)["code"] == code


def test_a_block_of_the_future_is_null_and_too_many_logs_are_refused(
    chain: AppClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert int(rpc(chain, "eth_chainId"), 16) == 137
    head = int(rpc(chain, "eth_blockNumber"), 16)
    assert rpc(chain, "eth_getBlockByNumber", hex(head + 1), False) is None
    monkeypatch.setattr(polygon, "MOST_LOGS", 10)
    assert rpc(chain, "eth_getLogs", {"fromBlock": "0x0", "toBlock": hex(head)})["code"] == -32005


@pytest.mark.parametrize("url", [NODE, SUBGRAPH])
def test_a_body_that_is_no_json_is_refused(chain: AppClient, url: str) -> None:
    assert "error" in chain.request("POST", url, content=b"{").text


def test_the_subgraph_ends_at_the_freeze_and_says_so(chain: AppClient) -> None:
    tokens = [i.token_id for m in chain_world().polymarket.values() for i in m.market.instruments]
    data = ask(chain, tokens=tokens)["data"]
    assert data["_meta"]["block"]["number"] == FROZEN_BLOCK
    rows = data["bought"] + data["sold"]
    assert max(int(row["timestamp"]) for row in rows) <= 1_777_374_040
    assert [row["id"] for row in data["bought"]] == sorted(row["id"] for row in data["bought"])
    assert all(row["makerAssetId"] == "0" for row in data["bought"])
    after = data["bought"][4]["id"]
    assert ask(chain, tokens=tokens, bought=after)["data"]["bought"][0] == data["bought"][5]


@pytest.mark.parametrize("query", ["{ nothing }", "{", "{ orderFilledEvents(first: 5000) { id } }"])
def test_a_query_that_is_none_is_refused(chain: AppClient, query: str) -> None:
    assert chain.request("POST", SUBGRAPH, json={"query": query}).json()["errors"]


def test_both_are_served_behind_one_address() -> None:
    async def run() -> list[int]:
        transport = httpx.ASGITransport(build_app(chain_world()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            call = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}
            node = await client.post("/polygon/", json=call)
            graph = await client.post(f"/goldsky{ORDERBOOK}", json={"query": "{ _meta { deployment } }"})
            return [node.status_code, graph.status_code]

    assert asyncio.run(run()) == [200, 200]
