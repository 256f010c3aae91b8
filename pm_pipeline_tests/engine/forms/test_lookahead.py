from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pm_pipeline.engine import Signal, Signals, find_lookahead
from pm_pipeline.engine.forms.lookahead import Probe
from pm_pipeline.markets import MICRO
from pm_pipeline.strategies import REGISTRY
from pm_pipeline.warehouse.asof import AsOfView, view_of
from pm_pipeline_tests.engine.builders import at, book, data, doc_table, enter, market, mids, snapshot
from pm_pipeline_tests.warehouse import builders as warehouse


class Made:
    """A strategy from a function."""

    def __init__(self, make: Callable[[AsOfView], list[Signal]]) -> None:
        self.make = make

    def signals(self, view: AsOfView) -> Signals:
        return Signals.of(self.make(view))


def a_view(minutes: int = 60) -> AsOfView:
    rng = np.random.default_rng(3)
    walk = np.clip(50 + np.cumsum(rng.normal(0, 2, minutes)), 5, 95).round(1)
    points = [(60 * i, float(mid)) for i, mid in enumerate(walk)]
    trades = warehouse.trades([{"ts": 60 * i, "price": 500_000} for i in range(minutes)])
    return view_of(
        data(
            market(scheduled_close=at(60 * minutes)),
            mids(points),
            book(snapshot(1, [(45, 100)], [(48, 50)])),
            {"market_data.trades": trades},
        )
    )


def rises(view: AsOfView) -> list[Signal]:
    """Honest: buys after each rise."""
    quotes = view.quotes()
    return [
        replace(enter(0), ts=int(t), inputs_known_at=int(t), p_market=m / MICRO)
        for t, m, before in zip(quotes.known_at[1:], quotes.mid[1:], quotes.mid[:-1], strict=True)
        if m > before
    ]


def shifted(view: AsOfView) -> list[Signal]:
    """Buys before each rise: the price shifted by -1."""
    quotes = view.quotes()
    return [
        replace(enter(0), ts=int(t), inputs_known_at=int(t))
        for t, m, after in zip(quotes.known_at[:-1], quotes.mid[:-1], quotes.mid[1:], strict=True)
        if after > m
    ]


def normalised(view: AsOfView) -> list[Signal]:
    """Compares each price with the last one of the whole series."""
    quotes = view.quotes()
    last = quotes.mid[-1] if len(quotes) else 0
    return [
        replace(enter(0), ts=int(t), inputs_known_at=int(t))
        for t, m in zip(quotes.known_at, quotes.mid, strict=True)
        if m < last
    ]


def liar(view: AsOfView) -> list[Signal]:
    """Looks back only, but says that it knew its inputs two minutes earlier."""
    return [replace(s, inputs_known_at=s.inputs_known_at - at(120) + at(0)) for s in rises(view)]


def climber(view: AsOfView) -> list[Signal]:
    """Climbs out of the view through private names."""
    return shifted(AsOfView(view._data, 2**62, view.market))


def presumptuous(view: AsOfView) -> list[Signal]:
    """Asks the view for what comes after it."""
    rows = rises(view)
    if view.until < 2**62:
        view.as_of(view.until + 1)
    return rows


@pytest.mark.parametrize(
    ("make", "caught_by"),
    [
        (rises, set()),
        (shifted, {Probe.TRUNCATION, Probe.POISON, Probe.CLAIM}),
        (normalised, {Probe.TRUNCATION, Probe.POISON, Probe.CLAIM}),
        (liar, {Probe.CLAIM}),
        (climber, {Probe.TRUNCATION, Probe.POISON, Probe.CLAIM}),
        (presumptuous, {Probe.TRUNCATION}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_strategy_that_peeks_is_caught(
    make: Callable[[AsOfView], list[Signal]], caught_by: set[Probe]
) -> None:
    view, strategy = a_view(), Made(make)
    signals = strategy.signals(view)
    assert len(signals) > 10
    leaks = find_lookahead(strategy, view, signals, sample=8, seed=1)
    assert {leak.probe for leak in leaks} == caught_by
    assert all(leak.detail for leak in leaks)


@pytest.mark.parametrize("name", ["favourite", "mean_reversion", "momentum"])
def test_the_shipped_strategies_are_not_caught(name: str) -> None:
    values: dict[str, dict[str, Any]] = {
        "favourite": {"lead_hours": 0.2, "min_price": "0.05"},
        "mean_reversion": {
            "bar_minutes": 0.5,
            "window": 5,
            "entry_z": 1.2,
            "min_move": 0,
            "min_hours_to_close": 0,
        },
        "momentum": {"bar_minutes": 0.5, "lookback_hours": 0.1, "threshold": 0.05, "max_hold_hours": 0.2},
    }
    view, strategy = a_view(), REGISTRY.create(name, values[name])
    signals = strategy.signals(view)
    assert len(signals) > 0
    assert find_lookahead(strategy, view, signals, sample=10) == []


def test_the_same_seed_finds_the_same_leaks() -> None:
    view, strategy = a_view(), Made(shifted)
    signals = strategy.signals(view)
    first = find_lookahead(strategy, view, signals, sample=5, seed=7)
    assert first == find_lookahead(strategy, view, signals, sample=5, seed=7)
    assert "vanished" in first[0].detail


def test_no_signals_have_no_leaks() -> None:
    assert find_lookahead(Made(shifted), a_view(), Signals()) == []


def test_the_probes_are_those_of_the_page() -> None:
    assert [row["probe"] for row in doc_table("engine.md", "Look-ahead")] == [str(p) for p in Probe]
