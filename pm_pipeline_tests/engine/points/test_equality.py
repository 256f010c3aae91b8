"""The compiled run does what ``simulate`` does: to the micro-dollar, on worlds that hypothesis draws."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st

from pm_pipeline.engine import (
    ExecutionConfig,
    Mark,
    MarketInput,
    RiskLimits,
    RunConfig,
    Scenario,
    Sizing,
    SizingMode,
)
from pm_pipeline.engine.points import ZRule
from pm_pipeline.engine.scenarios import LiquidityModel
from pm_pipeline.markets import MICRO
from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND
from pm_pipeline_tests.engine.builders import enter, given, leave, market, mids, resolved, void
from pm_pipeline_tests.engine.points.worlds import assert_equal, assert_rule_equal, quotes, walk

SHARES = st.sampled_from([None, Decimal("0.02"), Decimal("0.05"), Decimal("0.3")])
VENUES = ("polymarket:1", "kalshi:KXHIGHNY-26JUL10-B85.5", "polymarket:77", "kalshi:KXFED-26DEC-T4")


@st.composite
def limits(draw: st.DrawFn) -> RiskLimits:
    chosen: dict[str, Any] = {
        name: draw(SHARES)
        for name in ("position_cap", "market_cap", "group_cap", "strategy_cap", "venue_cap", "gross_cap")
    }
    return RiskLimits(
        **chosen,
        drawdown=draw(st.sampled_from([None, Decimal("0.001"), Decimal("0.01")])),
        daily_loss=draw(st.sampled_from([None, Decimal("0.001"), Decimal("0.01")])),
        losing_streak=draw(st.sampled_from([None, 1, 3])),
        max_positions=draw(st.sampled_from([None, 1, 2])),
        max_data_age=draw(st.sampled_from([None, MINUTE])),
        refuse_crossed=draw(st.booleans()),
        min_time_to_close=draw(st.sampled_from([None, HOUR])),
        cooldown=draw(st.sampled_from([None, 10 * MINUTE])),
        revalue_every=draw(st.sampled_from([0, 5 * MINUTE])),
    )


@st.composite
def configs(draw: st.DrawFn, *, belief: bool = True) -> RunConfig:
    modes = [SizingMode.FIXED, SizingMode.FRACTION, *([SizingMode.KELLY] * 2 if belief else [])]
    return RunConfig(
        bankroll=draw(st.sampled_from([200 * MICRO, 10_000 * MICRO, 33_333_333])),
        stake=draw(st.sampled_from([5 * MICRO, 21 * MICRO, 100 * MICRO + 7])),
        max_stake_fraction=draw(st.sampled_from([Decimal("0.1"), Decimal("0.5"), Decimal(1)])),
        sizing=Sizing(
            mode=draw(st.sampled_from(modes)),
            kelly_share=draw(st.sampled_from([Decimal("0.25"), Decimal("0.3"), Decimal(1)])),
            least=draw(st.sampled_from([Decimal(0), Decimal("0.001")])),
        ),
        risk=draw(limits()),
        execution=ExecutionConfig(
            latency=draw(st.sampled_from([0, SECOND, 20 * SECOND])),
            half_spread=draw(st.sampled_from([0, 10_000])),
            depth_usd=draw(st.sampled_from([15 * MICRO, 250 * MICRO])),
            max_quote_age=draw(st.sampled_from([30 * SECOND, 15 * MINUTE])),
            max_wait=draw(st.sampled_from([10 * SECOND, HOUR])),
            liquidity=draw(st.sampled_from([LiquidityModel.MEASURED, LiquidityModel.CONSTANT])),
            lot=draw(st.sampled_from([10_000, MICRO, 3])),
            fees=draw(st.sampled_from(["venue", "venue", "flat_2pct", "zero"])),
            mark=draw(st.sampled_from(list(Mark))),
        ),
    )


@st.composite
def worlds(draw: st.DrawFn, *, signals: bool = True) -> list[MarketInput]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = []
    for key in VENUES[: draw(st.integers(1, 3))]:
        count = draw(st.sampled_from([1, 5, 40, 200]))
        path = walk(rng, count)
        end = path[-1][0]
        if draw(st.booleans()):
            prices = mids([(ts, None if rng.random() < 0.05 else mid) for ts, mid in path], key)
        else:
            rows = []
            for ts, mid in path:
                bid, ask = round(mid - rng.integers(0, 3)), round(mid + rng.integers(0, 3))
                rows.append(
                    (
                        ts,
                        mid if rng.random() > 0.05 else None,
                        bid if bid > 0 and rng.random() > 0.1 else None,
                        ask if ask < 100 and rng.random() > 0.1 else None,
                    )
                )
            prices = quotes(rows, key)
        tail = draw(st.sampled_from(["paid", "half", "early", "void", "open"]))
        closed = end // 2 if tail == "early" else end + int(rng.integers(0, 90))
        payouts = (MICRO // 2, MICRO // 2) if tail == "half" else (MICRO, 0)
        resolution = {
            "void": void(closed, closed + 500, key=key),
            "open": None,
        }.get(tail, resolved(closed, closed + int(rng.integers(0, 200_000)), payouts, key=key))
        of = market(
            key,
            group_key=draw(st.sampled_from([None, "g"])),
            scheduled_close=draw(st.sampled_from([None, resolution and resolution.closed_at])),
            min_order_size=draw(st.sampled_from([MICRO, 5 * MICRO])),
        )
        made = [_signal(rng, end) for _ in range(draw(st.sampled_from([0, 1, 6, 30])))] if signals else []
        found.append(given(prices, made, resolution, of))
    return found


def _signal(rng: np.random.Generator, end: int) -> Any:
    ts, outcome = int(rng.integers(0, end + 120)), int(rng.random() < 0.3)
    price = int(rng.integers(1, 100)) * 10_000
    if rng.random() < 0.3:
        return leave(ts, outcome, limit_price=price if rng.random() < 0.2 else None)
    stated: dict[str, Any] = {"p_hat": float(rng.random()) if rng.random() < 0.9 else None}
    for name, chance in (("stop_price", 0.4), ("target_price", 0.4), ("limit_price", 0.2)):
        if rng.random() < chance:
            stated[name] = int(rng.integers(1, 100)) * 10_000
    if rng.random() < 0.3:
        stated["trailing"] = int(rng.integers(0, 12)) * 10_000
    if rng.random() < 0.3:
        stated["exit_at"] = enter(ts).ts + int(rng.integers(1, 2 * end + 2)) * SECOND
    if rng.random() < 0.2:
        stated["stake"] = int(rng.integers(1, 60 * MICRO))
    return enter(ts, outcome, **stated)


@given_by(worlds(), configs(), st.sampled_from(list(Scenario)))
@settings(max_examples=150, deadline=None)
def test_signals_come_to_the_same_fills_money_and_refusals(
    world: list[MarketInput], config: RunConfig, scenario: Scenario
) -> None:
    assert_equal(world, config, scenario)


@st.composite
def rules(draw: st.DrawFn) -> ZRule:
    share = st.sampled_from([None, Decimal("0.05"), Decimal("0.2")])
    return ZRule(
        window=draw(st.sampled_from([2, 5, 12])),
        entry=draw(st.sampled_from([0.5, 1.0, 1.7])),
        exit=draw(st.sampled_from([None, 0.0, 0.4, -0.5])),
        stop=draw(share),
        target=draw(share),
        trailing=draw(share),
        hold=draw(st.sampled_from([None, 3 * MINUTE, DAY])),
    )


@given_by(worlds(signals=False), rules(), configs(), st.sampled_from(list(Scenario)))
@settings(max_examples=150, deadline=None)
def test_a_rule_comes_to_what_its_decisions_come_to(
    world: list[MarketInput], rule: ZRule, config: RunConfig, scenario: Scenario
) -> None:
    assert_rule_equal(world, rule, config, scenario)


if __name__ == "__main__":
    pytest.main([__file__, "-q"])
