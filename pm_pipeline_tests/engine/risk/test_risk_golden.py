"""The blocks of the golden file on risk limits, path by path."""

import csv
import json
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from pm_pipeline.engine.money.fees import fee_model
from pm_pipeline.engine.risk import (
    Approved,
    Code,
    Denied,
    EquityWatch,
    EventKind,
    Returns,
    RiskState,
    volatility,
)
from pm_pipeline.markets import MICRO
from pm_pipeline.markets.book import Level
from pm_pipeline.markets.clock import HOUR, parse_time
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline_tests.engine.builders import doc_table, market
from pm_pipeline_tests.engine.risk.risk_builders import account, entry, leave, manager, shown, slot, state_of
from pm_pipeline_tests.shared import SHARED, needs_shared

pytestmark = needs_shared
PATH = SHARED / "golden" / "golden_risk.json"
GOLDEN: dict[str, Any] = json.loads(PATH.read_text("utf-8")) if PATH.is_file() else {}


def test_the_drawdown_stop_trips_at_its_limit_and_stays() -> None:
    case = GOLDEN["drawdown_stop"]
    limit = Decimal(str(case["limit"]))
    made, events = manager(drawdown=limit)
    watch = EquityWatch(case["equity"][0] * MICRO)
    states = []
    for hour, equity in enumerate(case["equity"]):
        watch.note(hour * HOUR, equity * MICRO)
        assert watch.drawdown == int(Fraction(str(case["drawdown_from_peak"][hour])) * MICRO)
        made.observe(hour * HOUR, equity * MICRO)
        states.append(made.state)
    at = case["halt_index_ge"]
    assert states[:at] == [RiskState.ACTIVE] * at
    assert states[at:] == [RiskState.REDUCING] * (len(states) - at)  # also at a new high
    [event] = events
    assert (event.kind, event.code, event.ts) == (EventKind.TRIPPED, Code.DRAWDOWN, at * HOUR)
    assert (event.value, event.limit) == (150_000, 150_000)
    made.reset(7 * HOUR)
    assert state_of(made) == RiskState.ACTIVE
    made.observe(8 * HOUR, int(12_000 * MICRO * 0.86))
    assert state_of(made) == RiskState.ACTIVE
    made.observe(9 * HOUR, int(12_000 * MICRO * 0.85))  # the peak is the 12,000 of the reset
    assert state_of(made) == RiskState.REDUCING


def test_the_documented_drawdown_path_is_the_one_taken() -> None:
    made, _ = manager(drawdown=Decimal("0.15"))
    watch = EquityWatch(10_000 * MICRO)
    for hour, row in enumerate(doc_table("risk.md", "Worked drawdown")):
        equity = int(row["equity"]) * MICRO
        made.observe(hour, equity)
        watch.note(hour, equity)
        assert watch.drawdown == int(Fraction(row["drawdown"]) * MICRO)
        assert made.state == row["state at a limit of 15 %"]


def test_the_daily_loss_is_measured_from_the_last_equity_of_the_day_before() -> None:
    case = GOLDEN["daily_loss_limit"]
    limit = Decimal(str(case["limit"]))
    made, events = manager(daily_loss=limit, day_zone=case["tz"])
    watch = EquityWatch(10_000 * MICRO, case["tz"])
    for ts, equity, reference, loss, said in case["rows"]:
        micro = round(equity * MICRO)
        watch.note(parse_time(ts), micro)
        assert watch.reference == reference * MICRO
        assert watch.daily_loss / MICRO == pytest.approx(loss, abs=1e-6)
        made.observe(parse_time(ts), micro)
        assert (made.state is RiskState.ACTIVE) is (said == "ok")
    assert not events


def test_with_the_first_mark_of_the_day_as_reference_the_same_path_would_trip() -> None:
    made, _ = manager(daily_loss=Decimal("0.03"))
    made.observe(parse_time("2025-03-01T23:50:00Z"), 10_020 * MICRO)
    made.observe(parse_time("2025-03-02T12:00:00Z"), 9_719_400_000)
    assert state_of(made) == RiskState.REDUCING


