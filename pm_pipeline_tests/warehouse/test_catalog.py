from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.markets import (
    Event,
    GroupKind,
    Instrument,
    Market,
    MarketGroup,
    MarketKey,
    ScheduleEvidence,
    Venue,
)
from pm_pipeline.markets.clock import DAY, day_of
from pm_pipeline.warehouse import (
    Catalog,
    Lake,
    StorageError,
    events_to_table,
    groups_to_table,
    markets_to_tables,
)
from pm_pipeline_tests.warehouse.builders import KEY, T0, lake_at, market

KALSHI = "kalshi:KXHIGHNY-26JUL10-B85.5"


def read_on(lake: Lake, day: int, listed: Sequence[Market]) -> None:
    """Write what the venue listed some days after T0."""
    known_at = T0 + day * DAY
    rows, outcomes = markets_to_tables(listed, known_at, known_at)
    lake.write("catalog.markets", day_of(known_at), rows)
    lake.write("catalog.instruments", day_of(known_at), outcomes)


def test_the_newest_reading_of_each_market_counts(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    read_on(lake, 0, [market(question="old"), market("polymarket:2", question="delisted")])
    read_on(lake, 2, [market(question="new", volume=5)])
    read_on(lake, 1, [market(question="between"), market("polymarket:3")])
    catalog = Catalog(lake)
    assert {key: found.question for key, found in catalog.markets().items()} == {
        KEY: "new",
        "polymarket:2": "delisted",
        "polymarket:3": "Will polymarket:3 happen?",
    }
    assert catalog.market(KEY).volume == 5
    assert catalog.market(MarketKey.parse(KEY)) is catalog.markets()[KEY]


def test_a_catalog_run_that_was_killed_between_its_tables_leaves_the_former_reading(tmp_path: Path) -> None:
    """Outcomes are written first; a day that has passed cannot be read again to mend it."""
    lake = lake_at(tmp_path)
    read_on(lake, 0, [market(question="old"), market("polymarket:2")])
    later = T0 + 1_000_000_000
    _, outcomes = markets_to_tables([market(question="new"), market("polymarket:2")], later, later)
    lake.write("catalog.instruments", day_of(T0), outcomes)
    assert {key: found.question for key, found in Catalog(lake).markets().items()} == {
        KEY: "old",
        "polymarket:2": "Will polymarket:2 happen?",
    }
    assert Catalog(lake).market(KEY).instruments == market().instruments


def test_readings_later_than_as_of_are_ignored(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    read_on(lake, 0, [market(question="old")])
    read_on(lake, 2, [market(question="new"), market("polymarket:3")])
    expected = {-1: {}, 0: {KEY: "old"}, DAY: {KEY: "old"}, 2 * DAY - 1000: {KEY: "old"}}
    for later, known in expected.items():
        found = Catalog(lake, as_of=T0 + later).markets()
        assert {key: m.question for key, m in found.items()} == known
    assert len(Catalog(lake, as_of=T0 + 2 * DAY).markets()) == 2


@pytest.mark.parametrize("day_order", [(0, 1, 2), (2, 1, 0)])
def test_the_scheduled_close_is_the_one_announced_first(tmp_path: Path, day_order: tuple[int, ...]) -> None:
    lake = lake_at(tmp_path)
    readings: dict[int, dict[str, Any]] = {
        0: {"scheduled_close": None},
        1: {"scheduled_close": T0 + 5 * DAY, "schedule_evidence": ScheduleEvidence.LISTED},
        2: {"scheduled_close": T0 + 3 * DAY, "schedule_evidence": ScheduleEvidence.HINDSIGHT},
    }
    for day in day_order:
        read_on(lake, day, [market(question=f"day {day}", **readings[day])])
    found = Catalog(lake).market(KEY)
    assert (found.question, found.scheduled_close) == ("day 2", T0 + 5 * DAY)
    assert found.schedule_evidence is ScheduleEvidence.LISTED
    assert Catalog(lake, as_of=T0).market(KEY).scheduled_close is None


def rich_lake(path: Path) -> Lake:
    lake = lake_at(path)
    key = MarketKey.parse("polymarket:654414")
    rich = market(
        str(key),
        slug="will-it-rain",
        condition_id="0xAbC0",
        question_id="0xdef0",
        event_id="900",
        instruments=(Instrument(key, 0, "Yes", "1111"), Instrument(key, 1, "No", "2222")),
    )
    strike: dict[str, Any] = {
        "event_id": "KXHIGHNY-26JUL10",
        "group_key": "kalshi:KXHIGHNY-26JUL10",
        "exclusive_group": True,
    }
    read_on(
        lake,
        0,
        [
            rich,
            market(KALSHI, **strike),
            market("kalshi:KXHIGHNY-26JUL10-T90", **strike),
            market("polymarket:900", event_id="1", slug="its-id-is-the-others-event"),
            market("polymarket:7", group_key="pair", exclusive_group=False),
            market("kalshi:7", group_key="pair", exclusive_group=True),
        ],
    )
    return lake


@pytest.mark.parametrize(
    ("any_id", "key"),
    [
        ("polymarket:654414", "polymarket:654414"),
        ("654414", "polymarket:654414"),
        (" will-it-rain ", "polymarket:654414"),
        ("0xabc0", "polymarket:654414"),
        ("0xDEF0", "polymarket:654414"),
        ("2222", "polymarket:654414"),
        ("https://polymarket.com/event/some-event/will-it-rain", "polymarket:654414"),
        ("www.polymarket.com/event/will-it-rain?tid=1#x", "polymarket:654414"),
        ("https://kalshi.com/markets/kxhighny/highest/kxhighny-26jul10-b85.5", KALSHI),
        ("KXHIGHNY-26JUL10-B85.5", KALSHI),
        ("kxhighny-26jul10-t90", "kalshi:KXHIGHNY-26JUL10-T90"),
        ("900", "polymarket:900"),
        ("1", "polymarket:900"),
    ],
)
def test_a_market_is_found_by_any_of_its_ids(tmp_path: Path, any_id: str, key: str) -> None:
    assert str(Catalog(rich_lake(tmp_path)).find(any_id).key) == key


@pytest.mark.parametrize(
    ("any_id", "message"),
    [
        ("KXHIGHNY-26JUL10", r"names 2 markets.*\n  kalshi:KXHIGHNY-26JUL10-B85\.5  Will.*\n.*T90"),
        ("7", r"names 2 markets(.|\n)*kalshi:7(.|\n)*polymarket:7"),
        ("will-it-rian", "did you mean 'will-it-rain'"),
        ("polymarket:654415", "did you mean 'polymarket:654414'"),
        ("https://example.com/event/will-it-rain", "known sites: polymarket.com, kalshi.com"),
        ("https://kalshi.com/markets/x/will-it-rain", "no market is known"),
        ("https://polymarket.com/", "not a market's page"),
    ],
)
def test_an_id_that_names_no_market_or_several_is_explained(
    tmp_path: Path, any_id: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Catalog(rich_lake(tmp_path)).find(any_id)


def test_an_unknown_key_and_an_empty_catalog_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'polymarket:654414'"):
        Catalog(rich_lake(tmp_path)).market("polymarket:65441")
    empty = Catalog(lake_at(tmp_path / "empty"))
    assert empty.markets() == {}
    assert empty.groups() == {}
    with pytest.raises(UsageError, match="the catalog is empty; run `bt fetch`"):
        empty.find("anything")


def test_groups_are_exclusive_only_if_all_their_markets_say_so(tmp_path: Path) -> None:
    assert Catalog(rich_lake(tmp_path)).groups() == {
        "kalshi:KXHIGHNY-26JUL10": MarketGroup(
            "kalshi:KXHIGHNY-26JUL10",
            (MarketKey.parse(KALSHI), MarketKey.parse("kalshi:KXHIGHNY-26JUL10-T90")),
            True,
        ),
        "pair": MarketGroup("pair", (MarketKey.parse("kalshi:7"), MarketKey.parse("polymarket:7")), False),
    }


def an_event(number: str, *keys: str, **changes: Any) -> Event:
    listed = tuple(map(MarketKey.parse, keys))
    return Event(venue=Venue.POLYMARKET, event_id=number, title=f"E{number}", market_keys=listed, **changes)


def read_events_on(lake: Lake, day: int, events: Sequence[Event], groups: Sequence[MarketGroup]) -> None:
    """Write what the venue listed some days after T0."""
    known_at = T0 + day * DAY
    lake.write("catalog.events", day_of(known_at), events_to_table(events, known_at, known_at))
    lake.write("catalog.market_groups", day_of(known_at), groups_to_table(groups, known_at, known_at))


def test_the_newest_reading_of_each_event_and_group_counts(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    first, second = MarketKey.parse("polymarket:1"), MarketKey.parse("polymarket:2")
    old = MarketGroup("polymarket:0xg", (first,), True, True, GroupKind.NEG_RISK, ("7",))
    new = replace(old, market_keys=(first, second), exhaustive=False)
    gone = MarketGroup("polymarket:0xgone", (first,), True, kind=GroupKind.NEG_RISK)
    read_events_on(lake, 0, [an_event("7", "polymarket:1", slug="seven"), an_event("8")], [old, gone])
    read_events_on(lake, 2, [an_event("7", "polymarket:1", "polymarket:2", slug="seven")], [new])
    catalog = Catalog(lake)
    assert catalog.events() == {
        "polymarket:7": an_event("7", "polymarket:1", "polymarket:2", slug="seven"),
        "polymarket:8": an_event("8"),
    }
    assert catalog.groups() == {"polymarket:0xg": new, "polymarket:0xgone": gone}
    assert Catalog(lake, as_of=T0 + DAY).groups()["polymarket:0xg"] == old
    assert Catalog(lake, as_of=T0 - 1000).events() == {}


def test_a_market_learns_the_slug_of_its_event_and_is_found_by_it(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    key = MarketKey.parse("polymarket:1")
    outcomes = (Instrument(key, 0, "Yes", "11", "31"), Instrument(key, 1, "No", "12", "32"))
    read_on(lake, 0, [market("polymarket:1", event_id="7", instruments=outcomes), market("polymarket:2")])
    read_events_on(lake, 0, [an_event("7", "polymarket:1", slug="seven")], [])
    catalog = Catalog(lake)
    assert [m.event_slug for m in catalog.markets().values()] == ["seven", None]
    for name in ("seven", "https://polymarket.com/event/seven", "32"):
        assert catalog.find(name).key == key


def test_a_market_seen_open_before_keeps_the_close_that_was_announced(tmp_path: Path) -> None:
    """What a later reading, of the closed market, knows only in hindsight was listed on an earlier day."""
    lake = lake_at(tmp_path)
    close = T0 + 3 * DAY
    read_on(lake, 0, [market(scheduled_close=close, schedule_evidence=ScheduleEvidence.LISTED)])
    read_on(lake, 4, [market(scheduled_close=close, schedule_evidence=ScheduleEvidence.HINDSIGHT)])
    assert Catalog(lake).market(KEY).schedule_evidence is ScheduleEvidence.LISTED


def test_a_catalog_day_without_its_outcomes_is_an_error(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    rows, outcomes = markets_to_tables([market(), market("polymarket:2")], T0, T0)
    lake.write("catalog.markets", day_of(T0), rows)
    lake.write("catalog.instruments", day_of(T0), outcomes.slice(0, 2))
    with pytest.raises(StorageError, match="no outcome of polymarket:2"):
        Catalog(lake).markets()
