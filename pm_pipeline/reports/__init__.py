"""What a person reads: figures, pages, and exports."""

from pm_pipeline.reports.run import ReportPaths, RunReport, Skipped, StrategyResult
from pm_pipeline.reports.sparkline import sparkline
from pm_pipeline.reports.table import markdown_table, terminal_table
from pm_pipeline.reports.write import write_report

__all__ = [
    "ReportPaths",
    "RunReport",
    "Skipped",
    "StrategyResult",
    "markdown_table",
    "sparkline",
    "terminal_table",
    "write_report",
]
