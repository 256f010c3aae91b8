"""Order books beside their hashes and the mid points of their time."""

from typing import Final

import pyarrow as pa

from pm_pipeline.warehouse.coverage import CoverageStatus
from pm_pipeline.warehouse.reconcile.findings import (
    BOOKS,
    HALF_SPREAD,
    NEAR_US,
    PRICES,
    Finding,
    Held,
    Rule,
    valued,
)

_TOUCH: Final = """
    SELECT seq, min(epoch_us(ts)) AS t, max(price) FILTER (side = 'bid' AND size > 0) AS bid,
           min(price) FILTER (side = 'ask' AND size > 0) AS ask
    FROM batch WHERE seq IN (SELECT seq FROM batch WHERE kind = 'reset') OR seq = ? GROUP BY seq
"""
_BOOK_COLUMNS: Final = ("ts", "seq", "kind", "side", "price", "size")


def hashes(rule: Rule, held: Held) -> list[Finding]:
    """Whether every book that was read bore the hash that it stated; a reader refuses the others."""
    readings = held.coverage(BOOKS)
    refused = sum("does not have its hash" in reading.reason for reading in readings)
    known = sum(reading.status is CoverageStatus.COMPLETE for reading in readings) + refused
    return [
        rule.within(
            "books refused",
            "none",
            (float(refused) if known else None, 0.0),
            0.0,
            known,
            detail=next((r.reason for r in readings if "does not have its hash" in r.reason), ""),
        )
    ]


def touch(rule: Rule, held: Held) -> list[Finding]:
    """The middle of each whole book beside the mid point at the time, give or take its half spread."""
    touches: dict[int, tuple[int, int | None, int | None]] = {}
    last = -1
    if held.rows.get(BOOKS, 0) and held.rows.get(PRICES, 0):
        for batch in held.lake.batches(BOOKS, held.key, _BOOK_COLUMNS):
            held.sql.register("batch", pa.Table.from_batches([batch]))
            for seq, t, bid, ask in held.sql.execute(_TOUCH, [last]).fetchall():
                former = touches.get(seq, (t, None, None))
                touches[seq] = (
                    min(t, former[0]),
                    max((p for p in (bid, former[1]) if p is not None), default=None),
                    min((p for p in (ask, former[2]) if p is not None), default=None),
                )
                last = max(last, seq)
            held.sql.unregister("batch")
    whole = [(t, bid, ask) for t, bid, ask in touches.values() if bid is not None and ask is not None]
    columns = zip(*whole, strict=True) if whole else ((), (), ())
    arrays = [pa.array(column, pa.int64()) for column in columns]
    held.sql.register("touches", pa.table(arrays, names=["t", "bid", "ask"]))
    count, apart, book, mid, half = held.one(
        f"""
        WITH mids AS (
            SELECT epoch_us(ts) AS t, mid / 1e6 AS mid FROM prices
            WHERE outcome_index = 0 AND mid IS NOT NULL
        ),
        near AS (
            SELECT (bid + ask) / 2e6 AS book, (ask - bid) / 2e6 AS half, mid
            FROM touches ASOF JOIN mids ON touches.t >= mids.t WHERE touches.t - mids.t <= {NEAR_US}
        )
        SELECT count(*), median(abs(book - mid)), median(book), median(mid), median(half) FROM near
        """
    )
    held.sql.unregister("touches")
    finding = rule.within(
        "book",
        "prices",
        (0.0 if count else None, apart),
        (half or 0.0) + HALF_SPREAD,
        count,
        detail=f"median of {count} books: {apart:.4f} apart" if count else "",
    )
    return [valued(finding, book, mid)]
