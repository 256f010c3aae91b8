"""Kelly against an order book: buy level by level until the next contract would slow growth down.

The best price alone says too much: at 0.40 with a belief of 0.50 it wants a sixth of the bankroll, where a
book that thins out deserves an eighth. What is held already counts, so that a purchase in two parts ends
where a purchase in one does. The walk is exact: rational numbers, no rounding.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import Final, NamedTuple

from pm_pipeline.engine.sizing.kelly import check_probability
from pm_pipeline.markets.units import Micro

_ONE: Final = Fraction(1)


class Offer(NamedTuple):
    """``size`` contracts (millionths) at ``cost`` dollars each, with all fees of the entry.

    ``payoff`` is what each pays if it wins.
    """

    cost: Fraction
    size: Micro
    payoff: Fraction = _ONE


class Purchase(NamedTuple):
    """How much to buy and what it costs, in millionths, before any rounding to lots."""

    size: Fraction
    cost: Fraction


def kelly_purchase(p: float, offers: Iterable[Offer], *, if_won: Micro, if_lost: Micro) -> Purchase:
    """The purchase with the fastest growth, from offers in the order of rising cost.

    ``if_won`` and ``if_lost`` are the wealth that we would have *before* this purchase, in micro-dollars:
    cash, what is held of this outcome at its payoff, and of the other. At each level the optimum is

        x = (p (w - c) W0 - (1 - p) c W1) / (c (w - c))

    contracts, with cost ``c``, payoff ``w``, and ``W1``, ``W0`` the wealth so far. If it is not positive the
    walk ends, else it takes what the level has of it.

    Raises ``ValueError`` for a probability outside [0, 1] or a cost that is not positive.
    """
    check_probability(p)
    chance = Fraction(p)
    won, lost = Fraction(if_won), Fraction(if_lost)
    bought = spent = Fraction(0)
    for cost, size, payoff in offers:
        if cost <= 0:
            raise ValueError(f"a contract that costs {float(cost)} dollars is not a bet")
        gain = payoff - cost
        if gain <= 0:
            break
        best = (chance * gain * lost - (1 - chance) * cost * won) / (cost * gain)
        if best <= 0:
            break
        taken = min(best, Fraction(size))
        bought, spent = bought + taken, spent + taken * cost
        won, lost = won + taken * gain, lost - taken * cost
        if taken == best:
            break
    return Purchase(bought, spent)
