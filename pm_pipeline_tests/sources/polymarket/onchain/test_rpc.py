"""A node: windows that shrink, answers that are checked, and an address that nobody learns."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.archive import ArchivingTransport, ReplayTransport
from pm_pipeline.sources.endpoint import EndpointTransport
from pm_pipeline.sources.errors import BadRequest, BadResponse, SourceUnavailable
from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.polymarket.onchain import rpc
from pm_pipeline.sources.polymarket.onchain.chain import Log, tokens_of
from pm_pipeline.sources.polymarket.onchain.fills import Events
from pm_pipeline.sources.polymarket.onchain.rpc import Node
from pm_pipeline.warehouse.archive import PageArchive
from pm_pipeline_tests.sources.polymarket.chain_material import Order, filled, match_logs
from pm_pipeline_tests.sources.polymarket.material import MARKET
from pm_pipeline_tests.sources.server import Sleeps, client_of, json_response

GENESIS = 1_700_000_000
FIRST = rpc.FIRST_BLOCK
HEAD = FIRST + 5_000
BUY, SELL = True, False
KEY = "s3cr3t-k3y-of-the-node"

Spoil = Callable[[int, str, Any], Any]


def chain(per_block: int = 1, blocks: range = range(FIRST, HEAD, 100), timed: bool = True) -> list[Log]:
    """A match in every hundredth block."""
    found = []
    for block in blocks:
        for n in range(per_block):
            logs = match_logs(
                [Order("a", SELL, 0, 100 + n, 30)],
                Order("t", BUY, 0, 100 + n, 30),
                tx=f"{block}:{n}",
                start=10 * n,
            )
            placed = {"block_number": hex(block), "block_timestamp": hex(GENESIS + block) if timed else None}
            found += [msgspec.structs.replace(log, **placed) for log in logs]
    return found


class FakeNode:
    """A node over these logs with one block a second; it refuses more than ``most`` logs at once."""

    def __init__(
        self, logs: list[Log], most: int = 10**9, spoil: Spoil = lambda n, method, result: result
    ) -> None:
        self.spans: list[int] = []
        self.asked = 0
        self.chain = rpc.CHAIN
        self._logs, self._most, self._spoil = logs, most, spoil
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        method, params = body["method"], body["params"]
        result: Any
        if method == "eth_chainId":
            result = hex(self.chain)
        elif method == "eth_blockNumber":
            result = hex(HEAD + rpc.CONFIRMATIONS)
        elif method == "eth_getBlockByNumber":
            result = {"timestamp": hex(GENESIS + int(params[0], 16))}
        else:
            self.asked += 1
            first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
            self.spans.append(last - first + 1)
            found = [
                log
                for log in self._logs
                if first <= int(log.block_number, 16) <= last and log.topics[0] in params[0]["topics"][0]
            ]
            if len(found) > self._most:
                error = {"code": -32005, "message": f"query returned more than {self._most} results"}
                return json_response({"jsonrpc": "2.0", "id": 1, "error": error})
            result = [msgspec.to_builtins(log) for log in found]
            result = self._spoil(self.asked, method, result)
        return result if isinstance(result, Response) else json_response({"id": 1, "result": result})


def read(node: FakeNode, first: int = FIRST, last: int = HEAD, **more: Any) -> Events:
    async def run() -> Events:
        async with client_of(httpx.ASGITransport(node.app), **more) as client:
            window = Window((GENESIS + first) * SECOND, (GENESIS + last) * SECOND)
            pieces = [piece async for piece in Node(client).events(tokens_of([MARKET]), window)]
            return Events.joined(pieces)

    return asyncio.run(run())


@pytest.mark.parametrize("timed", [True, False])
def test_every_fill_of_the_window_comes_once_with_the_time_of_its_block(timed: bool) -> None:
    events = read(FakeNode(chain(timed=timed)), FIRST + 100, FIRST + 1_000)
    assert sorted(set(events.block.tolist())) == list(range(FIRST + 100, FIRST + 1_000, 100))
    assert (events.ts == events.block + GENESIS).all()
    assert len(events) == 18


@pytest.mark.parametrize("most", [4, 7, 40])
def test_windows_shrink_until_the_node_answers(most: int) -> None:
    node = FakeNode(chain(per_block=2), most=most)
    events = read(node)
    assert len(events) == len(range(FIRST, HEAD, 100)) * 4
    assert max(node.spans) <= 2 * rpc._FIRST_SPAN
    assert min(node.spans) < rpc._FIRST_SPAN


def test_windows_grow_where_little_happens() -> None:
    node = FakeNode(chain(blocks=range(FIRST, FIRST + 100, 100)))
    read(node)
    assert max(node.spans) > rpc._FIRST_SPAN


def test_a_block_that_is_too_much_alone_is_an_error() -> None:
    with pytest.raises(BadResponse, match="alone is too much"):
        read(FakeNode(chain(per_block=2), most=1))


@pytest.mark.parametrize("status", [400, 413])
def test_a_refusal_by_status_shrinks_the_window_too(status: int) -> None:
    def refuse(n: int, method: str, result: Any) -> Any:
        too_many = {"error": {"code": -32602, "message": "block range is too wide"}}
        return json_response(too_many, status) if n == 1 else result

    assert len(read(FakeNode(chain(), spoil=refuse))) == 100


@pytest.mark.parametrize(
    "words",
    [
        "query returned more than 10000 results",
        "Log response size exceeded",
        "eth_getLogs is limited to a 10,000 range",
        "exceed maximum block range: 50000",
        "ranges over 10000 blocks are not supported on freetier",
        "Block range is too large",
    ],
)
def test_a_node_that_limits_ranges_is_asked_for_less_in_whatever_words_it_says_so(words: str) -> None:
    def refuse(n: int, method: str, result: Any) -> Any:
        return json_response({"id": 1, "error": {"code": 35, "message": words}}) if n == 1 else result

    node = FakeNode(chain(), spoil=refuse)
    assert len(read(node)) == 100
    assert node.spans[1] * 2 == node.spans[0]


SPOILS: dict[str, Callable[[list[Any]], Any]] = {
    "empty": lambda rows: [],
    "half": lambda rows: rows[: len(rows) // 2],
    "twice": lambda rows: rows + rows[-1:],
    "taken back": lambda rows: [row | {"removed": True} for row in rows],
    "shuffled": lambda rows: rows[::-1],
}


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
@pytest.mark.parametrize("how", SPOILS)
def test_one_wrong_answer_changes_nothing(how: str, nth: int) -> None:
    node = FakeNode(chain(), spoil=lambda n, method, rows: SPOILS[how](rows) if n == nth else rows)
    assert len(read(node)) == 100


@pytest.mark.parametrize("how", ["half", "twice", "taken back"])
def test_a_wrong_answer_that_stays_is_an_error(how: str) -> None:
    node = FakeNode(chain(), spoil=lambda n, method, rows: SPOILS[how](rows) if n % 2 else rows)
    with pytest.raises(BadResponse, match=f"asked {rpc.TRIES} times"):
        read(node)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"error": {"code": -32601, "message": "the method does not exist"}}, "does not exist"),
        ({"error": "no object"}, "error"),
        ({"result": "0x1"}, "eth_getLogs"),
        ({"result": [{"address": 1}]}, "eth_getLogs"),
        ({"result": [msgspec.to_builtins(filled(Order("a", BUY, 0, 1, 1), "0x1"))]}, "was not asked for"),
        ({}, "eth_getLogs"),
        ([], "eth_getLogs"),
    ],
)
def test_an_answer_that_is_none_is_an_error_with_its_reason(result: Any, reason: str) -> None:
    with pytest.raises(BadResponse, match=reason):
        read(FakeNode(chain(), spoil=lambda n, method, rows: json_response(result)))


def test_a_node_that_limits_how_often_it_is_asked_says_so() -> None:
    said = {"error": {"code": -32005, "message": "daily request rate limited"}}
    with pytest.raises(SourceUnavailable, match="try again later"):
        read(FakeNode(chain(), spoil=lambda n, method, rows: json_response(said)))


def test_another_refusal_by_status_is_final() -> None:
    with pytest.raises(BadRequest, match="401"):
        read(FakeNode(chain(), spoil=lambda n, method, rows: json_response({"error": "who are you"}, 401)))


def test_a_node_of_another_chain_is_refused_for_it_would_show_markets_without_a_trade() -> None:
    node = FakeNode([])
    assert len(read(node)) == 0
    node.chain = 1
    with pytest.raises(BadResponse, match=r"the node is of chain 1, not Polygon \(137\); set PM_POLYGON_RPC"):
        read(node)


def test_a_block_that_the_node_lacks_is_an_error() -> None:
    async def answer(request: Request) -> Response:
        return json_response({"result": None})

    app = Starlette(routes=[Route("/", answer, methods=["POST"])])

    async def run() -> None:
        async with client_of(httpx.ASGITransport(app)) as client:
            await Node(client).time_of(5)

    with pytest.raises(BadResponse, match="does not have block 5"):
        asyncio.run(run())


# ---------------------------------------------------------------------- the address


def hidden(inner: httpx.AsyncBaseTransport, **more: Any) -> HttpClient:
    endpoint = f"https://node.provider.example/v2/{KEY}?token={KEY}-too"
    return HttpClient(
        "https://polygon.invalid",
        transport=EndpointTransport(endpoint, inner),
        limiter=Sleeps().limiter(),
        wait_initial_s=0.0,
        wait_max_s=0.0,
        **more,
    )


class Echo(httpx.AsyncBaseTransport):
    """Answers with the address that it was asked at, or fails with it."""

    def __init__(self, status: int = 200, fails: bool = False) -> None:
        self.urls: list[str] = []
        self._status, self._fails = status, fails

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.urls.append(str(request.url))
        if self._fails:
            raise httpx.ConnectError(f"cannot reach {request.url}")
        body = {"error": {"code": 1, "message": f"bad call to {request.url}"}}
        return httpx.Response(self._status, stream=httpx.ByteStream(json.dumps(body).encode()))


@pytest.mark.parametrize(("status", "fails"), [(200, False), (401, False), (500, False), (200, True)])
def test_no_error_tells_the_key_of_the_node(status: int, fails: bool) -> None:
    echo = Echo(status, fails)

    async def run() -> None:
        async with hidden(echo) as client:
            await Node(client).head()

    with pytest.raises(PipelineError) as told:
        asyncio.run(run())
    assert all(KEY in url for url in echo.urls)
    chained: BaseException | None = told.value
    while chained is not None:
        assert KEY not in str(chained)
        assert "node.provider.example" not in str(chained)
        chained = chained.__cause__


def test_the_archive_keeps_pages_without_the_key_and_replays_them(tmp_path: Path) -> None:
    archive, node = PageArchive(tmp_path), FakeNode(chain())
    window = Window((GENESIS + FIRST) * SECOND, (GENESIS + FIRST + 500) * SECOND)

    async def run(transport: httpx.AsyncBaseTransport) -> list[int]:
        client = HttpClient("https://polygon.invalid", transport=transport, limiter=Sleeps().limiter())
        async with client:
            pieces = [piece async for piece in Node(client).events(tokens_of([MARKET]), window)]
            return [int(block) for block in Events.joined(pieces).block]

    endpoint = EndpointTransport(f"https://node.example/{KEY}", httpx.ASGITransport(node.app))
    fetched = asyncio.run(run(ArchivingTransport(endpoint, archive)))
    assert len(fetched) == 10
    assert asyncio.run(run(ReplayTransport(archive))) == fetched
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in kept


@pytest.mark.parametrize(
    "endpoint", [f"ftp://h/{KEY}", f"{KEY}", f"https://user:{KEY}@h/", f"https://h:{KEY}/", f"https:///{KEY}"]
)
def test_an_address_that_is_none_is_refused_without_repeating_it(endpoint: str) -> None:
    with pytest.raises(UsageError) as told:
        EndpointTransport(endpoint, Echo())
    assert KEY not in str(told.value)
    assert told.value.__cause__ is None


def test_requests_always_bear_the_same_number() -> None:
    bodies: list[Any] = []

    class Noting(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            bodies.append(json.loads(await request.aread()))
            return httpx.Response(200, stream=httpx.ByteStream(b'{"result": "0x89"}'))

    async def run() -> None:
        async with hidden(Noting()) as client:
            await Node(client).head()
            await Node(client).head()

    asyncio.run(run())
    assert bodies[:2] == bodies[2:]
