"""What a comparison is made of: the rule, what the lake holds of a market, and the verdict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

import duckdb

from pm_pipeline.markets.market import Market
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.coverage import Coverage, read_coverage
from pm_pipeline.warehouse.lake import Lake

RECONCILIATION: Final = "ops.reconciliation"
PRICES: Final = "market_data.prices"
TRADES: Final = "market_data.trades"
FILLS: Final = "market_data.wallet_fills"
BOOKS: Final = "market_data.book_events"
RESOLUTIONS: Final = "catalog.resolutions"

HALF_SPREAD: Final = 0.02
"""Dollars that a trade may usually lie from the mid point. In the recorded hour in which London's 27 °C was
decided, the median trade lay 0.025 from it, and the average price of the hour 0.012."""

HOUR_US: Final = 3_600_000_000
NEAR_US: Final = 2 * HOUR_US
"""A mid point older than this is not near a trade."""


class Verdict(StrEnum):
    """What a comparison found."""

    AGREES = "agrees"
    CONFLICTS = "conflicts"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One comparison; see the columns of ``ops.reconciliation``."""

    rule: str
    verdict: Verdict
    left_source: str
    right_source: str
    left_value: float | None = None
    right_value: float | None = None
    allowed: float | None = None
    compared: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What the lake holds of one market: rows by table, opened in ``sql`` as views of their bare names.

    ``members`` are the markets of its group where the group is exclusive and exhaustive, itself among them.
    """

    lake: Lake
    market: Market
    sql: duckdb.DuckDBPyConnection
    rows: Mapping[str, int]
    members: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Key of the market."""
        return str(self.market.key)

    @property
    def tick(self) -> float:
        """Largest step of its prices, in dollars."""
        return max(each.step for each in self.market.ticks) / MICRO

    def coverage(self, table: str) -> list[Coverage]:
        """What was recorded of its readings of a table."""
        return read_coverage(self.lake, table, self.key)

    def one(self, query: str, *values: object) -> tuple[Any, ...]:
        """The one row of a query."""
        [row] = self.sql.execute(query, list(values)).fetchall()
        return tuple(row)


Compare = Callable[["Rule", Held], list[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is compared, and how bad it is if it does not agree."""

    name: str
    meaning: str
    compare: Compare
    severity: Literal["warn", "error"] = "warn"
    options: Mapping[str, str] = field(default_factory=dict)

    def find(self, held: Held) -> list[Finding]:
        """What the rule finds in one market."""
        return self.compare(self, held)

    def within(
        self,
        left: str,
        right: str,
        values: tuple[float | None, float | None],
        allowed: float,
        compared: int,
        *,
        least: int = 1,
        detail: str = "",
    ) -> Finding:
        """The verdict on two values, which must not differ by more than ``allowed``."""
        a, b = values
        if a is None or b is None or compared < least:
            verdict = Verdict.UNTOLD
        else:
            verdict = Verdict.AGREES if abs(a - b) <= allowed + 1e-9 else Verdict.CONFLICTS
        return Finding(
            rule=self.name,
            verdict=verdict,
            left_source=left,
            right_source=right,
            left_value=a,
            right_value=b,
            allowed=allowed,
            compared=compared,
            detail=detail,
        )


def valued(finding: Finding, left: float | None, right: float | None) -> Finding:
    """The finding with the values that people want to see in place of the difference."""
    values = {name: getattr(finding, name) for name in Finding.__slots__}
    return Finding(**(values | {"left_value": left, "right_value": right}))


def judged(finding: Finding, verdict: Verdict | None, detail: str | None = None) -> Finding:
    """The finding with another verdict or other words, where they are given."""
    values = {name: getattr(finding, name) for name in Finding.__slots__}
    changed = {"verdict": verdict or finding.verdict, "detail": finding.detail if detail is None else detail}
    return Finding(**(values | changed))
