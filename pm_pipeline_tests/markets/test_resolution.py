from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.markets.resolution import PayoutError, Resolution, ResolutionStatus, check_payouts

RESOLVED = Resolution(
    market_key=MarketKey.parse("polymarket:1"),
    status=ResolutionStatus.RESOLVED,
    payouts=(1_000_000, 0),
    closed_at=1,
    resolved_at=2,
    known_at=2,
    source="test",
)


@given(st.integers(0, 1_000_000))
def test_any_split_of_a_dollar_can_be_paid(yes: int) -> None:
    payouts = (yes, 1_000_000 - yes)
    check_payouts(payouts)
    assert replace(RESOLVED, payouts=payouts).payouts == payouts


@pytest.mark.parametrize(
    "payouts", [(1_000_000, 1), (1_000_001, -1), (500_000, 400_000), (), (0, 0), (1_000_000, 1_000_000)]
)
def test_what_is_no_split_of_a_dollar_is_refused(payouts: tuple[int, ...]) -> None:
    with pytest.raises(PayoutError, match="split of one dollar"):
        replace(RESOLVED, payouts=payouts)


def test_a_resolved_market_names_its_payouts_and_their_time() -> None:
    with pytest.raises(PayoutError, match="lacks its payouts or its time"):
        replace(RESOLVED, payouts=None)
    with pytest.raises(PayoutError, match="lacks its payouts or its time"):
        replace(RESOLVED, resolved_at=None)


@pytest.mark.parametrize("status", [s for s in ResolutionStatus if s is not ResolutionStatus.RESOLVED])
def test_no_other_market_names_payouts(status: ResolutionStatus) -> None:
    with pytest.raises(PayoutError, match=f"is {status} but names payouts"):
        replace(RESOLVED, status=status)
    assert replace(RESOLVED, status=status, payouts=None).status is status
