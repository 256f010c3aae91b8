"""From what Data API v2 tells of wallets to rows of the tables of wallets.

Rows about combos of several markets are told apart by their id; an unknown type or status is refused by its
name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from pm_pipeline.markets.addresses import AddressError, parse_address
from pm_pipeline.markets.market import Instrument, Market
from pm_pipeline.markets.trade import Side
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.onchain.fills import KNOWN_AFTER
from pm_pipeline.sources.polymarket.wallets.records import (
    ActivityRow,
    ActivityType,
    LeaderRow,
    PositionRow,
    PositionStatus,
)
from pm_pipeline.sources.wire import micro, price, size, unix_seconds
from pm_pipeline.warehouse.leaders import Period, RankedBy
from pm_pipeline.warehouse.records import to_table
from pm_pipeline.warehouse.schema import table

POSITIONS: Final = "/v2/positions"
ACTIVITIES: Final = "/v2/activity"
HOLDERS: Final = "/v2/holders"
LEADERBOARD: Final = "/v2/leaderboard"
STATUS: Final = "/v2/status"

TRANSFERS: Final = (ActivityType.DEPOSIT, ActivityType.WITHDRAWAL, ActivityType.TIP)
"""What the feed leaves out unless it is asked for by name."""

_TIPS: Final[Mapping[str, str]] = {"IN": "tip_in", "OUT": "tip_out"}
"""The kind of a tip says which way the money went; ``side`` is that of a trade."""

_CONDITION_ID: Final = 66
"""Length of a condition id with its ``0x``; combos of several markets have shorter ones."""
_UNLABELLED: Final = 999
_SIDES: Final[Mapping[str, Side]] = {"BUY": Side.BUY, "SELL": Side.SELL}
_MOST_RANK: Final = 10_000_000
"""No list is as long; more would not be a place."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MarketIds:
    """Which market and outcome an id of the venue belongs to, as far as the catalog knows."""

    outcomes: Mapping[str, Instrument] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, markets: Iterable[Market]) -> "MarketIds":
        """The ids of these markets."""
        known = list(markets)
        return cls(
            {i.token_id: i for market in known for i in market.instruments if i.token_id},
            {market.condition_id: str(market.key) for market in known if market.condition_id},
        )

    def place(self, condition_id: str | None, token_id: str | None, index: int | None) -> Row:
        """Columns that say what a row is about; what the catalog lacks is taken from the row itself."""
        outcome = self.outcomes.get(token_id or "")
        return {
            "condition_id": condition_id,
            "token_id": token_id,
            "market_key": str(outcome.market_key) if outcome else self.conditions.get(condition_id or ""),
            "outcome_index": outcome.outcome_index if outcome else index,
        }


def activity_type(name: str) -> ActivityType:
    """The type of this name. Raises :class:`BadResponse` that names an unknown one."""
    if name not in {*ActivityType}:
        raise BadResponse(f"{ACTIVITIES}: type {name[:40]!r} is unknown; known: {', '.join(ActivityType)}")
    return ActivityType(name)


def is_combo(condition_id: str | None, path: str) -> bool:
    """Whether an id is that of a combo of markets. Raises :class:`BadResponse` for what is no id at all."""
    if condition_id is None:
        return False
    if not condition_id.startswith("0x") or len(condition_id) > _CONDITION_ID:
        raise BadResponse(f"{path}: condition_id is {condition_id[:80]!r}")
    return len(condition_id) < _CONDITION_ID


def as_table(name: str, rows: Sequence[Row], **common: Any) -> pa.Table:
    """Rows as table ``name``; ``common`` stands in every row, and what neither has is null."""
    return to_table(
        name,
        {
            column.name: [common[column.name]] * len(rows)
            if column.name in common
            else [row.get(column.name) for row in rows]
            for column in table(name).columns
        },
    )


def numbered(rows: pa.Table) -> pa.Table:
    """The rows with their ordinal: rows that are alike in all else are counted, for the venue has no ids.

    They come sorted by all that they say, so that the same answer in another order gives the same table.
    """
    told = [name for name in rows.column_names if name not in {"ordinal", "ingested_at"}]
    rows = rows.sort_by([(name, "ascending") for name in told])
    frame = rows.select(told).to_pandas(types_mapper=pd.ArrowDtype)
    ordinals = frame.groupby(told, dropna=False, sort=False).cumcount()
    at = rows.schema.get_field_index("ordinal")
    return rows.set_column(at, rows.schema.field(at), pa.array(ordinals.to_numpy("int32")))


