"""The equity curve as a PNG file, drawn without a browser and without global state."""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, PercentFormatter

from pm_pipeline.reports.downsample import kept
from pm_pipeline.reports.files import replacing
from pm_pipeline.reports.run import BASE, OPTIMISTIC, PESSIMISTIC, RunReport, StrategyResult, nanos, under
from pm_pipeline.reports.style import INK, LINES, MUTED, RULE
from pm_pipeline.research.returns import Floats, Ints

_POINTS: Final = 4_000


def equity_png(run: RunReport, path: Path) -> None:
    """Draw the equity of all strategies with their bands, and the drawdown of the base scenario below."""
    with replacing(path) as file:
        figure = Figure(figsize=(11, 6.2), dpi=150, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1))
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        for result, colour in zip(run.strategies, _colours(len(run.strategies)), strict=True):
            _draw(result, colour, top, below)
        figure.suptitle(
            f"Equity · run {run.run_id}", x=0.012, ha="left", fontsize=13, fontweight="bold", color=INK
        )
        figure.text(
            0.988, 0.972, run.world, ha="right", va="top", fontsize=10, fontweight="bold",
            bbox={"boxstyle": "round,pad=0.35", "facecolor": "none", "edgecolor": INK},
        )  # fmt: skip
        _finish(top, below)
        figure.savefig(file, format="png")


def _colours(count: int) -> list[str]:
    return [LINES[i % len(LINES)] for i in range(count)]


def _curve(result: StrategyResult, scenario: str) -> tuple[Ints, Floats]:
    table = under(result.equity, scenario).sort_by("ts")
    return nanos(table, "ts"), np.asarray(table["equity"].to_numpy(), dtype=np.float64) / 1e6


def _draw(result: StrategyResult, colour: str, top: Axes, below: Axes) -> None:
    ts, equity = _curve(result, BASE)
    if not equity.size:
        return
    at = kept(equity, _POINTS)
    times = ts[at].astype("datetime64[ns]")
    top.plot(times, equity[at], color=colour, linewidth=1.6, label=result.name, zorder=3)
    low, high = _curve(result, PESSIMISTIC), _curve(result, OPTIMISTIC)
    if low[1].size and high[1].size:
        # both curves at the times of the base one: the clock of a run is shared, its ends need not be
        edges = [v[np.clip(np.searchsorted(t, ts[at], side="right") - 1, 0, None)] for t, v in (low, high)]
        top.fill_between(times, edges[0], edges[1], color=colour, alpha=0.18, linewidth=0, zorder=2)
    fall = equity / np.maximum.accumulate(equity) - 1.0
    below.plot(times, fall[at], color=colour, linewidth=1.0)
    below.fill_between(times, fall[at], 0.0, color=colour, alpha=0.08, linewidth=0)


def _finish(top: Axes, below: Axes) -> None:
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    below.xaxis.set_major_locator(locator)
    below.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"${value:,.0f}"))
    below.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    below.set_ylabel("Drawdown", color=MUTED, fontsize=9)
    for axes in (top, below):
        axes.grid(visible=True, axis="y", color=RULE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(colors=MUTED, labelsize=9, length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(RULE)
        axes.margins(x=0.005)
    if top.get_legend_handles_labels()[0]:
        top.set_title("line: base; band: pessimistic … optimistic", loc="right", fontsize=8, color=MUTED)
        top.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), frameon=False, fontsize=9, ncols=4)
