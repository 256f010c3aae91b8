"""A made-up run: seeded trips and the equity that follows from them, in the tables' own schemas."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from pm_pipeline.markets.units import MICRO
from pm_pipeline.reports import RunReport, Skipped, StrategyResult
from pm_pipeline.research import headline
from pm_pipeline.warehouse.schema import table

START = datetime(2025, 1, 1, tzinfo=UTC)
INITIAL = 10_000 * MICRO
SCENARIOS = {"pessimistic": -0.03, "base": 0.0, "optimistic": 0.02}


def rows(name: str, values: list[dict[str, object]]) -> pa.Table:
    """Rows in the schema of a table."""
    return pa.Table.from_pylist(values, schema=table(name).arrow)


def trip(**given: object) -> dict[str, object]:
    """A round trip that won a dollar and a half, with whatever is given instead."""
    base: dict[str, object] = {
        "strategy": "value",
        "scenario": "base",
        "market_key": "kalshi:A",
        "outcome_index": 0,
        "group_key": None,
        "entered_at": START,
        "exited_at": START + timedelta(days=1),
        "size": 10 * MICRO,
        "cost": 8 * MICRO,
        "proceeds": 10 * MICRO,
        "fees": MICRO // 2,
        "pnl": 3 * MICRO // 2,
        "ended_by": "settlement",
        "payout": MICRO,
        "p_hat": 0.9,
        "p_market": 0.8,
        "closing_price": 950_000,
        "evidence": "l2",
        "hindsight_close": False,
        "run_id": "r1",
    }
    return base | given


def trips(count: int, seed: int = 1, strategy: str = "value") -> pa.Table:
    """Trips in every scenario; one event has three markets, some of them settle at one half."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        p = float(rng.uniform(0.08, 0.92))
        p_market = float(np.clip(p + rng.normal(0, 0.06), 0.02, 0.98))
        payout = MICRO // 2 if i % 40 == 7 else int(rng.random() < p) * MICRO
        enter = START + timedelta(hours=int(rng.integers(0, 24 * 400)))
        for scenario, shift in SCENARIOS.items():
            price = round(min(max(p_market - 0.03 - shift, 0.01), 0.99) * MICRO)
            size = 100 * MICRO
            cost, proceeds, fee = (
                price * 100,
                payout * 100,
                round(price * (MICRO - price) / MICRO * 0.07 * 100),
            )
            found.append(
                trip(
                    strategy=strategy,
                    scenario=scenario,
                    market_key=f"kalshi:KXHIGHNY-{i:05d}-B85.5",
                    group_key=f"kalshi:KXHIGHNY-{i // 3:05d}",
                    entered_at=enter,
                    exited_at=enter + timedelta(hours=int(rng.integers(6, 96))),
                    size=size,
                    cost=cost,
                    proceeds=proceeds,
                    fees=fee,
                    pnl=proceeds - cost - fee,
                    payout=payout,
                    p_hat=p,
                    p_market=p_market,
                    closing_price=round((0.5 * p_market + 0.5 * payout / MICRO) * MICRO),
                    evidence=("l2", "bbo", "trade", "mid")[i % 4],
                )
            )
    return rows("backtest.trips", found)


def equity(done: pa.Table, points: int, strategy: str = "value") -> pa.Table:
    """The bankroll on a clock of ``points`` ticks, stepping with each profit, with a little noise."""
    step = timedelta(days=410) / max(points - 1, 1)
    clock = np.array([np.datetime64((START + step * i).replace(tzinfo=None), "us") for i in range(points)])
    parts = []
    for scenario in SCENARIOS:
        of = done.filter(pa.compute.equal(done["scenario"], scenario)).sort_by("exited_at")
        ended = of["exited_at"].cast(pa.timestamp("us")).to_numpy()
        gains = np.concatenate(([0], np.cumsum(of["pnl"].to_numpy())))
        noise = np.random.default_rng(3).normal(0, 15 * MICRO, points).astype(np.int64)
        noise[0] = 0
        values = INITIAL + gains[np.searchsorted(ended, clock, side="right")] + noise
        columns = {
            "run_id": pa.array(["r1"] * points),
            "strategy": pa.array([strategy] * points),
            "scenario": pa.array([scenario] * points),
            "ts": pa.array(clock).cast(pa.timestamp("us", "UTC")),
            "cash": pa.array(values),
            "positions": pa.array(np.zeros(points, np.int64)),
            "locked": pa.array(np.zeros(points, np.int64)),
            "equity": pa.array(values),
            "open_positions": pa.array(np.zeros(points, np.int32)),
        }
        parts.append(pa.table(columns, schema=table("backtest.portfolio_equity").arrow))
    return pa.concat_tables(parts)


def fills(done: pa.Table) -> pa.Table:
    """An entry for every trip."""
    carried = ("strategy", "scenario", "market_key", "outcome_index", "evidence", "run_id")
    found = [
        {name: t[name] for name in carried}
        | {
            "order_id": f"{t['market_key']}-{t['entered_at']:%Y%m%d%H}",
            "ts": t["entered_at"],
            "side": "buy",
            "price": t["cost"] * MICRO // t["size"],
            "size": t["size"],
            "cash": -t["cost"],
            "fee": t["fees"],
            "liquidity": "taker",
            "decision_price": None,
            "slippage": None,
        }
        for t in done.to_pylist()
    ]
    return rows("backtest.fills", found)


def prices(done: pa.Table) -> pa.Table:
    """A price path of the market that moved the result most."""
    worst = max(done.to_pylist(), key=lambda t: abs(t["pnl"]))
    path = np.clip(0.5 + np.cumsum(np.random.default_rng(5).normal(0, 0.01, 400)), 0.02, 0.98)
    begin = worst["entered_at"] - timedelta(hours=20)
    found = []
    for i, mid in enumerate(path):
        at = begin + timedelta(minutes=15 * i)
        found.append(
            {
                "market_key": worst["market_key"],
                "outcome_index": 0,
                "ts": at,
                "known_at": at,
                "ingested_at": at,
                "mid": round(float(mid) * MICRO),
                "bid": None,
                "ask": None,
                "resolution_s": 900,
                "source": "test",
            }
        )
    return rows("market_data.prices", found)


def strategy(name: str, title: str, *, count: int = 120, points: int = 400, seed: int = 1) -> StrategyResult:
    """A strategy with its tables and figures in all scenarios."""
    done = trips(count, seed, name)
    curve = equity(done, points, name)
    figures = {
        s: headline(
            done.filter(pa.compute.equal(done["scenario"], s)),
            curve.filter(pa.compute.equal(curve["scenario"], s)),
            initial=INITIAL,
        )
        for s in SCENARIOS
    }
    skipped = (
        Skipped("kalshi:KXHIGHNY-26JUL10-B85.5", "no_quote", "no book and no trade before the close"),
        Skipped("polymarket:654414", "short_history", "asked 2025-01-01 … 2025-02-01, got 12 hours"),
    )
    return StrategyResult(name, title, figures, curve, done, fills(done), skipped)


def run(*strategies: StrategyResult, world: str = "SANDBOX", with_prices: bool = False) -> RunReport:
    """A run of these strategies."""
    return RunReport(
        run_id="r1",
        world=world,
        started_at=datetime(2026, 11, 21, 5, 0, tzinfo=UTC),
        config={"strategies": [s.name for s in strategies], "initial": "10000.00", "seed": 7},
        strategies=strategies,
        prices=prices(strategies[0].trips) if with_prices else None,
    )
