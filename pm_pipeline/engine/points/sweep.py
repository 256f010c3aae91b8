"""Many combinations of a rule's parameters on the same points, each market alone with a fixed stake.

The z-scores of a market are made once for a window, and each combination then looks only for the rows where
it does something; a further stop, target or threshold makes no indicator anew. Memory depends on neither the
number of points nor that of combinations: what a combination comes to is one row of sums.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from pm_pipeline.engine.kernel.orders import Records
from pm_pipeline.engine.points.alone import sweep_each
from pm_pipeline.engine.points.layout import Points
from pm_pipeline.engine.points.records import SUMS
from pm_pipeline.engine.points.rules import ZRule
from pm_pipeline.engine.points.runner import (
    chunks,
    longer,
    model_fits,
    raise_fault,
    ready,
    regimes_under,
    rule_needs,
    tables,
    terms_record,
)
from pm_pipeline.engine.scenarios import Scenario
from pm_pipeline.engine.simulation.state import RunConfig
from pm_pipeline.errors import UsageError


def sweep(
    points: Points,
    grid: Sequence[ZRule],
    config: RunConfig,
    scenario: Scenario,
    *,
    threads: int = 1,
) -> pa.Table:
    """Play each rule of ``grid`` on each market with a bankroll of its own.

    Returns a row per rule, in the order of ``grid``: ``trades``, ``wins`` (those with a profit after fees),
    ``held_to_payout`` (not sold before trading ended), ``refused`` (orders and decisions), and in
    micro-dollars ``cost``, ``proceeds``, ``fees`` and ``pnl``. All are whole numbers, the same for any number
    of threads.

    Raises
    ------
    UsageError
        for what the domain in ``docs/points.md`` does not cover, or an empty grid.
    """
    if not grid:
        raise UsageError("a sweep needs at least one rule")
    rows = np.concatenate([terms_record(config, scenario, rule) for rule in grid])
    rows["number"] = np.arange(len(grid))
    rows = rows[np.argsort(rows["window"], kind="stable")]
    regimes = regimes_under(points.regimes, config.execution.under(scenario))
    model_fits(points, config)
    rule_needs(points)
    ready(sweep_each)
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda part: _swept(points.part(*part), rows, regimes), chunks(points))
        sums = sum(
            (part.view(np.int64) for part in parts), np.zeros(len(grid) * len(SUMS.names or ()), np.int64)
        )
    found = np.asarray(sums).view(SUMS)
    return pa.table({name: found[name] for name in SUMS.names or ()})


def _swept(points: Points, rows: Records, regimes: Records) -> Records:
    t = tables(points, None, rows[:1].copy(), regimes)._replace(grid=rows, sums=np.zeros(len(rows), SUMS))
    position, begun, last = 0, 0, 2 * len(rows) * len(points.keys)
    while (place := sweep_each(t, position, bool(begun))) < last and not t.state["fault"][0]:
        position, begun = divmod(place, 2)
        t = longer(t)
    raise_fault(t, points.keys[min(place // 2 // len(rows), len(points.keys) - 1)])
    return t.sums
