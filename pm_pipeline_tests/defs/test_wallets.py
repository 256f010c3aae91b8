"""Wallets on a real instance against the sandbox: jobs, assets, checks, schedules, and ``bt wallet``."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pm_pipeline import definitions
from pm_pipeline.defs.wallets.checks import CHECKS
from pm_pipeline.defs.wallets.partitions import WALLETS
from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.markets.clock import FOREVER
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.sandbox.data_trades import MAKERS
from pm_pipeline.sources.wallet_log import withdraw_reading
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage
from pm_pipeline.warehouse.leaders import LEADERBOARD, leaders_known_at
from pm_pipeline.warehouse.readings import ACTIVITY, HOLDERS, POSITIONS, holders_known_at, readings_of
from pm_pipeline_tests.engine.builders import doc_table
from pm_pipeline_tests.small_world import load_world
from pm_pipeline_tests.workdir import Workdir

TODAY = "2026-06-30"


def busiest(count: int = 2) -> list[str]:
    found = Counter(str(w) for m in load_world().polymarket.values() for w in m.trades().wallet)
    return [wallet for wallet, _ in found.most_common(count)]


def ingest(**asked: Any) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.get() as instance:
        return definitions.resolve("ingest_wallets").execute_in_process(
            instance=instance, run_config={"ops": {"follow": {"config": asked}}}
        )


def followed() -> list[str]:
    assert WALLETS.name is not None
    with dg.DagsterInstance.get() as instance:
        return list(instance.get_dynamic_partitions(WALLETS.name))


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}


def test_wallets_that_are_named_are_followed_and_read_and_reconcile(fetched: Workdir) -> None:
    wallets = [*busiest(), MAKERS[0]]
    assert ingest(wallets=[wallet.upper().replace("0X", "0x") for wallet in wallets]).success
    assert set(followed()) == set(wallets)
    result = fetched.materialise("read_wallets", *sorted(wallets))
    assert result.success
    assert all(evaluations(result).values())
    lake = fetched.lake
    known = Catalog(lake).markets()
    for wallet in wallets:
        acts = lake.read(ACTIVITY, wallet).to_pylist()
        assert {row["market_key"] for row in acts if row["kind"] == "trade"} <= set(known)
        assert {"trade", "deposit", "withdrawal", "reward"} <= {row["kind"] for row in acts}
        assert None not in {row["outcome_index"] for row in acts if row["kind"] == "trade"}
        assert [reading.rows for reading in readings_of(lake, POSITIONS, wallet)] == [
            lake.read(POSITIONS, wallet).num_rows
        ]
        for name in (ACTIVITY, POSITIONS):
            (coverage,) = read_coverage(lake, name, wallet)
            assert coverage.complete
    before = fetched.files()
    assert ingest().success  # all that are followed; nothing new at the same moment
    assert {
        path
        for path, content in fetched.files().items()
        if before[path] != content and "coverage" not in path
    } <= {str(p) for p in map(Path, before) if "wallet_activity" in str(p)}


def test_nothing_to_follow_and_no_leaderboard_are_explained(fetched: Workdir) -> None:
    with pytest.raises(UsageError, match="no wallet is followed yet"):
        ingest()
    with pytest.raises(UsageError, match="no leaderboard of month by pnl was read yet"):
        ingest(leaders=2)
    with pytest.raises(UsageError, match="is not the address of a wallet"):
        ingest(wallets=["0x1"])
    assert followed() == []


def test_leaders_of_the_last_leaderboard_are_followed(fetched: Workdir) -> None:
    result = fetched.materialise("ingest_leaderboard", TODAY)
    assert result.success
    assert all(evaluations(result).values())
    assert ingest(leaders=2, period="all", ranked_by="volume").success
    rows = leaders_known_at(fetched.lake, FOREVER, "all", "volume")
    assert rows is not None
    assert set(followed()) == set(rows["wallet"].to_pylist()[:2])
    assert len(fetched.lake.read(LEADERBOARD, TODAY).group_by(["period", "ranked_by"]).aggregate([])) == 8


def test_a_leaderboard_of_another_day_cannot_be_read(fetched: Workdir) -> None:
    assert not fetched.materialise("ingest_leaderboard", "2026-06-29").success
    assert fetched.lake.partitions(LEADERBOARD) == []


def test_holders_of_markets_are_read_and_other_venues_say_nothing(fetched: Workdir) -> None:
    keys = sorted(Catalog(fetched.lake).markets())
    result = fetched.materialise("ingest_holders", *keys)
    assert result.success
    assert evaluations(result)["holders_are_ranked"]
    for key, market in Catalog(fetched.lake).markets().items():
        found = holders_known_at(fetched.lake, market.key, FOREVER)
        (coverage,) = read_coverage(fetched.lake, HOLDERS, key)
        if key.startswith("kalshi"):
            assert found is None
            assert coverage.status is CoverageStatus.UNSUPPORTED
        else:
            assert found is not None
            assert found.num_rows > 3


def test_a_source_that_fails_leaves_what_was_read_and_a_rerun_mends_it(fetched: Workdir, faulty: Any) -> None:
    (wallet,) = busiest(1)
    assert ingest(wallets=[wallet]).success
    kept = fetched.rows(ACTIVITY)
    with faulty("server_error@/v2/activity#1x100000"), pytest.raises(PipelineError, match="failed 6 times"):
        ingest(wallets=[wallet])
    assert fetched.rows(ACTIVITY) == kept
    assert read_coverage(fetched.lake, ACTIVITY, wallet)[0].status is CoverageStatus.FAILED
    assert ingest(wallets=[wallet]).success
    assert read_coverage(fetched.lake, ACTIVITY, wallet)[0].complete


def test_a_key_in_capitals_is_refused(fetched: Workdir) -> None:
    shouted = "0x" + "AB" * 20
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("wallets", [shouted])
    assert not fetched.materialise("read_wallets", shouted).success
    assert fetched.lake.partitions(ACTIVITY) == []


@pytest.mark.parametrize(
    ("asset", "check", "table", "change", "detail"),
    [
        ("wallet_activity", "activity_is_possible", ACTIVITY, {"size": -1}, "rows"),
        ("wallet_activity", "activity_is_possible", ACTIVITY, {"side": None}, "rows"),
        ("wallet_positions", "positions_are_possible", POSITIONS, {"avg_price": MICRO + 1}, "rows"),
        ("wallet_positions", "positions_are_possible", POSITIONS, {"token_id": "7"}, "twice at"),
        ("wallet_positions", "positions_agree_with_activity", POSITIONS, {"size": 0}, "by activity"),
        ("holders", "holders_are_ranked", HOLDERS, {"rank": 1}, "rows"),
        ("leaderboard", "leaders_are_ranked", LEADERBOARD, {"rank": 2}, "rows"),
        ("leaderboard", "leaders_are_ranked", LEADERBOARD, {"pnl": None}, "by pnl"),
    ],
)
def test_a_check_finds_what_breaks_it(
    fetched: Workdir, asset: str, check: str, table: str, change: dict[str, Any], detail: str
) -> None:
    import pyarrow as pa

    from pm_pipeline_tests.defs.test_onchain import outcome

    (rule,) = (rule for rule in CHECKS[asset] if rule.name == check)
    lake = fetched.lake
    if asset.startswith("wallet"):
        key = MAKERS[0]
        assert ingest(wallets=[key]).success
    elif asset == "holders":
        key = next(key for key in Catalog(lake).markets() if key.startswith("poly"))
        assert fetched.materialise("ingest_holders", key).success
    else:
        key = TODAY
        assert fetched.materialise("ingest_leaderboard", key).success
    told = [outcome(9, key)]
    assert rule.find(lake, told) == []
    rows, info = lake.read(table, key), lake.info(table, key)
    assert info is not None
    for name, value in change.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(
            at, rows.schema.field(at), pa.array([value] * rows.num_rows, rows.schema.field(at).type)
        )
    lake.write(table, key, rows, meta=dict(info.meta))
    ((found, said), *_) = rule.find(lake, told)
    assert (found, detail in said) == (key, True)


def test_a_reading_that_breaks_a_rule_is_taken_out_alone(fetched: Workdir) -> None:
    from dataclasses import replace

    from pm_pipeline_tests.defs.test_onchain import outcome

    wallet = MAKERS[0]
    assert ingest(wallets=[wallet]).success
    told = outcome(9, wallet)
    told = replace(told, coverage=replace(told.coverage, table=POSITIONS, partition=(wallet,)))
    assert withdraw_reading(fetched.lake, told, "why").error is not None
    assert fetched.lake.read(POSITIONS, wallet).num_rows == 0
    assert readings_of(fetched.lake, POSITIONS, wallet) == []
    assert ingest(wallets=[wallet]).success
    assert fetched.lake.read(POSITIONS, wallet).num_rows > 0


def test_schedules_are_off_until_somebody_turns_them_on() -> None:
    for name in ("daily_wallets", "daily_leaderboard"):
        schedule = definitions.defs.get_schedule_def(name)
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


def test_signals_may_look_at_fills_in_the_lineage() -> None:
    graph = definitions.defs.resolve_asset_graph()
    assert dg.AssetKey("onchain_fills") in graph.get(dg.AssetKey(["favourite", "signals"])).parent_keys


# bt wallet


def test_bt_wallet_reads_a_wallet_and_shows_it(fetched: Workdir) -> None:
    (wallet,) = busiest(1)
    found = fetched.json("wallet", wallet)
    assert found["wallet"] == wallet
    acts, held = fetched.lake.read(ACTIVITY, wallet), fetched.lake.read(POSITIONS, wallet)
    assert found["trades"] == acts["kind"].to_pylist().count("trade")
    assert found["open_positions"] + found["closed_positions"] == len(found["positions"]) == held.num_rows
    assert Decimal(found["realised_pnl"]) == sum(held["realised_pnl"].to_pylist()) / Decimal(MICRO)
    assert (found["stale"], found["read_at"]) == ([], "2026-06-30T00:00:00Z")
    assert found["first_at"] < found["last_at"]
    assert {row["market"] for row in found["positions"]} <= set(Catalog(fetched.lake).markets())
    shown = fetched.bt("wallet", wallet)
    assert shown.exit_code == 0
    for text in ("realised PnL", "first, last", "stale", "nothing", "SANDBOX SMALL_WORLD"):
        assert text in shown.output


@pytest.mark.parametrize("text", ["0x12", "satoshi", "0x" + "g" * 40])
def test_bt_wallet_explains_a_bad_address(empty: Workdir, text: str) -> None:
    found = empty.bt("wallet", text)
    assert found.exit_code == 2
    assert "is not the address of a wallet" in found.stderr
    assert "Traceback" not in found.output


def test_bt_wallet_shows_what_is_stored_as_stale_when_the_source_fails(fetched: Workdir, faulty: Any) -> None:
    (wallet,) = busiest(1)
    with faulty("server_error@/v2/*#1x100000"):
        nothing = fetched.bt("wallet", wallet)
    assert nothing.exit_code == 1
    assert "realised" not in nothing.stdout
    assert fetched.bt("wallet", wallet).exit_code == 0
    with faulty("server_error@/v2/positions#1x100000"):
        stale = fetched.bt("wallet", wallet, "--json")
    assert stale.exit_code == 1
    (reason,) = json.loads(stale.stdout)["stale"]
    assert reason.startswith("market_data.wallet_positions: not read at 2026-06-30T00:00:00Z")


def test_the_checks_are_those_of_the_page() -> None:
    told = [
        (row["check"], row["asset"], row["blocking"] == "yes")
        for row in doc_table("polymarket.md", "Checks of wallets")
    ]
    declared = [(check.name, asset, check.blocking) for asset, checks in CHECKS.items() for check in checks]
    assert [each for each in told if each[0] != "coverage"] == [
        each for each in declared if each[0] != "coverage"
    ]
    assert ("coverage", "all", False) in told
