"""The generated world: fully determined by its seed, and free of an edge by construction.

Prices follow the latent probability of :mod:`sandbox.paths`, quoted by :mod:`sandbox.quoting`; the events
are listed in :mod:`sandbox.plans`. Simulation happens when a market is first read, one event at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from typing import Final, NamedTuple

import numpy as np

from pm_pipeline.markets.clock import SECOND, Nanos, parse_time
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import Instrument, Market, ScheduleEvidence
from pm_pipeline.markets.resolution import Resolution, ResolutionStatus
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.sandbox.paths import (
    Floats,
    Interval,
    Share,
    Tie,
    belief,
    end_figure,
    expected,
    payout,
    random_stream,
)
from pm_pipeline.sources.sandbox.plans import Ending, EventPlan, MarketPlan, default_plans
from pm_pipeline.sources.sandbox.quoting import Quoted, Style, book_log, quote, trade, wallet_addresses
from pm_pipeline.sources.sandbox.world import (
    BookLog,
    Ints,
    Quotes,
    Trades,
    World,
    WorldEvent,
    WorldMarket,
    no_book,
    no_quotes,
    no_trades,
)

DEFAULT_NOW: Final = parse_time("2026-06-30T00:00:00Z")
"""The moment at which the generated world stands still."""

_EVENTS_IN_MEMORY: Final = 24
_BOOKS_IN_MEMORY: Final = 4


class EventPath(NamedTuple):
    """The latent probability of YES of each market of an event, at each step of its life."""

    ts: Ints
    chances: tuple[Floats, ...]


class Simulated(NamedTuple):
    """One market, played from opening to the end of trading or to the world's present."""

    quoted: Quoted
    trades: Trades


@dataclass(frozen=True)
class _Play:
    """Plays one event when asked, and keeps nothing itself."""

    seed: int
    now: Nanos
    plan: EventPlan
    wallets: tuple[str, ...]

    def __hash__(self) -> int:
        return hash((self.seed, self.plan.name))

    def simulate(self) -> tuple[Simulated, ...]:
        plan = self.plan
        path = event_path(self.seed, plan)
        kept = int(np.searchsorted(path.ts, self.now, side="right"))
        style = Style(
            ticks=plan.ticks,
            step=plan.step,
            wobble=plan.wobble,
            depth=plan.depth,
            trades_per_hour=plan.trades_per_hour,
            whole_step_seconds=plan.step >= 60 * SECOND,
            with_block=plan.venue is Venue.KALSHI and plan.step >= 60 * SECOND,
        )
        played: list[Simulated] = []
        for market, chance in zip(plan.markets, path.chances, strict=True):
            # The whole life is drawn before the cut, so that a later "now" only adds to what was.
            quotes_rng = random_stream(self.seed, plan.name, market.suffix, "quotes")
            trades_rng = random_stream(self.seed, plan.name, market.suffix, "trades")
            quoted = quote(quotes_rng, style, path.ts, chance, plan.closes_at)
            trades = trade(trades_rng, style, quoted, chance, self.wallets)
            played.append(_cut(quoted, trades, kept, self.now))
        return tuple(played)


def _cut(quoted: Quoted, trades: Trades, kept: int, now: Nanos) -> Simulated:
    return Simulated(
        Quoted(
            Quotes(*(column[:kept] for column in quoted.quotes)),
            quoted.grid,
            quoted.bid_place[:kept],
            quoted.ask_place[:kept],
            quoted.appetite,
        ),
        trades.until(now),
    )


def event_path(seed: int, plan: EventPlan) -> EventPath:
    """The latent probabilities of an event. They sum to one over an exclusive event, and decide it."""
    ts = np.arange(plan.opened_at, plan.closes_at, plan.step, dtype=np.int64)
    known = belief(seed, plan.name, plan.mean, plan.sd, figure_of(seed, plan), ts, plan.decided_at)
    return EventPath(ts, tuple(expected(m.payoff, known.known, known.remaining_sd) for m in plan.markets))


