"""Interactive figures. They carry data and shape; the page gives them the colours of its theme.

Times are milliseconds since 1970 and values are floats, which Plotly packs into eight bytes each.
"""

from typing import Final, Literal

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
from plotly.subplots import make_subplots

from pm_pipeline.markets.units import MICRO
from pm_pipeline.reports.downsample import kept
from pm_pipeline.reports.run import BASE, OPTIMISTIC, PESSIMISTIC, StrategyResult, nanos, under
from pm_pipeline.reports.style import GAIN, LINES, LOSS, MUTED, faint
from pm_pipeline.research import forecasts
from pm_pipeline.research.returns import Floats, Ints

POINTS: Final = 5_000
"""Points of one curve unless the page asks for fewer."""

GROUPS: Final = 12
"""Bars of the profit by event; the smaller ones are summed up."""

_MAIN: Final = LINES[0]
_OTHER: Final = LINES[1]


def equity_figure(result: StrategyResult, *, points: int = POINTS) -> go.Figure:
    """Equity: the base scenario, the band of the other two, and the drawdown of the base below.

    Of a long curve the fills, the extremes and the deepest drawdown are kept; see
    :func:`pm_pipeline.reports.downsample.kept`.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.74, 0.26], vertical_spacing=0.04)
    edges = [(PESSIMISTIC, None), (OPTIMISTIC, "tonexty")]
    if result.band("total_return") is not None:
        for scenario, fill in edges:
            ts, equity, at = _curve(result, scenario, points)
            figure.add_scatter(
                x=_millis(ts[at]), y=equity[at], name=scenario, mode="lines", fill=fill, row=1, col=1,
                line={"width": 0.8, "color": faint(_MAIN, 0.55)}, fillcolor=faint(_MAIN, 0.16),
            )  # fmt: skip
    ts, equity, at = _curve(result, BASE, points)
    figure.add_scatter(
        x=_millis(ts[at]),
        y=equity[at],
        name=BASE,
        mode="lines",
        line={"width": 2, "color": _MAIN},
        row=1,
        col=1,
    )
    if equity.size:
        fall = equity / np.maximum.accumulate(equity) - 1.0
        figure.add_scatter(
            x=_millis(ts[at]), y=fall[at], name="drawdown", mode="lines", fill="tozeroy", showlegend=False,
            line={"width": 1, "color": LOSS}, fillcolor=faint(LOSS, 0.18), row=2, col=1,
        )  # fmt: skip
    figure.update_xaxes(type="date")
    figure.update_yaxes(tickformat="$,.0f", row=1, col=1)
    figure.update_yaxes(tickformat=".0%", row=2, col=1, title="drawdown", nticks=4)
    return _finish(figure, height=440, hovermode="x unified")


def pnl_figure(trips: pa.Table) -> go.Figure:
    """Profit of the base scenario by event (by market where it has none), largest first."""
    table = under(trips, BASE)
    keys = pc.coalesce(table["group_key"], table["market_key"])
    by_key = pa.table({"key": keys, "pnl": table["pnl"]}).group_by("key").aggregate([("pnl", "sum")])
    pairs = sorted(
        zip(by_key["key"].to_pylist(), by_key["pnl_sum"].to_pylist(), strict=True), key=lambda p: -abs(p[1])
    )
    shown, rest = pairs[:GROUPS], pairs[GROUPS:]
    shown.sort(key=lambda p: p[1])
    if rest:
        shown.insert(0, (f"{len(rest)} others", sum(pnl for _, pnl in rest)))
    values = [pnl / MICRO for _, pnl in shown]
    colours = [MUTED if rest and i == 0 else GAIN if v >= 0 else LOSS for i, v in enumerate(values)]
    figure = go.Figure(
        go.Bar(
            x=values, y=[_short(key) for key, _ in shown], customdata=[key for key, _ in shown],
            orientation="h", width=min(0.8, 0.1 * len(shown)), marker={"color": colours},
            hovertemplate="%{customdata}: %{x:$,.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(tickformat="$,.0f")
    figure.update_yaxes(type="category")
    return _finish(figure, height=380, showlegend=False, grid="x")


def reliability_figure(trips: pa.Table) -> go.Figure:
    """How often forecasts of the base scenario came true, with Wilson bands, beside the market's price."""
    settled = forecasts.settled(under(trips, BASE))
    figure = go.Figure(
        go.Scatter(
            x=[0, 1], y=[0, 1], mode="lines", name="perfect", hoverinfo="skip",
            line={"dash": "dot", "width": 1, "color": MUTED}, showlegend=False,
        )
    )  # fmt: skip
    for name, p, colour, symbol in (
        ("market", settled.market, _OTHER, "diamond-open"),
        ("strategy", settled.p, _MAIN, "circle"),
    ):
        bins = forecasts.reliability(p, settled.outcome)
        figure.add_scatter(
            x=[b.forecast for b in bins], y=[b.outcome for b in bins], name=name, mode="markers",
            marker={"size": 9, "color": colour, "symbol": symbol},
            error_y={
                "type": "data", "symmetric": False, "thickness": 1.2, "width": 3,
                "array": [b.band[1] - b.outcome for b in bins],
                "arrayminus": [b.outcome - b.band[0] for b in bins],
                "visible": name == "strategy",
            },
            customdata=[b.count for b in bins],
            hovertemplate="said %{x:.2f}, came true %{y:.2f} of %{customdata}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_xaxes(range=[-0.02, 1.02], title="forecast", tickformat=".1f")
    figure.update_yaxes(range=[-0.02, 1.02], title="came true", tickformat=".1f")
    return _finish(figure, height=380)


def price_figure(prices: pa.Table, fills: pa.Table, market_key: str, *, points: int = POINTS) -> go.Figure:
    """The price of one market with the entries and exits of the base scenario.

    Drawn is the outcome with the most fills, outcome 0 where there are none.
    """
    ours = under(fills, BASE)
    ours = ours.filter(pc.equal(ours["market_key"], market_key))
    outcomes = np.asarray(ours["outcome_index"].to_numpy(), dtype=np.int64)
    outcome = int(np.bincount(outcomes).argmax()) if outcomes.size else 0
    ours = ours.filter(pc.equal(ours["outcome_index"], outcome))
    shown = prices.filter(
        pc.and_(
            pc.and_(pc.equal(prices["market_key"], market_key), pc.equal(prices["outcome_index"], outcome)),
            pc.is_valid(prices["mid"]),
        )
    ).sort_by("ts")
    ts, mid = nanos(shown, "ts"), np.asarray(shown["mid"].to_numpy(), dtype=np.float64) / MICRO
    at = kept(mid, points, _positions(ts, nanos(ours, "ts")))
    figure = go.Figure(
        go.Scatter(
            x=_millis(ts[at]), y=mid[at], name="mid", mode="lines", line={"width": 1.4, "color": _MAIN}
        )
    )
    for side, symbol, colour in (("buy", "triangle-up", GAIN), ("sell", "triangle-down", LOSS)):
        of_side = ours.filter(pc.equal(ours["side"], side)).slice(0, points)
        figure.add_scatter(
            x=_millis(nanos(of_side, "ts")), y=np.asarray(of_side["price"].to_numpy()) / MICRO, name=side,
            mode="markers", marker={"symbol": symbol, "size": 11, "color": colour},
            customdata=np.asarray(of_side["size"].to_numpy()) / MICRO,
            hovertemplate=side + " %{customdata:,.2f} at %{y:.4f}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(type="date")
    figure.update_yaxes(tickformat="$.2f")
    return _finish(figure, height=320)


def _curve(result: StrategyResult, scenario: str, points: int) -> tuple[Ints, Floats, Ints]:
    """Times, dollars, and the positions to draw, of one scenario."""
    table = under(result.equity, scenario).sort_by("ts")
    ts, equity = nanos(table, "ts"), np.asarray(table["equity"].to_numpy(), dtype=np.float64) / MICRO
    fills = nanos(under(result.fills, scenario), "ts")
    return ts, equity, kept(equity, points, _positions(ts, fills))


def _positions(ts: Ints, moments: Ints) -> Ints:
    """Where each moment shows on the clock: the first point at or after it."""
    found = np.searchsorted(ts, moments)
    return found[found < ts.size]


def _millis(ts: Ints) -> Floats:
    return ts / 1e6


def _short(key: str) -> str:
    return key if len(key) <= 28 else f"{key[:13]}…{key[-14:]}"


def _finish(figure: go.Figure, *, grid: Literal["x", "y"] = "y", **layout: object) -> go.Figure:
    figure.update_layout(
        template="none",
        margin={"l": 56, "r": 16, "t": 12, "b": 40},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        **layout,
    )
    figure.update_xaxes(showgrid=grid == "x", zeroline=False, automargin=True, nticks=6)
    figure.update_yaxes(showgrid=grid == "y", zeroline=False, automargin=True)
    return figure
