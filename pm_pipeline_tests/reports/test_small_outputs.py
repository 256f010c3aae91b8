"""The outputs that fit beside other things: sparkline, tables, PNG."""

import base64
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from io import StringIO
from pathlib import Path

import matplotlib as mpl
import matplotlib.image as mpl_image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pm_pipeline.reports import RunReport, markdown_table, sparkline, terminal_table
from pm_pipeline.reports.image import equity_png
from pm_pipeline.reports.sparkline import LARGEST, svg
from pm_pipeline_tests.reports.sample import run, strategy


def image_of(markdown: str) -> ET.Element:
    found = re.fullmatch(r"!\[[^\]]*\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert found
    return ET.fromstring(base64.b64decode(found[1]))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=300))
def test_a_sparkline_is_a_small_valid_image_whatever_it_shows(values: list[float]) -> None:
    drawn = sparkline(values)
    assert len(drawn) < LARGEST
    assert image_of(drawn).tag.endswith("svg")


def test_a_long_curve_fits_into_a_kilobyte() -> None:
    drawn = sparkline(np.random.default_rng(1).normal(size=100_000).tolist(), "a] (b" * 50)
    assert len(drawn.encode()) < LARGEST


@pytest.mark.parametrize(
    ("values", "points", "colour"),
    [
        ([1.0, 2.0], "1,22 119,2", "#2a9d77"),
        ([2.0, 1.0], "1,2 119,22", "#d1495b"),
        ([5.0, 5.0], "1,12 119,12", "#2a9d77"),
        ([1.0, float("nan"), 2.0], "1,22 119,2", "#2a9d77"),
    ],
)
def test_the_line_goes_from_start_to_end(values: list[float], points: str, colour: str) -> None:
    (line,) = ET.fromstring(svg(values))
    assert (line.get("points"), line.get("stroke")) == (points, colour)


@pytest.mark.parametrize("values", [[], [1.0], [float("nan")] * 3])
def test_without_two_values_nothing_is_drawn(values: list[float]) -> None:
    assert list(ET.fromstring(svg(values))) == []


@pytest.fixture(scope="module")
def report() -> RunReport:
    return run(
        strategy("value", "Prediction | value", count=30), strategy("other", "[red]Other", count=30, seed=2)
    )


def test_the_terminal_shows_world_titles_figures_and_bands(report: RunReport) -> None:
    console = Console(width=120, file=StringIO())
    console.print(terminal_table(report, ["sharpe", "trades"]))
    assert isinstance(console.file, StringIO)
    shown = " ".join(console.file.getvalue().split())
    for part in (
        "SANDBOX",
        "Prediction | value",
        "[red]Other",
        "[30 … 30]",
        "Base [pessimistic … optimistic]",
    ):
        assert part in shown


def test_markdown_has_a_row_per_strategy_and_a_cell_per_figure(report: RunReport) -> None:
    lines = markdown_table(report, ["sharpe", "trades"]).splitlines()
    assert lines[0].startswith("**SANDBOX**")
    assert lines[2] == "| Strategy | Sharpe | Trades |"
    assert lines[4].startswith("| Prediction \\| value | ")
    assert lines[4].endswith(" | 30 [30 … 30] |")
    assert len(lines) == 6


def test_without_scenarios_there_is_no_band(report: RunReport) -> None:
    first = report.strategies[0]
    alone = replace(first, metrics={"base": first.metrics["base"]})
    assert markdown_table(run(alone), ["trades"]).endswith("| 30 |")


def test_the_image_is_drawn_without_a_browser_or_global_state(report: RunReport, tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    equity_png(report, tmp_path / "equity.png")
    pixels = mpl_image.imread(tmp_path / "equity.png")
    assert pixels.shape == (930, 1650, 4)
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 50
    assert dict(mpl.rcParams) == settings
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_run_without_equity_is_still_an_image(report: RunReport, tmp_path: Path) -> None:
    first = report.strategies[0]
    equity_png(run(replace(first, equity=first.equity.slice(0, 0))), tmp_path / "a.png")
    equity_png(run(), tmp_path / "b.png")
    assert mpl_image.imread(tmp_path / "b.png").shape == (930, 1650, 4)
