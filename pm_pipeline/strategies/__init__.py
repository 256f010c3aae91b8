"""Strategies: what they may see, what they may say, and the ones that come along."""

from pm_pipeline.engine.forms.live import Context
from pm_pipeline.engine.kernel.steps import compiled_step
from pm_pipeline.strategies.base import (
    BaseStrategy,
    CompiledStrategy,
    EventStrategy,
    LiveStrategy,
    StrategyParams,
)
from pm_pipeline.strategies.favourite import Favourite
from pm_pipeline.strategies.mean_reversion import MeanReversion
from pm_pipeline.strategies.momentum import Momentum
from pm_pipeline.strategies.registry import REGISTRY, Registry, StrategyError, load_user_strategies

__all__ = [
    "REGISTRY",
    "BaseStrategy",
    "CompiledStrategy",
    "Context",
    "EventStrategy",
    "Favourite",
    "LiveStrategy",
    "MeanReversion",
    "Momentum",
    "Registry",
    "StrategyError",
    "StrategyParams",
    "compiled_step",
    "load_user_strategies",
]
