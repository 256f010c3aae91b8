"""The files of a report."""

from pathlib import Path

from pm_pipeline.reports.export import write_trades_csv, write_trades_json
from pm_pipeline.reports.files import replacing
from pm_pipeline.reports.image import equity_png
from pm_pipeline.reports.page import render
from pm_pipeline.reports.run import ReportPaths, RunReport


def write_report(run: RunReport, folder: Path) -> ReportPaths:
    """Write ``report.html``, ``equity.png``, ``trades.csv`` and ``trades.json`` into a folder.

    The folder is made where it is missing. Each file is replaced whole, so a reader never sees half of one.
    """
    paths = ReportPaths(
        folder / "report.html", folder / "equity.png", folder / "trades.csv", folder / "trades.json"
    )
    trips = [result.trips for result in run.strategies]
    with replacing(paths.page) as file:
        file.write(render(run).encode("utf-8"))
    equity_png(run, paths.image)
    write_trades_csv(paths.trades_csv, trips)
    write_trades_json(paths.trades_json, trips)
    return paths
