"""The feed beside the chain, transaction by transaction, and volumes by who counts them."""

from typing import Final

from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.coverage import CoverageStatus
from pm_pipeline.warehouse.reconcile.findings import (
    FILLS,
    HOUR_US,
    TRADES,
    Finding,
    Held,
    Rule,
    Verdict,
    judged,
)

VOLUME_WITHIN: Final = 0.05
"""Share by which volumes may differ: venues count until earlier or later."""

SAME_SIZE: Final = 0.01
"""Contracts within which two sizes are the same: the feed rounds."""

SAME_PRICE: Final = 0.0001
"""Dollars within which two average prices of one transaction are the same."""

MISSING_WITHIN: Final = 0.01
"""Share of transactions that one side may lack, or tell the other way round."""

_MATCHED: Final = """
    WITH feed AS (
        SELECT lower(trade_id) AS tx, outcome_index AS o, min(epoch_us(ts)) AS t, sum(size) / 1e6 AS n,
               sum(price::DOUBLE * size) / sum(size) / 1e6 AS p, min(side) AS side,
               count(DISTINCT side) AS sides
        FROM trades GROUP BY ALL
    ),
    chain AS (
        SELECT '0x' || lower(hex(tx)) AS tx, outcome_index AS o, min(epoch_us(ts)) AS t, sum(size) / 1e6 AS n,
               sum(cash)::DOUBLE / nullif(sum(size), 0) AS p, min(side) AS side,
               count(DISTINCT side) AS sides, bool_and(balance IN ('exact', 'restated')) AS exact
        FROM fills WHERE role = 'taker' GROUP BY ALL
    ),
    reach AS (
        SELECT coalesce(?, greatest((SELECT min(t) FROM feed), (SELECT min(t) FROM chain))) AS first,
               coalesce(?, least((SELECT max(t) FROM feed), (SELECT max(t) FROM chain))) AS last
    ),
    pairs AS (
        SELECT feed.n AS fn, feed.p AS fp, feed.side AS fs, chain.n AS cn, chain.p AS cp, chain.side AS cs,
               exact, feed.tx AS ft, chain.tx AS ct, feed.sides = 1 AND chain.sides = 1 AS clear
        FROM feed FULL JOIN chain ON feed.tx = chain.tx AND feed.o = chain.o, reach
        WHERE coalesce(feed.t, chain.t) BETWEEN first AND last
    )
    SELECT count(*) FILTER (ft IS NOT NULL AND ct IS NOT NULL),
           count(*) FILTER (ft IS NULL), count(*) FILTER (ct IS NULL),
           avg((fs = cs)::INT) FILTER (clear),
           sum(fn) FILTER (exact), sum(cn) FILTER (exact),
           count(*) FILTER (exact AND abs(fn - cn) > {size}),
           avg(fp) FILTER (exact), avg(cp) FILTER (exact),
           count(*) FILTER (exact AND abs(fp - cp) > {price} + {size} / greatest(cn, {size})),
           count(*) FILTER (exact), count(*) FILTER (clear)
    FROM pairs
"""


_WHOLE: Final = frozenset({CoverageStatus.COMPLETE, CoverageStatus.EMPTY})
"""A chain may be called complete that lacks the last hour of what was asked of it."""


def against_chain(rule: Rule, held: Held) -> list[Finding]:
    """Each taker row of the feed beside the active orders of the same transaction.

    Of a closed market that both tell whole, all rows must pair; otherwise those of the time of which both
    have rows.
    """
    first, last = _time_of_both(held)
    (both, no_feed, no_chain, same, fn, cn, sizes, fp, cp, prices, exact, clear) = held.one(
        _MATCHED.format(size=SAME_SIZE, price=SAME_PRICE), first, last
    )
    lacking = no_feed + no_chain
    told = both + lacking > 0 and _was_read(held, TRADES) and _was_read(held, FILLS)
    missing = rule.within(
        "trades transactions",
        "fills transactions",
        (float(both + no_chain), float(both + no_feed)) if told else (None, None),
        MISSING_WITHIN * (both + lacking),
        both + lacking,
        detail=f"{no_feed} are missing in the feed, {no_chain} on the chain" if lacking else "",
    )
    if told and lacking > MISSING_WITHIN * (both + lacking):  # equal counts of different transactions
        missing = judged(missing, Verdict.CONFLICTS)
    return [
        missing,
        rule.within("trades side", "fills side", (same, 1.0), MISSING_WITHIN, clear),
        judged(
            rule.within("trades size", "fills size", (fn, cn), SAME_SIZE, exact),
            Verdict.CONFLICTS if sizes > MISSING_WITHIN * exact else Verdict.AGREES if exact else None,
            f"{sizes} transactions differ" if sizes else "",
        ),
        judged(
            rule.within("trades price", "fills price", (fp, cp), SAME_PRICE, exact),
            Verdict.CONFLICTS if prices > MISSING_WITHIN * exact else Verdict.AGREES if exact else None,
            f"{prices} transactions differ" if prices else "",
        ),
    ]


def _time_of_both(held: Held) -> tuple[int | None, int | None]:
    """From when until when feed and chain must tell the same (microseconds); ``None``: as far as rows go."""
    windows: list[tuple[int, int]] = []
    for table, behind in ((TRADES, 0), (FILLS, HOUR_US)):
        for reading in held.coverage(table):
            if reading.status not in _WHOLE or reading.asked_from is None or reading.asked_to is None:
                return None, None
            windows.append((reading.asked_from // 1000, reading.asked_to // 1000 - behind))
    if held.market.traded_until is None or len(windows) < 2:
        return None, None
    starts, ends = zip(*windows, strict=True)
    return max(starts), min(ends)


def _was_read(held: Held, table: str) -> bool:
    """Whether a source told what there is, be it that there is nothing."""
    empty = any(reading.status is CoverageStatus.EMPTY for reading in held.coverage(table))
    return held.rows.get(table, 0) > 0 or empty


def _sum(held: Held, table: str, query: str) -> float | None:
    """What a table sums to; nothing that was read is zero, nothing read is no number."""
    total: float | None = held.one(query)[0]
    return 0.0 if total is None and _was_read(held, table) else total


def volumes(rule: Rule, held: Held) -> list[Finding]:
    """What the venue states beside the sum of its trades and that of the chain, two by two."""
    market = held.market
    contracts = market.key.venue is Venue.KALSHI
    unit = "size / 1e6" if contracts else "price::DOUBLE * size / 1e12"
    values = {
        # a market that trades states the volume of the moment at which its catalog was read
        "venue": None if market.volume is None or market.traded_until is None else market.volume / MICRO,
        "trades": _sum(held, TRADES, f"SELECT sum({unit}) FROM trades"),
        "fills": _sum(held, FILLS, "SELECT sum(cash) / 1e6 FROM fills WHERE counts_volume"),
    }
    return [
        rule.within(
            left,
            right,
            (values[left], values[right]),
            VOLUME_WITHIN * max(values[left] or 0.0, values[right] or 0.0),
            held.rows.get(table, 0),
            least=0,
            detail="contracts" if contracts else "dollars",
        )
        for left, right, table in (
            ("venue", "trades", TRADES),
            ("venue", "fills", FILLS),
            ("trades", "fills", FILLS),
        )
    ]
