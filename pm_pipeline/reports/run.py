"""What a report is made of: one run, its strategies, and what each scenario said about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.research.figure import Figure, undefined
from pm_pipeline.research.returns import Ints

PESSIMISTIC: Final = "pessimistic"
BASE: Final = "base"
OPTIMISTIC: Final = "optimistic"

WORLDS: Final[Mapping[str, str]] = {
    "LIVE": "Data read from the venues.",
    "ARCHIVE": "Data replayed from pages archived earlier.",
    "SANDBOX": "Generated data of the built-in sandbox. It says nothing about real markets.",
}
"""Where the data of a run came from, and what that means to a reader."""

_MISSING: Final = undefined("not computed for this scenario")


class Skipped(NamedTuple):
    """A market that could not be tested, or an order on it that was refused, and why."""

    market_key: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """One strategy of a run. The tables hold every scenario, told apart by their ``scenario`` column.

    ``metrics`` maps scenario to figure name to figure; ``equity``, ``trips`` and ``fills`` are
    ``backtest.portfolio_equity``, ``portfolio_trips`` and ``portfolio_fills``.
    """

    name: str
    title: str
    metrics: Mapping[str, Mapping[str, Figure]]
    equity: pa.Table
    trips: pa.Table
    fills: pa.Table
    skipped: tuple[Skipped, ...] = ()

    def figure(self, name: str, scenario: str = BASE) -> Figure:
        """A headline figure; undefined with a note where the scenario does not have it."""
        return self.metrics.get(scenario, {}).get(name, _MISSING)

    def band(self, name: str) -> tuple[Figure, Figure] | None:
        """The figure under the pessimistic and the optimistic scenario; None where one was not run."""
        if PESSIMISTIC not in self.metrics or OPTIMISTIC not in self.metrics:
            return None
        return self.figure(name, PESSIMISTIC), self.figure(name, OPTIMISTIC)


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything that is reported about one run. ``world`` is a key of :data:`WORLDS`.

    ``prices`` are rows of ``market_data.prices`` of the markets whose trades shall be drawn.
    """

    run_id: str
    world: str
    started_at: datetime
    config: Mapping[str, object]
    strategies: tuple[StrategyResult, ...]
    prices: pa.Table | None = field(default=None)


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """The files of a report."""

    page: Path
    image: Path
    trades_csv: Path
    trades_json: Path


def under(table: pa.Table, scenario: str) -> pa.Table:
    """The rows of one scenario."""
    return table.filter(pc.equal(table["scenario"], scenario))


def nanos(table: pa.Table, column: str) -> Ints:
    """A time column as nanoseconds."""
    return np.asarray(table[column].cast(pa.int64()).to_numpy(), dtype=np.int64) * 1000
