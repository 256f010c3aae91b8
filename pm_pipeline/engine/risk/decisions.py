"""What the risk manager is asked, what it is shown, what it answers, and what it records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple, Protocol, TypeAlias

from pm_pipeline.engine.risk.exposure import Slot
from pm_pipeline.engine.risk.history import Closes
from pm_pipeline.engine.risk.rules import Code, RiskState, Step
from pm_pipeline.markets.book import Level
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.units import Micro

FeeOf: TypeAlias = Callable[[Sequence[Level]], Micro]
"""The fee of taking these levels at once, in micro-dollars."""


class Intent(StrEnum):
    """Whether an order adds to what is at risk, or takes from it."""

    ENTER = "enter"
    EXIT = "exit"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """An order that somebody wants to send.

    ``decision_id`` is what the id of its order begins with. ``stake`` is what an entry is to spend, fees
    included; ``None`` leaves it to the way of sizing, which may need the belief ``p`` and its error.
    """

    slot: Slot
    intent: Intent
    decision_id: str = ""
    stake: Micro | None = None
    p: float | None = None
    p_se: float | None = None


class Account(Protocol):
    """The bankroll as it stands. ``equity`` may be expensive and is only asked for where a rule needs it."""

    @property
    def cash(self) -> Micro:
        """Cash, reserved or not; equity is never less."""

    @property
    def available(self) -> Micro:
        """Cash that no order in flight has set aside."""

    @property
    def equity(self) -> Micro:
        """Cash, and every position at what it could be sold for, or its last mark while it is unpaid."""

    @property
    def kill_switch(self) -> bool:
        """Whether somebody has thrown it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSnapshot:
    """An :class:`Account` written down."""

    cash: Micro
    available: Micro
    equity: Micro
    kill_switch: bool = False


def _no_fee(levels: Sequence[Level]) -> Micro:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSnapshot:
    """What was known of a market, and of the outcome in question, when the decision was taken.

    ``offers`` are what a buyer could take, best first, ``tick`` the price step there. ``held_value`` is what
    all our positions in the market are marked at, ``held_if_won`` and ``held_if_lost`` what they pay if the
    outcome in question wins or loses. ``related`` are held outcomes that move with this one.
    """

    trading: bool = True
    scheduled_close: Nanos | None = None
    quoted_at: Nanos | None = None
    bid: Micro | None = None
    price: float | None = None
    offers: Sequence[Level] = ()
    fee: FeeOf = _no_fee
    payoff: Fraction = Fraction(1)
    tick: Micro = 10_000
    lot: Micro = 1
    min_size: Micro = 0
    traded_lately: Micro | None = None
    closes: Closes | None = None
    related: Sequence[Slot] = ()
    held_value: Micro = 0
    held_if_won: Micro = 0
    held_if_lost: Micro = 0


class Approved(NamedTuple):
    """The order may be sent: an entry with this stake. An exit has none.

    ``size`` is what the stake buys of the offers known, in whole lots, and ``price`` the average there
    without fees; 0 where no offer was known.
    """

    stake: Micro
    size: Micro = 0
    price: Micro = 0


class Denied(NamedTuple):
    """The order may not be sent. ``value`` and ``limit`` are millionths of the unit of the code."""

    code: Code
    value: Micro | None
    limit: Micro | None
    detail: str

    @property
    def rule(self) -> Step:
        """The step that refused it."""
        return self.code.step


Decision: TypeAlias = Approved | Denied


class EventKind(StrEnum):
    """What a row of ``backtest.risk_events`` says."""

    DENIED = "denied"
    TRIMMED = "trimmed"
    TRIPPED = "tripped"
    RESUMED = "resumed"


class RiskEvent(NamedTuple):
    """A row of ``backtest.risk_events``; see there."""

    ts: Nanos
    kind: EventKind
    code: Code
    value: Micro | None
    limit: Micro | None
    request: OrderRequest | None
    detail: str
    before: RiskState
    after: RiskState
