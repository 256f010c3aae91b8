"""Markets that settle together: their prices make a dollar."""

from typing import Final

from pm_pipeline.warehouse.reconcile.findings import HOUR_US, PRICES, Finding, Held, Rule

PER_MID: Final = 0.02
"""Dollars by which each mid point of an exclusive group may be off. Recorded temperature events of 11 buckets
sum to 1.04 in the median, and 211 of 213 lie within 11 times this."""

_HOURLY: Final = (
    "SELECT epoch_us(ts) // {hour} AS hour, arg_max(mid, ts) / 1e6 AS mid FROM rows "
    "WHERE outcome_index = 0 AND mid IS NOT NULL GROUP BY hour"
)


def exclusive_sum(rule: Rule, held: Held) -> list[Finding]:
    """The sum of the last YES mid point of each hour over all markets of the group, where all have one."""
    lake, members = held.lake, held.members
    complete = len(members) > 1 and all(lake.exists(PRICES, key) for key in members)
    sums: dict[int, tuple[float, int]] = {}
    for key in members if complete else ():
        rows = lake.read(PRICES, key, ("outcome_index", "ts", "mid"))
        held.sql.register("rows", rows)
        for hour, mid in held.sql.execute(_HOURLY.format(hour=HOUR_US)).fetchall():
            total, count = sums.get(hour, (0.0, 0))
            sums[hour] = (total + mid, count + 1)
        held.sql.unregister("rows")
    whole = sorted(total for total, count in sums.values() if count == len(members))
    middle = whole[len(whole) // 2] if whole else None
    return [
        rule.within(
            "prices of the group",
            "one dollar",
            (middle, 1.0),
            PER_MID * len(members),
            len(whole),
            detail=f"{len(members)} markets, {len(whole)} hours" if members else "not an exhaustive group",
        )
    ]
