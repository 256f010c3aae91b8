from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets import (
    Event,
    FeeTerms,
    GroupKind,
    Instrument,
    Market,
    MarketGroup,
    MarketKey,
    Resolution,
    ResolutionStatus,
    ScheduleEvidence,
    Side,
    SideEvidence,
    TickRange,
    Trade,
    Venue,
)
from pm_pipeline.markets.clock import parse_time
from pm_pipeline.warehouse import (
    StorageError,
    events_from_table,
    events_to_table,
    groups_from_table,
    groups_to_table,
    markets_from_tables,
    markets_to_tables,
    resolution_from_rows,
    resolutions_to_table,
    table,
    time_array,
    to_table,
    trades_from_table,
    trades_to_batch,
)
from pm_pipeline.warehouse.records import micro_of, nanos_of
from pm_pipeline_tests.warehouse.builders import KEY, T0, market

micros = st.integers(0, 10**15)
prices = st.integers(0, 10**6)
nanos = st.integers(0, 4 * 10**15).map(lambda us: us * 1000)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
keys = st.builds(
    MarketKey, st.sampled_from(Venue), st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_:-]{0,11}", fullmatch=True)
)
decimals = st.decimals(0, 1, places=4)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


@st.composite
def markets(draw: st.DrawFn) -> Market:
    key = draw(keys)
    labels = draw(st.lists(st.tuples(text, maybe(text), maybe(text)), min_size=1, max_size=4))
    return Market(
        key=key,
        question=draw(text),
        instruments=tuple(Instrument(key, n, *names) for n, names in enumerate(labels)),
        opened_at=draw(maybe(nanos)),
        scheduled_close=draw(maybe(nanos)),
        schedule_evidence=draw(st.sampled_from(ScheduleEvidence)),
        ticks=tuple(draw(st.lists(st.builds(TickRange, prices, prices, prices), max_size=3))),
        min_order_size=draw(micros),
        slug=draw(maybe(text)),
        condition_id=draw(maybe(text)),
        question_id=draw(maybe(text)),
        event_id=draw(maybe(text)),
        event_title=draw(maybe(text)),
        series=draw(maybe(text)),
        category=draw(maybe(text)),
        tags=tuple(draw(st.lists(text, max_size=3))),
        group_key=draw(maybe(text)),
        exclusive_group=draw(st.booleans()),
        fee_terms=draw(maybe(st.builds(FeeTerms, decimals, st.integers(0, 3), st.booleans(), decimals))),
        volume=draw(maybe(micros)),
        traded_until=draw(maybe(nanos)),
        rules_text=draw(maybe(text)),
        resolution_source=draw(maybe(text)),
        resolution_host=draw(maybe(text)),
        resolution_station=draw(maybe(text)),
    )


@given(st.lists(markets(), max_size=4, unique_by=lambda m: m.key))
def test_markets_survive_the_tables(listed: list[Market]) -> None:
    rows, outcomes = markets_to_tables(listed, T0, T0)
    assert rows.schema.equals(table("catalog.markets").arrow)
    assert outcomes.schema.equals(table("catalog.instruments").arrow)
    assert markets_from_tables(rows, outcomes) == listed


@st.composite
def events(draw: st.DrawFn) -> Event:
    return Event(
        venue=draw(st.sampled_from(Venue)),
        event_id=draw(text),
        title=draw(text),
        slug=draw(maybe(text)),
        series=draw(maybe(text)),
        category=draw(maybe(text)),
        tags=tuple(draw(st.lists(text, max_size=3))),
        opened_at=draw(maybe(nanos)),
        scheduled_close=draw(maybe(nanos)),
        group_key=draw(maybe(text)),
        market_keys=tuple(draw(st.lists(keys, max_size=3))),
        placeholders=draw(st.integers(0, 99)),
        volume=draw(maybe(micros)),
    )


@given(st.lists(events(), max_size=4))
def test_events_survive_the_table(listed: list[Event]) -> None:
    rows = events_to_table(listed, T0, T0)
    assert rows.schema.equals(table("catalog.events").arrow)
    assert events_from_table(rows) == listed


groups = st.builds(
    MarketGroup,
    text,
    st.lists(keys, min_size=1, max_size=3).map(tuple),
    st.booleans(),
    st.booleans(),
    st.sampled_from(GroupKind),
    st.lists(text, max_size=2).map(tuple),
)


