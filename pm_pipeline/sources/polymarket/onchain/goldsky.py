"""Fills of the V1 exchanges from Polymarket's orderbook subgraph at Goldsky: history only, and frozen.

The subgraph stopped at block 87,814,766 (2026-04-28 11:00:40Z) and had lost rows before. It says how far it
is in ``_meta``, which every page asks for; what lies after that is never called complete.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import numpy as np
from gql import Client, GraphQLRequest, gql
from gql.transport import AsyncTransport
from gql.transport.exceptions import TransportQueryError
from graphql import ExecutionResult, GraphQLError

from pm_pipeline.markets.clock import SECOND, Nanos, format_time
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.errors import BadResponse, RepeatedCursor, SourceError
from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.polymarket.onchain.fills import (
    ADDRESS,
    CODES,
    EXCHANGES,
    HASH,
    Contract,
    Events,
    counts,
    hashes,
    require_seconds,
)
from pm_pipeline.sources.wire import unix_seconds

ORDERBOOK: Final = "/api/public/project_cl6mb8i9h0003e201j6li0diw/subgraphs/orderbook-subgraph/0.0.1/gn"
"""Path of the subgraph on ``api.goldsky.com``."""

FROZEN_BLOCK: Final = 87_814_766
"""The last block that the public subgraph ever indexed."""

FROZEN_AT: Final[Nanos] = 1_777_374_040 * SECOND
"""The time of that block, 2026-04-28 11:00:40Z."""

PAGE: Final = 1000
"""Rows of a page; the server gives no more."""

TRIES: Final = 5
"""How often a page is asked for that cannot be right, or that would be the last one."""

_FIRST_LENGTH: Final = 86_400
_LONGEST: Final = 400 * 86_400
_MANY: Final = 8
_WHERE: Final = "orderFilledEvents"

QUERY: Final = gql(
    """
    query fills($from: BigInt!, $to: BigInt!, $tokens: [String!]!, $bought: ID!, $sold: ID!) {
      bought: orderFilledEvents(
        first: 1000, orderBy: id, orderDirection: asc
        where: {timestamp_gte: $from, timestamp_lt: $to, id_gt: $bought, takerAssetId_in: $tokens}
      ) { ...fill }
      sold: orderFilledEvents(
        first: 1000, orderBy: id, orderDirection: asc
        where: {timestamp_gte: $from, timestamp_lt: $to, id_gt: $sold, makerAssetId_in: $tokens}
      ) { ...fill }
      _meta { block { number timestamp } hasIndexingErrors }
    }
    fragment fill on OrderFilledEvent {
      id transactionHash timestamp orderHash maker taker
      makerAssetId takerAssetId makerAmountFilled takerAmountFilled fee
    }
    """
)
"""One page of the orders that bought, and of those that sold, any of the tokens within a window of time."""


class Fill(msgspec.Struct, rename="camel"):
    """One ``OrderFilledEvent``: what the owner of an order (``maker``) gave and got. All are texts."""

    id: str
    transaction_hash: str
    timestamp: str
    order_hash: str
    maker: str
    taker: str
    maker_asset_id: str
    taker_asset_id: str
    maker_amount_filled: str
    taker_amount_filled: str
    fee: str


class _Block(msgspec.Struct):
    number: int
    timestamp: int | None = None


class _Meta(msgspec.Struct, rename="camel"):
    block: _Block
    has_indexing_errors: bool


class _Data(msgspec.Struct):
    bought: list[Fill]
    sold: list[Fill]
    meta: _Meta = msgspec.field(name="_meta")


class _Error(msgspec.Struct):
    message: str = "no message"


class _Answer(msgspec.Struct):
    data: _Data | None = None
    errors: list[_Error] | None = None


DECODER: Final = msgspec.json.Decoder(_Answer)
"""Reads an answer of the subgraph into structs."""


class SubgraphTransport(AsyncTransport):
    """Carries gql's requests over our client: pacing, retries and the archive are those of all sources."""

    def __init__(self, client: HttpClient, path: str) -> None:
        self._client = client
        self._path = path

    async def connect(self) -> None:
        """Nothing to do: the client is open."""

    async def close(self) -> None:
        """Nothing to do: whoever opened the client closes it."""

    async def execute(self, request: GraphQLRequest) -> ExecutionResult:
        """Send one query."""
        reply = await self._client.fetch("POST", self._path, json=request.payload, decoder=DECODER)
        answer: _Answer = reply.value
        if answer.data is None and not answer.errors:
            raise BadResponse(f"{_WHERE}: the subgraph answered with neither data nor errors")
        errors = [GraphQLError(error.message[:300]) for error in answer.errors or []]
        return ExecutionResult(data=answer.data, errors=errors or None)  # type: ignore[arg-type]

    def subscribe(self, request: GraphQLRequest) -> Any:
        """Raises :class:`SourceError`: the subgraph serves queries only."""
        raise SourceError("the subgraph serves no subscriptions")


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the subgraph has indexed the chain."""

    block: int
    at: Nanos


@dataclass(frozen=True, slots=True)
class _Page:
    bought: list[Fill]
    sold: list[Fill]
    reach: Reach


class Subgraph:
    """Reads the orderbook subgraph. Use it as an async context manager; ``client`` must be open."""

    def __init__(self, client: HttpClient, path: str = ORDERBOOK) -> None:
        self._client = Client(
            transport=SubgraphTransport(client, path),
            fetch_schema_from_transport=False,
            execute_timeout=None,  # that of the client holds
        )
        self._session: Any = None

    async def __aenter__(self) -> Self:
        self._session = await self._client.connect_async()  # type: ignore[no-untyped-call]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._client.close_async()  # type: ignore[no-untyped-call]

    async def reach(self) -> Reach:
        """How far it is now."""
        return (await self._ask(Window(0, SECOND), ["0"], "", "")).reach

    async def events(self, market: Market, window: Window) -> AsyncIterator[Events]:
        """All fills of a market in a window, in pieces that hold whole matches.

        A piece is a span of time, so that all events of one block are in one of them. Within it rows are
        asked for by rising id, so that rows of one second are never lost at the border of a page.
        """
        outcome_of = {i.token_id: i.outcome_index for i in market.instruments if i.token_id}
        if not outcome_of:
            raise SourceError(f"{market.key} has no token id; fetch its catalog entry again")
        start, end, length = window.start // SECOND, -(-window.end // SECOND), _FIRST_LENGTH
        while start < end:
            piece = Window(start * SECOND, min(start + length, end) * SECOND)
            rows = await self._rows(piece, list(outcome_of))
            if rows:
                yield to_events(rows, outcome_of)
            start += length
            if len(rows) > _MANY * PAGE:
                length = max(length // 2, 1)
            elif len(rows) < PAGE:
                length = min(length * 2, _LONGEST)

    async def _rows(self, window: Window, tokens: list[str]) -> list[Fill]:
        bought: list[Fill] = []
        sold: list[Fill] = []
        after = "", ""
        while True:
            page = await self._sound_page(window, tokens, *after)
            bought += page.bought
            sold += page.sold
            if len(page.bought) < PAGE and len(page.sold) < PAGE:
                return bought + sold
            after = bought[-1].id if bought else "", sold[-1].id if sold else ""

    async def _sound_page(self, window: Window, tokens: list[str], bought: str, sold: str) -> _Page:
        """A page that is full, or a short one that was given twice: a short page ends the window."""
        former: _Page | None = None
        trouble: SourceError | None = None
        for _ in range(TRIES):
            page = await self._ask(window, tokens, bought, sold)
            trouble = _trouble(page.bought, bought) or _trouble(page.sold, sold) or _short(page, window)
            if trouble is not None:
                continue
            if len(page.bought) == len(page.sold) == PAGE:
                return page
            if former is not None and (page.bought, page.sold) == (former.bought, former.sold):
                return page
            former = page
        raise trouble or BadResponse(f"{_WHERE}: the same question was answered differently {TRIES} times")

    async def _ask(self, window: Window, tokens: list[str], bought: str, sold: str) -> _Page:
        request = GraphQLRequest(
            QUERY,
            variable_values={
                "from": str(window.start // SECOND),
                "to": str(window.end // SECOND),
                "tokens": tokens,
                "bought": bought,
                "sold": sold,
            },
        )
        try:
            data: _Data = await self._session.execute(request)
        except TransportQueryError as error:
            raise BadResponse(f"{_WHERE}: the subgraph refused the query: {error}") from error
        if data.meta.has_indexing_errors:
            raise BadResponse(f"{_WHERE}: the subgraph says that indexing failed; its rows cannot be trusted")
        block = data.meta.block
        return _Page(data.bought, data.sold, Reach(block.number, _time_of(block)))


def _time_of(block: _Block) -> Nanos:
    """The time of the last block, which some deployments leave out; that of the freeze is known."""
    if block.timestamp is not None:
        return unix_seconds(block.timestamp, "_meta", "timestamp")
    if block.number == FROZEN_BLOCK:
        return FROZEN_AT
    raise BadResponse(f"_meta: the subgraph does not say the time of its last block, {block.number}")


def _short(page: _Page, window: Window) -> SourceError | None:
    """What is wrong with a page of a replica that has not indexed all of the window."""
    if window.end - SECOND <= page.reach.at:
        return None
    return BadResponse(
        f"{_WHERE}: this answer knows the chain to block {page.reach.block}, {format_time(page.reach.at)}, "
        f"and was asked for what goes to {format_time(window.end)}"
    )


def _trouble(rows: list[Fill], after: str) -> SourceError | None:
    """What is wrong with a page: its ids must rise, from above the cursor."""
    ids = [after, *(row.id for row in rows)]
    if all(map(str.__lt__, ids, ids[1:])):
        return None
    if rows[0].id <= after:
        return RepeatedCursor(f"{_WHERE}: rows came again that were read before")
    return BadResponse(f"{_WHERE}: the ids of a page do not rise, as they were asked to")


def to_events(rows: list[Fill], outcome_of: Mapping[str, int]) -> Events:
    """The events of whole matches; a row of another token is an error. All are of the V1 exchanges."""
    if not rows:
        return Events.none()
    gave = [row.maker_asset_id for row in rows]
    got = [row.taker_asset_id for row in rows]
    buys = np.array([asset == "0" for asset in gave])
    tokens = [b if a == "0" else a for a, b in zip(gave, got, strict=True)]
    if any((a == "0") == (b == "0") for a, b in zip(gave, got, strict=True)):
        raise BadResponse(f"{_WHERE}: an order must exchange dollars (asset 0) for a token")
    outcomes = [outcome_of.get(token, -1) for token in tokens]
    if -1 in outcomes:
        raise BadResponse(f"{_WHERE}: token {tokens[outcomes.index(-1)][:80]} was not asked for")
    given = counts([row.maker_amount_filled for row in rows], f"{_WHERE}: makerAmountFilled")
    taken = counts([row.taker_amount_filled for row in rows], f"{_WHERE}: takerAmountFilled")
    wallet = hashes([row.maker for row in rows], ADDRESS, f"{_WHERE}: maker")
    takers = [row.taker for row in rows]
    # that of the resting orders is not recorded, so neither exchange of V1 is told from the other
    takes = np.array([taker.lower() in EXCHANGES for taker in takers])
    unknown = np.full(len(rows), -1, np.int64)
    return Events(
        ts=require_seconds(counts([row.timestamp for row in rows], f"{_WHERE}: timestamp"), _WHERE),
        tx=hashes([row.transaction_hash for row in rows], HASH, f"{_WHERE}: transactionHash"),
        order_hash=hashes([row.order_hash for row in rows], HASH, f"{_WHERE}: orderHash"),
        wallet=wallet,
        active=np.where(takes[:, None], wallet, hashes(takers, ADDRESS, f"{_WHERE}: taker")),
        takes=takes,
        buys=buys,
        market=np.zeros(len(rows), np.int64),
        outcome=np.array(outcomes, np.int64),
        size=np.where(buys, taken, given),
        cash=np.where(buys, given, taken),
        fee=counts([row.fee for row in rows], f"{_WHERE}: fee"),
        block=unknown,
        log_index=unknown,
        contract=np.full(len(rows), CODES.index(Contract.V1)),
    )
