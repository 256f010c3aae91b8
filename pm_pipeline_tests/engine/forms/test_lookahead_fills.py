"""A strategy that peeks at fills of the future is caught, whichever of their columns it looks at."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pm_pipeline.engine import Signal, Signals, find_lookahead
from pm_pipeline.engine.forms.lookahead import Probe
from pm_pipeline.warehouse.arrays import BUY, TAKER, FillArrays
from pm_pipeline.warehouse.asof import AsOfView, view_of
from pm_pipeline.warehouse.records import to_table
from pm_pipeline.warehouse.schema import table
from pm_pipeline.warehouse.wallet_fills import FILLS
from pm_pipeline_tests.engine.builders import at, data, enter, market, mids

STAR = bytes([200]) * 20


def some_fills(count: int = 60, delay: int = 5) -> pa.Table:
    rng = np.random.default_rng(5)
    ts = [at(60 * n) for n in range(count)]
    columns = {
        "market_key": ["polymarket:1"] * count,
        "outcome_index": rng.integers(0, 2, count).tolist(),
        "ts": ts,
        "known_at": [t + delay * 10**9 for t in ts],
        "ingested_at": ts,
        "block": [None] * count,
        "log_index": [None] * count,
        "tx": [bytes(32)] * count,
        "order_hash": [bytes([n]) * 32 for n in range(count)],
        "wallet": [STAR if n else bytes([201]) * 20 for n in rng.integers(0, 2, count)],
        "role": [("maker", "taker")[n] for n in rng.integers(0, 2, count)],
        "side": [("buy", "sell")[n] for n in rng.integers(0, 2, count)],
        "side_evidence": ["onchain"] * count,
        "price": (rng.integers(20, 80, count) * 10_000).tolist(),
        "size": (rng.integers(1, 80, count) * 1_000_000).tolist(),
        "cash": [1] * count,
        "fee": [0] * count,
        "fee_unit": ["dollars"] * count,
        "balance": ["exact"] * count,
        "counts_volume": [True] * count,
        "source": ["test"] * count,
    }
    assert set(columns) == set(table(FILLS).arrow.names)
    return to_table(FILLS, columns)


def a_view() -> AsOfView:
    fills = {FILLS: some_fills()}
    return view_of(data(market(scheduled_close=at(3600)), mids([(0, 50.0)]), fills))


class Copier:
    """Enters after each fill of which ``likes`` holds for the fill ``ahead`` places later."""

    def __init__(self, likes: Callable[[FillArrays], np.ndarray], ahead: int) -> None:
        self.likes = likes
        self.ahead = ahead

    def signals(self, view: AsOfView) -> Signals:
        fills = view.fills()
        liked = self.likes(fills)
        made: list[Signal] = []
        for n in range(len(fills) - self.ahead):
            if liked[n + self.ahead]:
                known = int(fills.known_at[n])
                made.append(replace(enter(0), ts=known, inputs_known_at=known))
        return Signals.of(made)


LOOKS: dict[str, Callable[[FillArrays], np.ndarray]] = {
    "wallet": lambda fills: fills.wallet == "0x" + STAR.hex(),
    "side": lambda fills: fills.side == BUY,
    "role": lambda fills: fills.role == TAKER,
    "outcome": lambda fills: fills.outcome_index == 1,
    "price": lambda fills: fills.price > 500_000,
    "size": lambda fills: fills.size > 40_000_000,
}


@pytest.mark.parametrize("column", LOOKS)
def test_a_canary_that_peeks_at_one_column_of_fills_is_caught(column: str) -> None:
    view, canary = a_view(), Copier(LOOKS[column], ahead=1)
    signals = canary.signals(view)
    assert len(signals) > 10
    leaks = find_lookahead(canary, view, signals, sample=8, seed=1)
    assert {leak.probe for leak in leaks} == {Probe.TRUNCATION, Probe.POISON, Probe.CLAIM}


@pytest.mark.parametrize("column", LOOKS)
def test_who_copies_fills_once_they_are_known_is_not_caught(column: str) -> None:
    view, honest = a_view(), Copier(LOOKS[column], ahead=0)
    signals = honest.signals(view)
    assert len(signals) > 10
    assert find_lookahead(honest, view, signals, sample=8, seed=1) == []


def test_who_trades_in_the_second_of_the_block_is_caught_for_the_delay() -> None:
    class Hasty(Copier):
        def signals(self, view: AsOfView) -> Signals:
            fills = view.fills()
            return Signals.of(
                replace(enter(0), ts=int(ts), inputs_known_at=int(ts))
                for ts, liked in zip(fills.ts, self.likes(fills), strict=True)
                if liked
            )

    view, hasty = a_view(), Hasty(LOOKS["side"], 0)
    leaks = find_lookahead(hasty, view, hasty.signals(view), sample=8, seed=1)
    assert Probe.TRUNCATION in {leak.probe for leak in leaks}
