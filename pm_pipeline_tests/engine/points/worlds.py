"""Small random worlds of quotes for both simulations, and what both made of them in one form."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from pm_pipeline.engine import MarketInput, RunConfig, Scenario, Signals, SimResult, simulate
from pm_pipeline.engine.points import Points, PointsResult, Quoted, ZRule, play
from pm_pipeline.engine.points.records import Ended
from pm_pipeline.engine.venue.grids import Grids
from pm_pipeline.engine.venue.tape import Kind, Tape
from pm_pipeline.markets import Side
from pm_pipeline.markets.clock import parse_time, to_nanos
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline_tests.engine.builders import cents
from pm_pipeline_tests.warehouse import builders as warehouse


class Outcome(NamedTuple):
    """What a run did, in the words of both."""

    fills: list[tuple[Any, ...]]
    trades: list[tuple[Any, ...]]
    refusals: dict[str, int]
    curve: Sequence[tuple[int, ...]]


RULES_OF: Final = parse_time("2026-06-01")
"""Any day: ticks are those that a market lists, and the usual ones of its venue."""


def points_of(
    inputs: Iterable[MarketInput], config: RunConfig, scenario: Scenario, rules: RuleBook | None = None
) -> Points:
    """Points of the markets that ``simulate`` is given, made by the tape."""
    terms, book = config.execution.under(scenario), rules or RuleBook.default()
    given = []
    for item in inputs:
        tape = Tape(item.load(), Grids.of(book.tick(item.market, RULES_OF)), terms)
        touches = (tape.outcome(outcome).touch for outcome in range(len(item.market.instruments)))
        given.append(Quoted(item.market, item.resolution, *touches))
    return Points.of_touches(given, book)


def of_simulation(result: SimResult) -> Outcome:
    fills = sorted(
        (
            row["market_key"],
            row["outcome_index"],
            to_nanos(row["ts"]),
            row["side"],
            row["price"],
            row["size"],
            abs(row["cash"]),
            row["fee"],
            row["evidence"],
        )
        for row in result.fills.to_pylist()
    )
    trades = sorted(
        (
            row["market_key"],
            row["outcome_index"],
            to_nanos(row["entered_at"]),
            to_nanos(row["exited_at"]),
            row["size"],
            row["cost"],
            row["proceeds"],
            row["fees"],
            row["ended_by"],
            -1 if row["payout"] is None else row["payout"],
            row["evidence"],
        )
        for row in result.trips.to_pylist()
    )
    refusals = Counter(_code(row) for row in result.rejections.to_pylist())
    curve = [
        (to_nanos(row["ts"]), row["cash"], row["positions"], row["locked"], row["open_positions"])
        for row in result.equity.to_pylist()
    ]
    return Outcome(fills, trades, dict(refusals), curve)


def _code(row: dict[str, Any]) -> str:
    if row["reason"] == "risk_denied":
        return f"risk_denied: {row['detail'].split(':')[0]}"
    return str(row["reason"])


def of_points(result: PointsResult) -> Outcome:
    keys = result.keys
    evidence = {int(kind): kind.name.lower() for kind in Kind}
    fills = sorted(
        (
            keys[row["market"]],
            int(row["outcome"]),
            _cut(row["at"]),
            str(Side.BUY if row["buys"] else Side.SELL),
            int(row["price"]),
            int(row["size"]),
            int(row["cash"]),
            int(row["fee"]),
            evidence[int(row["evidence"])],
        )
        for row in result.fills
    )
    trades = sorted(
        (
            keys[row["market"]],
            int(row["outcome"]),
            _cut(row["entered_at"]),
            _cut(row["exited_at"]),
            *(int(row[name]) for name in ("size", "cost", "proceeds", "fees")),
            str(Ended(int(row["ended_by"])).by),
            int(row["payout"]),
            evidence[int(row["evidence"])],
        )
        for row in result.trades
    )
    curve = [
        tuple(int(row[name]) for name in ("ts", "cash", "positions", "locked", "open_positions"))
        for row in result.curve
    ]
    return Outcome(fills, trades, dict(result.refusals), [(_cut(ts), *rest) for ts, *rest in curve])


def _cut(nanos: Any) -> int:
    """Tables keep microseconds."""
    return int(nanos) // 1000 * 1000


def assert_equal(
    inputs: Sequence[MarketInput], config: RunConfig, scenario: Scenario, rules: RuleBook | None = None
) -> Outcome:
    """Both simulations on the same signals: the same fills, trades, refusals and equity."""
    points = points_of(inputs, config, scenario, rules)
    signals = {str(item.market.key): item.signals for item in inputs if isinstance(item.signals, Signals)}
    expected = of_simulation(simulate(inputs, config, scenario, strategy="test", run_id="r1", rules=rules))
    found = of_points(play(points, signals, config, scenario))
    same(found, expected)
    return found


def assert_rule_equal(
    inputs: Sequence[MarketInput], rule: ZRule, config: RunConfig, scenario: Scenario
) -> tuple[Outcome, dict[str, Signals]]:
    """The rule compiled, and its decisions through ``simulate``: the same."""
    points = points_of(inputs, config, scenario)
    result = play(points, rule, config, scenario)
    signals = result.signals()
    again = [
        MarketInput(item.market, item.resolution, item.load, signals[str(item.market.key)]) for item in inputs
    ]
    expected = of_simulation(simulate(again, config, scenario, strategy="test", run_id="r1"))
    found = of_points(result)
    if not len(result.decisions):
        return found, signals
    same(found, expected)
    return found, signals


def same(found: Outcome, expected: Outcome) -> None:
    """Field by field, so that a failure says which."""
    assert found.fills == expected.fills
    assert found.trades == expected.trades
    assert found.refusals == expected.refusals
    assert found.curve == expected.curve


def quotes(
    points: Sequence[tuple[int, float | None, float | None, float | None]], key: str = "polymarket:1"
) -> dict[str, pa.Table]:
    """Prices of seconds, mids, bids and offers in cents."""
    rows = [
        {"ts": ts, "mid": cents(mid), "bid": cents(bid), "ask": cents(ask)} for ts, mid, bid, ask in points
    ]
    return {"market_data.prices": warehouse.prices(rows, key)}


def walk(
    rng: np.random.Generator, count: int, *, gap: int = 60, step: float = 2.0
) -> list[tuple[int, float]]:
    """Seconds and cents of a mid that wanders, with irregular distances."""
    ts = np.cumsum(rng.integers(1, 2 * gap, count))
    mid = np.clip(50 + np.cumsum(rng.normal(0, step, count)), 0.5, 99.5)
    return [(int(second), float(round(cents * 2) / 2)) for second, cents in zip(ts, mid, strict=True)]
