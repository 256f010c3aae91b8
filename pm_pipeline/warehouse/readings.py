"""Tables that hold what a source showed whenever it was looked at: positions, holders, leaderboards.

A reading is all that was seen at one look. What was known at a time is the last reading at or before it, also
where that one was empty; the footer of a partition therefore lists its readings.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.warehouse.lake import Lake, MissingPartitionError
from pm_pipeline.warehouse.records import time_array

ACTIVITY: Final = "market_data.wallet_activity"
POSITIONS: Final = "market_data.wallet_positions"
HOLDERS: Final = "market_data.holders"

READINGS: Final = "readings"
"""Footer key of a partition: its readings, as JSON."""


class Reading(NamedTuple):
    """One look at a source: when it began, when its last answer was there, and how many rows it gave."""

    ts: Nanos
    known_at: Nanos
    rows: int


def readings_of(lake: Lake, table: str, partition: str) -> list[Reading]:
    """All readings of a partition, in order of time; none where nobody looked."""
    info = lake.info(table, partition)
    return [] if info is None else [Reading(*each) for each in json.loads(info.meta.get(READINGS, "[]"))]


def as_meta(readings: Sequence[Reading]) -> Mapping[str, str]:
    """What stands in the footer of a partition of these readings."""
    return {READINGS: json.dumps(sorted(readings))}


def of_reading(rows: pa.Table, ts: Nanos) -> pa.Table:
    """The rows of the reading that began at ``ts``."""
    return rows.filter(pc.equal(rows["ts"], time_array([ts])[0]))


def positions_known_at(lake: Lake, wallet: str, t: Nanos) -> pa.Table | None:
    """What a wallet held by the last reading at or before ``t``; ``None`` where nobody had looked by then."""
    return _known_at(lake, POSITIONS, wallet, t)


def holders_known_at(lake: Lake, market: MarketKey, t: Nanos) -> pa.Table | None:
    """A market's largest holders by the last reading at or before ``t``; ``None`` where there was none."""
    return _known_at(lake, HOLDERS, str(market), t)


def activity_known_at(lake: Lake, wallet: str, t: Nanos) -> pa.Table:
    """What a wallet had done, as far as anybody could have read it at ``t``.

    Raises :class:`MissingPartitionError` where nobody has read the wallet.
    """
    rows = lake.read(ACTIVITY, wallet)
    return rows.filter(pc.less_equal(rows["known_at"], time_array([t])[0]))


def _known_at(lake: Lake, table: str, partition: str, t: Nanos) -> pa.Table | None:
    known = [reading for reading in readings_of(lake, table, partition) if reading.known_at <= t]
    if not known:
        return None
    try:
        return of_reading(lake.read(table, partition), max(known).ts)
    except MissingPartitionError:  # taken out meanwhile
        return None
