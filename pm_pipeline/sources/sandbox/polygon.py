"""Polygon in the sandbox: the trades of the Data API as logs of the exchanges, by JSON-RPC and by subgraph.

Every second has a block; block 87,814,766 is that of 2026-04-28 11:00:40Z, as on the chain. Up to it the V1
exchanges log, after it those of V2. A trade is one transaction: its resting orders, then the active one. Of
every third trade one resting order is for the other outcome: a set is made (mint) or dissolved (merge).
"""

from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from heapq import merge
from math import gcd
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.markets.clock import SECOND
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.polymarket.endings.resolutions import CONDITION_RESOLUTION, CTF
from pm_pipeline.sources.polymarket.onchain.chain import FILLED_V1, FILLED_V2, MATCHED_V1, MATCHED_V2
from pm_pipeline.sources.polymarket.onchain.fills import EXCHANGES, Contract
from pm_pipeline.sources.sandbox.data_trades import Row, transaction
from pm_pipeline.sources.sandbox.wire import Refusal, answer, seconds, world_of
from pm_pipeline.sources.sandbox.world import World, WorldMarket

FREEZE_BLOCK: Final = 87_814_766
FREEZE_SECOND: Final = 1_777_374_040
GENESIS: Final = FREEZE_SECOND - FREEZE_BLOCK
"""Unix second of block 0."""

CHAIN: Final = 137

MOST_LOGS: Final = 10_000
"""More logs than these are refused in one answer, as nodes do."""

_AFTER_TRADES: Final = 1_000_000
"""Number of the first log of a block that tells of a resolution; those of trades come before it."""

_ORACLE: Final = "0x" + sha256(b"oracle").hexdigest()[:40]

_ADDRESS_OF: Final = {contract: address for address, contract in EXCHANGES.items()}


class Leg(NamedTuple):
    """One order of a match; ``cash`` is what it paid or got before fees."""

    wallet: str
    order_hash: str
    buys: bool
    token: str
    size: Micro
    cash: Micro
    fee: Micro


class OnChain(NamedTuple):
    """One trade as the chain has it: the resting orders, and the active one."""

    second: int
    tx: str
    contract: Contract
    resting: tuple[Leg, ...]
    active: Leg

    @property
    def exchange(self) -> str:
        """Address of the exchange that logged it."""
        return _ADDRESS_OF[self.contract]

    @property
    def newer(self) -> bool:
        """Whether the V2 exchanges logged it."""
        return not self.contract.fee_in_proceeds


def trades_on_chain(world: World, first: int, last: int) -> Iterator[list[OnChain]]:
    """The trades of each second from ``first`` to ``last`` that has any, rising."""
    found: list[tuple[int, int, int]] = []
    markets = list(world.polymarket.values())
    for ordinal, market in enumerate(markets):
        if (market.market.opened_at or 0) // SECOND > last:
            continue
        stamps = market.trades().ts // SECOND
        low, high = np.searchsorted(stamps, [first, min(last, seconds(world.now)) + 1])
        found += [(int(stamps[at]), ordinal, at) for at in range(int(low), int(high))]
    second: list[OnChain] = []
    for _, ordinal, at in sorted(found):
        trade = _on_chain(markets[ordinal], at)
        if second and second[0].second != trade.second:
            yield second
            second = []
        second.append(trade)
    if second:
        yield second


def _on_chain(market: WorldMarket, at: int) -> OnChain:
    trades = market.trades()
    second, tx = seconds(int(trades.ts[at])), transaction(market, at)
    newer = second > FREEZE_SECOND
    neg_risk = market.market.exclusive_group
    contract = {
        (False, False): Contract.V1,
        (False, True): Contract.V1_NEG_RISK,
        (True, False): Contract.V2,
        (True, True): Contract.V2_NEG_RISK,
    }[newer, neg_risk]
    price, outcome = trades.price_of_named(at), int(trades.outcome[at])
    taker_buys = trades.taker_buys(at)
    resting = []
    dollars = 0
    for number in (1, 2):
        row = Row(market, trades, at, number)
        swaps = number == 2 and at % 3 == 1
        worth = price * row.size // MICRO
        dollars += worth
        if row.size:
            resting.append(
                Leg(
                    row.wallet,
                    _order(tx, number),
                    taker_buys == swaps,
                    _token(market, 1 - outcome if swaps else outcome),
                    row.size,
                    row.size - worth if swaps else worth,
                    0,
                )
            )
    taker = Row(market, trades, at, 0)
    fee = taker.fee if newer else 0
    token = _token(market, outcome)
    active = Leg(taker.wallet, _order(tx, 0), taker_buys, token, taker.size, dollars, fee)
    return OnChain(second, tx, contract, tuple(resting), active)


