import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pm_pipeline.markets.clock import FOREVER, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.listed_fees import ListedFee, rules_of
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.sources.adapter import Selection
from pm_pipeline.sources.archive import ReplayTransport
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.kalshi import KalshiAdapter
from pm_pipeline.sources.kalshi.fees import LISTED_SINCE, listed_fees
from pm_pipeline.warehouse.archive import PageArchive
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.kalshi.material import (
    CATALOG,
    EVENT,
    NOW,
    OPENED,
    SERIES,
    TICKER,
    listing,
    market,
    venue,
)
from pm_pipeline_tests.sources.server import client_of

BOOK = RuleBook.default()


def crawled(
    series: dict[str, Any] | None = None,
    event: dict[str, Any] | None = None,
    of_market: dict[str, Any] | None = None,
    series_changes: list[dict[str, Any]] | None = None,
    event_changes: list[dict[str, Any]] | None = None,
) -> tuple[Market, list[ListedFee]]:
    """The one market of the venue, and the fees listed with it."""
    listed_series = CATALOG[f"/series/{SERIES}"]["series"]  # type: ignore[index]
    listed_event = CATALOG["/events"]["events"][0]  # type: ignore[index]
    server = venue(
        {
            **CATALOG,
            f"/series/{SERIES}": {"series": {**listed_series, **(series or {})}},
            "/events": {"events": [{**listed_event, **(event or {})}], "cursor": ""},
            "/markets": listing(market(**(of_market or {}))),
            "/series/fee_changes": {"series_fee_change_arr": series_changes or []},
            "/events/fee_changes": {"event_fee_changes": event_changes or [], "cursor": ""},
        }
    )

    async def run() -> tuple[list[Market], list[ListedFee]]:
        async with KalshiAdapter(client_of(server)) as adapter:
            wanted = Selection(venue=Venue.KALSHI, series=(SERIES,))
            pages = [page async for page in adapter.get_markets(wanted)]
            markets = [m for page in pages for m in page]
            return markets, await adapter.get_listed_fees(markets)

    (found,), fees = asyncio.run(run())
    return found, fees


def taker(found: Market, fees: list[ListedFee], at: str) -> Decimal:
    return BOOK.overlaid(rules_of(fees)).fee(found, parse_time(at)).taker_multiplier


HALF = {"fee_type": "quadratic_with_maker_fees", "fee_multiplier": 0.5}


def test_a_series_that_never_changed_has_had_its_fee_as_long_as_changes_are_listed() -> None:
    found, fees = crawled(series=HALF)
    (fee,) = fees
    assert (fee.scope, fee.fee_type, fee.multiplier) == (f"series:{SERIES}", HALF["fee_type"], Decimal("0.5"))
    assert (fee.valid_from, fee.valid_to, fee.known_at) == (LISTED_SINCE, FOREVER, NOW)
    rule = BOOK.overlaid(rules_of(fees)).fee(found, parse_time("2026-07-10"))
    assert (rule.taker_multiplier, rule.maker_multiplier) == (Decimal("0.5"), Decimal("0.5"))
    assert taker(found, fees, "2025-09-20") == 1


def test_a_series_has_each_fee_from_its_own_change_on() -> None:
    changes = [
        {"id": "b", "series_ticker": SERIES, **HALF, "scheduled_ts": "2026-07-10T04:59:45.131Z"},
        {
            "id": "a",
            "series_ticker": SERIES,
            "fee_type": "quadratic",
            "fee_multiplier": 0,
            "scheduled_ts": "2026-07-01T00:00:00Z",
        },
        {"id": "c", "series_ticker": "KXOTHER", **HALF, "scheduled_ts": "2026-07-01T00:00:00Z"},
    ]
    found, fees = crawled(series=HALF, series_changes=changes)
    assert {fee.scope for fee in fees} == {f"series:{SERIES}"}
    moments = ("2026-06-30", "2026-07-01", "2026-07-10T04:59:45.130Z", "2026-07-10T04:59:45.131Z")
    assert [taker(found, fees, at) for at in moments] == [1, 0, 0, Decimal("0.5")]


