from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import GroupKind, Market, MarketGroup, ScheduleEvidence, TickRange
from pm_pipeline.markets.resolution import Resolution
from pm_pipeline.sources.adapter import Listing, MarketState, Selection
from pm_pipeline.sources.errors import BadRequest, BadResponse, UnsupportedError
from pm_pipeline.sources.kalshi import KalshiAdapter
from pm_pipeline_tests.sources.kalshi.material import (
    CATALOG,
    CLOSED,
    EVENT,
    MARKET,
    NOW,
    SERIES,
    SETTLED,
    TICKER,
    listing,
    market,
    read,
    venue,
)
from pm_pipeline_tests.sources.server import json_response


def crawl(table: dict[str, Any], **wanted: Any) -> list[Market]:
    return read(lambda a: a.get_markets(Selection(venue=Venue.KALSHI, **wanted)), {**CATALOG, **table})


def one(**changes: Any) -> Market:
    (found,) = crawl({"/markets": listing(market(**changes))}, series=(SERIES,))
    return found


def test_a_market_carries_its_terms() -> None:
    found = one()
    assert str(found.key) == f"kalshi:{TICKER}"
    assert found.question == "High temp in NYC above 94? (95 or above)"
    assert [i.label for i in found.instruments] == ["Yes", "No"]
    assert found.ticks == (TickRange(10_000, 990_000, 10_000),)
    assert (found.category, found.tags, found.series) == (
        "Climate and Weather",
        ("Daily temperature",),
        SERIES,
    )
    assert (found.event_id, found.group_key, found.exclusive_group) == (EVENT, f"kalshi:{EVENT}", True)
    assert (found.volume, found.min_order_size) == (3_544_520_000, 10_000)
    assert (found.traded_until, found.scheduled_close) == (None, CLOSED)
    assert found.resolution_source == "https://nws.test"


def test_the_grid_may_be_finer_at_its_ends() -> None:
    ranges = [
        {"start": "0.0000", "end": "0.1000", "step": "0.0010"},
        {"start": "0.1000", "end": "0.9000", "step": "0.0100"},
        {"start": "0.9000", "end": "1.0000", "step": "0.0010"},
    ]
    assert one(price_ranges=ranges).ticks == (
        TickRange(1_000, 100_000, 1_000),
        TickRange(100_000, 900_000, 10_000),
        TickRange(900_000, 999_000, 1_000),
    )


def test_before_april_2026_only_whole_contracts_traded() -> None:
    assert one(close_time="2026-01-11T04:59:00Z").min_order_size == 1_000_000


@pytest.mark.parametrize(
    ("changes", "evidence", "closed"),
    [
        ({}, ScheduleEvidence.LISTED, None),
        (SETTLED, ScheduleEvidence.HINDSIGHT, CLOSED),
        ({**SETTLED, "can_close_early": False}, ScheduleEvidence.LISTED, CLOSED),
        ({"status": "closed"}, ScheduleEvidence.HINDSIGHT, CLOSED),
    ],
)
def test_a_close_first_seen_afterwards_may_be_hindsight(
    changes: dict[str, Any], evidence: ScheduleEvidence, closed: int | None
) -> None:
    found = one(**changes)
    assert (found.schedule_evidence, found.traded_until) == (evidence, closed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "paused"}, "status is 'paused'"),
        ({"price_ranges": None}, "missing required field `price_ranges`"),
        ({"price_ranges": []}, "price_ranges is empty"),
        ({"price_ranges": [{"start": "0.5", "end": "0.4", "step": "0.01"}]}, "price_ranges holds"),
        ({"volume_fp": None}, "volume_fp and volume are both missing"),
        ({"volume_fp": "-1"}, "is negative"),
        ({"close_time": "soon"}, "close_time"),
        ({"ticker": "a|b"}, "ticker: "),
    ],
)
def test_a_field_that_is_missing_or_wrong_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        one(**changes)


def test_a_series_is_read_from_both_tiers_each_market_once_in_order_and_without_combos() -> None:
    server = venue(
        {
            **CATALOG,
            "/markets": [
                listing(market(ticker="B"), market(ticker="A"), cursor="c"),
                listing(cursor="d"),
                listing(market(ticker="C")),
            ],
            "/historical/markets": listing(market(ticker="C", **SETTLED), market(ticker="D", **SETTLED)),
        }
    )
    found = read(lambda a: a.get_markets(Selection(venue=Venue.KALSHI, series=(SERIES,))), server)
    assert [m.key.native_id for m in found] == ["A", "B", "C", "D"]
    live = [params for path, params in server.asked if path == "/markets"]
    assert live[0] == {"series_ticker": SERIES, "mve_filter": "exclude", "limit": "1000"}
    assert [params.get("cursor") for params in live] == [None, "c", "d"]
    assert server.paths.count("/events") == 1
    assert f"/events/{EVENT}" not in server.paths


