"""Fees that a venue states on its own listings, as dated rules.

Kalshi names a fee type and a multiplier on every series, may override both on an event, may waive the fees of
a market until a date, and lists all changes with their times. Laid over the packaged tables
(:meth:`~pm_pipeline.markets.rules.RuleBook.overlaid`), what the venue says itself decides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Final

from pm_pipeline.errors import PipelineError, did_you_mean
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.rule_tables import RuleRow

MAKER_FACTOR: Final[Mapping[str, int]] = {
    "quadratic": 0,
    "quadratic_with_maker_fees": 1,
    "quadratic_with_combo_maker_fees": 2,
}
"""What each of Kalshi's fee types makes of the multiplier for makers: nothing, the usual maker rate of a
quarter of the taker's, or half of it. Takers pay by the multiplier alone. Source: openapi, ``FeeType``.
"""


class ListedFeeError(PipelineError):
    """A venue states a fee that we cannot charge: an unknown type, or a multiplier that is none.

    A multiplier is not negative and has six decimals at most.
    """


@dataclass(frozen=True, slots=True)
class ListedFee:
    """What one listing says: this type and multiplier bind ``scope`` from ``valid_from`` until ``valid_to``.

    A waiver is a multiplier of 0. ``known_at`` is when the listing was read.
    """

    venue: Venue
    scope: str
    fee_type: str
    multiplier: Decimal
    valid_from: Nanos
    valid_to: Nanos
    source: str
    known_at: Nanos

    def __post_init__(self) -> None:
        if self.fee_type not in MAKER_FACTOR:
            hint = did_you_mean(self.fee_type, MAKER_FACTOR)
            raise ListedFeeError(f"{self.scope}: the fee type {self.fee_type!r} is not known{hint}")
        factor = self.multiplier
        if not factor.is_finite() or factor < 0 or factor != round(factor, 6):
            raise ListedFeeError(f"{self.scope}: a fee multiplier of {self.multiplier} cannot be")

    def to_rule(self) -> RuleRow:
        """The same as a row of the fee schedules; it states the multipliers and nothing else."""
        return RuleRow(
            rule="fee_schedule",
            venue=self.venue,
            scope=self.scope,
            valid_from=self.valid_from,
            valid_to=self.valid_to,
            cells={
                "taker_multiplier": f"{self.multiplier:f}",
                "maker_multiplier": f"{self.multiplier * MAKER_FACTOR[self.fee_type]:f}",
            },
            source=self.source,
            origin=f"catalog.listed_fees {self.scope}",
        )


@dataclass(frozen=True, slots=True)
class FeeChange:
    """One entry of a venue's list of changes. Without a type an override ends."""

    at: Nanos
    fee_type: str | None
    multiplier: Decimal | None


def dated(
    changes: Iterable[FeeChange], *, venue: Venue, scope: str, source: str, known_at: Nanos
) -> list[ListedFee]:
    """The intervals between changes, in the order of time; of several at one moment the last listed holds.

    Nothing is said about the time before the first change, nor while no override is in force.

    Raises
    ------
    ListedFeeError
        when a change names a type without a multiplier, or a multiplier without a type.
    """
    by_time = {change.at: change for change in changes}
    found = []
    for start, end in pairwise([*sorted(by_time), FOREVER]):
        fee_type, multiplier = by_time[start].fee_type, by_time[start].multiplier
        if (fee_type is None) != (multiplier is None):
            raise ListedFeeError(f"{scope}: the fee type is {fee_type}, but its multiplier is {multiplier}")
        if fee_type is not None and multiplier is not None:
            found.append(ListedFee(venue, scope, fee_type, multiplier, start, end, source, known_at))
    return found


def rules_of(listed: Iterable[ListedFee]) -> list[RuleRow]:
    """The rows of the newest reading of each scope."""
    newest: dict[tuple[Venue, str], list[ListedFee]] = {}
    for fee in sorted(listed, key=lambda fee: (fee.known_at, fee.valid_from)):
        rows = newest.setdefault((fee.venue, fee.scope), [])
        if rows and rows[0].known_at < fee.known_at:
            rows.clear()
        rows.append(fee)
    return [fee.to_rule() for rows in newest.values() for fee in rows]