def test_a_change_that_is_yet_to_come_leaves_the_fee_that_is_listed_now() -> None:
    coming = {"fee_type": "quadratic", "fee_multiplier": 0, "scheduled_ts": "2026-09-01T00:00:00Z"}
    found, fees = crawled(series=HALF, series_changes=[{"id": "a", "series_ticker": SERIES, **coming}])
    moments = ("2026-07-10", "2026-08-31T23:59:59Z", "2026-09-01")
    assert [taker(found, fees, at) for at in moments] == [Decimal("0.5"), Decimal("0.5"), 0]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_changes_at_one_moment_the_one_that_is_listed_holds(order: int) -> None:
    at = {"series_ticker": SERIES, "scheduled_ts": "2026-07-01T00:00:00Z"}
    changes = [{"id": "a", **HALF, **at}, {"id": "b", "fee_type": "quadratic", "fee_multiplier": 0, **at}]
    found, fees = crawled(series=HALF, series_changes=changes[::order])
    assert taker(found, fees, "2026-07-10") == Decimal("0.5")


def test_an_override_of_the_event_goes_before_its_series() -> None:
    override = {"fee_type_override": "quadratic", "fee_multiplier_override": 0.25}
    found, fees = crawled(series=HALF, event=override)
    assert taker(found, fees, "2026-07-10") == Decimal("0.25")
    changes: list[dict[str, Any]] = [
        {
            "id": "1",
            "event_ticker": EVENT,
            "series_ticker": SERIES,
            **override,
            "scheduled_ts": "2026-07-09T15:00:00Z",
        },
        {
            "id": "2",
            "event_ticker": EVENT,
            "series_ticker": SERIES,
            "fee_type_override": None,
            "fee_multiplier_override": None,
            "scheduled_ts": "2026-07-10T00:00:00Z",
        },
    ]
    found, fees = crawled(series=HALF, event_changes=changes)
    moments = ("2026-07-09T14:59:59Z", "2026-07-09T15:00:00Z", "2026-07-10T00:00:00Z")
    assert [taker(found, fees, at) for at in moments] == [Decimal("0.5"), Decimal("0.25"), Decimal("0.5")]


def test_a_waiver_makes_a_market_free_from_its_opening_until_it_ends() -> None:
    found, fees = crawled(of_market={"fee_waiver_expiration_time": "2026-07-10T00:00:00Z"})
    (fee,) = fees
    assert (fee.scope, fee.valid_from) == (f"market:kalshi:{TICKER}", OPENED)
    moments = ("2026-07-09T14:00:00Z", "2026-07-09T23:59:59Z", "2026-07-10T00:00:00Z")
    assert [taker(found, fees, at) for at in moments] == [0, 0, 1]


def test_a_waiver_that_ended_before_the_market_opened_waives_nothing() -> None:
    assert crawled(of_market={"fee_waiver_expiration_time": "2026-07-09T14:00:00Z"})[1] == []


def test_listings_without_fees_leave_the_packaged_tables_alone() -> None:
    assert crawled()[1] == []


@pytest.mark.parametrize(
    "series", [{"fee_type": "flat", "fee_multiplier": 1}, {"fee_type": "quadratic", "fee_multiplier": -1}]
)
def test_a_fee_that_we_cannot_charge_stops_the_reading(series: dict[str, Any]) -> None:
    with pytest.raises(BadResponse, match=f"series:{SERIES}"):
        crawled(series=series)


def test_an_archive_from_before_the_lists_were_kept_says_nothing_of_fees(tmp_path: Path) -> None:
    """Its other pages can be replayed as before, and the packaged tables decide."""
    client = client_of(ReplayTransport(PageArchive(tmp_path)))

    async def run() -> list[ListedFee]:
        async with client:
            return await listed_fees(client, [], {}, {}, {}, NOW)

    assert asyncio.run(run()) == []


@needs_shared
def test_the_recorded_series_bind_their_markets() -> None:
    """Read on 2026-08-20: MLB games at half the fee for takers and makers, spreads for takers only.

    Their changes were not recorded, so the packaged date of the change is not tried.
    """
    path = SHARED / "samples/kalshi/2026-08_cockpit/series_fee_fields.json"
    payloads = json.loads(path.read_text())["payloads"]
    found = {}
    for answer in payloads.values():
        series = answer["series"]
        market_, fees = crawled(
            series={"fee_type": series["fee_type"], "fee_multiplier": series["fee_multiplier"]}
        )
        rule = BOOK.overlaid(rules_of(fees)).fee(market_, parse_time("2026-08-20"))
        found[series["ticker"]] = rule.taker_multiplier, rule.maker_multiplier
    half = Decimal("0.5")
    assert found == {
        "KXMLBGAME": (half, half),
        "KXMLBSPREAD": (half, 0),
        "KXATPDOUBLES": (1, 0),
        "KXWNBAGAME": (1, 1),
    }
