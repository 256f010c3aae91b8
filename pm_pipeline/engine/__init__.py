"""The simulation: orders against recorded markets, fees, settlement, and an exact ledger."""

from pm_pipeline.engine.forms.lookahead import Leak, find_lookahead
from pm_pipeline.engine.money.conversion import convert, merge, redeem, split
from pm_pipeline.engine.money.fees import FeeModel, FillLeg, Liquidity, fee_model
from pm_pipeline.engine.money.ledger import Holding, Ledger, LedgerError
from pm_pipeline.engine.money.rebates import estimate_rebates
from pm_pipeline.engine.money.settlement import Settlement
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.risk import RiskLimits
from pm_pipeline.engine.scenarios import SCENARIOS, TRUTHFUL_LATENCY, ExecutionConfig, Mark, Scenario
from pm_pipeline.engine.signals import Action, LookAheadError, Signal, SignalError, Signals, Skip
from pm_pipeline.engine.simulation.results import SimResult
from pm_pipeline.engine.simulation.simulate import simulate, simulate_scenarios
from pm_pipeline.engine.simulation.state import MarketInput, RunConfig
from pm_pipeline.engine.sizing import Sizing, SizingMode
from pm_pipeline.engine.venue.exits import EndedBy
from pm_pipeline.engine.venue.tape import Evidence

__all__ = [
    "SCENARIOS",
    "TRUTHFUL_LATENCY",
    "Action",
    "EndedBy",
    "Evidence",
    "ExecutionConfig",
    "FeeModel",
    "FillLeg",
    "Holding",
    "Leak",
    "Ledger",
    "LedgerError",
    "Liquidity",
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
    "convert",
    "estimate_rebates",
    "fee_model",
    "find_lookahead",
    "merge",
    "redeem",
    "simulate",
    "simulate_scenarios",
    "split",
]
