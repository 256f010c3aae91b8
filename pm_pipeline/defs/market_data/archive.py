"""What is read again by itself: fine history before the venue forgets it, and how markets ended.

Which markets are due, and a warning for those at risk.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import dagster as dg

from pm_pipeline.defs.interrupts import complete
from pm_pipeline.defs.market_data.assets import TABLES
from pm_pipeline.defs.partitions import contiguous_ranges
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.markets.clock import Nanos, format_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.ingest import is_fresh
from pm_pipeline.sources.polymarket.history.retention import about_to_expire, is_archived
from pm_pipeline.universe import choose, universe_of

ARCHIVED: Final = ("prices", "trades")
"""What is read again and again while a market trades."""


class Followed(NamedTuple):
    """Assets that are read again and again, and of which markets."""

    assets: tuple[str, ...]
    wanted: Callable[[Market, Nanos], bool]


def has_closed(market: Market, now: Nanos) -> bool:
    """Whether trading has ended, as far as the catalog knows."""
    return market.traded_until is not None and market.traded_until <= now


HISTORY: Final = Followed(ARCHIVED, is_archived)
"""Of what trades or closed within a week."""

RESULTS: Final = Followed(("resolutions",), has_closed)

MOST_RUNS: Final = 20
"""Ranges of partitions that one tick asks for; near ones are joined, and what lies between is read too."""


def universe_markets(workspace: Workspace) -> list[Market]:
    """The markets of the configured universe that the catalog knows."""
    return choose(universe_of(workspace.settings), workspace.catalog.markets().values())


async def due(workspace: Workspace, markets: Sequence[Market], followed: Followed) -> list[Market]:
    """Those of ``markets`` that are followed, and of which something new can be had."""
    found = []
    for venue in sorted({market.key.venue for market in markets}):
        async with workspace.adapter(venue) as adapter:
            now = await adapter.now()
            found += [
                market
                for market in markets
                if market.key.venue is venue
                and followed.wanted(market, now)
                and not all(
                    is_fresh(adapter, workspace.lake, TABLES[name], market, now) for name in followed.assets
                )
            ]
    return found


def ranges(ordered: Sequence[str], wanted: Iterable[str], most: int = MOST_RUNS) -> list[tuple[str, str]]:
    """First and last key of at most ``most`` runs of ``ordered`` that cover ``wanted``."""
    found = contiguous_ranges(list(ordered), set(wanted))
    place = {key: number for number, key in enumerate(ordered)}
    gaps = [place[after[0]] - place[before[1]] for before, after in pairwise(found)]
    kept = set(sorted(range(len(gaps)), key=lambda gap: -gaps[gap])[: most - 1])
    joined = found[:1]
    for number, following in enumerate(found[1:]):
        joined = [*joined, following] if number in kept else [*joined[:-1], (joined[-1][0], following[1])]
    return joined


@dg.asset_check(
    asset="prices",
    name="fine_history_is_saved",
    description="No point of a minute is within two days of being forgotten by Polymarket, and not stored.",
)
def fine_history_is_saved(workspace: Workspace) -> dg.AssetCheckResult:
    """Warn of the markets of the universe whose finest points nobody saves."""
    markets = [market for market in universe_markets(workspace) if market.key.venue is Venue.POLYMARKET]
    unsaved = about_to_expire(workspace.lake, markets, complete(_now(workspace)) if markets else 0)
    lines = [
        f"- `{each.market_key}`: stored up to {format_time(each.since)}; the next points are forgotten at "
        f"{format_time(each.expires_at)}"
        for each in unsaved[:20]
    ]
    return dg.AssetCheckResult(
        passed=not unsaved,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "markets": len(markets),
            "unsaved": len(unsaved),
            "first": dg.MetadataValue.md("\n".join(lines) or "none"),
        },
    )


async def _now(workspace: Workspace) -> Nanos:
    async with workspace.adapter(Venue.POLYMARKET) as adapter:
        return await adapter.now()
