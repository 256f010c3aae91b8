"""From Gamma's rows to the domain: markets with their terms, events, and groups that settle together."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from pm_pipeline.markets.clock import SECOND, Nanos
from pm_pipeline.markets.event import Event
from pm_pipeline.markets.keys import KeyFormatError, MarketKey, Venue, check_partition_key
from pm_pipeline.markets.market import (
    FeeTerms,
    GroupKind,
    Instrument,
    Market,
    MarketGroup,
    ScheduleEvidence,
    TickRange,
)
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.catalog.settlement_source import settlement_page
from pm_pipeline.sources.polymarket.wire import GammaEvent, GammaMarket, maybe_moment, packed
from pm_pipeline.sources.wire import convert, micro, size

_HIGHEST_EXPONENT: Final = 4
"""Of the fee formula; 1 and 2 have been seen. More would be a number of another meaning."""


def gamma_market(row: Any, endpoint: str) -> GammaMarket:
    """A row as the fields that we read. Raises :class:`BadResponse` that names the market and the field."""
    return convert(row, GammaMarket, f"{endpoint} market {_id(row)}")


def gamma_event(row: Any, endpoint: str) -> GammaEvent:
    """A row as the fields that we read. Raises :class:`BadResponse` that names the event and the field."""
    return convert(row, GammaEvent, f"{endpoint} event {_id(row)}")


def children_of(event: GammaEvent, endpoint: str) -> list[GammaMarket]:
    """The markets inside an event, each told its parent, which the venue leaves out there."""
    found = [gamma_market(row, f"{endpoint} event {event.id}") for row in event.markets or ()]
    for market in found:
        market.events = [event]
    return found


def unlisted(raw: GammaMarket) -> str | None:
    """Why ``raw`` is no market one can trade, or ``None``.

    Events carry inactive placeholders ("Person X", "Other") beside their markets, and the markets of 2020 to
    2022 were pools without an order book. A market that trades or traded by an order book, but lacks what
    that needs, is no such pool: :func:`to_market` then names the field.
    """
    if not raw.active:
        return "it is a placeholder (active=false)"
    if not raw.clob_token_ids and raw.position_ids:
        return "it is of the second protocol alone (positionIds without clobTokenIds)"
    traded = raw.enable_order_book and (raw.accepting_orders or raw.closed)
    needed = (raw.clob_token_ids, raw.order_price_min_tick_size, raw.condition_id)
    return None if traded or all(needed) else "it has no order book"


def to_market(raw: GammaMarket, endpoint: str) -> Market:
    """The domain's record of a Gamma market.

    Raises
    ------
    BadResponse
        when a needed field is missing or does not fit the others.
    """
    event = raw.events[0] if raw.events else None
    where = f"{endpoint} market {raw.id}"
    labels = packed(raw.outcomes, where, "outcomes")
    tokens = packed(raw.clob_token_ids, where, "clobTokenIds")
    positions: Sequence[str | None] = packed(raw.position_ids, where, "positionIds") or [None] * len(tokens)
    if not tokens:
        raise BadResponse(f"{where}: clobTokenIds is missing")
    if len(labels) != len(tokens) or len(labels) < 2:
        raise BadResponse(f"{where}: {len(labels)} outcomes but {len(tokens)} clobTokenIds")
    if not all(tokens) or len(set(tokens)) < len(tokens):
        raise BadResponse(f"{where}: clobTokenIds does not name each outcome: {tokens}")
    if len(positions) != len(tokens):
        raise BadResponse(f"{where}: {len(tokens)} clobTokenIds but {len(positions)} positionIds")
    for field, value in (
        ("orderPriceMinTickSize", raw.order_price_min_tick_size),
        ("orderMinSize", raw.order_min_size),
        ("conditionId", raw.condition_id),
        ("question", raw.question),
    ):
        if value in (None, ""):
            raise BadResponse(f"{where}: {field} is missing")
    assert raw.order_price_min_tick_size is not None
    assert raw.order_min_size is not None
    assert raw.question is not None
    step = micro(raw.order_price_min_tick_size, where, "orderPriceMinTickSize")
    if not 0 < step <= MICRO // 2 or MICRO % step:
        raise BadResponse(f"{where}: orderPriceMinTickSize is {raw.order_price_min_tick_size}")
    key = _key(raw.id, where)
    volume = raw.volume_num if raw.volume_num is not None else raw.volume
    group = group_key(raw)
    opened = _opened_at(raw, where)
    scheduled = maybe_moment(raw.end_date, where, "endDate")
    closed = closed_at(raw, where)
    page = settlement_page(raw.resolution_source, raw.description)
    return Market(
        key=key,
        question=raw.question,
        instruments=tuple(
            Instrument(key, index, label, token, position)
            for index, (label, token, position) in enumerate(zip(labels, tokens, positions, strict=True))
        ),
        opened_at=opened,
        scheduled_close=scheduled,
        schedule_evidence=_schedule_evidence(raw, opened, scheduled, closed, where),
        ticks=(TickRange(step, MICRO - step, step),),
        min_order_size=size(raw.order_min_size, where, "orderMinSize"),
        slug=raw.slug,
        condition_id=raw.condition_id,
        question_id=raw.question_id,
        event_id=event.id if event else None,
        event_title=event.title if event else None,
        event_slug=event.slug if event else None,
        series=_series(event),
        category=raw.category or (event.category if event else None),
        tags=_tags(raw, event),
        group_key=group,
        exclusive_group=group is not None and not (event is not None and event.neg_risk_augmented),
        fee_terms=_fee_terms(raw, where),
        volume=size(volume, where, "volumeNum", "half_even") if volume is not None else None,
        traded_until=closed,
        rules_text=raw.description,
        resolution_source=raw.resolution_source or None,
        resolution_host=page.host,
        resolution_station=page.station,
    )


def to_event(raw: GammaEvent, children: Sequence[GammaMarket], endpoint: str) -> Event:
    """The domain's record of an event with these children.

    Raises
    ------
    BadResponse
        when it has no title.
    """
    where = f"{endpoint} event {raw.id}"
    if not raw.title:
        raise BadResponse(f"{where}: title is missing")
    listed = [child for child in children if unlisted(child) is None]
    groups = {key for child in listed if (key := group_key(child))}
    return Event(
        venue=Venue.POLYMARKET,
        event_id=raw.id,
        title=raw.title,
        slug=raw.slug,
        series=_series(raw),
        category=raw.category,
        tags=_tags(None, raw),
        opened_at=maybe_moment(raw.start_date, where, "startDate"),
        scheduled_close=maybe_moment(raw.end_date, where, "endDate"),
        group_key=groups.pop() if len(groups) == 1 else None,
        market_keys=_keys(listed, where),
        placeholders=len(children) - len(listed),
        volume=None if raw.volume is None else size(raw.volume, where, "volume", "half_even"),
    )


def to_groups(raw: GammaEvent, children: Sequence[GammaMarket], endpoint: str) -> list[MarketGroup]:
    """The neg-risk groups of an event with these children.

    Of a group at most one market pays: the contract sees to it. One of the listed must pay only where the
    event came whole (with ``markets``), is not augmented, and all its children can be traded; a placeholder
    is an outcome that may win without a market of its own.
    """
    members: dict[str, list[GammaMarket]] = {}
    for child in children:
        if (key := group_key(child)) is not None:
            members.setdefault(key, []).append(child)
    found = []
    for key, group in members.items():
        listed = [child for child in group if unlisted(child) is None]
        if not listed:
            continue
        complete = raw.markets is not None and len(listed) == len(children) > 1
        found.append(
            MarketGroup(
                group_key=key,
                market_keys=_keys(listed, endpoint),
                exclusive=True,
                exhaustive=complete and raw.neg_risk_augmented is False,
                kind=GroupKind.NEG_RISK,
                event_ids=(raw.id,),
            )
        )
    return found


def group_key(raw: GammaMarket) -> str | None:
    """The neg-risk group of a market."""
    return f"{Venue.POLYMARKET}:{raw.neg_risk_market_id}" if raw.neg_risk and raw.neg_risk_market_id else None


def closed_at(raw: GammaMarket, endpoint: str) -> Nanos | None:
    """When trading truly ended: ``closedTime``, else ``umaEndDate``; ``None`` while the market trades.

    Raises
    ------
    BadResponse
        when the market is closed and nothing says since when; ``endDate`` is no substitute, trading
        outlives it.
    """
    if not raw.closed:
        return None
    closed = maybe_moment(raw.closed_time, endpoint, "closedTime")
    closed = closed or maybe_moment(raw.uma_end_date, endpoint, "umaEndDate")
    if closed is None:
        raise BadResponse(f"{endpoint}: market {raw.id} is closed, but without closedTime and umaEndDate")
    return closed


def _schedule_evidence(
    raw: GammaMarket, opened: Nanos | None, scheduled: Nanos | None, closed: Nanos | None, where: str
) -> ScheduleEvidence:
    """Whether ``endDate`` was announced before it mattered.

    It may be edited, so of a market that was closed when we read it, it counts as announced only if it does
    not tell the end: it lies after the opening, and is neither ``closedTime`` nor ``umaEndDate``.
    """
    if closed is None or scheduled is None:
        return ScheduleEvidence.LISTED
    ends = {closed, maybe_moment(raw.uma_end_date, where, "umaEndDate")}
    told = any(end is not None and end // SECOND == scheduled // SECOND for end in ends)
    late = opened is not None and scheduled <= opened
    return ScheduleEvidence.HINDSIGHT if told or late else ScheduleEvidence.LISTED


def _keys(children: Sequence[GammaMarket], endpoint: str) -> tuple[MarketKey, ...]:
    return tuple(_key(child.id, f"{endpoint} market {child.id}") for child in children)


def _id(row: Any) -> str:
    return str(row.get("id")) if isinstance(row, Mapping) else "?"


def _key(native_id: str, endpoint: str) -> MarketKey:
    key = MarketKey(Venue.POLYMARKET, native_id)
    try:
        check_partition_key(str(key))
    except KeyFormatError as error:
        raise BadResponse(f"{endpoint}: id: {error}") from error
    return key


def _opened_at(raw: GammaMarket, endpoint: str) -> Nanos | None:
    """The earlier of announced start and first accepted order; the creation where both are missing."""
    starts = [
        moment
        for name, text in (
            ("startDate", raw.start_date),
            ("acceptingOrdersTimestamp", raw.accepting_orders_timestamp),
        )
        if (moment := maybe_moment(text, endpoint, name)) is not None
    ]
    return min(starts) if starts else maybe_moment(raw.created_at, endpoint, "createdAt")


def _series(event: GammaEvent | None) -> str | None:
    if event is None:
        return None
    return event.series_slug or next((s.slug for s in event.series or () if s.slug), None)


def _tags(raw: GammaMarket | None, event: GammaEvent | None) -> tuple[str, ...]:
    listed = [*(raw.tags or () if raw else ()), *(event.tags or () if event else ())]
    return tuple(dict.fromkeys(name for tag in listed if (name := tag.slug or tag.label)))


def _fee_terms(raw: GammaMarket, where: str) -> FeeTerms | None:
    """The market's own schedule; an explicit "no fees" is a schedule too, silence is none."""
    if raw.fees_enabled is False:
        return FeeTerms(rate=Decimal(0), exponent=1, taker_only=True, rebate_rate=Decimal(0))
    schedule = raw.fee_schedule
    if schedule is None:
        return None
    _check_share(schedule.rate, where, "feeSchedule.rate")
    _check_share(schedule.rebate_rate, where, "feeSchedule.rebateRate")
    if not schedule.exponent.is_finite() or schedule.exponent not in range(_HIGHEST_EXPONENT + 1):
        raise BadResponse(f"{where}: feeSchedule.exponent is {schedule.exponent}")
    return FeeTerms(
        rate=schedule.rate,
        exponent=int(schedule.exponent),
        taker_only=schedule.taker_only,
        rebate_rate=schedule.rebate_rate,
    )


def _check_share(value: Decimal, where: str, field: str) -> None:
    if not value.is_finite() or not 0 <= value <= 1:
        raise BadResponse(f"{where}: {field} is {str(value)[:60]}, not a share from 0 to 1")
