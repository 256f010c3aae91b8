"""The ``bt`` command: what it prints, what it refuses, and with which exit status."""

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from dagster import DagsterExecutionInterruptedError

from pm_pipeline import cli
from pm_pipeline.cli import dagster_home, main
from pm_pipeline.errors import UsageError
from pm_pipeline.warehouse.schema import SCHEMA_VERSION
from pm_pipeline_tests.small_world import load_world
from pm_pipeline_tests.workdir import Workdir

ROOT = Path(__file__).parents[1]
WON = "small-won-2026-06-25"
Asked = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The jobs that the command would start, with what it asks of them."""
    heard: Asked = []

    def run(job: str, plan: dict[str, Any], also: tuple[str, ...] = ()) -> str:
        heard.append((job, plan | ({"also": also} if also else {})))
        return "run"

    monkeypatch.setattr(cli, "_run", run)
    monkeypatch.setattr(cli, "_show", lambda run_id, as_json: None)
    return heard


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["backtest", "-m", "small-wom-2026-06-25"],
            "no market 'small-wom-2026-06-25'; did you mean 'small-won-",
        ),
        (["backtest", "-m", "polymarket:999"], "Polymarket has no market '999'"),
        (
            ["backtest", "-m", "KXSMALL-26JUN20-T71"],
            "no market 'KXSMALL-26JUN20-T71'; did you mean 'KXSMALL-26",
        ),
        (
            ["fetch", "-m", "polymarkt:1"],
            "unknown venue 'polymarkt' in 'polymarkt:1'; did you mean 'polymarket'?",
        ),
        (["backtest", "-m", "alpaca:SPY"], "alpaca is no prediction market"),
        (["backtest", "--platform", "kalshi", "-m", "polymarket:1"], "'polymarket:1' is no market of kalshi"),
        (["backtest", "-s", "favorite"], "no strategy 'favorite'; did you mean 'favourite'?"),
        (["backtest", "-p", "favourite.led_hours=3"], "no parameter 'led_hours'; did you mean 'lead_hours'"),
        (["backtest", "-p", "favourite.lead_hours=x"], "lead_hours: Input should be a valid number"),
        (["backtest", "-p", "favourite"], "--param 'favourite' is not STRATEGY.NAME=VALUE"),
        (["backtest", "-p", "=3"], "--param '=3' is not STRATEGY.NAME=VALUE"),
        (["backtest", "--fees", "flat_3pct"], "no fee model 'flat_3pct'; did you mean 'flat_2pct'"),
        (["backtest", "--stake", "0"], "bankroll.stake_usd: Input should be greater than 0, got 0"),
        (
            ["backtest", "--from", "2026-07-05", "--to", "2026-07-01"],
            "closes_to 2026-07-01 is before closes_from",
        ),
        (["fetch", "--from", "2026-13-01"], "'2026-13-01' does not match the format"),
        (["fetch", "--from", "2030-01-01"], "the universe matches no market of the source"),
        (["fetch", "--series", "KXNOTHING"], "the universe matches no market of the source"),
        (["fetch", "--series", "nothing"], "as in the page address; known: politics, sports"),
        (["backtest", "-c", "nowhere.yaml"], "there is no file nowhere.yaml; see examples/backtest.yaml"),
        (["report", "zzz"], "run 'zzz' does not exist"),
        (["compare", "zzz"], "run 'zzz' does not exist"),
        (["compare", "--metric", "sharp"], "no figure 'sharp'; did you mean 'sharpe'?"),
        (["markets", "zzz"], "no market of the catalog matches"),
        (["sandbox", "--world", "nowhere:load"], "the world 'nowhere:load' cannot be loaded"),
    ],
)
def test_bad_input_is_refused_with_a_lesson_and_changes_nothing(
    seen: Workdir, words: list[str], message: str
) -> None:
    before = seen.files()
    found = seen.bt(*words)
    assert (found.exit_code, found.stdout) == (2, "")
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    unchanged = [
        path for path, content in seen.files().items() if "/catalog." in path or before[path] == content
    ]
    assert sorted(unchanged) == sorted(before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("strategys: {}", "strategys: there is no such key; did you mean 'strategies'?"),
        ("execution: {latency: 3}", "execution.latency: there is no such key; did you mean 'latency_ms'"),
        ("execution: {latency_ms: soon}", "execution.latency_ms: Input should be a valid integer"),
        ("execution: {mark: up}", "mark is 'up'; it is bid or mid"),
        ("universe: [{venu: kalshi}]", "markets.0.venu: there is no such key; did you mean 'venue'?"),
        ("ops: {paln: {}}", "what lies under ops must begin with plan: config:"),
        ("ops: 3", "what lies under ops must begin with plan: config:"),
        ("ops: {plan: {config: {strategys: {}}}}", "did you mean 'strategies'?"),
        ("[1, 2]", "Input should be a valid dictionary"),
        ("a: [1", "is not YAML"),
        ("strategies:", "strategies: Input should be a valid dictionary"),
    ],
)
def test_a_bad_configuration_file_is_refused(
    seen: Workdir, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    found = seen.bt("backtest", "-c", str(path), "-s", "momentum")
    assert found.exit_code == 2
    assert message in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("environment", "words", "status", "message"),
    [
        ({"PM_SOURCE": "sandbx"}, ["markets"], 2, "PM_SOURCE: Input should be 'live'"),
        ({"PM_SANDBOX_URL": "localhost"}, ["fetch"], 2, "PM_SANDBOX_URL: write an address"),
        ({"PM_SANDBOX_WORLD": "nowhere:x"}, ["fetch"], 2, "the world 'nowhere:x' cannot be loaded"),
        ({"PM_STRATEGIES": "/nowhere"}, ["strategies"], 2, "no file or folder /nowhere"),
        ({"PM_UNIVERSE": "/nowhere"}, ["fetch"], 2, "there is no file /nowhere; see examples/universe.yaml"),
        ({"PM_SOURCE": "live"}, ["fetch"], 2, "no universe is configured"),
        ({"PM_SOURCE": "archive"}, ["fetch"], 2, "no universe is configured"),
        ({"PM_SOURCE": "archive"}, ["fetch", "-m", WON], 2, "there is no archive of raw pages at"),
        ({"PM_SANDBOX_URL": "http://127.0.0.1:1"}, ["fetch"], 1, "failed 6 times; last: ConnectError"),
        ({"DAGSTER_HOME": "/proc/nowhere"}, ["fetch"], 2, "cannot use /proc/nowhere as DAGSTER_HOME"),
        (
            {"PM_DATA_DIR": "/proc/nowhere", "DAGSTER_HOME": ""},
            ["fetch"],
            2,
            "set DAGSTER_HOME or PM_DATA_DIR",
        ),
        ({}, ["report"], 2, "there is no run yet; `bt backtest` makes one"),
        ({}, ["compare"], 2, "there is no run yet"),
        ({}, ["markets"], 2, "`bt fetch` reads the catalog"),
    ],
)
def test_a_bad_environment_is_refused_with_a_lesson(
    empty: Workdir,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    words: list[str],
    status: int,
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = empty.bt(*words)
    assert found.exit_code == status
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    assert empty.files() == {}


@pytest.mark.parametrize(
    ("words", "filters"),
    [
        ([], []),
        (["--platform", "poly"], [{"venue": "polymarket"}]),
        (["-m", "a-slug"], [{"venue": "polymarket", "ids": ["a-slug"]}]),
        (["-m", "654414", "-m", "0xab"], [{"venue": "polymarket", "ids": ["654414", "0xab"]}]),
        (
            ["-m", "KXA-B", "-m", "polymarket:7"],
            [{"venue": "kalshi", "ids": ["KXA-B"]}, {"venue": "polymarket", "ids": ["polymarket:7"]}],
        ),
        (["-m", "UP", "--platform", "poly"], [{"venue": "polymarket", "ids": ["UP"]}]),
        (
            ["-m", "https://polymarket.com/event/X"],
            [{"venue": "polymarket", "ids": ["https://polymarket.com/event/X"]}],
        ),
        (["-m", "kalshi.com/markets/kxa"], [{"venue": "kalshi", "ids": ["kalshi.com/markets/kxa"]}]),
        (["--series", "KXHIGHNY"], [{"venue": "kalshi", "series": ["KXHIGHNY"]}]),
        (
            ["--series", "nyc-daily-weather", "--from", "2026-06-01"],
            [{"venue": "polymarket", "closes_from": "2026-06-01", "series": ["nyc-daily-weather"]}],
        ),
        (
            ["--to", "2026-06-02"],
            [
                {"venue": "kalshi", "closes_to": "2026-06-02"},
                {"venue": "polymarket", "closes_to": "2026-06-02"},
            ],
        ),
    ],
)
def test_what_is_named_decides_which_venues_are_asked(
    empty: Workdir, asked: Asked, words: list[str], filters: list[dict[str, Any]]
) -> None:
    assert empty.bt("fetch", *words).exit_code == 0
    assert asked == [("fetch", {"universe": filters} if filters else {})]


def test_a_market_is_fetched_by_every_kind_of_name(empty: Workdir) -> None:
    listed = load_world().market("polymarket:" + next(iter(load_world().polymarket))).market
    assert listed.slug == WON
    outcome = listed.instruments[1]
    for name in (
        listed.key.native_id,
        listed.slug,
        str(listed.key),
        f"https://polymarket.com/event/{WON}",
        f"https://polymarket.com/event/{WON}/{WON}?tid=1",
        f"polymarket.com/market/{WON}",
        listed.condition_id,
        listed.question_id,
        outcome.token_id,
        outcome.position_id,
    ):
        assert name is not None
        found = empty.bt("fetch", "--platform", "poly", "--market-id", name)
        assert found.exit_code == 0, found.output
        assert "SANDBOX SMALL_WORLD: 1 markets" in found.output
        assert [row["market_key"] for row in empty.rows("catalog.markets")] == [str(listed.key)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small-wom-2026-06-25", "Polymarket has no market 'small-wom-2026-06-25'; did you mean 'small-won-"),
        ("https://polymarket.com/event/small-wom-2026-06-25", "; did you mean 'small-won-2026-06-25'"),
        ("https://polymarket.com/event/small", "com/event/small'; the search finds small-"),
        ("999", "Polymarket has no market '999'"),
        ("0x" + "0" * 64, "asked for as condition id or question id"),
        ("1" * 77, "asked for as token id or position id"),
        ("0x" + "ab" * 31, "is the id of a combo"),
        ("0x" + "ab" * 30, "is no condition id: that is 0x and 64 hex digits"),
        ("0x" + "ab" * 20, "is the address of a wallet"),
        ("https://polymarket.com/@somebody", "is no page of a market"),
    ],
)
def test_a_name_that_no_market_bears_is_explained(empty: Workdir, name: str, message: str) -> None:
    found = empty.bt("fetch", "--platform", "poly", "--market-id", name)
    assert (found.exit_code, message in found.output) == (2, True), found.output
    assert empty.lake.partitions("catalog.markets") == []


def test_the_command_line_comes_before_the_file(empty: Workdir, asked: Asked, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "universe: [{venue: kalshi, closes_from: 2026-06-01}]\n"
        "strategies: {favourite: {lead_hours: 6}}\n"
        "bankroll: {stake_usd: 40, seed: 3}\n"
    )
    words = ["-p", "favourite.min_price=0.7", "-s", "momentum", "--stake", "50", "--fees", "zero"]
    assert empty.bt("backtest", "-c", str(path), *words).exit_code == 0
    assert empty.bt("backtest", "-c", str(path), "-m", "kalshi:A").exit_code == 0
    (_, first), (_, second) = asked
    assert first["universe"] == [{"venue": "kalshi", "closes_from": "2026-06-01"}]
    assert first["strategies"] == {"favourite": {"lead_hours": 6, "min_price": 0.7}, "momentum": {}}
    assert (first["bankroll"]["stake_usd"], first["bankroll"]["seed"]) == (50, 3)
    assert first["execution"]["fees"] == "zero"
    assert second["universe"] == [{"venue": "kalshi", "ids": ["kalshi:A"]}]


def test_the_example_file_serves_both_clients(empty: Workdir, asked: Asked) -> None:
    path = ROOT / "examples" / "backtest.yaml"
    assert empty.bt("backtest", "-c", str(path)).exit_code == 0
    written = yaml.safe_load(path.read_text())["ops"]["plan"]["config"]
    ((job, plan),) = asked
    assert (job, plan["strategies"], plan["universe"]) == (
        "backtest",
        written["strategies"],
        written["universe"],
    )


def test_a_file_with_dates_runs(fetched: Workdir, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("universe: [{venue: kalshi, closes_from: 2026-06-21}]\nstrategies: {momentum: {}}\n")
    found = fetched.json("backtest", "-c", str(path))
    assert [result["strategy"] for result in found["strategies"]] == ["momentum"]


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["markets"], 6),
        (["markets", "share"], 1),
        (["markets", "--platform", "kalshi", "--limit", "2"], 2),
        (["compare"], None),
        (["strategies"], None),
    ],
)
def test_lists_are_json_for_machines_and_tables_for_people(
    seen: Workdir, words: list[str], rows: int | None
) -> None:
    listed = seen.json(*words)
    assert len(listed) == rows if rows is not None else len(listed) > 5
    table = CliRunner(env={"COLUMNS": "250"}).invoke(main, words)
    assert table.exit_code == 0
    for row in listed:
        assert str(next(iter(row.values()))) in table.output


def test_a_result_is_json_for_machines_and_a_table_for_people(seen: Workdir) -> None:
    found = seen.json("report")
    assert found["world"] == "SANDBOX SMALL_WORLD"
    assert [result["strategy"] for result in found["strategies"]] == [
        "favourite",
        "mean_reversion",
        "momentum",
    ]
    for result in found["strategies"]:
        assert set(result["scenarios"]) == {"pessimistic", "base", "optimistic"}
        assert result["scenarios"]["base"]["trades"] is not None
    assert set(found["files"]) >= {"report.html", "equity.png", "trades.csv", "trades.json", "warehouse"}
    assert all(Path(path).is_file() for path in found["files"].values())
    shown = seen.bt("report", found["run_id"][:6])
    assert shown.exit_code == 0
    assert f"run {found['run_id']}" in shown.output
    assert found["files"]["report.html"] in shown.output


def test_a_column_belongs_to_its_run_even_where_a_run_lacks_the_strategy(backtested: Workdir) -> None:
    first = backtested.json("report")["run_id"]
    second = backtested.json("backtest", "-s", "favourite", "-m", WON)["run_id"]
    fills = backtested.rows("backtest.portfolio_fills", (second, "favourite"))
    assert len({row["market_key"] for row in fills}) <= 1  # the portfolio holds only what was asked for
    for row in backtested.json("compare", second, first, "--metric", "trades"):
        assert list(row) == ["strategy", "figure", second[:8], first[:8]]
        assert (row[second[:8]] is None) is (row["strategy"] != "favourite")


def test_an_older_lake_is_refused_until_it_is_migrated(backtested: Workdir) -> None:
    (backtested.lake.root / "_lake.json").write_text('{"schema_version": 1}')
    refused = backtested.bt("report")
    assert refused.exit_code == 1
    assert "has schema version 1" in refused.output + refused.stderr
    assert "`bt migrate`" in refused.output + refused.stderr
    migrated = backtested.bt("migrate")
    assert migrated.exit_code == 0
    assert f"version 1 -> {SCHEMA_VERSION}, 0 partitions rewritten" in migrated.output
    assert backtested.bt("report").exit_code == 0


def test_strategies_of_the_user_are_listed(
    empty: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user_strategy: Callable[[str], None]
) -> None:
    user_strategy(
        "from pm_pipeline.engine import Signals\n"
        "from pm_pipeline.strategies import BaseStrategy, StrategyParams\n"
        "class Mine(BaseStrategy['Mine.Params']):\n"
        "    name, title = 'mine', 'x'\n"
        "    class Params(StrategyParams):\n"
        "        size: int = 3\n"
        "    def signals(self, view): return Signals()\n"
    )
    monkeypatch.setenv("PM_STRATEGIES", str(tmp_path / "mine.py"))
    rows = [row for row in empty.json("strategies") if row["strategy"] == "mine"]
    assert rows == [{"strategy": "mine", "parameter": "size", "default": "3", "meaning": ""}]


def test_dagsters_home_gets_the_settings_that_lie_beside_or_none(
    empty: Workdir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dagster_home() == empty.home / "dagster"
    assert yaml.safe_load((empty.home / "dagster" / "dagster.yaml").read_text()) == {
        "telemetry": {"enabled": False}
    }
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    dagster_home()
    assert "nux" not in (empty.home / "dagster" / "dagster.yaml").read_text()  # a user's own stays
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.setenv("PM_DATA_DIR", str(tmp_path / "second"))
    assert dagster_home() == tmp_path / "second" / "sandbox-small_world" / "dagster"
    assert "nux" in (tmp_path / "second" / "sandbox-small_world" / "dagster" / "dagster.yaml").read_text()
    assert os.environ["DAGSTER_HOME"] == str(tmp_path / "second" / "sandbox-small_world" / "dagster")


def test_bt_home_prints_the_home_that_dagsters_own_commands_need(
    empty: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    found = empty.bt("home")
    assert found.stdout == f"{empty.home / 'dagster'}\n"
    assert (empty.home / "dagster" / "dagster.yaml").exists()


@pytest.mark.parametrize("columns", ["30", "80", None])
def test_a_table_loses_nothing_however_narrow_the_terminal(
    seen: Workdir, monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    keys = [row["market"] for row in seen.json("markets")]
    assert keys
    assert [key for key in keys if key not in seen.bt("markets").stdout] == []
    strategies = seen.json("report")["strategies"]
    [trades] = [line for line in seen.bt("report").stdout.splitlines() if line.startswith("│ Trades")]
    assert len(re.findall(r"\d+", trades)) == len(strategies)


def test_a_terminal_without_unicode_gets_question_marks(seen: Workdir) -> None:
    found = subprocess.run(
        [Path(sys.executable).parent / "bt", "doctor"],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert not found.stderr
    assert b"book of token" in found.stdout


def test_a_home_that_is_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with pytest.raises(UsageError, match=r"cannot use .*home as DAGSTER_HOME"):
        dagster_home()


def test_the_sandbox_is_served_where_it_says(empty: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[dict[str, Any]] = []
    module = sys.modules["pm_pipeline.sources.sandbox.serve"]
    monkeypatch.setattr(module, "serve", lambda app, **where: served.append(where))
    found = empty.bt("sandbox", "--port", "8123")
    assert served == [{"host": "127.0.0.1", "port": 8123}]
    assert re.search(r"^SANDBOX: 6 markets on http://127.0.0.1:8123", found.output)


def test_the_ui_is_dagsters_own_on_this_world(empty: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, words: started.append(words))
    found = empty.bt("ui", "--port", "3111")
    (words,) = started
    assert words[:6] == [sys.executable, "-m", "dagster", "dev", "-m", "pm_pipeline.definitions"]
    assert words[6:] == ["--host", "127.0.0.1", "--port", "3111"]
    assert f"home {empty.home / 'dagster'}" in found.output


def limited() -> None:
    """As if the disk were full: no file of this process may grow beyond 64 KiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))


