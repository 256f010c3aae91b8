"""The main job: read the catalog, fetch what is missing, compute what is stale, report.

Its ops only plan and start the asset jobs (see :mod:`pm_pipeline.defs.launch`); each of those can be run on
its own, from the UI or the command line.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import dagster as dg
from pydantic import Field

from pm_pipeline.defs.backtest.assets import SIMULATED, key_of
from pm_pipeline.defs.backtest.versions import fills_version, is_current, signals_version, strategy_version
from pm_pipeline.defs.config import TERMS, BacktestConfig
from pm_pipeline.defs.interrupts import complete
from pm_pipeline.defs.launch import Launcher, Resolve
from pm_pipeline.defs.market_data.assets import TABLES
from pm_pipeline.defs.partitions import MARKET_GROUPS, MARKETS, contiguous_ranges, register
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.errors import PipelineError, UsageError, did_you_mean
from pm_pipeline.markets.clock import day_of
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.ingest import is_fresh, verdict
from pm_pipeline.strategies.registry import REGISTRY
from pm_pipeline.universe import choose
from pm_pipeline.warehouse.lake import Lake

MOST_RANGES: Final = 20
"""If stale partitions lie in more ranges than this, one run covers them all, fresh ones between included."""

EXTRAS: Final[Mapping[str, tuple[str, frozenset[Venue]]]] = {
    "onchain": ("ingest_onchain", frozenset({Venue.POLYMARKET})),
    "holders": ("ingest_holders", frozenset({Venue.POLYMARKET})),
    "bars": ("make_bars", frozenset(Venue)),
    "reconcile": ("reconcile", frozenset(Venue)),
}
"""What can be fetched or made beside the market data, in this order: its job, and the venues that have it."""

Plan = dict[str, Any]


class Extras(dg.Config):
    """What is fetched or made beside the market data."""

    also: list[str] = Field(default_factory=list, description=f"any of {', '.join(EXTRAS)}")


def asset_jobs(strategies: Sequence[str]) -> list[Any]:
    """The jobs that materialise the chain and the portfolios."""
    chain = [key_of(name, role) for name in strategies for role in ("signals", "fills", "metrics")]
    portfolios = [key_of(name, "portfolio") for name in strategies]
    return [
        dg.define_asset_job(
            "strategy_chain",
            selection=dg.AssetSelection.assets(*chain),
            description="Signals, fills and metrics of every strategy on some markets.",
        ),
        dg.define_asset_job(
            "portfolios",
            selection=dg.AssetSelection.assets(*portfolios, "comparison", "report", "rules", "warehouse"),
            description="Portfolios, comparison, report and warehouse file.",
        ),
    ]


def build_jobs(resolve: Resolve) -> list[dg.JobDefinition]:
    """The jobs ``backtest`` and ``fetch``; ``resolve`` finds the asset jobs they start."""

    @dg.op(description="Checks what is asked, reads the catalog, chooses the markets, registers partitions.")
    def plan(context: dg.OpExecutionContext, config: BacktestConfig, workspace: Workspace) -> Plan:
        settings = workspace.settings
        names = list(config.strategies) or list(REGISTRY.names())
        params = {
            name: REGISTRY.parse_params(name, config.strategies.get(name, {})).model_dump(mode="json")
            for name in names
        }
        config.to_engine(uses_schedule=True)  # refuses values out of range
        universe = config.chosen(settings)
        today = complete(_today(workspace, {wanted.venue for wanted in universe.markets}))
        launcher = _launcher(context, resolve)
        launcher.run(
            "ingest_catalog",
            partitions=(today, today),
            ops={"catalog": {"config": {"universe": config.universe}}},
        )
        markets = choose(universe, workspace.catalog.markets().values())
        if not markets:
            raise UsageError("the universe matches no market of the catalog; see `bt markets`")
        register(context.instance, MARKETS, [str(market.key) for market in markets])
        register(context.instance, MARKET_GROUPS, [m.group_key for m in markets if m.group_key])
        context.log.info(f"{settings.label}: {len(markets)} markets")
        return {
            "markets": [str(market.key) for market in markets],
            "params": params,
            "universe": config.universe,
            **{name: getattr(config, name).model_dump() for name in TERMS},
        }

    @dg.op(description="Fetches the market data that the lake lacks.")
    def read(context: dg.OpExecutionContext, workspace: Workspace, plan: Plan) -> Plan:
        known = workspace.catalog.markets()
        markets = [known[key] for key in plan["markets"]]
        stale = complete(_stale_data(workspace, markets))
        failure = _run_ranges(_launcher(context, resolve), context, "ingest_markets", stale)
        have = sum(workspace.lake.exists(TABLES["prices"], key) for key in plan["markets"])
        context.log.info(f"data: {len(stale)} markets asked for, {have} of {len(markets)} have prices")
        if failure and not have:
            raise failure
        return plan | {"failure": _judge(workspace.lake, markets, failure)}

    @dg.op(description="Computes the signals, fills and metrics that are stale.")
    def test(context: dg.OpExecutionContext, workspace: Workspace, plan: Plan) -> Plan:
        lake, known = workspace.lake, workspace.catalog.markets()
        markets = [known[key] for key in plan["markets"]]
        terms = {name: plan[name] for name in TERMS}
        for name, params in plan["params"].items():
            stale = {str(m.key) for m in markets if not _is_computed(lake, m, name, params, terms)}
            failure = _run_ranges(
                _launcher(context, resolve),
                context,
                "strategy_chain",
                stale,
                assets=[key_of(name, role) for role in ("signals", "fills", "metrics")],
                ops={
                    f"{name}__signals": {"config": params},
                    f"{name}__fills": {"config": terms},
                    f"{name}__metrics": {"config": terms},
                },
            )
            if failure:
                raise failure
            context.log.info(f"{name}: {len(stale)} of {len(markets)} markets computed")
        return plan

    @dg.op(description="Runs the portfolios and writes comparison, report and warehouse file.")
    def combine(context: dg.OpExecutionContext, plan: Plan) -> None:
        config = {"config": {name: plan[name] for name in ("universe", *TERMS)}}
        names = list(plan["params"])
        _launcher(context, resolve).run(
            "portfolios",
            assets=[
                *(key_of(name, "portfolio") for name in names),
                *map(dg.AssetKey, ("comparison", "report", "rules", "warehouse")),
            ],
            ops={"comparison": config, **{f"{name}__portfolio": config for name in names}},
        )
        if plan["failure"]:
            raise PipelineError(
                "the report is written, but not all data could be read; the markets without data are listed "
                f"in it. {plan['failure']}"
            )

    @dg.job(description="Backtests strategies on the universe: catalog, data, chain, portfolios, report.")
    def backtest() -> None:
        combine(test(read(plan())))

    @dg.op(description="Fetches and makes what is asked for beside the market data.")
    def enrich(context: dg.OpExecutionContext, config: Extras, plan: Plan) -> Plan:
        if unknown := [name for name in config.also if name not in EXTRAS]:
            raise UsageError(f"there is nothing called {unknown[0]!r}{did_you_mean(unknown[0], EXTRAS)}")
        failure = plan["failure"]
        for name in (name for name in EXTRAS if name in config.also):
            job, venues = EXTRAS[name]
            keys = {key for key in plan["markets"] if MarketKey.parse(key).venue in venues}
            error = _run_ranges(_launcher(context, resolve), context, job, keys)
            if isinstance(error, UsageError):
                raise error
            context.log.info(f"{name}: {'failed' if error else f'{len(keys)} markets'}")
            failure = failure or (str(error) if error else None)
        return plan | {"failure": failure}

    @dg.op(description="Fails when some data could not be read.")
    def confirm(plan: Plan) -> None:
        if plan["failure"]:
            raise PipelineError(plan["failure"])

    @dg.job(description="Reads the catalog, the market data of the universe, and what is asked beside.")
    def fetch() -> None:
        confirm(enrich(read(plan())))

    return [backtest, fetch]


def _launcher(context: dg.OpExecutionContext, resolve: Resolve) -> Launcher:
    loggers = context.run_config.get("loggers", {})
    assert isinstance(loggers, Mapping)
    return Launcher(context, resolve, loggers)


def _run_ranges(
    launcher: Launcher, context: dg.OpExecutionContext, job: str, stale: set[str], **options: Any
) -> PipelineError | None:
    """Run ``job`` over the stale partitions; the first error of ours, after all ranges were tried."""
    ordered = list(context.instance.get_dynamic_partitions("markets"))
    ranges = contiguous_ranges(ordered, stale)
    if len(ranges) > MOST_RANGES:
        ranges = [(ranges[0][0], ranges[-1][1])]
    first: PipelineError | None = None
    for bounds in ranges:
        try:
            launcher.run(job, partitions=bounds, **options)
        except PipelineError as error:
            first = first or error
    return first


def _judge(lake: Lake, markets: Sequence[Market], failure: PipelineError | None) -> str | None:
    """Whether what could not be read fails the run: any failure does, a few quiet markets are only listed."""
    if failure is None:
        return None
    verdicts = [
        verdict(lake, TABLES.values(), [market for market in markets if market.key.venue is venue])
        for venue in sorted({market.key.venue for market in markets})
    ]
    quiet_only = any(found.quiet for found in verdicts) and not any(v.failed or v.dead for v in verdicts)
    return None if quiet_only else str(failure)


async def _today(workspace: Workspace, venues: Iterable[Venue]) -> str:
    """The day it is at the source; venues of one world share it."""
    async with workspace.adapter(min(venues)) as adapter:
        return day_of(await adapter.now())


async def _stale_data(workspace: Workspace, markets: Sequence[Market]) -> set[str]:
    stale: set[str] = set()
    for venue in sorted({market.key.venue for market in markets}):
        async with workspace.adapter(venue) as adapter:
            now = await adapter.now()
            stale |= {
                str(market.key)
                for market in markets
                if market.key.venue is venue
                and not all(is_fresh(adapter, workspace.lake, name, market, now) for name in TABLES.values())
            }
    return stale


def _is_computed(
    lake: Lake, market: Market, name: str, params: dict[str, Any], terms: dict[str, Any]
) -> bool:
    cls = REGISTRY.get(name)
    wanted = signals_version(lake, market, strategy_version(cls, params))
    key = str(market.key)
    if not is_current(lake, "backtest.signals", name, key, wanted):
        return False
    version = fills_version(lake, market, name, terms)
    return all(is_current(lake, table, name, key, version) for table in (*SIMULATED, "backtest.metrics"))
