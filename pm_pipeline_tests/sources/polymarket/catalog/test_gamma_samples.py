"""Every recorded row of Gamma: read, or left out for a stated reason; none is refused."""

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.event import Event
from pm_pipeline.markets.market import Market, MarketGroup, ScheduleEvidence
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.catalog.records import (
    children_of,
    gamma_event,
    gamma_market,
    to_event,
    to_groups,
    to_market,
    unlisted,
)
from pm_pipeline_tests.processes import ROOT
from pm_pipeline_tests.shared import needs_shared
from pm_pipeline_tests.sources.polymarket.catalog.gamma_samples import SAMPLES, read_events, read_rows
from pm_pipeline_tests.sources.polymarket.material import gamma_market as material

PLACEHOLDER = "it is a placeholder (active=false)"
POOL = "it has no order book"
WEATHER = {"listed": 11, "event": 1, "group": 1, "exhaustive": 1}
"""One event of the recorded weather series: eleven ranges, of which one pays."""


def times(count: int) -> dict[str, int]:
    return {name: count * of_one for name, of_one in WEATHER.items()}


EXPECTED: dict[str, dict[str, int]] = {
    "btc5m_updown_markets_resolved_2026-07-24.jsonl.gz": {"listed": 292},
    "drmanhattan_polymarket_markets.json": {"listed": 5},
    "markets_keyset_page_xi_2026-10-06.json": {"listed": 2},
    "nautilus_gamma_event.json": {"listed": 2, "event": 1, "group": 1},
    "nautilus_gamma_market_closed_binary_accepting_false.json": {"listed": 1},
    "nautilus_gamma_market_closed_binary_accepting_true.json": {"listed": 1},
    "nautilus_gamma_market_closed_nonbinary_legacy.json": {POOL: 1},
    "nautilus_gamma_market_closed_zero_zero_legacy.json": {POOL: 1},
    "nautilus_gamma_market_sports_market_map_handicap.json": {"listed": 1},
    "nautilus_gamma_market_sports_market_money_line.json": {"listed": 1},
    "nautilus_search_response.json": {"listed": 1, "event": 1},
    "nba_event_atl_lal_2026-01-13.json": {"listed": 46, "event": 1},
    "pmvl_events.json": {"listed": 7, PLACEHOLDER: 1, "event": 2},
    "pmvl_ext_market.json": {"listed": 1},
    "pmvl_markets.json": {"listed": 3},
    "wakeupnemo_markets_page_00000_offset_00000000.json.gz": {"listed": 25},
    "wakeupnemo_markets_page_00013_offset_00000325.json.gz": {"listed": 25},
    "wakeupnemo_markets_page_00110_offset_00002750.json.gz": {"listed": 25},
    "wakeupnemo_markets_page_01030_offset_00025750.json.gz": {"listed": 25},
    "weather_events_raw_2026-06-16.ndjson.gz": times(3),
    "weather_events_raw_2026-07-03.ndjson.gz": times(33),
    "polymarket_2026-06-16.ndjson.gz": times(3),
    "polymarket_2026-06-22.partial.ndjson.gz": times(75),
    "polymarket_2026-06-23.partial.ndjson.gz": times(71),
    "polymarket_2026-06-24.partial.ndjson.gz": times(70),
    "polymarket_2026-06-25.partial.ndjson.gz": times(74),
    "polymarket_2026-06-26.partial.ndjson.gz": times(75),
    "polymarket_2026-06-27.partial.ndjson.gz": times(75),
    "polymarket_2026-06-28.partial.ndjson.gz": times(74),
    "polymarket_2026-06-29.partial.ndjson.gz": times(75),
    "polymarket_2026-06-30.partial.ndjson.gz": times(73),
    "polymarket_2026-07-01.partial.ndjson.gz": times(74),
    "polymarket_2026-07-02.partial.ndjson.gz": times(73),
    "polymarket_2026-07-03.ndjson.gz": times(33),
    # 22 strikes of a running series bear the end of one from before they opened
    "polymarket_raw.json.gz": {
        "listed": 201,
        "hindsight": 22,
        PLACEHOLDER: 19,
        "event": 34,
        "group": 3,
        "exhaustive": 3,
    },
}


