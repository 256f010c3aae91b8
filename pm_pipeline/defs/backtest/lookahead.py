"""The asset check that tries to catch a strategy looking ahead."""

from collections.abc import Sequence
from typing import Any, Final

import dagster as dg
import numpy as np

from pm_pipeline.engine.forms.lookahead import find_lookahead
from pm_pipeline.markets.clock import format_time
from pm_pipeline.markets.market import Market
from pm_pipeline.strategies.base import BaseStrategy
from pm_pipeline.warehouse.asof import open_view
from pm_pipeline.warehouse.lake import Lake

NO_LOOKAHEAD: Final = "no_lookahead"
LEAKS: Final = "leaks"
"""Key of the check's metadata that lists what was caught."""

MARKETS_TRIED: Final = 25
SIGNALS_TRIED: Final = 8
SEED: Final = 7


def check_lookahead(
    lake: Lake, strategy: BaseStrategy[Any], markets: Sequence[Market]
) -> dg.AssetCheckResult:
    """Cut and poison the future of some signals on some markets; a signal that changes is a leak.

    The sample is drawn with a fixed seed, so a failure can be seen again. It is a test and no proof: it
    refutes a strategy that peeks on what it is tried on.
    """
    with_data = [market for market in markets if lake.exists("market_data.prices", str(market.key))]
    chosen = np.random.default_rng(SEED).permutation(len(with_data))[:MARKETS_TRIED]
    leaks, tried = [], 0
    for index in sorted(chosen):
        view = open_view(lake, with_data[index])
        signals = strategy.signals(view)
        tried += min(len(signals), SIGNALS_TRIED)
        leaks += [
            f"- `{with_data[index].key}` at {format_time(leak.ts)}, by {leak.probe}: {leak.detail}"
            for leak in find_lookahead(strategy, view, signals, sample=SIGNALS_TRIED, seed=SEED)
        ]
    return dg.AssetCheckResult(
        check_name=NO_LOOKAHEAD,
        passed=not leaks,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "markets_tried": len(chosen),
            "signals_tried": tried,
            LEAKS: dg.MetadataValue.md("\n".join(leaks[:20]) or "none"),
        },
    )