def test_open_markets_need_no_archive_and_bounds_are_sent_in_seconds() -> None:
    server = venue({**CATALOG, "/markets": listing(market(), market(ticker="X", **SETTLED))})
    wanted = Selection(
        venue=Venue.KALSHI,
        series=(SERIES,),
        state=MarketState.OPEN,
        closes_from=parse_time("2026-07-10"),
        closes_to=CLOSED,
    )
    assert [m.key.native_id for m in read(lambda a: a.get_markets(wanted), server)] == [TICKER]
    assert "/historical/markets" not in server.paths
    asked = next(params for path, params in server.asked if path == "/markets")
    assert (asked["min_close_ts"], asked["max_close_ts"]) == ("1783641600", str(CLOSED // 10**9))


def test_a_category_is_read_series_by_series() -> None:
    table = {
        "/series": {
            "series": [
                {"ticker": SERIES, "category": "Climate and Weather", "tags": ["Daily temperature"]},
                {"ticker": "KXRAIN", "category": "Climate and Weather", "tags": ["Rain"]},
            ]
        },
        "/markets": listing(market()),
    }
    found = crawl(table, category="Climate and Weather", tags=("Daily Temperature",))
    assert [m.series for m in found] == [SERIES]
    with pytest.raises(BadRequest, match="no series of category"):
        crawl(table, tags=("Snow",))


def test_without_a_filter_the_whole_exchange_is_listed() -> None:
    assert [m.key.native_id for m in crawl({"/markets": listing(market())})] == [TICKER]


def test_the_limit_ends_the_crawl() -> None:
    rows = [market(ticker=name) for name in "ABC"]
    assert [m.key.native_id for m in crawl({"/markets": listing(*rows)}, series=(SERIES,), limit=2)] == [
        "A",
        "B",
    ]


def test_a_named_market_is_looked_for_in_both_tiers_and_must_exist() -> None:
    table = {
        "/markets": listing(market()),
        "/historical/markets/OLD-1": {"market": market(ticker="OLD-1", **SETTLED)},
    }
    assert {m.key.native_id for m in crawl(table, ids=(TICKER, "OLD-1"))} == {TICKER, "OLD-1"}
    with pytest.raises(BadRequest, match="no market 'NOPE'"):
        crawl(table, ids=("NOPE",))


def test_an_event_is_looked_for_in_both_tiers_and_must_exist() -> None:
    old = {"/markets": listing(), "/historical/markets": listing(market(**SETTLED))}
    assert [m.key.native_id for m in crawl(old, slugs=(EVENT,))] == [TICKER]
    with pytest.raises(BadRequest, match="no markets of the event 'NOPE'"):
        crawl({"/markets": listing()}, slugs=("NOPE",))


def test_an_event_whose_strikes_settled_apart_is_read_from_both_tiers() -> None:
    """An event of several days: its first strikes are archived while the last ones trade."""
    both = {
        "/markets": listing(market(), market(ticker="MOVING", **SETTLED)),
        "/historical/markets": listing(market(ticker="OLD", **SETTLED), market(ticker="MOVING", **SETTLED)),
    }
    assert [m.key.native_id for m in crawl(both, slugs=(EVENT,))] == [TICKER, "MOVING", "OLD"]


# how markets ended


def resolution(**changes: Any) -> Resolution:
    (found,) = read(
        lambda a: a.get_resolutions([MARKET]), {f"/markets/{TICKER}": {"market": market(**changes)}}
    )
    assert isinstance(found, Resolution)
    return found


@pytest.mark.parametrize(
    ("changes", "payouts"),
    [
        ({}, (1_000_000, 0)),
        ({"result": "no", "settlement_value_dollars": "0.0000"}, (0, 1_000_000)),
        ({"result": "no", "settlement_value_dollars": None}, (0, 1_000_000)),
        ({"result": "scalar", "settlement_value_dollars": "0.5000"}, (500_000, 500_000)),
        ({"result": "scalar", "settlement_value_dollars": "0.1234"}, (123_400, 876_600)),
    ],
)
def test_a_settled_market_pays_from_its_settlement_on(
    changes: dict[str, Any], payouts: tuple[int, int]
) -> None:
    found = resolution(**{**SETTLED, **changes})
    assert (str(found.status), found.payouts, found.closed_at) == ("resolved", payouts, CLOSED)
    assert found.resolved_at == found.known_at == parse_time("2026-07-11T12:00:59.542488Z")


@pytest.mark.parametrize(
    ("status", "expected", "disputed"),
    [
        ("initialized", "open", False), ("inactive", "open", False), ("active", "open", False),
        ("closed", "closed", False), ("determined", "pending", False),
        ("amended", "pending", True), ("disputed", "disputed", True),
    ],
)  # fmt: skip
def test_what_is_not_settled_pays_nothing_yet(status: str, expected: str, disputed: bool) -> None:
    found = resolution(status=status)
    assert (str(found.status), found.payouts, found.known_at) == (expected, None, NOW)
    assert found.was_disputed is disputed


def test_a_market_that_was_paid_before_its_close_trades_until_then() -> None:
    """Settled early, its close may still lie ahead; nobody trades what has been paid."""
    paid = {**SETTLED, "settlement_ts": "2026-07-10T18:00:00Z"}
    at = parse_time(paid["settlement_ts"])
    assert one(**paid).traded_until == resolution(**paid).closed_at == resolution(**paid).resolved_at == at
    assert one(**SETTLED).traded_until == resolution(**SETTLED).closed_at == CLOSED


def test_a_finalized_market_without_a_result_was_voided() -> None:
    found = resolution(**{**SETTLED, "result": "", "settlement_value_dollars": None})
    assert (str(found.status), found.payouts) == ("void", None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"settlement_ts": None}, "settlement_ts is missing"),
        ({"settlement_value_dollars": "0.0000"}, "result is 'yes', but settlement_value_dollars is 0.0000"),
        ({"result": "scalar", "settlement_value_dollars": None}, "result is 'scalar'"),
        ({"result": "maybe"}, "result is 'maybe'"),
        ({"result": "scalar", "settlement_value_dollars": "1.5"}, "not a price"),
        ({"status": "gone"}, "status is 'gone'"),
    ],
)
def test_a_contradiction_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        resolution(**{**SETTLED, **changes})


