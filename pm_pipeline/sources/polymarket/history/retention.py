"""How long Polymarket keeps its price history, and what of it is about to be lost.

Fine points expire, and nobody has them afterwards: what was not saved in time is gone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from pm_pipeline.markets.clock import DAY, FOREVER, HOUR, SECOND, Nanos, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.ingest import ASKED_TO
from pm_pipeline.warehouse.lake import Lake

PRICES: Final = "market_data.prices"


class Rung(NamedTuple):
    """A fineness of the history: seconds per point, and the age up to which the venue promises it."""

    seconds: int
    kept: Nanos


RUNGS: Final = (
    Rung(60, 7 * DAY),
    Rung(300, 60 * DAY),
    Rung(1800, 90 * DAY),
    Rung(10_800, FOREVER),
    Rung(43_200, FOREVER),
)
"""Finest first. The ages are floors: the recorded sets hold points a minute apart of a month ago."""

KEPT_SINCE: Final[Nanos] = parse_time("2022-11-18")
"""Of the time before, the venue keeps no prices at all."""

LONGEST: Final[Nanos] = 15 * DAY
"""Fine history is served in windows of at most this length."""

ROLLING: Final[Nanos] = HOUR
"""Promises are counted this much shorter than they are, for they move on while we read."""

WARNED_AT: Final[Nanos] = 5 * DAY
"""Points of a minute that were not saved at this age have two days left."""


def promised(moment: Nanos, now: Nanos) -> Rung:
    """The finest rung that must still hold ``moment``."""
    return next(rung for rung in RUNGS if now - moment <= rung.kept - ROLLING)


def pieces(window: Window, now: Nanos) -> list[Window]:
    """``window`` cut where a promise ends and where a request would be too long; cuts are whole seconds."""
    start = max(window.start // SECOND * SECOND, KEPT_SINCE)
    ends = [-(-(now - rung.kept + ROLLING) // SECOND) * SECOND for rung in RUNGS if rung.kept < FOREVER]
    edges = [start, *sorted(end for end in ends if start < end < window.end), window.end]
    return [piece for left, right in pairwise(edges) for piece in Window(left, right).split(LONGEST)]


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A market whose points since ``since`` are not stored; the finest of them expire at ``expires_at``."""

    market_key: str
    since: Nanos
    expires_at: Nanos


def is_archived(market: Market, now: Nanos) -> bool:
    """Whether the finest history of ``market`` is worth saving: it trades, or closed within a week."""
    return market.traded_until is None or market.traded_until > now - RUNGS[0].kept


def about_to_expire(lake: Lake, markets: Iterable[Market], now: Nanos) -> list[Unsaved]:
    """The markets of Polymarket whose finest points are older than :data:`WARNED_AT` and not stored."""
    found = []
    for market in markets:
        if market.key.venue is not Venue.POLYMARKET or not is_archived(market, now):
            continue
        since = _saved_to(lake, market)
        over = market.traded_until is not None and since >= market.traded_until
        if not over and now - since >= WARNED_AT:
            found.append(Unsaved(str(market.key), since, since + RUNGS[0].kept))
    return sorted(found, key=lambda unsaved: (unsaved.since, unsaved.market_key))


def _saved_to(lake: Lake, market: Market) -> Nanos:
    """Up to when the history was asked for, and what came is stored."""
    info = lake.info(PRICES, str(market.key))
    return int(info.meta.get(ASKED_TO, 0)) if info else market.opened_at or 0
