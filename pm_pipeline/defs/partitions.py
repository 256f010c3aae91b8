"""What the assets are cut into: markets, groups of markets, and days."""

from datetime import timedelta
from typing import Final

import dagster as dg

MARKETS: Final = dg.DynamicPartitionsDefinition(name="markets")
"""One partition per market of the universe; the key is ``venue:native_id``."""

MARKET_GROUPS: Final = dg.DynamicPartitionsDefinition(name="market_groups")
"""One partition per set of markets that settle together."""

DAYS: Final = dg.DailyPartitionsDefinition(start_date="2021-01-01", end_offset=1)
"""UTC days, up to and including today."""

READ_DAILY: Final = dg.FreshnessPolicy.time_window(
    warn_window=timedelta(hours=26), fail_window=timedelta(hours=48)
)
"""For what is read once a day: Dagster shows it as stale when a day was missed."""

CHUNK: Final = 10_000
"""Keys registered at once; larger batches strain SQLite's limit on variables."""


def register(
    instance: dg.DagsterInstance, partitions: dg.DynamicPartitionsDefinition, keys: list[str]
) -> int:
    """Add keys that are not registered yet, sorted so that ranges stay contiguous; return how many."""
    name = partitions.name
    assert name is not None
    missing = sorted(set(keys) - set(instance.get_dynamic_partitions(name)))
    for start in range(0, len(missing), CHUNK):
        instance.add_dynamic_partitions(name, missing[start : start + CHUNK])
    return len(missing)


def contiguous_ranges(ordered: list[str], wanted: set[str]) -> list[tuple[str, str]]:
    """First and last key of each run of wanted keys that stand side by side in ``ordered``.

    Dagster runs many dynamic partitions at once only as a range of the registered order.
    """
    ranges: list[tuple[str, str]] = []
    previous_wanted = False
    for key in ordered:
        if key in wanted:
            first = ranges.pop()[0] if previous_wanted else key
            ranges.append((first, key))
        previous_wanted = key in wanted
    return ranges
