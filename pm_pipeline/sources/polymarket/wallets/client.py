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
from pm_pipeline.markets.clock import Nanos
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
from pm_pipeline.sources.wire import size
from pm_pipeline.warehouse.leaders import Period, RankedBy
from pm_pipeline.warehouse.readings import ACTIVITY
from pm_pipeline.warehouse.schema import table

MOST_HOLDERS: Final = 1000
"""The most holders per outcome on a page; a list that ends at this length is taken for cut."""

_ASKED: Final = (PositionStatus.OPEN, PositionStatus.CLOSED)
"""Together these are all positions: what is held after the end is listed as open too."""

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
        them after all. With :attr:`Reach.TRADING` those in ``former`` stay as they are.
        """
        parts: list[pa.Table] = []
        combos, shown, kinds = 0, set[ActivityType](), set[str]()
        for named in (False, True) if reach is Reach.ALL else (False,):
            wanted = [kind for kind in TRANSFERS if kind not in shown] if named else []
            if named and not wanted:
                continue
            params: Params = {
                "user": wallet,
                "type": ",".join(wanted) or None,
                "exclude_deposits_withdrawals": "false" if named else None,
                "start": 1,
                "limit": _PAGE,
            }
            async for page in pages(self._client, ACTIVITIES, params):
                rows = []
                for raw in page:
                    row = record(raw, ActivityRow, ACTIVITIES)
                    require_asked(row.proxy_wallet, wallet, ACTIVITIES)
                    told = activity_type(row.type)
                    if named and told not in wanted:
                        raise BadResponse(f"{ACTIVITIES}: asked for {params['type']}, got {told}")
                    shown.add(told)
                    if is_combo(row.condition_id or None, ACTIVITIES):
                        combos += 1
                    else:
                        rows.append(activity_row(row, told, wallet, ids))
                kinds.update(each["kind"] for each in rows)
                parts.append(as_table(ACTIVITY, rows, ingested_at=now, ordinal=0))
        if former is not None and reach is Reach.TRADING:
            parts.append(stored_transfers(former, kinds))
        rows_ = pa.concat_tables(parts) if parts else table(ACTIVITY).arrow.empty_table()
        return Activity(numbered(rows_), combos)

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
