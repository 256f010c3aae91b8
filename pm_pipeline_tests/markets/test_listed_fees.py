from decimal import Decimal

import pytest

from pm_pipeline.markets import Venue
from pm_pipeline.markets.clock import FOREVER, parse_time
from pm_pipeline.markets.listed_fees import FeeChange, ListedFee, ListedFeeError, dated, rules_of
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline_tests.markets.builders import a_market

BOOK = RuleBook.default()
READ = parse_time("2026-11-01")


def change(day: str, fee_type: str | None = "quadratic", multiplier: str | None = "1") -> FeeChange:
    return FeeChange(parse_time(day), fee_type, None if multiplier is None else Decimal(multiplier))


def listed(scope: str, *changes: FeeChange, known_at: int = READ) -> list[ListedFee]:
    return dated(changes, venue=Venue.KALSHI, scope=scope, source="a listing of 2026-11", known_at=known_at)


def multipliers(book: RuleBook, key: str, day: str, **stated: str) -> tuple[Decimal | int, Decimal | int]:
    rule = book.fee(a_market(key, **stated), parse_time(day))
    return rule.taker_multiplier, rule.maker_multiplier


@pytest.mark.parametrize(
    ("fee_type", "multiplier", "taker", "maker"),
    [
        ("quadratic", "1", "1", "0"),
        ("quadratic", "0.5", "0.5", "0"),
        ("quadratic_with_maker_fees", "1", "1", "1"),
        ("quadratic_with_maker_fees", "0.5", "0.5", "0.5"),
        ("quadratic_with_combo_maker_fees", "1", "1", "2"),
        ("quadratic_with_combo_maker_fees", "0", "0", "0"),
    ],
)
def test_a_fee_type_says_what_makers_pay(fee_type: str, multiplier: str, taker: str, maker: str) -> None:
    book = BOOK.overlaid(rules_of(listed("series:KXNEW", change("2026-06-01", fee_type, multiplier))))
    assert multipliers(book, "kalshi:KXNEW-1", "2026-06-01") == (Decimal(taker), Decimal(maker))
    assert multipliers(book, "kalshi:KXNEW-1", "2026-05-31") == (1, 0)


def test_changes_hold_one_after_the_other_and_rounding_stays_dated() -> None:
    rows = listed(
        "series:KXMLBGAME",
        change("2026-08-07", "quadratic_with_maker_fees", "0.5"),
        change("2025-10-04", "quadratic_with_maker_fees", "1"),
        change("2026-10-01"),
    )
    assert [(fee.valid_from, fee.valid_to) for fee in rows] == [
        (parse_time("2025-10-04"), parse_time("2026-08-07")),
        (parse_time("2026-08-07"), parse_time("2026-10-01")),
        (parse_time("2026-10-01"), FOREVER),
    ]
    book = BOOK.overlaid(rules_of(rows))
    days = ("2025-10-03", "2025-10-04", "2026-08-07", "2026-09-30", "2026-10-01")
    half = Decimal("0.5")
    found = [multipliers(book, "kalshi:KXMLBGAME-1", day) for day in days]
    assert found == [(1, 1), (1, 1), (half, half), (half, half), (1, 0)]
    rule = book.fee(a_market("kalshi:KXMLBGAME-1"), parse_time("2026-09-01"))
    assert (rule.step, rule.rebate_step, rule.taker_rate) == (100, 10_000, Decimal("0.07"))
    assert rule.source.startswith("a listing of 2026-11")


def test_an_event_overrides_its_series_until_it_is_cleared() -> None:
    event = "KXNFLGAME-26SEP13KCDEN"
    rows = listed(
        f"event:{event}",
        change("2026-09-10", "quadratic_with_combo_maker_fees", "0.5"),
        change("2026-09-12", None, None),
    )
    book = BOOK.overlaid(rules_of(rows))
    days = ("2026-09-09", "2026-09-10", "2026-09-12")
    found = [multipliers(book, f"kalshi:{event}-KC", day, event_id=event) for day in days]
    assert found == [(1, 1), (Decimal("0.5"), 1), (1, 1)]
    assert multipliers(book, "kalshi:KXNFLGAME-X", "2026-09-10") == (1, 1)


def test_a_waived_market_is_free_until_its_waiver_ends() -> None:
    rows = listed(
        "market:kalshi:KXCPI-1", change("2026-07-01", "quadratic", "0"), change("2026-07-10", None, None)
    )
    book = BOOK.overlaid(rules_of(rows))
    assert multipliers(book, "kalshi:KXCPI-1", "2026-07-09") == (0, 0)
    assert multipliers(book, "kalshi:KXCPI-1", "2026-07-10") == (1, 1)
    assert multipliers(book, "kalshi:KXCPI-2", "2026-07-09") == (1, 1)


def test_of_several_readings_the_newest_counts_scope_by_scope() -> None:
    early = listed("series:KXA", change("2026-01-01", "quadratic", "0.5"), known_at=READ - 1)
    other = listed("series:KXB", change("2026-01-01", "quadratic", "0.5"), known_at=READ - 1)
    late = listed(
        "series:KXA", change("2026-02-01", "quadratic", "0"), change("2026-03-01", "quadratic", "1")
    )
    book = BOOK.overlaid(rules_of([*late, *early, *other]))
    days = ("2026-01-15", "2026-02-01", "2026-03-01")
    assert [multipliers(book, "kalshi:KXA-1", day)[0] for day in days] == [1, 0, 1]
    assert multipliers(book, "kalshi:KXB-1", "2026-03-01")[0] == Decimal("0.5")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (change("2026-01-01", "flat", "1"), "the fee type 'flat' is not known"),
        (change("2026-01-01", "quadratik", "1"), "did you mean 'quadratic'"),
        (change("2026-01-01", "quadratic", "-1"), "multiplier of -1 cannot be"),
        (change("2026-01-01", "quadratic", "NaN"), "multiplier of NaN cannot be"),
        (change("2026-01-01", "quadratic", "0.3333333"), "multiplier of 0.3333333 cannot be"),
        (change("2026-01-01", "quadratic", None), "is quadratic, but its multiplier is None"),
        (change("2026-01-01", None, "1"), "is None, but its multiplier is 1"),
    ],
)
def test_a_fee_that_cannot_be_charged_is_an_error(wrong: FeeChange, complaint: str) -> None:
    with pytest.raises(ListedFeeError, match=complaint):
        listed("series:KXA", wrong)
