"""From what the sources say to how a Polymarket market ended.

Each source makes one claim. The chain goes first, then the Data API (which repeats the chain), then the
winner that the CLOB marks, then Gamma's last prices where they can be payouts and the oracle is done. A
50-50 is a result like any other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Claim, Resolution, ResolutionStatus, shares
from pm_pipeline.markets.units import MICRO, Micro, divide, parse_decimal
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.catalog.gamma import closed_at
from pm_pipeline.sources.polymarket.data import RESOLUTIONS
from pm_pipeline.sources.polymarket.wire import ClobMarket, GammaMarket, ResolutionRow, maybe_moment, packed
from pm_pipeline.sources.wire import price

if TYPE_CHECKING:
    from pm_pipeline.sources.polymarket.endings.resolutions import ChainEnd

SOURCES: Final[Mapping[str, str]] = {
    "chain": "chain:ConditionResolution",
    "data": f"data:{RESOLUTIONS}",
    "clob": "clob:/markets",
    "gamma": "gamma:outcomePrices",
}
"""Who may decide, the first before the others, and what of it is read."""

_ON_CHAIN: Final = frozenset({"chain", "data"})
"""Who tells the time of the block in which the money moved."""

_STATUS: Final[Mapping[str, ResolutionStatus | None]] = {
    "initialized": None,
    "posed": None,
    "active": None,
    "requested": None,
    "proposed": ResolutionStatus.PENDING,
    "reproposed": ResolutionStatus.PENDING,
    "challenged": ResolutionStatus.DISPUTED,
    "disputed": ResolutionStatus.DISPUTED,
    "arbitration": ResolutionStatus.DISPUTED,
    "settled": ResolutionStatus.PENDING,
    "resolved": ResolutionStatus.RESOLVED,
}
"""What the oracle's states mean at the Data API and at Gamma, which also has ``requested`` and ``settled``
(the oracle has its answer, the market not yet). ``None``: nothing is proposed, it is open or just closed."""

_OBJECTED: Final = frozenset({"challenged", "disputed", "arbitration"})
_UNANSWERED: Final = _OBJECTED | {"proposed", "reproposed"}

_ANSWERS: Final[Mapping[str, tuple[int, int]]] = {
    "0": (0, 1),
    "500000000000000000": (1, 1),
    "1000000000000000000": (1, 0),
}
"""What the oracle's answer, in units of 10⁻¹⁸, pays on a question of yes or no."""

_YES_OR_NO: Final = frozenset({None, "", "BINARY", "INCREMENTAL_NEGRISK"})
"""Types of markets on which one answer is about one market; other types pack several into a number."""

