"""Data API v2 about wallets: what they hold, what they did, who holds a market, who leads.

Every listing is read to its end, with the same filters on each page; rows about combos of several markets are
left out and counted.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import pyarrow as pa

from pm_pipeline.markets.addresses import parse_address
from pm_pipeline.markets.clock import MINUTE, Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.units import Micro
from pm_pipeline.sources.adapter import Position
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.polymarket.data import WITH_DUST, pages, record
from pm_pipeline.sources.polymarket.wallets.records import (
    ActivityRow,
    ActivityType,
    HolderGroup,
    LeaderRow,
    PositionRow,
    PositionStatus,
)
from pm_pipeline.sources.polymarket.wallets.rows import (
    ACTIVITIES,
    HOLDERS,
    LEADERBOARD,
    POSITIONS,
    STATUS,
    TRANSFERS,
    MarketIds,
    Row,
    activity_row,
    activity_type,
    as_table,
    is_combo,
    leader_row,
    numbered,
    position_row,
    require_asked,
    stored_transfers,
    wallet_of,
)
from pm_pipeline.sources.wire import size, unix_seconds
from pm_pipeline.warehouse.leaders import Period, RankedBy
from pm_pipeline.warehouse.readings import ACTIVITY
from pm_pipeline.warehouse.schema import table

MOST_HOLDERS: Final = 1000
"""The most holders per outcome on a page; a list that ends at this length is taken for cut."""

_ASKED: Final = (PositionStatus.OPEN, PositionStatus.CLOSED)
"""Together these are all positions: what is held after the end is listed as open too."""

SETTLED_AFTER: Final[Nanos] = MINUTE
"""Activity is taken at this age: the feed is cached for a quarter of a minute, so that younger acts may be in
one reading and not in the next."""

_READINGS: Final = 4
_PAGE: Final = 500
_LEADERS_PAGE: Final = 100


class Reach(StrEnum):
    """Which activity is read. ``TRADING``: what the feed shows unasked. ``ALL``: transfers too."""

    TRADING = "trading"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Activity:
    """All that a wallet did: rows of ``market_data.wallet_activity``, and how many were about combos."""

    rows: pa.Table
    combos: int


@dataclass(frozen=True, slots=True)
class _Feed:
    """One reading of a listing of activity: its rows, how many came in all, and of which types."""

    rows: pa.Table
    combos: int
    came: int
    types: set[ActivityType]

    def tells_as(self, other: "_Feed") -> bool:
        """Whether another reading told the same."""
        return self.combos == other.combos and self.rows.equals(other.rows)


@dataclass(frozen=True, slots=True)
class Held:
    """What a wallet held at one look: a row per outcome, and how many positions were combos."""

    rows: list[Row]
    combos: int


@dataclass(frozen=True, slots=True)
class Holders:
    """The largest holders of a market, and the outcomes whose list is cut."""

    rows: list[Row]
    cut: tuple[int, ...]


class WalletReader:
    """Reads wallets through a client of the Data API.

    All methods raise :class:`~pm_pipeline.sources.errors.SourceError` (or a subclass) and nothing else when
    the venue fails or answers nonsense.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def moment(self) -> Nanos:
        """The moment of an answer given now: the wall clock, the world's time, or that of a kept page."""
        return (await self._client.fetch("GET", STATUS)).at

    async def positions(
        self, wallet: str, ids: MarketIds, statuses: Sequence[PositionStatus] = _ASKED
    ) -> Held:
        """What ``wallet`` holds and held, dust and archived markets included.

        Each status is asked for by itself, in the order in which a position moves on, so that nothing
        is missing that the venue leaves out by default; of an outcome told twice the last row counts.
        """
        return await self._held({"user": wallet}, ids, statuses, wallet=wallet)

    async def positions_in(
        self, condition_id: str, ids: MarketIds, statuses: Sequence[PositionStatus] = _ASKED
    ) -> Held:
        """What all wallets hold and held of one market; the venue takes no list of them here."""
        return await self._held({"condition": condition_id}, ids, statuses, condition_id=condition_id)

    async def _held(
        self,
        who: Params,
        ids: MarketIds,
        statuses: Sequence[PositionStatus],
        wallet: str | None = None,
        condition_id: str | None = None,
    ) -> Held:
        found: dict[tuple[str, str], Row] = {}
        combos: set[str] = set()
        for status in statuses:
            # what is closed has no size to filter by, and the venue refuses archived markets there
            held: Params = (
                {} if status is PositionStatus.CLOSED else {**WITH_DUST, "include_archived": "true"}
            )
            params: Params = {**who, **held, "status": status.value, "limit": _PAGE}
            async for page in pages(self._client, POSITIONS, params):
                for raw in page:
                    row = record(raw, PositionRow, POSITIONS)
                    holder = require_asked(row.proxy_wallet, wallet, POSITIONS)
                    if condition_id is not None and row.condition_id != condition_id:
                        raise BadResponse(f"{POSITIONS}: asked for {condition_id}, got {row.condition_id}")
                    if is_combo(row.condition_id, POSITIONS):
                        combos.add(row.token_id)
                    else:
                        found[holder, row.token_id] = position_row(row, holder, ids)
        return Held(list(found.values()), len(combos))

    async def activity(
        self,
        wallet: str,
        ids: MarketIds,
        now: Nanos,
        reach: Reach = Reach.ALL,
        former: pa.Table | None = None,
    ) -> Activity:
        """Everything that ``wallet`` did, from the first day; stamped as read at ``now``.

        The feed does not show transfers and tips unasked, so they are asked for by name, unless it showed
        them after all. With :attr:`Reach.TRADING` those in ``former`` stay as they are. What is younger than
        :data:`SETTLED_AFTER` is left to the next reading.
        """
        trading = await self._agreed(wallet, ids, now, ())
        parts, combos, kinds = [trading.rows], trading.combos, trading.types
        hidden = [kind for kind in TRANSFERS if kind not in kinds]
        if reach is Reach.ALL and hidden:
            transfers = await self._agreed(wallet, ids, now, hidden)
            parts.append(transfers.rows)
            combos += transfers.combos
        elif reach is Reach.TRADING and former is not None:
            parts.append(stored_transfers(former, set(trading.rows["kind"].to_pylist())))
        return Activity(numbered(pa.concat_tables(parts)), combos)

    async def _agreed(
        self, wallet: str, ids: MarketIds, now: Nanos, kinds: Sequence[ActivityType]
    ) -> "_Feed":
        """A listing of activity that two readings tell alike, in pages of another length.

        Rows bear no number and may be alike by right, so one reading cannot tell a page that repeats or lacks
        a row from the truth.
        """
        earlier: list[_Feed] = []
        for number in range(_READINGS):
            limit, most = _PAGE - 7 * number, max((feed.came for feed in earlier), default=0)
            if most > number + 1:  # so that there is a border of pages to compare
                limit = min(limit, most - number)
            feed = await self._feed(wallet, ids, now, kinds, limit)
            if any(feed.tells_as(other) for other in earlier):
                return feed
            earlier.append(feed)
        counts = ", ".join(str(feed.rows.num_rows) for feed in earlier)
        raise BadResponse(
            f"{ACTIVITIES}: no two of {_READINGS} readings of {wallet} tell the same ({counts} rows); "
            "nothing was written. Try again later"
        )

    async def _feed(
        self, wallet: str, ids: MarketIds, now: Nanos, kinds: Sequence[ActivityType], limit: int
    ) -> "_Feed":
        """One reading of what the feed shows unasked, or of some kinds asked for by name."""
        parts: list[pa.Table] = [table(ACTIVITY).arrow.empty_table()]
        combos, came, types = 0, 0, set[ActivityType]()
        params: Params = {
            "user": wallet,
            "type": ",".join(kinds) or None,
            "exclude_deposits_withdrawals": "false" if kinds else None,
            "start": 1,
            "limit": limit,
        }
        async for page in pages(self._client, ACTIVITIES, params):
            if len(page) > limit:
                raise BadResponse(f"{ACTIVITIES}: asked for {limit} rows a page, got {len(page)}")
            came += len(page)
            rows = []
            for raw in page:
                row = record(raw, ActivityRow, ACTIVITIES)
                require_asked(row.proxy_wallet, wallet, ACTIVITIES)
                told = activity_type(row.type)
                if kinds and told not in kinds:
                    raise BadResponse(f"{ACTIVITIES}: asked for {params['type']}, got {told}")
                if unix_seconds(row.timestamp, ACTIVITIES, "timestamp") > now - SETTLED_AFTER:
                    continue
                types.add(told)
                if is_combo(row.condition_id or None, ACTIVITIES):
                    combos += 1
                else:
                    rows.append(activity_row(row, told, wallet, ids))
            parts.append(as_table(ACTIVITY, rows, ingested_at=now, ordinal=0))
        return _Feed(numbered(pa.concat_tables(parts)), combos, came, types)

    async def holders(self, market: Market) -> Holders:
        """The holders of each outcome of ``market``, largest first.

        Net of the other outcome, as the venue counts unless asked for profits too: a full set is worth a
        dollar whatever happens, so it is no stake, and a wallet stands on one side. Profits would come with
        gross amounts, but for a tenth of the holders a page.
        """
        outcome_of = {i.token_id: i.outcome_index for i in market.instruments}
        amounts: dict[int, list[tuple[Micro, str]]] = {}
        params: Params = {"condition": market.condition_id, "limit": MOST_HOLDERS}
        async for page in pages(self._client, HOLDERS, params):
            for raw in page:
                group = record(raw, HolderGroup, HOLDERS)
                if group.token_id not in outcome_of:
                    raise BadResponse(f"{HOLDERS}: token_id {group.token_id} is no outcome of {market.key}")
                known = amounts.setdefault(outcome_of[group.token_id], [])
                known.extend(
                    (size(row.amount, HOLDERS, "amount", "half_even"), wallet_of(row.proxy_wallet, HOLDERS))
                    for row in group.holders
                )
        cut = tuple(sorted(index for index, held in amounts.items() if len(set(held)) == MOST_HOLDERS))
        rows: list[Row] = []
        for index, held in sorted(amounts.items()):
            ranked = sorted(set(held), key=lambda each: (-each[0], each[1]))
            if len({wallet for _, wallet in ranked}) < len(ranked):
                raise BadResponse(f"{HOLDERS}: a wallet holds outcome {index} of {market.key} twice")
            rows += [
                {"outcome_index": index, "rank": place, "wallet": wallet, "size": amount}
                for place, (amount, wallet) in enumerate(ranked, 1)
            ]
        return Holders(
            [{**row, "market_key": str(market.key), "source": f"data:{HOLDERS}"} for row in rows], cut
        )

    async def leaderboard(self, period: Period, by: RankedBy, top: int) -> list[Row]:
        """The first ``top`` wallets of one list, best first; fewer where the list is shorter."""
        rows: dict[int, Row] = {}
        params: Params = {
            "time_period": period.value,
            "sort_by": by.name,
            "limit": min(top, _LEADERS_PAGE),
        }
        async for page in pages(self._client, LEADERBOARD, params):
            for raw in page:
                row = leader_row(record(raw, LeaderRow, LEADERBOARD), period, by)
                if rows.setdefault(row["rank"], row) != row:
                    raise BadResponse(f"{LEADERBOARD}: two wallets have rank {row['rank']}")
            if len(rows) >= top:
                break
        ranked = [rows[rank] for rank in sorted(rows)[:top]]
        if [row["rank"] for row in ranked] != list(range(1, len(ranked) + 1)):
            raise BadResponse(f"{LEADERBOARD}: ranks are missing among the first {len(ranked)}")
        if len({row["wallet"] for row in ranked}) < len(ranked):
            raise BadResponse(f"{LEADERBOARD}: a wallet has two ranks")
        return ranked


async def positions(client: HttpClient, wallet: str) -> AsyncIterator[list[Position]]:
    """What a wallet holds, dust included; see :meth:`WalletReader.positions`."""
    held = await WalletReader(client).positions(parse_address(wallet), MarketIds())
    yield [
        Position(
            wallet=row["wallet"],
            market_key=None,
            condition_id=row["condition_id"],
            token_id=row["token_id"],
            outcome_index=row["outcome_index"],
            size=row["size"],
            avg_price=row["avg_price"],
            realised_pnl=row["realised_pnl"],
            status=row["status"].upper(),
        )
        for row in held.rows
    ]
