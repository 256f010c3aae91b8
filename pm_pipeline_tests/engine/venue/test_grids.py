import numpy as np
import pytest

from pm_pipeline.engine.scenarios import Scenario
from pm_pipeline.engine.venue.grids import Grids, steps_at
from pm_pipeline.engine.venue.tape import touch_of_quotes
from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.market import TickRange
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.warehouse.asof import Quotes
from pm_pipeline_tests.engine.builders import execution
from pm_pipeline_tests.markets.builders import a_market

CENTS = (TickRange(10_000, 990_000, 10_000),)
TENTHS = (TickRange(1_000, 999_000, 1_000),)
NOW = parse_time("2026-06-01")


def grids(key: str = "polymarket:1", ticks: tuple[TickRange, ...] = TENTHS) -> Grids:
    return Grids.of(RuleBook.default().tick(a_market(key, ticks=ticks), NOW))


def test_only_a_market_with_finer_ticks_than_usual_was_refined() -> None:
    assert grids() == Grids(TENTHS, CENTS, 40_000)
    assert grids(ticks=CENTS) == Grids(CENTS)
    # Kalshi's markets keep the prices that they were made with
    assert grids("kalshi:KXA-B-C") == Grids(TENTHS)


@pytest.mark.parametrize(
    ("mids", "unrefined"),
    [
        ([500_000, 505_000, 40_000, 960_000], [True] * 4),
        ([500_000, 39_000, 500_000], [True, False, False]),
        ([500_000, 961_000, 500_000], [True, False, False]),
        ([500_000, 500_500, 500_000], [True, False, False]),  # between the half cents: there are finer ticks
        ([-1, 500_000, -1, 39_000], [True, True, True, False]),  # no mid shows nothing
        ([], []),
    ],
)
def test_cents_hold_until_the_prices_show_the_finer_ticks(mids: list[int], unrefined: list[bool]) -> None:
    assert grids().unrefined(np.array(mids, np.int64)).tolist() == unrefined
    assert not grids(ticks=CENTS).unrefined(np.array(mids, np.int64)).any()


@pytest.mark.parametrize(
    ("mids", "offers", "bids"),
    [
        # half a spread of a cent from the mid, and on to the next price
        ([0.505, 0.50], [0.52, 0.51], [0.49, 0.49]),
        ([0.505, 0.97, 0.505], [0.52, 0.98, 0.515], [0.49, 0.96, 0.495]),
        ([0.505, 0.5025, 0.505], [0.52, 0.513, 0.515], [0.49, 0.492, 0.495]),
    ],
)
def test_an_offer_made_of_a_mid_lies_on_the_ticks_of_its_time(
    mids: list[float], offers: list[float], bids: list[float]
) -> None:
    ts = np.arange(len(mids), dtype=np.int64)
    none = np.full(len(mids), -1, np.int64)
    quotes = Quotes(ts, ts, (np.array(mids) * 1e6).round().astype(np.int64), none, none)
    touch = touch_of_quotes(quotes, grids(), execution().under(Scenario.BASE))
    assert (touch.ask / 1e6).tolist() == offers
    assert (touch.bid / 1e6).tolist() == bids


def test_a_recorded_offer_is_taken_as_it_was() -> None:
    ts = np.zeros(1, np.int64)
    quotes = Quotes(ts, ts, np.array([505_000]), np.array([503_000]), np.array([507_000]))
    touch = touch_of_quotes(quotes, grids(), execution().under(Scenario.BASE))
    assert (touch.bid.tolist(), touch.ask.tolist()) == ([503_000], [507_000])


def test_where_ranges_meet_the_step_is_that_of_the_later_one() -> None:
    tapered = (TickRange(1_000, 40_000, 1_000), TickRange(40_000, 999_000, 10_000))
    assert steps_at(tapered, np.array([39_000, 40_000, 41_000])).tolist() == [1_000, 10_000, 10_000]
