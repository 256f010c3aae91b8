"""Builders of Polymarket answers, and a venue made of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import Instrument, Market, ScheduleEvidence, TickRange
from pm_pipeline.sources.polymarket import PolymarketAdapter
from pm_pipeline_tests.sources.server import Server, client_of, json_response

T = TypeVar("T")

CONDITION = "0x" + "ab" * 32
NOW = parse_time("2026-08-01T00:00:00Z")
OPENED = parse_time("2026-07-10T00:00:00Z")
CLOSED = parse_time("2026-07-12T18:00:00Z")

MARKET = Market(
    key=MarketKey(Venue.POLYMARKET, "654414"),
    question="Will it?",
    instruments=(
        Instrument(MarketKey(Venue.POLYMARKET, "654414"), 0, "Yes", "111"),
        Instrument(MarketKey(Venue.POLYMARKET, "654414"), 1, "No", "222"),
    ),
    opened_at=OPENED,
    scheduled_close=None,
    schedule_evidence=ScheduleEvidence.LISTED,
    ticks=(TickRange(10_000, 990_000, 10_000),),
    min_order_size=5_000_000,
    condition_id=CONDITION,
    traded_until=CLOSED,
)


def gamma_market(**changes: Any) -> dict[str, Any]:
    """A Gamma market; a field given as ``None`` is left out."""
    whole = {
        "id": "654414",
        "question": "Will it?",
        "conditionId": CONDITION,
        "slug": "will-it",
        "active": True,
        "closed": False,
        "outcomes": '["Yes", "No"]',
        "clobTokenIds": '["111", "222"]',
        "startDate": "2026-07-10T00:00:00Z",
        "endDate": "2026-07-12T12:00:00Z",
        "orderPriceMinTickSize": 0.01,
        "orderMinSize": 5,
        "volumeNum": 1234.5,
        "feesEnabled": True,
        "feeSchedule": {"exponent": 1, "rate": 0.05, "takerOnly": True, "rebateRate": 0.25},
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "proxy_wallet": "0xw",
        "side": "BUY",
        "token_id": "111",
        "condition_id": CONDITION,
        "size": 10.5,
        "price": 0.25,
        "timestamp": 1783862192,
        "outcome_index": 0,
        "transaction_hash": "0xt",
        **changes,
    }


def page(rows: list[Any], cursor: str | None = None) -> dict[str, Any]:
    return {
        "data": rows,
        "pagination": {"limit": 1000, "offset": 0, "has_more": cursor is not None, "next_cursor": cursor},
    }


def status(now: int = NOW) -> Any:
    return json_response({"data": {}}, 200, {"x-sandbox-now": str(now)})


@asynccontextmanager
async def venue(*, gamma: Any = None, clob: Any = None, data: Any = None) -> AsyncIterator[PolymarketAdapter]:
    def server(table: Any) -> Server:
        return table if isinstance(table, Server) else Server(table or {})

    rest = data if isinstance(data, Server) else {"/v2/status": status(), **(data or {})}
    adapter = PolymarketAdapter(
        gamma=client_of(server(gamma)), clob=client_of(server(clob)), data=client_of(server(rest))
    )
    async with adapter:
        yield adapter


def read(read_with: Callable[[PolymarketAdapter], Any], **servers: Any) -> list[Any]:
    """Everything a stream of the adapter yields; rows where it yields Arrow batches."""

    async def run() -> list[Any]:
        found: list[Any] = []
        async with venue(**servers) as adapter:
            async for batch in read_with(adapter):
                found += batch if isinstance(batch, list) else batch.to_pylist()
        return found

    return asyncio.run(run())


def packed(*texts: str) -> str:
    return json.dumps(list(texts))
