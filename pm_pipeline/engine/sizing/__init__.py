"""How much to bet: Kelly in its forms, its shares, and the plain alternatives. Pure functions."""

from pm_pipeline.engine.sizing.constrained import DrawdownRisk, constrained_fraction
from pm_pipeline.engine.sizing.depth import Offer, Purchase, kelly_purchase
from pm_pipeline.engine.sizing.exclusive import Allocation, exclusive_fractions, exclusive_growth
from pm_pipeline.engine.sizing.kelly import (
    break_even,
    chance_of_falling_to,
    growth,
    kelly_fraction,
    payoff_after_fee,
    relative_growth,
)
from pm_pipeline.engine.sizing.portfolio import (
    MOST_SOLVED,
    Ends,
    best_fractions,
    exclusive,
    independent,
    simultaneous_fractions,
)
from pm_pipeline.engine.sizing.sets import Step, break_even_mismatch, walk_sets, worst_profit
from pm_pipeline.engine.sizing.shrinkage import fair_price_error, shrink, weight
from pm_pipeline.engine.sizing.sizer import Bet, NoBet, Sizing, SizingMode, wanted_stake, within

__all__ = [
    "MOST_SOLVED",
    "Allocation",
    "Bet",
    "DrawdownRisk",
    "Ends",
    "NoBet",
    "Offer",
    "Purchase",
    "Sizing",
    "SizingMode",
    "Step",
    "best_fractions",
    "break_even",
    "break_even_mismatch",
    "chance_of_falling_to",
    "constrained_fraction",
    "exclusive",
    "exclusive_fractions",
    "exclusive_growth",
    "fair_price_error",
    "growth",
    "independent",
    "kelly_fraction",
    "kelly_purchase",
    "payoff_after_fee",
    "relative_growth",
    "shrink",
    "simultaneous_fractions",
    "walk_sets",
    "wanted_stake",
    "weight",
    "within",
    "worst_profit",
]
