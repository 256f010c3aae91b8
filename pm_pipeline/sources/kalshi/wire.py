"""What we read of Kalshi's answers, field by field, in the generations that are still served.

Prices are dollars as text (``*_dollars``), counts are contracts as text (``*_fp``); the archive tier drops
both suffixes. The cents and whole contracts of before 2026 are refused: the key that is needed is missing.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pm_pipeline.markets.units import Micro
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.wire import price, size


class PriceRange(msgspec.Struct):
    """A stretch of the price grid, in dollars."""

    start: Decimal
    end: Decimal
    step: Decimal


class KalshiMarket(msgspec.Struct):
    """A market as ``/markets`` lists it."""

    ticker: str
    event_ticker: str
    open_time: str
    close_time: str
    status: str
    result: str
    can_close_early: bool
    price_ranges: list[PriceRange]
    yes_sub_title: str
    title: str = ""
    rules_primary: str = ""
    rules_secondary: str = ""
    volume_fp: Decimal | None = None
    volume: Decimal | None = None
    settlement_value_dollars: Decimal | None = None
    settlement_ts: str | None = None
    fee_waiver_expiration_time: str | None = None


class KalshiEvent(msgspec.Struct):
    """An event: the parent of the markets of one question."""

    event_ticker: str
    series_ticker: str
    title: str
    mutually_exclusive: bool
    fee_type_override: str | None = None
    fee_multiplier_override: Decimal | None = None


class SettlementSource(msgspec.Struct):
    """Who decides."""

    name: str | None = None
    url: str | None = None


class KalshiSeries(msgspec.Struct):
    """A series of events: category, tags and fees live here."""

    ticker: str
    category: str
    tags: list[str] | None = None
    settlement_sources: list[SettlementSource] | None = None
    fee_type: str | None = None
    fee_multiplier: Decimal | None = None


class SeriesFeeChange(msgspec.Struct):
    """An entry of ``/series/fee_changes``."""

    series_ticker: str
    fee_type: str
    fee_multiplier: Decimal
    scheduled_ts: str


class EventFeeChange(msgspec.Struct):
    """An entry of ``/events/fee_changes``; without type and multiplier the override ends."""

    event_ticker: str
    fee_type_override: str | None
    fee_multiplier_override: Decimal | None
    scheduled_ts: str


class Cutoff(msgspec.Struct):
    """``/historical/cutoff``: what is older lies in the archive tier."""

    market_settled_ts: str
    trades_created_ts: str


class KalshiTrade(msgspec.Struct):
    """One execution; ``taker_outcome_side`` is what the taker is now positioned for."""

    trade_id: str
    ticker: str
    yes_price_dollars: Decimal
    created_time: str
    count_fp: Decimal | None = None
    count: Decimal | None = None
    taker_outcome_side: str | None = None
    taker_side: str | None = None
    is_block_trade: bool = False


class Candle(msgspec.Struct):
    """A candlestick; the points within are read by :func:`points`."""

    end_period_ts: int
    yes_bid: dict[str, Any]
    yes_ask: dict[str, Any]
    price: dict[str, Any]
    volume_fp: Decimal | None = None
    volume: Decimal | None = None
    open_interest_fp: Decimal | None = None
    open_interest: Decimal | None = None


def first(endpoint: str, **fields: Decimal | None) -> Decimal:
    """The first field that is there: the same figure under the names of two generations.

    Raises
    ------
    BadResponse
        when none of them is.
    """
    for value in fields.values():
        if value is not None:
            return value
    raise BadResponse(f"{endpoint}: {' and '.join(fields)} are both missing")


def points(
    of: Mapping[str, Any], endpoint: str, field: str, *, required: bool
) -> tuple[Micro | None, Micro | None, Micro | None, Micro | None]:
    """Open, high, low and close of one line of a candle, in micro-dollars.

    Live candles name them ``open_dollars``, archived ones ``open``. A price may be absent, for most candles
    hold no trade; a quote (``required``) may not.
    """
    opened, high, low, close = (
        _point(of, endpoint, f"{field}.{name}", name, required=required)
        for name in ("open", "high", "low", "close")
    )
    return opened, high, low, close


def _point(of: Mapping[str, Any], endpoint: str, field: str, name: str, *, required: bool) -> Micro | None:
    value = of.get(f"{name}_dollars", of.get(name))
    if value is None:
        if required:
            raise BadResponse(f"{endpoint}: {field} is missing")
        return None
    if not isinstance(value, str):
        raise BadResponse(f"{endpoint}: {field} is {value!r}, not dollars as text")
    return price(value, endpoint, field)


def levels(
    of: Mapping[str, Any], key: str, endpoint: str, *, absent_is_empty: bool = False
) -> dict[Micro, Micro]:
    """Price to size of one side of a book, in micro-units.

    REST always names both sides, empty or null where nobody bids, so an absent key was renamed and is an
    error. The WebSocket leaves an empty side out (``absent_is_empty``).
    """
    if key not in of:
        if absent_is_empty:
            return {}
        raise BadResponse(f"{endpoint}: {key} is missing; an empty side is a list without levels")
    rows = of[key] or []
    if not isinstance(rows, list):
        raise BadResponse(f"{endpoint}: {key} is no list")
    found: dict[Micro, Micro] = {}
    for row in rows:
        if not isinstance(row, list) or len(row) != 2 or not all(isinstance(item, str) for item in row):
            raise BadResponse(f"{endpoint}: a level of {key} is {str(row)[:60]}, not [dollars, contracts]")
        at = price(row[0], endpoint, key)
        if at in found:
            raise BadResponse(f"{endpoint}: {key} names the price {row[0]} twice")
        found[at] = size(row[1], endpoint, key)
    return found
