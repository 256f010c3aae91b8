"""Columns that many tables share, and short ways to write the others."""

from typing import Final

from pm_pipeline.warehouse.columns import Column, Encoding, Kind

NONE: Final = -(2**63)
"""Stands for null in a file; no price or size is near it."""


def text(name: str, meaning: str) -> Column:
    """A text that is always there."""
    return Column(name, Kind.TEXT, meaning)


def maybe(name: str, kind: Kind, meaning: str) -> Column:
    """A column that may be null."""
    return Column(name, kind, meaning, nullable=True)


def date(name: str, meaning: str, *, nullable: bool = True) -> Column:
    """A time that is not the table's clock: many rows share it, and it jumps from row to row."""
    return Column(name, Kind.TIME, meaning, nullable, Encoding.DICTIONARY)


MARKET_KEY: Final = text("market_key", "venue:native_id")
OUTCOME: Final = Column("outcome_index", Kind.INT, "which outcome of the market, from 0")
OBSERVED: Final = (
    Column("ts", Kind.TIME, "when it was true"),
    Column("known_at", Kind.TIME, "when an outsider could first have known it"),
    Column("ingested_at", Kind.TIME, "when we read it"),
)
KNOWN: Final = OBSERVED[1:]
STRATEGY: Final = text("strategy", "registered name of the strategy")
RUN: Final = text("run_id", "the run that wrote the row; see backtest.runs")
SCENARIO: Final = text("scenario", "pessimistic, base or optimistic")
