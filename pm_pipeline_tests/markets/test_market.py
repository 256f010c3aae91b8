from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.market import TickRange, round_to_tick, tick_at
from pm_pipeline_tests.markets.builders import a_market

CENTS = (TickRange(10_000, 990_000, 10_000),)
TAPERED = (
    TickRange(1_000, 100_000, 1_000),
    TickRange(100_000, 900_000, 10_000),
    TickRange(900_000, 999_000, 1_000),
)


def test_a_market_as_listed_knows_nothing_that_came_later() -> None:
    market = a_market(volume=5_000_000, traded_until=1, slug="will-it")
    listed = market.as_listed()
    assert (listed.volume, listed.traded_until) == (None, None)
    assert (listed.slug, listed.key) == (market.slug, market.key)


def test_an_outcome_is_found_by_its_index() -> None:
    market = a_market()
    assert [market.instrument(i).label for i in (0, 1)] == ["Yes", "No"]
    with pytest.raises(IndexError):
        market.instrument(2)


def test_a_market_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        a_market().question = "another"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("price", "step"),
    [
        (1_000, 1_000),
        (99_999, 1_000),
        (100_000, 10_000),
        (500_000, 10_000),
        (900_000, 1_000),
        (999_000, 1_000),
    ],
)
def test_where_two_tick_ranges_meet_the_one_that_starts_there_decides(price: int, step: int) -> None:
    assert tick_at(TAPERED, price) == step


@pytest.mark.parametrize("price", [0, 999_001, 1_000_000])
def test_a_price_outside_all_ranges_has_no_tick(price: int) -> None:
    with pytest.raises(ValueError, match=str(price)):
        tick_at(TAPERED, price)


@pytest.mark.parametrize(
    ("price", "down", "up"),
    [
        (523_400, 520_000, 530_000),
        (520_000, 520_000, 520_000),
        (99_500, 99_000, 100_000),
        (100_001, 100_000, 110_000),
        (899_999, 890_000, 900_000),
        (900_001, 900_000, 901_000),
        (0, 1_000, 1_000),
        (1_000_000, 999_000, 999_000),
    ],
)
def test_a_price_is_drawn_to_the_grid(price: int, down: int, up: int) -> None:
    assert round_to_tick(TAPERED, price, up=False) == down
    assert round_to_tick(TAPERED, price, up=True) == up


@given(st.integers(10_000, 990_000), st.booleans(), st.sampled_from([CENTS, TAPERED]))
def test_a_rounded_price_is_valid_and_less_than_a_tick_away(
    price: int, up: bool, ticks: tuple[TickRange, ...]
) -> None:
    rounded = round_to_tick(ticks, price, up=up)
    assert any(r.start <= rounded <= r.end and (rounded - r.start) % r.step == 0 for r in ticks)
    assert round_to_tick(ticks, rounded, up=up) == rounded
    assert 0 <= (rounded - price if up else price - rounded) < 10_000
