"""The risk manager: it decides every order before the venue sees it, in one fixed order of steps.

A decision costs the same however many markets and positions there are: what is at risk is kept in running
totals, and the equity comes from whoever asks. Nothing is ever made larger.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from pm_pipeline.engine.risk.decisions import (
    Account,
    Approved,
    Decision,
    Denied,
    EventKind,
    Intent,
    MarketSnapshot,
    OrderRequest,
    RiskEvent,
)
from pm_pipeline.engine.risk.exposure import Dimension, Exposures, Slot
from pm_pipeline.engine.risk.gates import data_freshness, market_status
from pm_pipeline.engine.risk.latches import Change, Latches
from pm_pipeline.engine.risk.limits import RiskLimits
from pm_pipeline.engine.risk.rules import Code, RiskState, Step
from pm_pipeline.engine.risk.watch import EquityWatch
from pm_pipeline.engine.sizing import Bet, NoBet, Offer, Sizing, wanted_stake
from pm_pipeline.engine.venue.execution import size_for_stake, take, value
from pm_pipeline.markets.clock import Nanos, format_time
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro, divide, from_micro, to_micro

Record = Callable[[RiskEvent], None]

CAPS: Final = (
    (Dimension.POSITION, "position_cap", Code.POSITION_CAP),
    (Dimension.MARKET, "market_cap", Code.MARKET_CAP),
    (Dimension.GROUP, "group_cap", Code.GROUP_CAP),
    (Dimension.STRATEGY, "strategy_cap", Code.STRATEGY_CAP),
    (Dimension.VENUE, "venue_cap", Code.VENUE_CAP),
    (Dimension.GROSS, "gross_cap", Code.GROSS_CAP),
)
"""The caps in the order in which they are looked at."""

_NO_BET: Final = {
    NoBet.NO_BELIEF: Code.NO_BELIEF,
    NoBet.NO_OFFER: Code.NO_OFFER,
    NoBet.NO_EDGE: Code.NO_EDGE,
}


@dataclass(slots=True)
class _Case:
    """One decision in the making."""

    request: OrderRequest
    account: Account
    market: MarketSnapshot
    now: Nanos
    stake: Micro = 0
    trimmed: bool = False


class RiskManager:
    """The limits of one bankroll, its state, and what it has at risk.

    Parameters
    ----------
    limits, sizing
        What may be risked, and how an entry is sized that names no stake.
    bankroll
        The first peak, and the reference of the first day; micro-dollars.
    stake
        What an entry spends in the mode ``fixed``.
    max_stake
        Most that one entry may spend, as a share of equity.
    record
        Takes every refusal, trim and change of state as it happens.
    """

    def __init__(
        self,
        limits: RiskLimits,
        sizing: Sizing,
        *,
        bankroll: Micro,
        stake: Micro,
        max_stake: Decimal = Decimal(1),
        record: Record,
    ) -> None:
        self.limits = limits
        self.exposures = Exposures()
        self._sizing = sizing
        self._stake = stake
        self._max_stake = max_stake
        self._record = record
        self._latches = Latches(limits.cooldown)
        self._watch = EquityWatch(bankroll, limits.day_zone)
        self._losses = 0

    @property
    def state(self) -> RiskState:
        """What may pass at the moment."""
        return self._latches.state

    # ------------------------------------------------------------------ what happens

    def observe(self, now: Nanos, equity: Micro) -> None:
        """See the equity at a moment; its limits may trip, and what has waited long enough lets go."""
        self._note(now, equity)
        for step in (self._daily_loss, self._drawdown):
            step(now)

    def day_end(self, now: Nanos) -> Nanos:
        """The first moment of the day after ``now``, where the daily loss starts anew."""
        return self._watch.day_end(now)

    def trip_ended(self, now: Nanos, profit: Micro) -> None:
        """A round trip ended with this profit after fees; one without a loss ends a losing streak."""
        self._losses = self._losses + 1 if profit < 0 else 0
        limit = self.limits.losing_streak
        if limit is not None and self._losses >= limit:
            self._trip(Code.LOSING_STREAK, now, self._losses * MICRO, limit * MICRO)

    def entry_filled(self, now: Nanos, expected: Micro, paid: Micro) -> None:
        """An entry traded at the average price ``paid``, where ``expected`` was known at the decision."""
        limit = self.limits.max_slippage_bps
        if limit is None or expected <= 0:
            return
        slippage = (paid - expected) * 10_000 * MICRO // expected
        if slippage > limit * MICRO:
            self._trip(Code.SLIPPAGE, now, slippage, limit * MICRO)

    def stop(self, now: Nanos, detail: str) -> None:
        """Halt: a person asked for it, or a reconciliation failed. Only :meth:`reset` undoes it."""
        self._trip(Code.STOPPED, now, detail=detail)

    def reset(self, now: Nanos) -> None:
        """A person lets all latches go. The equity seen last is the new peak."""
        for code in self._latches.held():
            self._free(code, now, "reset")

    # ------------------------------------------------------------------ the decision

    def decide(self, request: OrderRequest, account: Account, market: MarketSnapshot, now: Nanos) -> Decision:
        """Whether the order may be sent, and an entry with how much. The steps run in their order."""
        case = _Case(request, account, market, now)
        self._note(now, account.equity if self.limits.watches_equity else None)
        for step, judge in _STEPS:
            if step is Step.EXIT:
                if request.intent is Intent.EXIT:
                    return Approved(0)
                continue
            if request.intent is Intent.EXIT and step is Step.DATA_FRESHNESS:
                continue
            before = self.state
            denied = judge(self, case)
            if denied is not None:
                self._event(case.now, EventKind.DENIED, denied, request, before)
                return denied
        return self._approved(case)

    def _kill_switch(self, case: _Case) -> Denied | None:
        if not case.account.kill_switch:
            return None
        self._trip(Code.KILL_SWITCH, case.now)
        return Denied(Code.KILL_SWITCH, None, None, "the kill switch is on")

    def _state(self, case: _Case) -> Denied | None:
        if self.state is RiskState.HALTED:
            return Denied(Code.HALTED, None, None, self._latches.describe())
        if self.state is RiskState.REDUCING and case.request.intent is Intent.ENTER:
            return Denied(Code.REDUCING, None, None, self._latches.describe())
        return None

    def _daily_loss(self, now: Nanos) -> Denied | None:
        return self._lost(Code.DAILY_LOSS, self.limits.daily_loss, self._watch.daily_loss, now)

    def _drawdown(self, now: Nanos) -> Denied | None:
        return self._lost(Code.DRAWDOWN, self.limits.drawdown, self._watch.drawdown, now)

    def _lost(self, code: Code, limit: Decimal | None, lost: Micro, now: Nanos) -> Denied | None:
        if limit is None or lost < (most := to_micro(limit)):
            return None
        said = f"{lost / MICRO:.4%} lost, the limit is {limit:.4%}"
        self._trip(code, now, lost, most, said)
        return Denied(code, lost, most, said)

    def _max_positions(self, case: _Case) -> Denied | None:
        limit, held = self.limits.max_positions, self.exposures.markets
        if limit is None or held < limit or self.exposures.engaged(case.request.slot.market_key):
            return None
        said = f"{held} markets are open, {limit} may be"
        return Denied(Code.MAX_POSITIONS, held * MICRO, limit * MICRO, said)

    def _size(self, case: _Case) -> Denied | None:
        account, sizing = case.account, self._sizing
        stated = case.request.stake
        stake = wanted_stake(sizing, self._bet(case)) if stated is None else stated
        if isinstance(stake, NoBet):
            return Denied(_NO_BET[stake], None, None, f"{sizing.mode} sizes it at nothing")
        case.stake = stake
        most = int(self._max_stake * account.cash)
        if stake > most:
            most = int(self._max_stake * account.equity)
        self._trim(case, Code.MAX_STAKE, stake, most)
        least = int(sizing.least * account.equity) if sizing.least else 0
        if case.stake > 0 and (not sizing.least or case.stake >= sizing.least * account.equity):
            return None
        said = f"${from_micro(case.stake):f}, the least is ${from_micro(least):f}"
        return Denied(Code.LEAST_STAKE, case.stake, least, said)

    def _bet(self, case: _Case) -> Bet:
        request, market, sizing = case.request, case.market, self._sizing
        equity = case.account.equity if sizing.uses_equity else 0
        rest = equity - market.held_value
        return Bet(
            equity=equity,
            fixed=self._stake,
            p=request.p,
            p_se=request.p_se,
            price=market.price,
            offers=_all_in(market) if sizing.needs_belief else (),
            if_won=rest + market.held_if_won,
            if_lost=rest + market.held_if_lost,
        )

    def _caps(self, case: _Case) -> Denied | None:
        for dimension, name, code in CAPS:
            cap: Decimal | None = getattr(self.limits, name)
            if cap is None:
                continue
            limit = max(int(cap * case.account.equity), 0)
            at_risk = self._at_risk(dimension, case)
            if at_risk >= limit:
                said = f"${from_micro(at_risk):f} at risk, the cap is ${from_micro(limit):f}"
                return Denied(code, at_risk + case.stake, limit, said)
            self._trim(case, code, at_risk + case.stake, limit)
        if case.stake > case.account.available:
            free = case.account.available
            said = f"${from_micro(free):f} free, ${from_micro(case.stake):f} wanted"
            return Denied(Code.INSUFFICIENT_CASH, case.stake, free, said)
        return None

    def _at_risk(self, dimension: Dimension, case: _Case) -> Micro:
        slot: Slot = case.request.slot
        if dimension is Dimension.GROUP:
            return self.exposures.group_total(slot, case.market.related)
        return self.exposures.total(dimension, slot)

    def _liquidity(self, case: _Case) -> Denied | None:
        limits, market = self.limits, case.market
        bounds = []
        if limits.participation is not None:
            if not market.offers:
                return Denied(Code.NO_OFFER, None, None, "nothing known is on offer to take a share of")
            reach = market.offers[0].price + limits.depth_ticks * market.tick
            near = sum(level.size for level in market.offers if level.price <= reach)
            bounds.append((Code.PARTICIPATION, int(limits.participation * near)))
        if limits.volume_share is not None:
            bounds.append((Code.VOLUME_SHARE, int(limits.volume_share * (market.traded_lately or 0))))
        for code, most in bounds:
            wanted = size_for_stake(market.offers, case.stake, 1, market.fee)
            if wanted > most:
                taken = take(market.offers, most)
                case.stake = value(taken, Side.BUY) + market.fee(taken) if taken else 0
                case.trimmed = True
                self._trimmed(case, code, wanted, most)
            if not case.stake:
                return Denied(code, wanted, most, "nothing may be taken")
        return None

    def _min_size(self, case: _Case) -> Denied | None:
        return self._too_small(case, Code.BELOW_MIN_SIZE, 1)

    def _rounding(self, case: _Case) -> Denied | None:
        return self._too_small(case, Code.BELOW_LOT, case.market.lot)

    def _too_small(self, case: _Case, code: Code, lot: Micro) -> Denied | None:
        """Only what we made smaller is refused here: the venue knows best about the rest."""
        market = case.market
        if not case.trimmed or not market.offers:
            return None
        size = size_for_stake(market.offers, case.stake, lot, market.fee)
        if size >= max(market.min_size, 1):
            return None
        said = f"${from_micro(case.stake):f} buys {from_micro(size):f} contracts"
        return Denied(code, size, market.min_size, said)

    def _approved(self, case: _Case) -> Approved:
        market = case.market
        size = size_for_stake(market.offers, case.stake, market.lot, market.fee)
        if not size:
            return Approved(case.stake)
        paid = value(take(market.offers, size), Side.BUY)
        return Approved(case.stake, size, divide(paid * MICRO, size, "ceil"))

    # ------------------------------------------------------------------ state and rows

    def _trim(self, case: _Case, code: Code, wanted: Micro, limit: Micro) -> None:
        """Cut the stake so that ``wanted``, which it is part of, comes down to ``limit``."""
        if wanted <= limit:
            return
        case.stake -= wanted - limit
        case.trimmed = True
        self._trimmed(case, code, wanted, limit)

    def _trimmed(self, case: _Case, code: Code, wanted: Micro, limit: Micro) -> None:
        said = Denied(code, wanted, limit, f"the stake is cut to ${from_micro(case.stake):f}")
        self._event(case.now, EventKind.TRIMMED, said, case.request, self.state)

    def _note(self, now: Nanos, equity: Micro | None) -> None:
        new_day = equity is not None and self._watch.note(now, equity)
        for code in self._latches.due(now, new_day=new_day):
            self._free(code, now, "the day is over" if code is Code.DAILY_LOSS else "the cooldown is over")

    def _trip(
        self, code: Code, now: Nanos, value: Micro | None = None, limit: Micro | None = None, detail: str = ""
    ) -> None:
        change = self._latches.trip(code, now)
        if change is not None:
            self._changed(now, EventKind.TRIPPED, change, Denied(code, value, limit, detail or code.meaning))

    def _free(self, code: Code, now: Nanos, why: str) -> None:
        if code is Code.DRAWDOWN:
            self._watch.rebase()
        if code is Code.LOSING_STREAK:
            self._losses = 0
        change = self._latches.free(code)
        self._changed(now, EventKind.RESUMED, change, Denied(code, None, None, f"{why}, {format_time(now)}"))

    def _changed(self, now: Nanos, kind: EventKind, change: Change, said: Denied) -> None:
        self._event(now, kind, said, None, change.before)

    def _event(
        self, now: Nanos, kind: EventKind, said: Denied, request: OrderRequest | None, before: RiskState
    ) -> None:
        self._record(
            RiskEvent(now, kind, said.code, said.value, said.limit, request, said.detail, before, self.state)
        )


_Judge = Callable[[RiskManager, _Case], Denied | None]

_STEPS: Final[tuple[tuple[Step, _Judge], ...]] = (
    (Step.KILL_SWITCH, RiskManager._kill_switch),
    (Step.DATA_FRESHNESS, lambda manager, case: data_freshness(manager.limits, case.market, case.now)),
    (Step.STATE, RiskManager._state),
    (Step.EXIT, lambda manager, case: None),
    (Step.DAILY_LOSS, lambda manager, case: manager._daily_loss(case.now)),
    (Step.DRAWDOWN, lambda manager, case: manager._drawdown(case.now)),
    (Step.MARKET, lambda manager, case: market_status(manager.limits, case.market, case.now)),
    (Step.MAX_POSITIONS, RiskManager._max_positions),
    (Step.SIZING, RiskManager._size),
    (Step.CAPS, RiskManager._caps),
    (Step.LIQUIDITY, RiskManager._liquidity),
    (Step.MIN_SIZE, RiskManager._min_size),
    (Step.ROUNDING, RiskManager._rounding),
)
"""The steps of a decision. :class:`Step` names the same order; a test compares them."""


def _all_in(market: MarketSnapshot) -> list[Offer]:
    """The offers at what a contract of each costs with its fee, taken whole; from the cheapest."""
    offers = []
    for level in market.offers:
        paid = level.price * level.size + market.fee([level]) * MICRO
        offers.append(Offer(Fraction(paid, level.size * MICRO), level.size, market.payoff))
    return sorted(offers)
