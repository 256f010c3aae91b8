"""The risk manager: every code from a table, the order of its steps, and what must always hold."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.engine.risk import (
    EDGES,
    LATCHES,
    Approved,
    Closes,
    Code,
    Denied,
    Dimension,
    Effect,
    EquityWatch,
    EventKind,
    ExposureError,
    Exposures,
    Latches,
    MarketSnapshot,
    OrderRequest,
    Resume,
    Returns,
    RiskEvent,
    RiskLimits,
    RiskManager,
    RiskState,
    Slot,
    Step,
    TransitionError,
    correlation,
    daily_closes,
    jump,
    volatility,
)
from pm_pipeline.engine.risk import manager as manager_module
from pm_pipeline.engine.sizing import Sizing, SizingMode
from pm_pipeline.errors import UsageError
from pm_pipeline.markets import MICRO
from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND, parse_time
from pm_pipeline_tests.engine.builders import data, doc_table, market, mids
from pm_pipeline_tests.engine.risk.risk_builders import (
    BANKROLL,
    account,
    entry,
    leave,
    manager,
    offers,
    shown,
    slot,
    state_of,
)

NOW = parse_time("2025-06-10T12:00:00Z")


def series(*prices: float) -> Closes:
    return Closes(np.arange(len(prices), dtype=np.int64), np.array(prices))


WILD = series(*([0.3, 0.7] * 11))
CALM = series(*([0.50, 0.51] * 11))


# ---------------------------------------------------------------------- the tables


def test_the_steps_run_in_the_documented_order() -> None:
    documented = [row["step"] for row in doc_table("risk.md", "Order of evaluation")]
    assert documented == [str(step) for step in Step]
    assert [step for step, _ in manager_module._STEPS] == list(Step)


def test_the_documented_codes_are_the_codes() -> None:
    rows = doc_table("risk.md", "Codes")
    assert [tuple(row.values()) for row in rows] == [
        (str(c), str(c.step), str(c.effect), str(c.unit), c.meaning) for c in Code
    ]


def test_the_documented_states_and_latches_are_those_of_the_code() -> None:
    states = {
        row["from"]: {to.strip() for to in row["to"].split(",")} for row in doc_table("risk.md", "States")
    }
    assert states == {str(state): {str(to) for to in after} for state, after in EDGES.items()}
    latches = {row["code"]: (row["state"], row["lets go"]) for row in doc_table("risk.md", "Latches")}
    assert latches == {str(c): (str(r.state), str(r.resume)) for c, r in LATCHES.items()}
    assert set(LATCHES) == {code for code in Code if code.effect is Effect.LATCH}


# ---------------------------------------------------------------------- one case for every code

Prepare = Callable[[RiskManager], Any]


def nothing(made: RiskManager) -> None:
    """No preparation."""


def loses(times: int) -> Prepare:
    def before(made: RiskManager) -> None:
        for _ in range(times):
            made.trip_ended(NOW, -1)

    return before


def holds(dollars: float, at: Any = None) -> Prepare:
    return lambda made: made.exposures.bought(at or slot(), round(dollars * MICRO))


class Case:
    """What leads to a code: limits, what happened before, and what is asked; and the figures of the row."""

    def __init__(
        self,
        value: int | None,
        limit: int | None,
        *,
        before: Prepare = nothing,
        ask: OrderRequest | None = None,
        of: Any = None,
        seen: MarketSnapshot | None = None,
        sizing: Sizing | None = None,
        max_stake: str = "1",
        stake: int | None = None,
        **limits: Any,
    ) -> None:
        self.figures = value, limit
        self.before, self.ask, self.of = before, ask or entry(), of or account()
        self.seen, self.sizing, self.max_stake = seen or shown(), sizing, max_stake
        self.limits, self.stake = limits, stake


KELLY = Sizing(mode=SizingMode.KELLY)
PEER = slot("kalshi:PEER")

CASES: dict[Code, Case] = {
    Code.KILL_SWITCH: Case(None, None, of=account(kill_switch=True)),
    Code.STALE_DATA: Case(
        61 * MICRO, 60 * MICRO, max_data_age=MINUTE, seen=shown(quoted_at=NOW - 61 * SECOND)
    ),
    Code.CROSSED_BOOK: Case(400_000, 400_000, refuse_crossed=True, seen=shown(bid=400_000)),
    Code.PRICE_JUMP: Case(
        int(jump(CALM.prices, 0.9, 20, Returns.LOGIT) * MICRO),  # type: ignore[operator]
        5 * MICRO,
        max_price_jump=5.0,
        seen=shown(closes=CALM, price=0.9),
    ),
    Code.HALTED: Case(None, None, before=lambda made: made.stop(NOW, "the venue reports another position")),
    Code.REDUCING: Case(None, None, losing_streak=2, before=loses(2)),
    Code.STOPPED: Case(None, None, before=lambda made: made.stop(NOW, "by hand")),
    Code.LOSING_STREAK: Case(3 * MICRO, 3 * MICRO, losing_streak=3, before=loses(3)),
    Code.SLIPPAGE: Case(
        250 * MICRO, 200 * MICRO, max_slippage_bps=200,
        before=lambda made: made.entry_filled(NOW, 400_000, 410_000),
    ),
    Code.DAILY_LOSS: Case(30_000, 30_000, daily_loss=Decimal("0.03"), of=account(9_700)),
    Code.DRAWDOWN: Case(150_000, 150_000, drawdown=Decimal("0.15"), of=account(8_500)),
    Code.NOT_TRADING: Case(None, None, seen=shown(trading=False)),
    Code.TOO_CLOSE_TO_CLOSE: Case(
        3_599 * MICRO, 3_600 * MICRO, min_time_to_close=HOUR, seen=shown(scheduled_close=NOW + HOUR - SECOND)
    ),
    Code.VOLATILITY: Case(
        int(volatility(WILD.prices, 20, Returns.LOGIT) * MICRO),  # type: ignore[operator]
        500_000,
        max_volatility=0.5,
        seen=shown(closes=WILD),
    ),
    Code.SHORT_HISTORY: Case(
        5 * MICRO, 21 * MICRO, max_volatility=0.5, seen=shown(closes=series(*[0.5] * 5))
    ),
    Code.MAX_POSITIONS: Case(MICRO, MICRO, max_positions=1, before=holds(1, slot("kalshi:B"))),
    Code.NO_BELIEF: Case(None, None, sizing=KELLY, ask=entry(None)),
    Code.NO_OFFER: Case(None, None, sizing=KELLY, ask=entry(None, p=0.5), seen=shown(offers=())),
    Code.NO_EDGE: Case(None, None, sizing=KELLY, ask=entry(None, p=0.4)),
    Code.MAX_STAKE: Case(600 * MICRO, 500 * MICRO, max_stake="0.05", ask=entry(600), stake=500 * MICRO),
    Code.LEAST_STAKE: Case(100 * MICRO, 200 * MICRO, sizing=Sizing(least=Decimal("0.02"))),
    Code.POSITION_CAP: Case(
        1_000 * MICRO, 950 * MICRO, position_cap=Decimal("0.095"), before=holds(900), stake=50 * MICRO
    ),
    Code.MARKET_CAP: Case(
        1_000 * MICRO, 950 * MICRO, market_cap=Decimal("0.095"), before=holds(900, slot(outcome=1)),
        stake=50 * MICRO,
    ),
    Code.GROUP_CAP: Case(
        1_000 * MICRO, 950 * MICRO, group_cap=Decimal("0.095"), ask=entry(at=slot(group="g")),
        before=holds(900, slot("kalshi:B", group="g")), stake=50 * MICRO,
    ),
    Code.STRATEGY_CAP: Case(
        1_000 * MICRO, 950 * MICRO, strategy_cap=Decimal("0.095"), before=holds(900, slot("kalshi:B")),
        stake=50 * MICRO,
    ),
    Code.VENUE_CAP: Case(
        1_000 * MICRO, 950 * MICRO, venue_cap=Decimal("0.095"),
        before=holds(900, slot("kalshi:B", strategy="other")), stake=50 * MICRO,
    ),
    Code.GROSS_CAP: Case(
        1_000 * MICRO, 950 * MICRO, gross_cap=Decimal("0.095"), before=holds(900, slot("polymarket:1")),
        stake=50 * MICRO,
    ),
    Code.INSUFFICIENT_CASH: Case(100 * MICRO, 99 * MICRO, of=account(available=99 * MICRO)),
    Code.PARTICIPATION: Case(
        250 * MICRO, 25 * MICRO, participation=Decimal("0.25"), depth_ticks=2, stake=10 * MICRO,
        seen=shown(offers=offers((40, 60), (42, 40), (43, 900)), tick=10_000),
        ask=entry(0.4 * 60 + 0.42 * 40 + 0.43 * 150),
    ),
    Code.VOLUME_SHARE: Case(
        250 * MICRO, 100 * MICRO, volume_share=Decimal("0.1"), seen=shown(traded_lately=1_000 * MICRO),
        stake=40 * MICRO,
    ),
    Code.BELOW_MIN_SIZE: Case(
        2_500_000, 5 * MICRO, gross_cap=Decimal("0.0001"), seen=shown(min_size=5 * MICRO)
    ),
    Code.BELOW_LOT: Case(0, MICRO, gross_cap=Decimal("0.0001"), seen=shown(lot=5 * MICRO)),
}  # fmt: skip


def decided(case: Case) -> tuple[Any, list[RiskEvent], RiskManager]:
    made, events = manager(case.sizing, case.max_stake, **case.limits)
    case.before(made)
    return made.decide(case.ask, case.of, case.seen, NOW), events, made


def test_every_code_has_its_case() -> None:
    assert set(CASES) == set(Code)


@pytest.mark.parametrize("code", list(Code))
def test_each_code_is_a_row_with_its_figures(code: Code) -> None:
    case = CASES[code]
    found, events, made = decided(case)
    kinds = {Effect.DENY: EventKind.DENIED, Effect.TRIM: EventKind.TRIMMED, Effect.LATCH: EventKind.TRIPPED}
    [row] = [e for e in events if e.code is code and e.kind is kinds[code.effect]]
    assert (row.value, row.limit) == case.figures
    assert row.ts == NOW
    if code.effect is Effect.TRIM:
        assert isinstance(found, Approved)
        assert found.stake == case.stake
    else:
        assert isinstance(found, Denied)
        last = events[-1]
        assert (last.kind, last.code, last.request) == (EventKind.DENIED, found.code, case.ask)
        assert found.rule is found.code.step
    if code.effect is Effect.LATCH:
        assert (row.before, row.after) == (RiskState.ACTIVE, LATCHES[code].state)
        assert state_of(made) == LATCHES[code].state


@pytest.mark.parametrize("code", list(Code))
def test_an_exit_passes_except_when_halted(code: Code) -> None:
    case = CASES[code]
    made, events = manager(case.sizing, case.max_stake, **case.limits)
    case.before(made)
    found = made.decide(leave(), case.of, case.seen, NOW)
    halted = made.state is RiskState.HALTED
    assert halted is (code in {Code.KILL_SWITCH, Code.STOPPED, Code.HALTED})
    assert isinstance(found, Denied if halted else Approved)
    assert any(event.kind is EventKind.DENIED for event in events) is halted


ALWAYS = {Code.KILL_SWITCH, Code.NOT_TRADING, Code.INSUFFICIENT_CASH, Code.HALTED, Code.STOPPED}
"""What refuses without any limit."""


@pytest.mark.parametrize("code", [c for c in Code if c not in ALWAYS and CASES[c].sizing is None])
def test_without_its_limit_the_same_order_passes(code: Code) -> None:
    """So each case fails for the reason it names and no other."""
    case = CASES[code]
    made, events = manager()
    case.before(made)
    assert isinstance(made.decide(case.ask, case.of, case.seen, NOW), Approved)
    assert not events


World = dict[str, dict[str, Any]]

CURES: list[tuple[Code, World]] = [
    (Code.KILL_SWITCH, {"account": {"kill_switch": False}}),
    (Code.STALE_DATA, {"seen": {"quoted_at": NOW}}),
    (Code.REDUCING, {"limits": {"losing_streak": None}}),
    (Code.DAILY_LOSS, {"limits": {"daily_loss": None}}),
    (Code.DRAWDOWN, {"limits": {"drawdown": None}}),
    (Code.NOT_TRADING, {"seen": {"trading": True}}),
    (Code.MAX_POSITIONS, {"limits": {"max_positions": None}}),
    (Code.NO_BELIEF, {"ask": {"p": 0.5}}),
    (Code.GROSS_CAP, {"limits": {"gross_cap": Decimal("0.02")}}),
    (Code.INSUFFICIENT_CASH, {"account": {"available": 9_000 * MICRO}}),
    (Code.VOLUME_SHARE, {"seen": {"traded_lately": 12 * MICRO}}),
    (Code.BELOW_MIN_SIZE, {"seen": {"min_size": MICRO}}),
    (Code.BELOW_LOT, {"seen": {"lot": MICRO}}),
]
"""Everything is wrong at once; what refuses then, and its cure, after which the next step refuses."""


def test_when_everything_is_wrong_the_steps_speak_in_their_order() -> None:
    world: World = {
        "limits": {
            "max_data_age": MINUTE, "losing_streak": 1, "daily_loss": Decimal("0.03"),
            "drawdown": Decimal("0.03"), "max_positions": 1, "gross_cap": Decimal("0.001"),
            "volume_share": Decimal("0.1"),
        },
        "account": {"kill_switch": True, "available": 0},
        "seen": {"trading": False, "min_size": 5 * MICRO, "lot": 5 * MICRO},
        "ask": {"p": None},
    }  # fmt: skip
    spoke = []
    for _, cure in [*CURES, (None, {})]:
        made, _ = manager(KELLY, **world["limits"])
        made.trip_ended(NOW, -1)
        made.exposures.bought(slot("kalshi:B"), 100 * MICRO)
        of = account(9_000, **world["account"])
        found = made.decide(entry(None, **world["ask"]), of, shown(**world["seen"]), NOW)
        spoke.append(found.code if isinstance(found, Denied) else None)
        for part, changes in cure.items():
            world[part] = {**world[part], **changes}
    assert spoke == [*(code for code, _ in CURES), None]
    steps = [list(Step).index(code.step) for code, _ in CURES]
    assert steps == sorted(steps)
    assert len(set(steps)) == len(Step) - 1  # every step but the one at which exits pass


# ---------------------------------------------------------------------- limits that are not known


@pytest.mark.parametrize(
    ("limits", "seen", "code"),
    [
        ({"max_data_age": MINUTE}, shown(), Code.STALE_DATA),
        ({"min_time_to_close": HOUR}, shown(), Code.TOO_CLOSE_TO_CLOSE),
        ({"max_volatility": 1.0}, shown(), Code.SHORT_HISTORY),
        ({"volume_share": Decimal("0.1")}, shown(), Code.VOLUME_SHARE),
        ({"participation": Decimal("0.1")}, shown(offers=()), Code.NO_OFFER),
    ],
)
def test_a_limit_that_cannot_be_measured_refuses(limits: Any, seen: MarketSnapshot, code: Code) -> None:
    made, _ = manager(**limits)
    found = made.decide(entry(), account(), seen, NOW)
    assert isinstance(found, Denied)
    assert found.code is code


def test_a_jump_that_cannot_be_measured_is_no_alarm() -> None:
    made, _ = manager(max_price_jump=1.0)
    flat = series(*[0.5] * 30)
    for seen in (shown(), shown(closes=flat, price=0.9), shown(closes=series(0.5), price=0.9)):
        assert isinstance(made.decide(entry(), account(), seen, NOW), Approved)


def test_a_full_cap_refuses_and_an_empty_book_is_left_to_the_venue() -> None:
    made, _ = manager(gross_cap=Decimal("0.01"))
    made.exposures.bought(slot(), 100 * MICRO)
    found = made.decide(entry(), account(), shown(), NOW)
    assert isinstance(found, Denied)
    assert (found.code, found.value, found.limit) == (Code.GROSS_CAP, 200 * MICRO, 100 * MICRO)
    bare, _ = manager()
    assert bare.decide(entry(), account(), shown(offers=()), NOW) == Approved(100 * MICRO)


def test_an_approval_says_what_the_stake_buys_of_what_is_known() -> None:
    made, _ = manager()
    seen = shown(offers=offers((40, 100), (50, 1_000)))
    assert made.decide(entry(90), account(), seen, NOW) == Approved(90 * MICRO, 200 * MICRO, 450_000)


def test_a_kelly_entry_counts_what_is_held_and_its_fee() -> None:
    sizing = Sizing(mode=SizingMode.KELLY, kelly_share=Decimal(1))
    made, _ = manager(sizing)
    plain = made.decide(entry(None, p=0.5), account(1_000), shown(), NOW)
    assert isinstance(plain, Approved)
    assert plain.stake == 166_666_666
    held = shown(held_value=80 * MICRO, held_if_won=200 * MICRO)
    less = made.decide(entry(None, p=0.5), account(980), held, NOW)  # cash 900, 200 YES marked at 0.40
    assert isinstance(less, Approved)
    assert less.stake == 83_333_333  # golden: 208.33 contracts at 0.40
    cents = shown(fee=lambda levels: sum(level.size for level in levels) * 168 // 10_000)
    dear = made.decide(entry(None, p=0.5), account(10_000), cents, NOW)
    assert isinstance(dear, Approved)
    assert dear.stake == pytest.approx(1_426_611_796, abs=2)  # golden: .14266117969821673


def test_correlated_outcomes_count_into_the_group_once_per_market() -> None:
    made, _ = manager(group_cap=Decimal("0.01"), max_correlation=0.7)
    made.exposures.bought(PEER, 60 * MICRO)
    made.exposures.bought(slot("kalshi:OWN", group="g"), 20 * MICRO)
    peers = [PEER, slot("kalshi:PEER", 1), slot("kalshi:OWN", group="g")]
    found = made.decide(entry(at=slot(group="g")), account(), shown(related=peers), NOW)
    assert isinstance(found, Approved)
    assert found.stake == 20 * MICRO


# ---------------------------------------------------------------------- states


def test_a_cooldown_lets_go_and_rebases_the_peak() -> None:
    made, events = manager(drawdown=Decimal("0.10"), cooldown=DAY)
    made.observe(NOW, 9_000 * MICRO)
    assert state_of(made) == RiskState.REDUCING
    made.observe(NOW + DAY - 1, 8_500 * MICRO)
    assert state_of(made) == RiskState.REDUCING
    made.observe(NOW + DAY, 8_400 * MICRO)
    assert state_of(made) == RiskState.ACTIVE
    assert [e.kind for e in events] == [EventKind.TRIPPED, EventKind.RESUMED]
    made.observe(NOW + DAY + 1, 7_560 * MICRO)  # a tenth below the new peak of 8,400
    assert state_of(made) == RiskState.REDUCING


def test_a_daily_loss_lets_go_at_midnight_of_its_zone() -> None:
    made, _ = manager(daily_loss=Decimal("0.03"), day_zone="America/New_York")
    start = parse_time("2025-06-10T12:00:00Z")
    made.observe(start, 10_000 * MICRO)
    made.observe(start + HOUR, 9_000 * MICRO)
    made.observe(start + 2 * HOUR, 11_000 * MICRO)
    assert state_of(made) == RiskState.REDUCING  # latched, whatever equity does
    midnight = parse_time("2025-06-11T04:00:00Z")
    assert made.day_end(start) == midnight
    made.observe(midnight - 1, 11_000 * MICRO)
    assert state_of(made) == RiskState.REDUCING
    made.observe(midnight, 11_000 * MICRO)
    assert state_of(made) == RiskState.ACTIVE


def test_a_bankroll_that_is_gone_has_nothing_left_to_lose() -> None:
    watch = EquityWatch(0)
    watch.note(NOW, -5)
    assert (watch.drawdown, watch.daily_loss) == (0, 0)


def test_a_day_of_a_changing_clock_is_as_long_as_it_is() -> None:
    watch = EquityWatch(1, "America/New_York")
    start = parse_time("2025-03-09T05:00:00Z")
    assert watch.day_end(start) - start == 23 * HOUR


def test_a_win_ends_a_losing_streak_and_a_reset_starts_the_count_anew() -> None:
    made, _ = manager(losing_streak=2)
    for profit in (-1, 0, -1, 5, -1):
        made.trip_ended(NOW, profit)
    assert state_of(made) == RiskState.ACTIVE
    made.trip_ended(NOW, -1)
    assert state_of(made) == RiskState.REDUCING
    made.reset(NOW)
    made.trip_ended(NOW, -1)
    assert state_of(made) == RiskState.ACTIVE


def test_slippage_within_the_limit_or_without_an_expectation_is_no_alarm() -> None:
    made, _ = manager(max_slippage_bps=200)
    made.entry_filled(NOW, 400_000, 408_000)
    made.entry_filled(NOW, 0, 900_000)
    assert state_of(made) == RiskState.ACTIVE


def test_a_halt_outlives_cooldown_and_day_and_only_a_reset_ends_it() -> None:
    made, events = manager(cooldown=HOUR, losing_streak=1)
    made.decide(entry(), account(kill_switch=True), shown(), NOW)
    made.trip_ended(NOW, -1)
    made.observe(NOW + 10 * DAY, BANKROLL)
    assert state_of(made) == RiskState.HALTED
    found = made.decide(leave(), account(), shown(), NOW + 10 * DAY)
    assert isinstance(found, Denied)
    assert found.code is Code.HALTED
    assert "kill_switch since" in found.detail
    made.reset(NOW + 11 * DAY)
    assert state_of(made) == RiskState.ACTIVE
    resumed = [e for e in events if e.kind is EventKind.RESUMED]
    assert [e.code for e in resumed] == [Code.LOSING_STREAK, Code.KILL_SWITCH]


def test_a_transition_that_no_rule_allows_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EDGES, RiskState.ACTIVE, frozenset())
    with pytest.raises(TransitionError, match="no rule allows"):
        Latches().trip(Code.DRAWDOWN, 0)


ACTION = st.one_of(
    st.tuples(st.just("equity"), st.integers(1, 20_000)),
    st.tuples(st.just("trip"), st.sampled_from([-1, 1])),
    st.tuples(st.just("fill"), st.integers(300_000, 600_000)),
    st.tuples(st.just("stop"), st.just(0)),
    st.tuples(st.just("reset"), st.just(0)),
    st.tuples(st.just("enter"), st.integers(1, 3_000)),
    st.tuples(st.just("exit"), st.integers(1, 3_000)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTION, max_size=40), st.integers(1, 40))
def test_states_move_only_along_their_edges_and_an_exit_passes_unless_halted(
    actions: list[tuple[str, int]], step_hours: int
) -> None:
    made, events = manager(
        drawdown=Decimal("0.2"),
        daily_loss=Decimal("0.05"),
        losing_streak=2,
        max_slippage_bps=500,
        gross_cap=Decimal("0.2"),
        position_cap=Decimal("0.1"),
        cooldown=30 * HOUR,
    )
    now, equity, before = NOW, 10_000, RiskState.ACTIVE
    for what, number in actions:
        now += step_hours * HOUR
        seen = len(events)
        match what:
            case "equity":
                equity = number
                made.observe(now, equity * MICRO)
            case "trip":
                made.trip_ended(now, number)
            case "fill":
                made.entry_filled(now, 400_000, number)
            case "stop":
                made.stop(now, "by hand")
            case "reset":
                made.reset(now)
            case "enter":
                asked = number * MICRO
                found = made.decide(entry(number), account(equity), shown(), now)
                if isinstance(found, Approved):
                    assert state_of(made) == RiskState.ACTIVE
                    assert 0 < found.stake <= asked
                    made.exposures.bought(slot(), found.stake)
                    for dimension, share in ((Dimension.GROSS, "0.2"), (Dimension.POSITION, "0.1")):
                        assert made.exposures.total(dimension, slot()) <= Decimal(share) * equity * MICRO
            case "exit":
                halted = made.state is RiskState.HALTED
                found = made.decide(leave(), account(equity), shown(), now)
                assert isinstance(found, Denied) is halted
        for event in events[seen:]:
            if event.kind in (EventKind.TRIPPED, EventKind.RESUMED):
                assert event.before is before
                assert event.after is event.before or event.after in EDGES[event.before]
                before = event.after
            if event.before is RiskState.HALTED and event.after is not RiskState.HALTED:
                assert what == "reset"
        assert state_of(made) == before


# ---------------------------------------------------------------------- exposures


def test_exposures_are_added_up_by_every_dimension() -> None:
    books = Exposures()
    books.bought(slot(group="g"), 10)
    books.bought(slot(outcome=1, group="g"), 5)
    books.reserve(slot("kalshi:B", group="g", strategy="other"), 3)
    books.bought(slot("polymarket:1"), 2)
    at = slot(group="g")
    totals = {dimension: books.total(dimension, at) for dimension in Dimension}
    assert totals == {
        Dimension.POSITION: 10,
        Dimension.MARKET: 15,
        Dimension.GROUP: 18,
        Dimension.STRATEGY: 17,
        Dimension.VENUE: 18,
        Dimension.GROSS: 20,
    }
    assert books.markets == 3
    assert slot().name(Dimension.GROUP) == (slot().market_key,)


def test_a_partial_sale_takes_its_share_of_the_cost_and_keeps_the_market() -> None:
    books = Exposures()
    books.bought(slot(), 10)
    books.sold(slot(), 1, 3)
    assert (books.total(Dimension.GROSS, slot()), books.markets) == (7, 1)
    books.sold(slot(), 2, 2)
    assert (books.total(Dimension.GROSS, slot()), books.markets) == (0, 0)


def test_more_cannot_leave_than_came() -> None:
    books = Exposures()
    with pytest.raises(ExposureError, match="cannot leave"):
        books.sold(slot(), 1, 1)
    with pytest.raises(ExposureError, match="would fall to -1"):
        books.release(slot(), 1)
    with pytest.raises(ExposureError, match="left more often"):
        books.release(slot(), 0)
    books.bought(slot(), 10)
    with pytest.raises(ExposureError, match="cannot leave"):
        books.sold(slot(), 2, 1)


MOVES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(1, 100), st.integers(1, 100)), max_size=60
)


@settings(max_examples=100, deadline=None)
@given(MOVES)
def test_the_running_totals_are_the_sums_over_all_positions(moves: list[tuple[int, int, int, int]]) -> None:
    books = Exposures()
    held: dict[Slot, int] = {}
    for number, outcome, cost, share in moves:
        at = slot(f"kalshi:{number}", outcome, group=f"g{number % 2}", strategy=f"s{number % 3}")
        if at in held and share > 50:
            books.sold(at, 100, 100)
            del held[at]
        else:
            books.bought(at, cost)
            held[at] = held.get(at, 0) + cost
    for at in held:
        for dimension in Dimension:
            same = [cost for s, cost in held.items() if s.name(dimension) == at.name(dimension)]
            assert books.total(dimension, at) == sum(same)
    assert books.markets == len({s.market_key for s in held})


# ---------------------------------------------------------------------- history


def test_daily_closes_are_the_last_mids_of_full_days() -> None:
    of = market()
    points: list[tuple[int, float | None]] = [
        (0, 40),
        (3_600, 41),
        (86_400, 50),
        (90_000, None),
        (200_000, 60),
    ]
    quotes = data(of, mids(points)).quotes(0)
    offset = int(quotes.ts[0]) // DAY * DAY
    found = daily_closes(quotes, int(quotes.ts[0]) + 3 * DAY)
    assert found.days.tolist() == sorted(set((quotes.ts[quotes.mid >= 0] // DAY).tolist()))
    assert found.prices[0] == pytest.approx(0.41)
    assert len(daily_closes(quotes, offset + DAY - 1).days) == 0  # the day is not over


def test_volatility_and_jump_are_measured_in_the_same_changes() -> None:
    prices = np.array([0.5, 0.6, 0.4, 0.55])
    logits = np.diff(np.log(prices / (1 - prices)))
    usual = float(np.std(logits, ddof=1))
    assert volatility(prices, 3, Returns.LOGIT) == pytest.approx(usual)
    assert volatility(prices, 4, Returns.LOGIT) is None
    move = np.log(0.7 / 0.3) - np.log(0.55 / 0.45)
    assert jump(prices, 0.7, 3, Returns.LOGIT) == pytest.approx(move / usual)
    assert volatility(prices, 3, Returns.SIMPLE) == pytest.approx(
        np.std(prices[1:] / prices[:-1] - 1, ddof=1)
    )
    assert volatility(np.array([0.0, 1.0, 0.0]), 2, Returns.LOGIT) is not None


def test_correlation_is_pearsons_over_common_days() -> None:
    random = np.random.default_rng(1)
    steps = random.normal(0, 0.2, 100)
    price = 1 / (1 + np.exp(-np.cumsum(steps)))
    a = Closes(np.arange(100), price)
    assert correlation(a, a, 60) == pytest.approx(1.0)
    assert correlation(a, Closes(a.days, 1 - price), 60) == pytest.approx(-1.0)
    other = 1 / (1 + np.exp(-np.cumsum(random.normal(0, 0.2, 100))))
    b = Closes(np.arange(20, 120), other)
    x = np.diff(np.log(price / (1 - price))[20:])
    y = np.diff(np.log(other / (1 - other))[:80])
    assert correlation(a, b, 60) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert correlation(a, b, 80) is None
    assert correlation(a, Closes(a.days, np.full(100, 0.5)), 60) is None


# ---------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    "wrong",
    [
        {"position_cap": Decimal(0)},
        {"drawdown": Decimal("1.5")},
        {"daily_loss": Decimal("0.0300001")},
        {"max_positions": 0},
        {"max_data_age": -1},
        {"max_correlation": 1.0, "group_cap": Decimal("0.1")},
        {"max_correlation": 0.7},
        {"volatility_window": 1},
        {"day_zone": "Mars/Olympus"},
    ],
    ids=lambda w: next(iter(w)),
)
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RiskLimits(**wrong)


def test_limits_say_what_they_need_to_see() -> None:
    off = RiskLimits()
    assert [off.needs_quotes, off.needs_closes, off.watches_equity, off.caps_set] == [False] * 3 + [()]
    assert RiskLimits(gross_cap=Decimal("0.5")).needs_quotes
    assert RiskLimits(max_data_age=0).needs_quotes
    assert RiskLimits(refuse_crossed=True).needs_quotes
    assert RiskLimits(max_volatility=0.1).needs_closes
    assert RiskLimits(daily_loss=Decimal("0.1")).watches_equity


def test_every_latch_resumes_in_a_declared_way() -> None:
    assert {rule.resume for rule in LATCHES.values()} == set(Resume)
