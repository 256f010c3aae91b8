"""The main job end to end, on the small world."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg
import pytest
from starlette.types import Message, Receive, Scope, Send

from pm_pipeline import definitions
from pm_pipeline.cli import dagster_home
from pm_pipeline.defs.backtest import jobs, portfolio
from pm_pipeline.defs.partitions import MARKETS, register
from pm_pipeline.markets import MICRO
from pm_pipeline.sources.ingest import ASKED_TO
from pm_pipeline.sources.sandbox import build_app
from pm_pipeline.sources.sandbox.serve import running_server
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage
from pm_pipeline.warehouse.duck import open_warehouse, publish
from pm_pipeline.warehouse.locks import file_lock
from pm_pipeline_tests.small_world import load_world
from pm_pipeline_tests.workdir import Workdir

Faulty = Callable[..., AbstractContextManager[str]]

PRICES = "market_data.prices"
KXSMALL = "kalshi:KXSMALL-26JUN20-T70"
KXVOID = "kalshi:KXSMALLVOID-26JUN20-T70"
WON = next(
    str(m.market.key) for m in load_world().markets.values() if (m.market.slug or "").startswith("small-won")
)
OPEN = next(
    str(m.market.key) for m in load_world().markets.values() if (m.market.slug or "").startswith("small-open")
)
ALL = sorted(str(listed.market.key) for listed in load_world().markets.values())
STALE_KXSMALL = "stale@/trade-api/v2/*/KXSMALL-26JUN20-T70/candlesticks#1x99"

CHAIN = ("backtest.signals", "backtest.orders", "backtest.fills", "backtest.trips", "backtest.rejections")
CHAIN_TABLES = (*CHAIN, "backtest.metrics")
PORTFOLIO_TABLES = tuple(
    f"backtest.portfolio_{part}" for part in ("fills", "trips", "equity", "rejections", "metrics")
)

BUYER = '''
from pm_pipeline.engine.signals import Action, Signal, Signals
from pm_pipeline.strategies import BaseStrategy, StrategyParams

class Buyer(BaseStrategy["Buyer.Params"]):
    """{doc}"""

    name = "buyer"
    title = "Buys YES after some looks"

    class Params(StrategyParams):
        after: int = 5
        only: tuple[int, ...] = (0,)
        until: int | None = None

    def signals(self, view):
        quotes = view.quotes(0)
        if len(quotes.ts) <= self.params.after:
            return Signals()
        ts = int(quotes.known_at[self.params.after])
        p = int(quotes.mid[{row}]) / 1e6
        outcome = self.params.only[0]
        return Signals.of(
            [Signal(ts=ts, inputs_known_at=ts, outcome_index=outcome, action=Action.ENTER, p_market=p)]
        )
'''
HONEST = BUYER.format(doc="Honest.", row="self.params.after")
PEEKING = BUYER.format(doc="Knows the end.", row="-1")


def test_every_strategy_has_its_chain_and_portfolio_on_every_market(seen: Workdir) -> None:
    lake = seen.lake
    for name in ("favourite", "mean_reversion", "momentum"):
        for table in CHAIN_TABLES:
            assert [key for _, key in lake.partitions(table, name)] == ALL
    for table in PORTFOLIO_TABLES:
        assert [name for _, name in lake.partitions(table)] == ["favourite", "mean_reversion", "momentum"]
    assert {row["scenario"] for row in seen.rows("backtest.metrics")} == {"pessimistic", "base", "optimistic"}
    assert seen.rows("backtest.fills")
    assert seen.rows("backtest.portfolio_trips")


def test_the_run_is_a_row_with_what_it_rests_on(seen: Workdir) -> None:
    (run,) = seen.lake.partitions("backtest.runs")
    (row,) = seen.lake.read("backtest.runs", run).to_pylist()
    assert (row["status"], row["world"], row["seed"]) == ("success", "SANDBOX SMALL_WORLD", 7)
    assert row["finished_at"] > row["started_at"]
    assert json.loads(row["config"])["bankroll"]["bankroll_usd"] == 10_000
    assert len(row["data_fingerprint"]) == 16


def test_the_warehouse_file_holds_what_the_lake_holds(seen: Workdir) -> None:
    with open_warehouse(seen.settings.warehouse_path) as connection:
        for table in ("backtest.fills", "backtest.portfolio_metrics", PRICES, "catalog.resolutions"):
            [(count,)] = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
            assert count == len(seen.rows(table)) > 0


def test_each_market_asset_was_really_materialised(seen: Workdir) -> None:
    with dg.DagsterInstance.get() as instance:
        for key in ("prices", "resolutions", "favourite/signals", "momentum/fills", "momentum/metrics"):
            asset = dg.AssetKey(key.split("/"))
            assert sorted(instance.get_materialized_partitions(asset)) == ALL


def test_a_second_run_computes_nothing_and_gives_identical_rows(backtested: Workdir) -> None:
    before = {table: backtested.rows(table) for table in PORTFOLIO_TABLES}
    files = backtested.files()
    backtested.settings.warehouse_path.write_bytes(b"not a database")  # it is only derived, and made anew
    found = backtested.bt("backtest")
    assert found.exit_code == 0, found.output
    assert "data: 0 markets asked for, 6 of 6 have prices" in found.stderr
    for name in ("favourite", "mean_reversion", "momentum"):
        assert f"{name}: 0 of 6 markets computed" in found.stderr
    again = backtested.files()
    assert {path for path, content in files.items() if again[path] != content} <= {
        path for path in files if "/catalog.markets/" in path or "/catalog.instruments/" in path
    }
    latest = backtested.json("report")["run_id"]
    for table, rows in before.items():
        assert backtested.rows(table, latest) == rows
    with open_warehouse(backtested.settings.warehouse_path) as connection:
        assert connection.execute("SELECT count(*) FROM backtest.runs").fetchall() == [(2,)]


def test_single_runs_in_another_order_give_the_rows_of_one_run(
    seen: Workdir, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {table: seen.rows(table, "momentum") for table in CHAIN_TABLES}
    raw = ("market_data.prices", "market_data.trades", "market_data.candles", "market_data.book_events")
    data = {table: seen.rows(table) for table in (*raw, "catalog.resolutions")}
    other = Workdir(tmp_path / "other")
    monkeypatch.setenv("PM_DATA_DIR", str(other.data))
    monkeypatch.setenv("DAGSTER_HOME", str(other.home / "dagster"))
    keys = [OPEN, KXVOID, WON]
    dagster_home()
    assert other.materialise("ingest_catalog", "2026-06-30").success
    with dg.DagsterInstance.get() as instance:
        register(instance, MARKETS, keys)
    chain = [dg.AssetKey(["momentum", role]) for role in ("signals", "fills", "metrics")]
    for key in keys:
        assert other.materialise("ingest_markets", key).success
        assert other.materialise("strategy_chain", key, asset_selection=chain).success
    for table, rows in (data | wanted).items():
        expected = [row for row in rows if row["market_key"] in keys]
        assert other.rows(table) == expected
    # and once more as one range over a part of them
    before = other.rows("backtest.fills")
    assert other.materialise("strategy_chain", *sorted(keys)[:2], asset_selection=chain).success
    assert other.rows("backtest.fills") == before


@pytest.mark.parametrize(
    ("words", "computed"),
    [
        (["-p", "momentum.threshold=0.5"], 0),
        (["-p", "momentum.threshold=0.6"], 6),
        (["--stake", "50"], 6),
        (["--fees", "zero"], 6),
    ],
)
def test_what_changed_is_computed_again(backtested: Workdir, words: list[str], computed: int) -> None:
    found = backtested.bt("backtest", "-s", "momentum", "-m", WON, *words)
    assert found.exit_code == 0, found.output
    assert f"momentum: {min(computed, 1)} of 1 markets computed" in found.stderr


def test_a_users_file_becomes_assets_and_its_change_is_noticed(
    fetched: Workdir, user_strategy: Callable[[str], None]
) -> None:
    user_strategy(HONEST)
    graph = definitions.defs.resolve_asset_graph()
    for role, upstream in (("fills", "signals"), ("metrics", "fills"), ("portfolio", "metrics")):
        asset = graph.get(dg.AssetKey(["buyer", role]))
        assert dg.AssetKey(["buyer", upstream]) in asset.parent_keys
    words = ("backtest", "-s", "buyer", "-m", WON)
    assert "buyer: 1 of 1 markets computed" in fetched.bt(*words).stderr
    assert len(fetched.rows("backtest.signals", "buyer")) == 1
    assert {row["strategy"] for row in fetched.rows("backtest.portfolio_metrics")} == {"buyer"}
    assert "buyer: 0 of 1 markets computed" in fetched.bt(*words).stderr
    user_strategy(HONEST.replace("Honest.", "Changed."))
    assert "buyer: 1 of 1 markets computed" in fetched.bt(*words).stderr


PATIENT = '''
from pm_pipeline.markets import MICRO, Side
from pm_pipeline.strategies import EventStrategy, StrategyParams

class Patient(EventStrategy["Patient.Params"]):
    """Buys once, then offers what it was told that it holds."""

    name = "patient"
    title = "Waits its turn"
    uses_schedule = False

    class Params(StrategyParams):
        stake: int = 20

    def on_price(self, context, outcome, quote):
        if outcome == 0 and not context.position() and quote.mid and not hasattr(self, "bought"):
            self.bought = True
            context.enter(stake=self.params.stake * MICRO)

    def on_fill(self, context, fill):
        if fill.side is Side.BUY:
            context.exit(tag="told")
'''


def test_an_event_strategy_goes_along_in_every_scenario(
    fetched: Workdir, user_strategy: Callable[[str], None]
) -> None:
    user_strategy(PATIENT)
    found = fetched.bt("backtest", "-s", "patient", "-m", WON, "-p", "patient.stake=30")
    assert found.exit_code == 0, found.output
    signals = fetched.rows("backtest.signals", "patient")
    assert [row["action"] for row in signals] == ["enter", "exit"]
    assert signals[0]["stake"] == 30 * MICRO
    for table in ("backtest.fills", "backtest.portfolio_fills"):
        rows = [row for row in fetched.rows(table) if row["strategy"] == "patient"]
        bought = [row for row in rows if row["side"] == "buy"]
        assert [row["scenario"] for row in bought] == ["base", "optimistic", "pessimistic"]
        assert "sell" in {row["side"] for row in rows if row["scenario"] == "base"}
        assert all(0 < -row["cash"] <= 30 * MICRO for row in bought)
    assert (
        "patient: 0 of 1 markets computed"
        in fetched.bt("backtest", "-s", "patient", "-m", WON, "-p", "patient.stake=30").stderr
    )


def test_parameters_of_any_type_reach_the_strategy(
    fetched: Workdir, user_strategy: Callable[[str], None]
) -> None:
    user_strategy(HONEST)
    found = fetched.bt(
        "backtest", "-m", WON, "-p", "buyer.only=[1]", "-p", "buyer.until=9", "-p", "buyer.after=7"
    )
    assert found.exit_code == 0, found.output
    assert [row["outcome_index"] for row in fetched.rows("backtest.signals", "buyer")] == [1]


def test_a_strategy_that_peeks_is_caught_and_nothing_is_computed_from_it(
    fetched: Workdir, user_strategy: Callable[[str], None]
) -> None:
    user_strategy(PEEKING)
    found = fetched.bt("backtest", "-s", "buyer", "-m", WON)
    assert found.exit_code == 1
    assert "bt: strategy 'buyer' looks ahead; nothing was computed from it" in found.stderr
    assert f"`{WON}` at 2026-06-24T00:50:00Z, by truncation: " in found.stderr
    assert "Traceback" not in found.output
    for table in (*CHAIN_TABLES, *PORTFOLIO_TABLES, "backtest.runs"):
        assert fetched.rows(table) == []


def test_the_blocking_check_of_a_strategy_that_peeks_stops_what_is_downstream(
    fetched: Workdir, user_strategy: Callable[[str], None]
) -> None:
    user_strategy(PEEKING)
    chain = [dg.AssetKey(["buyer", role]) for role in ("signals", "fills", "metrics")]
    result = fetched.materialise("strategy_chain", WON, asset_selection=chain)
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.blocking) == ("no_lookahead", False, True)
    assert not result.success
    started = {event.step_key for event in result.all_events if event.is_step_start}
    assert started == {"buyer__signals"}


def test_a_few_quiet_markets_are_listed_and_the_run_succeeds(empty: Workdir, faulty: Faulty) -> None:
    kalshi = ("--platform", "kalshi")
    with faulty(STALE_KXSMALL):
        for words in (("backtest", *kalshi, "-s", "momentum"), ("fetch", *kalshi)):
            found = empty.bt(*words)
            assert found.exit_code == 0, found.output
            assert "2 of 3 have prices" in found.stderr
    assert not empty.lake.exists(PRICES, KXSMALL)
    (coverage,) = read_coverage(empty.lake, PRICES, KXSMALL)
    assert (coverage.status, coverage.rows) == (CoverageStatus.QUIET, 0)
    assert "the source has gone quiet. Nothing was written" in coverage.reason
    latest = empty.json("report")["run_id"]
    listed = [r for r in empty.rows("backtest.portfolio_rejections", latest) if r["reason"] == "no_data"]
    assert {row["market_key"] for row in listed} == {KXSMALL}
    assert "gone quiet" in listed[0]["detail"]
    healed = empty.bt("fetch", *kalshi)
    assert healed.exit_code == 0
    assert "data: 1 markets asked for, 3 of 3 have prices" in healed.stderr


def test_a_source_that_goes_quiet_is_dead_and_the_former_rows_stay(fetched: Workdir, faulty: Faulty) -> None:
    lake = fetched.lake
    stored = lake.read(PRICES, OPEN)
    former = stored.slice(0, 20)  # long ago, so that what is new is most of it
    lake.write(PRICES, OPEN, former, meta={ASKED_TO: "0"})
    with faulty("stale@/prices-history#1x999"):
        found = fetched.bt("backtest", "-s", "momentum")
    assert found.exit_code == 1
    assert "not all data could be read" in found.stderr
    assert f"{OPEN}: prices of {OPEN} end at" in found.stderr
    assert "Traceback" not in found.output
    assert lake.read(PRICES, OPEN).equals(former)
    assert [c.status for c in read_coverage(lake, PRICES, OPEN)] == [CoverageStatus.QUIET]
    assert fetched.rows("backtest.portfolio_metrics")  # the report is written all the same


def test_a_source_that_fails_fails_the_run(empty: Workdir, faulty: Faulty) -> None:
    with faulty("cut_body@/trade-api/v2/*/KXSMALL-26JUN20-T70/candlesticks#1x999"):
        found = empty.bt("fetch", "-m", KXSMALL, "-m", KXVOID)
    assert found.exit_code == 1
    assert "1 of 2 partitions were not written; their former rows stay" in found.stderr
    assert [c.status for c in read_coverage(empty.lake, PRICES, KXSMALL)] == [CoverageStatus.FAILED]
    assert empty.lake.exists(PRICES, KXVOID)


class _Lying:
    """Changes every point of Polymarket's price history."""

    def __init__(self, price: float) -> None:
        self._app = build_app(load_world())
        self._price = price

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started: list[Message] = []

        async def lie(message: Message) -> None:
            if "prices-history" not in scope["path"]:
                await send(message)
            elif message["type"] == "http.response.start":
                started.append(message)
            else:
                page = json.loads(message["body"])
                page["history"] = [point | {"p": self._price} for point in page["history"]]
                body = json.dumps(page).encode()
                start = started[0]
                others = [(name, value) for name, value in start["headers"] if name != b"content-length"]
                await send({**start, "headers": [*others, (b"content-length", str(len(body)).encode())]})
                await send({**message, "body": body})

        await self._app(scope, receive, lie)


