"""One self-contained HTML page about a run: no file beside it, no network, dark and light."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pm_pipeline.markets.clock import format_time, to_nanos
from pm_pipeline.markets.units import format_dollars
from pm_pipeline.reports import figures
from pm_pipeline.reports.run import BASE, WORLDS, RunReport, Skipped, StrategyResult, under
from pm_pipeline.research.metrics import METRICS, SUMMARY, Level, Metric, show, show_band

LARGEST_TRADES: Final = 10
SKIPPED_SHOWN: Final = 500
"""Skips and refusals listed one by one; all are counted by reason."""

_CURVE_POINTS: Final = 100_000
"""Points of all equity curves of a page together, which keeps it below 8 MB."""

_FEWEST_POINTS: Final = 250

_LEVELS: Final = {
    Level.EQUITY: "Bankroll",
    Level.TRADE: "Trades",
    Level.FORECAST: "Forecasts against the market's own price",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure as the page shows it; ``sign`` is gain, loss or empty."""

    value: str
    band: str
    note: str
    sign: str


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one strategy with its explanation."""

    metric: Metric
    cell: Cell


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure on the page: its caption and its JSON, safe inside a script element."""

    title: str
    caption: str
    json: Markup
    height: int
    wide: bool


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says about one strategy."""

    name: str
    title: str
    tiles: tuple[Row, ...]
    plots: tuple[Plot, ...]
    levels: tuple[tuple[str, tuple[Row, ...]], ...]
    trades: tuple[dict[str, str], ...]
    trade_count: int
    skipped: tuple[Skipped, ...]
    skipped_by_reason: tuple[tuple[str, int], ...]
    skipped_total: int


_TILES: Final = ("total_return", "sharpe", "max_drawdown", "win_rate", "profit_factor", "brier_skill")


def render(run: RunReport) -> str:
    """The whole page as text. Everything that came from outside is escaped."""
    points = max(_FEWEST_POINTS, _CURVE_POINTS // (4 * max(len(run.strategies), 1)))
    return _template().render(
        run=run,
        world_meaning=WORLDS.get(run.world, ""),
        started=format_time(to_nanos(run.started_at)),
        names=[METRICS[name] for name in SUMMARY],
        summary=[(s, [_cell(s, name) for name in SUMMARY]) for s in run.strategies],
        sections=[_section(run, result, min(points, figures.POINTS)) for result in run.strategies],
        config=json.dumps(run.config, indent=2, sort_keys=True, default=str, ensure_ascii=False),
        plotly=Markup(get_plotlyjs()),
        skipped_shown=SKIPPED_SHOWN,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("pm_pipeline.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _section(run: RunReport, result: StrategyResult, points: int) -> Section:
    reasons: dict[str, int] = {}
    for skipped in result.skipped:
        reasons[skipped.reason] = reasons.get(skipped.reason, 0) + 1
    base = under(result.trips, BASE)
    return Section(
        name=result.name,
        title=result.title,
        tiles=tuple(_row(result, name) for name in _TILES),
        plots=tuple(_plots(run, result, base, points)),
        levels=tuple(_levels(result)),
        trades=tuple(_largest(base)),
        trade_count=base.num_rows,
        skipped=result.skipped[:SKIPPED_SHOWN],
        skipped_by_reason=tuple(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
        skipped_total=len(result.skipped),
    )


def _levels(result: StrategyResult) -> Iterator[tuple[str, tuple[Row, ...]]]:
    present = result.metrics.get(BASE, {})
    for level, title in _LEVELS.items():
        found = tuple(
            _row(result, name) for name, m in METRICS.items() if m.level is level and name in present
        )
        if found:
            yield title, found


def _row(result: StrategyResult, name: str) -> Row:
    return Row(METRICS[name], _cell(result, name))


def _cell(result: StrategyResult, name: str) -> Cell:
    figure, band = result.figure(name), result.band(name)
    coloured = METRICS[name].higher_is_better is True and name.removesuffix("_low") in _SIGNED
    sign = "" if not coloured or not figure.value else ("gain" if figure.value > 0 else "loss")
    return Cell(
        value=show(name, figure),
        band=show_band(name, *band) if band and any(f.defined for f in band) else "",
        note=figure.note,
        sign=sign if figure.defined else "",
    )


_SIGNED: Final = ("total_return", "total_pnl", "expectancy", "brier_skill", "closing_line_value", "cagr")
"""Figures for which the sign is the message."""


def _plots(run: RunReport, result: StrategyResult, base: pa.Table, points: int) -> Iterator[Plot]:
    if result.equity.num_rows:
        yield _plot(
            "Equity",
            "Line: base scenario. Band: pessimistic to optimistic. Below: fall from the running peak.",
            figures.equity_figure(result, points=points),
            wide=True,
        )
    if not base.num_rows:
        return
    yield _plot(
        "Profit by event",
        "After fees, base scenario. Trades of one event are one bet.",
        figures.pnl_figure(result.trips),
    )
    if pc.sum(pc.and_(pc.is_valid(base["p_hat"]), pc.is_valid(base["payout"]))).as_py():
        yield _plot(
            "Reliability",
            "Forecasts in ten bins against what happened, with 95 % Wilson bands. On the line is calibrated.",
            figures.reliability_figure(result.trips),
        )
    market = _market_to_draw(run.prices, base)
    if run.prices is not None and market is not None:
        yield _plot(
            f"Trades on {market}",
            "The market with the largest profit or loss among those drawn.",
            figures.price_figure(run.prices, result.fills, market, points=points),
            wide=True,
        )


def _market_to_draw(prices: pa.Table | None, base: pa.Table) -> str | None:
    """Of the markets with prices the one that moved the result most; None where there is none."""
    if prices is None:
        return None
    known = base.filter(pc.is_in(base["market_key"], value_set=pc.unique(prices["market_key"])))
    if not known.num_rows:
        return None
    sums = known.group_by("market_key").aggregate([("pnl", "sum")])
    at = int(np.abs(np.asarray(sums["pnl_sum"].to_numpy())).argmax())
    return str(sums["market_key"][at].as_py())


def _plot(title: str, caption: str, figure: go.Figure, *, wide: bool = False) -> Plot:
    # "<" never appears raw, so no text of a market can end the script element
    text = str(figure.to_json()).replace("<", "\\u003c")
    return Plot(title, caption, Markup(text), int(figure.layout.height), wide)


def _largest(base: pa.Table) -> Iterator[dict[str, str]]:
    order = np.argsort(-np.abs(np.asarray(base["pnl"].to_numpy())), kind="stable")[:LARGEST_TRADES]
    for trip in base.take(pa.array(order)).to_pylist():
        yield {
            "market": str(trip["market_key"]),
            "outcome": str(trip["outcome_index"]),
            "entered": f"{trip['entered_at']:%Y-%m-%d %H:%M}",
            "exited": f"{trip['exited_at']:%Y-%m-%d %H:%M}",
            "ended_by": str(trip["ended_by"]),
            "evidence": str(trip["evidence"]),
            "cost": format_dollars(trip["cost"]),
            "fees": format_dollars(trip["fees"]),
            "pnl": format_dollars(trip["pnl"]),
            "sign": "loss" if trip["pnl"] < 0 else "gain" if trip["pnl"] > 0 else "",
        }
