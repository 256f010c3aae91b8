"""What we read of Polymarket's answers (Gamma, CLOB, Data API v2), field by field.

Traps of the format: lists packed as JSON into strings, numbers that come as integer, fraction, text or not at
all, and timestamps in four forms.

Every record is closed: what it leaves unread stands in :mod:`~pm_pipeline.sources.polymarket.unread`, and a
field in neither is drift.
"""

from decimal import Decimal
from typing import Any, ClassVar, Literal

import msgspec

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket import unread
from pm_pipeline.sources.wire import moment, unix_seconds


class Tag(msgspec.Struct, rename="camel"):
    """A subject that an event is filed under."""

    unread: ClassVar[frozenset[str]] = unread.TAG

    label: str | None = None
    slug: str | None = None


class SeriesRef(msgspec.Struct, rename="camel"):
    """The series of events that an event belongs to."""

    unread: ClassVar[frozenset[str]] = unread.SERIES

    slug: str | None = None


class GammaEvent(msgspec.Struct, rename="camel"):
    """An event: one question, or the parent of several markets.

    ``markets`` are left as they came, to be read one by one: an error then names its market. An event that
    stands inside a market has none.
    """

    unread: ClassVar[frozenset[str]] = unread.GAMMA_EVENT

    id: str
    title: str | None = None
    slug: str | None = None
    category: str | None = None
    series_slug: str | None = None
    series: list[SeriesRef] | None = None
    tags: list[Tag] | None = None
    start_date: str | None = None
    end_date: str | None = None
    volume: Decimal | None = None
    neg_risk_augmented: bool | None = None
    markets: list[Any] | None = None


class FeeSchedule(msgspec.Struct, rename="camel"):
    """The fee terms attached to one market."""

    unread: ClassVar[frozenset[str]] = frozenset()

    rate: Decimal
    exponent: Decimal
    taker_only: bool
    rebate_rate: Decimal = Decimal(0)


class GammaMarket(msgspec.Struct, rename="camel"):
    """A market as Gamma lists it."""

    unread: ClassVar[frozenset[str]] = unread.GAMMA_MARKET

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
    position_ids: str | list[str] | None = None
    start_date: str | None = None
    created_at: str | None = None
    accepting_orders_timestamp: str | None = None
    end_date: str | None = None
    closed_time: str | None = None
    uma_end_date: str | None = None
    uma_resolution_status: str | None = None
    uma_resolution_statuses: str | list[str] | None = None
    enable_order_book: bool | None = None
    accepting_orders: bool | None = None
    order_price_min_tick_size: Decimal | None = None
    order_min_size: Decimal | None = None
    volume_num: Decimal | None = None
    volume: Decimal | None = None
    neg_risk: bool | None = None
    neg_risk_other: bool | None = None
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

    unread: ClassVar[frozenset[str]] = frozenset()

    t: int
    p: Decimal


class History(msgspec.Struct):
    """CLOB ``/prices-history``."""

    unread: ClassVar[frozenset[str]] = frozenset()

    history: list[HistoryPoint]


class BookLevel(msgspec.Struct):
    """One price of CLOB ``/book``."""

    unread: ClassVar[frozenset[str]] = frozenset()

    price: Decimal
    size: Decimal


class BookAnswer(msgspec.Struct):
    """CLOB ``/book``; ``timestamp`` is milliseconds as text."""

    unread: ClassVar[frozenset[str]] = unread.BOOK

    asset_id: str
    timestamp: str
    bids: list[BookLevel]
    asks: list[BookLevel]


class TradeRow(msgspec.Struct):
    """One row of Data API ``/v2/trades``: one taker order in one transaction."""

    unread: ClassVar[frozenset[str]] = unread.TRADE

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

    unread: ClassVar[frozenset[str]] = frozenset()

    timestamp: int
    price: Decimal
    resolution_seconds: int


class ResolutionRow(msgspec.Struct):
    """One row of Data API ``/v2/resolutions``; most fields may be absent or an empty text.

    ``price`` is the oracle's answer in units of 10⁻¹⁸, ``"69"`` where there is none.
    """

    unread: ClassVar[frozenset[str]] = unread.RESOLUTION

    condition_id: str
    status: str
    was_disputed: bool | Literal[""] | None = None
    payouts: list[int] | Literal[""] | None = None
    price: str | None = None
    market_type: str | None = None
    resolved_at: str | None = None
    last_update_timestamp: str | None = None


class ClobToken(msgspec.Struct):
    """One outcome of CLOB ``/markets/{condition_id}``."""

    unread: ClassVar[frozenset[str]] = unread.CLOB_TOKEN

    token_id: str
    outcome: str
    winner: bool = False


class ClobMarket(msgspec.Struct):
    """CLOB ``/markets/{condition_id}``: who won, once the market is closed."""

    unread: ClassVar[frozenset[str]] = unread.CLOB_MARKET

    condition_id: str
    closed: bool
    tokens: list[ClobToken]
    is_50_50_outcome: bool = False


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
