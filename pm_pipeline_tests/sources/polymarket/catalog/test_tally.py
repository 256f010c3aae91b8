"""Gamma's own count of its events, beside what its listing gave."""

import asyncio
from functools import cache
from typing import Any, Final

import pytest

from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.sources.adapter import MarketState, Selection, Tally
from pm_pipeline.sources.connect import AsgiApp, open_adapter
from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.polymarket.catalog.tally import count_events
from pm_pipeline.sources.sandbox import Fault, Faults, Planned, World, build_app, generate_world
from pm_pipeline.sources.sandbox.plans import POLITICS_FEES, question_event
from pm_pipeline_tests.sources.server import Server, client_of, json_response

EVENTS: Final = 120
"""More than a page."""


@cache
def world() -> World:
    """Every third event is over."""
    ends = ("2026-06-21T00:00:00Z", "2026-07-20T00:00:00Z", "2026-07-20T00:00:00Z")
    plans = [
        question_event(
            f"event-{number}",
            f"Number {number}?",
            opened="2026-06-20T00:00:00Z",
            closed=ends[number % 3],
            category="Politics",
            fees=POLITICS_FEES,
        )
        for number in range(EVENTS)
    ]
    return generate_world(5, plans, parse_time("2026-06-30T00:00:00Z"))


def tallies(app: AsgiApp, **wanted: Any) -> list[Tally]:
    async def run() -> list[Tally]:
        async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=app) as adapter:
            listings = adapter.get_listings(Selection(venue=Venue.POLYMARKET, **wanted))
            return [listing.tally async for listing in listings if listing.tally]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ({}, "events of Polymarket"),
        ({"tags": ("politics",)}, None),  # all of them: the same as if the filter were not known
    ],
)
def test_a_whole_listing_has_as_many_events_as_gamma_counts(wanted: Any, what: str | None) -> None:
    told = tallies(build_app(world()), **wanted)
    assert told == ([Tally(what, EVENTS, EVENTS)] if what else [])


@pytest.mark.parametrize(("page", "listed"), [(1, 40 + 40), (2, 80 + 20)])
def test_a_listing_that_ends_early_has_fewer(page: int, listed: int) -> None:
    """The open ones are 80 on one page, the others 40 on one page; of the spoiled one half is missing."""
    faults = Faults(plan=(Planned(Fault.STALE, "/events/keyset", page),))
    assert tallies(build_app(world(), faults)) == [Tally("events of Polymarket", listed, EVENTS)]


@pytest.mark.parametrize(
    "wanted",
    [
        {"state": MarketState.OPEN},
        {"closes_from": parse_time("2026-01-01")},
        {"limit": 3},
        {"slugs": ("event-3",)},
    ],
)
def test_what_gamma_does_not_count_has_no_tally(wanted: Any) -> None:
    assert tallies(build_app(world()), **wanted) == []


@pytest.mark.parametrize(
    "answer",
    [
        json_response({"error": "not found"}, 404),
        json_response({"data": []}),
        json_response([1]),
        json_response({"data": [], "pagination": {"totalResults": "many"}}),
    ],
)
def test_a_server_that_does_not_count_is_no_error(answer: Any) -> None:
    async def run() -> int | None:
        async with client_of(Server({"/events/pagination": [answer]})) as client:
            return await count_events(client, {})

    assert asyncio.run(run()) is None


def test_a_filter_that_changes_nothing_is_taken_for_unknown() -> None:
    async def counted(client: HttpClient, **filters: str) -> int | None:
        return await count_events(client, filters)

    async def run() -> list[int | None]:
        rows = [{"data": [], "pagination": {"totalResults": count}} for count in (7, 9, 9, 9)]
        async with client_of(Server({"/events/pagination": [json_response(r) for r in rows]})) as client:
            return [await counted(client, series_id="1"), await counted(client, series_id="2")]

    assert asyncio.run(run()) == [7, None]