@pytest.mark.parametrize(("price", "message"), [(1.7, "1.7"), (0.9, "outcomes_sum_to_one: they sum to 1.8")])
def test_a_lying_source_is_refused_and_nothing_of_it_stays(
    empty: Workdir, monkeypatch: pytest.MonkeyPatch, price: float, message: str
) -> None:
    lying: Any = _Lying(price)
    with running_server(lying) as url:
        monkeypatch.setenv("PM_SANDBOX_URL", url)
        found = empty.bt("fetch", "-m", "small-won-2026-06-25")
    assert found.exit_code == 1
    assert message in found.stderr
    assert "Traceback" not in found.output
    assert not empty.lake.exists(PRICES, WON)
    (coverage,) = read_coverage(empty.lake, PRICES, WON)
    assert coverage.status is CoverageStatus.FAILED
    assert message in coverage.reason
    monkeypatch.delenv("PM_SANDBOX_URL")
    assert empty.bt("fetch", "-m", "small-won-2026-06-25").exit_code == 0
    assert empty.lake.exists(PRICES, WON)


def test_scattered_stale_partitions_are_covered_by_one_run(
    backtested: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = backtested.lake
    for key in (ALL[0], ALL[2], ALL[4]):
        lake.delete("backtest.fills", ("momentum", key))
    kept = lake.paths("backtest.fills")
    monkeypatch.setattr(jobs, "MOST_RANGES", 2)
    assert "momentum: 3 of 6 markets computed" in backtested.bt("backtest", "-s", "momentum").stderr
    assert len(lake.paths("backtest.fills")) == len(kept) + 3


def test_a_locked_warehouse_says_who_must_let_go(
    backtested: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolio, "publish", lambda *args: publish(*args, timeout_s=0.05))
    path = backtested.settings.warehouse_path
    with file_lock(path, mode="shared", timeout_s=1):
        found = backtested.bt("backtest", "-s", "momentum")
    assert found.exit_code == 1
    assert "warehouse.duckdb is in use: no exclusive lock" in found.stderr
    assert "Traceback" not in found.output


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_corrupt_partition_is_named_with_what_to_do(backtested: Workdir, damage: str) -> None:
    (path,) = [path for path in backtested.lake.paths(PRICES) if "KXSMALL-" in path.name]
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[64:512] = bytes(byte ^ 0xFF for byte in content[64:512])
    path.write_bytes(content[: 100 if damage == "cut" else None])
    found = backtested.bt("backtest", "-s", "momentum", "-p", "momentum.threshold=0.7")
    assert found.exit_code == 1
    assert f"{path.name} is damaged" in found.stderr
    assert "delete it and materialise" in found.stderr
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    ("job", "assets", "message"),
    [
        ("portfolios", [["momentum", "portfolio"]], "no market has signals of 'momentum' yet"),
        ("portfolios", [["comparison"]], "this run has no portfolio"),
        ("portfolios", [["report"]], "there is no run yet"),
    ],
)
def test_an_asset_run_out_of_order_says_what_comes_first(
    fetched: Workdir, job: str, assets: list[list[str]], message: str
) -> None:
    with dg.DagsterInstance.get() as instance, pytest.raises(Exception, match=message):
        definitions.resolve(job).execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(path) for path in assets]
        )


