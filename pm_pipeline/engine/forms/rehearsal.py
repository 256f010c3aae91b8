"""What a strategy that goes along with a market wants, played alone on what a view shows.

No resolution is consulted: the market neither closes nor pays, it ends where the view ends.
"""

from collections.abc import Callable
from functools import partial

from pm_pipeline.engine.forms.deciders import Decider
from pm_pipeline.engine.scenarios import Scenario
from pm_pipeline.engine.signals import Signal, Signals, Skip
from pm_pipeline.engine.simulation.simulate import simulate
from pm_pipeline.engine.simulation.state import MarketInput, RunConfig
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.warehouse.asof import AsOfView, data_shown_by


def rehearse(name: str, make: Callable[[AsOfView, Nanos], Decider], view: AsOfView) -> Signals:
    """The decisions of a strategy on one market, under the base scenario with the usual settings."""
    played: list[Decider] = []

    def listening(_: AsOfView, start: Nanos) -> Decider:
        played.append(make(view, start))
        return played[-1]

    given = MarketInput(view.market, None, partial(data_shown_by, view), listening)
    simulate([given], RunConfig(), Scenario.BASE, strategy=name, run_id="rehearsal")
    found = [decision for decider in played for decision in decider.decided]
    return Signals.of(
        (decision for decision in found if isinstance(decision, Signal)),
        (decision for decision in found if isinstance(decision, Skip)),
    )
