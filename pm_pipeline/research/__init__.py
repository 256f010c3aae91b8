"""Statistics of results: pure functions with a stated policy for what is undefined."""

from pm_pipeline.research.figure import Figure
from pm_pipeline.research.metrics import METRICS, SUMMARY, Level, Metric, Unit, headline, show, show_band

__all__ = ["METRICS", "SUMMARY", "Figure", "Level", "Metric", "Unit", "headline", "show", "show_band"]
