"""Any sequence of orders, swaps, closes and payments keeps the books exact and makes no money."""

from itertools import product
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pm_pipeline.engine import Holding, Ledger, LedgerError
from pm_pipeline.engine.money.conversion import NO, YES, convert, merge, redeem, split
from pm_pipeline.markets import MICRO, MarketGroup, MarketKey

MARKETS = tuple(MarketKey.parse(f"polymarket:{name}") for name in "ABC")
GROUP = MarketGroup("polymarket:g", MARKETS, exclusive=True)
HOLDINGS = tuple(Holding(market, outcome) for market, outcome in product(MARKETS, (YES, NO)))
SIZES = st.integers(1, 50 * MICRO)
FEES = st.integers(0, 1_000)


class Bookkeeping(RuleBasedStateMachine):
    """The ledger against a second book of cash and contracts, kept by the plain rules of the venue."""

    ledger: Ledger
    initial: int
    cash: int
    reserved: int
    paid_fees: int
    held: dict[Holding, int]
    closed: set[MarketKey]

    @initialize(initial=st.integers(0, 200 * MICRO))
    def open(self, initial: int) -> None:
        self.ledger = Ledger(initial)
        self.initial = self.cash = initial
        self.reserved = self.paid_fees = 0
        self.held = dict.fromkeys(HOLDINGS, 0)
        self.closed = set()

    def wealth(self) -> list[int]:
        """What everything is worth in each world, one per market of the group that may win."""
        held = {h: p.size for h, p in self.ledger.positions()}
        return [
            self.ledger.cash + sum(held.get(Holding(m, YES if m == winner else NO), 0) for m in MARKETS)
            for winner in MARKETS
        ]

    def swap(self, allowed: bool, changes: dict[Holding, int], cash: int, act: Any) -> None:
        """Do it if the second book allows it, else see it refused without a trace."""
        before = self.wealth()
        allowed &= all(self.held[h] + change >= 0 for h, change in changes.items())
        allowed &= self.cash - self.reserved + cash >= 0
        if not allowed:
            with pytest.raises(LedgerError):
                act()
            return
        act()
        self.cash += cash
        for holding, change in changes.items():
            self.held[holding] += change
        assert self.wealth() == before

    @rule(holding=st.sampled_from(HOLDINGS), size=SIZES, price=st.integers(1, MICRO), fee=FEES)
    def buy(self, holding: Holding, size: int, price: int, fee: int) -> None:
        cost = -(-price * size // MICRO)
        if holding.market_key in self.closed or cost + fee > self.cash - self.reserved:
            return
        self.ledger.buy(holding, size, cost, fee)
        self.cash -= cost + fee
        self.paid_fees += fee
        self.held[holding] += size

    @rule(holding=st.sampled_from(HOLDINGS), share=st.integers(1, 100), price=st.integers(0, MICRO), fee=FEES)
    def sell(self, holding: Holding, share: int, price: int, fee: int) -> None:
        size = -(-self.held[holding] * share // 100)
        proceeds = price * size // MICRO
        if not size or holding.market_key in self.closed or self.cash - self.reserved + proceeds < fee:
            return
        self.ledger.sell(holding, size, proceeds, fee)
        self.cash += proceeds - fee
        self.paid_fees += fee
        self.held[holding] -= size

    @rule(share=st.integers(0, 100))
    def reserve(self, share: int) -> None:
        amount = (self.cash - self.reserved) * share // 100
        self.ledger.reserve(amount)
        self.reserved += amount

    @rule(share=st.integers(0, 100))
    def release(self, share: int) -> None:
        amount = self.reserved * share // 100
        self.ledger.release(amount)
        self.reserved -= amount

    @rule(market=st.sampled_from(MARKETS), size=SIZES)
    def split(self, market: MarketKey, size: int) -> None:
        both = {Holding(market, YES): size, Holding(market, NO): size}
        # a closed market is known to the ledger by its positions only
        known = market in self.closed and any(self.held[h] for h in both)
        if market in self.closed and not known:
            return
        self.swap(not known, both, -size, lambda: split(self.ledger, market, size))

    @rule(market=st.sampled_from(MARKETS), share=st.integers(1, 120))
    def merge(self, market: MarketKey, share: int) -> None:
        size = max(self.held[Holding(market, YES)], self.held[Holding(market, NO)]) * share // 100
        if not size:
            return
        both = {Holding(market, YES): -size, Holding(market, NO): -size}
        self.swap(True, both, size, lambda: merge(self.ledger, market, size))

    @precondition(lambda self: not self.closed)
    @rule(chosen=st.sets(st.sampled_from(MARKETS), min_size=1), share=st.integers(1, 120))
    def convert(self, chosen: set[MarketKey], share: int) -> None:
        size = min(self.held[Holding(market, NO)] for market in chosen) * share // 100
        if not size:
            return
        changes = {
            **{Holding(market, NO): -size for market in chosen},
            **{Holding(market, YES): size for market in MARKETS if market not in chosen},
        }
        act = lambda: convert(self.ledger, GROUP, sorted(chosen), size)  # noqa: E731
        self.swap(True, changes, (len(chosen) - 1) * size, act)

    @rule(market=st.sampled_from(MARKETS))
    def close(self, market: MarketKey) -> None:
        before = self.wealth()
        self.ledger.lock(market)
        self.closed.add(market)
        assert self.wealth() == before

    @rule(winner=st.sampled_from(MARKETS))
    def resolve(self, winner: MarketKey) -> None:
        """The whole group is paid; what the winner's world was worth is then all cash."""
        expected = self.wealth()[MARKETS.index(winner)]
        for market in MARKETS:
            redeem(self.ledger, market, (MICRO, 0) if market == winner else (0, MICRO))
        assert self.ledger.cash == expected
        self.cash = expected
        self.held = dict.fromkeys(HOLDINGS, 0)
        self.closed = set()

    @rule(market=st.sampled_from(MARKETS), yes=st.integers(0, MICRO))
    def resolve_scalar(self, market: MarketKey, yes: int) -> None:
        payouts = (yes, MICRO - yes)
        exact = sum(self.held[Holding(market, o)] * payouts[o] for o in (YES, NO))
        credits = redeem(self.ledger, market, payouts)
        assert sum(credit.proceeds for credit in credits.values()) == exact // MICRO
        self._gone(market, exact // MICRO)

    @rule(market=st.sampled_from(MARKETS))
    def void(self, market: MarketKey) -> None:
        cost = sum(p.cost for h, p in self.ledger.positions() if h.market_key == market)
        realised = self.ledger.realised
        self.ledger.refund(market)
        assert self.ledger.realised == realised
        self._gone(market, cost)

    def _gone(self, market: MarketKey, received: int) -> None:
        self.cash += received
        self.held |= {Holding(market, YES): 0, Holding(market, NO): 0}
        self.closed.discard(market)

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "ledger"):
            return
        ledger, positions = self.ledger, dict(self.ledger.positions())
        cost = sum(position.cost for position in positions.values())
        assert ledger.open_cost == cost
        assert ledger.cash + cost == self.initial + ledger.realised - ledger.fees
        assert (ledger.cash, ledger.reserved, ledger.fees) == (self.cash, self.reserved, self.paid_fees)
        assert {h: p.size for h, p in positions.items()} == {h: n for h, n in self.held.items() if n}
        assert 0 <= ledger.reserved <= ledger.cash
        assert all(position.size > 0 and position.cost >= 0 for position in positions.values())


Bookkeeping.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBookkeeping = Bookkeeping.TestCase
