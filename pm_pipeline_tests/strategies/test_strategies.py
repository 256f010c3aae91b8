from collections.abc import Sequence
from typing import Any

import pytest

from pm_pipeline.engine import Action, Signals
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.strategies import REGISTRY
from pm_pipeline.warehouse.asof import AsOfView, view_of
from pm_pipeline_tests.engine.builders import at, cents, data, market, mids

HOUR = 3600


def view(points: Sequence[tuple[float, float | None]], until: int | None = None, **listed: Any) -> AsOfView:
    """Points in hours and cents."""
    of = market(**{"opened_at": at(0), "scheduled_close": at(100 * HOUR), **listed})
    whole = view_of(data(of, mids([(round(hour * HOUR), mid) for hour, mid in points])))
    return whole if until is None else whole.as_of(at(until * HOUR))


def signals(name: str, seen: AsOfView, **values: Any) -> Signals:
    return REGISTRY.create(name, values).signals(seen)


def skip_reasons(found: Signals) -> list[str]:
    return [skip.reason for skip in found.skipped]


@pytest.mark.parametrize(
    ("mid", "outcomes", "bought"),
    [
        (85, "either", 0),
        (15, "either", 1),
        (80, "either", 0),
        (97, "either", 0),
        (20, "no", 1),
        (85, "no", None),
        (15, "yes", None),
        (79.9, "either", None),
        (97.1, "either", None),
        (50, "either", None),
    ],
)
def test_the_favourite_is_the_outcome_within_the_bounds(
    mid: float, outcomes: str, bought: int | None
) -> None:
    found = signals("favourite", view([(75, mid), (76.5, 1)]), outcomes=outcomes)
    if bought is None:
        assert (len(found), skip_reasons(found)) == (0, ["no_candidate"])
        return
    (signal,) = found
    assert (signal.outcome_index, signal.ts, signal.inputs_known_at) == (bought, at(76 * HOUR), at(75 * HOUR))
    assert signal.p_market == pytest.approx((mid if bought == 0 else 100 - mid) / 100)
    assert (signal.action, signal.limit_price, signal.exit_at) == (Action.ENTER, 970_000, None)


def test_of_two_favourites_the_dearer_is_bought() -> None:
    found = signals("favourite", view([(75, 60)]), min_price="0.3")
    assert found[0].outcome_index == 0


@pytest.mark.parametrize(
    ("points", "listed", "values", "reason"),
    [
        ([(75, 85)], {"scheduled_close": None}, {}, "no_scheduled_close"),
        ([(75, 85)], {"opened_at": at(80 * HOUR)}, {}, "not_open"),
        ([(73, 85)], {}, {}, "no_price"),
        ([(77, 85)], {}, {}, "no_price"),
        ([], {}, {}, "no_price"),
        ([(75, 85), (76, None)], {}, {"max_age_hours": 0.5}, "no_price"),
    ],
)
def test_the_favourite_says_why_it_passes(
    points: list[tuple[int, float | None]], listed: dict[str, Any], values: dict[str, Any], reason: str
) -> None:
    found = signals("favourite", view(points, **listed), **values)
    assert (len(found), skip_reasons(found)) == (0, [reason])


def test_the_favourite_is_silent_before_its_time() -> None:
    assert signals("favourite", view([(75, 85)], until=75)) == Signals()
    assert len(signals("favourite", view([(75, 85)], until=76))) == 1


SPIKE = [(hour, 50 + hour % 2) for hour in range(10)] + [(10, 70), (11, 65), (12, 50)]
FADE = {"bar_minutes": 60, "window": 6, "entry_z": 3, "exit_z": 1, "min_hours_to_close": 10}


def look(hour: float, every: float = 1.0) -> int:
    """The first look (a multiple of so many hours since 1970) at or after this hour of the market."""
    step = round(every * HOUR)
    return -(-(at(0) // SECOND + round(hour * HOUR)) // step) * step * SECOND


def test_a_spike_is_faded_and_left_when_it_has_come_back() -> None:
    found = signals("mean_reversion", view(SPIKE), **FADE)
    assert [(s.action, s.outcome_index, s.ts, s.tag) for s in found] == [
        (Action.ENTER, 1, look(10), "stretched"),
        (Action.EXIT, 1, look(12), "reverted"),
    ]
    assert found[0].exit_at == look(58)
    assert found[0].p_market == pytest.approx(0.3)


def test_a_plunge_is_bought() -> None:
    found = signals("mean_reversion", view([(hour, 100 - mid) for hour, mid in SPIKE]), **FADE)
    assert [(s.action, s.outcome_index) for s in found] == [(Action.ENTER, 0), (Action.EXIT, 0)]


@pytest.mark.parametrize(("move", "entries"), [("0.19", 1), ("0.20", 1), ("0.21", 0)])
def test_a_move_that_cannot_pay_for_its_costs_is_not_faded(move: str, entries: int) -> None:
    points = [(hour, 50 + hour % 2) for hour in range(9)] + [(9, 50), (10, 70)]
    assert len(signals("mean_reversion", view(points), **FADE, min_move=move)) == entries


def test_a_move_is_from_look_to_look_and_not_from_price_to_price() -> None:
    creeping = [*SPIKE[:10], *((9 + step / 20, 51 + step) for step in range(1, 20))]
    assert len(signals("mean_reversion", view(creeping), **FADE, min_move="0.02")) == 1
    assert len(signals("mean_reversion", view(creeping), **{**FADE, "bar_minutes": 3}, min_move="0.02")) == 0


def test_after_the_time_stop_there_is_nothing_left_to_leave() -> None:
    found = signals("mean_reversion", view(SPIKE), **FADE, max_hold_hours=1)
    assert [s.action for s in found] == [Action.ENTER]


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ({"scheduled_close": None}, "no_scheduled_close"),
        ({"scheduled_close": at(19 * HOUR)}, "too_close_to_close"),
    ],
)
def test_mean_reversion_keeps_away_from_the_close(listed: dict[str, Any], reason: str) -> None:
    found = signals("mean_reversion", view(SPIKE, **listed), **FADE)
    assert (len(found), skip_reasons(found)) == (0, [reason])


@pytest.mark.parametrize(("last", "outcome", "target"), [(60, 0, 75), (40, 1, 75), (51, None, None)])
def test_momentum_follows_the_move(last: int, outcome: int | None, target: int | None) -> None:
    found = signals("momentum", view([(0, 50), (3, 50), (6, last)]), threshold=0.3)
    if outcome is None:
        assert len(found) == 0
        return
    (signal,) = found
    assert (signal.outcome_index, signal.ts, signal.p_market) == (outcome, look(6, 0.25), 0.6)
    assert (signal.target_price, signal.trailing, signal.exit_at) == (
        cents(target),
        cents(5),
        look(30, 0.25),
    )


def test_momentum_waits_for_its_time_exit_before_it_enters_again() -> None:
    path = [(hour, min(50 + 3 * hour, 95)) for hour in range(16)]
    found = signals("momentum", view(path), threshold=0.3, max_hold_hours=5)
    assert [s.ts for s in found] == [look(6, 0.25), look(11, 0.25)]


def test_a_target_never_lies_above_a_dollar() -> None:
    found = signals("momentum", view([(0, 70), (6, 95)]), threshold=0.3)
    assert found[0].target_price == 1_000_000
