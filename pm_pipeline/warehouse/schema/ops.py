"""What was asked of the sources, what came, and whether they agree."""

from typing import Final

from pm_pipeline.warehouse.columns import Column, Kind, PartitionedBy, Table
from pm_pipeline.warehouse.schema.parts import MARKET_KEY, maybe, text

OPS: Final = (
    Table(
        "ops.reconciliation",
        "What sources say of the same thing, compared per market: both values, and whether they agree.",
        PartitionedBy.MARKET,
        (
            MARKET_KEY,
            text("rule", "what is compared; see docs/polymarket.md"),
            text("verdict", "agrees, conflicts, or untold: one side has nothing to compare"),
            text("left_source", "first source"),
            text("right_source", "second source"),
            maybe("left_value", Kind.STAT, "what the first says"),
            maybe("right_value", Kind.STAT, "what the second says"),
            maybe("allowed", Kind.STAT, "largest difference that passes"),
            Column("compared", Kind.COUNT, "pairs of observations behind it"),
            text("detail", "in words, where figures do not say it"),
            Column("ingested_at", Kind.TIME, "when it was compared"),
        ),
        ("rule", "left_source", "right_source"),
    ),
    Table(
        "ops.coverage",
        "What was asked of a source and what came: a short answer is visible, with its reason.",
        PartitionedBy.TABLE_PARTITION,
        (
            text("table_name", "table that was filled"),
            text("partition", "its partition"),
            text("source", "endpoint"),
            text(
                "status",
                "complete, partial, empty, unsupported, frozen, quiet or failed: see warehouse.coverage",
            ),
            maybe("asked_from", Kind.TIME, "start of the window asked"),
            maybe("asked_to", Kind.TIME, "end of the window asked"),
            maybe("got_from", Kind.TIME, "first row"),
            maybe("got_to", Kind.TIME, "last row"),
            Column("rows", Kind.COUNT, "how many rows came"),
            Column("gaps", Kind.INT, "breaks found"),
            text("reason", "why it is short or empty; empty: complete"),
            Column("ingested_at", Kind.TIME, "when we read it"),
        ),
        ("table_name", "source"),
    ),
)
