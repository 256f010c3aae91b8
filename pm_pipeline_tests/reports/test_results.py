import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.reports.results import (
    RUNS,
    compare_runs,
    find_run,
    load_run,
    report_folder,
    result_rows,
    run_ids,
)
from pm_pipeline.research.figure import Figure
from pm_pipeline.research.metrics import METRICS, SUMMARY
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.schema import table

FIRST, SECOND, THIRD = "aaaa1111-x", "aaaa2222-x", "bbbb0000-x"


def add_run(lake: Lake, run_id: str, hour: int, figures: dict[str, dict[str, float | None]]) -> None:
    """A run at ``hour`` with these figures per strategy, and one market that was passed over."""
    at = datetime(2026, 6, 30, hour, tzinfo=UTC)
    row = {
        "run_id": run_id,
        "started_at": at,
        "finished_at": at,
        "status": "success",
        "world": "SANDBOX",
        "config": json.dumps({"bankroll": {"seed": 7}}),
        "seed": 7,
        "code_version": "1",
        "data_fingerprint": "0",
    }
    _write(lake, RUNS, run_id, [row])
    for strategy, values in figures.items():
        common = {"run_id": run_id, "strategy": strategy}
        _write(
            lake,
            "backtest.portfolio_metrics",
            (run_id, strategy),
            [
                common
                | {"scenario": scenario, "metric": name, "value": value, "note": "" if value else "why"}
                for scenario in ("pessimistic", "base", "optimistic")
                for name, value in values.items()
            ],
        )
        _write(
            lake,
            "backtest.portfolio_rejections",
            (run_id, strategy),
            [
                common
                | {"scenario": s, "market_key": "kalshi:A", "ts": at, "reason": "no_data", "detail": "quiet"}
                for s in ("base", "optimistic")
            ],
        )
        for part in ("equity", "trips", "fills"):
            _write(lake, f"backtest.portfolio_{part}", (run_id, strategy), [])


def _write(lake: Lake, name: str, partition: Any, rows: list[dict[str, Any]]) -> None:
    lake.write(name, partition, pa.Table.from_pylist(rows, schema=table(name).arrow))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path, durability="rename")
    add_run(lake, SECOND, 2, {"favourite": {"trades": 5.0, "sharpe": None}, "momentum": {"trades": 7.0}})
    add_run(lake, THIRD, 3, {"favourite": {"trades": 6.0, "sharpe": 1.25}})
    add_run(lake, FIRST, 1, {"momentum": {"trades": 9.0}})
    return lake


def test_runs_are_found_by_the_beginning_of_their_id_or_as_the_latest(lake: Lake) -> None:
    assert run_ids(lake) == [FIRST, SECOND, THIRD]
    assert find_run(lake) == THIRD
    assert find_run(lake, "aaaa2") == SECOND


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aaaa", "run 'aaaa' is ambiguous; known: aaaa1111-x, aaaa2222-x, bbbb0000-x"),
        ("aaaa1112-x", "run 'aaaa1112-x' does not exist; did you mean 'aaaa1111-x'"),
    ],
)
def test_a_run_that_cannot_be_told_is_refused(lake: Lake, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_run(lake, text)


def test_without_a_run_there_is_nothing_to_show(tmp_path: Path) -> None:
    for ask in (lambda lake: find_run(lake), lambda lake: compare_runs(lake, [], [])):
        with pytest.raises(UsageError, match="there is no run yet; `bt backtest` makes one"):
            ask(Lake(tmp_path))


def test_a_run_comes_back_as_it_was_written(lake: Lake) -> None:
    run = load_run(lake, SECOND, {"favourite": "Buys favourites"})
    assert (run.run_id, run.world, run.config) == (SECOND, "SANDBOX", {"bankroll": {"seed": 7}})
    assert [(result.name, result.title) for result in run.strategies] == [
        ("favourite", "Buys favourites"),
        ("momentum", "momentum"),
    ]
    figures = run.strategies[0].metrics["base"]
    assert list(figures) == [name for name in METRICS if name in {"trades", "sharpe"}]
    assert figures["trades"] == Figure(5.0, "")
    assert math.isnan(figures["sharpe"].value)
    assert figures["sharpe"].note == "why"
    assert [(s.market_key, s.reason, s.detail) for s in run.strategies[0].skipped] == [
        ("kalshi:A", "no_data", "quiet")
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null_for_machines(lake: Lake, value: float) -> None:
    run = load_run(lake, THIRD)
    (result,) = run.strategies
    figures = {"base": {"trades": Figure(6.0, ""), "sharpe": Figure(value, "why")}}
    rows = result_rows(replace(run, strategies=(replace(result, metrics=figures),)))
    assert rows == [
        {"strategy": "favourite", "scenarios": {"base": {"trades": 6.0, "sharpe": None}}, "skipped": 1}
    ]
    json.dumps(rows, allow_nan=False)


def test_runs_are_compared_column_by_column(lake: Lake) -> None:
    rows = compare_runs(lake, [THIRD, SECOND], ["trades", "sharpe"])
    title = {name: METRICS[name].title for name in ("trades", "sharpe")}
    assert rows == [
        {"strategy": "favourite", "figure": title["trades"], THIRD[:8]: "6", SECOND[:8]: "5"},
        {"strategy": "favourite", "figure": title["sharpe"], THIRD[:8]: "1.25", SECOND[:8]: "–"},
        {"strategy": "momentum", "figure": title["trades"], THIRD[:8]: None, SECOND[:8]: "7"},
        {"strategy": "momentum", "figure": title["sharpe"], THIRD[:8]: None, SECOND[:8]: "–"},
    ]


def test_by_default_the_latest_two_runs_and_the_headline_figures(lake: Lake) -> None:
    rows = compare_runs(lake, [], [])
    assert {row["figure"] for row in rows} == {METRICS[name].title for name in SUMMARY}
    assert all(list(row)[2:] == [SECOND[:8], THIRD[:8]] for row in rows)


def test_a_figure_that_does_not_exist_gets_the_nearest(lake: Lake) -> None:
    with pytest.raises(UsageError, match="no figure 'sharp'; did you mean 'sharpe'"):
        compare_runs(lake, [], ["sharp"])


def test_every_run_has_its_folder() -> None:
    assert report_folder(Path("reports"), FIRST) == Path("reports") / FIRST
