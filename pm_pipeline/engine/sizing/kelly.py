"""The Kelly fraction of one bet that ends in one of two ways, and what a share of it grows and risks.

A contract costs ``cost`` dollars with all fees of the entry and pays ``payoff`` dollars if it wins, else
nothing. ``payoff`` is 1, or less where the venue takes its fee from the winnings. NO is such a contract too,
with its own probability and its own cost; that cost is ``1 - bid of YES`` only where the venue's book is one.

Source: J. L. Kelly, "A New Interpretation of Information Rate", 1956; E. Thorp, "The Kelly criterion in
blackjack, sports betting, and the stock market", 1997.
"""

import math


def kelly_fraction(p: float, cost: float, payoff: float = 1.0) -> float:
    """The share of the bankroll to *spend* (the most that can be lost) for the fastest growth.

    ``p - (1 - p) * cost / (payoff - cost)``. At most zero where there is no edge: do not buy. Minus infinity
    where even a win does not pay the cost.

    Raises ``ValueError`` for a probability outside [0, 1] or a cost that is not positive.
    """
    check_probability(p)
    if cost <= 0:
        raise ValueError(f"a contract that costs {cost} dollars is not a bet")
    if cost >= payoff:
        return -math.inf
    return p - (1.0 - p) * cost / (payoff - cost)


def break_even(cost: float, payoff: float = 1.0) -> float:
    """The probability at which the contract is worth its cost."""
    return cost / payoff


def payoff_after_fee(price: float, rate: float) -> float:
    """What a winning contract pays where the venue takes the share ``rate`` of its net winnings."""
    return 1.0 - rate * (1.0 - price)


def growth(p: float, cost: float, fraction: float, payoff: float = 1.0) -> float:
    """Expected change of the logarithm of the bankroll when ``fraction`` of it is spent.

    Minus infinity where all may be lost.
    """
    check_probability(p)
    won, lost = 1.0 + fraction * (payoff - cost) / cost, 1.0 - fraction
    if (p > 0 and won <= 0) or (p < 1 and lost <= 0):
        return -math.inf
    return (p * math.log(won) if p > 0 else 0.0) + ((1.0 - p) * math.log(lost) if p < 1 else 0.0)


def relative_growth(multiple: float) -> float:
    """Growth at ``multiple`` times Kelly, as a share of the growth at Kelly: ``c * (2 - c)``.

    Exact for small bets. Half of Kelly keeps 75 %, a quarter keeps 43.75 %, twice Kelly grows nothing.
    """
    return multiple * (2.0 - multiple)


def chance_of_falling_to(share: float, multiple: float) -> float:
    """The probability that the bankroll is *ever* at or below ``share`` of where it started.

    ``share ** (2 / c - 1)`` at ``c`` times Kelly, for small bets over an endless run: full Kelly halves with
    probability one half. From the *peak* any fixed fraction falls that far in the end, with certainty.

    Raises ``ValueError`` unless ``share`` lies in (0, 1] and ``multiple`` in (0, 2).
    """
    if not 0.0 < share <= 1.0 or not 0.0 < multiple < 2.0:
        raise ValueError(f"share {share} must lie in (0, 1], the multiple of Kelly {multiple} in (0, 2)")
    return float(share ** (2.0 / multiple - 1.0))


def check_probability(p: float) -> None:
    """Raise ``ValueError`` for what is not a probability; NaN is none."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{p} is not a probability")
