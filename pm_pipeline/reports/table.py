"""Strategies side by side: base figures with their pessimistic … optimistic band."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from pm_pipeline.reports.run import WORLDS, RunReport, StrategyResult
from pm_pipeline.research.metrics import METRICS, SUMMARY, show, show_band


def cell(result: StrategyResult, name: str) -> tuple[str, str]:
    """A figure as shown: the base value and the band in brackets, empty where there is none."""
    band = result.band(name)
    return show(name, result.figure(name)), f"[{show_band(name, *band)}]" if band else ""


def terminal_table(run: RunReport, names: Sequence[str] = SUMMARY) -> Table:
    """The comparison for a terminal: a row per figure, a column per strategy."""
    table = Table(
        title=Text(f"{run.world} · run {run.run_id}"),
        caption=Text(f"{WORLDS.get(run.world, '')} Base [pessimistic … optimistic]."),
        title_style="bold",
    )
    table.add_column("Figure", no_wrap=True)
    for result in run.strategies:
        table.add_column(Text(result.title), justify="right")
    for name in names:
        row = [Text(METRICS[name].title)]
        for result in run.strategies:
            value, band = cell(result, name)
            row.append(Text.assemble((value, "bold"), f"\n{band}" if band else ""))
        table.add_row(*row)
    return table


GLANCE: Final = tuple(name for name in SUMMARY if name not in {"win_rate", "profit_factor", "total_return"})
"""What the metadata of a materialisation shows: Dagster hides a text of 1,000 characters behind a link."""


def markdown_table(run: RunReport, names: Sequence[str] = GLANCE) -> str:
    """The comparison in Markdown: a row per strategy, a column per figure; for metadata."""
    lines = [
        f"**{run.world}** · base [pessimistic … optimistic]",
        "",
        "| Strategy | " + " | ".join(METRICS[name].title for name in names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for result in run.strategies:
        cells = (" ".join(part for part in cell(result, name) if part) for name in names)
        lines.append(f"| {result.title.replace('|', chr(92) + '|')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
