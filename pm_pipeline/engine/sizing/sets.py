"""Complete sets: buy something on every outcome, so that what comes back does not depend on how it ends.

YES and NO of one market, YES on all outcomes of an exhaustive group, NO on all of them, or the two sides of
one question on two venues. Everything is exact. What is counted is the *worst* end: a fee on winnings makes
the ends differ. A group to which an outcome can still be added is not exhaustive, and two venues may decide
one question differently: :func:`break_even_mismatch` says how sure of that one must be.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from pm_pipeline.engine.sizing.depth import Offer
from pm_pipeline.markets.units import Micro


class Step(NamedTuple):
    """``size`` sets (millionths) that cost ``cost`` and earn at least ``profit`` dollars each."""

    size: Micro
    cost: Fraction
    profit: Fraction


def worst_profit(legs: Sequence[Offer], *, losers: int | None = None) -> Fraction:
    """What one contract of each leg earns at the worst, in dollars, after all fees.

    By default one leg wins. ``losers=1`` says that all legs but one win: NO on every outcome of a group.

    Raises ``ValueError`` without a leg, or where more legs lose than there are.
    """
    winners = 1 if losers is None else len(legs) - losers
    if not 0 < winners <= len(legs):
        raise ValueError(f"{winners} of {len(legs)} legs cannot win")
    return sum(sorted(leg.payoff for leg in legs)[:winners], Fraction(0)) - sum(leg.cost for leg in legs)


def walk_sets(
    books: Sequence[Sequence[Offer]], *, least: Fraction = Fraction(0), losers: int | None = None
) -> list[Step]:
    """The sets to buy: along all books at once, while the next set earns more than nothing and ``least``.

    Each book holds the offers of one leg in the order of rising cost.
    """
    at = [0] * len(books)
    left = [book[0].size if book else 0 for book in books]
    steps = []
    while books and all(i < len(book) for i, book in zip(at, books, strict=True)):
        legs = [book[i] for i, book in zip(at, books, strict=True)]
        profit = worst_profit(legs, losers=losers)
        if profit <= 0 or profit < least:
            break
        size = min(left)
        if size > 0:
            steps.append(Step(size, sum((leg.cost for leg in legs), Fraction(0)), profit))
        for k, book in enumerate(books):
            left[k] -= size
            if left[k] <= 0:
                at[k] += 1
                left[k] = book[at[k]].size if at[k] < len(book) else 0
    return steps


def break_even_mismatch(cost: Fraction, paid_if_mismatched: Fraction = Fraction(0)) -> Fraction:
    """The probability of the venues disagreeing at which a set that pays one dollar earns nothing.

    ``paid_if_mismatched`` is what the set pays then: nothing at the worst.

    Raises ``ValueError`` where a mismatch would not hurt.
    """
    if paid_if_mismatched >= 1:
        raise ValueError("a mismatch that pays a dollar or more is no risk")
    return (1 - cost) / (1 - paid_if_mismatched)
