from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pm_pipeline.config import Settings
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import Instrument, Market
from pm_pipeline.markets.units import MICRO
from pm_pipeline.universe import MarketFilter, Universe, choose, universe_of
from pm_pipeline_tests.small_world import load_world

EXAMPLE = Path(__file__).parents[1] / "examples" / "universe.yaml"
MARKETS: list[Market] = [listed.market for listed in load_world().markets.values()]


def only(**wanted: Any) -> list[str]:
    """Short names of the chosen markets of the small world, in the order in which they are given."""
    found = MarketFilter(**wanted).choose(reversed(MARKETS))
    return [(m.slug or m.key.native_id).split("-")[1 if m.slug else 0].lower() for m in found]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"venue": "kalshi"}, ["kxsmall", "kxsmallshare", "kxsmallvoid"]),
        ({"venue": "kalshi", "ids": ["KXSMALL-26JUN20-T70"]}, ["kxsmall"]),
        ({"venue": "kalshi", "ids": ["kalshi:KXSMALL-26JUN20-T70"]}, ["kxsmall"]),
        ({"venue": "polymarket", "ids": ["small-won-2026-06-25"]}, ["won"]),
        ({"venue": "polymarket", "ids": [MARKETS[0].condition_id]}, ["won"]),
        ({"venue": "polymarket", "ids": [MARKETS[1].instruments[1].token_id]}, ["tie"]),
        ({"venue": "polymarket", "ids": ["small-won-2026-06-25"], "series": ["politics"]}, []),
        ({"venue": "kalshi", "series": ["KXSMALL", "KXSMALLVOID"]}, ["kxsmall", "kxsmallvoid"]),
        ({"venue": "kalshi", "limit": 2}, ["kxsmall", "kxsmallshare"]),
        ({"venue": "kalshi", "closes_from": "2026-06-22"}, ["kxsmallshare"]),
        ({"venue": "kalshi", "closes_to": "2026-06-20"}, ["kxsmall", "kxsmallvoid"]),
        ({"venue": "polymarket", "category": "politics"}, ["open"]),
        ({"venue": "polymarket", "tags": ["politics", "nothing"]}, ["open"]),
        ({"venue": "polymarket", "min_volume_usd": 1}, []),
        ({"venue": "alpaca"}, []),
    ],
)
def test_a_filter_chooses(wanted: dict[str, Any], names: list[str]) -> None:
    assert only(**wanted) == names


def test_volume_selects_afterwards() -> None:
    traded = [replace(market, volume=5 * MICRO) for market in MARKETS]
    assert len(MarketFilter(venue=Venue.KALSHI, min_volume_usd=5).choose(traded)) == 3
    assert MarketFilter(venue=Venue.KALSHI, min_volume_usd=6).choose(traded) == []


def test_days_are_whole_days() -> None:
    wanted = MarketFilter(
        venue=Venue.KALSHI, closes_from=date(2026, 6, 1), closes_to=date(2026, 6, 1)
    ).selection()
    assert wanted.closes_from == parse_time("2026-06-01T00:00:00Z")
    assert wanted.closes_to == parse_time("2026-06-02T00:00:00Z") - 1


def test_the_venue_is_asked_by_its_own_ids() -> None:
    wanted = MarketFilter(venue=Venue.POLYMARKET, ids=("polymarket:654414", "a-slug")).selection()
    assert wanted.ids == ("654414", "a-slug")
    assert wanted.min_volume is None