def _token(market: WorldMarket, outcome: int) -> str:
    return str(market.market.instrument(outcome).token_id)


def _order(tx: str, number: int) -> str:
    return "0x" + sha256(f"order:{tx}:{number}".encode()).hexdigest()


# ---------------------------------------------------------------------- logs


def _word(value: int | str) -> str:
    number = int(value, 16) if isinstance(value, str) else value
    return f"{number:064x}"


def _assets(leg: Leg) -> tuple[int, int, int, int]:
    """Assets and amounts that the order gave and got."""
    token = int(leg.token)
    return (0, token, leg.cash, leg.size) if leg.buys else (token, 0, leg.size, leg.cash)


def _filled(trade: OnChain, leg: Leg, taker: str) -> dict[str, Any]:
    gave, got, given, taken = _assets(leg)
    if trade.newer:
        words = [
            _word(0 if leg.buys else 1),
            _word(int(leg.token)),
            *map(_word, (given, taken, leg.fee, 0, 0)),
        ]
    else:
        words = [*map(_word, (gave, got, given, taken, leg.fee))]
    topic = FILLED_V2 if trade.newer else FILLED_V1
    topics = [topic, leg.order_hash, f"0x{_word(leg.wallet)}", f"0x{_word(taker)}"]
    return {"topics": topics, "data": "0x" + "".join(words)}


def _matched(trade: OnChain) -> dict[str, Any]:
    leg = trade.active
    gave, got, given, taken = _assets(leg)
    assets = (0 if leg.buys else 1, int(leg.token)) if trade.newer else (gave, got)
    words = (*assets, given, taken)
    topic = MATCHED_V2 if trade.newer else MATCHED_V1
    return {
        "topics": [topic, leg.order_hash, f"0x{_word(leg.wallet)}"],
        "data": "0x" + "".join(map(_word, words)),
    }


def logs(world: World, first: int, last: int) -> Iterator[dict[str, Any]]:
    """The logs of blocks ``first`` to ``last``, in their order."""
    for second in trades_on_chain(world, first + GENESIS, last + GENESIS):
        number = 0
        for place, trade in enumerate(second):
            events = [_filled(trade, leg, trade.active.wallet) for leg in trade.resting]
            events += [_filled(trade, trade.active, trade.exchange), _matched(trade)]
            block = trade.second - GENESIS
            for event in events:
                log = {
                    "address": trade.exchange,
                    **event,
                    "blockNumber": hex(block),
                    "transactionHash": trade.tx,
                    "transactionIndex": hex(place),
                    "blockHash": _hash_of(block),
                    "logIndex": hex(number),
                    "removed": False,
                }
                # not every node says the time
                yield log | ({"blockTimestamp": hex(trade.second)} if trade.newer else {})
                number += 2  # between them lie logs of the tokens


