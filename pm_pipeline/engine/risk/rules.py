"""The rules of the risk manager as tables: steps in the order in which they run, codes, latches, transitions.

``docs/risk.md`` shows the same tables to a reader, and the tests hold the two together.
"""

from enum import StrEnum
from typing import Final, NamedTuple, Self


class Step(StrEnum):
    """What is looked at, first to last. An exit passes at ``EXIT``; what comes after judges entries only."""

    KILL_SWITCH = "kill_switch"
    DATA_FRESHNESS = "data_freshness"
    STATE = "state"
    EXIT = "exit"
    DAILY_LOSS = "daily_loss"
    DRAWDOWN = "drawdown"
    MARKET = "market"
    MAX_POSITIONS = "max_positions"
    SIZING = "sizing"
    CAPS = "caps"
    LIQUIDITY = "liquidity"
    MIN_SIZE = "min_size"
    ROUNDING = "rounding"


class Effect(StrEnum):
    """What a code does to an order: refuse it, make it smaller, or refuse it and change the state too."""

    DENY = "deny"
    TRIM = "trim"
    LATCH = "latch"


class Unit(StrEnum):
    """What ``value`` and ``limit_value`` of an event count, in millionths of it."""

    NONE = "-"
    DOLLARS = "dollars"
    CONTRACTS = "contracts"
    SHARE = "share"
    COUNT = "count"
    SECONDS = "seconds"
    DEVIATIONS = "standard deviations"
    BASIS_POINTS = "basis points"


class Code(StrEnum):
    """Why the risk manager refused, trimmed, or changed its state."""

    step: Step
    effect: Effect
    unit: Unit
    meaning: str

    def __new__(cls, code: str, step: Step, effect: Effect, unit: Unit, meaning: str) -> Self:
        """Make the member from its code and what belongs to it."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.step, member.effect, member.unit, member.meaning = step, effect, unit, meaning
        return member

    # fmt: off
    KILL_SWITCH = (
        "kill_switch", Step.KILL_SWITCH, Effect.LATCH, Unit.NONE, "the kill switch is on"
    )
    STALE_DATA = (
        "stale_data", Step.DATA_FRESHNESS, Effect.DENY, Unit.SECONDS,
        "the last price known is older than allowed, or there is none",
    )
    CROSSED_BOOK = (
        "crossed_book", Step.DATA_FRESHNESS, Effect.DENY, Unit.DOLLARS,
        "the bid (value) is at or above the offer (limit)",
    )
    PRICE_JUMP = (
        "price_jump", Step.DATA_FRESHNESS, Effect.DENY, Unit.DEVIATIONS,
        "the price moved further since the last daily close than so many deviations",
    )
    HALTED = (
        "halted", Step.STATE, Effect.DENY, Unit.NONE, "the state is halted: not even exits pass"
    )
    REDUCING = (
        "reducing", Step.STATE, Effect.DENY, Unit.NONE, "the state is reducing: only exits pass"
    )
    STOPPED = (
        "stopped", Step.STATE, Effect.LATCH, Unit.NONE, "somebody, or a failed reconciliation, called a halt"
    )
    LOSING_STREAK = (
        "losing_streak", Step.STATE, Effect.LATCH, Unit.COUNT, "so many trips in a row ended with a loss"
    )
    SLIPPAGE = (
        "slippage", Step.STATE, Effect.LATCH, Unit.BASIS_POINTS,
        "a fill was worse than what was expected at the decision by more than allowed",
    )
    DAILY_LOSS = (
        "daily_loss", Step.DAILY_LOSS, Effect.LATCH, Unit.SHARE,
        "the loss since the last equity of the day before reached the limit",
    )
    DRAWDOWN = (
        "drawdown", Step.DRAWDOWN, Effect.LATCH, Unit.SHARE,
        "the loss from the peak of equity reached the limit",
    )
    NOT_TRADING = (
        "not_trading", Step.MARKET, Effect.DENY, Unit.NONE, "the market does not trade"
    )
    TOO_CLOSE_TO_CLOSE = (
        "too_close_to_close", Step.MARKET, Effect.DENY, Unit.SECONDS,
        "the scheduled close is nearer than allowed, or there is none to measure to",
    )
    VOLATILITY = (
        "volatility", Step.MARKET, Effect.DENY, Unit.DEVIATIONS,
        "the price moves more from day to day than allowed",
    )
    SHORT_HISTORY = (
        "short_history", Step.MARKET, Effect.DENY, Unit.COUNT,
        "there are too few daily closes to measure the volatility",
    )
    MAX_POSITIONS = (
        "max_positions", Step.MAX_POSITIONS, Effect.DENY, Unit.COUNT,
        "so many other markets are held or being entered",
    )
    NO_BELIEF = (
        "no_belief", Step.SIZING, Effect.DENY, Unit.NONE, "the signal states no probability to size by"
    )
    NO_OFFER = (
        "no_offer", Step.SIZING, Effect.DENY, Unit.NONE, "nothing known is on offer to size by"
    )
    NO_EDGE = (
        "no_edge", Step.SIZING, Effect.DENY, Unit.NONE, "at the all-in cost the belief has no edge"
    )
    MAX_STAKE = (
        "max_stake", Step.SIZING, Effect.TRIM, Unit.DOLLARS, "the stake is larger than its share of equity"
    )
    LEAST_STAKE = (
        "least_stake", Step.SIZING, Effect.DENY, Unit.DOLLARS, "the stake is smaller than worth while"
    )
    POSITION_CAP = (
        "position_cap", Step.CAPS, Effect.TRIM, Unit.DOLLARS, "one outcome of a market would be too much"
    )
    MARKET_CAP = (
        "market_cap", Step.CAPS, Effect.TRIM, Unit.DOLLARS, "all outcomes of a market would be too much"
    )
    GROUP_CAP = (
        "group_cap", Step.CAPS, Effect.TRIM, Unit.DOLLARS,
        "markets that settle together, or move together, would be too much",
    )
    STRATEGY_CAP = (
        "strategy_cap", Step.CAPS, Effect.TRIM, Unit.DOLLARS, "one strategy would have too much"
    )
    VENUE_CAP = (
        "venue_cap", Step.CAPS, Effect.TRIM, Unit.DOLLARS, "one venue would hold too much"
    )
    GROSS_CAP = (
        "gross_cap", Step.CAPS, Effect.TRIM, Unit.DOLLARS, "all positions together would be too much"
    )
    INSUFFICIENT_CASH = (
        "insufficient_cash", Step.CAPS, Effect.DENY, Unit.DOLLARS,
        "the cash that no order has set aside cannot pay for it",
    )
    PARTICIPATION = (
        "participation", Step.LIQUIDITY, Effect.TRIM, Unit.CONTRACTS,
        "the order would take too large a share of the depth near the best price",
    )
    VOLUME_SHARE = (
        "volume_share", Step.LIQUIDITY, Effect.TRIM, Unit.CONTRACTS,
        "the order would be too large a share of what was traded lately",
    )
    BELOW_MIN_SIZE = (
        "below_min_size", Step.MIN_SIZE, Effect.DENY, Unit.CONTRACTS,
        "what the limits leave is smaller than the venue's minimum",
    )
    BELOW_LOT = (
        "below_lot", Step.ROUNDING, Effect.DENY, Unit.CONTRACTS,
        "in whole lots, what the limits leave is smaller than the venue's minimum",
    )
    # fmt: on


class RiskState(StrEnum):
    """``ACTIVE``: everything may pass. ``REDUCING``: only exits. ``HALTED``: nothing."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


