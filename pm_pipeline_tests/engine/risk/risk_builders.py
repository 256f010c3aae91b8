"""A risk manager with its record of events, and requests, accounts and markets to show it."""

from decimal import Decimal
from typing import Any

from pm_pipeline.engine.risk import (
    AccountSnapshot,
    Intent,
    MarketSnapshot,
    OrderRequest,
    RiskEvent,
    RiskLimits,
    RiskManager,
    RiskState,
    Slot,
)
from pm_pipeline.engine.sizing import Sizing
from pm_pipeline.markets import MICRO, MarketKey
from pm_pipeline.markets.book import Level

BANKROLL = 10_000 * MICRO


def slot(key: str = "kalshi:A", outcome: int = 0, group: str | None = None, strategy: str = "test") -> Slot:
    return Slot(strategy, MarketKey.parse(key), outcome, group)


def entry(stake: float | None = 100, at: Slot | None = None, **changes: Any) -> OrderRequest:
    micro = None if stake is None else round(stake * MICRO)
    return OrderRequest(
        **{"slot": at or slot(), "intent": Intent.ENTER, "decision_id": "d", "stake": micro, **changes}
    )


def leave(at: Slot | None = None) -> OrderRequest:
    return entry(None, at, intent=Intent.EXIT)


def account(equity: float = 10_000, **changes: Any) -> AccountSnapshot:
    micro = round(equity * MICRO)
    return AccountSnapshot(**{"cash": micro, "available": micro, "equity": micro, **changes})


def offers(*levels: tuple[int, int]) -> tuple[Level, ...]:
    """Prices in cents, sizes in contracts."""
    return tuple(Level(cents * 10_000, size * MICRO) for cents, size in levels)


def shown(**changes: Any) -> MarketSnapshot:
    return MarketSnapshot(**{"offers": offers((40, 100_000)), "lot": MICRO, "min_size": MICRO, **changes})


def manager(
    sizing: Sizing | None = None, max_stake: str = "1", stake: float = 100, **limits: Any
) -> tuple[RiskManager, list[RiskEvent]]:
    events: list[RiskEvent] = []
    made = RiskManager(
        RiskLimits(**limits),
        sizing or Sizing(),
        bankroll=BANKROLL,
        stake=round(stake * MICRO),
        max_stake=Decimal(max_stake),
        record=events.append,
    )
    return made, events


def state_of(made: RiskManager) -> RiskState:
    """The state as it is now; a type checker would hold on to what it was."""
    return made.state
