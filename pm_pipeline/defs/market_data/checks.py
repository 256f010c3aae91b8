"""What must hold of market data, as a table of rules; each is an asset check."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import dagster as dg

from pm_pipeline.markets.resolution import contradiction
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.endings import ChangedEndError, former_state, pays_whole
from pm_pipeline.sources.ingest import Outcome
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.claims import latest_claims
from pm_pipeline.warehouse.duck import connect
from pm_pipeline.warehouse.lake import Lake

Violations: TypeAlias = list[tuple[str, str]]
"""Market key and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule. ``find`` returns the markets that break it.

    ``blocking``: their partitions are withdrawn from the lake, and nothing downstream runs.
    """

    name: str
    meaning: str
    find: Callable[[Lake, Sequence[Outcome]], Violations]
    blocking: bool = True
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR


def sql(table: str, query: str) -> Callable[[Lake, Sequence[Outcome]], Violations]:
    """A rule as a query over the run's partitions of ``table``, named ``rows``: (partition, detail)."""

    def find(lake: Lake, outcomes: Sequence[Outcome]) -> Violations:
        partitions = [outcome.market_key for outcome in outcomes if outcome.coverage.rows]
        if not partitions:
            return []
        with connect(lake, {table: partitions}) as connection:
            found = connection.execute(query.format(rows=table)).fetchall()
        return [(str(key), str(detail)) for key, detail in found]

    return find


def _short(lake: Lake, outcomes: Sequence[Outcome]) -> Violations:
    return [(o.market_key, o.coverage.reason) for o in outcomes if o.coverage.reason]


def _contested(lake: Lake, outcomes: Sequence[Outcome]) -> Violations:
    """Markets whose sources contradict each other, by what each claimed last."""
    known = Catalog(lake).markets()
    found = []
    for outcome in outcomes:
        key = outcome.market_key
        whole = key in known and pays_whole(known[key])
        if words := contradiction(latest_claims(lake, key).values(), whole=whole):
            found.append((key, words))
    return found


def _winners(lake: Lake, outcomes: Sequence[Outcome]) -> Violations:
    """Markets of this run whose group has too many winners, or none although all is decided."""
    asked = {outcome.market_key for outcome in outcomes}
    found = []
    for group in Catalog(lake).groups().values():
        members = [str(key) for key in group.market_keys]
        if not group.exclusive or asked.isdisjoint(members):
            continue
        states = {key: former_state(lake, key) for key in members}
        paid = {key: s.payouts for key, s in states.items() if s is not None and s.payouts is not None}
        winners = sorted(key for key, payouts in paid.items() if payouts[0] == MICRO)
        if len(winners) > 1:
            words = f"{group.group_key} has {len(winners)} winners: {', '.join(winners)}"
            found += [(key, words) for key in winners if key in asked]
        elif not winners and group.exhaustive and len(paid) == len(members):
            words = f"{group.group_key} has no winner among its {len(members)} markets, all resolved"
            found += [(key, words) for key in members if key in asked]
    return found


def _changed(lake: Lake, outcomes: Sequence[Outcome]) -> Violations:
    return [(o.market_key, str(o.error)) for o in outcomes if isinstance(o.error, ChangedEndError)]


COVERAGE: Final = Check(
    "coverage",
    "Every market has rows; the reason stands beside each that has none.",
    _short,
    blocking=False,
    severity=dg.AssetCheckSeverity.WARN,
)
COMPLEMENT_TOLERANCE: Final = "0.03"

