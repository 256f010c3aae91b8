"""One bankroll over all markets of a strategy, the strategies side by side, and what people read."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.defs.backtest.assets import decisions, joined, key_of, market_input, resolution
from pm_pipeline.defs.backtest.versions import MARKET_DATA, code_version, digest
from pm_pipeline.defs.config import Markets, PortfolioConfig
from pm_pipeline.defs.launch import run_id_of
from pm_pipeline.defs.resources import Warehouse, Workspace
from pm_pipeline.engine.scenarios import Scenario
from pm_pipeline.engine.simulation.results import SimResult
from pm_pipeline.engine.simulation.simulate import simulate_scenarios
from pm_pipeline.engine.simulation.state import MarketInput
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.reports.results import RUNS, find_run, load_run, report_folder
from pm_pipeline.reports.sparkline import sparkline
from pm_pipeline.reports.table import markdown_table
from pm_pipeline.reports.write import write_report
from pm_pipeline.research.metrics import headline
from pm_pipeline.strategies.base import BaseStrategy
from pm_pipeline.strategies.registry import REGISTRY
from pm_pipeline.universe import choose
from pm_pipeline.warehouse.coverage import read_coverage
from pm_pipeline.warehouse.duck import publish
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.schema import table

PORTFOLIO_TABLES: Final = {
    "backtest.portfolio_fills": "fills",
    "backtest.portfolio_trips": "trips",
    "backtest.portfolio_equity": "equity",
    "backtest.risk_events": "risk_events",
}
"""Tables that the portfolio asset writes as they come from the simulation."""

CURVE: Final = 120
"""Points of the equity curve in the metadata of a materialisation."""


def portfolio(cls: type[BaseStrategy[Any]]) -> dg.AssetsDefinition:
    """The portfolio asset of one strategy."""
    name = cls.name

    @dg.asset(
        key=key_of(name, "portfolio"),
        description=f"`{name}` on all markets of the universe with one bankroll, events in order of time, "
        "under three scenarios. The band from pessimistic to optimistic is the result, not the base alone.",
        group_name=name,
        kinds={"parquet"},
        deps=[key_of(name, "metrics"), "resolutions"],
    )
    def asset(
        context: dg.AssetExecutionContext, workspace: Workspace, config: PortfolioConfig
    ) -> dg.MaterializeResult:
        lake, rules, run_id = workspace.lake, workspace.rules, run_id_of(context)
        markets = choose(config.chosen(workspace.settings), workspace.catalog.markets().values())
        run = config.to_engine(uses_schedule=cls.uses_schedule)
        missing = [
            market for market in markets if not lake.exists("backtest.signals", (name, str(market.key)))
        ]
        if len(missing) == len(markets):
            raise UsageError(f"no market has signals of {name!r} yet; materialise {name}/signals first")
        window = _window(lake, markets)
        inputs = _inputs(lake, cls, markets, skip={m.key for m in missing})
        results = list(
            simulate_scenarios(inputs, run, strategy=name, run_id=run_id, rules=rules, window=window).values()
        )
        for table_name, part in PORTFOLIO_TABLES.items():
            lake.write(table_name, (run_id, name), joined(results, part))
        refused = pa.concat_tables([joined(results, "rejections"), _untested(lake, missing, name, run_id)])
        lake.write("backtest.portfolio_rejections", (run_id, name), refused)
        figures = _figures(results, run.bankroll, run.seed, name, run_id)
        lake.write("backtest.portfolio_metrics", (run_id, name), figures)
        return dg.MaterializeResult(metadata=_metadata(results, len(markets), len(missing), run_id))

    return asset


def build_reporting(strategies: Iterable[str]) -> list[dg.AssetsDefinition]:
    """Comparison, report and warehouse over the portfolios of these strategies."""
    portfolios = [key_of(name, "portfolio") for name in strategies]

    @dg.asset(group_name="reporting", kinds={"parquet"}, deps=portfolios)
    def comparison(
        context: dg.AssetExecutionContext, workspace: Workspace, config: PortfolioConfig
    ) -> dg.MaterializeResult:
        """The strategies of this run side by side, and the run itself as a row of `backtest.runs`."""
        lake, run_id = workspace.lake, run_id_of(context)
        names = [name for _, name in lake.partitions("backtest.portfolio_metrics", run_id)]
        if not names:
            raise UsageError(
                "this run has no portfolio; materialise the portfolios together with the comparison"
            )
        markets = choose(config.chosen(workspace.settings), workspace.catalog.markets().values())
        lake.write(RUNS, run_id, _run_row(context, workspace, config, markets))
        return dg.MaterializeResult(
            metadata={"comparison": dg.MetadataValue.md(markdown_table(load_run(lake, run_id)))}
        )

    @dg.asset(group_name="reporting", kinds={"html"}, deps=[comparison])
    def report(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
        """One page that works offline, the equity curve as PNG, and all trades as CSV and JSON."""
        lake, settings = workspace.lake, workspace.settings
        run_id = run_id_of(context)
        run = load_run(lake, run_id if lake.exists(RUNS, run_id) else find_run(lake), _titles())
        paths = write_report(run, report_folder(settings.reports_dir, run.run_id))
        return dg.MaterializeResult(
            metadata={
                "page": dg.MetadataValue.path(paths.page),
                "image": dg.MetadataValue.path(paths.image),
                "trades_csv": dg.MetadataValue.path(paths.trades_csv),
                "trades_json": dg.MetadataValue.path(paths.trades_json),
            }
        )

    @dg.asset(
        group_name="reporting",
        kinds={"duckdb"},
        deps=[comparison, "catalog", "rules"],
        check_specs=[
            dg.AssetCheckSpec(
                "runs_are_published", asset="warehouse", description="Every run of the lake is in the file."
            )
        ],
    )
    def warehouse(workspace: Workspace, duckdb: Warehouse) -> dg.MaterializeResult:
        """`warehouse.duckdb` for people: every table under its own name, rebuilt from the lake.

        Written beside and renamed over, behind a lock: readers never see half of it.
        """
        counts = publish(workspace.lake, workspace.settings.warehouse_path)
        with duckdb.get_connection() as connection:
            [(runs,)] = connection.execute(f"SELECT count(*) FROM {RUNS}").fetchall()
        expected = len(workspace.lake.partitions(RUNS))
        return dg.MaterializeResult(
            metadata={"path": dg.MetadataValue.path(workspace.settings.warehouse_path), **counts},
            check_results=[
                dg.AssetCheckResult(
                    check_name="runs_are_published",
                    passed=runs == expected,
                    metadata={"published": runs, "in_the_lake": expected},
                )
            ],
        )

    return [comparison, report, warehouse]


def _window(lake: Lake, markets: list[Market]) -> tuple[Nanos, Nanos] | None:
    """From the first opening to the last payment of the markets: the same for every strategy of a run."""
    starts = [market.opened_at for market in markets if market.opened_at is not None]
    ended = (resolution(lake, market) for market in markets)
    ends = [end.resolved_at or end.closed_at or 0 for end in ended if end]
    return (min(starts), max(*starts, *ends)) if starts else None


def _inputs(
    lake: Lake, cls: type[BaseStrategy[Any]], markets: list[Market], skip: set[Any]
) -> Iterator[MarketInput]:
    for market in markets:
        if market.key not in skip:
            yield market_input(lake, market, decisions(lake, cls, market))


def _untested(lake: Lake, missing: list[Market], name: str, run_id: str) -> pa.Table:
    """A row for each market that could not be tested, with the reason that its data gives."""
    rows = [
        {
            "strategy": name,
            "scenario": str(scenario),
            "market_key": str(market.key),
            "outcome_index": None,
            "ts": datetime.fromtimestamp(0, UTC),
            "reason": "no_data",
            "detail": _why(lake, market),
            "run_id": run_id,
        }
        for market in missing
        for scenario in Scenario
    ]
    return pa.Table.from_pylist(rows, schema=table("backtest.portfolio_rejections").arrow)


def _why(lake: Lake, market: Market) -> str:
    for name in ("market_data.prices", "catalog.resolutions"):
        reasons = [
            coverage.reason for coverage in read_coverage(lake, name, str(market.key)) if coverage.reason
        ]
        if reasons:
            return "; ".join(reasons)
    return "it was not read; run `bt fetch`, or materialise its prices"


def _figures(results: list[SimResult], bankroll: Micro, seed: int, name: str, run_id: str) -> pa.Table:
    rows = [
        {
            "run_id": run_id,
            "strategy": name,
            "scenario": str(scenario),
            "metric": metric,
            "value": figure.value if figure.defined else None,
            "note": figure.note,
        }
        for scenario, result in zip(Scenario, results, strict=True)
        for metric, figure in headline(result.trips, result.equity, initial=bankroll, seed=seed).items()
    ]
    return pa.Table.from_pylist(rows, schema=table("backtest.portfolio_metrics").arrow)


def _metadata(results: list[SimResult], markets: int, missing: int, run_id: str) -> dict[str, Any]:
    base = results[list(Scenario).index(Scenario.BASE)]
    equity = [value / MICRO for value in base.equity["equity"].to_pylist()]
    step = max(1, len(equity) // CURVE)
    return {
        "dagster/row_count": base.fills.num_rows,
        "equity": dg.MetadataValue.md(sparkline(equity[::step])),
        "profit_usd": (pc.sum(base.trips["pnl"]).as_py() or 0) / MICRO,
        "markets": markets,
        "markets_without_data": missing,
        "stamps": ", ".join(sorted({result.stamp for result in results} - {""})) or "none",
        "run": run_id,
    }


def _run_row(
    context: dg.AssetExecutionContext, workspace: Workspace, config: Markets, markets: list[Market]
) -> pa.Table:
    lake = workspace.lake
    inputs = [
        info.fingerprint
        for market in markets
        for name in (*MARKET_DATA, "catalog.resolutions")
        if (info := lake.info(name, str(market.key)))
    ]
    started = context.instance.get_run_record_by_id(
        run_id_of(context)
    ) or context.instance.get_run_record_by_id(context.run_id)
    assert started is not None
    row = {
        "run_id": run_id_of(context),
        "started_at": started.create_timestamp,
        "finished_at": datetime.now(UTC),
        "status": "success",
        "world": workspace.settings.label,
        "config": json.dumps(config.model_dump(mode="json"), sort_keys=True),
        "seed": config.model_dump().get("bankroll", {}).get("seed", 0),
        "code_version": code_version(),
        "data_fingerprint": digest(inputs),
    }
    return pa.Table.from_pylist([row], schema=table(RUNS).arrow)


def _titles() -> dict[str, str]:
    return {name: REGISTRY.get(name).title for name in REGISTRY.names()}