def test_a_market_that_moved_to_the_archive_is_resolved_from_there() -> None:
    table = {f"/historical/markets/{TICKER}": {"market": market(**SETTLED)}}
    (found,) = read(lambda a: a.get_resolutions([MARKET]), table)
    assert found.payouts == (1_000_000, 0)


def test_a_refusal_other_than_not_found_is_passed_on() -> None:
    with pytest.raises(BadRequest) as caught:
        read(lambda a: a.get_resolutions([MARKET]), {f"/markets/{TICKER}": json_response({}, 401)})
    assert caught.value.status == 401


def test_positions_are_private() -> None:
    with pytest.raises(UnsupportedError, match="their owner only"):
        read(lambda a: a.get_positions("w"), {})


def listings(table: dict[str, Any], **wanted: Any) -> Listing:
    """All pages of a crawl as one."""

    async def pages(adapter: KalshiAdapter) -> AsyncIterator[list[Listing]]:
        async for page in adapter.get_listings(Selection(venue=Venue.KALSHI, **wanted)):
            yield [page]

    found = read(pages, {**CATALOG, **table})
    return Listing(
        [m for page in found for m in page.markets],
        [e for page in found for e in page.events],
        [g for page in found for g in page.groups],
    )


@pytest.mark.parametrize("wanted", [{"series": (SERIES,)}, {"ids": (TICKER,)}])
def test_strikes_come_with_their_event_and_all_that_settle_with_them(wanted: dict[str, Any]) -> None:
    other = f"{EVENT}-T90"

    def listed(request: Request) -> Response:
        """By ticker the one, by event or series both."""
        rows = [market()] if "tickers" in request.query_params else [market(), market(ticker=other)]
        return json_response(listing(*rows))

    found = listings({"/markets": listed}, **wanted)
    assert {m.key.native_id for m in found.markets} == ({TICKER} if "ids" in wanted else {TICKER, other})
    keys = tuple(sorted((MarketKey(Venue.KALSHI, TICKER), MarketKey(Venue.KALSHI, other))))
    assert [(e.key, e.series, e.category, e.market_keys) for e in found.events] == [
        (f"kalshi:{EVENT}", SERIES, "Climate and Weather", keys)
    ]
    assert found.groups == [
        MarketGroup(f"kalshi:{EVENT}", keys, True, False, GroupKind.STRIKES, (EVENT,)),
    ]