SEVERITY: Final = tuple(RiskState)
"""The states from the freest to the strictest; the state is the strictest that a latch asks for."""

EDGES: Final[dict[RiskState, frozenset[RiskState]]] = {
    RiskState.ACTIVE: frozenset({RiskState.REDUCING, RiskState.HALTED}),
    RiskState.REDUCING: frozenset({RiskState.ACTIVE, RiskState.HALTED}),
    RiskState.HALTED: frozenset({RiskState.ACTIVE, RiskState.REDUCING}),
}
"""Where a state may go; from ``HALTED`` by an explicit reset only."""


class Resume(StrEnum):
    """When a latch lets go. An explicit reset frees every latch; ``RESET``: nothing else does."""

    RESET = "reset"
    COOLDOWN = "cooldown"
    NEXT_DAY = "next_day"


class LatchRule(NamedTuple):
    """The state a latch holds, and when it lets go."""

    state: RiskState
    resume: Resume


LATCHES: Final[dict[Code, LatchRule]] = {
    Code.KILL_SWITCH: LatchRule(RiskState.HALTED, Resume.RESET),
    Code.STOPPED: LatchRule(RiskState.HALTED, Resume.RESET),
    Code.DAILY_LOSS: LatchRule(RiskState.REDUCING, Resume.NEXT_DAY),
    Code.DRAWDOWN: LatchRule(RiskState.REDUCING, Resume.COOLDOWN),
    Code.LOSING_STREAK: LatchRule(RiskState.REDUCING, Resume.COOLDOWN),
    Code.SLIPPAGE: LatchRule(RiskState.REDUCING, Resume.COOLDOWN),
}
"""What each latch does. Letting go of ``DRAWDOWN`` makes the equity of that moment the new peak, of
``LOSING_STREAK`` starts the count anew."""
