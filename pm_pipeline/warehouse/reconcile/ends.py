"""How a market ended beside what each source claims, and whether every table was read."""

from collections.abc import Mapping
from typing import Final

from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.resolution import shares
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.claims import latest_claims
from pm_pipeline.warehouse.coverage import CoverageStatus
from pm_pipeline.warehouse.reconcile.findings import (
    BOOKS,
    FILLS,
    PRICES,
    RESOLUTIONS,
    TRADES,
    Finding,
    Held,
    Rule,
    Verdict,
    judged,
)
from pm_pipeline.warehouse.records import resolution_from_rows

EXPECTED: Final[Mapping[Venue, tuple[str, ...]]] = {
    Venue.POLYMARKET: (PRICES, TRADES, BOOKS, FILLS, RESOLUTIONS),
    Venue.KALSHI: (PRICES, "market_data.candles", TRADES, BOOKS, RESOLUTIONS),
}
"""What a market of each venue should have."""

_SHORT: Final = frozenset({CoverageStatus.FROZEN, CoverageStatus.QUIET, CoverageStatus.FAILED})


def covered(rule: Rule, held: Held) -> list[Finding]:
    """The last word on each table: how much of it came, and why it is short.

    What was traded had a price: no prices beside trades are too few.
    """
    found = []
    traded = max(held.rows.get(TRADES, 0), held.rows.get(FILLS, 0))
    for table in EXPECTED.get(held.market.key.venue, ()):
        readings = held.coverage(table)
        lost = traded and table == PRICES
        short = [r for r in readings if r.status in _SHORT or (lost and r.status is CoverageStatus.EMPTY)]
        gaps = sum(reading.gaps for reading in readings)
        if table == BOOKS:  # where the recorder was away: the engine fills nothing across them
            words, gaps = (f"{gaps} gaps" if gaps else ""), 0
        else:
            words = f"{traded} trades are stored" if lost and short else ""
        verdict = Verdict.CONFLICTS if short or gaps else Verdict.AGREES
        reasons = [f"{reading.status}: {reading.reason}" for reading in readings if reading.reason]
        found.append(
            Finding(
                rule=rule.name,
                verdict=verdict if readings else Verdict.UNTOLD,
                left_source=table,
                right_source="coverage",
                left_value=float(held.lake.info(table, held.key).rows)  # type: ignore[union-attr]
                if held.lake.exists(table, held.key)
                else None,
                right_value=float(sum(reading.rows for reading in readings)) if readings else None,
                compared=len(readings),
                detail="; ".join([*reasons, *([words] if words else [])])
                or ("" if readings else "never read"),
            )
        )
    return found


def ends(rule: Rule, held: Held) -> list[Finding]:
    """The payout of outcome 0 that is stored beside what each source claims."""
    info = held.lake.info(RESOLUTIONS, held.key)
    stored = resolution_from_rows(held.lake.read(RESOLUTIONS, held.key)) if info and info.rows else None
    paid = stored.payouts if stored is not None else None
    found = []
    for source, claim in sorted(latest_claims(held.lake, held.key).items()):
        said = claim.payouts if claim.trusted else None
        finding = rule.within(
            "resolutions",
            source,
            (paid[0] / MICRO if paid else None, said[0] / MICRO if said else None),
            0.0,
            int(paid is not None and said is not None),
            detail=f"stored {shares(paid)}, {source} says {shares(claim.payouts)} ({claim.note})",
        )
        differs = paid is not None and said is not None and paid != said
        found.append(judged(finding, Verdict.CONFLICTS if differs else None))
    nothing = Finding(
        rule=rule.name, verdict=Verdict.UNTOLD, left_source="resolutions", right_source="claims"
    )
    return found or [nothing]
