"""Small tables and markets for the tests of the warehouse."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pm_pipeline.markets import Instrument, Market, MarketKey, ScheduleEvidence, TickRange
from pm_pipeline.warehouse import Lake, table, to_table

KEY = "polymarket:1"
T0 = 1_760_000_000_000_000_000
"""A time in October 2025, in whole microseconds."""


def lake_at(path: Path) -> Lake:
    """A lake that does not wait for the disk: what survives a power cut is not tested here."""
    return Lake(path / "lake", durability="rename")


def market(key: str = KEY, *, outcomes: int = 2, **changes: Any) -> Market:
    parsed = MarketKey.parse(key)
    labels = ("Yes", "No") if outcomes == 2 else tuple(f"Outcome {n}" for n in range(outcomes))
    fields: dict[str, Any] = {
        "key": parsed,
        "question": f"Will {key} happen?",
        "instruments": tuple(Instrument(parsed, n, label) for n, label in enumerate(labels)),
        "opened_at": T0,
        "scheduled_close": T0 + 10**15,
        "schedule_evidence": ScheduleEvidence.LISTED,
        "ticks": (TickRange(0, 1_000_000, 10_000),),
        "min_order_size": 5_000_000,
    }
    return Market(**(fields | changes))


def prices(rows: Sequence[dict[str, Any]], key: str = KEY) -> pa.Table:
    """Rows of market_data.prices; ``ts`` and ``known_at`` count seconds from :data:`T0`."""
    base = {"outcome_index": 0, "mid": None, "bid": None, "ask": None, "resolution_s": 0, "source": "test"}
    return _observed("market_data.prices", [base | row for row in rows], key)


def trades(rows: Sequence[dict[str, Any]], key: str = KEY) -> pa.Table:
    base = {
        "outcome_index": 0,
        "ordinal": 0,
        "price": 500_000,
        "size": 1_000_000,
        "side": "buy",
        "side_evidence": "feed",
        "wallet": None,
        "is_block": False,
    }
    rows = [{"trade_id": f"t{n:04}"} | base | row for n, row in enumerate(rows)]
    return _observed("market_data.trades", rows, key)


def book_events(rows: Sequence[dict[str, Any]], key: str = KEY) -> pa.Table:
    base = {"kind": "level", "side": None, "price": None, "size": None}
    return _observed("market_data.book_events", [base | row for row in rows], key)


def level(seq: int, side: str, price: int, size: int, ts: int | None = None, **more: Any) -> dict[str, Any]:
    """A row of the book log; prices in cents, sizes in contracts; by default it is known when it happens."""
    return {
        "ts": seq if ts is None else ts,
        "seq": seq,
        "side": side,
        "price": price * 10_000,
        "size": size * 1_000_000,
    } | more


def event(seq: int, kind: str, ts: int | None = None, **more: Any) -> dict[str, Any]:
    return {"ts": seq if ts is None else ts, "seq": seq, "kind": kind} | more


def at(second: int) -> int:
    return T0 + second * 1_000_000_000


def runs(run_id: str, count: int) -> pa.Table:
    """``count`` rows of backtest.runs whose seed is ``count``."""
    row: dict[str, Any] = {
        "run_id": run_id,
        "started_at": T0,
        "finished_at": None,
        "status": "success",
        "world": "SANDBOX",
        "config": "{}",
        "seed": count,
        "code_version": "1",
        "data_fingerprint": "f",
    }
    return to_table("backtest.runs", {name: [value] * count for name, value in row.items()})


def _observed(name: str, rows: Sequence[dict[str, Any]], key: str) -> pa.Table:
    rows = [{"known_at": row["ts"]} | row for row in rows]
    columns: dict[str, Any] = {column: [row[column] for row in rows] for column in (rows[0] if rows else ())}
    if not rows:
        return table(name).arrow.empty_table()
    columns |= {
        "market_key": [key] * len(rows),
        "ts": [at(row["ts"]) for row in rows],
        "known_at": [at(row["known_at"]) for row in rows],
        "ingested_at": [T0 + 10**16] * len(rows),
    }
    return to_table(name, columns)
