"""The asset of on-chain fills over the small world, and its checks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pm_pipeline import definitions
from pm_pipeline.config import Settings
from pm_pipeline.defs.market_data.onchain import CHECKS, volumes
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.ingest import Outcome
from pm_pipeline.sources.polymarket.onchain.fills import FILLS, to_rows
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, read_coverage
from pm_pipeline.warehouse.duck import connect
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.sources.polymarket.chain_material import Order, events_of, match_logs
from pm_pipeline_tests.sources.polymarket.material import MARKET
from pm_pipeline_tests.workdir import Workdir

MATCH = match_logs([Order("a", False, 0, 10**8, 30 * MICRO)], Order("t", True, 0, 10**8, 30 * MICRO))
KEY = str(MARKET.key)


def outcome(rows: int = 2, key: str = KEY) -> Outcome:
    coverage = Coverage(
        table=FILLS,
        partition=(key,),
        source="test",
        status=CoverageStatus.COMPLETE,
        asked_from=None,
        asked_to=None,
        got_from=None,
        got_to=None,
        rows=rows,
        gaps=0,
        reason="",
        ingested_at=0,
    )
    return Outcome(key, coverage)


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def test_all_markets_are_read_in_one_run_and_every_check_passes(fetched: Workdir) -> None:
    keys = sorted(fetched_keys(fetched))
    result = fetched.materialise("ingest_onchain", *keys)
    assert result.success
    assert all(found.passed for name, found in evaluations(result).items() if name != "coverage")
    traded = Catalog(fetched.lake).markets()
    found = volumes(fetched.lake, keys)
    for key, market in traded.items():
        (coverage,) = read_coverage(fetched.lake, FILLS, key)
        if key.startswith("kalshi"):
            assert coverage.status is CoverageStatus.UNSUPPORTED
        else:
            assert coverage.complete
            assert abs(found[key] * MICRO / (market.volume or 1) - 1) < 0.01
    assert len([key for key in traded if key.startswith("polymarket")]) == len(found) == 3


def fetched_keys(workdir: Workdir) -> list[str]:
    return list(Catalog(workdir.lake).markets())


def test_a_source_that_fails_fails_the_run_and_leaves_the_rows(fetched: Workdir, faulty: Any) -> None:
    keys = sorted(fetched_keys(fetched))
    assert fetched.materialise("ingest_onchain", *keys).success
    kept = fetched.rows(FILLS)
    with faulty("server_error@/#3x100000"):
        result = fetched.materialise("ingest_onchain", *keys)
    assert not result.success
    assert fetched.rows(FILLS) == kept


def test_a_frozen_source_fails_markets_that_it_never_saw(
    fetched: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PM_ONCHAIN", "goldsky")
    keys = [key for key in sorted(fetched_keys(fetched)) if key.startswith("polymarket")]
    result = fetched.materialise("ingest_onchain", *keys)
    assert not result.success
    assert not fetched.rows(FILLS)
    (coverage,) = read_coverage(fetched.lake, FILLS, keys[0])
    assert coverage.status is CoverageStatus.FROZEN


@pytest.mark.parametrize(
    ("check", "change", "detail"),
    [
        ("fills_are_possible", {"price": 1_000_001}, "2 rows"),
        ("fills_are_possible", {"cash": -1}, "2 rows"),
        ("fills_are_possible", {"known_at": "ts"}, "2 rows"),
        ("fills_balance", {"balance": "broken"}, "1 transactions do not balance"),
    ],
)
def test_a_check_finds_what_breaks_it(
    tmp_path: Path, check: str, change: dict[str, Any], detail: str
) -> None:
    lake = Lake(tmp_path, durability="rename")
    (rule,) = (rule for rule in CHECKS if rule.name == check)
    rows = to_rows(events_of(MATCH), MARKET.key, "test", 0)
    lake.write(FILLS, KEY, rows)
    assert rule.find(lake, [outcome()]) == []
    for name, value in change.items():
        place = rows.schema.get_field_index(name)
        values = (
            rows.column(value) if name == "known_at" else pa.array([value] * 2, rows.schema.field(name).type)
        )
        rows = rows.set_column(place, rows.schema.field(name), values)
    lake.write(FILLS, KEY, rows)
    ((key, said),) = rule.find(lake, [outcome()])
    assert (key, detail in said) == (KEY, True)


@pytest.mark.parametrize(("share", "found"), [(1, []), (0.96, []), (0.5, ["200.0%"]), (2, ["50.0%"])])
def test_the_volume_check_states_the_share_of_the_venues(
    fetched: Workdir, share: float, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    market = replace(MARKET, volume=round(share * 30 * MICRO))
    monkeypatch.setattr(Catalog, "markets", lambda self: {KEY: market})
    fetched.lake.write(FILLS, KEY, to_rows(events_of(MATCH), MARKET.key, "test", 0))
    (rule,) = (rule for rule in CHECKS if rule.name == "onchain_volume")
    assert [said.split()[0] for _, said in rule.find(fetched.lake, [outcome()])] == found


def test_hashes_are_bytes_in_the_lake_and_in_sql(tmp_path: Path) -> None:
    lake = Lake(tmp_path, durability="rename")
    rows = to_rows(events_of(MATCH), MARKET.key, "test", 0)
    info = lake.write(FILLS, KEY, rows)
    assert lake.read(FILLS, KEY).equals(rows)
    with connect(lake, [FILLS]) as connection:
        shown = "'0x' || lower(hex(wallet)), octet_length(tx), price::VARCHAR"
        query = f"SELECT {shown} FROM market_data.wallet_fills"
        found = connection.execute(query).fetchall()
    assert found[0] == ("0x" + rows["wallet"][0].as_py().hex(), 32, "0.300000")
    swapped = rows.set_column(
        rows.schema.get_field_index("wallet"), rows.schema.field("wallet"), rows["wallet"].take([1, 0])
    )
    assert lake.write(FILLS, KEY, swapped).fingerprint != info.fingerprint
    sliced = [batch for piece in (rows.slice(0, 1), rows.slice(1)) for batch in piece.to_batches()]
    assert lake.write(FILLS, KEY, iter(sliced)).fingerprint == info.fingerprint
    empty = lake.write(FILLS, KEY, table(FILLS).arrow.empty_table())
    assert empty.rows == 0


def test_the_address_of_the_node_is_a_secret_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PM_POLYGON_RPC", "https://node.example/key-of-mine")
    settings = Settings.from_environment()
    assert "key-of-mine" not in repr(settings)
    assert settings.polygon_rpc is not None
    assert settings.polygon_rpc.get_secret_value().endswith("key-of-mine")


def test_the_asset_has_its_checks() -> None:
    graph = definitions.defs.resolve_asset_graph()
    found = graph.get_check_keys_for_assets({dg.AssetKey("onchain_fills")})
    assert {key.name for key in found} == {
        "fills_are_possible",
        "fills_balance",
        "onchain_volume",
        "coverage",
    }