CHECKS: Final[dict[str, tuple[Check, ...]]] = {
    "prices": (
        Check(
            "prices_are_probabilities",
            "Mid, bid and ask lie in [0, 1], and no bid is above its ask.",
            sql(
                "market_data.prices",
                """
                SELECT market_key, count(*) || ' rows'
                FROM {rows}
                WHERE NOT coalesce(mid BETWEEN 0 AND 1, true)
                   OR NOT coalesce(bid BETWEEN 0 AND 1, true)
                   OR NOT coalesce(ask BETWEEN 0 AND 1, true)
                   OR coalesce(bid > ask, false)
                GROUP BY market_key
                """,
            ),
        ),
        Check(
            "time_moves_forward",
            "Within an outcome no two prices share a time, and none is known before it was true.",
            sql(
                "market_data.prices",
                """
                SELECT market_key, 'twice at ' || ts
                FROM {rows}
                GROUP BY market_key, outcome_index, ts, resolution_s
                HAVING count(*) > 1
                UNION ALL
                SELECT market_key, 'known before it was true'
                FROM {rows}
                WHERE known_at < ts
                GROUP BY market_key
                """,
            ),
        ),
        Check(
            "outcomes_sum_to_one",
            f"YES and NO observed within a minute sum to 1, give or take {COMPLEMENT_TOLERANCE}.",
            sql(
                "market_data.prices",
                f"""
                WITH pairs AS (
                    SELECT yes.market_key, yes.mid + no.mid AS total
                    FROM {{rows}} AS yes
                    ASOF JOIN {{rows}} AS no
                      ON yes.market_key = no.market_key
                     AND yes.outcome_index = 0 AND no.outcome_index = 1
                     AND yes.ts >= no.ts
                    WHERE yes.ts - no.ts < INTERVAL 1 MINUTE
                      AND yes.mid IS NOT NULL AND no.mid IS NOT NULL
                )
                SELECT market_key, 'they sum to ' || median(total)
                FROM pairs
                GROUP BY market_key
                HAVING abs(median(total) - 1) > {COMPLEMENT_TOLERANCE}
                """,
            ),
        ),
        COVERAGE,
    ),
    "candles": (
        Check(
            "candles_are_ordered",
            "Low is at most open and close, high at least; volume is not negative.",
            sql(
                "market_data.candles",
                """
                SELECT market_key, count(*) || ' rows'
                FROM {rows}
                WHERE price_low > least(price_open, price_close)
                   OR price_high < greatest(price_open, price_close)
                   OR bid_low > bid_high
                   OR ask_low > ask_high
                   OR volume < 0
                GROUP BY market_key
                """,
            ),
        ),
    ),
    "trades": (
        Check(
            "trades_are_possible",
            "Prices lie in [0, 1], sizes are positive, none is known before it happened.",
            sql(
                "market_data.trades",
                """
                SELECT market_key, count(*) || ' rows'
                FROM {rows}
                WHERE NOT price BETWEEN 0 AND 1 OR size <= 0 OR known_at < ts
                GROUP BY market_key
                """,
            ),
        ),
        COVERAGE,
    ),
    "book_events": (
        Check(
            "book_levels_are_possible",
            "Levels lie in [0, 1] with sizes of at least zero, and a log begins with a reset.",
            sql(
                "market_data.book_events",
                """
                SELECT market_key, count(*) || ' impossible levels'
                FROM {rows}
                WHERE kind = 'level' AND (NOT price BETWEEN 0 AND 1 OR size < 0)
                GROUP BY market_key
                UNION ALL
                SELECT market_key, 'levels before the first reset'
                FROM {rows}
                GROUP BY market_key
                HAVING min(seq) FILTER (kind = 'level') IS NOT NULL
                   AND coalesce(min(seq) FILTER (kind = 'level') < min(seq) FILTER (kind = 'reset'), true)
                """,
            ),
        ),
    ),
    "resolutions": (
        Check(
            "one_payout_per_market",
            "Each market has one latest state, and what is resolved pays exactly one dollar per set.",
            sql(
                "catalog.resolutions",
                """
                SELECT market_key, 'pays ' || coalesce(list_sum(payouts)::VARCHAR, 'nothing')
                FROM {rows}
                WHERE status = 'resolved' AND coalesce(list_sum(payouts) <> 1, true)
                UNION ALL
                SELECT market_key, count(*) || ' states at once'
                FROM {rows}
                GROUP BY market_key, known_at
                HAVING count(*) > 1
                """,
            ),
        ),
        Check(
            "sources_agree_on_the_end",
            "All sources that may decide claim the same payouts, and none splits a neg-risk market.",
            _contested,
        ),
        Check(
            "one_winner_per_group",
            "No two markets of an exclusive group win; once all of an exhaustive one are resolved, one has.",
            _winners,
        ),
        Check(
            "a_paid_market_stays_paid",
            "Nobody says today that a market pays something else than it was settled with before.",
            _changed,
            blocking=False,
        ),
    ),
}
"""The checks of each asset, in the order in which they are shown."""
