from dataclasses import replace
from typing import Any

import pytest

from pm_pipeline.markets.keys import Venue
from pm_pipeline.sources.adapter import MarketState, Selection, Window, to_batch
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.sources.polymarket.material import MARKET

NAME = "market_data.prices"
ROW = {
    "market_key": "polymarket:1", "outcome_index": 0, "ts": 5_000, "known_at": 6_999, "ingested_at": 7_000,
    "mid": 500_000, "resolution_s": 60, "source": "s",
}  # fmt: skip


def test_rows_become_a_batch_of_their_table_with_times_in_microseconds() -> None:
    batch = to_batch(NAME, [ROW])
    assert batch.schema == table(NAME).arrow
    (row,) = batch.to_pylist()
    assert [row[name].microsecond for name in ("ts", "known_at", "ingested_at")] == [5, 6, 7]
    assert (row["mid"], row["bid"]) == (500_000, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"known_at": None}, "lacks its known_at"),
        ({"source": None}, "lacks its source"),
        ({"mid": 2**64}, "does not fit its columns"),
        ({"mid": "many"}, "does not fit its columns"),
    ],
)
def test_a_row_that_does_not_fit_its_table_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        to_batch(NAME, [{**ROW, **change}])


def test_a_window_splits_without_gap_or_overlap() -> None:
    assert list(Window(10, 35).split(10)) == [Window(10, 20), Window(20, 30), Window(30, 35)]
    assert list(Window(10, 10).split(10)) == []


LISTED = replace(
    MARKET,
    series="nyc",
    category=None,
    tags=("Weather", "daily-highs"),
    volume=5_000_000,
    scheduled_close=100,
)


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ({}, True),
        ({"series": ("rome", "nyc")}, True),
        ({"series": ("rome",)}, False),
        ({"category": "weather"}, True),
        ({"category": "Daily Highs"}, True),
        ({"category": "Sports"}, False),
        ({"tags": ("sports", "WEATHER")}, True),
        ({"tags": ("sports",)}, False),
        ({"state": MarketState.CLOSED}, True),
        ({"state": MarketState.OPEN}, False),
        ({"min_volume": 5_000_000}, True),
        ({"min_volume": 5_000_001}, False),
        ({"closes_from": 100, "closes_to": 100}, True),
        ({"closes_from": 101}, False),
        ({"closes_to": 99}, False),
    ],
)
def test_a_selection_checks_what_a_venue_may_have_ignored(wanted: dict[str, Any], holds: bool) -> None:
    assert Selection(venue=Venue.POLYMARKET, **wanted).holds(LISTED) is holds
