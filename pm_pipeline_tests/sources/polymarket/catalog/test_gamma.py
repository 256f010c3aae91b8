import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.event import Event
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import FeeTerms, GroupKind, Market, ScheduleEvidence, TickRange
from pm_pipeline.sources.adapter import Listing, MarketState, Selection
from pm_pipeline.sources.errors import BadRequest, BadResponse, PageNotArchived, UnsupportedError
from pm_pipeline.sources.listings import CatalogRows
from pm_pipeline.sources.polymarket.catalog.gamma import crawl
from pm_pipeline.sources.polymarket.catalog.names import UnknownNameError
from pm_pipeline.sources.polymarket.catalog.records import to_market, unlisted
from pm_pipeline.sources.polymarket.wire import GammaMarket
from pm_pipeline.sources.wire import convert
from pm_pipeline_tests.sources.polymarket.material import CONDITION, gamma_market, read
from pm_pipeline_tests.sources.server import Server, client_of, json_response


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
        ({"orderPriceMinTickSize": 0.03}, "orderPriceMinTickSize is 0.03"),
        ({"orderPriceMinTickSize": None}, "market 654414: orderPriceMinTickSize is missing"),
        ({"orderMinSize": None}, "orderMinSize is missing"),
        ({"conditionId": ""}, "conditionId is missing"),
        ({"clobTokenIds": '["111", "111"]'}, "clobTokenIds does not name each outcome"),
        ({"clobTokenIds": '["111", ""]'}, "clobTokenIds does not name each outcome"),
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


@pytest.mark.parametrize(
    ("changes", "evidence"),
    [
        ({}, "listed"),
        # closed when read: the announced end tells nothing of the true one
        ({"closed": True, "closedTime": "2026-07-13 03:10:16+00"}, "listed"),
        ({"closed": True, "closedTime": "2026-07-11 00:00:00+00"}, "listed"),
        # it does: somebody may have written it afterwards
        ({"closed": True, "closedTime": "2026-07-12 12:00:00+00"}, "hindsight"),
        ({"closed": True, "closedTime": "2026-07-12T12:00:00.4Z"}, "hindsight"),
        (
            {
                "closed": True,
                "closedTime": "2026-07-13 03:10:16+00",
                "umaEndDate": "2026-07-12T12:00:00Z",
            },
            "hindsight",
        ),
        # nobody announces an end that lies before the opening
        (
            {"closed": True, "closedTime": "2026-07-13 03:10:16+00", "endDate": "2026-07-10T00:00:00Z"},
            "hindsight",
        ),
        ({"closed": True, "closedTime": "2026-07-13 03:10:16+00", "endDate": None}, "listed"),
    ],
)
def test_an_end_date_that_may_have_been_written_afterwards_is_hindsight(
    changes: dict[str, Any], evidence: str
) -> None:
    assert market(**changes).schedule_evidence == evidence


def test_a_market_has_two_ids_for_each_outcome() -> None:
    found = market(positionIds=["31", "32"]).instruments
    assert [(i.token_id, i.position_id) for i in found] == [("111", "31"), ("222", "32")]
    assert [i.position_id for i in market().instruments] == [None, None]
    with pytest.raises(BadResponse, match="2 clobTokenIds but 1 positionIds"):
        market(positionIds=["31"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"active": False}, "it is a placeholder (active=false)"),
        ({"clobTokenIds": None}, "it has no order book"),
        ({"orderPriceMinTickSize": None}, "it has no order book"),
        (
            {"clobTokenIds": None, "positionIds": ["31", "32"], "version": "v2"},
            "it is of the second protocol",
        ),
        # it trades by an order book, so a field was renamed: that must be an error, not one market less
        ({"clobTokenIds": None, "enableOrderBook": True, "acceptingOrders": True}, None),
        ({"clobTokenIds": None, "enableOrderBook": True, "acceptingOrders": False}, "it has no order book"),
    ],
)
def test_what_cannot_be_traded_is_left_out_for_a_reason(changes: dict[str, Any], reason: str | None) -> None:
    raw = convert(_decoded(gamma_market(**changes)), GammaMarket, "/m")
    found = unlisted(raw)
    assert found == reason or (found and reason and found.startswith(reason))


