from dataclasses import replace
from typing import Any

import pytest

from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.resolution import Resolution
from pm_pipeline.sources.errors import BadResponse, SourceError
from pm_pipeline_tests.sources.polymarket.material import (
    CONDITION,
    MARKET,
    NOW,
    gamma_market,
    packed,
    page,
    read,
)

RESOLVED_AT = "2026-07-13T09:00:00Z"
UMA = {"umaResolutionStatus": "resolved"}
CLOSED = {"closed": True, "closedTime": "2026-07-12 18:00:00+00", "umaEndDate": "2026-07-12T20:00:00Z"}


def row(**changes: Any) -> dict[str, Any]:
    return {
        "condition_id": CONDITION,
        "status": "resolved",
        "payouts": [1_000_000, 0],
        "resolved_at": RESOLVED_AT,
        **changes,
    }


def resolution(rows: list[dict[str, Any]], **gamma: Any) -> Resolution:
    (found,) = read(
        lambda adapter: adapter.get_resolutions([MARKET]),
        gamma={"/markets/654414": gamma_market(**gamma)},
        data={"/v2/resolutions": {"data": rows}},
    )
    assert isinstance(found, Resolution)
    return found


@pytest.mark.parametrize(
    ("payouts", "paid"),
    [
        ([1_000_000, 0], (1_000_000, 0)),
        ([0, 1_000_000], (0, 1_000_000)),
        ([500_000, 500_000], (500_000, 500_000)),
        ([1_000_000, 1_000_000], (500_000, 500_000)),
        ([1, 1], (500_000, 500_000)),
        ([1, 2], (333_333, 666_667)),
    ],
)
def test_the_payouts_of_the_chain_go_first(payouts: list[int], paid: tuple[int, int]) -> None:
    found = resolution([row(payouts=payouts)], **CLOSED, outcomePrices=packed("0", "1"))
    assert (str(found.status), found.payouts, found.source) == ("resolved", paid, "data:/v2/resolutions")
    assert found.resolved_at == found.known_at == parse_time(RESOLVED_AT)
    assert found.closed_at == parse_time("2026-07-12T18:00:00Z")


def test_a_resolution_without_its_time_takes_that_of_its_last_update() -> None:
    found = resolution([row(resolved_at="", last_update_timestamp="1783933200")], **CLOSED)
    assert found.resolved_at == 1783933200 * 10**9


@pytest.mark.parametrize(
    ("prices", "paid"), [(("1", "0"), (1_000_000, 0)), (("0.5", "0.5"), (500_000, 500_000))]
)
def test_final_prices_of_gamma_are_payouts_where_the_chain_is_silent(prices: Any, paid: Any) -> None:
    found = resolution([], **CLOSED, umaResolutionStatus="resolved", outcomePrices=packed(*prices))
    assert (found.payouts, found.source) == (paid, "gamma:outcomePrices")
    assert found.resolved_at == parse_time("2026-07-12T20:00:00Z")


@pytest.mark.parametrize(
    ("rows", "gamma", "status"),
    [
        ([], {}, "open"),
        ([], {"umaResolutionStatus": "requested"}, "open"),
        ([], {"umaResolutionStatus": "proposed"}, "pending"),
        ([], {**CLOSED, "umaResolutionStatus": "settled", "outcomePrices": packed("1", "0")}, "pending"),
        ([], CLOSED, "closed"),
        ([], {**CLOSED, "umaResolutionStatus": "disputed"}, "disputed"),
        # prices at which somebody once traded, or the zeros of 2020, are no payouts
        ([], {**CLOSED, **UMA, "outcomePrices": packed("0.97", "0.03")}, "pending"),
        ([], {**CLOSED, **UMA, "outcomePrices": packed("0", "0")}, "pending"),
        ([], {**CLOSED, "umaResolutionStatus": "proposed", "outcomePrices": packed("1", "0")}, "pending"),
        ([row(status="initialized", payouts=None)], CLOSED, "closed"),
        ([row(status="posed", payouts=None)], {}, "open"),
        ([row(status="proposed", payouts=None)], CLOSED, "pending"),
        (
            [row(status="disputed", payouts=None)],
            {**CLOSED, **UMA, "outcomePrices": packed("1", "0")},
            "disputed",
        ),
        ([row(status="arbitration", payouts=None)], CLOSED, "disputed"),
        ([row(payouts=[])], CLOSED, "pending"),
    ],
)  # fmt: skip
def test_what_is_not_decided_pays_nothing_yet(rows: Any, gamma: dict[str, Any], status: str) -> None:
    found = resolution(rows, **gamma)
    assert (str(found.status), found.payouts, found.resolved_at, found.known_at) == (status, None, None, NOW)


def test_a_dispute_is_remembered_after_it_is_settled() -> None:
    assert resolution([row(was_disputed=True)], **CLOSED).was_disputed
    assert not resolution([row()], **CLOSED).was_disputed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"payouts": [0, 0]}, r"pays \[0, 0\]"),
        ({"payouts": [1, 0, 0]}, r"pays \[1, 0, 0\]"),
        ({"payouts": [-1, 2]}, r"pays \[-1, 2\]"),
        ({"resolved_at": None}, "resolved_at is missing"),
        ({"status": "guessed", "payouts": None}, "status is 'guessed'"),
        ({"condition_id": "0x00"}, "asked for"),
    ],
)
def test_an_impossible_resolution_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        resolution([row(**changes)], **CLOSED)


def test_a_market_without_its_condition_cannot_be_asked_for() -> None:
    with pytest.raises(SourceError, match="no condition id"):
        read(lambda adapter: adapter.get_resolutions([replace(MARKET, condition_id=None)]))


def test_an_empty_page_with_a_cursor_does_not_mean_that_nobody_has_said_anything() -> None:
    (found,) = read(
        lambda adapter: adapter.get_resolutions([MARKET]),
        gamma={"/markets/654414": gamma_market(**CLOSED)},
        data={"/v2/resolutions": [page([], "c"), page([row()])]},
    )
    assert found.payouts == (1_000_000, 0)
