"""Trades and fills beside the mid points of their time."""

from typing import Final

from pm_pipeline.warehouse.reconcile.findings import (
    HALF_SPREAD,
    HOUR_US,
    NEAR_US,
    Finding,
    Held,
    Rule,
    Verdict,
    valued,
)

FEW: Final = 5
"""Fewer pairs of observations than these prove nothing."""


_TRADED: Final = {
    "trades": "SELECT epoch_us(ts) AS t, outcome_index AS o, price, size FROM trades WHERE NOT is_block",
    "fills": "SELECT epoch_us(ts) AS t, outcome_index AS o, price, size FROM fills "
    "WHERE role = 'taker' AND price IS NOT NULL AND size >= 10000 AND balance <> 'refund'",
}
"""What was traded, by who says so."""

_NEAR: Final = """
    WITH traded AS (
        SELECT t, if(o = 0, price, 1000000 - price) / 1e6 AS p, size / 1e6 AS n FROM ({traded})
    ),
    mids AS (
        SELECT epoch_us(ts) AS t, mid / 1e6 AS mid FROM prices WHERE outcome_index = 0 AND mid IS NOT NULL
    ),
    near AS (
        SELECT traded.t, p, n, mid FROM traded ASOF JOIN mids ON traded.t - {lag} >= mids.t
        WHERE traded.t - {lag} - mids.t <= {old}
    ),
    hours AS (
        SELECT t // {hour} AS hour, sum(p * n) / sum(n) AS p, sum(mid * n) / sum(n) AS mid, count(*) AS trades
        FROM near WHERE n > 0 GROUP BY hour
    )
    SELECT (SELECT count(*) FROM hours), (SELECT median(abs(p - mid)) FROM hours),
           (SELECT median(p) FROM hours), (SELECT median(mid) FROM hours), (SELECT count(*) FROM near)
"""


def against_prices(rule: Rule, held: Held) -> list[Finding]:
    """Average price of each hour's trades beside the mid points before each of them.

    Two things are held: the median distance, and that the trades do not fit the prices of an hour earlier or
    later much better than those of their own time.
    """
    source = rule.options["source"]
    found = {
        lag: held.one(_NEAR.format(traded=_TRADED[source], lag=lag * HOUR_US, old=NEAR_US, hour=HOUR_US))
        for lag in (0, -1, 1)
    }
    hours, apart, traded, mid, trades = found[0]
    allowed = HALF_SPREAD + held.tick
    detail = f"median of {hours} hours: {apart:.4f} apart" if hours else ""
    distance = rule.within(
        source, "prices", (0.0 if hours else None, apart), allowed, trades, least=FEW, detail=detail
    )
    distance = valued(distance, traded, mid)
    others = {lag: row[1] for lag, row in found.items() if lag and row[0] >= max(2, hours // 2)}
    shifted = [lag for lag, other in others.items() if apart and other < apart / 2 and apart > held.tick]
    enough = hours >= FEW and len(others) > 0
    clock = Finding(
        rule=rule.name,
        verdict=(Verdict.CONFLICTS if shifted else Verdict.AGREES) if enough else Verdict.UNTOLD,
        left_source=f"{source} clock",
        right_source="prices clock",
        left_value=0.0 if enough else None,
        right_value=float(-shifted[0]) if shifted else (0.0 if enough else None),
        allowed=0.0,
        compared=hours,
        detail=f"the prices of {-shifted[0]:+d} hour fit the trades better" if shifted else "",
    )
    return [distance, clock]