@pytest.mark.parametrize(
    "field", ["clobTokenIds", "orderPriceMinTickSize", "orderMinSize", "conditionId", "question"]
)
def test_a_needed_field_that_was_renamed_fails_by_its_name(field: str) -> None:
    trading = {"enableOrderBook": True, "acceptingOrders": True}
    listed = [event(1, gamma_market(id="1"), gamma_market(id="7", **{**trading, field: None}))]
    with pytest.raises(BadResponse, match=rf"/markets market 7: {field} is missing"):
        read(lambda a: a.get_markets(select()), gamma={"/events/keyset": {"events": listed}})


def test_a_field_of_another_type_fails_by_event_market_and_name() -> None:
    listed = [event(1, gamma_market(id="7", closed="no"))]
    with pytest.raises(BadResponse, match=r"/events/keyset event 1 market 7: Expected `bool`.*\$\.closed"):
        read(lambda a: a.get_markets(select()), gamma={"/events/keyset": {"events": listed}})
    with pytest.raises(BadResponse, match="/events event 1: title is missing"):
        read(
            lambda a: a.get_markets(select()),
            gamma={"/events/keyset": {"events": [event(1, gamma_market(), title="")]}},
        )


@pytest.mark.parametrize(
    ("schedule", "terms"),
    [
        (
            {"exponent": 1.0, "rate": "0.05", "takerOnly": True},
            FeeTerms(Decimal("0.05"), 1, True, Decimal(0)),
        ),
        (
            {"exponent": "2", "rate": 0, "takerOnly": False, "rebateRate": 1},
            FeeTerms(Decimal(0), 2, False, Decimal(1)),
        ),
        ({"exponent": 1.5, "rate": 0.05, "takerOnly": True}, "feeSchedule.exponent is 1.5"),
        ({"exponent": 9, "rate": 0.05, "takerOnly": True}, "feeSchedule.exponent is 9"),
        ({"exponent": 1, "rate": 5, "takerOnly": True}, "feeSchedule.rate is 5, not a share"),
        ({"exponent": 1, "rate": "NaN", "takerOnly": True}, "feeSchedule.rate is NaN"),
        ({"exponent": 1, "rate": 0.05, "takerOnly": True, "rebateRate": -1}, "feeSchedule.rebateRate is -1"),
        ({"exponent": 1, "takerOnly": True}, "missing required field `rate`"),
    ],
)
def test_a_fee_schedule_is_read_whatever_form_its_numbers_have(
    schedule: dict[str, Any], terms: FeeTerms | str
) -> None:
    if isinstance(terms, FeeTerms):
        assert market(feeSchedule=schedule).fee_terms == terms
    else:
        with pytest.raises(BadResponse, match=terms):
            market(feeSchedule=schedule)


@pytest.mark.parametrize("tick", [0.1, 0.01, "0.005", 0.0025, 0.001, "0.0001"])
def test_every_tick_size_of_the_venue_gives_a_grid_that_mirrors(tick: float | str) -> None:
    (grid,) = market(orderPriceMinTickSize=tick).ticks
    assert (grid.start, grid.end, grid.step) == (
        grid.step,
        1_000_000 - grid.step,
        int(float(tick) * 1_000_000),
    )


