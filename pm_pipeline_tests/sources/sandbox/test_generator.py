"""The generated world is coherent, repeatable, and without an edge."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.markets.clock import DAY, HOUR, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.sandbox import World, WorldMarket, generate_world
from pm_pipeline.sources.sandbox.generator import _addresses, event_path, figure_of
from pm_pipeline.sources.sandbox.plans import (
    EventPlan,
    bucket_event,
    default_plans,
    fifteen_minute_event,
    high_event,
    mispriced_event,
)
from pm_pipeline.sources.sandbox.quoting import is_fast, price_grid, wallet_addresses
from pm_pipeline.sources.sandbox.world import ABSENT, Sides, book_at

NOW = parse_time("2026-06-30T00:00:00Z")
SMALL = (
    replace(bucket_event("nyc", "2026-06-26", 84), opened_at=parse_time("2026-06-26T00:00:00Z")),
    fifteen_minute_event("2026-06-28T16:15:00Z", 78_350.5),
)


def traded(world: World) -> list[WorldMarket]:
    return [market for market in world.markets.values() if not market.inactive]


def arrays(market: WorldMarket) -> list[np.ndarray]:
    return [*market.quotes(), *market.trades(), *market.book_log()]


def test_the_default_world_has_the_endings_that_a_reader_must_cope_with(world: World) -> None:
    statuses = Counter((m.market.key.venue, m.resolution.status) for m in traded(world))
    assert sum(n for (venue, _), n in statuses.items() if venue is Venue.POLYMARKET) == 24
    assert sum(n for (venue, _), n in statuses.items() if venue is Venue.KALSHI) == 17
    assert statuses[Venue.KALSHI, ResolutionStatus.VOID] == 1
    assert statuses[Venue.POLYMARKET, ResolutionStatus.CLOSED] == 1
    assert statuses[Venue.POLYMARKET, ResolutionStatus.OPEN] == 9
    assert statuses[Venue.KALSHI, ResolutionStatus.OPEN] == 6
    payouts = Counter(m.resolution.payouts for m in traded(world) if m.resolution.payouts)
    assert payouts[MICRO // 2, MICRO // 2] == 1
    scalar = [p for p in payouts if p[0] not in {0, MICRO, MICRO // 2}]
    assert len(scalar) == 1
    assert sum(m.resolution.was_disputed for m in traded(world)) == 1


@pytest.mark.parametrize("name", ["resolved_at", "closed_at", "known_at"])
def test_no_resolution_is_from_the_future(world: World, name: str) -> None:
    moments = [getattr(m.resolution, name) for m in world.markets.values()]
    assert all(moment is None or moment <= world.now for moment in moments)


def test_nothing_is_quoted_or_traded_after_the_worlds_present(world: World) -> None:
    for market in traded(world):
        for ts in (market.quotes().ts, market.trades().ts, market.book_log().ts):
            assert ts[-1] <= world.now
            assert np.all(np.diff(ts) >= 0)
        assert np.all(np.diff(market.quotes().ts) > 0)


def test_exactly_one_market_of_an_exclusive_event_pays(world: World) -> None:
    for children in world.by_event.values():
        paid = [c.resolution.payouts[0] for c in children if c.resolution.payouts]
        if children[0].market.exclusive_group and paid:
            assert sum(paid) == MICRO


@given(st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_the_latent_probability_lies_strictly_between_bid_and_ask(seed: int) -> None:
    world = generate_world(seed, SMALL)
    for plan in SMALL:
        chances = event_path(seed, plan).chances
        children = [m for m in traded(world) if m.event.slug == plan.name]
        mids = np.zeros(len(chances[0]))
        slack = np.zeros(len(chances[0]))
        for market, chance in zip(children, chances, strict=True):
            quotes = market.quotes()
            bid = np.where(quotes.bid == ABSENT, 0, quotes.bid) / MICRO
            ask = np.where(quotes.ask == ABSENT, MICRO, quotes.ask) / MICRO
            assert np.all((bid < chance) | ((bid == 0) & (chance == 0)) | (chance < 1e-9))
            assert np.all((ask > chance) | ((ask == 1) & (chance == 1)) | (chance > 1 - 1e-9))
            mids += quotes.mid / MICRO
            slack += (ask - bid) / 2
        if plan.exclusive:
            assert np.all(np.abs(mids - 1.0) <= slack)
            assert slack.mean() < 0.2


@given(st.integers(0, 10**6))
@settings(max_examples=3, deadline=None)
def test_books_prices_and_trades_of_a_market_agree(seed: int) -> None:
    world = generate_world(seed, SMALL)
    for market in traded(world)[::3]:
        quotes, trades, log = market.quotes(), market.trades(), market.book_log()
        grid = set(price_grid(market.market.ticks).tolist())
        levels = log.price[~log.reset]
        assert set(levels.tolist()) <= grid
        assert np.all(log.size >= 0)
        assert len(quotes.ts) > 100
        for row in np.linspace(0, len(quotes.ts) - 1, 25).astype(int):
            book = book_at(log, int(quotes.ts[row]))
            assert book is not None
            assert touch(book) == (int(quotes.bid[row]), int(quotes.ask[row]))
        assert len(trades.ts) > 5
        for row in np.linspace(0, len(trades.ts) - 1, 25).astype(int):
            before = book_at(log, int(trades.ts[row]) - 1)
            after = book_at(log, int(trades.ts[row]))
            assert before is not None
            assert after is not None
            price, size = int(trades.price[row]), int(trades.size[row])
            side = 1 if trades.lifts[row] else 0
            assert touch(before)[side] == price
            assert before[side][price] - after[side][price] >= size
            assert after[side][price] > 0


def touch(book: Sides) -> tuple[int, int]:
    return max(book.bids, default=ABSENT), min(book.asks, default=ABSENT)


def test_books_are_deep_where_the_grid_allows(world: World) -> None:
    open_markets = [m for m in traded(world) if m.resolution.status is ResolutionStatus.OPEN]
    books = [book_at(m.book_log(), world.now) for m in open_markets]
    assert sum(book is not None and min(map(len, book)) >= 10 for book in books) >= 4


def test_the_same_seed_gives_the_same_world_and_another_seed_another() -> None:
    first, second, other = (generate_world(seed, SMALL) for seed in (5, 5, 6))
    key = next(iter(first.markets))
    for one, two in zip(arrays(first.market(key)), arrays(second.market(key)), strict=True):
        np.testing.assert_array_equal(one, two)
    assert first.market(key).resolution == second.market(key).resolution
    assert not np.array_equal(first.market(key).quotes().mid, other.market(key).quotes().mid)


def test_another_event_leaves_the_others_as_they_were() -> None:
    alone, beside = generate_world(5, SMALL[1:]), generate_world(5, SMALL)
    key = next(iter(alone.markets))
    for one, two in zip(arrays(alone.market(key)), arrays(beside.market(key)), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_later_present_only_adds_to_what_was() -> None:
    plan = high_event("2026-06-29", 88)
    early, late = (generate_world(5, [plan], now) for now in (NOW, NOW + DAY))
    for key in early.markets:
        was, became = early.market(key).quotes(), late.market(key).quotes()
        np.testing.assert_array_equal(was.mid, became.mid[: len(was.mid)])
        assert len(became.mid) > len(was.mid)
    assert {m.resolution.status for m in early.markets.values()} == {ResolutionStatus.OPEN}
    assert {m.resolution.status for m in late.markets.values()} == {ResolutionStatus.RESOLVED}


@pytest.mark.parametrize(
    ("hours", "status"),
    [
        (-1, ResolutionStatus.OPEN),
        (1, ResolutionStatus.DISPUTED),
        (24 * 7, ResolutionStatus.RESOLVED),
    ],
)
def test_a_disputed_market_passes_through_its_stages(hours: int, status: ResolutionStatus) -> None:
    plan = next(p for p in default_plans() if p.ending == "disputed")
    world = generate_world(7, [plan], plan.closes_at + hours * HOUR)
    (market,) = world.markets.values()
    assert market.resolution.status is status


def test_an_answered_market_waits_as_pending() -> None:
    plan = high_event("2026-06-26", 84)
    world = generate_world(7, [plan], plan.closes_at + HOUR)
    assert {m.resolution.status for m in world.markets.values()} == {ResolutionStatus.PENDING}


def test_fast_wallets_earn_and_slow_ones_pay(world: World) -> None:
    wallets = wallet_addresses(_addresses(7))
    gains: dict[bool, list[float]] = {True: [], False: []}
    for plan in default_plans():
        path = event_path(7, plan)
        for market, chance in zip(children_of(world, plan), path.chances, strict=True):
            trades = market.trades()
            step = np.minimum(np.searchsorted(path.ts, trades.ts, side="right"), len(path.ts) - 1)
            for row in np.flatnonzero(~trades.block):
                edge = chance[step[row]] - trades.price[row] / MICRO
                fast = is_fast(wallets, str(trades.wallet[row]))
                gains[fast].append(edge if trades.lifts[row] else -edge)
    assert len(gains[True]) > 500
    assert np.mean(gains[True]) > 0.002
    assert np.mean(gains[False]) < -0.004


def children_of(world: World, plan: EventPlan) -> list[WorldMarket]:
    return [m for m in traded(world) if m.event.slug == plan.name]


def test_the_settled_value_agrees_with_the_winning_strike(world: World) -> None:
    winners = [
        m
        for m in world.of_venue(Venue.KALSHI)
        if m.market.series == "KXHIGHNY" and m.resolution.payouts == (MICRO, 0)
    ]
    assert len(winners) == 1
    strike, value = winners[0].strike, float(winners[0].settled_value)
    assert strike is not None
    assert strike.floor is None or value >= strike.floor
    assert strike.cap is None or value <= strike.cap


def test_the_mispriced_event_strays_from_the_truth_and_is_not_in_the_default_world() -> None:
    plan = mispriced_event()
    (market,) = generate_world(7, [plan]).markets.values()
    quotes, (chance,) = market.quotes(), event_path(7, plan).chances
    outside = (chance * MICRO > quotes.ask) & (quotes.ask != ABSENT)
    assert outside.sum() > 100
    assert plan.name not in {p.name for p in default_plans()}


def test_figures_come_from_the_seed() -> None:
    plan = high_event("2026-06-26", 84)
    assert figure_of(1, plan) == figure_of(1, plan) != figure_of(2, plan)
