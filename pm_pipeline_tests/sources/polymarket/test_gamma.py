from decimal import Decimal
from typing import Any

import pytest

from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import FeeTerms, Market, ScheduleEvidence, TickRange
from pm_pipeline.sources.adapter import MarketState, Selection
from pm_pipeline.sources.errors import BadRequest, BadResponse, UnsupportedError
from pm_pipeline.sources.polymarket.gamma import to_market
from pm_pipeline.sources.polymarket.wire import GammaMarket
from pm_pipeline.sources.wire import convert
from pm_pipeline_tests.sources.polymarket.material import CONDITION, gamma_market, read
from pm_pipeline_tests.sources.server import Server, json_response


def market(**changes: Any) -> Market:
    return to_market(convert(_decoded(gamma_market(**changes)), GammaMarket, "/m"), "/m")


def _decoded(value: Any) -> Any:
    """As the client decodes: fractions are decimals."""
    if isinstance(value, dict):
        return {k: _decoded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_decoded(v) for v in value]
    return Decimal(str(value)) if isinstance(value, float) else value


def select(**wanted: Any) -> Selection:
    return Selection(venue=Venue.POLYMARKET, **wanted)


def test_a_market_carries_its_terms() -> None:
    found = market(
        negRisk=True, negRiskMarketID="0x" + "cd" * 32, events=[{"id": "9", "title": "E", "seriesSlug": "s"}]
    )
    assert str(found.key) == "polymarket:654414"
    assert [(i.label, i.token_id) for i in found.instruments] == [("Yes", "111"), ("No", "222")]
    assert found.ticks == (TickRange(10_000, 990_000, 10_000),)
    assert found.min_order_size == 5_000_000
    assert found.volume == 1_234_500_000
    assert found.fee_terms == FeeTerms(Decimal("0.05"), 1, True, Decimal("0.25"))
    assert (found.event_id, found.event_title, found.series) == ("9", "E", "s")
    assert (found.group_key, found.exclusive_group) == ("polymarket:0x" + "cd" * 32, True)
    assert found.schedule_evidence is ScheduleEvidence.LISTED
    assert found.scheduled_close == parse_time("2026-07-12T12:00:00Z")
    assert found.traded_until is None


def test_an_augmented_group_may_be_won_by_an_outcome_that_is_not_listed() -> None:
    found = market(negRisk=True, negRiskMarketID="0xcd", events=[{"id": "9", "negRiskAugmented": True}])
    assert found.group_key == "polymarket:0xcd"
    assert not found.exclusive_group


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({"feesEnabled": False}, FeeTerms(Decimal(0), 1, True, Decimal(0))),
        ({"feesEnabled": True, "feeSchedule": None}, None),
        ({"feesEnabled": None, "feeSchedule": None}, None),
    ],
)
def test_no_fees_is_a_schedule_and_silence_is_none(changes: dict[str, Any], terms: FeeTerms | None) -> None:
    assert market(**changes).fee_terms == terms


@pytest.mark.parametrize(
    ("changes", "closed"),
    [
        (
            {"closedTime": "2026-07-24 00:00:16+00", "umaEndDate": "2026-07-25T00:00:00Z"},
            "2026-07-24T00:00:16Z",
        ),
        ({"umaEndDate": "2026-07-25T00:00:00Z"}, "2026-07-25T00:00:00Z"),
    ],
)
def test_trading_ended_when_the_venue_says_and_not_at_the_end_date(
    changes: dict[str, Any], closed: str
) -> None:
    assert market(closed=True, **changes).traded_until == parse_time(closed)


def test_the_opening_is_the_earlier_of_start_and_first_order() -> None:
    assert market(acceptingOrdersTimestamp="2026-07-09T00:00:00Z").opened_at == parse_time("2026-07-09")
    assert market(startDate=None, createdAt="2026-07-08T00:00:00Z").opened_at == parse_time("2026-07-08")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"closed": True}, "without closedTime and umaEndDate"),
        ({"outcomes": "Yes,No"}, "outcomes is not a packed list"),
        ({"outcomes": "[1, 2]"}, "outcomes is not a packed list of texts"),
        ({"outcomes": '["Yes"]'}, "1 outcomes but 2 clobTokenIds"),
        ({"orderPriceMinTickSize": 0.7}, "orderPriceMinTickSize is 0.7"),
        ({"orderPriceMinTickSize": None}, "orderPriceMinTickSize, conditionId or question is missing"),
        ({"orderMinSize": None}, "orderMinSize is missing"),
        ({"endDate": "tomorrow"}, "endDate"),
        ({"active": None}, "missing required field `active`"),
        ({"volumeNum": "many"}, r"volumeNum"),
        ({"id": "a|b"}, "id: "),
        ({"endDate": "1969-01-01T00:00:00Z"}, "before 1970"),
    ],
)  # fmt: skip
def test_a_field_that_is_missing_or_wrong_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        market(**changes)


