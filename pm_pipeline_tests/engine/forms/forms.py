"""One idea in three forms: buy when the mid climbs above a price, sell when it falls back below."""

from typing import Any

from pydantic import Field

from pm_pipeline.engine.forms.live import Context
from pm_pipeline.engine.kernel.steps import compiled_step
from pm_pipeline.engine.signals import Action, Signal, Signals
from pm_pipeline.markets import MICRO
from pm_pipeline.strategies.base import BaseStrategy, CompiledStrategy, EventStrategy, StrategyParams
from pm_pipeline.warehouse.arrays import Quote
from pm_pipeline.warehouse.asof import AsOfView


class Params(StrategyParams):
    level: int = Field(500_000, ge=0, le=MICRO, description="the mid to cross, millionths")
    stop: int = Field(30_000, ge=0, le=MICRO, description="how far below the level to stop, millionths")
    trailing: int = Field(200_000, ge=0, le=MICRO, description="trailing stop, millionths")


class Vectorised(BaseStrategy[Params]):
    name, title, Params = "crossing", "Buy what climbs", Params
    uses_schedule = False

    def signals(self, view: AsOfView) -> Signals:
        quotes, p, above, found = view.quotes(), self.params, False, []
        for known_at, mid in zip(quotes.known_at.tolist(), quotes.mid.tolist(), strict=True):
            if mid < 0 or (mid > p.level) == above:
                continue
            above = mid > p.level
            found.append(
                Signal(
                    ts=known_at,
                    inputs_known_at=known_at,
                    outcome_index=0,
                    action=Action.ENTER if above else Action.EXIT,
                    stop_price=p.level - p.stop if above else None,
                    trailing=p.trailing if above else None,
                )
            )
        return Signals.of(found)


class Event(EventStrategy[Params]):
    name, title, Params = "crossing_event", "Buy what climbs", Params
    uses_schedule = False
    above = False

    def on_price(self, context: Context, outcome: int, quote: Quote) -> None:
        p = self.params
        if outcome or quote.mid is None or (quote.mid > p.level) == self.above:
            return
        self.above = quote.mid > p.level
        if self.above:
            context.enter(stop_price=p.level - p.stop, trailing=p.trailing)
        else:
            context.exit()


@compiled_step
def cross(seen: Any, book: Any, prices: Any, params: Any, memory: Any, wishes: Any) -> int:
    s = seen[0]
    if s["what"] != 5 or s["outcome"] != 0 or s["mid"] < 0:
        return 0
    above = s["mid"] > params[0]
    if above == (memory[0] > 0):
        return 0
    memory[0] = 1.0 if above else 0.0
    wish = wishes[0]
    wish["outcome"] = 0
    wish["want"] = 0 if above else 1
    if above:
        wish["stop"] = int(params[0] - params[1])
        wish["trailing"] = int(params[2])
    return 1


class Compiled(CompiledStrategy[Params]):
    name, title, Params = "crossing_compiled", "Buy what climbs", Params
    uses_schedule = False
    step = cross

    def numbers(self) -> list[float]:
        return [self.params.level, self.params.stop, self.params.trailing]
