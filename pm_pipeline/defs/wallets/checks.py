"""What must hold of wallets, as a table of rules; each is an asset check."""

from collections.abc import Callable, Sequence
from typing import Final

import dagster as dg

from pm_pipeline.defs.market_data.checks import COVERAGE, Check, Violations, sql
from pm_pipeline.sources.book_log import ShorterAnswerError
from pm_pipeline.sources.ingest import Outcome
from pm_pipeline.warehouse.holdings import differences
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.leaders import LEADERBOARD
from pm_pipeline.warehouse.readings import ACTIVITY, HOLDERS, POSITIONS, of_reading, readings_of

_SHOWN: Final = 3


def _shorter(lake: Lake, outcomes: Sequence[Outcome]) -> Violations:
    """Wallets of which the source now tells less than is stored; the stored rows were kept."""
    del lake
    return [(o.market_key, str(o.error)) for o in outcomes if isinstance(o.error, ShorterAnswerError)]


def _disagreements(lake: Lake, outcomes: Sequence[Outcome]) -> Violations:
    """Wallets that hold another amount than their activity left, with both values."""
    violations = []
    for outcome in outcomes:
        wallet = outcome.market_key
        readings = readings_of(lake, POSITIONS, wallet)
        if outcome.error or not readings or not lake.exists(ACTIVITY, wallet):
            continue
        last = of_reading(lake.read(POSITIONS, wallet), readings[-1].ts)
        found = [str(each) for each in differences(lake.read(ACTIVITY, wallet), last)]
        if found:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            violations.append((wallet, "; ".join(found[:_SHOWN]) + more))
    return violations


def _of_the_day(query: str) -> Callable[[Lake, Sequence[Outcome]], Violations]:
    """A rule over the leaderboards of the one day that a run reads."""
    find = sql(LEADERBOARD, query)

    def of_day(lake: Lake, outcomes: Sequence[Outcome]) -> Violations:
        return [(outcomes[0].market_key, detail) for _, detail in find(lake, outcomes)]

    return of_day


CHECKS: Final[dict[str, tuple[Check, ...]]] = {
    "wallet_activity": (
        Check(
            "activity_is_possible",
            "Prices lie in [0, 1], nothing is negative, trades have a side, none is known before its block.",
            sql(
                ACTIVITY,
                """
                SELECT wallet, count(*) || ' rows'
                FROM {rows}
                WHERE NOT coalesce(price BETWEEN 0 AND 1, true) OR size < 0 OR cash < 0 OR known_at <= ts
                   OR (kind = 'trade') <> (side IS NOT NULL)
                GROUP BY wallet
                """,
            ),
        ),
        Check(
            "activity_is_not_shorter",
            "The source tells at least as much of each wallet as it did before.",
            _shorter,
        ),
        COVERAGE,
    ),
    "wallet_positions": (
        Check(
            "positions_are_possible",
            "Average prices lie in [0, 1], no size is negative, a reading tells of each outcome once.",
            sql(
                POSITIONS,
                """
                SELECT wallet, count(*) || ' rows'
                FROM {rows}
                WHERE NOT coalesce(avg_price BETWEEN 0 AND 1, true) OR size < 0 OR bought < 0 OR known_at < ts
                GROUP BY wallet
                UNION ALL
                SELECT wallet, 'token ' || token_id || ' twice at ' || ts
                FROM {rows}
                GROUP BY wallet, token_id, ts
                HAVING count(*) > 1
                """,
            ),
        ),
        Check(
            "positions_agree_with_activity",
            "Contracts bought, made, sold, merged and redeemed leave what is held, give or take dust.",
            _disagreements,
            blocking=False,
            severity=dg.AssetCheckSeverity.WARN,
        ),
        COVERAGE,
    ),
    "holders": (
        Check(
            "holders_are_ranked",
            "Sizes fall with the rank, ranks count from 1, a wallet stands once per outcome.",
            sql(
                HOLDERS,
                """
                WITH ranked AS (
                    SELECT *, lag(size) OVER one AS larger, row_number() OVER one AS place,
                           count(*) OVER (PARTITION BY market_key, outcome_index, ts, wallet) AS times
                    FROM {rows}
                    WINDOW one AS (PARTITION BY market_key, outcome_index, ts ORDER BY rank)
                )
                SELECT market_key, count(*) || ' rows'
                FROM ranked
                WHERE size < 0 OR size > larger OR rank <> place OR times > 1 OR known_at < ts
                GROUP BY market_key
                """,
            ),
        ),
        COVERAGE,
    ),
    "leaderboard": (
        Check(
            "leaders_are_ranked",
            "Ranks count from 1, figures fall with the rank, and a wallet stands once on each list.",
            _of_the_day(
                """
                WITH told AS (
                    SELECT *, CASE ranked_by WHEN 'pnl' THEN pnl ELSE volume END AS figure FROM {rows}
                ), ranked AS (
                    SELECT *, lag(figure) OVER one AS better, row_number() OVER one AS place,
                           count(*) OVER (PARTITION BY ts, period, ranked_by, wallet) AS times
                    FROM told
                    WINDOW one AS (PARTITION BY ts, period, ranked_by ORDER BY rank)
                )
                SELECT period, period || ' by ' || ranked_by || ': ' || count(*) || ' rows'
                FROM ranked
                WHERE figure IS NULL OR figure > better OR rank <> place OR times > 1 OR known_at < ts
                GROUP BY period, ranked_by
                """,
            ),
        ),
        COVERAGE,
    ),
}
"""The checks of each asset, in the order in which they are shown."""
