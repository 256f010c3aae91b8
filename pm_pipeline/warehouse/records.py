"""Domain records to Arrow and back: the one place that knows which field is which column."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets import (
    Event,
    FeeTerms,
    GroupKind,
    Instrument,
    Market,
    MarketGroup,
    MarketKey,
    Resolution,
    ResolutionStatus,
    ScheduleEvidence,
    Side,
    SideEvidence,
    TickRange,
    Trade,
)
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.listed_fees import ListedFee
from pm_pipeline.warehouse.columns import Kind
from pm_pipeline.warehouse.files import StorageError
from pm_pipeline.warehouse.schema import table

Ints: TypeAlias = npt.NDArray[np.int64]

_BATCH: Final = 4096
"""Rows that are objects of Python at once; a market's rules are a page of text."""

MISSING: Final = -1
"""Stands for null where a price or size is an int64 in an array."""


def time_array(nanos: Iterable[Nanos | None] | Ints) -> pa.Array:
    """Nanoseconds as the time type of the tables, cut to microseconds; ``None`` becomes null."""
    if isinstance(nanos, np.ndarray):
        micros = pa.array(nanos // 1000, pa.int64())
    else:
        micros = pa.array([None if moment is None else moment // 1000 for moment in nanos], pa.int64())
    return micros.cast(Kind.TIME.value)


def nanos_of(column: pa.Array | pa.ChunkedArray) -> Ints:
    """A time column without nulls as int64 nanoseconds."""
    return _ints(column.cast(pa.int64())) * 1000


def micro_of(column: pa.Array | pa.ChunkedArray) -> Ints:
    """A price, size or money column as int64 millionths, null as :data:`MISSING`."""
    return _ints(column.cast(pa.int64()).fill_null(MISSING))


def _ints(column: pa.Array | pa.ChunkedArray) -> Ints:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def with_nanos(rows: pa.Table, times: Iterable[str]) -> pa.Table:
    """The rows with these time columns as nullable int64 nanoseconds, for reading row by row."""
    for name in times:
        nanos = pc.multiply(rows.column(name).cast(pa.int64()), 1000)
        rows = rows.set_column(rows.schema.get_field_index(name), name, nanos)
    return rows


def to_table(name: str, columns: Mapping[str, Iterable[Any] | pa.Array]) -> pa.Table:
    """Columns as a table of the declared schema of ``name``; times are given in nanoseconds.

    Every declared column must be there. Raises ``KeyError`` for one that is not.
    """
    declared = table(name)
    arrays = []
    for column in declared.columns:
        values = columns[column.name]
        if isinstance(values, pa.Array | pa.ChunkedArray):
            arrays.append(values)
        elif column.kind is Kind.TIME:
            arrays.append(time_array(values))
        else:
            arrays.append(pa.array(values, column.kind.value))
    return pa.Table.from_arrays(arrays, schema=declared.arrow)


def _hash(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


_AS_THEY_ARE: Final = (
    *("question", "slug", "condition_id", "question_id", "event_id", "event_title", "series", "category"),
    *("group_key", "exclusive_group", "min_order_size", "volume", "rules_text"),
    *("resolution_source", "resolution_host", "resolution_station"),
)
_MARKET_TIMES: Final = ("opened_at", "scheduled_close", "traded_until")
_MARKET_DERIVED: Final[dict[str, Callable[[Market], object]]] = {
    "market_key": lambda m: str(m.key),
    "venue": lambda m: m.key.venue.value,
    "native_id": lambda m: m.key.native_id,
    "tags": lambda m: list(m.tags),
    "schedule_evidence": lambda m: m.schedule_evidence.value,
    "tick_starts": lambda m: [tick.start for tick in m.ticks],
    "tick_ends": lambda m: [tick.end for tick in m.ticks],
    "tick_steps": lambda m: [tick.step for tick in m.ticks],
    "fee_rate": lambda m: m.fee_terms and str(m.fee_terms.rate),
    "fee_exponent": lambda m: m.fee_terms and m.fee_terms.exponent,
    "fee_taker_only": lambda m: m.fee_terms and m.fee_terms.taker_only,
    "fee_rebate_rate": lambda m: m.fee_terms and str(m.fee_terms.rebate_rate),
    "rules_sha256": lambda m: _hash(m.rules_text),
}


def markets_to_tables(
    markets: Iterable[Market], known_at: Nanos, ingested_at: Nanos
) -> tuple[pa.Table, pa.Table]:
    """Rows of ``catalog.markets`` and ``catalog.instruments`` for one reading of the catalog."""
    listed = list(markets)
    outcomes = [instrument for market in listed for instrument in market.instruments]
    columns: dict[str, list[object]] = {
        name: [getattr(market, name) for market in listed] for name in (*_AS_THEY_ARE, *_MARKET_TIMES)
    }
    columns |= {name: [derive(market) for market in listed] for name, derive in _MARKET_DERIVED.items()}
    return (
        to_table("catalog.markets", columns | _known(known_at, ingested_at, len(listed))),
        to_table(
            "catalog.instruments",
            {
                "market_key": [str(outcome.market_key) for outcome in outcomes],
                "outcome_index": [outcome.outcome_index for outcome in outcomes],
                "label": [outcome.label for outcome in outcomes],
                "token_id": [outcome.token_id for outcome in outcomes],
                "position_id": [outcome.position_id for outcome in outcomes],
            }
            | _known(known_at, ingested_at, len(outcomes)),
        ),
    )


def _known(known_at: Nanos, ingested_at: Nanos, rows: int) -> dict[str, list[Any]]:
    return {"known_at": [known_at] * rows, "ingested_at": [ingested_at] * rows}


def markets_from_tables(
    markets: pa.Table, instruments: pa.Table, event_slugs: Mapping[str, str] | None = None
) -> list[Market]:
    """The markets of these rows, in their order, each with the outcomes that name it.

    ``event_slugs`` are those of their events by ``venue:event_id``; the rows themselves do not hold them.

    Raises :class:`StorageError` for a market without any outcome.
    """
    outcomes: dict[str, list[Instrument]] = {}
    for row in _rows(instruments.sort_by([("market_key", "ascending"), ("outcome_index", "ascending")])):
        name = row["market_key"]
        known = outcomes.setdefault(name, [])
        key = known[0].market_key if known else MarketKey.parse(name)
        known.append(Instrument(key, row["outcome_index"], row["label"], row["token_id"], row["position_id"]))
    result = []
    for row in _rows(with_nanos(markets, _MARKET_TIMES)):
        if row["market_key"] not in outcomes:
            raise StorageError(
                f"catalog.instruments has no outcome of {row['market_key']}: a catalog run ended half-way; "
                "materialise that day of the catalog again"
            )
        slug = (event_slugs or {}).get(f"{row['venue']}:{row['event_id']}")
        result.append(_market(row, tuple(outcomes[row["market_key"]]), slug))
    return result


def _rows(rows: pa.Table) -> Iterator[dict[str, Any]]:
    """Row by row, a batch in memory at a time."""
    for batch in rows.to_batches(max_chunksize=_BATCH):
        yield from batch.to_pylist()


def _market(row: Mapping[str, Any], instruments: tuple[Instrument, ...], event_slug: str | None) -> Market:
    return Market(
        key=instruments[0].market_key,
        instruments=instruments,
        event_slug=event_slug,
        schedule_evidence=ScheduleEvidence(row["schedule_evidence"]),
        ticks=_ticks(tuple(row["tick_starts"]), tuple(row["tick_ends"]), tuple(row["tick_steps"])),
        tags=tuple(row["tags"]),
        fee_terms=None
        if row["fee_rate"] is None
        else _fee_terms(row["fee_rate"], row["fee_exponent"], row["fee_taker_only"], row["fee_rebate_rate"]),
        **{name: row[name] for name in (*_AS_THEY_ARE, *_MARKET_TIMES)},
    )


@lru_cache(maxsize=1024)
def _ticks(starts: tuple[int, ...], ends: tuple[int, ...], steps: tuple[int, ...]) -> tuple[TickRange, ...]:
    """A price grid; markets share a few."""
    return tuple(TickRange(*tick) for tick in zip(starts, ends, steps, strict=True))


@lru_cache(maxsize=1024)
def _fee_terms(rate: str, exponent: int, taker_only: bool, rebate_rate: str) -> FeeTerms:
    """A fee schedule; markets share a few."""
    return FeeTerms(Decimal(rate), exponent, taker_only, Decimal(rebate_rate))


_EVENT_FIELDS: Final = (
    *("event_id", "slug", "title", "series", "category", "opened_at", "scheduled_close", "group_key"),
    *("placeholders", "volume"),
)


def events_to_table(events: Sequence[Event], known_at: Nanos, ingested_at: Nanos) -> pa.Table:
    """Rows of ``catalog.events``."""
    columns: dict[str, list[Any]] = {
        name: [getattr(event, name) for event in events] for name in _EVENT_FIELDS
    }
    return to_table(
        "catalog.events",
        columns
        | {
            "venue": [event.venue.value for event in events],
            "tags": [list(event.tags) for event in events],
            "market_keys": [[str(key) for key in event.market_keys] for event in events],
        }
        | _known(known_at, ingested_at, len(events)),
    )


def events_from_table(rows: pa.Table) -> list[Event]:
    """The events of these rows, in their order."""
    return [
        Event(
            venue=Venue(row["venue"]),
            tags=tuple(row["tags"]),
            market_keys=tuple(map(MarketKey.parse, row["market_keys"])),
            **{name: row[name] for name in _EVENT_FIELDS},
        )
        for row in with_nanos(rows, ("opened_at", "scheduled_close")).to_pylist()
    ]


def groups_to_table(groups: Sequence[MarketGroup], known_at: Nanos, ingested_at: Nanos) -> pa.Table:
    """Rows of ``catalog.market_groups``."""
    return to_table(
        "catalog.market_groups",
        {
            "group_key": [group.group_key for group in groups],
            "venue": [group.market_keys[0].venue.value for group in groups],
            "kind": [group.kind.value for group in groups],
            "event_ids": [list(group.event_ids) for group in groups],
            "market_keys": [[str(key) for key in group.market_keys] for group in groups],
            "exclusive": [group.exclusive for group in groups],
            "exhaustive": [group.exhaustive for group in groups],
        }
        | _known(known_at, ingested_at, len(groups)),
    )


def groups_from_table(rows: pa.Table) -> list[MarketGroup]:
    """The groups of these rows, in their order."""
    return [
        MarketGroup(
            group_key=row["group_key"],
            market_keys=tuple(map(MarketKey.parse, row["market_keys"])),
            exclusive=row["exclusive"],
            exhaustive=row["exhaustive"],
            kind=GroupKind(row["kind"]),
            event_ids=tuple(row["event_ids"]),
        )
        for row in rows.to_pylist()
    ]


def listed_fees_to_table(fees: Sequence[ListedFee], ingested_at: Nanos) -> pa.Table:
    """Rows of ``catalog.listed_fees``."""
    return to_table(
        "catalog.listed_fees",
        {
            "venue": [fee.venue.value for fee in fees],
            "scope": [fee.scope for fee in fees],
            "fee_type": [fee.fee_type for fee in fees],
            "multiplier": [f"{fee.multiplier:f}" for fee in fees],
            "valid_from": [fee.valid_from for fee in fees],
            "valid_to": [None if fee.valid_to == FOREVER else fee.valid_to for fee in fees],
            "source": [fee.source for fee in fees],
            "known_at": [fee.known_at for fee in fees],
            "ingested_at": [ingested_at] * len(fees),
        },
    )


def listed_fees_from_table(rows: pa.Table) -> list[ListedFee]:
    """The listed fees of these rows, in their order."""
    return [
        ListedFee(
            Venue(row["venue"]),
            row["scope"],
            row["fee_type"],
            Decimal(row["multiplier"]),
            row["valid_from"],
            FOREVER if row["valid_to"] is None else row["valid_to"],
            row["source"],
            row["known_at"],
        )
        for row in with_nanos(rows, ("valid_from", "valid_to", "known_at")).to_pylist()
    ]


def resolutions_to_table(resolutions: Sequence[Resolution], ingested_at: Nanos) -> pa.Table:
    """Rows of ``catalog.resolutions``."""
    as_they_are = ("payouts", "closed_at", "resolved_at", "was_disputed", "source", "known_at")
    columns: dict[str, list[Any]] = {
        name: [getattr(resolution, name) for resolution in resolutions] for name in as_they_are
    }
    return to_table(
        "catalog.resolutions",
        columns
        | {
            "market_key": [str(resolution.market_key) for resolution in resolutions],
            "status": [resolution.status.value for resolution in resolutions],
            "ingested_at": [ingested_at] * len(resolutions),
        },
    )


def resolution_from_rows(rows: pa.Table) -> Resolution:
    """What was last known about the end of the one market that the rows are about.

    Raises :class:`StorageError` when there is no row, or when they are about several markets.
    """
    if len(rows.column("market_key").unique()) != 1:
        raise StorageError("expected the resolutions of exactly one market; read one partition at a time")
    times = ("closed_at", "resolved_at", "known_at")
    row = max(with_nanos(rows, times).to_pylist(), key=lambda row: row["known_at"])
    return Resolution(
        market_key=MarketKey.parse(row["market_key"]),
        status=ResolutionStatus(row["status"]),
        payouts=None if row["payouts"] is None else tuple(row["payouts"]),
        source=row["source"],
        was_disputed=row["was_disputed"],
        **{name: row[name] for name in times},
    )


_TRADE_FIELDS: Final = (
    *("outcome_index", "ts", "known_at", "price", "size", "trade_id", "ordinal", "wallet", "is_block"),
)


def trades_to_batch(trades: Sequence[Trade], ingested_at: Nanos) -> pa.RecordBatch:
    """Rows of ``market_data.trades``, as one batch."""
    columns: dict[str, list[Any]] = {
        name: [getattr(trade, name) for trade in trades] for name in _TRADE_FIELDS
    }
    columns |= {
        "market_key": [str(trade.market_key) for trade in trades],
        "side": [trade.side.value for trade in trades],
        "side_evidence": [trade.side_evidence.value for trade in trades],
        "ingested_at": [ingested_at] * len(trades),
    }
    whole = to_table("market_data.trades", columns).combine_chunks()
    return pa.RecordBatch.from_arrays(
        [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in whole.columns],
        schema=whole.schema,
    )


def trades_from_table(rows: pa.Table) -> list[Trade]:
    """The trades of these rows, in their order."""
    return [
        Trade(
            market_key=MarketKey.parse(row["market_key"]),
            side=Side(row["side"]),
            side_evidence=SideEvidence(row["side_evidence"]),
            **{name: row[name] for name in _TRADE_FIELDS},
        )
        for row in with_nanos(rows, ("ts", "known_at")).to_pylist()
    ]
