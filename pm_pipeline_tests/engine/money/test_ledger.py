from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.engine import Holding, Ledger, LedgerError
from pm_pipeline.markets import MICRO, MarketKey

A, B = MarketKey.parse("polymarket:1"), MarketKey.parse("kalshi:X-1")
YES, NO = Holding(A, 0), Holding(A, 1)


def test_a_purchase_of_prediction_market_bench_leaves_the_published_cash() -> None:
    ledger = Ledger(10_000 * 10_000)  # 10,000 cents
    ledger.buy(YES, 10 * MICRO, 500 * 10_000, 10_000)
    assert (ledger.cash, ledger.position(YES).size) == (9_499 * 10_000, 10 * MICRO)
    assert ledger.settle(A, {0: 1_000 * 10_000})[0].proceeds == 1_000 * 10_000
    assert ledger.position(YES).size == 0


def test_a_partial_sale_takes_the_average_cost_and_the_rest_keeps_what_was_cut() -> None:
    ledger = Ledger(100)
    ledger.buy(YES, 3, 10, 1)
    credit = ledger.sell(YES, 1, 5, 1)
    assert (credit.cost, ledger.position(YES).cost) == (3, 7)
    assert (ledger.cash, ledger.realised, ledger.fees, ledger.open_cost) == (93, 2, 2, 7)


def test_a_refund_gives_back_the_cost_and_keeps_the_fees() -> None:
    ledger = Ledger(100)
    ledger.buy(YES, 3, 10, 1)
    ledger.buy(NO, 2, 8, 1)
    ledger.buy(Holding(B, 0), 1, 5, 0)
    ledger.refund(A)
    assert (ledger.cash, ledger.realised, ledger.fees, ledger.open_cost) == (93, 0, 2, 5)


def test_a_locked_position_does_not_trade_and_counts_as_locked() -> None:
    ledger = Ledger(100)
    ledger.buy(YES, 3, 10, 0)
    ledger.buy(Holding(B, 0), 1, 5, 0)
    ledger.lock(A)
    equity = ledger.equity({YES: 12, Holding(B, 0): 4})
    assert (equity.cash, equity.positions, equity.locked, equity.open_positions) == (85, 4, 12, 2)
    assert equity.total == 101
    with pytest.raises(LedgerError, match="no longer trades"):
        ledger.sell(YES, 1, 1, 0)
    with pytest.raises(LedgerError, match="no longer trades"):
        ledger.buy(YES, 1, 1, 0)


def test_reserved_cash_is_not_available() -> None:
    ledger = Ledger(100)
    ledger.reserve(70)
    assert (ledger.cash, ledger.available) == (100, 30)
    with pytest.raises(LedgerError, match="cannot reserve 40 of 30"):
        ledger.reserve(40)
    ledger.release(70)
    assert ledger.available == 100
    with pytest.raises(LedgerError, match="cannot release"):
        ledger.release(1)


def test_what_would_break_the_books_is_refused() -> None:
    with pytest.raises(LedgerError, match="cannot start"):
        Ledger(-1)
    ledger = Ledger(10)
    for call in (
        lambda: ledger.buy(YES, 1, 10, 1),
        lambda: ledger.buy(YES, 0, 1, 0),
        lambda: ledger.sell(YES, 1, 1, 0),
    ):
        with pytest.raises(LedgerError):
            call()
    ledger.buy(YES, 1, 10, 0)
    with pytest.raises(LedgerError, match="a fee of 5"):
        ledger.sell(YES, 1, 0, 5)
    with pytest.raises(LedgerError, match="not a payout"):
        ledger.settle(A, {0: -1})


def test_books_that_do_not_balance_are_an_error() -> None:
    ledger = Ledger(100)
    ledger.cash += 1
    with pytest.raises(LedgerError, match="do not balance"):
        ledger.buy(YES, 1, 1, 0)


ENTRY = st.tuples(
    st.sampled_from(["buy", "sell", "settle", "refund", "lock"]),
    st.sampled_from([YES, NO, Holding(B, 0)]),
    st.integers(0, 50),
    st.integers(0, 60),
    st.integers(0, 5),
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 200), st.lists(ENTRY, max_size=30))
def test_the_identity_holds_under_any_sequence_of_entries(
    initial: int, entries: list[tuple[str, Holding, int, int, int]]
) -> None:
    ledger = Ledger(initial)
    moved = 0
    for what, holding, size, money, fee in entries:
        before = ledger.cash
        with suppress(LedgerError):
            match what:
                case "buy":
                    ledger.buy(holding, size, money, fee)
                    moved -= money + fee
                case "sell":
                    ledger.sell(holding, size, money, fee)
                    moved += money - fee
                case "settle":
                    credits = ledger.settle(holding.market_key, {0: money, 1: size})
                    moved += sum(credit.proceeds for credit in credits.values())
                case "refund":
                    moved += sum(credit.cost for credit in ledger.refund(holding.market_key).values())
                case "lock":
                    ledger.lock(holding.market_key)
                    assert ledger.cash == before
        held = dict(ledger.positions())
        cost = sum(position.cost for position in held.values())
        assert ledger.cash + cost == initial + ledger.realised - ledger.fees
        assert ledger.cash == initial + moved
        assert ledger.cash >= 0
        assert all(position.size > 0 and position.cost >= 0 for position in held.values())
