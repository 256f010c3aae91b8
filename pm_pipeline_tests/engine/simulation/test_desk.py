"""Risk and sizing inside a simulation: what the manager is shown, and what comes of its decisions."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pm_pipeline.engine import MarketInput, RiskLimits, RunConfig, Scenario, Signal, SimResult, Sizing
from pm_pipeline.engine.simulation.desk import Desk
from pm_pipeline.engine.simulation.simulate import simulate
from pm_pipeline.engine.sizing import SizingMode
from pm_pipeline.markets import MICRO, ScheduleEvidence
from pm_pipeline.markets.clock import DAY, HOUR, MINUTE
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.engine.builders import (
    at,
    bbo,
    book,
    enter,
    execution,
    given,
    leave,
    market,
    mids,
    reasons,
    resolved,
    run,
    snapshot,
    void,
)
from pm_pipeline_tests.warehouse import builders as warehouse

DEEP = 1_000_000 * MICRO
DAY_S = DAY // 10**9


def config(sizing: Sizing | None = None, **limits: Any) -> RunConfig:
    return RunConfig(
        bankroll=1_000 * MICRO,
        stake=100 * MICRO,
        max_stake_fraction=Decimal(1),
        execution=execution(depth_usd=DEEP, max_quote_age=10 * DAY),
        sizing=sizing or Sizing(),
        risk=RiskLimits(**limits),
    )


Path = Sequence[tuple[int, float | None, float | None]]


def quoted(key: str, points: Path, *signals: Signal, **of: Any) -> MarketInput:
    """A market with these quotes, in cents; ``resolution`` and any field of the market may be stated."""
    resolution = of.pop("resolution", None)
    return given(bbo(points, key), signals, resolution, market(key, **of))


def key(number: int) -> str:
    return f"polymarket:{number}"


def events(result: SimResult) -> list[tuple[str, str]]:
    return [(row["kind"], row["reason"]) for row in result.risk_events.to_pylist()]


def costs(result: SimResult) -> list[int]:
    return [trip["cost"] for trip in result.trips.to_pylist()]


FLAT: Path = [(0, 49, 50)]


def test_without_limits_nothing_is_refused_or_recorded_but_what_cash_and_cap_say() -> None:
    result = run(quoted(key(1), FLAT, enter(5)), config=config())
    assert costs(result) == [100 * MICRO]
    assert result.risk_events.num_rows == 0
    assert result.risk_events.schema == table("backtest.risk_events").arrow


def test_a_refusal_is_a_row_of_both_tables_with_its_figures() -> None:
    result = run(
        quoted(key(1), FLAT, enter(5)), quoted(key(2), FLAT, enter(6)), config=config(max_positions=1)
    )
    assert reasons(result) == ["risk_denied"]
    [row] = result.risk_events.to_pylist()
    expected = {
        "run_id": "r1",
        "strategy": "test",
        "scenario": "base",
        "number": 0,
        "kind": "denied",
        "rule": "max_positions",
        "reason": "max_positions",
        "value": MICRO,
        "limit_value": MICRO,
        "market_key": key(2),
        "outcome_index": 0,
        "decision_id": f"test/{key(2)}/{at(6) // 1000}",
        "state_before": "active",
        "state_after": "active",
    }
    assert {name: row[name] for name in expected} == expected


def test_a_decision_id_is_what_the_id_of_its_order_begins_with() -> None:
    result = run(quoted(key(1), FLAT, enter(5)), config=config(gross_cap=Decimal("0.05")))
    [event], [order] = result.risk_events.to_pylist(), result.orders.to_pylist()
    assert (event["kind"], event["reason"]) == ("trimmed", "gross_cap")
    assert order["order_id"].startswith(event["decision_id"] + "/")
    assert costs(result) == [50 * MICRO]


@pytest.mark.parametrize(
    ("limits", "second", "cost"),
    [
        ({"position_cap": Decimal("0.15")}, {}, 100),
        ({"market_cap": Decimal("0.15")}, {}, 100),
        ({"group_cap": Decimal("0.15")}, {}, 50),
        ({"group_cap": Decimal("0.15")}, {"group_key": "other"}, 100),
        ({"strategy_cap": Decimal("0.15")}, {"group_key": "other"}, 50),
        ({"venue_cap": Decimal("0.15")}, {"group_key": "other"}, 50),
        ({"gross_cap": Decimal("0.15")}, {"group_key": "other"}, 50),
    ],
)
def test_a_cap_counts_what_other_markets_have_at_risk(
    limits: dict[str, Any], second: dict[str, Any], cost: int
) -> None:
    path = [(0, 50, 50)]
    first = given(bbo(path, key(1)), [enter(5)], of=market(key(1), group_key="event"))
    later = given(bbo(path, key(2)), [enter(9)], of=market(key(2), **{"group_key": "event", **second}))
    assert costs(run(first, later, config=config(**limits))) == [100 * MICRO, cost * MICRO]


def test_both_outcomes_of_a_market_count_into_its_cap_and_an_order_in_flight_does() -> None:
    inputs = quoted(key(1), FLAT, enter(5, 0), enter(5, 1))
    result = run(inputs, config=config(market_cap=Decimal("0.15")))
    assert sorted(costs(result)) == [49_995_300, 100 * MICRO]  # 98.03 contracts of NO at 51 cents
    assert events(result) == [("trimmed", "market_cap")]


@pytest.mark.parametrize("end", [resolved(20, 30), void(20, 30), None], ids=["paid", "void", "sold"])
def test_a_slot_and_its_exposure_are_free_once_the_position_is_gone(end: Any) -> None:
    signals = [enter(5)] if end else [enter(5), leave(10)]
    first = given(bbo([(0, 49, 50)], key(1)), signals, end, market(key(1)))
    early, late = (quoted(key(n), FLAT, enter(t)) for n, t in ((2, 9), (3, 40)))
    result = run(first, early, late, config=config(max_positions=1, gross_cap=Decimal("0.12")))
    assert reasons(result) == ["risk_denied"]
    assert [row["market_key"] for row in result.rejections.to_pylist()] == [key(2)]
    assert len(costs(result)) == 2


def test_a_partial_exit_keeps_the_slot() -> None:
    rows = [*snapshot(0, [(40, 50)], [(42, 500)])]
    first = given(book(rows, key(1)), [enter(5), leave(8)], of=market(key(1)))
    second = quoted(key(2), FLAT, enter(20))
    result = run(first, second, config=config(max_positions=1))
    assert len(result.fills) == 2
    assert reasons(result) == ["no_depth", "risk_denied"]


# ---------------------------------------------------------------------- sizing

KELLY = Sizing(mode=SizingMode.KELLY, kelly_share=Decimal(1))


def test_kelly_walks_the_depth_that_was_known() -> None:
    """The golden book: 300 contracts for 124 dollars, where the best ask alone asks for 166.67."""
    rows = snapshot(0, [(38, 100)], [(40, 100), (42, 200), (45, 500), (50, 1_000)])
    result = run(given(book(rows), [enter(5, p_hat=0.5)]), config=config(KELLY))
    [fill] = result.fills.to_pylist()
    assert (fill["size"], fill["cash"]) == (300 * MICRO, -124 * MICRO)


def test_kelly_does_not_see_depth_that_was_not_published_yet() -> None:
    rows = [
        *snapshot(0, [(38, 100)], [(40, 100)]),
        warehouse.level(1, "ask", 41, 5_000, ts=2, known_at=60),
    ]
    result = run(given(book(rows), [enter(5, p_hat=0.5)]), config=config(KELLY))
    [fill] = result.fills.to_pylist()
    assert fill["cash"] == -40 * MICRO  # the hundred contracts that were known


def test_kelly_does_not_see_a_quote_that_was_not_published_yet() -> None:
    rows = [
        {"ts": 0, "bid": 390_000, "ask": 400_000},
        {"ts": 2, "known_at": 60, "bid": 440_000, "ask": 450_000},
    ]
    tables = {"market_data.prices": warehouse.prices(rows, key(1))}
    result = run(given(tables, [enter(5, p_hat=0.5)]), config=config(KELLY))
    assert costs(result) == [pytest.approx(166_666_666, abs=5_000)]  # sized at 40 cents, filled at 45
    assert result.fills.to_pylist()[0]["price"] == 450_000
    hidden = {"market_data.prices": warehouse.prices(rows[1:], key(1))}
    assert events(run(given(hidden, [enter(5, p_hat=0.5)]), config=config(KELLY))) == [("denied", "no_offer")]


def test_kelly_stays_within_the_limit_of_its_signal() -> None:
    rows = snapshot(0, [(38, 100)], [(40, 100), (42, 200)])
    result = run(given(book(rows), [enter(5, p_hat=0.5, limit_price=410_000)]), config=config(KELLY))
    assert costs(result) == [40 * MICRO]


def test_kelly_on_a_quote_counts_the_fee_and_what_is_held() -> None:
    """p .5 at 0.40: a sixth; with 2 % on top the cost is 0.408."""
    path = [(0, 39, 40)]
    plain = run(quoted(key(1), path, enter(5, p_hat=0.5)), config=config(KELLY))
    assert costs(plain) == [166_664_000]  # 416.66 contracts
    dear = RunConfig(
        bankroll=1_000 * MICRO,
        max_stake_fraction=Decimal(1),
        execution=execution(depth_usd=DEEP, fees="flat_2pct"),
        sizing=KELLY,
    )
    [trip] = run(quoted(key(1), path, enter(5, p_hat=0.5)), config=dear).trips.to_pylist()
    assert (trip["cost"] + trip["fees"]) / MICRO == pytest.approx(1_000 * (0.5 - 0.408) / 0.592, abs=0.01)
    both = enter(5, 1, p_hat=0.7, stake=61 * MICRO), enter(20, p_hat=0.5)
    hedged = run(quoted(key(1), path, *both), config=config(KELLY))
    # NO: 100 contracts at 61 cents, marked at 60. W1 = 939, W0 = 1039
    x = (0.5 * 0.6 * 1_039 - 0.5 * 0.4 * 939) / (0.4 * 0.6)
    assert costs(hedged)[1] / MICRO == pytest.approx(x * 0.4, abs=0.01)


def test_the_other_ways_of_sizing() -> None:
    share = run(quoted(key(1), FLAT, enter(5)), config=config(Sizing(mode=SizingMode.FRACTION)))
    assert costs(share) == [20 * MICRO]
    careful = Sizing(mode=SizingMode.DRAWDOWN_KELLY, drawdown_chance=Decimal("0.05"))
    few = run(quoted(key(1), [(0, 39, 40)], enter(5, p_hat=0.5)), config=config(careful))
    assert costs(few)[0] == pytest.approx(16_956_904, abs=4_000)
    poor, mute = quoted(key(1), FLAT, enter(5, p_hat=0.4)), quoted(key(2), FLAT, enter(5))
    none = run(poor, mute, config=config(KELLY))
    assert [reason for _, reason in events(none)] == ["no_edge", "no_belief"]
    late = quoted(key(1), [(60, 49, 50)], enter(5, p_hat=0.6))
    assert [reason for _, reason in events(run(late, config=config(KELLY)))] == ["no_offer"]


def test_a_group_of_more_than_two_outcomes_counts_nothing_if_it_loses() -> None:
    of = market(key(1), outcomes=3)
    result = run(given(bbo([(0, 39, 40)], key(1)), [enter(5, p_hat=0.5)], of=of), config=config(KELLY))
    assert costs(result) == [166_664_000]


# ---------------------------------------------------------------------- what the market shows


@pytest.mark.parametrize(
    ("limits", "tables", "signal", "reason"),
    [
        ({"max_data_age": MINUTE}, bbo([(0, 49, 50)]), enter(61), "stale_data"),
        ({"max_data_age": MINUTE}, bbo([(0, 49, 50)]), enter(60), None),
        ({"max_data_age": MINUTE}, bbo([(0, 49, 50)]), enter(5, 1), None),
        ({"max_data_age": MINUTE}, bbo([(90, 49, 50)]), enter(60), "stale_data"),
        ({"max_data_age": MINUTE}, book(snapshot(0, [(40, 9)], [(42, 900)])), enter(61), "stale_data"),
        (
            {"max_data_age": MINUTE},  # a message that leaves the touch as it was is fresh data too
            book([*snapshot(0, [(40, 9)], [(42, 900)]), warehouse.level(30, "bid", 30, 5)]),
            enter(61),
            None,
        ),
        (
            {"max_data_age": MINUTE},
            book([*snapshot(0, [(40, 9)], [(42, 900)]), warehouse.event(30, "gap")]),
            enter(95),
            "stale_data",
        ),
        ({"refuse_crossed": True}, bbo([(0, 51, 50)]), enter(5), "crossed_book"),
        ({"refuse_crossed": True}, bbo([(0, 50, 51)]), enter(5), None),
        ({"min_time_to_close": DAY}, bbo([(0, 49, 50)]), enter(5), None),
        ({"min_time_to_close": 20 * DAY}, bbo([(0, 49, 50)]), enter(5), "too_close_to_close"),
        ({"max_volatility": 1.0}, bbo([(0, 49, 50)]), enter(5), "short_history"),
        ({"participation": Decimal("0.00001")}, bbo([(0, 49, 50)]), enter(5), "participation"),
    ],
)
def test_what_is_known_of_the_market_decides(
    limits: dict[str, Any], tables: dict[str, pa.Table], signal: Signal, reason: str | None
) -> None:
    found = events(run(given(tables, [signal]), config=config(**limits)))
    assert [code for _, code in found] == ([] if reason is None else [reason])


def test_an_entry_timed_by_a_close_that_was_learned_later_is_marked() -> None:
    of = market(schedule_evidence=ScheduleEvidence.HINDSIGHT)
    plain = RunConfig(execution=execution(), uses_schedule=False)
    assert not run(given(bbo(FLAT), [enter(5)], of=of), config=plain).trips.to_pylist()[0]["hindsight_close"]
    timed = RunConfig(execution=execution(), uses_schedule=False, risk=RiskLimits(min_time_to_close=HOUR))
    assert run(given(bbo(FLAT), [enter(5)], of=of), config=timed).trips.to_pylist()[0]["hindsight_close"]


def test_the_share_of_recent_volume_counts_trades_that_were_known_and_on_the_book() -> None:
    traded = warehouse.trades(
        [
            {"ts": 0, "size": 100 * MICRO},
            {"ts": 50, "size": 40 * MICRO},
            {"ts": 60, "size": 60 * MICRO, "outcome_index": 1},
            {"ts": 61, "size": 900 * MICRO, "is_block": True},
            {"ts": 62, "known_at": 500, "size": 900 * MICRO},
        ],
        key(1),
    )
    tables = bbo([(0, 49, 50)], key(1)) | {"market_data.trades": traded}
    limits = config(volume_share=Decimal("0.5"), volume_window=MINUTE)
    result = run(given(tables, [enter(70)]), config=limits)
    assert [trip["size"] for trip in result.trips.to_pylist()] == [50 * MICRO]


def test_participation_counts_what_is_shown_within_reach() -> None:
    rows = snapshot(0, [(38, 100)], [(40, 100), (42, 100), (45, 500)])
    limits = config(participation=Decimal("0.5"), depth_ticks=2)
    result = run(given(book(rows), [enter(5)]), config=limits)
    assert [trip["size"] for trip in result.trips.to_pylist()] == [100 * MICRO]


def history(number: int, prices: list[float], *signals: Signal) -> MarketInput:
    """A mid each day at noon, so that the day's close is known the day after."""
    points = [(day * DAY_S + DAY_S // 2, price) for day, price in enumerate(prices)]
    return given(mids(points, key(number)), signals, of=market(key(number), scheduled_close=at(400 * DAY_S)))


def walk(seed: int, days: int = 70) -> list[float]:
    steps = np.random.default_rng(seed).normal(0, 0.3, days)
    return [float(p) for p in 100 / (1 + np.exp(-np.cumsum(steps)))]


def test_volatility_and_jumps_are_measured_on_daily_closes_before_today() -> None:
    calm, wild = [50.0 + day % 2 for day in range(30)], [30.0 + 40 * (day % 2) for day in range(30)]
    decided = 29 * DAY_S + DAY_S // 2 + 5
    inputs = history(1, calm, enter(decided)), history(2, wild, enter(decided))
    found = run(*inputs, config=config(max_volatility=0.5)).risk_events.to_pylist()
    assert [(row["market_key"], row["reason"]) for row in found] == [(key(2), "volatility")]
    jumped = history(3, [*calm[:29], 90.0], enter(decided))
    assert events(run(jumped, config=config(max_price_jump=5.0))) == [("denied", "price_jump")]
    assert events(run(history(1, calm, enter(decided)), config=config(max_price_jump=5.0))) == []


@pytest.mark.parametrize(
    ("other", "outcome", "trimmed"),
    [
        (walk(1), 0, True),
        (walk(1), 1, False),
        ([100 - p for p in walk(1)], 0, False),
        ([100 - p for p in walk(1)], 1, True),
        (walk(2), 0, False),
    ],
    ids=["same", "hedge", "mirror", "same-as-mirror", "other"],
)
def test_outcomes_that_move_together_share_a_cap(other: list[float], outcome: int, trimmed: bool) -> None:
    day = 69 * DAY_S + DAY_S // 2
    limits = config(group_cap=Decimal("0.15"), max_correlation=0.7)
    first = history(1, walk(1), enter(day + 5))
    result = run(first, history(2, other, enter(day + 60, outcome)), config=limits)
    assert events(result) == ([("trimmed", "group_cap")] if trimmed else [])


def test_the_other_outcome_of_the_same_market_is_no_relation() -> None:
    day = 69 * DAY_S + DAY_S // 2
    limits = config(group_cap=Decimal("0.25"), max_correlation=0.0)
    assert events(run(history(1, walk(1), enter(day + 5), enter(day + 9, 1)), config=limits)) == []


def test_a_held_market_that_no_longer_trades_is_still_compared() -> None:
    day = 69 * DAY_S + DAY_S // 2
    limits = config(group_cap=Decimal("0.15"), max_correlation=0.7)
    points = [(d * DAY_S + DAY_S // 2, p) for d, p in enumerate(walk(1))]
    closing = resolved(day + 30, day + 900, key=key(1))
    first = given(mids(points, key(1)), [enter(day + 5)], closing, market(key(1)))
    result = run(first, history(2, walk(1), enter(day + 60)), config=limits)
    assert events(result) == [("trimmed", "group_cap")]


# ---------------------------------------------------------------------- states


def falling(number: int, *signals: Signal) -> MarketInput:
    """Worth 50 cents, then 20, then 45."""
    return quoted(key(number), [(0, 50, 50), (100, 20, 21), (200, 45, 46)], *signals)


def test_a_drawdown_stops_entries_lets_exits_pass_and_is_latched() -> None:
    first = falling(1, enter(5), leave(150))
    inputs = [first, *(quoted(key(n), FLAT, enter(t)) for n, t in ((2, 90), (3, 120), (4, 250)))]
    result = run(*inputs, config=config(drawdown=Decimal("0.05")))
    # 200 contracts fall from 50 to 20 cents: 60 of 1,000 dollars
    assert events(result) == [
        ("tripped", "drawdown"),
        ("denied", "reducing"),
        ("denied", "reducing"),
    ]
    assert [row["market_key"] for row in result.rejections.to_pylist()] == [key(3), key(4)]
    trip = next(t for t in result.trips.to_pylist() if t["market_key"] == key(1))
    assert trip["ended_by"] == "signal"


def test_a_cooldown_resumes_with_the_equity_of_that_moment_as_peak() -> None:
    inputs = [falling(1, enter(5)), *(quoted(key(n), FLAT, enter(t)) for n, t in ((2, 120), (3, 220)))]
    result = run(*inputs, config=config(drawdown=Decimal("0.05"), cooldown=100 * 10**9))
    assert events(result) == [("tripped", "drawdown"), ("denied", "reducing"), ("resumed", "drawdown")]


def test_a_daily_loss_ends_with_its_day_and_is_measured_from_the_end_of_the_day_before() -> None:
    start = (DAY - at(0) % DAY) // 10**9  # seconds to the next midnight UTC
    path = [(0, 50, 50), (start - 60, 45, 46), (start + 3_600, 41, 42), (start + DAY_S, 41, 42)]
    held = quoted(key(1), path, enter(5))
    probes = [
        quoted(key(n), [(0, 50, 50)], enter(t))
        for n, t in ((2, start - 30), (3, start + 3_700), (4, start + DAY_S + 60))
    ]
    # 200 contracts: 990 at the end of the first day, 982 in the second: 0.8 %; 1.8 % from the first equity
    assert events(run(held, *probes, config=config(daily_loss=Decimal("0.009")))) == [
        ("tripped", "daily_loss"),
        ("denied", "reducing"),
        ("resumed", "daily_loss"),
    ]
    found = run(held, *probes, config=config(daily_loss=Decimal("0.008"))).risk_events.to_pylist()
    tripped = [row for row in found if row["kind"] == "tripped"]
    assert [row["value"] for row in tripped] == [10_000, 8_080]
    assert [row["market_key"] for row in found if row["kind"] == "denied"] == [key(2), key(3)]


def test_equity_is_looked_at_no_more_often_than_asked() -> None:
    inputs = [falling(1, enter(5)), quoted(key(2), FLAT, enter(120)), quoted(key(3), FLAT, enter(250))]
    assert ("tripped", "drawdown") in events(run(*inputs, config=config(drawdown=Decimal("0.05"))))
    seldom = config(drawdown=Decimal("0.05"), revalue_every=DAY)
    assert events(run(*inputs, config=seldom)) == []


def test_losing_trips_in_a_row_stop_entries() -> None:
    losers = [
        quoted(key(n), [(0, 49, 50)], enter(5 + n), resolution=resolved(20, 30 + n, (0, MICRO), key(n)))
        for n in (1, 2)
    ]
    result = run(*losers, quoted(key(3), FLAT, enter(50)), config=config(losing_streak=2))
    assert events(result) == [("tripped", "losing_streak"), ("denied", "reducing")]


def test_a_fill_far_from_what_was_expected_stops_entries() -> None:
    slipped = quoted(key(1), [(0, 49, 50), (6, 54, 55)], enter(5))
    result = run(slipped, quoted(key(2), FLAT, enter(50)), config=config(max_slippage_bps=900))
    assert events(result) == [("tripped", "slippage"), ("denied", "reducing")]
    assert result.risk_events.to_pylist()[0]["value"] == 1_000 * MICRO


def test_when_halted_not_even_an_exit_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    signals = enter(5, target_price=600_000), leave(90)
    inputs = [quoted(key(1), [(0, 49, 50), (30, 60, 61)], *signals), quoted(key(2), FLAT, enter(50))]
    filled = Desk.bought

    def stop(desk: Desk, *told: Any) -> None:
        filled(desk, *told)
        desk.manager.stop(told[-1], "the books do not agree")

    monkeypatch.setattr(Desk, "bought", stop)
    result = run(*inputs)
    assert reasons(result) == ["risk_denied"] * 3
    assert events(result) == [("tripped", "stopped"), *[("denied", "halted")] * 3]
    assert result.trips.to_pylist()[0]["ended_by"] == "open"


# ---------------------------------------------------------------------- invariants


def test_the_order_in_which_markets_are_given_changes_no_event() -> None:
    inputs = [falling(1, enter(5)), *(quoted(key(n), FLAT, enter(100 + n)) for n in (2, 3))]
    limits = config(gross_cap=Decimal("0.15"), drawdown=Decimal("0.06"), max_positions=2)
    results = [run(*order, config=limits) for order in permutations(inputs)]
    assert results[0].risk_events.num_rows > 2
    assert all(result.risk_events.equals(results[0].risk_events) for result in results)
    assert all(result.trips.equals(results[0].trips) for result in results)


def test_limits_far_away_change_no_number() -> None:
    inputs = [
        falling(1, enter(5), leave(150)),
        quoted(key(2), [(0, 49, 50)], enter(20), resolution=resolved(60, 80, key=key(2))),
    ]
    far = config(
        drawdown=Decimal("0.9"),
        daily_loss=Decimal("0.9"),
        gross_cap=Decimal(1),
        max_positions=50,
        max_data_age=DAY,
        losing_streak=50,
        participation=Decimal(1),
    )
    for scenario in Scenario:
        plain, limited = (
            simulate(inputs, chosen, scenario, strategy="test", run_id="r1") for chosen in (config(), far)
        )
        assert limited.risk_events.num_rows == 0
        for part in ("orders", "fills", "rejections", "trips", "equity"):
            assert getattr(plain, part).equals(getattr(limited, part))
