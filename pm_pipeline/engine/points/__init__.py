"""Points in time, no depth: a compiled simulation of rules and signals over thousands of markets of quotes.

The fast form of :func:`pm_pipeline.engine.simulate` for a declared domain (``docs/points.md``), equal to it.
"""

from pm_pipeline.engine.points.layout import Points, Quoted
from pm_pipeline.engine.points.rules import ZRule, scores
from pm_pipeline.engine.points.runner import PointsResult, play, warm
from pm_pipeline.engine.points.sweep import sweep

__all__ = ["Points", "PointsResult", "Quoted", "ZRule", "play", "scores", "sweep", "warm"]
