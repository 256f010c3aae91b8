"""The subgraph: no row lost at a border, no answer believed that cannot be right, and the freeze."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.markets.clock import SECOND
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.errors import BadResponse, RepeatedCursor, SourceError
from pm_pipeline.sources.polymarket.onchain import goldsky
from pm_pipeline.sources.polymarket.onchain.fills import Events, to_rows
from pm_pipeline.sources.polymarket.onchain.goldsky import FROZEN_AT, FROZEN_BLOCK, Fill, Subgraph, to_events
from pm_pipeline_tests.sources.polymarket.chain_material import address, digest
from pm_pipeline_tests.sources.polymarket.material import MARKET
from pm_pipeline_tests.sources.server import client_of, json_response

START = 1_760_000_000
META = {"block": {"number": FROZEN_BLOCK, "timestamp": FROZEN_AT // SECOND}, "hasIndexingErrors": False}
Row = dict[str, str]
Spoil = Callable[[int, dict[str, Any]], Any]


def fill(number: int, second: int = START, *, buys: bool = True) -> Row:
    tx, order = digest("tx", number), digest("order", number)
    return {
        "id": f"{tx}_{order}",
        "transactionHash": tx,
        "timestamp": str(second),
        "orderHash": order,
        "maker": address("m"),
        "taker": address("t"),
        "makerAssetId": "0" if buys else "111",
        "takerAssetId": "111" if buys else "0",
        "makerAmountFilled": "300",
        "takerAmountFilled": "1000",
        "fee": "0",
    }


def serving(
    rows: Sequence[Row], spoil: Spoil = lambda n, page: page, meta: Any = META
) -> httpx.ASGITransport:
    """A subgraph of these rows; ``spoil`` may change the n-th answer, counted from 1."""
    asked = 0

    def page(where: Mapping[str, Any], asset: str, after: str) -> list[Row]:
        found = [
            row
            for row in rows
            if int(where["from"]) <= int(row["timestamp"]) < int(where["to"])
            and row["id"] > after
            and row[asset] in where["tokens"]
        ]
        return sorted(found, key=lambda row: row["id"])[: goldsky.PAGE]

    async def answer(request: Request) -> Any:
        nonlocal asked
        asked += 1
        body = await request.json()
        where = body["variables"]
        data = {
            "bought": page(where, "takerAssetId", where["bought"]),
            "sold": page(where, "makerAssetId", where["sold"]),
            "_meta": meta,
        }
        return spoil(asked, {"data": data})

    async def handle(request: Request) -> Response:
        return json_response(await answer(request))

    return httpx.ASGITransport(Starlette(routes=[Route("/gn", handle, methods=["POST"])]))


def read(server: httpx.ASGITransport, seconds: int = 86_400) -> list[Events]:
    async def run() -> list[Events]:
        async with client_of(server) as client, Subgraph(client, "/gn") as subgraph:
            window = Window(START * SECOND, (START + seconds) * SECOND)
            return [piece async for piece in subgraph.events(MARKET, window)]

    return asyncio.run(run())


def ids_of(pieces: Sequence[Events]) -> list[str]:
    events = Events.joined(pieces)
    return sorted(
        f"0x{bytes(tx).hex()}_0x{bytes(order).hex()}"
        for tx, order in zip(events.tx, events.order_hash, strict=True)
    )


@pytest.mark.parametrize(("count", "page"), [(25, 10), (20, 10), (30, 10), (1, 10), (0, 10), (11, 1)])
def test_no_row_of_one_second_is_lost_at_the_border_of_a_page(
    monkeypatch: pytest.MonkeyPatch, count: int, page: int
) -> None:
    monkeypatch.setattr(goldsky, "PAGE", page)
    rows = [fill(n, buys=n % 3 > 0) for n in range(count)]
    assert ids_of(read(serving(rows))) == sorted(row["id"] for row in rows)


def test_a_window_of_many_rows_is_read_in_pieces_of_whole_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goldsky, "PAGE", 5)
    monkeypatch.setattr(goldsky, "_FIRST_LENGTH", 64)
    rows = [fill(n, START + n // 3) for n in range(300)]
    pieces = read(serving(rows), seconds=400)
    assert ids_of(pieces) == sorted(row["id"] for row in rows)
    spans = [(int(piece.ts.min()), int(piece.ts.max())) for piece in pieces]
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    assert len(spans) >= 3


def test_the_window_does_not_hold_its_end() -> None:
    rows = [fill(0, START - 1), fill(1, START), fill(2, START + 9), fill(3, START + 10)]
    assert ids_of(read(serving(rows), seconds=10)) == sorted(row["id"] for row in rows[1:3])


ROWS = [fill(n) for n in range(7)]


def bought(page: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {"data": page["data"] | {"bought": rows}}


SPOILS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "empty": lambda page: bought(page, []),
    "half": lambda page: bought(page, page["data"]["bought"][::2]),
    "twice": lambda page: bought(page, page["data"]["bought"] + page["data"]["bought"][-1:]),
    "shuffled": lambda page: bought(page, page["data"]["bought"][::-1]),
}


@pytest.mark.parametrize("page", [3, 1000])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("how", SPOILS)
def test_one_wrong_answer_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, how: str, nth: int, page: int
) -> None:
    monkeypatch.setattr(goldsky, "PAGE", page)
    server = serving(ROWS, lambda n, body: SPOILS[how](body) if n == nth else body)
    assert ids_of(read(server)) == sorted(row["id"] for row in ROWS)


def test_a_page_that_always_comes_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goldsky, "PAGE", 3)
    first = sorted(ROWS, key=lambda row: row["id"])[:3]
    with pytest.raises(RepeatedCursor, match="came again"):
        read(serving(ROWS, lambda n, page: bought(page, first)))


def test_a_page_out_of_order_for_ever_is_an_error() -> None:
    with pytest.raises(BadResponse, match="do not rise"):
        read(serving(ROWS, lambda n, page: SPOILS["shuffled"](page)))


def behind(page: dict[str, Any]) -> dict[str, Any]:
    """The answer of a replica that has not indexed the fourth second yet, and says so in ``_meta``."""
    known = [row for row in page["data"]["bought"] if int(row["timestamp"]) < START + 3]
    meta = META | {"block": {"number": FROZEN_BLOCK - 500, "timestamp": START + 3}}
    return {"data": page["data"] | {"bought": known, "_meta": meta}}


@pytest.mark.parametrize("lags", [range(1, 3), range(2, 4), range(1, 4, 2)])
def test_a_replica_that_is_behind_is_not_believed_however_often_it_repeats_itself(lags: range) -> None:
    rows = [fill(n, START + n) for n in range(6)]
    server = serving(rows, lambda n, page: behind(page) if n in lags else page)
    assert ids_of(read(server)) == sorted(row["id"] for row in rows)
    with pytest.raises(BadResponse, match=f"knows the chain to block {FROZEN_BLOCK - 500}"):
        read(serving(rows, lambda n, page: behind(page)))


def test_the_last_second_that_the_subgraph_knows_can_be_read() -> None:
    at_end = {"block": {"number": 7, "timestamp": START + 9}, "hasIndexingErrors": False}
    assert len(ids_of(read(serving([fill(1, START + 9)], meta=at_end), seconds=10))) == 1
    with pytest.raises(BadResponse, match="was asked for what goes to"):
        read(serving([fill(1)], meta=at_end), seconds=11)


def test_an_answer_that_never_stays_the_same_is_an_error() -> None:
    def fickle(n: int, page: dict[str, Any]) -> Any:
        return bought(page, page["data"]["bought"][: n % 5])

    with pytest.raises(BadResponse, match="answered differently"):
        read(serving(ROWS, fickle))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"errors": [{"message": "indexing_error"}]}, "indexing_error"),
        ({"errors": [{"message": "Store error: timeout"}], "data": None}, "Store error"),
        ({"errors": [{}]}, "no message"),
        ({}, "neither data nor errors"),
        (
            {"data": {"bought": [], "sold": [], "_meta": META | {"hasIndexingErrors": True}}},
            "indexing failed",
        ),
        ({"data": {"bought": [], "sold": []}}, "_meta"),
        ({"data": {"bought": [{"id": 1}], "sold": [], "_meta": META}}, "id"),
        ({"data": {"bought": [], "sold": [], "_meta": META | {"block": {"number": 5}}}}, "time of its last"),
        (
            {"data": {"bought": [], "sold": [], "_meta": META | {"block": {"number": 5, "timestamp": 0}}}},
            "timestamp",
        ),
        ([], "array"),
    ],
)
def test_an_answer_that_is_none_is_an_error_with_its_reason(answer: Any, reason: str) -> None:
    with pytest.raises(BadResponse, match=reason):
        read(serving(ROWS, lambda n, page: answer))


@pytest.mark.parametrize("block", [META["block"], {"number": FROZEN_BLOCK}])
def test_the_last_block_is_that_of_the_freeze(block: Any) -> None:
    async def run() -> goldsky.Reach:
        server = serving([], meta=META | {"block": block})
        async with client_of(server) as client, Subgraph(client, "/gn") as subgraph:
            return await subgraph.reach()

    assert asyncio.run(run()) == goldsky.Reach(FROZEN_BLOCK, FROZEN_AT)


def test_the_subgraph_serves_no_subscriptions() -> None:
    async def run() -> None:
        async with client_of(serving([])) as client:
            goldsky.SubgraphTransport(client, "/gn").subscribe(goldsky.QUERY)

    with pytest.raises(SourceError, match="subscriptions"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"takerAssetId": "999"}, "not asked for"),
        ({"takerAssetId": "0"}, "exchange dollars"),
        ({"makerAssetId": "222"}, "exchange dollars"),
        ({"makerAmountFilled": "-1"}, "makerAmountFilled"),
        ({"takerAmountFilled": str(2**64)}, "takerAmountFilled"),
        ({"fee": "0.5"}, "fee"),
        ({"timestamp": "0"}, "seconds since 1970"),
        ({"maker": "0xabc"}, "maker"),
        ({"taker": "0x" + "z" * 40}, "taker"),
        ({"orderHash": ""}, "orderHash"),
        ({"transactionHash": "0x" + "1" * 63}, "transactionHash"),
    ],
)
def test_a_bad_field_is_refused_by_its_name(change: Row, reason: str) -> None:
    with pytest.raises(BadResponse, match=reason):
        to_events([msgspec.convert(fill(1) | change, Fill)], {"111": 0, "222": 1})


def test_a_market_without_tokens_cannot_be_read() -> None:
    bare = replace(MARKET, instruments=tuple(replace(i, token_id=None) for i in MARKET.instruments))

    async def run() -> None:
        async with client_of(serving([])) as client, Subgraph(client, "/gn") as subgraph:
            async for _ in subgraph.events(bare, Window(0, SECOND)):
                pass

    with pytest.raises(SourceError, match="token id"):
        asyncio.run(run())


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
nearly = st.fixed_dictionaries(
    {name: st.just(value) | st.text("0x19af_ -", max_size=70) | anything for name, value in fill(1).items()}
)


@given(st.lists(nearly, max_size=3) | anything)
@settings(max_examples=150, deadline=None)
def test_any_json_is_rows_or_an_error_of_the_source(found: Any) -> None:
    body = json.dumps({"data": {"bought": found, "sold": [], "_meta": META}})
    try:
        data = goldsky.DECODER.decode(body).data
        assert data is not None
        rows = to_rows(to_events(data.bought, {"111": 0, "222": 1}), MARKET.key, "goldsky", 0)
    except (SourceError, msgspec.ValidationError):
        return
    rows.validate(full=True)