@given(st.lists(groups, max_size=4))
def test_groups_survive_the_table(listed: list[MarketGroup]) -> None:
    rows = groups_to_table(listed, T0, T0)
    assert rows.schema.equals(table("catalog.market_groups").arrow)
    assert groups_from_table(rows) == listed


def test_more_markets_than_a_batch_come_back_in_their_order() -> None:
    listed = [market(f"polymarket:{number:05d}") for number in range(5000)]
    found = markets_from_tables(*markets_to_tables(listed, T0, T0), {"polymarket:9": "nine"})
    assert found == listed


def test_decimal_text_of_fees_is_kept_to_the_last_zero() -> None:
    terms = FeeTerms(Decimal("0.0700"), 1, True, Decimal("0.20"))
    rows, outcomes = markets_to_tables([market(fee_terms=terms)], T0, T0)
    assert rows.column("fee_rate").to_pylist() == ["0.0700"]
    assert markets_from_tables(rows, outcomes)[0].fee_terms == terms


def test_a_change_of_the_rules_shows_in_their_hash() -> None:
    listed = [market(rules_text="a"), market("polymarket:2", rules_text="b"), market("polymarket:3")]
    rows, _ = markets_to_tables(listed, T0, T0)
    first, second, none = rows.column("rules_sha256").to_pylist()
    assert first == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert second not in (first, None)
    assert none is None


def test_a_market_without_outcomes_is_an_error_that_names_it() -> None:
    rows, outcomes = markets_to_tables([market()], T0, T0)
    with pytest.raises(StorageError, match=f"no outcome of {KEY}"):
        markets_from_tables(rows, outcomes.slice(0, 0))


@st.composite
def resolutions(draw: st.DrawFn) -> Resolution:
    status = draw(st.sampled_from(ResolutionStatus))
    first = draw(prices)
    resolved = status is ResolutionStatus.RESOLVED
    return Resolution(
        market_key=MarketKey.parse(KEY),
        status=status,
        payouts=(first, 1_000_000 - first) if resolved else None,
        closed_at=draw(maybe(nanos)),
        resolved_at=draw(nanos if resolved else maybe(nanos)),
        known_at=draw(nanos),
        source=draw(text),
        was_disputed=draw(st.booleans()),
    )


@given(st.lists(resolutions(), min_size=1, max_size=5, unique_by=lambda r: r.known_at))
def test_the_latest_resolution_counts(known: list[Resolution]) -> None:
    rows = resolutions_to_table(known, T0)
    assert rows.schema.equals(table("catalog.resolutions").arrow)
    assert resolution_from_rows(rows) == max(known, key=lambda resolution: resolution.known_at)


def test_no_resolution_and_those_of_two_markets_are_errors() -> None:
    rows = table("catalog.resolutions").arrow.empty_table()
    with pytest.raises(StorageError, match="exactly one market"):
        resolution_from_rows(rows)


@given(
    st.lists(
        st.builds(
            Trade,
            market_key=keys,
            outcome_index=st.integers(0, 3),
            ts=nanos,
            known_at=nanos,
            price=prices,
            size=micros,
            side=st.sampled_from(Side),
            side_evidence=st.sampled_from(SideEvidence),
            trade_id=text,
            ordinal=st.integers(0, 5),
            wallet=maybe(text),
            is_block=st.booleans(),
        ),
        max_size=5,
    )
)
def test_trades_survive_the_batch(trades: list[Trade]) -> None:
    batch = trades_to_batch(trades, T0)
    assert batch.schema.equals(table("market_data.trades").arrow)
    assert trades_from_table(pa.Table.from_batches([batch])) == trades


def test_times_are_cut_to_microseconds_and_come_back_as_nanoseconds() -> None:
    moment = parse_time("2026-07-24T00:00:16.123456Z")
    column = time_array([moment + 999, None, -1])
    assert column.type == pa.timestamp("us", "UTC")
    assert column.cast(pa.int64()).to_pylist() == [moment // 1000, None, -1]
    assert nanos_of(column.drop_null()).tolist() == [moment, -1000]
    assert time_array(np.array([moment + 999])).equals(column.slice(0, 1))


def test_missing_amounts_become_minus_one() -> None:
    assert micro_of(pa.array([0, None, 5])).tolist() == [0, -1, 5]


def test_a_declared_column_cannot_be_left_out() -> None:
    with pytest.raises(KeyError, match="venue"):
        to_table("catalog.rules", {"rule": []})
