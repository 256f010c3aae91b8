"""Swaps without a counterparty, played from the table in docs/engine.md and held to conservation of value."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.engine import Holding, Ledger, LedgerError
from pm_pipeline.engine.money.conversion import convert, merge, redeem, split
from pm_pipeline.markets import MICRO, MarketGroup, MarketKey, to_micro
from pm_pipeline_tests.engine.builders import doc_table

CASH = 100 * MICRO
OUTCOMES = ("yes", "no")


def key(name: str) -> MarketKey:
    return MarketKey.parse(f"polymarket:{name}")


def group(names: str, *, exclusive: bool = True) -> MarketGroup:
    keys = tuple(key(name.strip()) for name in names.split(","))
    return MarketGroup("polymarket:g", keys, exclusive)


def read_holdings(cell: str) -> dict[Holding, tuple[int, int]]:
    """``A.yes 10 @ 4; A.no 5 @ 2``: contracts and what they cost."""
    found = {}
    for part in filter(None, (p.strip() for p in cell.split(";"))):
        name, size, _, cost = part.split()
        market, outcome = name.split(".")
        found[Holding(key(market), OUTCOMES.index(outcome))] = to_micro(size), to_micro(cost)
    return found


def play(ledger: Ledger, operation: str) -> None:
    verb, _, rest = operation.partition(" ")
    match verb:
        case "buy" | "sell":
            name, size, _, money, _, fee = rest.split()
            market, outcome = name.split(".")
            entry = ledger.buy if verb == "buy" else ledger.sell
            entry(
                Holding(key(market), OUTCOMES.index(outcome)), to_micro(size), to_micro(money), to_micro(fee)
            )
        case "split" | "merge":
            name, size = rest.split()
            (split if verb == "split" else merge)(ledger, key(name), to_micro(size))
        case "redeem":
            name, *payouts = rest.replace(",", " ").split()
            redeem(ledger, key(name), [to_micro(payout) for payout in payouts])
        case "refund":
            ledger.refund(key(rest))
        case "convert":
            terms, _, fee = rest.partition(" keeping ")
            chosen, _, others = terms.partition(" of ")
            names, _, size = others.rpartition(" ")
            no_of = [key(name.strip()) for name in chosen.split(",")]
            bips = int(fee.removesuffix(" bips") or 0)
            convert(ledger, group(names), no_of, to_micro(size), fee_bips=bips)
        case _:
            raise AssertionError(operation)


def ledger_with(holdings: dict[Holding, tuple[int, int]]) -> Ledger:
    ledger = Ledger(CASH + sum(cost for _, cost in holdings.values()))
    for holding, (size, cost) in holdings.items():
        ledger.buy(holding, size, cost, 0)
    return ledger


@pytest.mark.parametrize(
    "row", doc_table("engine.md", "Operations of the ledger"), ids=lambda r: r["operation"]
)
def test_an_operation_does_what_its_row_says(row: dict[str, str]) -> None:
    ledger = ledger_with(read_holdings(row["holdings before"]))
    play(ledger, row["operation"])
    assert {h: (p.size, p.cost) for h, p in ledger.positions()} == read_holdings(row["holdings after"])
    assert (ledger.cash, ledger.realised) == (to_micro(row["cash"]), to_micro(row["realised"]))


A, B, C = (key(name) for name in "ABC")


@pytest.mark.parametrize(
    ("operation", "complaint"),
    [
        (
            lambda ledger: split(ledger, A, 101 * MICRO),
            "101000000 micro-dollars are due, 100000000 are available",
        ),
        (lambda ledger: split(ledger, A, 0), "is none"),
        (lambda ledger: merge(ledger, A, 11 * MICRO), "cannot give 11000000 of 10000000"),
        (lambda ledger: merge(ledger, B, MICRO), "cannot give 1000000 of 0"),
        (lambda ledger: merge(ledger, A, -1), "is none"),
        (lambda ledger: convert(ledger, group("A, B, C"), [B], MICRO), "cannot give 1000000 of 0"),
        (lambda ledger: convert(ledger, group("A, B"), [C], MICRO), "name markets of"),
        (lambda ledger: convert(ledger, group("A, B"), [A, A], MICRO), "once each"),
        (lambda ledger: convert(ledger, group("A, B"), [], MICRO), "at least one"),
        (lambda ledger: convert(ledger, group("A, B", exclusive=False), [A], MICRO), "is not exclusive"),
        (lambda ledger: convert(ledger, group("A, B"), [A], MICRO, fee_bips=10_000), "leaves nothing"),
        (lambda ledger: ledger.exchange({}, {Holding(B, 0): 0}, 0), "cannot take 0 contracts"),
    ],
)
def test_what_the_holdings_do_not_allow_is_refused_and_changes_nothing(
    operation: object, complaint: str
) -> None:
    ledger = ledger_with({Holding(A, 0): (10 * MICRO, 4), Holding(A, 1): (10 * MICRO, 5)})
    before = (ledger.cash, ledger.realised, dict(ledger.positions()))
    with pytest.raises(LedgerError, match=complaint):
        operation(ledger)  # type: ignore[operator]
    assert (ledger.cash, ledger.realised, dict(ledger.positions())) == before


def test_cash_that_an_order_has_set_aside_cannot_be_split() -> None:
    ledger = Ledger(10 * MICRO)
    ledger.reserve(4 * MICRO)
    with pytest.raises(LedgerError, match="7000000 micro-dollars are due, 6000000 are available"):
        split(ledger, A, 7 * MICRO)
    split(ledger, A, 6 * MICRO)
    assert (ledger.cash, ledger.available) == (4 * MICRO, 0)


def test_after_the_close_a_set_can_be_merged_but_none_can_be_made() -> None:
    ledger = Ledger(10 * MICRO)
    split(ledger, A, 5 * MICRO)
    ledger.lock(A)
    with pytest.raises(LedgerError, match="no longer trades"):
        split(ledger, A, MICRO)
    merge(ledger, A, 2 * MICRO)
    assert ledger.position(Holding(A, 0)).locked
    assert (ledger.cash, ledger.position(Holding(A, 1)).size) == (7 * MICRO, 3 * MICRO)


@given(st.integers(1, 10**9), st.integers(2, 6))
def test_a_split_that_is_merged_again_has_changed_nothing(size: int, outcomes: int) -> None:
    ledger = Ledger(10**9)
    split(ledger, A, size, outcomes=outcomes)
    assert ledger.open_cost == size
    merge(ledger, A, size, outcomes=outcomes)
    assert (ledger.cash, ledger.realised, ledger.open_cost, list(ledger.positions())) == (10**9, 0, 0, [])


@given(
    st.integers(1, 10**9),
    st.lists(st.integers(0, MICRO), min_size=1, max_size=5).map(sorted),
    st.sampled_from(["polymarket:A", "kalshi:A"]),
)
def test_redeeming_every_outcome_of_a_split_returns_exactly_its_cash(
    size: int, cuts: list[int], name: str
) -> None:
    payouts = [b - a for a, b in pairwise([0, *cuts, MICRO])]
    market = MarketKey.parse(name)
    step = 10_000 if name.startswith("kalshi") else 1
    size = size // step * step + step
    ledger = Ledger(2 * 10**9)
    split(ledger, market, size, outcomes=len(payouts))
    credits = redeem(ledger, market, payouts)
    assert sum(credit.proceeds for credit in credits.values()) == size
    assert (ledger.cash, ledger.realised, ledger.open_cost) == (2 * 10**9, 0, 0)
    for outcome, credit in credits.items():
        assert payouts[outcome] or credit.proceeds == 0
