"""Markets that settle together: their prices make a dollar."""

from typing import Final

import pyarrow as pa

from pm_pipeline.warehouse.reconcile.findings import HOUR_US, PRICES, Finding, Held, Rule

PER_MID: Final = 0.02
"""Dollars by which each mid point of an exclusive group may be off. Recorded temperature events of 11 buckets
sum to 1.04 in the median, and 211 of 213 lie within 11 times this."""

_SUMS: Final = """
    WITH hourly AS (
        SELECT market_key, epoch_us(ts) // {hour} AS hour, arg_max(mid, ts) / 1e6 AS mid
        FROM members WHERE outcome_index = 0 AND mid IS NOT NULL GROUP BY ALL
    ),
    whole AS (SELECT sum(mid) AS total FROM hourly GROUP BY hour HAVING count(*) = {members})
    SELECT quantile_disc(total, 0.5), count(*) FROM whole
"""


def exclusive_sum(rule: Rule, held: Held) -> list[Finding]:
    """The sum of the last YES mid point of each hour over all markets of the group, where all have one."""
    lake, members = held.lake, held.members
    middle, hours = None, 0
    if len(members) > 1 and all(lake.exists(PRICES, key) for key in members):
        rows = [lake.read(PRICES, key, ("market_key", "outcome_index", "ts", "mid")) for key in members]
        held.sql.register("members", pa.concat_tables(rows))
        middle, hours = held.one(_SUMS.format(hour=HOUR_US, members=len(members)))
        held.sql.unregister("members")
    return [
        rule.within(
            "prices of the group",
            "one dollar",
            (middle, 1.0),
            PER_MID * len(members),
            hours,
            detail=f"{len(members)} markets, {hours} hours" if members else "not an exhaustive group",
        )
    ]
