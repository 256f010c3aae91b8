"""How much an entry should spend: the named ways, and the order of operations.

The order is fixed: what the way of sizing wants, never below zero; then at most ``most`` of the equity; then,
if less than ``least`` of the equity is left, nothing. Nothing is ever rounded up. Lots come last, where the
order meets a book, and can only take away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from pm_pipeline.engine.sizing.constrained import DrawdownRisk, constrained_fraction
from pm_pipeline.engine.sizing.depth import Offer, kelly_purchase
from pm_pipeline.engine.sizing.kelly import break_even, kelly_fraction
from pm_pipeline.engine.sizing.shrinkage import shrink, weight
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.units import Micro


class SizingMode(StrEnum):
    """The ways to size an entry.

    ``FIXED``: the same dollars every time. ``FRACTION``: the same share of the equity. ``KELLY``: a set share
    of Kelly on the walked depth. ``DRAWDOWN_KELLY``: the share of Kelly that keeps the stated risk of a
    drawdown.
    """

    FIXED = "fixed"
    FRACTION = "fraction"
    KELLY = "kelly"
    DRAWDOWN_KELLY = "drawdown_kelly"


class NoBet(StrEnum):
    """Why an entry is sized at nothing."""

    NO_BELIEF = "no_belief"
    NO_OFFER = "no_offer"
    NO_EDGE = "no_edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """A way of sizing and its numbers.

    ``fraction`` is the share of equity of mode ``fraction``; ``kelly_share`` the share of Kelly of mode
    ``kelly``. ``drawdown_to`` and ``drawdown_chance`` state the tolerance of mode ``drawdown_kelly``: the
    bankroll ever falls below that share of its start with at most that probability. ``edge_spread`` is the
    standard deviation of true edges, by which a belief with a standard error is shrunk toward the price
    (``None``: beliefs are taken as they come). An entry below ``least`` of the equity is not made.
    """

    mode: SizingMode = SizingMode.FIXED
    fraction: Decimal = Decimal("0.02")
    kelly_share: Decimal = Decimal("0.25")
    drawdown_to: Decimal = Decimal("0.85")
    drawdown_chance: Decimal = Decimal("0.10")
    edge_spread: Decimal | None = None
    least: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        for name in ("fraction", "kelly_share"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it lies in (0, 1]")
        for name in ("drawdown_to", "drawdown_chance"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it lies strictly between 0 and 1")
        if self.edge_spread is not None and self.edge_spread <= 0:
            raise UsageError(f"edge_spread is {self.edge_spread}; it must be positive")
        if not 0 <= self.least < 1:
            raise UsageError(f"least is {self.least}; it lies in [0, 1)")

    @property
    def needs_belief(self) -> bool:
        """Whether a bet is sized by its edge, so that a probability and offers are needed."""
        return self.mode in (SizingMode.KELLY, SizingMode.DRAWDOWN_KELLY)

    @property
    def uses_equity(self) -> bool:
        """Whether the size depends on what the bankroll is worth."""
        return self.mode is not SizingMode.FIXED


class Bet(NamedTuple):
    """What is to be sized.

    ``offers`` are known at the decision, in the order of rising all-in cost; ``price`` is the market's own
    probability, where it is known. ``if_won`` and ``if_lost`` are the wealth before the purchase, see
    :func:`~pm_pipeline.engine.sizing.depth.kelly_purchase`. Money in micro-dollars.
    """

    equity: Micro
    fixed: Micro
    p: float | None = None
    p_se: float | None = None
    price: float | None = None
    offers: Sequence[Offer] = ()
    if_won: Micro = 0
    if_lost: Micro = 0


def wanted_stake(sizing: Sizing, bet: Bet) -> Micro | NoBet:
    """What this way of sizing would spend, in micro-dollars, cut to a micro-dollar, before any cap."""
    match sizing.mode:
        case SizingMode.FIXED:
            return bet.fixed
        case SizingMode.FRACTION:
            return int(sizing.fraction * max(bet.equity, 0))
        case SizingMode.KELLY | SizingMode.DRAWDOWN_KELLY:
            return _kelly_stake(sizing, bet)


def within(wanted: Micro, equity: Micro, *, most: Decimal, least: Decimal = Decimal(0)) -> Micro:
    """``wanted``, at most the share ``most`` of the equity; 0 where less than the share ``least`` is left."""
    stake = min(max(wanted, 0), max(int(most * equity), 0))
    return stake if stake >= least * equity else 0


def _kelly_stake(sizing: Sizing, bet: Bet) -> Micro | NoBet:
    if bet.p is None or math.isnan(bet.p):
        return NoBet.NO_BELIEF
    if not bet.offers:
        return NoBet.NO_OFFER
    cost, payoff = float(bet.offers[0].cost), float(bet.offers[0].payoff)
    even = break_even(cost, payoff)
    p = bet.p
    if sizing.edge_spread is not None and bet.p_se is not None:
        anchor = even if bet.price is None else bet.price
        p = shrink(p, anchor, weight(bet.p_se, float(sizing.edge_spread)))
    full = kelly_fraction(p, cost, payoff)
    if full <= 0.0:
        return NoBet.NO_EDGE
    if sizing.mode is SizingMode.KELLY:
        share = float(sizing.kelly_share)
    else:
        risk = DrawdownRisk.of(float(sizing.drawdown_to), float(sizing.drawdown_chance))
        share = constrained_fraction(p, cost, risk, payoff) / full
    # less of a bet is less of a belief: the walk then still ends where the next contract would not grow
    bought = kelly_purchase(shrink(p, even, share), bet.offers, if_won=bet.if_won, if_lost=bet.if_lost)
    return int(bought.cost) or NoBet.NO_EDGE
