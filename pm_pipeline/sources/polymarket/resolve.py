"""How a Polymarket market ended, and who says so.

The chain's payouts (Data API) go first. Gamma's last prices count only where the oracle's answer is final
and they are payouts; 50-50 is a result like any other.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution, ResolutionStatus
from pm_pipeline.markets.units import MICRO, Micro, divide
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.data import RESOLUTIONS
from pm_pipeline.sources.polymarket.gamma import closed_at
from pm_pipeline.sources.polymarket.wire import GammaMarket, ResolutionRow, maybe_moment, packed
from pm_pipeline.sources.wire import price

_STATUS: Final[Mapping[str, ResolutionStatus | None]] = {
    "initialized": None,
    "posed": None,
    "active": None,
    "proposed": ResolutionStatus.PENDING,
    "reproposed": ResolutionStatus.PENDING,
    "challenged": ResolutionStatus.DISPUTED,
    "disputed": ResolutionStatus.DISPUTED,
    "arbitration": ResolutionStatus.DISPUTED,
    "resolved": ResolutionStatus.RESOLVED,
}
"""What the oracle's states mean; ``None``: nothing proposed yet, the market is open or just closed."""

_PAYOUTS: Final = frozenset({0, MICRO // 2, MICRO})
"""Prices that can be payouts; anything between is a price at which somebody once traded."""


def to_resolution(market: Market, raw: GammaMarket, row: ResolutionRow | None, now: Nanos) -> Resolution:
    """Where ``market`` stands, from its Gamma record and its row of ``/v2/resolutions``, if it has one.

    Raises
    ------
    BadResponse
        for a state we do not know, payouts that are no split of a dollar, or a resolution without a time.
    """
    endpoint = f"/markets/{market.key.native_id}"
    closed = closed_at(raw, endpoint)
    disputed = (row is not None and row.was_disputed) or raw.uma_resolution_status == "disputed"
    result = partial(Resolution, market_key=market.key, closed_at=closed, was_disputed=disputed)
    if row is not None and row.status == "resolved" and row.payouts:
        resolved_at = _chain_time(row)
        return result(
            status=ResolutionStatus.RESOLVED,
            payouts=_shares(row.payouts, market),
            resolved_at=resolved_at,
            known_at=resolved_at,
            source=f"data:{RESOLUTIONS}",
        )
    final = _final_prices(raw, market, endpoint)
    ended = maybe_moment(raw.uma_end_date, endpoint, "umaEndDate") or closed
    if final is not None and ended is not None and (row is None or row.status == "resolved"):
        return result(
            status=ResolutionStatus.RESOLVED,
            payouts=final,
            resolved_at=ended,
            known_at=ended,
            source="gamma:outcomePrices",
        )
    return result(
        status=_pending(row, raw, closed),
        payouts=None,
        resolved_at=None,
        known_at=now,
        source=f"data:{RESOLUTIONS}" if row is not None else "gamma:umaResolutionStatus",
    )


def _chain_time(row: ResolutionRow) -> Nanos:
    resolved_at = maybe_moment(row.resolved_at, RESOLUTIONS, "resolved_at")
    resolved_at = resolved_at or maybe_moment(row.last_update_timestamp, RESOLUTIONS, "last_update_timestamp")
    if resolved_at is None:
        raise BadResponse(f"{RESOLUTIONS}: {row.condition_id} is resolved, but resolved_at is missing")
    return resolved_at


def _final_prices(raw: GammaMarket, market: Market, endpoint: str) -> tuple[Micro, ...] | None:
    """Gamma's prices as payouts where they are final, else ``None``.

    Markets of 2020 to 2022 show 0 for every outcome: the result cannot be told from Gamma.
    """
    if raw.uma_resolution_status != "resolved":
        return None
    texts = packed(raw.outcome_prices, endpoint, "outcomePrices")
    prices = tuple(price(text, endpoint, "outcomePrices") for text in texts)
    if len(prices) != len(market.instruments) or not _PAYOUTS.issuperset(prices) or sum(prices) != MICRO:
        return None
    return prices


def _pending(row: ResolutionRow | None, raw: GammaMarket, closed: Nanos | None) -> ResolutionStatus:
    said = row.status if row is not None else (raw.uma_resolution_status or "initialized")
    if said not in _STATUS:
        raise BadResponse(f"{RESOLUTIONS}: status is {said!r}, which we do not know")
    status = _STATUS[said]
    if status is ResolutionStatus.RESOLVED:
        return ResolutionStatus.PENDING  # resolved, they say, but not yet what it pays
    if status is None:
        return ResolutionStatus.OPEN if closed is None else ResolutionStatus.CLOSED
    return status


def _shares(numerators: Sequence[int], market: Market) -> tuple[Micro, ...]:
    """Payouts are numerators over their sum, as on the chain: ``[1, 1]`` pays half a dollar each.

    Rounding goes down, and the last outcome gets what is left, so that they make exactly one dollar.
    """
    whole = sum(numerators)
    if len(numerators) != len(market.instruments) or min(numerators) < 0 or not 0 < whole < 2**63:
        raise BadResponse(f"{RESOLUTIONS}: {market.condition_id} pays {list(numerators)}")
    shares = [divide(numerator * MICRO, whole, "floor") for numerator in numerators[:-1]]
    return (*shares, MICRO - sum(shares))
