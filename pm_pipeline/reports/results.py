"""Runs as they lie in the lake: found, loaded, and compared."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.reports.run import BASE, RunReport, Skipped, StrategyResult, under
from pm_pipeline.research.figure import Figure
from pm_pipeline.research.metrics import METRICS, SUMMARY, show
from pm_pipeline.warehouse.lake import Lake

RUNS: Final = "backtest.runs"
_DRAWN: Final = 6
"""Markets whose prices are drawn in a report: those with the largest results."""


def run_ids(lake: Lake) -> list[str]:
    """The runs in the lake, oldest first."""
    rows = [
        lake.read(RUNS, partition, ["run_id", "started_at"]).to_pylist()[0]
        for partition in lake.partitions(RUNS)
    ]
    return [row["run_id"] for row in sorted(rows, key=lambda row: row["started_at"])]


def find_run(lake: Lake, text: str | None = None) -> str:
    """A run by the beginning of its id, or the latest. Raises :class:`UsageError` where there is none."""
    known = run_ids(lake)
    if not known:
        raise UsageError("there is no run yet; `bt backtest` makes one")
    if text is None:
        return known[-1]
    matching = [run_id for run_id in known if run_id.startswith(text)]
    if len(matching) != 1:
        what = "is ambiguous" if matching else "does not exist"
        raise UsageError(f"run {text!r} {what}{did_you_mean(text, known)}")
    return matching[0]


def report_folder(reports: Path, run_id: str) -> Path:
    """Where the files of a run lie."""
    return reports / run_id


def load_run(lake: Lake, run_id: str, titles: Mapping[str, str] | None = None) -> RunReport:
    """Everything that is reported about a run, read back from its partitions."""
    row = lake.read(RUNS, run_id).to_pylist()[0]
    names = [strategy for _, strategy in lake.partitions("backtest.portfolio_metrics", run_id)]
    return RunReport(
        run_id=run_id,
        world=row["world"],
        started_at=row["started_at"],
        config=json.loads(row["config"]),
        strategies=tuple(
            _load_strategy(lake, run_id, name, (titles or {}).get(name, name)) for name in names
        ),
    )


def result_rows(run: RunReport) -> list[dict[str, Any]]:
    """Strategies with every headline figure of each scenario, as plain data; undefined is null."""
    return [
        {
            "strategy": result.name,
            "scenarios": {
                scenario: {
                    name: figure.value if math.isfinite(figure.value) else None
                    for name, figure in figures.items()
                }
                for scenario, figures in result.metrics.items()
            },
            "skipped": len(result.skipped),
        }
        for result in run.strategies
    ]


def compare_runs(lake: Lake, wanted: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """A row per strategy and figure, a column per run, of the base scenario; null where a run lacks it."""
    for name in metrics:
        if name not in METRICS:
            raise UsageError(f"there is no figure {name!r}{did_you_mean(name, METRICS)}")
    chosen = [find_run(lake, text) for text in wanted] or run_ids(lake)[-2:]
    if not chosen:
        raise UsageError("there is no run yet; `bt backtest` makes one")
    runs = [load_run(lake, run_id) for run_id in chosen]
    strategies = sorted({result.name for run in runs for result in run.strategies})
    return [
        {"strategy": strategy, "figure": METRICS[name].title}
        | {
            run.run_id[:8]: show(name, figure) if (figure := _figure(run, strategy, name)) else None
            for run in runs
        }
        for strategy in strategies
        for name in metrics or SUMMARY
    ]


def _figure(run: RunReport, strategy: str, name: str) -> Figure | None:
    return next((result.figure(name) for result in run.strategies if result.name == strategy), None)


def _load_strategy(lake: Lake, run_id: str, name: str, title: str) -> StrategyResult:
    key = (run_id, name)
    metrics: dict[str, dict[str, Figure]] = {}
    for row in lake.read("backtest.portfolio_metrics", key).to_pylist():
        value = float("nan") if row["value"] is None else row["value"]
        metrics.setdefault(row["scenario"], {})[row["metric"]] = Figure(value, row["note"])
    ordered = {s: {n: figures[n] for n in METRICS if n in figures} for s, figures in metrics.items()}
    rejected = under(lake.read("backtest.portfolio_rejections", key), BASE)
    return StrategyResult(
        name=name,
        title=title,
        metrics=ordered,
        equity=lake.read("backtest.portfolio_equity", key),
        trips=lake.read("backtest.portfolio_trips", key),
        fills=lake.read("backtest.portfolio_fills", key),
        skipped=tuple(_skipped(rejected)),
    )


def _skipped(rejections: pa.Table) -> list[Skipped]:
    rows = rejections.select(["market_key", "reason", "detail"]).to_pylist()
    return [Skipped(row["market_key"], row["reason"], row["detail"]) for row in rows]