def figure_of(seed: int, plan: EventPlan) -> float:
    """What the hidden figure of an event comes out as. A tie is the one ending that is prescribed."""
    ties = [m.payoff for m in plan.markets if isinstance(m.payoff, Tie)]
    return end_figure(seed, plan.name, plan.mean, plan.sd, ties[0] if ties else None)


def generate_world(
    seed: int = 7, plans: Sequence[EventPlan] | None = None, now: Nanos = DEFAULT_NOW
) -> World:
    """The world of this seed: the default events, or the given ones, as seen at ``now``."""
    chosen = default_plans() if plans is None else plans
    wallets = wallet_addresses(_addresses(seed))
    simulate = lru_cache(maxsize=_EVENTS_IN_MEMORY)(_Play.simulate)
    book = lru_cache(maxsize=_BOOKS_IN_MEMORY)(_book_of)
    volume = lru_cache(maxsize=4096)(_volume_of)
    markets: list[WorldMarket] = []
    for plan in chosen:
        play = _Play(seed, now, plan, wallets)
        event = WorldEvent(
            event_id=_number(plan.name, 700_000) if plan.venue is Venue.POLYMARKET else plan.name,
            slug=plan.name,
            title=plan.title,
            opened_at=plan.opened_at,
            ends_at=plan.scheduled_close,
        )
        for place, market in enumerate(plan.markets):
            markets.append(
                WorldMarket(
                    market=_market(plan, market, event),
                    resolution=_resolution(seed, plan, market, now),
                    event=event,
                    quotes=partial(_quotes_of, simulate, play, place),
                    trades=partial(_trades_of, simulate, play, place),
                    book_log=partial(book, simulate, play, place),
                    volume=partial(volume, simulate, play, place),
                    label=market.label,
                    strike=market.strike,
                    settled_value=_settled_value(seed, plan, market, now),
                )
            )
        if plan.placeholder:
            markets.append(_placeholder(plan, event, now))
    return World.of("SANDBOX", now, markets)


_Simulate = Callable[[_Play], tuple[Simulated, ...]]


def _quotes_of(simulate: _Simulate, play: _Play, place: int) -> Quotes:
    return simulate(play)[place].quoted.quotes


def _trades_of(simulate: _Simulate, play: _Play, place: int) -> Trades:
    return simulate(play)[place].trades


def _book_of(simulate: _Simulate, play: _Play, place: int) -> BookLog:
    played = simulate(play)[place]
    return book_log(played.quoted, played.trades)


def _volume_of(simulate: _Simulate, play: _Play, place: int) -> Micro:
    """What the venue prints as volume: dollars paid on Polymarket, contracts on Kalshi."""
    trades = simulate(play)[place].trades
    if play.plan.venue is Venue.KALSHI:
        return int(trades.size.sum())
    return sum(trades.price_of_named(row) * int(trades.size[row]) for row in range(len(trades.ts))) // MICRO


def _market(plan: EventPlan, market: MarketPlan, event: WorldEvent) -> Market:
    slug = "-".join(part for part in (plan.name, market.suffix) if part)
    polymarket = plan.venue is Venue.POLYMARKET
    key = MarketKey(plan.venue, _number(slug, 2_000_000) if polymarket else slug)
    grouped = len(plan.markets) > 1
    return Market(
        key=key,
        question=market.question,
        instruments=tuple(
            Instrument(key, index, label, token_of(slug, index), position_of(slug, index))
            if polymarket
            else Instrument(key, index, label)
            for index, label in enumerate(plan.outcomes)
        ),
        opened_at=plan.opened_at,
        scheduled_close=plan.scheduled_close,
        schedule_evidence=ScheduleEvidence.LISTED,
        ticks=plan.ticks,
        min_order_size=5 * MICRO if polymarket else 10_000,
        slug=slug if polymarket else None,
        condition_id=hex_id("condition", slug) if polymarket else None,
        question_id=hex_id("question", slug) if polymarket else None,
        event_id=event.event_id,
        event_title=plan.title,
        series=plan.series,
        category=plan.category,
        tags=plan.tags,
        group_key=(hex_id("group", plan.name) if polymarket else plan.name) if grouped else None,
        exclusive_group=plan.exclusive,
        fee_terms=plan.fees,
        rules_text=f"{market.question} Decided by the sandbox's generator; not a real market.",
        resolution_source="generator",
    )