def read(row: dict[str, Any]) -> Market | str:
    """A market, or why it is none."""
    raw = gamma_market(row, "/m")
    return unlisted(raw) or to_market(raw, "/m")


def family(row: dict[str, Any]) -> tuple[Event, list[MarketGroup]]:
    event = gamma_event(row, "/e")
    children = children_of(event, "/e")
    return to_event(event, children, "/e"), to_groups(event, children, "/e")


@needs_shared
def test_every_recorded_file_is_in_the_table() -> None:
    assert {name.rpartition("/")[2] for name in SAMPLES} == set(EXPECTED)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_recorded_row_is_read_or_left_out_for_a_reason(name: str) -> None:
    counted: Counter[str] = Counter()
    for row in read_rows(name):
        found = read(row)
        counted[found if isinstance(found, str) else found.schedule_evidence.value] += 1
        if isinstance(found, Market):
            assert len(found.instruments) == 2
            assert found.opened_at is not None
            assert found.traded_until is None or found.traded_until > found.opened_at
    for row in read_events(name):
        event, groups = family(row)
        assert len(event.market_keys) + event.placeholders == len(row["markets"])
        counted.update(event=1, group=len(groups), exhaustive=sum(group.exhaustive for group in groups))
        for group in groups:
            assert group.exclusive
            assert set(group.market_keys) <= set(event.market_keys)
    assert {reason: count for reason, count in counted.items() if count} == EXPECTED[name.rpartition("/")[2]]


@needs_shared
def test_a_neg_risk_market_that_was_recorded_bears_both_kinds_of_outcome_ids() -> None:
    (name,) = (name for name in SAMPLES if "keyset_page_xi" in name)
    found = [market for row in read_rows(name) if isinstance(market := read(row), Market)]
    with_positions = [m for m in found if m.instruments[0].position_id is not None]
    assert len(with_positions) == 1
    for outcome in with_positions[0].instruments:
        assert outcome.position_id is not None
        assert outcome.token_id is not None
        assert outcome.position_id.isdecimal()
        assert outcome.position_id != outcome.token_id


_SCALARS = st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=8)
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)
_FIELDS = sorted({*material(), "positionIds", "closedTime", "umaEndDate", "events", "tags"})


@given(st.sampled_from(_FIELDS), _ANYTHING)
def test_any_value_of_a_field_gives_a_market_a_reason_or_an_error_of_the_source(
    field: str, value: object
) -> None:
    row = {**material(orderPriceMinTickSize="0.01", volumeNum="1.5", feeSchedule=None), field: value}
    with suppress(BadResponse):
        assert isinstance(read(row), Market | str)


@given(st.sampled_from(["exponent", "rate", "takerOnly", "rebateRate"]), _ANYTHING)
def test_any_fee_schedule_is_read_or_refused_by_an_error_of_the_source(field: str, value: object) -> None:
    schedule = {"exponent": 1, "rate": "0.05", "takerOnly": True, "rebateRate": "0.25", field: value}
    with suppress(BadResponse):
        found = read(material(orderPriceMinTickSize="0.01", volumeNum=None, feeSchedule=schedule))
        assert isinstance(found, Market)
        assert found.fee_terms is not None


@given(_ANYTHING, _ANYTHING)
def test_any_event_is_read_or_refused_by_an_error_of_the_source(markets: object, title: object) -> None:
    row: dict[str, Any] = {"id": "9", "title": title, "markets": markets, "volume": title, "tags": markets}
    with suppress(BadResponse):
        event, _ = family(row)
        assert event.title == title


@needs_shared
def test_the_documents_tell_how_many_recorded_closes_are_hindsight() -> None:
    found = [m for name in SAMPLES for row in read_rows(name) if isinstance(m := read(row), Market)]
    closed = [market for market in found if market.traded_until is not None]
    hindsight = [m for m in closed if m.schedule_evidence is ScheduleEvidence.HINDSIGHT]
    told = f"Of {len(closed)} closed markets recorded, {len(hindsight)} are `hindsight`"
    assert told in (ROOT / "docs" / "polymarket.md").read_text()
