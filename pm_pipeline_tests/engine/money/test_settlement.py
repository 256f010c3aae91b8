import pytest

from pm_pipeline.engine.money.settlement import (
    TRANSITIONS,
    Settlement,
    SettlementError,
    advance,
    payout_value,
)
from pm_pipeline.markets import MICRO, Resolution, ResolutionStatus, Venue
from pm_pipeline.markets.clock import FOREVER
from pm_pipeline_tests.engine.builders import at, doc_table, resolved, void


def test_the_transitions_are_those_of_the_page() -> None:
    page = {
        row["from"]: {x for x in row["to"].split(", ") if x} for row in doc_table("engine.md", "Settlement")
    }
    assert page == {str(state): {str(x) for x in after} for state, after in TRANSITIONS.items()}


@pytest.mark.parametrize("now", ResolutionStatus)
@pytest.mark.parametrize("to", ResolutionStatus)
def test_only_declared_transitions_happen(now: ResolutionStatus, to: ResolutionStatus) -> None:
    if to in TRANSITIONS[now]:
        assert advance(now, to) is to
    else:
        with pytest.raises(SettlementError, match=f"a market that is {now} cannot become {to}"):
            advance(now, to)


def unfinished(status: ResolutionStatus, closed: int | None) -> Resolution:
    closed_at = None if closed is None else at(closed)
    return resolved(0, 0, status=status, payouts=None, closed_at=closed_at, resolved_at=None)


@pytest.mark.parametrize(
    ("resolution", "states"),
    [
        (None, ["open", "open", "open"]),
        (resolved(10, 20), ["open", "pending", "resolved"]),
        (resolved(10, 20, was_disputed=True), ["open", "disputed", "resolved"]),
        (void(10, 20), ["open", "pending", "void"]),
        (resolved(10, 20, closed_at=None), ["open", "open", "resolved"]),
        (resolved(30, 20), ["open", "open", "resolved"]),
        (unfinished(ResolutionStatus.CLOSED, 10), ["open", "closed", "closed"]),
        (unfinished(ResolutionStatus.PENDING, 10), ["open", "pending", "pending"]),
        (unfinished(ResolutionStatus.DISPUTED, 10), ["open", "disputed", "disputed"]),
        (unfinished(ResolutionStatus.OPEN, None), ["open", "open", "open"]),
    ],
    ids=str,
)
def test_a_market_goes_through_its_states_in_time(resolution: Resolution | None, states: list[str]) -> None:
    settlement = Settlement.of(resolution)
    assert [settlement.status_at(at(t)) for t in (9, 15, 20)] == states


@pytest.mark.parametrize("resolution", [None, unfinished(ResolutionStatus.DISPUTED, 10)], ids=str)
def test_what_is_not_decided_is_never_paid(resolution: Resolution | None) -> None:
    settlement = Settlement.of(resolution)
    assert (settlement.paid_at, settlement.payouts) == (FOREVER, None)


@pytest.mark.parametrize(
    ("payout", "size", "venue", "paid"),
    [
        (MICRO, 3 * MICRO, Venue.POLYMARKET, 3 * MICRO),
        (0, 3 * MICRO, Venue.POLYMARKET, 0),
        (MICRO // 2, 3 * MICRO, Venue.POLYMARKET, 1_500_000),
        (333_333, 1_500_000, Venue.POLYMARKET, 499_999),
        (333_333, 1_500_000, Venue.KALSHI, 490_000),
        (MICRO, 550_000, Venue.KALSHI, 550_000),
    ],
)
def test_a_payout_is_cut_to_what_the_venue_pays(payout: int, size: int, venue: Venue, paid: int) -> None:
    assert payout_value(payout, size, venue) == paid
