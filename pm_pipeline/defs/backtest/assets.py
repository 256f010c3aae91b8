"""The chain signals → fills → metrics of every registered strategy, one partition per market."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.defs.backtest.lookahead import LEAKS, NO_LOOKAHEAD, check_lookahead
from pm_pipeline.defs.backtest.versions import (
    INPUTS,
    fills_version,
    signals_version,
    strategy_version,
)
from pm_pipeline.defs.config import Terms, params_config
from pm_pipeline.defs.io_manager import PREFIX, TABLE, with_meta
from pm_pipeline.defs.launch import run_id_of
from pm_pipeline.defs.market_data.assets import find_markets
from pm_pipeline.defs.partitions import MARKETS
from pm_pipeline.defs.progress import counted
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.scenarios import Scenario
from pm_pipeline.engine.signals import Signals, Skip, dump_skips, load_skips
from pm_pipeline.engine.simulation.results import SimResult
from pm_pipeline.engine.simulation.simulate import simulate_scenarios
from pm_pipeline.engine.simulation.state import Decisions, MarketInput
from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution
from pm_pipeline.markets.units import MICRO
from pm_pipeline.reports.sparkline import sparkline
from pm_pipeline.research.metrics import headline
from pm_pipeline.strategies.base import BaseStrategy, LiveStrategy
from pm_pipeline.strategies.registry import REGISTRY
from pm_pipeline.warehouse.asof import MarketData, open_view
from pm_pipeline.warehouse.coverage import read_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import resolution_from_rows
from pm_pipeline.warehouse.schema import table

ONE_RUN = dg.BackfillPolicy.single_run()
SKIPS = "skips"
"""Footer key of a signals partition: what the strategy passed over, and why."""

PRICES = "market_data.prices"
BOOK_EVENTS = "market_data.book_events"

PARAMS = "params"
"""Footer key of a signals partition: the parameters of the strategy, as JSON."""

SIMULATED = {
    "backtest.fills": "fills",
    "backtest.orders": "orders",
    "backtest.rejections": "rejections",
    "backtest.trips": "trips",
}
"""Tables that the fills asset writes, and the part of the simulation's result that goes there."""


def chain(cls: type[BaseStrategy[Any]]) -> list[dg.AssetsDefinition]:
    """The three assets of one strategy."""
    return [_signals(cls), _fills(cls), _metrics(cls)]


def key_of(strategy: str, role: str) -> dg.AssetKey:
    """``favourite/signals``."""
    return dg.AssetKey([strategy, role])


def _signals(cls: type[BaseStrategy[Any]]) -> dg.AssetsDefinition:
    name, Config = cls.name, params_config(cls.name, cls.Params)  # noqa: N806 - it is a class

    @dg.asset(
        key=key_of(name, "signals"),
        description=f"What `{name}` wants, and the latest thing it knew: {cls.title}.\n\n"
        "It sees each market only through the as-of view, and depends on no resolution.",
        group_name=name,
        kinds={"parquet"},
        partitions_def=MARKETS,
        backfill_policy=ONE_RUN,
        deps=["prices", "trades", "book_events", "onchain_fills"],
        metadata={TABLE: "backtest.signals", PREFIX: name},
        io_manager_key="lake",
        check_specs=[
            dg.AssetCheckSpec(
                NO_LOOKAHEAD,
                asset=key_of(name, "signals"),
                description="Signals stay as they are when everything after them is cut off, or made up.",
                blocking=True,
            )
        ],
    )
    def signals(
        context: dg.AssetExecutionContext,
        workspace: Workspace,
        config: Config,  # type: ignore[valid-type]
    ) -> Iterator[dg.AssetCheckResult | dg.Output]:
        strategy = REGISTRY.create(name, config.model_dump())  # type: ignore[attr-defined]
        markets = find_markets(workspace, context.partition_keys)
        lake, run_id = workspace.lake, run_id_of(context)
        yield (check := check_lookahead(lake, strategy, markets))
        if not check.passed:
            leaks = check.metadata[LEAKS].value
            raise PipelineError(f"strategy {name!r} looks ahead; nothing was computed from it:\n{leaks}")
        version = strategy_version(cls, strategy.params.model_dump(mode="json"))

        def rows() -> Iterator[tuple[str, pa.Table]]:
            for market in counted(context.log, f"{name} signals", markets, len(markets)):
                found = _decide(lake, strategy, market)
                notes = {
                    INPUTS: signals_version(lake, market, version),
                    SKIPS: dump_skips(found.skipped),
                    PARAMS: strategy.params.model_dump_json(),
                }
                yield str(market.key), with_meta(found.to_table(name, market.key, run_id), notes)

        yield dg.Output(rows())

    return signals


