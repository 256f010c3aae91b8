"""A market's recorded book, opened for our orders: the kernel's session under the terms of one scenario."""

from collections.abc import Iterator

from pm_pipeline.engine.kernel import Session, Stream, VenueRules, lane_of
from pm_pipeline.engine.kernel.stream import Era
from pm_pipeline.engine.money.settlement import Settlement
from pm_pipeline.engine.scenarios import Terms
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.market import Market, TickRange
from pm_pipeline.markets.rules import NoRuleError, RuleBook
from pm_pipeline.warehouse.arrays import BookLog, TradeArrays


def open_book(
    market: Market,
    log: BookLog,
    trades: TradeArrays,
    settlement: Settlement,
    rules: RuleBook,
    terms: Terms,
    *,
    at: Nanos,
    seed: int = 0,
) -> Session | None:
    """The session of a market from ``at`` on, or ``None`` where no book was recorded.

    Trades move the queues of resting orders; only a binary market has trades that concern its one book.
    """
    if not len(log):
        return None
    tick = rules.tick(market, at)
    lot = max(tick.lot, terms.config.lot)
    binary = len(market.instruments) == 2
    stream = Stream.of(log, tuple(_eras(market, rules, at)), trades=trades if binary else None)
    venue = VenueRules(
        min_size=max(tick.min_order_size, lot),
        lot=lot,
        opens_at=market.opened_at or 0,
        closes_at=settlement.closed_at,
        max_age=terms.config.max_quote_age,
    )
    return Session(stream, venue, (lane_of(terms),), seed=seed)


def _eras(market: Market, rules: RuleBook, at: Nanos) -> Iterator[Era]:
    """The ticks that hold at ``at`` and, from their day on, those that differ from the ones before."""
    rule = rules.tick(market, at)
    since: Nanos = 0
    told: tuple[TickRange, ...] = ()
    while True:
        if rule.ranges != told:
            yield since, rule.ranges
            told = rule.ranges
        since = rule.valid_to
        if since >= FOREVER:
            return
        try:
            rule = rules.tick(market, since)
        except NoRuleError:
            return