def event(number: int, *markets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": str(number), "title": f"E{number}", "markets": list(markets), **more}


def test_events_are_crawled_open_and_closed_and_placeholders_are_dropped() -> None:
    weather = {"tags": [{"slug": "weather", "label": "Weather"}], "seriesSlug": "nyc"}
    open_event = event(1, gamma_market(id="1"), gamma_market(id="2", active=False), **weather)
    closed = event(2, gamma_market(id="3", closed=True, closedTime="2026-07-24 00:00:16+00"), **weather)
    pool = event(3, gamma_market(id="4", clobTokenIds=None), **weather)
    server = Server(
        {"/events/keyset": [
            {"events": [open_event], "next_cursor": "c"},
            {"events": [pool]},
            {"events": [closed, open_event]},
        ]}
    )  # fmt: skip
    found = read(lambda a: a.get_markets(select(tags=("Weather",))), gamma=server)
    assert [(m.key.native_id, m.event_id, m.tags, m.series) for m in found] == [
        ("1", "1", ("weather",), "nyc"),
        ("3", "2", ("weather",), "nyc"),
    ]
    shared = {"limit": "100", "tag_slug": "weather"}
    assert [params for _, params in server.asked] == [
        {**shared, "closed": "false"},
        {**shared, "closed": "false", "after_cursor": "c"},
        {**shared, "closed": "true"},
    ]


@pytest.mark.parametrize(
    ("state", "ids"), [(MarketState.OPEN, ["1"]), (MarketState.CLOSED, ["3"]), (MarketState.ANY, ["1", "3"])]
)
def test_the_state_chooses_markets_not_events(state: MarketState, ids: list[str]) -> None:
    mixed = event(
        1, gamma_market(id="1"), gamma_market(id="3", closed=True, closedTime="2026-07-24 00:00:16+00")
    )
    server = Server({"/events/keyset": [{"events": [mixed]}, {"events": []}]})
    found = read(lambda a: a.get_markets(select(state=state)), gamma=server)
    assert [m.key.native_id for m in found] == ids


def test_bounds_are_sent_and_checked_again_because_unknown_filters_are_ignored() -> None:
    listed = [
        gamma_market(id="1"),
        gamma_market(id="2", endDate="2026-08-12T12:00:00Z"),
        gamma_market(id="3", volumeNum=3),
    ]
    server = Server({"/markets/keyset": [{"markets": listed}, {"markets": []}]})
    wanted = select(
        closes_from=parse_time("2026-07-01"), closes_to=parse_time("2026-07-31"), min_volume=1_000_000_000
    )
    found = read(lambda a: a.get_markets(wanted), gamma=server)
    assert [m.key.native_id for m in found] == ["1"]
    sent = server.asked[0][1]
    assert (sent["end_date_min"], sent["end_date_max"]) == ("2026-07-01T00:00:00Z", "2026-07-31T00:00:00Z")
    assert Decimal(sent["volume_num_min"]) == 1000


def test_the_limit_ends_the_crawl() -> None:
    server = Server(
        {
            "/events/keyset": [
                {"events": [event(1, *(gamma_market(id=str(n)) for n in range(5)))], "next_cursor": "c"}
            ]
        }
    )
    found = read(lambda a: a.get_markets(select(limit=2)), gamma=server)
    assert [m.key.native_id for m in found] == ["0", "1"]
    assert len(server.asked) == 1


def test_a_series_is_looked_up_by_its_slug() -> None:
    listed = json_response([{"id": "41", "slug": "nyc-daily"}, {"id": "42", "slug": "nyc"}])
    events = [{"events": [event(1, gamma_market(), seriesSlug="nyc")]}, {"events": []}]
    server = Server({"/series": listed, "/events/keyset": events})
    assert len(read(lambda a: a.get_markets(select(series=("nyc",))), gamma=server)) == 1
    assert server.asked[1][1]["series_id"] == "42"
    with pytest.raises(BadRequest, match="no series 'paris'"):
        read(lambda a: a.get_markets(select(series=("paris",))), gamma=server)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("654414", "/markets/654414"),
        ("will-it", "/markets/slug/will-it"),
        (CONDITION, "/markets/keyset"),
        ("1" * 77, "/markets/keyset"),
    ],
)
def test_a_market_is_found_by_any_of_its_ids(name: str, path: str) -> None:
    raw = gamma_market(clobTokenIds=f'["{"1" * 77}", "222"]', events=[{"id": "9"}])
    server = Server(
        {
            "/markets/654414": raw,
            "/markets/slug/will-it": raw,
            "/markets/keyset": [{"markets": []}, {"markets": [raw]}],
            "/events/9": {"id": "9", "title": "E", "tags": [{"slug": "t"}]},
        }
    )
    found = read(lambda a: a.get_markets(select(ids=(name,))), gamma=server)
    assert [(str(m.key), m.event_title, m.tags) for m in found] == [("polymarket:654414", "E", ("t",))]
    assert server.paths[0] == path


def test_a_named_market_must_exist_and_be_tradable() -> None:
    with pytest.raises(BadRequest, match="no market '77'"):
        read(lambda a: a.get_markets(select(ids=("77",))))
    with pytest.raises(BadRequest, match="no market '0xabc'"):
        read(lambda a: a.get_markets(select(ids=("0xabc",))), gamma={"/markets/keyset": {"markets": []}})
    with pytest.raises(UnsupportedError, match="placeholder"):
        read(lambda a: a.get_markets(select(ids=("7",))), gamma={"/markets/7": gamma_market(active=False)})


def test_a_server_without_series_is_crawled_whole_and_picked_from() -> None:
    listed = [event(1, gamma_market(), seriesSlug="nyc"), event(2, gamma_market(id="2"), seriesSlug="rome")]
    server = Server({"/events/keyset": [{"events": listed}, {"events": []}]})
    found = read(lambda a: a.get_markets(select(series=("nyc",))), gamma=server)
    assert [m.key.native_id for m in found] == ["654414"]