def test_a_universe_holds_what_any_filter_chooses_once_and_in_order() -> None:
    universe = Universe.parse(
        {
            "markets": [
                {"venue": "polymarket", "ids": ["small-won-2026-06-25"]},
                {"venue": "kalshi", "series": ["KXSMALL"]},
                {"venue": "polymarket"},
            ]
        },
        "here",
    )
    found = [str(market.key) for market in choose(universe, MARKETS)]
    assert len(found) == 4
    assert found == sorted(found)
    assert choose(universe, reversed(MARKETS)) == choose(universe, MARKETS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"markets": []}, "here: markets: Tuple should have at least 1 item"),
        ({}, "here: markets: Field required"),
        (None, "here: Input should be a valid dictionary"),
        (
            {"markets": [{"venue": "polymarkt"}]},
            "markets.0.venue: Input should be 'polymarket'.*got 'polymarkt'",
        ),
        (
            {"markets": [{"venue": "kalshi", "tag": ["x"]}]},
            "here: markets.0.tag: there is no such key; did you mean 'tags'",
        ),
        ({"market": []}, "markets: Field required; market: there is no such key; did you mean 'markets'"),
        (
            {"markets": [{"venue": "kalshi", "closes_from": "2026-07-05", "closes_to": "2026-07-01"}]},
            "here: markets.0: closes_to 2026-07-01 is before closes_from 2026-07-05$",
        ),
        (
            {"markets": [{"venue": "kalshi", "closes_to": "2026-13-01"}]},
            "closes_to: .*month.*got '2026-13-01'",
        ),
        ({"markets": [{"venue": "kalshi", "limit": 0}]}, "limit: Input should be greater than 0, got 0"),
        (
            {"markets": [{"venue": "kalshi", "ids": ["polymarket:1"]}]},
            "'polymarket:1' is no market of kalshi",
        ),
        (
            {"markets": [{"venue": "kalshi", "ids": ["kalsi:A"]}]},
            "unknown venue 'kalsi'.*did you mean 'kalshi'",
        ),
    ],
)
def test_a_universe_that_does_not_fit_names_the_key(content: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Universe.parse(content, "here")


def test_the_example_is_a_universe() -> None:
    kalshi, polymarket = Universe.read(EXAMPLE).markets
    assert (kalshi.venue, kalshi.series[0], polymarket.limit) == ("kalshi", "KXHIGHNY", 500)


def test_in_the_sandbox_everything_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PM_SOURCE", "PM_UNIVERSE"):
        monkeypatch.delenv(name, raising=False)
    universe = universe_of(Settings.from_environment())
    assert universe == Universe.everything()
    assert len(choose(universe, MARKETS)) == 6
    named = tmp_path / "mine.yaml"
    named.write_text("markets: [{venue: kalshi}]\n")
    monkeypatch.setenv("PM_UNIVERSE", str(named))
    assert len(choose(universe_of(Settings.from_environment()), MARKETS)) == 3


@pytest.mark.parametrize("source", ["live", "archive"])
def test_a_venue_is_never_followed_whole(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.delenv("PM_UNIVERSE", raising=False)
    monkeypatch.setenv("PM_SOURCE", source)
    with pytest.raises(UsageError, match=r"set PM_UNIVERSE to a file like examples/universe\.yaml"):
        universe_of(Settings.from_environment())


EVENT = [
    replace(
        MARKETS[0],
        key=MarketKey(Venue.POLYMARKET, str(number)),
        slug=slug,
        event_slug="rain",
        question_id="0x" + f"{number:064x}",
        instruments=(Instrument(MarketKey(Venue.POLYMARKET, str(number)), 0, "Yes", None, str(number) * 70),),
    )
    for number, slug in ((1, "rain-in-may"), (2, "rain"))
]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("rain-in-may", ["1"]),
        # the slug of a market goes before that of an event, unless the page says which is meant
        ("rain", ["2"]),
        ("https://polymarket.com/event/rain", ["1", "2"]),
        ("https://polymarket.com/event/rain/rain", ["2"]),
        ("polymarket:1", ["1"]),
        ("0x" + f"{2:064X}", ["2"]),
        ("1" * 70, ["1"]),
        ("https://polymarket.com/event/snow", []),
    ],
)
def test_every_kind_of_name_chooses_what_was_read_by_it(name: str, keys: list[str]) -> None:
    found = MarketFilter(venue=Venue.POLYMARKET, ids=(name,)).choose(EVENT)
    assert [market.key.native_id for market in found] == keys


def test_the_slug_of_an_event_chooses_all_its_markets_where_no_market_bears_it() -> None:
    found = MarketFilter(venue=Venue.POLYMARKET, ids=("rain",)).choose(EVENT[:1])
    assert [market.key.native_id for market in found] == ["1"]


@pytest.mark.parametrize(
    ("venue", "name", "message"),
    [
        ("polymarket", "0xabc", "is no condition id"),
        ("polymarket", "Will it rain?", "names no market"),
        ("kalshi", "https://kalshi.com/markets/kxhighny", "names its markets by ticker"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_before_anything_is_asked(
    venue: str, name: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Universe.parse({"markets": [{"venue": venue, "ids": [name]}]}, "test")
