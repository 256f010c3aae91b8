"""The code location as Dagster's own command line sees it."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from pm_pipeline import definitions
from pm_pipeline_tests.workdir import Workdir

ROOT = Path(__file__).parents[2]
LOCATION = ("-m", "pm_pipeline.definitions")


def dagster(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dagster", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (
            "universe: [{venue: polymarket, closes_from: 2026-06-24}]\n      strategies: {momentum: {}}",
            0,
            "SUCCESS",
        ),
        ("strategies: {momentun: {}}", 1, "no strategy 'momentun'; did you mean 'momentum'"),
    ],
)
def test_a_job_executed_by_dagster_tells_the_truth(
    fetched: Workdir, tmp_path: Path, content: str, status: int, message: str
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"ops:\n  plan:\n    config:\n      {content}\n")
    found = dagster("job", "execute", *LOCATION, "-j", "backtest", "-c", str(path))
    assert found.returncode == status, found.stderr[-3000:]
    assert message in found.stderr
    assert bool(fetched.rows("backtest.runs")) is (status == 0)


def test_the_definitions_are_valid(empty: Workdir) -> None:
    (empty.home / "dagster").mkdir(parents=True)
    found = dagster("definitions", "validate", *LOCATION)
    assert found.returncode == 0, found.stderr
    assert "Validation successful" in found.stderr + found.stdout


def test_everything_has_a_meaning_and_a_place() -> None:
    graph = definitions.defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.group_name != "default", key
    for job in ("backtest", "fetch", "ingest_catalog", "ingest_markets", "strategy_chain", "portfolios"):
        assert definitions.resolve(job).description


@pytest.mark.parametrize(
    ("asset", "checks"),
    [
        (
            "prices",
            {
                "prices_are_probabilities",
                "time_moves_forward",
                "outcomes_sum_to_one",
                "coverage",
                "fine_history_is_saved",
            },
        ),
        ("trades", {"trades_are_possible", "coverage"}),
        (
            "resolutions",
            {
                "one_payout_per_market",
                "sources_agree_on_the_end",
                "one_winner_per_group",
                "a_paid_market_stays_paid",
            },
        ),
        ("favourite/signals", {"no_lookahead"}),
        ("warehouse", {"runs_are_published"}),
    ],
)
def test_the_assets_have_their_checks(asset: str, checks: set[str]) -> None:
    graph = definitions.defs.resolve_asset_graph()
    found = graph.get_check_keys_for_assets({dg.AssetKey(asset.split("/"))})
    assert {key.name for key in found} == checks
