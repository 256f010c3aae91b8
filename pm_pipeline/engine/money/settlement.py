"""Settlement: from open to paid, and nothing guessed on the way.

``open → closed → pending → disputed? → resolved | void``. Orders die when trading ends; what was bought stays
locked until ``resolved_at``, when the payout (0, 1, a half, any split of a dollar) or the refund of a void
market arrives. A market whose end is not known is never paid: its position stays open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.resolution import Resolution, ResolutionStatus
from pm_pipeline.markets.units import MICRO, Micro

_S = ResolutionStatus

TRANSITIONS: Final[dict[ResolutionStatus, frozenset[ResolutionStatus]]] = {
    _S.OPEN: frozenset({_S.CLOSED}),
    _S.CLOSED: frozenset({_S.PENDING, _S.RESOLVED, _S.VOID}),
    _S.PENDING: frozenset({_S.DISPUTED, _S.RESOLVED, _S.VOID}),
    _S.DISPUTED: frozenset({_S.PENDING, _S.RESOLVED, _S.VOID}),
    _S.RESOLVED: frozenset(),
    _S.VOID: frozenset(),
}
"""Which state may follow which. A paid market never changes again."""

PAYOUT_STEP: Final[dict[Venue, Micro]] = {Venue.KALSHI: MICRO // 100}
"""What a payout is cut down to: Kalshi pays whole cents and keeps the rest of a scalar payout as a fee."""


class SettlementError(PipelineError):
    """A market cannot go from one state to the other."""


def advance(now: ResolutionStatus, to: ResolutionStatus) -> ResolutionStatus:
    """Return ``to`` if the state machine allows it after ``now``, else raise :class:`SettlementError`."""
    if to not in TRANSITIONS[now]:
        allowed = ", ".join(sorted(TRANSITIONS[now])) or "nothing"
        raise SettlementError(f"a market that is {now} cannot become {to}; after {now} comes {allowed}")
    return to


@dataclass(frozen=True, slots=True)
class Settlement:
    """When one market stops trading and when and what it pays.

    ``closed_at`` and ``paid_at`` are :data:`FOREVER` where unknown. ``payouts`` is ``None`` for a refund and
    for a market that is not paid.
    """

    closed_at: Nanos
    paid_at: Nanos
    ends_as: ResolutionStatus
    payouts: tuple[Micro, ...] | None
    disputed: bool

    @classmethod
    def of(cls, resolution: Resolution | None) -> "Settlement":
        """Read a resolution. Without one the market neither closes nor pays.

        Where the end of trading is not recorded, the payment ends it; trading never outlives the payment.
        """
        if resolution is None:
            return cls(FOREVER, FOREVER, ResolutionStatus.OPEN, None, disputed=False)
        final = resolution.status in _PAID
        paid_at = resolution.resolved_at if final and resolution.resolved_at is not None else FOREVER
        closed_at = FOREVER if resolution.closed_at is None else resolution.closed_at
        disputed = resolution.was_disputed or resolution.status is ResolutionStatus.DISPUTED
        return cls(min(closed_at, paid_at), paid_at, resolution.status, resolution.payouts, disputed)

    def status_at(self, t: Nanos) -> ResolutionStatus:
        """The state at ``t``. The moment of an objection is not recorded, so a disputed market counts as
        disputed from its close to its payment.
        """
        if t < self.closed_at:
            return ResolutionStatus.OPEN
        if t >= self.paid_at:
            return self.ends_as
        if self.disputed:
            return ResolutionStatus.DISPUTED
        return ResolutionStatus.PENDING if self.ends_as in _PAID else self.ends_as


def payout_value(payout: Micro, size: Micro, venue: Venue) -> Micro:
    """What ``size`` contracts receive at ``payout`` each, cut down to what the venue pays out."""
    step = PAYOUT_STEP.get(venue, 1)
    return payout * size // MICRO // step * step


def payout_amounts(payouts: Sequence[Micro], sizes: Mapping[int, Micro], venue: Venue) -> dict[int, Micro]:
    """What each outcome's position receives, by outcome index.

    The positions of a market are paid as one sum, cut once, so that a full set of outcomes receives exactly
    one dollar per contract. What cutting each position by itself would lose goes to the first that is paid.
    """
    amounts = {
        outcome: payout_value(payouts[outcome], size, venue) for outcome, size in sorted(sizes.items())
    }
    whole = payout_value(1, sum(payouts[outcome] * size for outcome, size in sizes.items()), venue)
    if lost := whole - sum(amounts.values()):
        amounts[min(outcome for outcome, size in sizes.items() if payouts[outcome] * size)] += lost
    return amounts


_PAID: Final = frozenset({ResolutionStatus.RESOLVED, ResolutionStatus.VOID})