def test_the_rules_name_the_page_and_the_station_that_decide() -> None:
    found = market(resolutionSource="https://www.wunderground.com/history/daily/us/ny/new-york-city/KLGA")
    assert (found.resolution_host, found.resolution_station) == ("wunderground.com", "KLGA")


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
    assert server.asked == [
        ("/events/pagination", {"limit": "1", "active": "true", "archived": "false", "tag_slug": "weather"}),
        ("/events/keyset", {**shared, "closed": "false"}),
        ("/events/keyset", {**shared, "closed": "false", "after_cursor": "c"}),
        ("/events/keyset", {**shared, "closed": "true"}),
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
    with pytest.raises(BadRequest, match=f"no market '{CONDITION}'"):
        read(lambda a: a.get_markets(select(ids=(CONDITION,))), gamma={"/markets/keyset": {"markets": []}})
    with pytest.raises(UnsupportedError, match="placeholder"):
        read(lambda a: a.get_markets(select(ids=("7",))), gamma={"/markets/7": gamma_market(active=False)})


def test_a_server_without_series_is_crawled_whole_and_picked_from() -> None:
    listed = [event(1, gamma_market(), seriesSlug="nyc"), event(2, gamma_market(id="2"), seriesSlug="rome")]
    server = Server({"/events/keyset": [{"events": listed}, {"events": []}]})
    found = read(lambda a: a.get_markets(select(series=("nyc",))), gamma=server)
    assert [m.key.native_id for m in found] == ["654414"]


# --- events and groups ----------------------------------------------------------------------------------

GROUP = {"negRisk": True, "negRiskMarketID": "0xcd"}


def listings(wanted: Selection, **servers: Any) -> Listing:
    """All pages of a crawl as one."""
    pages = read(lambda a: _as_lists(a.get_listings(wanted)), **servers)
    return Listing(
        [m for page in pages for m in page.markets],
        [e for page in pages for e in page.events],
        [g for page in pages for g in page.groups],
    )


async def _as_lists(pages: AsyncIterator[Listing]) -> AsyncIterator[list[Listing]]:
    async for page in pages:
        yield [page]


def strikes(*numbers: int, **changes: Any) -> list[dict[str, Any]]:
    return [gamma_market(id=str(n), slug=f"s-{n}", **GROUP, **changes) for n in numbers]


def test_an_event_is_kept_with_its_children_and_the_count_of_what_cannot_be_traded() -> None:
    listed = event(
        9,
        *strikes(1, 2),
        gamma_market(id="3", active=False, negRiskOther=True, **GROUP),
        slug="e-9",
        seriesSlug="nyc",
        category="Weather",
        tags=[{"slug": "weather", "label": "Weather"}],
        startDate="2026-07-10T00:00:00Z",
        endDate="2026-07-12T12:00:00Z",
        volume=12.5,
        negRiskAugmented=False,
    )
    found = listings(select(state=MarketState.OPEN), gamma={"/events/keyset": {"events": [listed]}})
    assert found.events == [
        Event(
            venue=Venue.POLYMARKET,
            event_id="9",
            title="E9",
            slug="e-9",
            series="nyc",
            category="Weather",
            tags=("weather",),
            opened_at=parse_time("2026-07-10"),
            scheduled_close=parse_time("2026-07-12T12:00:00Z"),
            group_key="polymarket:0xcd",
            market_keys=(MarketKey(Venue.POLYMARKET, "1"), MarketKey(Venue.POLYMARKET, "2")),
            placeholders=1,
            volume=12_500_000,
        )
    ]
    assert [m.event_slug for m in found.markets] == ["e-9", "e-9"]


@pytest.mark.parametrize(
    ("children", "changes", "exhaustive"),
    [
        (strikes(1, 2), {"negRiskAugmented": False}, True),
        (strikes(1, 2), {"negRiskAugmented": True}, False),
        (strikes(1, 2), {}, False),
        (strikes(1), {"negRiskAugmented": False}, False),
        ([*strikes(1, 2), gamma_market(id="3", active=False, **GROUP)], {"negRiskAugmented": False}, False),
        ([*strikes(1, 2), gamma_market(id="3", active=False)], {"negRiskAugmented": False}, False),
        (strikes(1, 2, closed=True, closedTime="2026-07-13 00:00:00+00"), {"negRiskAugmented": False}, True),
    ],
)
def test_one_of_a_group_must_pay_only_if_all_its_outcomes_are_listed(
    children: list[dict[str, Any]], changes: dict[str, Any], exhaustive: bool
) -> None:
    server = {"/events/keyset": {"events": [event(9, *children, **changes)]}}
    (group,) = {g.group_key: g for g in listings(select(), gamma=server).groups}.values()
    assert (group.exclusive, group.exhaustive, group.kind) == (True, exhaustive, GroupKind.NEG_RISK)
    assert (group.group_key, group.event_ids) == ("polymarket:0xcd", ("9",))


def test_a_crawl_that_sees_part_of_a_group_asks_for_its_event_whole() -> None:
    seen = {**strikes(1)[0], "events": [{"id": "9", "title": "E9", "negRiskAugmented": False}]}
    whole = event(9, *strikes(1, 2), negRiskAugmented=False)
    wanted = select(closes_from=parse_time("2026-07-12"), state=MarketState.OPEN)
    server = Server({"/markets/keyset": {"markets": [seen]}, "/events/9": whole})
    found = listings(wanted, gamma=server)
    assert [group.exhaustive for group in found.groups] == [True]
    assert [str(key) for key in found.groups[0].market_keys] == ["polymarket:1", "polymarket:2"]
    # an event that the venue does not know by its number is no listing of the whole group
    alone = listings(wanted, gamma={"/markets/keyset": {"markets": [seen]}})
    assert [group.exhaustive for group in alone.groups] == [False]
    assert [event.market_keys for event in alone.events] == [(MarketKey(Venue.POLYMARKET, "1"),)]


@pytest.mark.parametrize("heeds_ids", [True, False])
def test_many_events_are_asked_for_at_once_and_the_missing_ones_alone(heeds_ids: bool) -> None:
    heads = [
        {**strikes(n)[0], "negRiskMarketID": f"0x{n}", "events": [{"id": str(90 + n), "title": "E"}]}
        for n in (1, 2)
    ]
    events = {n: event(90 + n, {**strikes(n)[0], "negRiskMarketID": f"0x{n}"}) for n in (1, 2)}

    def by_ids(request: Request) -> Response:
        listed = [events[1]] if heeds_ids else [event(5, gamma_market(id="5"))]
        return json_response({"events": listed if request.query_params["closed"] == "false" else []})

    server = Server(
        {
            "/markets/keyset": [{"markets": heads}, {"markets": []}],
            "/events/keyset": by_ids,
            "/events/91": events[1],
            "/events/92": events[2],
        }
    )
    found = listings(select(closes_from=parse_time("2026-07-12")), gamma=server)
    assert [m.key.native_id for m in found.markets] == ["1", "2"]
    assert [e.event_id for e in found.events] == ["91", "92"]
    assert ("/events/91" in server.paths) is not heeds_ids
    assert "/events/92" in server.paths


def test_a_market_that_closes_between_the_crawls_is_taken_in_its_closed_form() -> None:
    closed = gamma_market(id="1", closed=True, closedTime="2026-07-24 00:00:16+00")
    server = Server(
        {
            "/events/keyset": [
                {"events": [event(1, gamma_market(id="1")), event(2, gamma_market(id="2"))]},
                {"events": [event(1, closed), event(3, {**closed, "id": "3"})]},
            ]
        }
    )
    rows = CatalogRows()
    for page in read(lambda a: _as_lists(a.get_listings(select())), gamma=server):
        rows.add(page, 1_000)
    found = {row["market_key"]: row["traded_until"] for row in rows.tables()["catalog.markets"].to_pylist()}
    assert {key: until is not None for key, until in found.items()} == {
        "polymarket:1": True,
        "polymarket:2": False,
        "polymarket:3": True,
    }
    assert len(rows.tables()["catalog.instruments"]) == 6
    assert {m.key.native_id for m in rows.markets(Venue.POLYMARKET)} == {"1", "2", "3"}
    assert list(rows.markets(Venue.KALSHI)) == []


def test_a_limit_counts_a_market_once() -> None:
    closed = gamma_market(id="1", closed=True, closedTime="2026-07-24 00:00:16+00")
    second = {"events": [event(1, closed), event(2, {**closed, "id": "2"}, {**closed, "id": "3"})]}
    server = {"/events/keyset": [{"events": [event(1, gamma_market(id="1"))]}, second]}
    found = read(lambda a: a.get_markets(select(limit=2)), gamma=server)
    assert [m.key.native_id for m in found] == ["1", "1", "2"]


# --- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("rain", ["1", "2"]),
        ("https://polymarket.com/event/rain", ["1", "2"]),
        ("https://polymarket.com/event/rain/will-it?tid=1", ["1"]),
        ("https://polymarket.com/market/will-it", ["1"]),
        ("0x" + "CD" * 32, ["1"]),
        ("3" * 76, ["1"]),
    ],
)
def test_pages_events_questions_and_positions_name_markets_too(name: str, ids: list[str]) -> None:
    first = gamma_market(
        id="1",
        questionID="0x" + "cd" * 32,
        positionIds=["3" * 76, "4" * 76],
        events=[{"id": "9", "title": "E"}],
    )
    whole = event(9, {**first, "events": None}, gamma_market(id="2"), gamma_market(id="3", active=False))
    other = gamma_market(id="77", slug="unrelated")

    def by_filter(request: Request) -> Response:
        """Gamma ignores what it does not know: then it lists whatever comes first."""
        wanted = {"question_ids", "position_ids"} & set(request.query_params)
        return json_response({"markets": [first] if wanted else [other]})

    server = {
        "/markets/slug/will-it": first,
        "/events/slug/rain": whole,
        "/events/9": whole,
        "/markets/keyset": by_filter,
    }
    found = read(lambda a: a.get_markets(select(ids=(name,))), gamma=server)
    assert [m.key.native_id for m in found] == ids