def _placeholder(plan: EventPlan, event: WorldEvent, now: Nanos) -> WorldMarket:
    """The inactive "other" market that neg-risk events carry; it must be dropped by a reader."""
    other = MarketPlan("other", f"{plan.title} Other", "Other", Interval(0.0, 0.0))
    market = _market(plan, other, event)
    return WorldMarket(
        market=market,
        resolution=_unpaid(market.key, ResolutionStatus.OPEN, None, now),
        event=event,
        quotes=no_quotes,
        trades=no_trades,
        book_log=no_book,
        label="Other",
        inactive=True,
    )


def _resolution(seed: int, plan: EventPlan, market: MarketPlan, now: Nanos) -> Resolution:
    key = _market_key(plan, market)
    if now < plan.closes_at:
        return _unpaid(key, ResolutionStatus.OPEN, None, now)
    if plan.ending is Ending.LEFT_CLOSED:
        return _unpaid(key, ResolutionStatus.CLOSED, plan.closes_at, now)
    if now < plan.resolved_at:
        disputed = plan.ending is Ending.DISPUTED
        status = ResolutionStatus.DISPUTED if disputed else ResolutionStatus.PENDING
        return _unpaid(key, status, plan.closes_at, now)
    void = plan.ending is Ending.VOID
    pays = round(payout(market.payoff, figure_of(seed, plan)) * 10_000) * 100
    return Resolution(
        market_key=key,
        status=ResolutionStatus.VOID if void else ResolutionStatus.RESOLVED,
        payouts=None if void else (pays, MICRO - pays),
        closed_at=plan.closes_at,
        resolved_at=plan.resolved_at,
        known_at=plan.resolved_at,
        source="generator",
        was_disputed=plan.ending is Ending.DISPUTED,
    )


def _unpaid(key: MarketKey, status: ResolutionStatus, closed_at: Nanos | None, now: Nanos) -> Resolution:
    return Resolution(
        market_key=key,
        status=status,
        payouts=None,
        closed_at=closed_at,
        resolved_at=None,
        known_at=now if closed_at is None else closed_at,
        source="generator",
    )


def _settled_value(seed: int, plan: EventPlan, market: MarketPlan, now: Nanos) -> str:
    if plan.venue is not Venue.KALSHI or now < plan.resolved_at or plan.ending is Ending.VOID:
        return ""
    figure = figure_of(seed, plan)
    return f"{figure:.2f}" if isinstance(market.payoff, Share) or plan.sd > 10 else f"{round(figure):.2f}"


def _market_key(plan: EventPlan, market: MarketPlan) -> MarketKey:
    slug = "-".join(part for part in (plan.name, market.suffix) if part)
    return MarketKey(plan.venue, _number(slug, 2_000_000) if plan.venue is Venue.POLYMARKET else slug)


def hex_id(kind: str, name: str) -> str:
    """A stable id of 32 bytes in hexadecimal, such as a condition id."""
    return "0x" + sha256(f"{kind}:{name}".encode()).hexdigest()


def token_of(name: str, outcome: int) -> str:
    """A stable token id: a large decimal number."""
    return str(int(sha256(f"token:{name}:{outcome}".encode()).hexdigest(), 16))


def position_of(name: str, outcome: int) -> str:
    """A stable position id: two neighbouring large decimal numbers."""
    return str((int(sha256(f"position:{name}".encode()).hexdigest(), 16) >> 1) * 2 + outcome)


def _number(name: str, above: int) -> str:
    """A stable Gamma id. Ten digits, so that two names do not meet."""
    return str(above * 1000 + int(sha256(name.encode()).hexdigest(), 16) % (above * 1000))


def _addresses(seed: int) -> Iterator[str]:
    number = 0
    while True:
        yield "0x" + sha256(f"wallet:{seed}:{number}".encode()).hexdigest()[:40]
        number += 1
