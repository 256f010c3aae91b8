"""A buyer's fee that the venue takes in shares: fewer contracts for the same cash."""

from pm_pipeline.markets import MICRO, Venue
from pm_pipeline.markets.clock import FOREVER, parse_time
from pm_pipeline.markets.rules import RuleBook, RuleRow
from pm_pipeline_tests.engine.builders import bbo, enter, given, market, resolved, run

IN_SHARES = RuleBook.default().overlaid(
    [
        RuleRow(
            rule="fee_schedule",
            venue=Venue.POLYMARKET,
            scope="*",
            valid_from=parse_time("2025-01-01"),
            valid_to=FOREVER,
            cells={"taker_rate": "0.072", "collected": "proceeds"},
            source="test",
        )
    ]
)


def test_a_fee_in_shares_leaves_the_cash_the_price_and_takes_contracts() -> None:
    """100 contracts at 0.50 with a fee of 1.80 dollars: 96.4 arrive, 50 dollars go."""
    entry = enter(5, stake=to_stake(51.8))
    quotes = bbo([(0, 48, 50), (60, 48, 50)])
    result = run(given(quotes, [entry], resolved(110, 200), market()), rules=IN_SHARES, fees="venue")
    (trip,), (fill,) = result.trips.to_pylist(), result.fills.to_pylist()
    assert (fill["size"], fill["cash"], fill["fee"]) == (96_400_000, -48_200_000, 1_800_000)
    assert (trip["size"], trip["cost"], trip["fees"]) == (96_400_000, 48_200_000, 1_800_000)
    assert trip["pnl"] == 46_400_000
    assert result.equity.to_pylist()[-1]["cash"] == 10_046_400_000


def to_stake(dollars: float) -> int:
    return round(dollars * MICRO)
