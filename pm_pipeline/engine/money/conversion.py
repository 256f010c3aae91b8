"""Swaps that need no counterparty: split, merge, redeem, and the conversion of a neg-risk group.

They are what the Conditional Tokens contract and Polymarket's NegRiskAdapter do with holdings. Each is one
exact entry in the ledger (:meth:`~pm_pipeline.engine.money.ledger.Ledger.exchange`); the rules of cost stand
as a table in ``docs/engine.md``.
"""

from collections.abc import Sequence
from typing import Final

from pm_pipeline.engine.money.ledger import Credit, Exchange, Holding, Ledger, LedgerError
from pm_pipeline.engine.money.settlement import payout_amounts
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.markets.market import MarketGroup
from pm_pipeline.markets.units import Micro

YES: Final = 0
NO: Final = 1

BASIS_POINTS: Final = 10_000


def split(ledger: Ledger, market_key: MarketKey, size: Micro, *, outcomes: int = 2) -> Exchange:
    """Pay a dollar per contract and get ``size`` of every outcome; the cost goes to them in equal parts.

    Raises :class:`LedgerError` where the cash is not there or trading has ended.
    """
    return ledger.exchange({}, _set(market_key, size, outcomes), -size)


def merge(ledger: Ledger, market_key: MarketKey, size: Micro, *, outcomes: int = 2) -> Exchange:
    """Give ``size`` of every outcome and get a dollar per contract, also after trading has ended.

    Raises :class:`LedgerError` where one of the outcomes is not held in that size.
    """
    return ledger.exchange(_set(market_key, size, outcomes), {}, size)


def redeem(ledger: Ledger, market_key: MarketKey, payouts: Sequence[Micro]) -> dict[int, Credit]:
    """After the resolution: give everything held of a market for its payout; by outcome index."""
    sizes = {h.outcome_index: held.size for h, held in ledger.positions() if h.market_key == market_key}
    return ledger.settle(market_key, payout_amounts(payouts, sizes, market_key.venue))


def convert(
    ledger: Ledger, group: MarketGroup, no_of: Sequence[MarketKey], size: Micro, *, fee_bips: int = 0
) -> Exchange:
    """Give NO of ``k`` markets of a group; get YES of all others and ``k - 1`` dollars per contract.

    At most one market of the group pays YES, so ``k - 1`` of the NO are certain. ``fee_bips`` is the share
    in basis points that the group keeps of everything it hands out (0 on all groups seen).

    Raises
    ------
    LedgerError
        when the group is not exclusive, a market is not part of it or named twice, or a NO is not held.
    """
    if not group.exclusive:
        raise LedgerError(f"{group.group_key} is not exclusive: several of its markets may pay, or none")
    chosen = set(no_of)
    if not chosen or len(chosen) != len(no_of) or not chosen <= set(group.market_keys):
        raise LedgerError(f"name markets of {group.group_key} once each, at least one of them")
    if not 0 <= fee_bips < BASIS_POINTS:
        raise LedgerError(f"a fee of {fee_bips} basis points leaves nothing to convert")
    out = size - size * fee_bips // BASIS_POINTS
    return ledger.exchange(
        {Holding(key, NO): size for key in chosen},
        {Holding(key, YES): out for key in group.market_keys if key not in chosen},
        (len(chosen) - 1) * out,
    )


def _set(market_key: MarketKey, size: Micro, outcomes: int) -> dict[Holding, Micro]:
    if size <= 0:
        raise LedgerError(f"a set of {size} contracts (millionths) is none")
    return {Holding(market_key, outcome): size for outcome in range(outcomes)}
