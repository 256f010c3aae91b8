"""Builders of Data API v2 answers about wallets, a venue made of them, and the way from recorded v1 rows."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.sources.polymarket.wallets.client import WalletReader
from pm_pipeline.sources.polymarket.wallets.records import ActivityRow, PositionRow
from pm_pipeline_tests.sources.polymarket.material import CONDITION, NOW, status
from pm_pipeline_tests.sources.server import Server, client_of

T = TypeVar("T")

WALLET = "0x" + "1a" * 20
OTHER = "0x" + "2b" * 20
COMBO = "0x" + "c" * 62
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_TRANSFERS = {"DEPOSIT", "WITHDRAWAL", "TIP"}


def position(**changes: Any) -> dict[str, Any]:
    return {
        "proxy_wallet": WALLET,
        "condition_id": CONDITION,
        "token_id": "111",
        "current_size": Decimal("28.09"),
        "total_size": Decimal("30"),
        "avg_price": Decimal("0.6699"),
        "realized_pnl": Decimal("-1.25"),
        "status": "OPEN",
        "outcome_index": 999,
        **changes,
    }


def act(**changes: Any) -> dict[str, Any]:
    return {
        "proxy_wallet": WALLET,
        "timestamp": 1783862192,
        "type": "TRADE",
        "size": Decimal("10.5"),
        "usdc_size": Decimal("2.625"),
        "price": Decimal("0.25"),
        "condition_id": CONDITION,
        "token_id": "111",
        "outcome_index": 999,
        "side": "BUY",
        "transaction_hash": "0xt",
        **changes,
    }


def money(kind: str, **changes: Any) -> dict[str, Any]:
    """A row that is about no market; a tip that came in."""
    empty = {"condition_id": "", "token_id": "", "price": 0}
    side = {"side": "IN" if kind == "TIP" else ""}
    return act(**({"type": kind, "size": 100, "usdc_size": 100} | empty | side | changes))


def leader(rank: Any, wallet: str = WALLET, **changes: Any) -> dict[str, Any]:
    return {"rank": rank, "user_id": wallet, "pnl": Decimal("5.5"), "volume": 10, **changes}


def group(token: str, holders: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {
        "token_id": token,
        "holders": [{"proxy_wallet": wallet, "amount": amount} for wallet, amount in holders],
    }


def wallet_page(rows: Sequence[Any], cursor: str | None = None) -> Response:
    tail = {"limit": len(rows), "offset": 0, "has_more": cursor is not None, "next_cursor": cursor}
    body = _ENCODER.encode({"data": list(rows), "pagination": tail})
    return Response(body, media_type="application/json")


def wallet_server(
    tables: Mapping[str, Sequence[Mapping[str, Any]]], most: int = 500, now: int = NOW
) -> Server:
    """Serves rows by path as v2 does: filtered, at most so many per page, the cursor says where to go on."""

    def listing(rows: Sequence[Mapping[str, Any]]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            asked = request.query_params
            kept = [row for row in rows if _wanted(row, asked)]
            start = int(asked.get("cursor", 0))
            limit = min(int(asked.get("limit", most)), most)
            end = start + limit
            return wallet_page(kept[start:end], str(end) if end < len(kept) else None)

        return answer

    return Server({"/v2/status": status(now), **{path: listing(rows) for path, rows in tables.items()}})


def _wanted(row: Mapping[str, Any], asked: Mapping[str, str]) -> bool:
    if "type" in row and not asked.get("type"):
        return row["type"] not in _TRANSFERS
    excluded = asked.get("exclude_deposits_withdrawals") != "false"
    if excluded and row.get("type") in {"DEPOSIT", "WITHDRAWAL"}:
        return False
    if row.get("status") == "REDEEMABLE" and asked.get("status") == "OPEN":
        return True
    named = ((name, asked[name].split(",")) for name in ("type", "status") if name in asked)
    return all(row.get(name, values[0]) in values for name, values in named)


def read_wallets(server: Server, read: Callable[[WalletReader], Awaitable[T]]) -> T:
    async def run() -> T:
        async with reader_of(server) as reader:
            return await read(reader)

    return asyncio.run(run())


def reader_of(server: Server) -> AbstractAsyncContextManager[WalletReader]:
    @asynccontextmanager
    async def opened() -> Any:
        async with client_of(server) as client:
            yield WalletReader(client)

    return opened()


_V1_NAMES = {
    "proxyWallet": "proxy_wallet",
    "asset": "token_id",
    "conditionId": "condition_id",
    "transactionHash": "transaction_hash",
    "outcomeIndex": "outcome_index",
    "eventSlug": "event_slug",
    "avgPrice": "avg_price",
    "realizedPnl": "realized_pnl",
    "totalBought": "total_size",
    "size": "size",
}


def _renamed(row: Mapping[str, Any], kind: type[ActivityRow | PositionRow]) -> dict[str, Any]:
    """The row under the names of v2; what that no longer tells is left out."""
    known = kind.unread.union(kind.__struct_fields__)
    named = {_V1_NAMES.get(name, name): value for name, value in row.items()}
    return {name: value for name, value in named.items() if name in known}


def trade_from_v1(row: Mapping[str, Any], wallet: str) -> dict[str, Any]:
    """A recorded row of the retired ``/trades`` as the row of activity that v2 gives for it."""
    named = _renamed(row, ActivityRow)
    size, price = Decimal(str(named["size"])), Decimal(str(named["price"]))
    return named | {
        "proxy_wallet": wallet,
        "type": "TRADE",
        "size": size,
        "price": price,
        "usdc_size": size * price,
        "timestamp": int(named["timestamp"]),
        "outcome_index": int(named["outcome_index"]),
    }


def position_from_v1(row: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded row of the retired ``/positions`` or ``/closed-positions`` in the form of v2."""
    named = _renamed(row, PositionRow)
    size = Decimal(str(row.get("size", 0)))
    kind = "REDEEMABLE" if row.get("redeemable") else "OPEN"
    return named | {"current_size": size, "status": kind if size else "CLOSED"}
