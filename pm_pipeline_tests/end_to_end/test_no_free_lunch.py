"""The generated world has no edge, and the engine gives none away.

Prices are a calibrated martingale behind a true spread, so no strategy may earn beyond chance, however it is
filled. The same harness finds the profit of a strategy that knows what nobody can know: the tests can fail.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pm_pipeline.engine import (
    Action,
    MarketInput,
    RunConfig,
    Scenario,
    Signal,
    Signals,
    SimResult,
    simulate,
)
from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, Nanos
from pm_pipeline.markets.units import MICRO
from pm_pipeline.research import intervals
from pm_pipeline.research.trades import closed
from pm_pipeline.sources.sandbox.generator import EventPath, event_path, generate_world
from pm_pipeline.sources.sandbox.plans import WEATHER_FEES, EventPlan, question_event
from pm_pipeline.sources.sandbox.world import ABSENT, World
from pm_pipeline.strategies import REGISTRY
from pm_pipeline.strategies.base import BaseStrategy, StrategyParams
from pm_pipeline.warehouse.asof import AsOfView, MarketData, view_of
from pm_pipeline.warehouse.records import to_table

SEED: Final = 11
MARKETS: Final = 400
RICH: Final = RunConfig(bankroll=10_000_000 * MICRO)
"""Never short of cash, so that every market is an observation."""


def plans(wobble: float = 0.6) -> tuple[EventPlan, ...]:
    """Binary markets that live for three days, a few hours apart, with priors from unlikely to likely."""
    found = []
    for number in range(MARKETS):
        plan = question_event(
            f"draw-{number}",
            f"Will draw {number} succeed?",
            opened="2026-05-01T00:00:00Z",
            closed="2026-05-04T00:00:00Z",
            category="Weather",
            fees=WEATHER_FEES,
            chance=(number % 9 - 4) / 4,
            wobble=wobble,
        )
        opened = plan.opened_at + number % 50 * 7 * HOUR
        closes = opened + 3 * DAY
        found.append(
            replace(
                plan,
                opened_at=opened,
                scheduled_close=closes,
                decided_at=closes,
                closes_at=closes,
                resolved_at=closes + HOUR,
                step=10 * MINUTE,
                trades_per_hour=0.0,
            )
        )
    return tuple(found)


@lru_cache(maxsize=2)
def world_of(wobble: float) -> World:
    return generate_world(SEED, plans(wobble))


@lru_cache(maxsize=2)
def truths(wobble: float) -> dict[str, EventPath]:
    return {plan.name: event_path(SEED, plan) for plan in plans(wobble)}


def prices(world: World, key: str, *, touch: bool) -> pa.Table:
    """A market's history as the lake would hold it: with bid and ask, or with mids alone."""
    quotes, rows = world.markets[key].quotes(), len(world.markets[key].quotes().ts)

    def shown(values: Iterable[int]) -> list[int | None]:
        return [None if value == ABSENT or not touch else value for value in values]

    return to_table(
        "market_data.prices",
        {
            "market_key": [key] * rows,
            "outcome_index": [0] * rows,
            **dict.fromkeys(("ts", "known_at", "ingested_at"), quotes.ts.tolist()),
            "mid": quotes.mid.tolist(),
            "bid": shown(quotes.bid.tolist()),
            "ask": shown(quotes.ask.tolist()),
            "resolution_s": [600] * rows,
            "source": ["generator"] * rows,
        },
    )


def played(strategy: BaseStrategy, world: World, *, touch: bool = True) -> SimResult:  # type: ignore[type-arg]
    """One strategy on every market of the world."""

    def given(key: str) -> MarketInput:
        told = world.markets[key]
        data = MarketData.of_tables(told.market, {"market_data.prices": prices(world, key, touch=touch)})
        return MarketInput(told.market, told.resolution, lambda: data, strategy.signals(view_of(data)))

    inputs = [given(key) for key in world.markets]
    return simulate(inputs, RICH, Scenario.OPTIMISTIC, strategy=strategy.name, run_id="r")


class Knowing(BaseStrategy["Knowing.Params"]):
    """Buys whatever is offered more than four cents below the probability that the generator hides."""

    name = "knowing"
    title = "Knows the latent probability"

    class Params(StrategyParams):
        """How far ahead it knows."""

        ahead: Nanos = 0
        wobble: float = 0.6

    def signals(self, view: AsOfView) -> Signals:
        """The first chance on each side of the market."""
        slug, quotes = view.market.slug, view.quotes(0)
        assert slug is not None
        path = truths(self.params.wobble)[slug]
        row = np.searchsorted(path.ts, quotes.ts + self.params.ahead, side="right") - 1
        chance = path.chances[0][row]
        offers = (quotes.ask / MICRO, 1.0 - quotes.bid / MICRO)
        found = []
        for outcome, (worth, price, there) in enumerate(
            zip((chance, 1.0 - chance), offers, (quotes.ask >= 0, quotes.bid >= 0), strict=True)
        ):
            good = np.flatnonzero(there & (worth - price > 0.04))[:1]
            found += [
                Signal(
                    ts=int(quotes.known_at[i]),
                    inputs_known_at=int(quotes.known_at[i]),
                    outcome_index=outcome,
                    action=Action.ENTER,
                    p_hat=float(worth[i]),
                )
                for i in good
            ]
        return Signals.of(found)


def interval(result: SimResult) -> intervals.Interval:
    return intervals.mean_pnl(closed(result.trips))


@pytest.mark.parametrize("touch", [True, False], ids=["quotes", "mids"])
@pytest.mark.parametrize("name", REGISTRY.names())
def test_no_shipped_strategy_earns_beyond_chance(name: str, touch: bool) -> None:
    result = played(REGISTRY.create(name), world_of(0.6), touch=touch)
    found = interval(result)
    assert result.trips.num_rows >= 80
    assert set(result.trips["evidence"].to_pylist()) == {"bbo" if touch else "mid"}
    assert found.low < 0


def test_the_favourites_price_is_its_chance_of_winning() -> None:
    result = played(REGISTRY.create("favourite"), world_of(0.6))
    won = np.array(result.trips["payout"].to_pylist()) / MICRO
    price = np.array(result.trips["p_market"].to_pylist())
    assert won.size > 80
    spread = np.sqrt((price * (1 - price)).sum())
    assert abs((won - price).sum()) < 2.6 * spread


def test_who_knows_the_present_earns_nothing_where_prices_are_right_and_much_where_they_stray() -> None:
    assert played(Knowing(), world_of(0.6)).trips.num_rows == 0
    knowing = Knowing(Knowing.Params(wobble=8.0))
    assert interval(played(knowing, world_of(8.0))).low > 0


def test_who_knows_a_day_ahead_earns_on_right_prices() -> None:
    result = played(Knowing(Knowing.Params(ahead=DAY)), world_of(0.6))
    assert interval(result).low > 0
    assert pc.count_distinct(result.trips["market_key"]).as_py() > 100
