"""What we read of Polymarket's answers (Gamma, CLOB, Data API v2), field by field.

Traps of the format: lists packed as JSON into strings, numbers that come as integer, fraction, text or not at
all, and timestamps in four forms.
"""

from decimal import Decimal
from typing import Any

import msgspec

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.wire import moment, unix_seconds


class Tag(msgspec.Struct, rename="camel"):
    """A subject that an event is filed under."""

    label: str | None = None
    slug: str | None = None


class SeriesRef(msgspec.Struct, rename="camel"):
    """The series of events that an event belongs to."""

    slug: str | None = None


class GammaEvent(msgspec.Struct, rename="camel"):
    """An event: one question, or the parent of several markets."""

    id: str
    title: str | None = None
    category: str | None = None
    series_slug: str | None = None
    series: list[SeriesRef] | None = None
    tags: list[Tag] | None = None
    neg_risk_augmented: bool | None = None


class FeeSchedule(msgspec.Struct, rename="camel"):
    """The fee terms attached to one market."""

    rate: Decimal
    exponent: int
    taker_only: bool
    rebate_rate: Decimal


class GammaMarket(msgspec.Struct, rename="camel"):
    """A market as Gamma lists it."""

    id: str
    active: bool
    closed: bool
    question: str | None = None
    slug: str | None = None
    condition_id: str | None = None
    question_id: str | None = msgspec.field(default=None, name="questionID")
    outcomes: str | list[str] | None = None
    outcome_prices: str | list[str] | None = None
    clob_token_ids: str | list[str] | None = None
    start_date: str | None = None
    created_at: str | None = None
    accepting_orders_timestamp: str | None = None
    end_date: str | None = None
    closed_time: str | None = None
    uma_end_date: str | None = None
    uma_resolution_status: str | None = None
    order_price_min_tick_size: Decimal | None = None
    order_min_size: Decimal | None = None
    volume_num: Decimal | None = None
    volume: Decimal | None = None
    neg_risk: bool | None = None
    neg_risk_market_id: str | None = msgspec.field(default=None, name="negRiskMarketID")
    fees_enabled: bool | None = None
    fee_schedule: FeeSchedule | None = None
    category: str | None = None
    description: str | None = None
    resolution_source: str | None = None
    events: list[GammaEvent] | None = None
    tags: list[Tag] | None = None


class HistoryPoint(msgspec.Struct):
    """One point of CLOB ``/prices-history``: unix seconds and a mid point."""

    t: int
    p: Decimal


class History(msgspec.Struct):
    """CLOB ``/prices-history``."""

    history: list[HistoryPoint]


class BookLevel(msgspec.Struct):
    """One price of CLOB ``/book``."""

    price: Decimal
    size: Decimal


class BookAnswer(msgspec.Struct):
    """CLOB ``/book``; ``timestamp`` is milliseconds as text."""

    asset_id: str
    timestamp: str
    bids: list[BookLevel]
    asks: list[BookLevel]


class TradeRow(msgspec.Struct):
    """One row of Data API ``/v2/trades``: one taker order in one transaction."""

    proxy_wallet: str
    side: str
    token_id: str
    condition_id: str
    size: Decimal
    price: Decimal
    timestamp: int
    transaction_hash: str


class PricePoint(msgspec.Struct):
    """One point of Data API ``/v2/prices-history``."""

    timestamp: int
    price: Decimal
    resolution_seconds: int


class ResolutionRow(msgspec.Struct):
    """One row of Data API ``/v2/resolutions``; most fields may be absent or empty."""

    condition_id: str
    status: str
    was_disputed: bool = False
    payouts: list[int] | None = None
    resolved_at: str | None = None
    last_update_timestamp: str | None = None


class PositionRow(msgspec.Struct):
    """One row of Data API ``/v2/positions``."""

    proxy_wallet: str
    condition_id: str
    token_id: str
    current_size: Decimal
    avg_price: Decimal
    realized_pnl: Decimal
    status: str
    outcome_index: int | None = None


def packed(value: str | list[str] | None, endpoint: str, field: str) -> list[str]:
    """A list of texts that Gamma packs into a string; empty where there is none."""
    if not value:
        return []
    if isinstance(value, list):
        return value
    try:
        found: Any = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadResponse(f"{endpoint}: {field} is not a packed list: {value[:60]!r}") from error
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise BadResponse(f"{endpoint}: {field} is not a packed list of texts: {value[:60]!r}")
    return found


def maybe_moment(text: str | None, endpoint: str, field: str) -> Nanos | None:
    """Nanoseconds of an ISO time or of unix seconds as text; ``None`` where it is absent or empty."""
    if not text:
        return None
    if text.isdecimal() and len(text) <= 12:
        return unix_seconds(int(text), endpoint, field)
    return moment(text, endpoint, field)
