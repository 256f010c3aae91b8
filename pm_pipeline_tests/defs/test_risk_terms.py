"""Sizing and risk as a run is told of them, and the rows that a portfolio run leaves."""

from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from pm_pipeline.defs.config import TERMS, BacktestConfig, RiskTerms, SizingTerms, Terms
from pm_pipeline.engine import RiskLimits, RunConfig, Sizing, SizingMode
from pm_pipeline.engine.risk import Returns
from pm_pipeline.errors import UsageError
from pm_pipeline.markets import MICRO
from pm_pipeline.markets.clock import HOUR, MINUTE
from pm_pipeline.warehouse.duck import open_warehouse
from pm_pipeline_tests.engine.builders import DOCS
from pm_pipeline_tests.workdir import Workdir


def test_nothing_said_is_the_engines_own_default() -> None:
    run = Terms().to_engine(uses_schedule=True)
    assert (run.sizing, run.risk) == (Sizing(), RiskLimits())
    assert run == RunConfig(seed=run.seed)
    assert TERMS == ("execution", "bankroll", "sizing", "risk")


def test_every_limit_of_the_engine_can_be_set() -> None:
    units = ("_percent", "_s")
    said = {next((k.removesuffix(u) for u in units if k.endswith(u)), k) for k in RiskTerms.model_fields}
    assert said == {field.name for field in fields(RiskLimits)}
    assert len(SizingTerms.model_fields) == len(fields(Sizing))


def test_percent_and_seconds_become_the_engines_units_exactly() -> None:
    risk = RiskTerms(
        drawdown_percent=15.1, gross_cap_percent=50, max_data_age_s=60, cooldown_s=3600, returns="simple"
    ).to_engine()
    assert (risk.drawdown, risk.gross_cap) == (Decimal("0.151"), Decimal("0.5"))
    assert (risk.max_data_age, risk.cooldown, risk.returns) == (MINUTE, HOUR, Returns.SIMPLE)
    sizing = SizingTerms(mode="kelly", kelly_percent=12.5, edge_spread=0.05).to_engine()
    assert (sizing.mode, sizing.kelly_share, sizing.edge_spread) == (
        SizingMode.KELLY,
        Decimal("0.125"),
        Decimal("0.05"),
    )


@pytest.mark.parametrize(
    ("section", "wrong", "message"),
    [
        ("sizing", {"mode": "kely"}, "no way of sizing 'kely'; did you mean 'kelly'"),
        ("sizing", {"kelly_percent": 0}, "kelly_share is 0"),
        ("risk", {"returns": "log"}, "no kind of returns 'log'"),
        ("risk", {"drawdown_percent": 150}, "drawdown is 1.5"),
        ("risk", {"day_zone": "Mars"}, "no time zone 'Mars'"),
    ],
)
def test_a_value_out_of_range_is_refused(section: str, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Terms.model_validate({section: wrong}).to_engine(uses_schedule=True)


def test_a_limit_that_does_not_exist_is_refused() -> None:
    message = r"risk\.drawdown: there is no such key; did you mean 'drawdown_percent'"
    with pytest.raises(UsageError, match=message):
        BacktestConfig.parse({"risk": {"drawdown": 15}}, "here")


def test_the_documented_settings_are_valid() -> None:
    text = (DOCS / "risk.md").read_text("utf-8").split("```yaml\n", 1)[1].split("```", 1)[0]
    config = BacktestConfig.model_validate(yaml.safe_load(text))
    assert config.sizing.to_engine().mode is SizingMode.KELLY
    assert config.risk.to_engine().watches_equity


def test_a_portfolio_run_keeps_what_its_risk_manager_refused(backtested: Workdir, tmp_path: Path) -> None:
    table = "backtest.risk_events"
    assert backtested.rows(table) == []  # the default limits nothing that happens here
    before = set(backtested.lake.partitions(table))
    config = tmp_path / "backtest.yaml"
    config.write_text("risk: {gross_cap_percent: 0.5}\nexecution: {liquidity: constant}")
    found = backtested.bt("backtest", "-c", str(config), "-s", "favourite")
    assert found.exit_code == 0, found.output
    [partition] = set(backtested.lake.partitions(table)) - before
    rows = backtested.lake.read(table, partition).to_pylist()
    assert {(row["kind"], row["reason"]) for row in rows} == {("trimmed", "gross_cap")}
    assert {row["scenario"] for row in rows} == {"pessimistic", "base", "optimistic"}
    trips = backtested.lake.read("backtest.portfolio_trips", partition).to_pylist()
    assert trips
    assert all(trip["cost"] + trip["fees"] <= 50 * MICRO for trip in trips)
    with open_warehouse(backtested.settings.warehouse_path) as connection:
        [(count, least, most)] = connection.execute(
            f"SELECT count(*), min(limit_value), max(limit_value) FROM {table}"
        ).fetchall()
    assert count == len(rows)
    assert Decimal(45) < least <= most < Decimal(55)  # half a per cent of equity, in dollars