def test_a_full_disk_is_a_sentence_and_leaves_the_lake_whole(backtested: Workdir) -> None:
    before = backtested.files()
    words = [
        sys.executable,
        "-c",
        "from pm_pipeline.cli import main; main()",
        "backtest",
        "-s",
        "momentum",
        "-p",
        "momentum.threshold=0.6",
    ]
    found = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, preexec_fn=limited, timeout=120, check=False
    )
    assert found.returncode == 1
    assert "bt: Dagster cannot keep its records in" in found.stderr
    assert "free some space" in found.stderr
    assert "Traceback" not in found.stderr
    assert backtested.files() == before
    assert backtested.bt("backtest", "-s", "momentum").exit_code == 0


def test_an_interrupted_run_ends_without_a_traceback(empty: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(job: str, asked: dict[str, Any], also: tuple[str, ...]) -> str:
        raise DagsterExecutionInterruptedError

    monkeypatch.setattr("pm_pipeline.definitions.run_job", interrupted)
    found = empty.bt("fetch")
    assert (found.exit_code, found.stderr.strip()) == (1, "Aborted!")


def test_json_on_the_output_progress_on_the_other(fetched: Workdir) -> None:
    found = fetched.bt("backtest", "-s", "favourite", "-m", WON, "--json")
    assert json.loads(found.stdout)["strategies"][0]["strategy"] == "favourite"
    assert "favourite: 1 of 1 markets computed" in found.stderr


def test_fetch_makes_and_reads_more_when_asked_and_in_the_order_that_the_job_has(asked: Asked) -> None:
    from pm_pipeline.defs.backtest import jobs

    assert tuple(jobs.EXTRAS) == cli.EXTRAS
    assert (
        CliRunner().invoke(main, ["fetch", "-m", WON, "--with", "bars", "--with", "onchain"]).exit_code == 0
    )
    ((job, plan),) = asked
    assert (job, plan["also"]) == ("fetch", ("bars", "onchain"))


def test_fetch_with_everything_fills_the_tables_of_one_market(empty: Workdir) -> None:
    words = [word for name in cli.EXTRAS for word in ("--with", name)]
    found = empty.bt("fetch", "-m", WON, *words)
    assert found.exit_code == 0, found.output
    for table in ("wallet_fills", "holders", "trade_bars"):
        assert len(empty.rows(f"market_data.{table}")) > 0, table
    verdicts = {row["rule"]: row["verdict"] for row in empty.rows("ops.reconciliation")}
    assert "conflicts" not in verdicts.values()
    assert "trades_against_chain" in verdicts


def test_fills_without_their_files_are_the_users_mistake_and_the_market_data_stays(
    empty: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PM_ONCHAIN", "files")
    found = empty.bt("fetch", "-m", WON, "--with", "onchain")
    assert found.exit_code == 2
    assert "fills from files need PM_POLYGON_LOGS" in found.stderr
    assert "onchain: 1 markets" not in found.stderr
    assert empty.rows("market_data.prices")


def test_what_cannot_be_fetched_beside_is_refused_with_what_can(empty: Workdir) -> None:
    found = empty.bt("fetch", "-m", WON, "--with", "candels")
    assert found.exit_code == 2
    assert "'onchain', 'holders', 'bars', 'reconcile'" in found.output
