"""Builders of Kalshi answers, and a venue made of them."""

import asyncio
from collections.abc import Callable
from typing import Any

from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import Instrument, Market, ScheduleEvidence, TickRange
from pm_pipeline.sources.kalshi import KalshiAdapter
from pm_pipeline_tests.sources.server import Server, client_of, json_response

TICKER = "KXHIGHNY-26JUL10-T94"
EVENT = "KXHIGHNY-26JUL10"
SERIES = "KXHIGHNY"
NOW = parse_time("2026-08-01T00:00:00Z")
OPENED = parse_time("2026-07-09T14:00:00Z")
CLOSED = parse_time("2026-07-11T04:59:00Z")
KEY = MarketKey(Venue.KALSHI, TICKER)

MARKET = Market(
    key=KEY,
    question="Will it?",
    instruments=(Instrument(KEY, 0, "Yes"), Instrument(KEY, 1, "No")),
    opened_at=OPENED,
    scheduled_close=CLOSED,
    schedule_evidence=ScheduleEvidence.LISTED,
    ticks=(TickRange(10_000, 990_000, 10_000),),
    min_order_size=10_000,
    series=SERIES,
    traded_until=CLOSED,
)


def market(**changes: Any) -> dict[str, Any]:
    """A market as listed; a field given as ``None`` is left out."""
    whole = {
        "ticker": TICKER,
        "event_ticker": EVENT,
        "title": "High temp in NYC above 94?",
        "yes_sub_title": "95 or above",
        "open_time": "2026-07-09T14:00:00Z",
        "close_time": "2026-07-11T04:59:00Z",
        "status": "active",
        "result": "",
        "can_close_early": True,
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
        "rules_primary": "If it is.",
        "volume_fp": "3544.52",
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


SETTLED = {
    "status": "finalized",
    "result": "yes",
    "settlement_ts": "2026-07-11T12:00:59.542488Z",
    "settlement_value_dollars": "1.0000",
}

CATALOG = {
    f"/events/{EVENT}": {
        "event": {
            "event_ticker": EVENT,
            "series_ticker": SERIES,
            "title": "NYC high",
            "mutually_exclusive": True,
        }
    },
    f"/series/{SERIES}": {
        "series": {
            "ticker": SERIES,
            "category": "Climate and Weather",
            "tags": ["Daily temperature"],
            "settlement_sources": [{"name": "NWS", "url": "https://nws.test"}],
        }
    },
    "/events": {
        "events": [
            {"event_ticker": EVENT, "series_ticker": SERIES, "title": "NYC high", "mutually_exclusive": True}
        ],
        "cursor": "",
    },
    "/historical/markets": {"markets": [], "cursor": ""},
}

CUTOFF = {"market_settled_ts": "2026-06-01T00:00:00Z", "trades_created_ts": "2026-06-15T00:00:00Z"}


def read(read_with: Callable[[KalshiAdapter], Any], table: Any, **more: Any) -> list[Any]:
    """Everything a stream of the adapter yields; rows where it yields Arrow batches."""
    server = table if isinstance(table, Server) else venue(table)

    async def run() -> list[Any]:
        found: list[Any] = []
        async with KalshiAdapter(client_of(server), **more) as adapter:
            async for batch in read_with(adapter):
                found += batch if isinstance(batch, list) else batch.to_pylist()
        return found

    return asyncio.run(run())


def venue(table: dict[str, Any], now: int = NOW) -> Server:
    status = json_response({"exchange_active": True}, 200, {"x-sandbox-now": str(now)})
    return Server({"/exchange/status": status, "/historical/cutoff": CUTOFF, **table})


def listing(*rows: Any, cursor: str = "") -> dict[str, Any]:
    return {"markets": list(rows), "cursor": cursor}