def test_the_most_open_positions_count_markets() -> None:
    case = GOLDEN["max_open_positions"]
    made, _ = manager(max_positions=case["limit"])
    books = made.exposures
    words = iter(said.split()[0].rstrip(":") for _, said in case["events"])
    a, b, c = ("kalshi:A", "kalshi:B", "kalshi:C")

    def asks(key: str, outcome: int) -> str:
        found = made.decide(entry(10, slot(key, outcome)), account(), shown(), 0)
        if isinstance(found, Denied):
            assert found.code is Code.MAX_POSITIONS
            assert (found.value, found.limit) == (2 * MICRO, 2 * MICRO)
        return "accept" if isinstance(found, Approved) else "reject"

    def opens(key: str, outcome: int) -> str:
        said = asks(key, outcome)
        if said == "accept":
            books.reserve(slot(key, outcome), 10 * MICRO)
            books.release(slot(key, outcome), 10 * MICRO)
            books.bought(slot(key, outcome), 9 * MICRO)
        return said

    assert opens(a, 0) == next(words)
    assert opens(b, 1) == next(words)
    assert books.markets == 2
    assert opens(a, 0) == next(words)  # adds
    assert opens(c, 0) == next(words)
    assert opens(a, 1) == next(words)  # the other outcome of the same market
    assert isinstance(made.decide(leave(slot(b, 1)), account(), shown(), 0), Approved)
    assert opens(c, 0) == next(words)  # an exit on its way frees nothing
    assert next(words) == "still"
    assert asks(c, 0) == "reject"  # resolved, not credited
    books.sold(slot(b, 1), 5, 5)
    assert next(words) == "slot"
    assert asks(c, 0) == "accept"


def flat_fee(per_contract: Fraction) -> Any:
    def fee(levels: Sequence[Level]) -> int:
        return -int(-sum(level.size for level in levels) * per_contract // 1)

    return fee


def test_the_position_cap_trims_to_whole_lots() -> None:
    case = GOLDEN["position_cap"]
    made, events = manager(position_cap=Decimal(str(case["cap"])))
    made.exposures.bought(slot(), case["existing_cost"] * MICRO)
    made.exposures.reserve(slot(), case["pending_cost"] * MICRO)
    fee = Fraction(str(case["fee_per_contract"]))
    market_now = shown(fee=flat_fee(fee))
    desired = case["desired_contracts"] * (case["price"] + case["fee_per_contract"])
    found = made.decide(entry(desired), account(case["equity"]), market_now, 0)
    assert isinstance(found, Approved)
    assert found.stake == case["allowed_cost"] * MICRO
    assert found.size == case["allowed_contracts_floor"] * MICRO
    paid = found.size * (Fraction(str(case["price"])) + fee)
    assert paid == Fraction(str(case["cost_of_allowed"])) * MICRO
    [event] = events
    assert (event.kind, event.code, event.limit) == (EventKind.TRIMMED, Code.POSITION_CAP, 1_000 * MICRO)


def test_the_position_cap_trims_the_same_under_the_venues_own_fee() -> None:
    case = GOLDEN["position_cap"]
    model = fee_model(RuleBook.default(), market("kalshi:KXA-1", category=None), parse_time("2025-12-01"))
    made, _ = manager(position_cap=Decimal(str(case["cap"])))
    made.exposures.bought(slot(), (case["existing_cost"] + case["pending_cost"]) * MICRO)

    def fee(levels: Sequence[Level]) -> int:
        return model.max_fee(levels[0].price, sum(level.size for level in levels))

    found = made.decide(entry(900), account(case["equity"]), shown(fee=fee), 0)
    assert isinstance(found, Approved)
    assert found.size == case["allowed_contracts_floor"] * MICRO


def test_the_volatility_filter_on_a_real_series() -> None:
    case = GOLDEN["volatility_filter"]
    path = SHARED / "samples" / "alpaca" / "history" / f"{case['series']}.csv"
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    prices = np.array([float(row["close"]) for row in rows])
    window = case["window"]
    last = volatility(prices, window, Returns.SIMPLE)
    assert last is not None
    assert last == pytest.approx(case["last"], rel=1e-12)
    assert last * 252**0.5 == pytest.approx(case["last_annualised"], rel=1e-12)
    every = [volatility(prices[:n], window, Returns.SIMPLE) for n in range(window + 1, len(prices) + 1)]
    found = np.array([v for v in every if v is not None])
    assert found.max() == pytest.approx(case["max"], rel=1e-12)
    assert int((found > 0.025).sum()) == case["days_above_0_025"]
    assert int((found > 0.03).sum()) == case["days_above_0_03"]
    for limit, annual in case["equiv_annual"].items():
        assert float(limit) * 252**0.5 == pytest.approx(annual, rel=1e-12)
