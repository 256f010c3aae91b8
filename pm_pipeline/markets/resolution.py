"""How a market ended: what each outcome pays, since when, and who says so.

Only settlement, research and reports may read this. No signal may depend on it.
"""

from collections.abc import Iterable, Sequence
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one source says of the end of a market, as read at ``known_at``.

    ``trusted`` says whether it may decide: a last price, for one, may not. ``note`` holds the source's own
    words, and why it is not trusted. ``was_disputed`` is ``None`` where the source does not say.
    """

    market_key: MarketKey
    source: str
    status: ResolutionStatus
    payouts: tuple[Micro, ...] | None
    resolved_at: Nanos | None
    was_disputed: bool | None
    trusted: bool
    note: str
    known_at: Nanos

    @classmethod
    def of(cls, resolution: Resolution, known_at: Nanos) -> "Claim":
        """The claim of a venue that is the only one to speak of its markets."""
        return cls(
            market_key=resolution.market_key,
            source=resolution.market_key.venue.value,
            status=resolution.status,
            payouts=resolution.payouts,
            resolved_at=resolution.resolved_at,
            was_disputed=resolution.was_disputed,
            trusted=True,
            note=resolution.source,
            known_at=known_at,
        )


def contradiction(claims: Iterable[Claim], *, whole: bool) -> str:
    """Why these claims cannot all be true, with the values of both sides; empty where they can.

    Only trusted claims that name payouts count. ``whole``: one outcome takes the dollar, as in a neg-risk
    group, whose contract refuses to split it.
    """
    stated = [claim for claim in claims if claim.trusted and claim.payouts is not None]
    shown = "; ".join(f"{claim.source} says {shares(claim.payouts or ())}" for claim in stated)
    if len({claim.payouts for claim in stated}) > 1:
        return shown
    if whole and any(MICRO not in (claim.payouts or ()) for claim in stated):
        return f"{shown}, but a market of a neg-risk group cannot be split"
    return ""


def shares(payouts: Sequence[Micro] | None) -> str:
    """Payouts as people write them: ``1/0``, ``0.5/0.5``; ``nothing`` where there are none."""
    return "/".join(f"{payout / MICRO:g}" for payout in payouts) if payouts else "nothing"


def check_payouts(payouts: Sequence[Micro]) -> None:
    """Raise :class:`PayoutError` unless all payouts lie in [0, 1] and together make exactly one dollar."""
    if any(not 0 <= payout <= MICRO for payout in payouts) or sum(payouts) != MICRO:
        raise PayoutError(f"payouts {tuple(payouts)} (millionths) are not a split of one dollar")