def test_an_unknown_name_gets_the_nearest_that_the_venue_finds() -> None:
    found = {"events": [{"slug": "rain-in-may", "markets": [{"slug": "will-it-rain"}, {}]}, {"slug": None}]}
    with pytest.raises(BadRequest, match=r"no market 'will-it-rian'; did you mean 'will-it-rain'"):
        read(lambda a: a.get_markets(select(ids=("will-it-rian",))), gamma={"/public-search": found})
    with pytest.raises(BadRequest, match=r"no market 'nothing', asked for as slug of a market or event$"):
        read(lambda a: a.get_markets(select(ids=("nothing",))), gamma={"/public-search": {"events": None}})


def test_an_event_of_placeholders_cannot_be_traded() -> None:
    server = {"/events/slug/later": event(9, gamma_market(active=False))}
    with pytest.raises(UnsupportedError, match="the event later of Polymarket has no market"):
        read(lambda a: a.get_markets(select(ids=("later",))), gamma=server)


def test_a_text_that_cannot_name_a_market_is_not_even_asked_for() -> None:
    server = Server({})
    with pytest.raises(UnknownNameError, match="address of a wallet"):
        read(lambda a: a.get_markets(select(ids=("0x" + "ab" * 20,))), gamma=server)
    assert server.asked == []


