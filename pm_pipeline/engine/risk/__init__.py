"""What a bankroll may risk: limits, states, and the manager that decides every order before the venue."""

from pm_pipeline.engine.risk.decisions import (
    Account,
    AccountSnapshot,
    Approved,
    Decision,
    Denied,
    EventKind,
    FeeOf,
    Intent,
    MarketSnapshot,
    OrderRequest,
    RiskEvent,
)
from pm_pipeline.engine.risk.exposure import Dimension, ExposureError, Exposures, Slot
from pm_pipeline.engine.risk.history import Closes, Returns, correlation, daily_closes, jump, volatility
from pm_pipeline.engine.risk.latches import Latches, TransitionError
from pm_pipeline.engine.risk.limits import RiskLimits
from pm_pipeline.engine.risk.manager import RiskManager
from pm_pipeline.engine.risk.rules import EDGES, LATCHES, Code, Effect, Resume, RiskState, Step, Unit
from pm_pipeline.engine.risk.watch import EquityWatch

__all__ = [
    "EDGES",
    "LATCHES",
    "Account",
    "AccountSnapshot",
    "Approved",
    "Closes",
    "Code",
    "Decision",
    "Denied",
    "Dimension",
    "Effect",
    "EquityWatch",
    "EventKind",
    "ExposureError",
    "Exposures",
    "FeeOf",
    "Intent",
    "Latches",
    "MarketSnapshot",
    "OrderRequest",
    "Resume",
    "Returns",
    "RiskEvent",
    "RiskLimits",
    "RiskManager",
    "RiskState",
    "Slot",
    "Step",
    "TransitionError",
    "Unit",
    "correlation",
    "daily_closes",
    "jump",
    "volatility",
]