def stored_transfers(former: pa.Table, shown: set[str]) -> pa.Table:
    """The stored transfers of kinds that the feed did not show this time."""
    kept = {kind.kind for kind in TRANSFERS}.union(_TIPS.values()) - shown
    return former.filter(pa.array([kind in kept for kind in former["kind"].to_pylist()], pa.bool_()))


def wallet_of(text: str, path: str, name: str = "proxy_wallet") -> str:
    """The address in small letters. Raises :class:`BadResponse` where the field ``name`` holds none."""
    try:
        return parse_address(text)
    except AddressError as error:
        raise BadResponse(f"{path}: {name}: {error}") from error


def require_asked(text: str, wallet: str | None, path: str) -> str:
    """The wallet of a row, which must be the one asked for. Raises :class:`BadResponse` for another."""
    found = wallet_of(text, path)
    if wallet is not None and found != wallet:
        raise BadResponse(f"{path}: asked for {wallet}, got {found}")
    return found


def _index(value: int, path: str) -> int | None:
    if value == _UNLABELLED:
        return None
    if not 0 <= value < _UNLABELLED:
        raise BadResponse(f"{path}: outcome_index is {value}")
    return value


def position_row(row: PositionRow, wallet: str, ids: MarketIds) -> Row:
    """A row of ``market_data.wallet_positions``, without its times."""
    if row.status not in {*PositionStatus}:
        raise BadResponse(
            f"{POSITIONS}: status {row.status[:40]!r} is unknown; known: {', '.join(PositionStatus)}"
        )
    return {
        "wallet": wallet,
        **ids.place(row.condition_id, row.token_id, _index(row.outcome_index, POSITIONS)),
        "size": size(row.current_size, POSITIONS, "current_size", "half_even"),
        "bought": size(row.total_size, POSITIONS, "total_size", "half_even"),
        "avg_price": price(row.avg_price, POSITIONS, "avg_price", "half_even"),
        "realised_pnl": micro(row.realized_pnl, POSITIONS, "realized_pnl", "half_even"),
        "status": row.status.lower(),
        "source": f"data:{POSITIONS}",
    }


def activity_row(row: ActivityRow, told: ActivityType, wallet: str, ids: MarketIds) -> Row:
    """A row of ``market_data.wallet_activity``; it is known as soon as its block is.

    ``cash`` of a trade is what was paid or got, the fee included: the fee is what it differs by from
    ``price`` times ``size``.
    """
    ts = unix_seconds(row.timestamp, ACTIVITIES, "timestamp")
    is_trade = told is ActivityType.TRADE
    if is_trade and row.side not in _SIDES:
        raise BadResponse(f"{ACTIVITIES}: side of a trade is {row.side!r}")
    if told is ActivityType.TIP and row.side not in _TIPS:
        raise BadResponse(f"{ACTIVITIES}: side of a tip is {row.side!r}")
    if is_trade and not (row.condition_id and row.token_id):
        raise BadResponse(f"{ACTIVITIES}: a trade lacks condition_id or token_id")
    return {
        "wallet": wallet,
        "ts": ts,
        "known_at": ts + KNOWN_AFTER,
        "kind": _TIPS[row.side] if told is ActivityType.TIP else told.kind,
        **ids.place(row.condition_id or None, row.token_id or None, _index(row.outcome_index, ACTIVITIES)),
        "side": _SIDES[row.side].value if is_trade else None,
        "price": price(row.price, ACTIVITIES, "price", "half_even") if is_trade else None,
        "size": size(row.size, ACTIVITIES, "size", "half_even"),
        "cash": size(row.usdc_size, ACTIVITIES, "usdc_size", "half_even"),
        "tx": row.transaction_hash,
        "source": f"data:{ACTIVITIES}",
    }


def leader_row(row: LeaderRow, period: Period, by: RankedBy) -> Row:
    """A row of ``market_data.leaderboard``, without its times."""
    if not 1 <= row.rank <= _MOST_RANK:
        raise BadResponse(f"{LEADERBOARD}: rank is {row.rank}")
    return {
        "period": period.value,
        "ranked_by": by.value,
        "rank": row.rank,
        "wallet": wallet_of(row.user_id, LEADERBOARD, "user_id"),
        "pnl": micro(row.pnl, LEADERBOARD, "pnl", "half_even"),
        "volume": size(row.volume, LEADERBOARD, "volume", "half_even"),
        "source": f"data:{LEADERBOARD}",
    }