def _fills(cls: type[BaseStrategy[Any]]) -> dg.AssetsDefinition:
    name = cls.name

    @dg.asset(
        key=key_of(name, "fills"),
        description=f"What the signals of `{name}` would have bought and sold, market by market, under the "
        "pessimistic, the base and the optimistic scenario; with the orders, round trips and refusals.",
        group_name=name,
        kinds={"parquet"},
        partitions_def=MARKETS,
        backfill_policy=ONE_RUN,
        deps=[key_of(name, "signals"), "resolutions"],
    )
    def fills(context: dg.AssetExecutionContext, workspace: Workspace, config: Terms) -> dg.MaterializeResult:
        lake, rules, run_id = workspace.lake, workspace.rules, run_id_of(context)
        run = config.to_engine(uses_schedule=cls.uses_schedule)
        counts = dict.fromkeys(SIMULATED, 0)
        markets = find_markets(workspace, context.partition_keys)
        for market in counted(context.log, f"{name} fills", markets, len(markets)):
            given = market_input(lake, market, decisions(lake, cls, market))
            results = list(
                simulate_scenarios([given], run, strategy=name, run_id=run_id, rules=rules).values()
            )
            meta = {INPUTS: fills_version(lake, market, name, config.model_dump())}
            for table_name, part in SIMULATED.items():
                rows = joined(results, part)
                counts[table_name] += rows.num_rows
                lake.write(table_name, (name, str(market.key)), rows, meta=meta)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": counts["backtest.fills"],
                **{part: counts[t] for t, part in SIMULATED.items()},
            }
        )

    return fills


def _metrics(cls: type[BaseStrategy[Any]]) -> dg.AssetsDefinition:
    name = cls.name

    @dg.asset(
        key=key_of(name, "metrics"),
        description=f"Headline figures of `{name}` on each market alone, by scenario; an undefined figure is "
        "null and says why.",
        group_name=name,
        kinds={"parquet"},
        partitions_def=MARKETS,
        backfill_policy=ONE_RUN,
        deps=[key_of(name, "fills")],
        io_manager_key="lake",
        metadata={TABLE: "backtest.metrics", PREFIX: name},
    )
    def metrics(
        context: dg.AssetExecutionContext, workspace: Workspace, config: Terms
    ) -> Iterator[dg.Output]:
        lake, run_id = workspace.lake, run_id_of(context)
        keys = sorted(context.partition_keys)

        def rows() -> Iterator[tuple[str, pa.Table]]:
            for key in counted(context.log, f"{name} metrics", keys, len(keys)):
                trips = lake.read("backtest.trips", (name, key))
                info = lake.info("backtest.fills", (name, key))
                yield (
                    key,
                    with_meta(
                        metric_rows(trips, config, strategy=name, run_id=run_id, market_key=key),
                        dict(info.meta) if info else {},
                    ),
                )

        yield dg.Output(rows(), metadata=_single_market(lake, name, keys))

    return metrics


def _decide(lake: Lake, strategy: BaseStrategy[Any], market: Market) -> Signals:
    """What a strategy wants on a market; on one without data nothing, with the reason."""
    if _has_data(lake, market):
        return strategy.signals(open_view(lake, market))
    return Signals.of((), [Skip(0, Reason.NO_DATA, why_no_data(lake, market))])


