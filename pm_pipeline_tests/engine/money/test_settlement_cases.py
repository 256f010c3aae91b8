"""Every way in which a market can end, played through the simulation from the table in docs/engine.md."""

from typing import Any

import pytest

from pm_pipeline.engine import SimResult
from pm_pipeline.engine.money.settlement import payout_amounts
from pm_pipeline.markets import MICRO, Resolution, ResolutionStatus, Venue, to_micro
from pm_pipeline.markets.clock import to_nanos
from pm_pipeline_tests.engine.builders import at, bbo, doc_table, enter, given, market, reasons, resolved, run

KEYS = {"polymarket": "polymarket:1", "kalshi": "kalshi:KXHIGHNY-26JUL10-B85.5"}
QUOTES = [*((second, 48, 50) for second in range(0, 100, 5)), (100, 44, 46)]


def resolution_of(row: dict[str, str]) -> Resolution:
    closed, paid = (at(int(cell)) if cell else None for cell in (row["closed"], row["paid"]))
    payouts = tuple(to_micro(cell.strip()) for cell in row["payouts"].split(",")) if row["payouts"] else None
    return resolved(
        0,
        0,
        payouts,
        KEYS[row["venue"]],
        status=ResolutionStatus(row["status"]),
        closed_at=closed,
        resolved_at=paid,
        was_disputed=row["case"].startswith("disputed"),
    )


def played(row: dict[str, str]) -> SimResult:
    key = KEYS[row["venue"]]
    signals = [enter(5, stake=5 * MICRO)]
    if row["asked at"]:
        signals.append(enter(int(row["asked at"]), outcome=1, stake=5 * MICRO))
    return run(given(bbo(QUOTES, key), signals, resolution_of(row), market(key)))


CASES = doc_table("engine.md", "Settlement cases")


@pytest.mark.parametrize("row", CASES, ids=lambda row: row["case"])
def test_a_market_ends_as_its_row_says(row: dict[str, str]) -> None:
    result = played(row)
    (trip,) = result.trips.to_pylist()
    assert (trip["size"], trip["cost"]) == (10 * MICRO, 5 * MICRO)
    assert (trip["proceeds"], trip["ended_by"]) == (to_micro(row["proceeds"]), row["ended_by"])
    assert trip["pnl"] == trip["proceeds"] - trip["cost"] - trip["fees"]
    assert to_nanos(trip["exited_at"]) == at(int(row["ended"]))
    assert reasons(result) == [row["refusal"]][: bool(row["refusal"])]


@pytest.mark.parametrize("row", CASES, ids=lambda row: row["case"])
def test_the_last_equity_is_the_cash_that_was_paid_or_the_mark(row: dict[str, str]) -> None:
    result = played(row)
    last: dict[str, Any] = result.equity.to_pylist()[-1]
    start = result.equity.to_pylist()[0]["cash"]
    assert last["equity"] == start - 5 * MICRO + to_micro(row["proceeds"])
    paid = row["ended_by"] != "open"
    assert (last["open_positions"], last["cash"] == last["equity"]) == (0 if paid else 1, paid)
    closed = not paid and row["closed"] != ""
    assert last["locked"] == (to_micro(row["proceeds"]) if closed else 0)


@pytest.mark.parametrize(
    ("payouts", "sizes", "venue", "amounts"),
    [
        ("1, 0", {0: "10"}, Venue.POLYMARKET, {0: "10"}),
        ("1, 0", {0: "10", 1: "4"}, Venue.POLYMARKET, {0: "10", 1: "0"}),
        # a set of 1.5: each by itself would be cut to 0.499999 and 1.0
        ("0.333333, 0.666667", {0: "1.5", 1: "1.5"}, Venue.POLYMARKET, {0: "0.5", 1: "1"}),
        # a set of 0.01 and 1 more of NO: 0.0067 and 0.68 in all
        ("0.33, 0.67", {0: "0.01", 1: "1.01"}, Venue.KALSHI, {0: "0.01", 1: "0.67"}),
        ("0.3337, 0.6663", {0: "10", 1: "10"}, Venue.KALSHI, {0: "3.34", 1: "6.66"}),
        (
            "0, 0.5, 0.5",
            {0: "3", 1: "0.000001", 2: "0.000001"},
            Venue.POLYMARKET,
            {0: "0", 1: "0.000001", 2: "0"},
        ),
        ("0, 1", {}, Venue.POLYMARKET, {}),
    ],
)
def test_the_positions_of_a_market_are_paid_as_one_sum(
    payouts: str, sizes: dict[int, str], venue: Venue, amounts: dict[int, str]
) -> None:
    found = payout_amounts(
        [to_micro(cell.strip()) for cell in payouts.split(",")],
        {outcome: to_micro(size) for outcome, size in sizes.items()},
        venue,
    )
    assert found == {outcome: to_micro(amount) for outcome, amount in amounts.items()}
