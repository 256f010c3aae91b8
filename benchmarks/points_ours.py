"""The worlds of :mod:`benchmarks.points_market` as points of the engine, and the settings that all share."""

from decimal import Decimal
from functools import partial

import numpy as np

from benchmarks import points_market as world
from pm_pipeline.engine import (
    ExecutionConfig,
    MarketInput,
    RiskLimits,
    RunConfig,
    Signals,
    Sizing,
    SizingMode,
)
from pm_pipeline.engine.points import Points, ZRule
from pm_pipeline.engine.scenarios import LiquidityModel
from pm_pipeline.engine.venue.tape import Kind, Touch
from pm_pipeline.markets import (
    MICRO,
    FeeTerms,
    Instrument,
    Market,
    MarketKey,
    Resolution,
    ResolutionStatus,
    ScheduleEvidence,
    TickRange,
)
from pm_pipeline.warehouse.asof import MarketData
from pm_pipeline.warehouse.records import to_table

MILL = MICRO // 1000
RULE = ZRule(
    window=world.WINDOW,
    entry=world.ENTRY,
    exit=world.EXIT,
    stop=Decimal(str(world.STOP)),
    target=Decimal(str(world.TARGET)),
)
ALONE = RunConfig(
    bankroll=1_000_000 * MICRO,
    stake=world.STAKE * MICRO,
    execution=ExecutionConfig(
        latency=world.STEP_NS,
        depth_usd=10_000 * MICRO,
        liquidity=LiquidityModel.CONSTANT,
    ),
)

SHARED = RunConfig(
    bankroll=world.BANKROLL * MICRO,
    max_stake_fraction=Decimal(str(world.MAX_STAKE)),
    sizing=Sizing(mode=SizingMode.KELLY, kelly_share=Decimal(str(world.KELLY))),
    risk=RiskLimits(
        gross_cap=Decimal(str(world.GROSS)),
        max_positions=world.MAX_POSITIONS,
        drawdown=Decimal(str(world.DRAWDOWN)),
        cooldown=world.COOLDOWN_NS,
    ),
    execution=ExecutionConfig(latency=0, depth_usd=world.DEPTH * MICRO, liquidity=LiquidityModel.CONSTANT),
)


def points_of(made: world.World, offsets: bool = False, half: int = 0) -> Points:
    """Points of a world, bid and offer ``half`` tenths of a cent from the mid; with ``offsets`` no two
    markets have a point at the same moment.
    """
    return Points.of_touches(
        (_market(n), _resolution(n, made, offsets), _touch(n, made, offsets, half))
        for n in range(len(made.mids))
    )


def start_of(n: int, offsets: bool) -> int:
    """When the first point of a market is."""
    return world.T0 + (n * world.OFFSET_NS if offsets else 0)


def _touch(n: int, made: world.World, offsets: bool, half: int) -> Touch:
    mid = made.mids[n].astype(np.int64) * MILL
    ts = start_of(n, offsets) + np.arange(len(mid)) * world.STEP_NS
    nothing = np.full(len(mid), -1)
    kind = np.full(len(mid), Kind.BBO, np.int8)
    return Touch(ts, ts, mid, mid - half * MILL, mid + half * MILL, kind, nothing, nothing)


def _market(n: int) -> Market:
    key = MarketKey.parse(f"polymarket:{n:06}")
    return Market(
        key=key,
        question="?",
        instruments=(Instrument(key, 0, "Yes"), Instrument(key, 1, "No")),
        opened_at=None,
        scheduled_close=None,
        schedule_evidence=ScheduleEvidence.LISTED,
        ticks=(TickRange(MILL, MICRO - MILL, MILL),),
        min_order_size=MICRO,
        fee_terms=FeeTerms(Decimal(str(world.RATE)), 1, taker_only=True, rebate_rate=Decimal(0)),
    )


def _resolution(n: int, made: world.World, offsets: bool) -> Resolution:
    end = start_of(n, offsets) + made.mids.shape[1] * world.STEP_NS
    yes = MICRO if made.pays[n] else 0
    return Resolution(
        market_key=MarketKey.parse(f"polymarket:{n:06}"),
        status=ResolutionStatus.RESOLVED,
        payouts=(yes, MICRO - yes),
        closed_at=end,
        resolved_at=end,
        known_at=end,
        source="benchmark",
    )


def inputs_of(made: world.World, signals: dict[str, Signals]) -> list[MarketInput]:
    """The same markets, half a spread around the mid, for ``simulate``."""
    found = []
    for n in range(len(made.mids)):
        market, touch = _market(n), _touch(n, made, True, world.HALF)
        rows = {
            "market_key": [str(market.key)] * len(touch),
            "outcome_index": [0] * len(touch),
            **dict.fromkeys(("ts", "known_at", "ingested_at"), touch.ts),
            **{name: getattr(touch, name) for name in ("mid", "bid", "ask")},
            "resolution_s": [60] * len(touch),
            "source": ["benchmark"] * len(touch),
        }
        tables = {"market_data.prices": to_table("market_data.prices", rows)}
        resolution = _resolution(n, made, True)
        found.append(
            MarketInput(
                market, resolution, partial(MarketData.of_tables, market, tables), signals[str(market.key)]
            )
        )
    return found
