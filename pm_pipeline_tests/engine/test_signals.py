import math
from typing import Any

import pytest

from pm_pipeline.engine import Action, LookAheadError, SignalError, Signals, Skip
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.signals import dump_skips, load_skips
from pm_pipeline.markets import MICRO
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.engine.builders import at, doc_table, enter, leave


def test_signals_are_sorted_by_time_then_outcome() -> None:
    signals = Signals.of([enter(5), leave(3, 1), enter(3, 0)])
    assert [(s.ts, s.outcome_index) for s in signals] == [(at(3), 0), (at(3), 1), (at(5), 0)]
    assert len(signals) == 3
    assert signals[0].action is Action.ENTER
    assert signals[1:] == signals.items[1:]
    assert signals.until(at(4)) == signals.items[:2]


def test_a_signal_that_uses_later_knowledge_is_an_error() -> None:
    with pytest.raises(LookAheadError, match="decide later, or use less"):
        Signals.of([enter(5, inputs_known_at=at(5) + 1)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit_price": MICRO + 1},
        {"stop_price": -1},
        {"target_price": 2 * MICRO},
        {"trailing": -5},
        {"p_hat": 1.5},
        {"p_market": -0.1},
        {"p_se": -0.1},
        {"stake": 0},
        {"exit_at": at(5)},
        {"outcome_index": -1},
    ],
    ids=str,
)
def test_a_value_out_of_its_range_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(SignalError):
        Signals.of([enter(5, **wrong)])


def test_a_probability_that_is_no_number_becomes_null_and_says_so() -> None:
    signals = Signals.of([enter(5, p_hat=math.nan, p_se=math.nan, p_market=0.5)])
    assert (signals[0].p_hat, signals[0].p_se, signals[0].p_market) == (None, None, 0.5)
    (skip,) = signals.skipped
    assert (skip.ts, skip.reason, skip.outcome_index) == (at(5), Reason.UNDEFINED_PROBABILITY, 0)
    assert "p_hat and p_se" in skip.detail


def test_the_table_has_the_declared_schema_and_reads_back_as_written() -> None:
    skipped = [Skip(at(1), Reason.NO_PRICE, "none")]
    signals = Signals.of(
        [
            enter(5, p_hat=0.6, p_se=0.1, limit_price=610_000, stake=5 * MICRO, exit_at=at(9), tag="why"),
            leave(7, 1, stop_price=1, target_price=2, trailing=3),
        ],
        skipped,
    )
    rows = signals.to_table("s", "polymarket:1", "r")
    assert rows.schema == table("backtest.signals").arrow
    assert Signals.from_table(rows, skipped) == signals


def test_skips_kept_as_text_read_back_as_they_were() -> None:
    skips = (Skip(at(1) + 1, Reason.NO_PRICE, "none"), Skip(at(2), "own", "", 1))
    assert load_skips(dump_skips(skips)) == skips


def test_no_signals_are_an_empty_table() -> None:
    rows = Signals().to_table("s", "polymarket:1", "r")
    assert (rows.num_rows, rows.schema) == (0, table("backtest.signals").arrow)
    assert Signals.from_table(rows) == Signals()


def test_every_reason_is_on_the_page_with_its_meaning() -> None:
    assert [(row["code"], row["meaning"]) for row in doc_table("engine.md", "Reasons")] == [
        (reason.value, reason.meaning) for reason in Reason
    ]
