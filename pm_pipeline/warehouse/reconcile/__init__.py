"""Whether the sources of one market agree: each rule compares two of them and says both values.

Rules are pure functions of what the lake holds of a market. Where one side has nothing to compare, the
verdict is ``untold``, never ``agrees``. Prices are compared as those of outcome 0, in dollars.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import duckdb
import pyarrow as pa

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.reconcile.books import hashes, touch
from pm_pipeline.warehouse.reconcile.ends import EXPECTED, covered, ends
from pm_pipeline.warehouse.reconcile.findings import (
    BOOKS,
    FILLS,
    PRICES,
    RECONCILIATION,
    RESOLUTIONS,
    TRADES,
    Finding,
    Held,
    Rule,
    Verdict,
)
from pm_pipeline.warehouse.reconcile.groups import exclusive_sum
from pm_pipeline.warehouse.reconcile.prices import against_prices
from pm_pipeline.warehouse.reconcile.trades import VOLUME_WITHIN, against_chain, volumes
from pm_pipeline.warehouse.records import to_table
from pm_pipeline.warehouse.schema import table as declared

__all__ = [
    "BOOKS",
    "EXPECTED",
    "FILLS",
    "PRICES",
    "RECONCILIATION",
    "RESOLUTIONS",
    "RULES",
    "TRADES",
    "Finding",
    "Rule",
    "Verdict",
    "findings_to_table",
    "reconcile",
    "reconcile_all",
]

RULES: Final = (
    Rule(
        "prices_against_trades",
        "Hour by hour, trades of the feed lie near the mid points of their own time.",
        against_prices,
        options={"source": "trades"},
    ),
    Rule(
        "prices_against_chain",
        "Hour by hour, fills on the chain lie near the mid points of their own time.",
        against_prices,
        options={"source": "fills"},
    ),
    Rule(
        "trades_against_chain",
        "Transaction by transaction, feed and chain tell the same taker: side, contracts, average price.",
        against_chain,
        "error",
    ),
    Rule("exclusive_sum", "The YES prices of an exhaustive group sum to about one dollar.", exclusive_sum),
    Rule(
        "volume_by_source",
        f"Venue, feed and chain tell the same volume, give or take {VOLUME_WITHIN:.0%}.",
        volumes,
    ),
    Rule("book_hash", "Every book bore the hash that it stated.", hashes, "error"),
    Rule("book_touch", "Whole books lie around the mid points of their time.", touch),
    Rule("coverage", "Every table that the market should have was read, whole.", covered),
    Rule("ends_by_source", "The stored payout is what each source claims.", ends, "error"),
)
"""The rules, in the order in which they are shown."""


def reconcile(
    lake: Lake, market: Market, members: Sequence[str] = (), rules: Sequence[Rule] = RULES
) -> list[Finding]:
    """What every rule finds in one market; ``members`` as in :class:`Held`."""
    [(_, findings)] = reconcile_all(lake, [(market, members)], rules)
    return findings


def reconcile_all(
    lake: Lake, markets: Iterable[tuple[Market, Sequence[str]]], rules: Sequence[Rule] = RULES
) -> Iterator[tuple[Market, list[Finding]]]:
    """Each market, with its ``members``, and what every rule finds in it; one market is held at a time."""
    # a market has few rows: more threads would cost more than they save
    with duckdb.connect(config={"threads": 1}) as sql:
        sql.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false").fetchall()
        for market, members in markets:
            held = _hold(lake, market, tuple(members), sql)
            yield market, [finding for rule in rules for finding in rule.find(held)]


_VIEWS: Final = {"prices": PRICES, "trades": TRADES, "fills": FILLS}


def _hold(lake: Lake, market: Market, members: tuple[str, ...], sql: duckdb.DuckDBPyConnection) -> Held:
    key = str(market.key)
    infos = {table: lake.info(table, key) for table in (*_VIEWS.values(), BOOKS)}
    rows = {table: info.rows for table, info in infos.items() if info is not None}
    for name, table in _VIEWS.items():
        sql.register(name, lake.read(table, key) if table in rows else declared(table).arrow.empty_table())
    return Held(lake, market, sql, rows, members)


def findings_to_table(key: str, findings: Sequence[Finding], ingested_at: Nanos) -> pa.Table:
    """Rows of ``ops.reconciliation`` about one market."""
    names = [name for name in Finding.__slots__ if name != "verdict"]
    return to_table(
        RECONCILIATION,
        {name: [getattr(finding, name) for finding in findings] for name in names}
        | {
            "market_key": [key] * len(findings),
            "verdict": [finding.verdict.value for finding in findings],
            "ingested_at": [ingested_at] * len(findings),
        },
    )