def resolution_logs(world: World, first: int, last: int) -> list[dict[str, Any]]:
    """What the conditional tokens contract logs when it pays, in blocks ``first`` to ``last``.

    A market that pays halves has two equal numerators, one that pays a whole dollar a single one.
    """
    found = []
    for number, market in enumerate(world.polymarket.values()):
        ended, listed = market.resolution, market.market
        if ended.payouts is None or ended.resolved_at is None or listed.condition_id is None:
            continue
        block = seconds(ended.resolved_at) - GENESIS
        if not first <= block <= last or ended.resolved_at > world.now:
            continue
        units = gcd(*ended.payouts)
        numerators = [payout // units for payout in ended.payouts]
        words = [len(numerators), 64, len(numerators), *numerators]
        found.append(
            {
                "address": CTF,
                "topics": [
                    CONDITION_RESOLUTION,
                    listed.condition_id,
                    f"0x{_word(_ORACLE)}",
                    listed.question_id or listed.condition_id,
                ],
                "data": "0x" + "".join(map(_word, words)),
                "blockNumber": hex(block),
                "transactionHash": "0x" + sha256(f"end:{market.native_id}".encode()).hexdigest(),
                "transactionIndex": hex(_AFTER_TRADES + number),
                "blockHash": _hash_of(block),
                "logIndex": hex(_AFTER_TRADES + number),
                "removed": False,
            }
            | ({"blockTimestamp": hex(block + GENESIS)} if block > FREEZE_BLOCK else {})
        )
    return sorted(found, key=lambda log: (int(log["blockNumber"], 16), int(log["logIndex"], 16)))


def _hash_of(block: int) -> str:
    return "0x" + sha256(f"block:{block}".encode()).hexdigest()


class _Failed(Exception):  # noqa: N818 - an answer
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


async def rpc(request: Request) -> Response:
    """JSON-RPC: ``eth_chainId``, ``eth_blockNumber``, ``eth_getBlockByNumber``, ``eth_getLogs``."""
    try:
        asked = msgspec.json.decode(await request.body(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Refusal(400, "parse error") from error
    head = {"jsonrpc": "2.0", "id": asked.get("id")}
    try:
        result = _call(world_of(request), asked.get("method"), asked.get("params") or [])
    except _Failed as failed:
        return answer(head | {"error": {"code": failed.code, "message": str(failed)}})
    return answer(head | {"result": result})


def _call(world: World, method: Any, params: list[Any]) -> Any:
    newest = seconds(world.now) - GENESIS
    if method == "eth_chainId":
        return hex(CHAIN)
    if method == "eth_blockNumber":
        return hex(newest)
    try:
        if method == "eth_getBlockByNumber":
            block = int(params[0], 16)
            if block > newest:
                return None
            return {"number": hex(block), "timestamp": hex(block + GENESIS), "hash": _hash_of(block)}
        if method == "eth_getLogs":
            return _get_logs(world, params[0], newest)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _Failed(-32602, "invalid params") from error
    raise _Failed(-32601, f"the method {method} does not exist")


def _get_logs(world: World, asked: dict[str, Any], newest: int) -> list[dict[str, Any]]:
    first, last = int(asked["fromBlock"], 16), min(int(asked["toBlock"], 16), newest)
    named = asked.get("address", [])
    addresses = {address.lower() for address in ([named] if isinstance(named, str) else named)}
    wanted = [{place} if isinstance(place, str) else set(place or ()) for place in asked.get("topics") or ()]
    found: list[dict[str, Any]] = []
    trades = logs(world, first, last) if not addresses or addresses & set(EXCHANGES) else ()
    ends = resolution_logs(world, first, last) if not addresses or CTF in addresses else ()
    for log in merge(trades, ends, key=lambda log: int(log["blockNumber"], 16)):
        if addresses and log["address"] not in addresses:
            continue
        if any(
            place and (len(log["topics"]) <= n or log["topics"][n] not in place)
            for n, place in enumerate(wanted)
        ):
            continue
        found.append(log)
        if len(found) > MOST_LOGS:
            raise _Failed(-32005, f"query returned more than {MOST_LOGS} results")
    return found


def rpc_error(refusal: Refusal) -> Response:
    """The node's error body."""
    return answer({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": refusal.reason}})


# ---------------------------------------------------------------------- subgraph

_SCHEMA: Final = """
    scalar BigInt
    scalar Bytes
    enum OrderDirection { asc desc }
    enum OrderFilledEvent_orderBy { id timestamp }
    input OrderFilledEvent_filter {
      id_gt: ID
      timestamp_gte: BigInt
      timestamp_lt: BigInt
      makerAssetId_in: [String!]
      takerAssetId_in: [String!]
    }
    type OrderFilledEvent {
      id: ID!
      transactionHash: Bytes!
      timestamp: BigInt!
      orderHash: Bytes!
      maker: String!
      taker: String!
      makerAssetId: String!
      takerAssetId: String!
      makerAmountFilled: BigInt!
      takerAmountFilled: BigInt!
      fee: BigInt!
    }
    type _Block_ { number: Int!  timestamp: Int  hash: Bytes }
    type _Meta_ { block: _Block_!  deployment: String!  hasIndexingErrors: Boolean! }
    type Query {
      orderFilledEvents(
        first: Int = 100
        skip: Int = 0
        orderBy: OrderFilledEvent_orderBy
        orderDirection: OrderDirection
        where: OrderFilledEvent_filter
      ): [OrderFilledEvent!]!
      _meta: _Meta_
    }
    """
_MOST_ROWS: Final = 1000
_MOST_SKIPPED: Final = 5000


@cache
def _schema() -> Any:
    """The schema, made when it is first needed: few sandboxes are asked for it."""
    from graphql import build_schema

    return build_schema(_SCHEMA)


class _Root:
    """Resolves the queries over a world. It ends at the freeze, whatever the world's present is."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last = min(FREEZE_SECOND, seconds(world.now))

    def orderFilledEvents(  # noqa: N802 - the subgraph's name
        self,
        _: Any,
        first: int,
        skip: int,
        where: dict[str, Any] | None = None,
        orderBy: str = "id",  # noqa: N803
        orderDirection: str = "asc",  # noqa: N803
    ) -> list[dict[str, Any]]:
        if not 1 <= first <= _MOST_ROWS or not 0 <= skip <= _MOST_SKIPPED:
            raise ValueError(f"first must be between 1 and {_MOST_ROWS}, skip between 0 and {_MOST_SKIPPED}")
        asked = where or {}
        start = int(asked.get("timestamp_gte", 0))
        end = min(int(asked.get("timestamp_lt", self._last + 1)), self._last + 1)
        rows = [
            row
            for second in trades_on_chain(self._world, start, end - 1)
            for trade in second
            for row in _subgraph_rows(trade)
            if row["id"] > asked.get("id_gt", "")
            and row["makerAssetId"] in asked.get("makerAssetId_in", (row["makerAssetId"],))
            and row["takerAssetId"] in asked.get("takerAssetId_in", (row["takerAssetId"],))
        ]
        rows.sort(key=lambda row: row[orderBy], reverse=orderDirection == "desc")
        return rows[skip : skip + first]

    def _meta(self, _: Any) -> dict[str, Any]:
        block = {
            "number": self._last - GENESIS,
            "timestamp": self._last,
            "hash": _hash_of(self._last - GENESIS),
        }
        return {"block": block, "deployment": "sandbox", "hasIndexingErrors": False}


def _subgraph_rows(trade: OnChain) -> Iterator[dict[str, Any]]:
    for leg in (*trade.resting, trade.active):
        gave, got, given, taken = _assets(leg)
        yield {
            "id": f"{trade.tx}_{leg.order_hash}",
            "transactionHash": trade.tx,
            "timestamp": str(trade.second),
            "orderHash": leg.order_hash,
            "maker": leg.wallet,
            "taker": trade.exchange if leg is trade.active else trade.active.wallet,
            "makerAssetId": str(gave),
            "takerAssetId": str(got),
            "makerAmountFilled": str(given),
            "takerAmountFilled": str(taken),
            "fee": str(leg.fee),
        }


async def subgraph(request: Request) -> Response:
    """The orderbook subgraph, by GraphQL."""
    try:
        asked = msgspec.json.decode(await request.body(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Refusal(400, "the body is not JSON") from error
    from graphql import graphql_sync

    done = graphql_sync(
        _schema(),
        str(asked.get("query", "")),
        _Root(world_of(request)),
        variable_values=asked.get("variables"),
    )
    body: dict[str, Any] = {} if done.data is None else {"data": done.data}
    if done.errors:
        body["errors"] = [{"message": error.message} for error in done.errors]
    return answer(body)


def subgraph_error(refusal: Refusal) -> Response:
    """The error body of Goldsky."""
    return answer({"errors": [{"message": refusal.reason}]}, refusal.status)


RPC_ROUTES: Final = [Route("/", rpc, methods=["POST"])]
"""Paths of a node."""

SUBGRAPH_ROUTES: Final = [
    Route("/api/public/{project}/subgraphs/orderbook-subgraph/{version}/gn", subgraph, methods=["POST"])
]
"""Paths of api.goldsky.com."""
