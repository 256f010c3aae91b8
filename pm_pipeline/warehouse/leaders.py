"""Who led at a time, as it was known then: never today's list for yesterday.

A leaderboard is hindsight: it ranks wallets by what has already happened. It may be used from the moment at
which it was read, and not before.
"""

from enum import StrEnum
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets.clock import Nanos, day_of
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import time_array

LEADERBOARD: Final = "market_data.leaderboard"


class Period(StrEnum):
    """Over how long a leaderboard sums, up to its reading."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    ALL = "all"


class RankedBy(StrEnum):
    """What a leaderboard sorts by."""

    PNL = "pnl"
    VOLUME = "volume"


def leaders_known_at(lake: Lake, t: Nanos, period: Period | str, by: RankedBy | str) -> pa.Table | None:
    """The list of this period and order that was read last at or before ``t``, best first.

    ``None`` where nobody had read one by then. Raises ``ValueError`` for a period or order that there is not.
    """
    wanted, order = Period(period), RankedBy(by)
    last_day = day_of(t)
    for (day,) in reversed(lake.partitions(LEADERBOARD)):
        if day > last_day:
            continue
        rows = lake.read(LEADERBOARD, day)
        known = pc.and_(
            pc.less_equal(rows["known_at"], time_array([t])[0]),
            pc.and_(pc.equal(rows["period"], wanted.value), pc.equal(rows["ranked_by"], order.value)),
        )
        rows = rows.filter(known)
        if rows.num_rows:
            return rows.filter(pc.equal(rows["ts"], pc.max(rows["ts"])))
    return None