def test_the_report_asset_alone_shows_the_latest_run(backtested: Workdir) -> None:
    page = next(backtested.settings.reports_dir.glob("*/report.html"))
    page.unlink()
    with dg.DagsterInstance.get() as instance:
        definitions.resolve("portfolios").execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("report")]
        )
    assert page.exists()


def test_a_portfolio_lists_markets_that_nobody_read(fetched: Workdir) -> None:
    chain = [dg.AssetKey(["momentum", role]) for role in ("signals", "fills", "metrics")]
    assert fetched.materialise("strategy_chain", WON, asset_selection=chain).success
    with dg.DagsterInstance.get() as instance:
        run = definitions.resolve("portfolios").execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(["momentum", "portfolio"])]
        )
    rows = fetched.rows("backtest.portfolio_rejections", run.run_id)
    untested = {row["market_key"] for row in rows if row["reason"] == "no_data"}
    assert untested == set(ALL) - {WON}


def test_a_market_without_prices_passes_through_the_chain_alone(fetched: Workdir) -> None:
    for table in (PRICES, "market_data.trades", "market_data.book_events"):
        fetched.lake.delete(table, WON)
    chain = [dg.AssetKey(["momentum", role]) for role in ("signals", "fills", "metrics")]
    assert fetched.materialise("strategy_chain", WON, asset_selection=chain).success
    assert fetched.rows("backtest.signals", ("momentum", WON)) == []
