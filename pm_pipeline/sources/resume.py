"""Going on where the last reading ended: what to ask for again, and how the new rows join the stored ones.

Stored rows are never given up: a venue forgets its fine history, so what was saved in time is all there is.
Each new reading overlaps the last one, and where they overlap they must say the same.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets.clock import HOUR, SECOND, Nanos, format_time, to_nanos
from pm_pipeline.sources.errors import SourceError

OVERLAP: Final[Nanos] = 6 * HOUR
"""How much of what is stored is read again."""

Since: TypeAlias = Mapping[int, Nanos]
"""From when each outcome is read; one that is not named is read from the start."""

_PRICE: Final = ("mid", "bid", "ask")


class ConflictError(SourceError):
    """A source now says something else of a time of which it told before."""


def last_points(former: pa.Table) -> dict[int, Nanos]:
    """The time of the newest stored row of each outcome."""
    grouped = former.group_by("outcome_index").aggregate([("ts", "max")])
    return {row["outcome_index"]: to_nanos(row["ts_max"]) for row in grouped.to_pylist()}


def prices_since(former: pa.Table) -> Since:
    """From when prices are asked for again, given what is stored."""
    return {outcome: last - OVERLAP for outcome, last in last_points(former).items()}


def join_prices(former: pa.Table, new: pa.Table, since: Since) -> pa.Table:
    """The stored prices and the new ones, each outcome joined where they overlap.

    New rows that are as fine as what is stored are added also within the overlap, coarser ones only after it.

    Raises
    ------
    ConflictError
        when the same moment has two prices, or nothing new is of the time of the overlap.
    """
    last = last_points(former)
    added = []
    for outcome in sorted(new["outcome_index"].unique().to_pylist()):
        mine = new.filter(pc.equal(new["outcome_index"], outcome))
        if outcome in last:
            stored = former.filter(pc.equal(former["outcome_index"], outcome))
            mine = _after(stored, mine, since.get(outcome, 0), last[outcome])
        added.append(mine)
    return pa.concat_tables([former, *added])


def _after(stored: pa.Table, new: pa.Table, start: Nanos, last: Nanos) -> pa.Table:
    old = {to_nanos(row["ts"]): row for row in _between(stored, start, last).to_pylist()}
    again = {to_nanos(row["ts"]): row for row in _between(new, start, last).to_pylist()}
    for ts in sorted(old.keys() & again.keys()):
        was, now = (tuple(row[name] for name in _PRICE) for row in (old[ts], again[ts]))
        if was != now and old[ts]["source"] == again[ts]["source"]:
            raise ConflictError(
                f"prices of {old[ts]['market_key']} at {format_time(ts)} were {_shown(was)}, and are now "
                f"{_shown(now)}; the stored ones were kept. Delete the partition first if they were wrong"
            )
    finest, kinds = min(row["resolution_s"] for row in old.values()), _kinds(old.values())
    # coarser points are a choice among observations, and may be chosen anew: from after the last one, too
    heard = again.values() or new.sort_by("ts").slice(0, 1).to_pylist()
    comparable = finest <= 60 and kinds & _kinds(heard)
    if comparable and not old.keys() & again.keys():
        raise ConflictError(
            f"of the {len(old)} prices stored of {format_time(start)} to {format_time(last)} none came "
            "again; they were kept. Delete the partition first if they were wrong"
        )
    sources = {source for source, _ in kinds}
    taken = [
        ts > last or (ts >= start and ts not in old and seconds <= finest and source in sources)
        for ts, seconds, source in zip(
            map(to_nanos, new["ts"].to_pylist()),
            new["resolution_s"].to_pylist(),
            new["source"].to_pylist(),
            strict=True,
        )
    ]
    return new.filter(pa.array(taken, pa.bool_()))


def trades_since(former: pa.Table) -> Nanos:
    """From when trades are asked for again: a whole second, so that rows that are alike stay together."""
    newest = max(last_points(former).values())
    return (newest - OVERLAP) // SECOND * SECOND


def join_trades(former: pa.Table, new: pa.Table, since: Nanos) -> pa.Table:
    """The stored trades before ``since``, and the new ones from then on.

    Raises
    ------
    ConflictError
        when a stored trade did not come again.
    """
    before, again = _between(former, 0, since - 1), _between(former, since, None)
    lost = _counted(again) - _counted(new)
    if lost:
        raise ConflictError(
            f"of {again.num_rows} trades stored since {format_time(since)}, {lost.total()} did not come "
            "again; they were kept. Delete the partition first if they were wrong"
        )
    return pa.concat_tables([before, new])


def _counted(rows: pa.Table) -> Counter[tuple[Any, ...]]:
    names = [name for name in rows.column_names if name != "ingested_at"]
    return Counter(zip(*(rows[name].to_pylist() for name in names), strict=True))


def _between(rows: pa.Table, start: Nanos, end: Nanos | None) -> pa.Table:
    """The rows of ``start`` to ``end``, both included."""
    ts = rows["ts"].cast(pa.int64())
    kept = pc.greater_equal(ts, -(-start // 1000))
    return rows.filter(kept if end is None else pc.and_(kept, pc.less_equal(ts, end // 1000)))


def _kinds(rows: Iterable[Mapping[str, Any]]) -> set[tuple[str, int]]:
    return {(row["source"], row["resolution_s"]) for row in rows}


def _shown(prices: tuple[Any, ...]) -> str:
    return "/".join("-" if value is None else str(value) for value in prices)
