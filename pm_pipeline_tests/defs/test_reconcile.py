"""The asset that compares sources, over the small world."""

from typing import Any

import dagster as dg

from pm_pipeline import definitions
from pm_pipeline.defs.market_data.reconcile import in_words, members_of, result_of, table_of
from pm_pipeline.markets.market import GroupKind, MarketGroup
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.reconcile import RECONCILIATION, RULES, TRADES, Finding, Verdict
from pm_pipeline_tests.warehouse.builders import market
from pm_pipeline_tests.workdir import Workdir


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def test_the_small_world_reconciles_and_a_lie_fails_its_check(fetched: Workdir) -> None:
    keys = sorted(Catalog(fetched.lake).markets())
    assert fetched.materialise("ingest_onchain", *keys).success
    result = fetched.materialise("reconcile", *keys)
    assert result.success
    found = checks_of(result)
    assert set(found) == {rule.name for rule in RULES}
    assert [name for name, check in found.items() if not check.passed] == []
    rows = fetched.rows(RECONCILIATION)
    assert {row["market_key"] for row in rows} == set(keys)
    assert {row["verdict"] for row in rows} == {"agrees", "untold"}

    liar = next(key for key in keys if key.startswith("polymarket") and has_trades(fetched, key))
    trades = fetched.lake.read(TRADES, liar)
    flip: Any = {"buy": "sell", "sell": "buy"}
    sides = [flip[side] for side in trades["side"].to_pylist()]
    place = trades.schema.get_field_index("side")
    fetched.lake.write(TRADES, liar, trades.set_column(place, trades.schema.field("side"), [sides]))
    again = checks_of(fetched.materialise("reconcile", *keys))
    failed = {name: check for name, check in again.items() if not check.passed}
    assert set(failed) == {"trades_against_chain"}
    assert failed["trades_against_chain"].severity is dg.AssetCheckSeverity.ERROR
    shown = str(failed["trades_against_chain"].metadata["first"].value)
    assert f"`{liar}`: trades side 0 / fills side 1, allowed 0.01" in shown


def has_trades(workdir: Workdir, key: str) -> bool:
    return bool(workdir.lake.read(TRADES, key).num_rows > 5)


def test_nothing_of_it_reaches_a_strategy() -> None:
    graph = definitions.defs.resolve_asset_graph()
    assert graph.get(dg.AssetKey("reconciliation")).child_keys == set()


def test_only_an_exhaustive_exclusive_group_is_summed_up() -> None:
    one, other = market("polymarket:1", group_key="g"), market("polymarket:2", group_key="g")
    keys = (one.key, other.key)
    for exclusive, exhaustive, members in (
        (True, True, ("polymarket:1", "polymarket:2")),
        (True, False, ()),
        (False, True, ()),
    ):
        groups = {"g": MarketGroup("g", keys, exclusive, exhaustive, GroupKind.NEG_RISK)}
        assert members_of(one, groups) == members
    assert members_of(market("polymarket:3"), {}) == ()


def test_a_conflict_is_told_with_both_values() -> None:
    finding = Finding(
        rule="volume_by_source",
        verdict=Verdict.CONFLICTS,
        left_source="venue",
        right_source="trades",
        left_value=1234567.5,
        right_value=None,
        allowed=5.0,
        detail="dollars",
    )
    line = in_words(market("polymarket:1"), finding)
    assert line == "- `polymarket:1`: venue 1.23457e+06 / trades -, allowed 5: dollars"
    counts = {("volume_by_source", Verdict.CONFLICTS): 1}
    rule = next(rule for rule in RULES if rule.name == "volume_by_source")
    shown = result_of(rule, [line], counts)
    assert (shown.passed, shown.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert shown.metadata["conflicts"].value == 1
    assert "| volume_by_source | 0 | 1 | 0 |" in table_of(counts)
    assert result_of(rule, [], {}).passed
