from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from pm_pipeline.engine.money.rebates import Payment, Rebate, estimate_rebates, payments
from pm_pipeline.markets import FeeTerms, Market, to_micro
from pm_pipeline.markets.clock import parse_time, to_datetime
from pm_pipeline.markets.rules import NoRuleError, RuleBook
from pm_pipeline_tests.markets.builders import a_market

BOOK = RuleBook.default()
SPORTS = a_market("polymarket:1", tags=("Sports",))
CRYPTO = a_market("polymarket:2", tags=("Crypto",))
KALSHI = a_market("kalshi:KXCPI-1")


def fills(*rows: tuple[Market, str, str, str, str]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "market_key": str(market.key),
                "ts": to_datetime(parse_time(at)),
                "price": to_micro(price),
                "size": to_micro(size),
                "liquidity": liquidity,
            }
            for market, at, price, size, liquidity in rows
        ],
        schema=pa.schema(
            {
                "market_key": pa.string(),
                "ts": pa.timestamp("us", "UTC"),
                "price": pa.int64(),
                "size": pa.int64(),
                "liquidity": pa.string(),
            }
        ),
    )


def estimate(table: pa.Table, *markets: Market) -> list[Rebate]:
    return estimate_rebates(table, {str(market.key): market for market in markets}, BOOK)


def test_a_days_resting_fills_earn_their_share_of_the_fee_by_market() -> None:
    table = fills(
        (CRYPTO, "2026-07-12T23:59:59Z", "0.50", "100", "maker"),  # 1.75 of fee, 20 %
        (SPORTS, "2026-07-12T01:00:00Z", "0.50", "100", "maker"),  # 1.25, 15 %
        (SPORTS, "2026-07-12T02:00:00Z", "0.20", "100", "maker"),  # 0.80, 15 %
        (SPORTS, "2026-07-12T03:00:00Z", "0.20", "900", "taker"),
        (SPORTS, "2026-07-13T00:00:00Z", "0.50", "100", "maker"),
    )
    assert estimate(table, SPORTS, CRYPTO) == [
        Rebate("2026-07-12", "polymarket:1", 307_500),
        Rebate("2026-07-12", "polymarket:2", 350_000),
        Rebate("2026-07-13", "polymarket:1", 187_500),
    ]


@pytest.mark.parametrize(
    ("day", "market", "rebate"),
    [
        ("2026-01-08", a_market(tags=("Crypto", "15M")), "0.7812"),
        ("2026-01-12", a_market(tags=("Crypto", "15M")), "0.1562"),
        ("2026-07-09", SPORTS, "0.1875"),
        ("2026-07-10", SPORTS, "0.1875"),
        (
            "2026-07-10",
            a_market(fee_terms=FeeTerms(Decimal("0.072"), 1, taker_only=True, rebate_rate=Decimal("0.2"))),
            "0.36",
        ),
    ],
)
def test_the_share_is_that_of_the_day(day: str, market: Market, rebate: str) -> None:
    table = fills((market, f"{day}T12:00:00Z", "0.50", "100", "maker"))
    assert estimate(table, market) == [Rebate(day, str(market.key), to_micro(rebate))]


def test_venues_and_times_without_a_rebate_earn_none() -> None:
    table = fills(
        (KALSHI, "2026-07-12T00:00:00Z", "0.50", "100", "maker"),
        (SPORTS, "2025-07-12T00:00:00Z", "0.50", "100", "maker"),
    )
    assert estimate(table, KALSHI, SPORTS) == []
    with pytest.raises(NoRuleError):
        estimate(fills((SPORTS, "2020-01-01T00:00:00Z", "0.50", "1", "maker")), SPORTS)


def test_less_than_a_dollar_stays_accrued_until_it_is_one() -> None:
    def day(number: int, cents: int, market: str = "m") -> Any:
        return Rebate(f"2026-07-{number:02}", market, cents * 10_000)

    assert payments([day(2, 30), day(1, 40, "a"), day(1, 20, "b"), day(3, 15), day(5, 200)]) == [
        Payment("2026-07-01", 600_000, 0),
        Payment("2026-07-02", 900_000, 0),
        Payment("2026-07-03", 1_050_000, 1_050_000),
        Payment("2026-07-05", 2_000_000, 2_000_000),
    ]
    assert payments([]) == []
