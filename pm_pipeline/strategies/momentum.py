"""Follow a move of the price, and leave on a target, a trailing stop or after a time."""

from decimal import Decimal

import numpy as np
from pydantic import Field

from pm_pipeline.engine.signals import Action, Signal, Signals
from pm_pipeline.markets.clock import HOUR, MINUTE
from pm_pipeline.markets.units import MICRO, to_micro
from pm_pipeline.strategies.base import BaseStrategy, StrategyParams
from pm_pipeline.strategies.indicators import Series, change_over, logit
from pm_pipeline.strategies.registry import REGISTRY
from pm_pipeline.warehouse.asof import AsOfView


@REGISTRY.register
class Momentum(BaseStrategy["Momentum.Params"]):
    """Buy YES when its logit mid rose by more than ``threshold`` within the look-back, NO when it fell so.

    The price is looked at every ``bar_minutes``.
    After an entry the next one waits until the time exit of the first has passed.
    """

    name = "momentum"
    title = "Follow the move of the logit price over a look-back"
    uses_schedule = False

    class Params(StrategyParams):
        """What is a move, and how the position ends."""

        bar_minutes: float = Field(15.0, gt=0, le=24 * 60, description="time between two looks, minutes")
        lookback_hours: float = Field(6.0, gt=0, le=24 * 30, description="length of the move, hours")
        threshold: float = Field(0.5, gt=0, le=10, description="change of ln(p/(1-p)) that counts as a move")
        trailing: Decimal = Field(
            Decimal("0.05"), gt=0, le=1, description="leave this far below the best bid since entry, dollars"
        )
        target: Decimal = Field(
            Decimal("0.15"), gt=0, le=1, description="leave at this gain over the mid at entry, dollars"
        )
        max_hold_hours: float = Field(24.0, gt=0, le=24 * 90, description="leave after so many hours")

    def signals(self, view: AsOfView) -> Signals:
        """Entries only; the exits are rules of each position."""
        p = self.params
        series = Series.of(view.quotes(0)).every(int(p.bar_minutes * MINUTE), view.until)
        change = change_over(series.ts, logit(series.mid), int(p.lookback_hours * HOUR))
        hold = int(p.max_hold_hours * HOUR)
        signals: list[Signal] = []
        free_at = 0
        for i in np.flatnonzero(np.abs(change) > p.threshold).tolist():
            now = int(series.known_at[i])
            if now < free_at:
                continue
            outcome = int(change[i] < 0)
            mid = MICRO - int(series.mid[i]) if outcome else int(series.mid[i])
            free_at = now + hold
            signals.append(
                Signal(
                    ts=now,
                    inputs_known_at=now,
                    outcome_index=outcome,
                    action=Action.ENTER,
                    p_market=mid / MICRO,
                    target_price=min(mid + to_micro(p.target, "half_even"), MICRO),
                    trailing=to_micro(p.trailing, "half_even"),
                    exit_at=free_at,
                    tag="up" if outcome == 0 else "down",
                )
            )
        return Signals.of(signals)
