"""Enter against a sudden move of the price, leave when it has come back."""

from decimal import Decimal
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.signals import Action, Signal, Signals, Skip
from pm_pipeline.markets.clock import HOUR, MINUTE
from pm_pipeline.markets.units import MICRO, to_micro
from pm_pipeline.strategies.base import BaseStrategy, StrategyParams
from pm_pipeline.strategies.indicators import Series, logit, rolling_z
from pm_pipeline.strategies.registry import REGISTRY
from pm_pipeline.warehouse.asof import AsOfView


@REGISTRY.register
class MeanReversion(BaseStrategy["MeanReversion.Params"]):
    """Buy the outcome that fell when the z-score of the logit mid leaves ±entry; exit inside ±exit.

    The price is looked at every ``bar_minutes``. The z-score is taken against the ``window`` looks before
    (:func:`indicators.rolling_z`), and the price must have moved by ``min_move`` dollars since the last look:
    a smaller move cannot pay for spread and fees. A rise of YES is faded by buying NO. One position at a
    time; it ends at the latest after ``max_hold_hours``.
    """

    name = "mean_reversion"
    title = "Fade moves away from the rolling mean of the logit price"

    class Params(StrategyParams):
        """How far is far, and when to give up."""

        bar_minutes: float = Field(15.0, gt=0, le=24 * 60, description="time between two looks, minutes")
        window: int = Field(24, ge=3, le=10_000, description="looks in the rolling mean")
        min_move: Decimal = Field(
            Decimal("0.03"), ge=0, le=1, description="least move that is faded, dollars"
        )
        entry_z: float = Field(2.5, gt=0, le=20, description="enter when |z| is above, standard deviations")
        exit_z: float = Field(0.5, ge=0, le=20, description="exit when |z| is below, standard deviations")
        max_hold_hours: float = Field(48.0, gt=0, le=24 * 90, description="time stop, hours after the entry")
        min_hours_to_close: float = Field(
            12.0, ge=0, le=24 * 365, description="no entry nearer to the scheduled close, hours"
        )

        @model_validator(mode="after")
        def _ordered(self) -> "MeanReversion.Params":
            if self.exit_z >= self.entry_z:
                raise ValueError(f"exit_z {self.exit_z:g} must be below entry_z {self.entry_z:g}")
            return self

    def signals(self, view: AsOfView) -> Signals:
        """Entries against the move, each with its time stop, and exits on the way back."""
        p, close = self.params, view.market.scheduled_close
        if close is None:
            detail = "entries keep away from the scheduled close"
            return Signals.of([], [Skip(view.market.opened_at or 0, Reason.NO_SCHEDULED_CLOSE, detail)])
        series = Series.of(view.quotes(0)).every(int(p.bar_minutes * MINUTE), view.until)
        z = rolling_z(logit(series.mid), p.window)
        far = (np.abs(z) > p.entry_z) & (
            np.abs(np.diff(series.mid, prepend=series.mid[:1])) >= to_micro(p.min_move)
        )
        hold, last_entry = int(p.max_hold_hours * HOUR), close - int(p.min_hours_to_close * HOUR)
        signals: list[Signal] = []
        skips: list[Skip] = []
        held: Signal | None = None
        # only points beyond a threshold can change the state; the rest are never visited
        for i in np.flatnonzero(far | (np.abs(z) < p.exit_z)).tolist():
            now, score = int(series.known_at[i]), float(z[i])
            if held is not None and held.exit_at is not None and now >= held.exit_at:
                held = None
            if held is not None and abs(score) < p.exit_z:
                signals.append(_signal(series, i, held.outcome_index, action=Action.EXIT, tag="reverted"))
                held = None
            elif held is None and far[i]:
                if now > last_entry:
                    detail = f"z {score:.2f}, the first of its kind"
                    skips = skips or [Skip(now, Reason.TOO_CLOSE_TO_CLOSE, detail)]
                    continue
                held = _signal(
                    series, i, int(score > 0), action=Action.ENTER, exit_at=now + hold, tag="stretched"
                )
                signals.append(held)
        return Signals.of(signals, skips)


def _signal(series: Series, i: int, outcome: int, **what: Any) -> Signal:
    now, mid = int(series.known_at[i]), int(series.mid[i])
    p_market = (MICRO - mid if outcome else mid) / MICRO
    return Signal(ts=now, inputs_known_at=now, outcome_index=outcome, p_market=p_market, **what)