def test_an_error_that_is_no_404_is_not_taken_for_an_unknown_name() -> None:
    server = {"/markets/654414": json_response({"error": "bad"}, 400)}
    with pytest.raises(BadRequest, match="HTTP 400"):
        read(lambda a: a.get_markets(select(ids=("654414",))), gamma=server)
    with pytest.raises(BadRequest, match="HTTP 400"):
        read(
            lambda a: a.get_markets(select(series=("nyc",))),
            gamma={"/series": json_response({"error": "bad"}, 400)},
        )


def test_a_search_that_fails_does_not_hide_that_nothing_bears_the_name() -> None:
    server = {"/public-search": json_response({"error": "down"}, 400)}
    with pytest.raises(BadRequest, match="no market 'nothing', asked for as slug"):
        read(lambda a: a.get_markets(select(ids=("nothing",))), gamma=server)


def test_a_group_of_placeholders_is_none() -> None:
    listed = event(9, gamma_market(id="1"), gamma_market(id="2", active=False, **GROUP))
    found = listings(select(state=MarketState.OPEN), gamma={"/events/keyset": {"events": [listed]}})
    assert (found.groups, [e.group_key for e in found.events]) == ([], [None])


def test_an_archive_of_before_events_were_asked_for_replays_what_it_has() -> None:
    """Its markets stay, and no group of them is called whole."""

    heads = [
        {**strikes(n)[0], "events": [{"id": str(90 + n), "title": "E", "negRiskAugmented": False}]}
        for n in (1, 2)
    ]

    class Archive(httpx.ASGITransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path != "/markets/keyset":
                raise PageNotArchived(f"{request.url.path} was never fetched")
            return await super().handle_async_request(request)

    async def run() -> list[Listing]:
        async with client_of(Archive(Server({"/markets/keyset": {"markets": heads}}).app)) as client:
            wanted = select(closes_from=parse_time("2026-07-12"), state=MarketState.OPEN)
            return [page async for page in crawl(client, wanted)]

    (page,) = asyncio.run(run())
    assert [m.key.native_id for m in page.markets] == ["1", "2"]
    assert [group.exhaustive for group in page.groups] == [False, False]