def _has_data(lake: Lake, market: Market) -> bool:
    """Whether there are quotes to look at: prices, or a recorded book where nobody failed to read prices.

    Trades alone say what was paid, not what could be had.
    """
    key = str(market.key)
    if lake.exists(PRICES, key):
        return True
    return lake.exists(BOOK_EVENTS, key) and not _refusals(lake, key)


def _refusals(lake: Lake, key: str) -> list[str]:
    return [row.reason for row in read_coverage(lake, PRICES, key) if row.reason]


def why_no_data(lake: Lake, market: Market) -> str:
    """What the last attempt to read a market's prices said."""
    return (
        "; ".join(_refusals(lake, str(market.key)))
        or "its prices were never read; run `bt fetch`, or materialise them"
    )


def read_signals(lake: Lake, name: str, market: Market) -> Signals:
    """The stored signals of a strategy on a market, with what it passed over."""
    key = (name, str(market.key))
    info = lake.info("backtest.signals", key)
    skips = load_skips(info.meta[SKIPS]) if info and SKIPS in info.meta else ()
    return Signals.from_table(lake.read("backtest.signals", key), skips)


def decisions(lake: Lake, cls: type[BaseStrategy[Any]], market: Market) -> Decisions:
    """What decides on a market in a simulation: the stored signals of a strategy, or, where it goes along
    with the market, the strategy itself with the parameters that its signals were made with.
    """
    stored = read_signals(lake, cls.name, market)
    info = lake.info("backtest.signals", (cls.name, str(market.key)))
    if not issubclass(cls, LiveStrategy) or info is None or not _has_data(lake, market):
        return stored
    return cls(cls.Params.model_validate_json(info.meta[PARAMS])).decider


def market_input(lake: Lake, market: Market, decides: Decisions) -> MarketInput:
    """One market for the engine; its data is read when the engine first needs it."""
    return MarketInput(market, resolution(lake, market), lambda: MarketData.load(lake, market), decides)


def resolution(lake: Lake, market: Market) -> Resolution | None:
    """How the market ended, as far as the lake knows."""
    key = str(market.key)
    if not lake.exists("catalog.resolutions", key):
        return None
    return resolution_from_rows(lake.read("catalog.resolutions", key))


def joined(results: list[SimResult], part: str) -> pa.Table:
    """One table of the scenarios' results."""
    return pa.concat_tables([getattr(result, part) for result in results])


def metric_rows(trips: pa.Table, config: Terms, **columns: str) -> pa.Table:
    """Headline figures of one market, a row each, for every scenario."""
    rows = []
    for scenario in Scenario:
        chosen = trips.filter(pc.equal(trips["scenario"], str(scenario)))
        figures = headline(chosen, initial=config.bankroll.bankroll_usd * MICRO, seed=config.bankroll.seed)
        rows += [
            {
                "scenario": str(scenario),
                "metric": metric,
                "value": figure.value if figure.defined else None,
                "note": figure.note,
                **columns,
            }
            for metric, figure in figures.items()
        ]
    return pa.Table.from_pylist(rows, schema=table("backtest.metrics").arrow)


def _single_market(lake: Lake, name: str, keys: list[str]) -> dict[str, Any]:
    """For a run of one market: its price as a small curve, and its trips, shown in Dagster's UI."""
    if len(keys) != 1:
        return {"markets": len(keys)}
    key = keys[0]
    read = lake.exists("market_data.prices", key)
    prices = lake.read("market_data.prices", key, ["outcome_index", "mid"]).to_pylist() if read else []
    mids = [row["mid"] for row in prices if row["outcome_index"] == 0 and row["mid"] is not None]
    trips = lake.read("backtest.trips", (name, key), ["scenario", "ended_by", "pnl"]).to_pylist()
    lines = [f"| {t['scenario']} | {t['ended_by']} | {t['pnl'] / MICRO:.2f} |" for t in trips]
    listed = "\n".join(["| scenario | ended by | profit, $ |", "|---|---|---:|", *lines])
    return {
        "price": dg.MetadataValue.md(sparkline([mid / MICRO for mid in mids])),
        "trips": dg.MetadataValue.md(listed if lines else "no trades"),
    }
