"""What Kalshi charges where, by its own listings: series, overrides of events, waivers, and their changes."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from pm_pipeline.markets.clock import Nanos, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.listed_fees import FeeChange, ListedFee, ListedFeeError, dated
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.errors import BadResponse, PageNotArchived
from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.kalshi.wire import EventFeeChange, KalshiEvent, KalshiSeries, SeriesFeeChange
from pm_pipeline.sources.wire import convert, moment

LISTED_SINCE: Final[Nanos] = parse_time("2025-09-21")
"""How far the lists of changes reach back: they are in the changelog since that day. What a listing says, and
no change contradicts, has held since then.
"""

SERIES_CHANGES: Final = "/series/fee_changes"
EVENT_CHANGES: Final = "/events/fee_changes"

_ZERO: Final = Decimal(0)


class _SeriesChanges(msgspec.Struct):
    series_fee_change_arr: list[SeriesFeeChange]


async def listed_fees(
    client: HttpClient,
    markets: Iterable[Market],
    series: Mapping[str, KalshiSeries],
    events: Mapping[str, KalshiEvent],
    waivers: Mapping[str, str],
    now: Nanos,
) -> list[ListedFee]:
    """The fees that bind these markets, as far as the venue states them, in the order of their scopes.

    Parameters
    ----------
    series, events, waivers
        The listings that were read with the markets, by ticker; a waiver by its end.

    Raises
    ------
    BadResponse
        for a fee type that we do not know: rather no catalog than fees that are guessed.
    """
    chosen = list(markets)
    try:
        changes = await _changes(client)
    except PageNotArchived:
        return []  # an archive from before these lists were read: the packaged tables decide
    found = []
    for name in sorted({m.series for m in chosen if m.series} & series.keys()):
        listing = series[name]
        found += _scope(f"series:{name}", listing.fee_type, listing.fee_multiplier, changes, now)
    for name in sorted({m.event_id for m in chosen if m.event_id} & events.keys()):
        event = events[name]
        found += _scope(f"event:{name}", event.fee_type_override, event.fee_multiplier_override, changes, now)
    for market in sorted(chosen, key=lambda market: str(market.key)):
        until = waivers.get(market.key.native_id)
        if until is not None:
            end = moment(until, "/markets", "fee_waiver_expiration_time")
            opened = LISTED_SINCE if market.opened_at is None else market.opened_at
            if opened < end:
                free = FeeChange(opened, "quadratic", _ZERO), FeeChange(end, None, None)
                found += dated(
                    free,
                    venue=Venue.KALSHI,
                    scope=f"market:{market.key}",
                    source="Kalshi GET /markets: fee_waiver_expiration_time",
                    known_at=now,
                )
    return found


def _scope(
    scope: str,
    fee_type: str | None,
    multiplier: Decimal | None,
    changes: Mapping[str, list[FeeChange]],
    now: Nanos,
) -> list[ListedFee]:
    """The dated fees of a series or event: its changes, and its present state where none of them made it.

    Of several changes at one moment the one that the listing shows holds, else the last listed: their order
    is not documented.
    """
    recorded = changes.get(scope, [])
    known = sorted(
        recorded, key=lambda change: (change.fee_type, change.multiplier) == (fee_type, multiplier)
    )
    if all(change.at > now for change in recorded):
        known.insert(0, FeeChange(LISTED_SINCE, fee_type, multiplier))
    kind = scope.partition(":")[0]
    path = SERIES_CHANGES if kind == "series" else EVENT_CHANGES
    source = f"Kalshi GET {path if scope in changes else ('/series' if kind == 'series' else '/events')}"
    try:
        return dated(known, venue=Venue.KALSHI, scope=scope, source=source, known_at=now)
    except ListedFeeError as error:
        raise BadResponse(f"{path}: {error}") from error


async def _changes(client: HttpClient) -> dict[str, list[FeeChange]]:
    """All recorded and scheduled changes by scope."""
    found: dict[str, list[FeeChange]] = {}
    body = await client.get(SERIES_CHANGES, {"show_historical": "true"})
    for row in convert(body, _SeriesChanges, SERIES_CHANGES).series_fee_change_arr:
        at = moment(row.scheduled_ts, SERIES_CHANGES, "scheduled_ts")
        found.setdefault(f"series:{row.series_ticker}", []).append(
            FeeChange(at, row.fee_type, row.fee_multiplier)
        )
    pages = client.pages(
        EVENT_CHANGES,
        {"limit": 1000},
        rows="event_fee_changes",
        cursor_in="cursor",
        cursor_of=lambda body: body.get("cursor"),
        identity=lambda row: str(row.get("id") if isinstance(row, Mapping) else row),
    )
    async for page in pages:
        for item in page:
            change = convert(item, EventFeeChange, EVENT_CHANGES)
            at = moment(change.scheduled_ts, EVENT_CHANGES, "scheduled_ts")
            found.setdefault(f"event:{change.event_ticker}", []).append(
                FeeChange(at, change.fee_type_override, change.fee_multiplier_override)
            )
    return found
