"""Small markets, histories and runs for the tests of the engine. Times are seconds after T0, prices cents."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pm_pipeline.engine import (
    Action,
    ExecutionConfig,
    MarketInput,
    RunConfig,
    Scenario,
    Signal,
    Signals,
    SimResult,
    simulate,
)
from pm_pipeline.engine.scenarios import LiquidityModel
from pm_pipeline.engine.venue.grids import Grids
from pm_pipeline.engine.venue.tape import Tape
from pm_pipeline.markets import MICRO, Market, MarketKey, Resolution, ResolutionStatus
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.warehouse.asof import MarketData
from pm_pipeline_tests.warehouse import builders as warehouse

CENT = 10_000
DOCS = Path(__file__).resolve().parents[2] / "docs"
at = warehouse.at


def market(key: str = "polymarket:1", **changes: Any) -> Market:
    return warehouse.market(key, **{"min_order_size": MICRO, **changes})


def cents(value: float | None) -> int | None:
    return None if value is None else round(value * CENT)


def mids(points: Sequence[tuple[int, float | None]], key: str = "polymarket:1") -> dict[str, pa.Table]:
    rows = [{"ts": ts, "mid": cents(mid)} for ts, mid in points]
    return {"market_data.prices": warehouse.prices(rows, key)}


def bbo(
    points: Sequence[tuple[int, float | None, float | None]], key: str = "polymarket:1"
) -> dict[str, pa.Table]:
    rows = [{"ts": ts, "bid": cents(bid), "ask": cents(ask)} for ts, bid, ask in points]
    return {"market_data.prices": warehouse.prices(rows, key)}


def book(rows: Sequence[dict[str, Any]], key: str = "polymarket:1") -> dict[str, pa.Table]:
    return {"market_data.book_events": warehouse.book_events(rows, key)}


def snapshot(
    seq: int, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]], ts: int | None = None
) -> list[dict[str, Any]]:
    """Rows of one message that sets the whole book; prices in cents, sizes in contracts."""
    return [
        warehouse.event(seq, "reset", ts),
        *(warehouse.level(seq, "bid", price, size, ts) for price, size in bids),
        *(warehouse.level(seq, "ask", price, size, ts) for price, size in asks),
    ]


def data(of: Market, *tables: dict[str, pa.Table]) -> MarketData:
    return MarketData.of_tables(of, {name: rows for part in tables for name, rows in part.items()})


def execution(**changes: Any) -> ExecutionConfig:
    """Execution that can be worked out by hand: no fees, and the declared liquidity alone."""
    declared = {"latency": SECOND, "fees": "zero", "liquidity": LiquidityModel.CONSTANT}
    return ExecutionConfig(**{**declared, **changes})


def tape(of: MarketData, scenario: Scenario = Scenario.BASE, **changes: Any) -> Tape:
    return Tape(of, Grids(of.market.ticks), execution(**changes).under(scenario))


def enter(ts: int, outcome: int = 0, **stated: Any) -> Signal:
    moment = at(ts)
    return Signal(
        **{
            "ts": moment,
            "inputs_known_at": moment,
            "outcome_index": outcome,
            "action": Action.ENTER,
            **stated,
        }
    )


def leave(ts: int, outcome: int = 0, **stated: Any) -> Signal:
    return enter(ts, outcome, action=Action.EXIT, **stated)


def resolved(
    closed: int,
    paid: int,
    payouts: tuple[int, ...] | None = (MICRO, 0),
    key: str = "polymarket:1",
    **more: Any,
) -> Resolution:
    return Resolution(
        **{
            "market_key": MarketKey.parse(key),
            "status": ResolutionStatus.RESOLVED,
            "payouts": payouts,
            "closed_at": at(closed),
            "resolved_at": at(paid),
            "known_at": at(paid),
            "source": "test",
            **more,
        }
    )


def void(closed: int, paid: int, key: str = "polymarket:1") -> Resolution:
    return resolved(closed, paid, key=key, status=ResolutionStatus.VOID, payouts=None)


def given(
    tables: dict[str, pa.Table],
    signals: Iterable[Signal] | Signals,
    resolution: Resolution | None = None,
    of: Market | None = None,
) -> MarketInput:
    chosen = of or market()
    checked = signals if isinstance(signals, Signals) else Signals.of(signals)
    return MarketInput(chosen, resolution, lambda: data(chosen, tables), checked)


def run(
    *inputs: MarketInput,
    scenario: Scenario = Scenario.BASE,
    config: RunConfig | None = None,
    rules: RuleBook | None = None,
    **changes: Any,
) -> SimResult:
    chosen = config or RunConfig(execution=execution(**changes))
    return simulate(inputs, chosen, scenario, strategy="test", run_id="r1", rules=rules)


def reasons(result: SimResult) -> list[str]:
    return [row["reason"] for row in result.rejections.to_pylist()]


def doc_table(page: str, heading: str) -> list[dict[str, str]]:
    """The rows of the first table under a heading of a page in docs/."""
    lines = iter((DOCS / page).read_text("utf-8").split(f"## {heading}\n", 1)[1].splitlines())
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        elif rows:
            break
    names = rows[0]
    return [dict(zip(names, row, strict=True)) for row in rows[2:]]
