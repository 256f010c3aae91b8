"""The simulation: orders against recorded markets, fees, settlement, and an exact ledger."""

from pm_pipeline.engine.exits import EndedBy
from pm_pipeline.engine.ledger import Holding, Ledger, LedgerError
from pm_pipeline.engine.lookahead import Leak, find_lookahead
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.results import SimResult
from pm_pipeline.engine.risk import RiskLimits
from pm_pipeline.engine.scenarios import SCENARIOS, TRUTHFUL_LATENCY, ExecutionConfig, Mark, Scenario
from pm_pipeline.engine.settlement import Settlement
from pm_pipeline.engine.signals import Action, LookAheadError, Signal, SignalError, Signals, Skip
from pm_pipeline.engine.simulate import simulate
from pm_pipeline.engine.sizing import Sizing, SizingMode
from pm_pipeline.engine.state import MarketInput, RunConfig
from pm_pipeline.engine.tape import Evidence

__all__ = [
    "SCENARIOS",
    "TRUTHFUL_LATENCY",
    "Action",
    "EndedBy",
    "Evidence",
    "ExecutionConfig",
    "Holding",
    "Leak",
    "Ledger",
    "LedgerError",
    "LookAheadError",
    "Mark",
    "MarketInput",
    "Reason",
    "RiskLimits",
    "RunConfig",
    "Scenario",
    "Settlement",
    "Signal",
    "SignalError",
    "Signals",
    "SimResult",
    "Sizing",
    "SizingMode",
    "Skip",
    "find_lookahead",
    "simulate",
]
