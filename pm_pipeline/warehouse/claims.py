"""What each source ever said of the end of a market, in the lake: a row for each time that it said another
thing."""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.markets.resolution import Claim, ResolutionStatus
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import to_table, with_nanos

CLAIMS: Final = "catalog.resolution_claims"

_AS_THEY_ARE: Final = ("source", "payouts", "resolved_at", "was_disputed", "trusted", "note", "known_at")
_TIMES: Final = ("resolved_at", "known_at")


def add_claims(lake: Lake, key: str, claims: Sequence[Claim]) -> None:
    """Keep what the sources of one market say now, beside what they said before."""
    with lake.changing(CLAIMS, key):
        latest = latest_claims(lake, key)
        new = [claim for claim in claims if _differs(claim, latest.get(claim.source))]
        if not new:
            return
        former = [lake.read(CLAIMS, key)] if lake.exists(CLAIMS, key) else []
        lake.write(CLAIMS, key, pa.concat_tables([*former, claims_to_table(new)]))


def latest_claims(lake: Lake, key: str) -> dict[str, Claim]:
    """What each source said last of one market, by its name; empty where nobody was asked."""
    if not lake.exists(CLAIMS, key):
        return {}
    return {claim.source: claim for claim in claims_from_table(lake.read(CLAIMS, key))}


def claims_to_table(claims: Sequence[Claim]) -> pa.Table:
    """Rows of ``catalog.resolution_claims``; they are read when they become known."""
    columns = {name: [getattr(claim, name) for claim in claims] for name in _AS_THEY_ARE}
    return to_table(
        CLAIMS,
        columns
        | {
            "market_key": [str(claim.market_key) for claim in claims],
            "status": [claim.status.value for claim in claims],
            "ingested_at": columns["known_at"],
        },
    )


def claims_from_table(rows: pa.Table) -> list[Claim]:
    """The claims of these rows, in their order."""
    return [
        Claim(
            market_key=MarketKey.parse(row["market_key"]),
            status=ResolutionStatus(row["status"]),
            payouts=None if row["payouts"] is None else tuple(row["payouts"]),
            **{name: row[name] for name in _AS_THEY_ARE if name != "payouts"},
        )
        for row in with_nanos(rows, _TIMES).to_pylist()
    ]


def _differs(claim: Claim, former: Claim | None) -> bool:
    """Whether a source says another thing than before. Times count as the lake keeps them."""
    if former is None:
        return True
    now, then = ((c.status, c.payouts, c.was_disputed, c.trusted, c.note) for c in (claim, former))
    seconds = [None if c.resolved_at is None else c.resolved_at // 1000 for c in (claim, former)]
    return now != then or seconds[0] != seconds[1]
