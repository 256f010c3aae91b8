"""Buy the favourite some time before the scheduled close, and hold it until the market pays."""

from decimal import Decimal
from typing import Literal

from pydantic import Field, model_validator

from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.signals import Action, Signal, Signals, Skip
from pm_pipeline.markets.clock import HOUR, Nanos
from pm_pipeline.markets.units import MICRO, Micro, from_micro, to_micro
from pm_pipeline.strategies.base import BaseStrategy, StrategyParams
from pm_pipeline.strategies.indicators import Series
from pm_pipeline.strategies.registry import REGISTRY
from pm_pipeline.warehouse.asof import AsOfView


@REGISTRY.register
class Favourite(BaseStrategy["Favourite.Params"]):
    """At ``scheduled close - lead`` buy the outcome whose mid lies in [min_price, max_price]; hold.

    The favourite-longshot bias says that favourites win a little more often than their price. The true close
    is never looked at. Where both outcomes qualify, the dearer one is bought. The order accepts no price
    above ``max_price``.
    """

    name = "favourite"
    title = "Buy the favourite before the scheduled close and hold to resolution"

    class Params(StrategyParams):
        """When to decide, and which prices are a favourite's."""

        lead_hours: float = Field(24.0, gt=0, le=24 * 90, description="hours before the scheduled close")
        min_price: Decimal = Field(Decimal("0.80"), ge=0, le=1, description="lowest mid, dollars")
        max_price: Decimal = Field(Decimal("0.97"), ge=0, le=1, description="highest mid and price, dollars")
        outcomes: Literal["either", "yes", "no"] = Field("either", description="which outcomes may be bought")
        max_age_hours: float = Field(2.0, gt=0, le=24 * 7, description="oldest usable mid, hours")

        @model_validator(mode="after")
        def _ordered(self) -> "Favourite.Params":
            if self.min_price > self.max_price:
                raise ValueError(f"min_price {self.min_price} is above max_price {self.max_price}")
            return self

    def signals(self, view: AsOfView) -> Signals:
        """At most one entry, or one skip with its reason."""
        market, p = view.market, self.params
        if market.scheduled_close is None:
            return _skip(market.opened_at or 0, Reason.NO_SCHEDULED_CLOSE, "the decision counts back from it")
        decided = market.scheduled_close - int(p.lead_hours * HOUR)
        if market.opened_at is not None and decided < market.opened_at:
            return _skip(decided, Reason.NOT_OPEN, f"it lived for less than {p.lead_hours:g} h")
        if view.until < decided:
            return Signals()
        then = view.as_of(decided)
        candidates, known = [], 0
        for outcome in _OUTCOMES[p.outcomes]:
            series = Series.of(then.quotes(outcome))
            if not len(series) or decided - int(series.ts[-1]) > int(p.max_age_hours * HOUR):
                detail = f"no mid of outcome {outcome} within {p.max_age_hours:g} h"
                return _skip(decided, Reason.NO_PRICE, detail)
            candidates.append((int(series.mid[-1]), -outcome))
            known = max(known, int(series.known_at[-1]))
        mid, negated = max(candidates)
        low, high = _micro(p.min_price), _micro(p.max_price)
        qualified = [c for c in candidates if low <= c[0] <= high]
        if not qualified:
            return _skip(decided, Reason.NO_CANDIDATE, f"the dearest mid is {from_micro(mid):f}")
        mid, negated = max(qualified)
        return Signals.of(
            [
                Signal(
                    ts=decided,
                    inputs_known_at=known,
                    outcome_index=-negated,
                    action=Action.ENTER,
                    p_market=mid / MICRO,
                    limit_price=high,
                    tag="favourite",
                )
            ]
        )


_OUTCOMES = {"either": (0, 1), "yes": (0,), "no": (1,)}


def _micro(price: Decimal) -> Micro:
    return to_micro(price, "half_even")


def _skip(ts: Nanos, reason: Reason, detail: str) -> Signals:
    return Signals.of([], [Skip(ts, reason, detail)])