_PAYOUTS: Final = {Decimal(0): 0, Decimal("0.5"): MICRO // 2, Decimal(1): MICRO}
"""Prices that can be payouts; anything between, however near, is a price at which somebody once traded."""


@dataclass(frozen=True, slots=True)
class Said:
    """What each source said of one market, as it came; ``None``: it was not asked, or has nothing."""

    gamma: GammaMarket
    data: ResolutionRow | None = None
    clob: ClobMarket | None = None
    chain: "ChainEnd | None" = None

    @property
    def endpoint(self) -> str:
        """Where Gamma's record comes from, for messages."""
        return f"/markets/{self.gamma.id}"

    @property
    def closed_at(self) -> Nanos | None:
        """When trading truly ended, as far as Gamma says."""
        return closed_at(self.gamma, self.endpoint)

    @property
    def oracle_done_at(self) -> Nanos | None:
        """When the oracle was done by Gamma's word, never before trading ended."""
        done = maybe_moment(self.gamma.uma_end_date, self.endpoint, "umaEndDate")
        times = [time for time in (done, self.closed_at) if time is not None]
        return max(times, default=None)

    @property
    def paid_at(self) -> Nanos | None:
        """When the money moved by the word of the Data API, which may tell the time and not the payouts."""
        if self.data is None or self.data.status != "resolved":
            return None
        return maybe_moment(self.data.resolved_at, RESOLUTIONS, "resolved_at")

    @property
    def ended_at(self) -> Nanos | None:
        """About when the market ended by the first word of it; ``None`` while nobody says that it has."""
        times = [time for time in (self.paid_at, self.oracle_done_at) if time is not None]
        return min(times, default=None)

    @property
    def oracle_at_work(self) -> str:
        """The state of a question that the oracle still has before it; empty where it has none.

        The Data API's word, or where it has none, Gamma's. No winner counts before.
        """
        if self.data is not None:
            return "" if self.data.status == "resolved" else self.data.status
        listed = self.gamma.uma_resolution_status or ""
        return listed if listed in _UNANSWERED else ""


def claims_of(market: Market, said: Said, now: Nanos) -> list[Claim]:
    """What each source claims, in the order of :data:`SOURCES`.

    Raises
    ------
    BadResponse
        for a state we do not know, payouts that are no split of a dollar, or a resolution without a time.
    """
    claim = partial(Claim, market_key=market.key, known_at=now)
    makers = (_chain_claim, _data_claim, _clob_claim, _gamma_claim)
    found = (make(market, said, claim) for make in makers)
    return [each for each in found if each is not None]


def agreed(claims: Sequence[Claim]) -> bool:
    """Whether two sources that may decide say the same."""
    stated = [claim.payouts for claim in claims if claim.trusted and claim.payouts is not None]
    return len(stated) > 1 and len(set(stated)) == 1


def decide(market: Market, said: Said, claims: Sequence[Claim], now: Nanos) -> Resolution:
    """Where ``market`` stands, by the first claim that may decide.

    ``resolved_at`` is when the money moved: the time of the block; where only the CLOB or Gamma tell the
    result, the time at which the oracle was done, or else that of this reading.
    """
    disputed = any(claim.was_disputed for claim in claims)
    result = partial(Resolution, market_key=market.key, closed_at=said.closed_at, was_disputed=disputed)
    deciding = next((claim for claim in claims if claim.trusted and claim.payouts is not None), None)
    if deciding is not None:
        blocks = [c.resolved_at for c in claims if c.source in _ON_CHAIN and c.payouts == deciding.payouts]
        times = (*blocks, said.paid_at, said.oracle_done_at, now)
        moment = next(time for time in times if time is not None)
        return result(
            status=ResolutionStatus.RESOLVED,
            payouts=deciding.payouts,
            resolved_at=moment,
            known_at=moment,
            source=SOURCES[deciding.source],
        )
    return result(
        status=_pending(said.data, said.gamma, said.closed_at),
        payouts=None,
        resolved_at=None,
        known_at=now,
        source=SOURCES["data"] if said.data is not None else "gamma:umaResolutionStatus",
    )


_Make = Callable[..., Claim]


def _chain_claim(market: Market, said: Said, claim: _Make) -> Claim | None:
    if said.chain is None:
        return None
    return claim(
        source="chain",
        status=ResolutionStatus.RESOLVED,
        payouts=_shares(said.chain.numerators, market, "ConditionResolution"),
        resolved_at=said.chain.at,
        was_disputed=None,
        trusted=True,
        note=f"payout numerators {list(said.chain.numerators)} in {said.chain.tx}",
    )


def _data_claim(market: Market, said: Said, claim: _Make) -> Claim | None:
    row = said.data
    if row is None:
        return None
    paid = _paid(row, market)
    return claim(
        source="data",
        status=ResolutionStatus.RESOLVED if paid else _pending(row, said.gamma, said.closed_at),
        payouts=paid,
        resolved_at=_chain_time(row) if paid else None,
        was_disputed=row.was_disputed or row.status in _OBJECTED,
        trusted=True,
        note=f"status {row.status}, payouts {row.payouts}, price {row.price}",
    )


def _paid(row: ResolutionRow, market: Market) -> tuple[Micro, ...] | None:
    """What a resolved row says is paid: its payouts, or where it has none, the oracle's answer."""
    if row.status != "resolved":
        return None
    answer = _ANSWERS.get(row.price or "") if row.market_type in _YES_OR_NO else None
    found = [_shares(each, market, RESOLUTIONS) for each in (row.payouts, answer) if each]
    if len(set(found)) > 1:
        raise BadResponse(f"{RESOLUTIONS}: {row.condition_id} pays {row.payouts}, but price is {row.price}")
    return found[0] if found else None


def _clob_claim(market: Market, said: Said, claim: _Make) -> Claim | None:
    record = said.clob
    if record is None:
        return None
    winners = {token.token_id for token in record.tokens if token.winner}
    own = [instrument.token_id for instrument in market.instruments]
    if not winners.issubset(own):
        raise BadResponse(f"clob /markets: {market.condition_id} names a winner that is no outcome of it")
    payouts: tuple[Micro, ...] | None = None
    if len(winners) == 1:
        payouts = tuple(MICRO if token in winners else 0 for token in own)
    elif not winners and record.is_50_50_outcome and len(own) == 2:
        payouts = (MICRO // 2, MICRO // 2)
    why = _why_not(said, closed=record.closed) if payouts else ""
    if len(winners) > 1:
        why = f"it names {len(winners)} winners"
    ended = ResolutionStatus.CLOSED if record.closed else ResolutionStatus.OPEN
    return claim(
        source="clob",
        status=ResolutionStatus.RESOLVED if payouts and not why else ended,
        payouts=payouts,
        resolved_at=None,
        was_disputed=None,
        trusted=not why,
        note=_noted(f"closed {record.closed}, winner {shares(payouts)}", why),
    )


def _gamma_claim(market: Market, said: Said, claim: _Make) -> Claim:
    raw, endpoint = said.gamma, said.endpoint
    texts = packed(raw.outcome_prices, endpoint, "outcomePrices")
    prices = tuple(_payout(text, endpoint) for text in texts)
    paid = tuple(payout for payout in prices if payout is not None)
    final = paid == prices and len(paid) == len(market.instruments) and sum(paid) == MICRO
    done = raw.uma_resolution_status == "resolved"
    why = ""
    if done and not final:
        # markets of 2020 to 2022 show 0 for every outcome
        why = "these prices are no payouts"
    elif final and not done:
        why = "the oracle has not answered"
    elif final:
        why = _why_not(said, closed=said.oracle_done_at is not None)
    history = packed(raw.uma_resolution_statuses, endpoint, "umaResolutionStatuses")
    decides = final and not why
    return claim(
        source="gamma",
        status=ResolutionStatus.RESOLVED if decides else _pending(None, raw, said.closed_at),
        payouts=paid if final else None,
        resolved_at=said.oracle_done_at if decides else None,
        was_disputed=not _OBJECTED.isdisjoint((raw.uma_resolution_status, *history)),
        trusted=not why,
        note=_noted(f"umaResolutionStatus {raw.uma_resolution_status}, outcomePrices {texts}", why),
    )


def _payout(text: str, endpoint: str) -> Micro | None:
    """What one of ``outcomePrices`` pays, if it can be a payout. Old ones have some forty decimals."""
    price(text, endpoint, "outcomePrices", "half_even")
    return _PAYOUTS.get(parse_decimal(text))


def _why_not(said: Said, *, closed: bool) -> str:
    """Why a winner may not decide yet; empty where it may."""
    if not closed:
        return "the market is not closed"
    return f"the oracle is at work: {said.oracle_at_work}" if said.oracle_at_work else ""


def _noted(words: str, why: str) -> str:
    return f"{words}; not trusted: {why}" if why else words


def _chain_time(row: ResolutionRow) -> Nanos:
    resolved_at = maybe_moment(row.resolved_at, RESOLUTIONS, "resolved_at")
    resolved_at = resolved_at or maybe_moment(row.last_update_timestamp, RESOLUTIONS, "last_update_timestamp")
    if resolved_at is None:
        raise BadResponse(f"{RESOLUTIONS}: {row.condition_id} is resolved, but resolved_at is missing")
    return resolved_at


def _pending(row: ResolutionRow | None, raw: GammaMarket, closed: Nanos | None) -> ResolutionStatus:
    said = row.status if row is not None else (raw.uma_resolution_status or "initialized")
    if said not in _STATUS:
        where = f"{RESOLUTIONS}: status" if row is not None else f"/markets/{raw.id}: umaResolutionStatus"
        raise BadResponse(f"{where} is {said!r}, which we do not know")
    status = _STATUS[said]
    if status is ResolutionStatus.RESOLVED:
        return ResolutionStatus.PENDING  # resolved, they say, but not yet what it pays
    if status is None:
        return ResolutionStatus.OPEN if closed is None else ResolutionStatus.CLOSED
    return status


def _shares(numerators: Sequence[int], market: Market, source: str) -> tuple[Micro, ...]:
    """Payouts are numerators over their sum, as on the chain: ``[1, 1]`` pays half a dollar each.

    Rounding goes down, and the last outcome gets what is left, so that they make exactly one dollar.
    """
    whole = sum(numerators)
    if len(numerators) != len(market.instruments) or min(numerators) < 0 or not 0 < whole < 2**63:
        raise BadResponse(f"{source}: {market.condition_id} pays {list(numerators)}")
    found = [divide(numerator * MICRO, whole, "floor") for numerator in numerators[:-1]]
    return (*found, MICRO - sum(found))
