"""How a market ended: what each outcome pays, since when, and who says so.

Only settlement, research and reports may read this. No signal may depend on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.markets.units import MICRO, Micro


class ResolutionStatus(StrEnum):
    """Where a market stands on its way to being paid."""

    OPEN = "open"
    CLOSED = "closed"
    PENDING = "pending"
    DISPUTED = "disputed"
    RESOLVED = "resolved"
    VOID = "void"


class PayoutError(PipelineError):
    """A payout vector that no venue can pay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The end of one market as known at ``known_at``.

    ``payouts`` holds micro-dollars per contract and outcome: ``(1_000_000, 0)`` for YES,
    ``(500_000, 500_000)`` for a tie, any split of a dollar for a scalar result; ``None`` while nothing is
    decided, and for a void market, whose buyers get back what they paid.
    ``closed_at`` is when trading truly ended, ``resolved_at`` when the money moved.
    """

    market_key: MarketKey
    status: ResolutionStatus
    payouts: tuple[Micro, ...] | None
    closed_at: Nanos | None
    resolved_at: Nanos | None
    known_at: Nanos
    source: str
    was_disputed: bool = False

    def __post_init__(self) -> None:
        if self.status is ResolutionStatus.RESOLVED:
            if self.payouts is None or self.resolved_at is None:
                raise PayoutError(f"{self.market_key} is resolved but lacks its payouts or its time")
            check_payouts(self.payouts)
        elif self.payouts is not None:
            raise PayoutError(f"{self.market_key} is {self.status} but names payouts")


def check_payouts(payouts: Sequence[Micro]) -> None:
    """Raise :class:`PayoutError` unless all payouts lie in [0, 1] and together make exactly one dollar."""
    if any(not 0 <= payout <= MICRO for payout in payouts) or sum(payouts) != MICRO:
        raise PayoutError(f"payouts {tuple(payouts)} (millionths) are not a split of one dollar")
