from typing import Any

import pytest

from pm_pipeline.engine.venue.exits import EndedBy, first_exit
from pm_pipeline_tests.engine.builders import at, bbo, cents, data, doc_table, enter, market, tape

PATH = [(0, 50, 52), (60, 55, 57), (120, 49, 51), (180, None, 60), (240, 40, 42), (300, 70, 72)]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, None),
        ({"stop_price": cents(49)}, (120, EndedBy.STOP)),
        ({"stop_price": cents(48)}, (240, EndedBy.STOP)),
        ({"stop_price": cents(10)}, None),
        ({"target_price": cents(55)}, (60, EndedBy.TARGET)),
        ({"target_price": cents(60)}, (300, EndedBy.TARGET)),
        ({"trailing": cents(6)}, (120, EndedBy.TRAILING)),
        ({"trailing": cents(7)}, (240, EndedBy.TRAILING)),
        ({"trailing": cents(6), "stop_price": cents(49)}, (120, EndedBy.STOP)),
        ({"trailing": cents(6), "target_price": cents(49)}, (60, EndedBy.TARGET)),
        ({"exit_at": at(100)}, (100, EndedBy.TIME)),
        ({"exit_at": at(100), "target_price": cents(55)}, (60, EndedBy.TARGET)),
        ({"exit_at": at(60), "target_price": cents(55)}, (60, EndedBy.TARGET)),
        ({"exit_at": at(59), "target_price": cents(55)}, (59, EndedBy.TIME)),
    ],
    ids=str,
)
def test_the_first_rule_that_is_met_ends_the_position(
    rules: dict[str, Any], expected: tuple[int, EndedBy] | None
) -> None:
    found = first_exit(tape(data(market(), bbo(PATH))).outcome(0), at(1), enter(0, **rules))
    assert (None if found is None else (found.at, found.rule)) == (
        None if expected is None else (at(expected[0]), expected[1])
    )


def test_the_quote_that_is_in_force_at_the_entry_meets_no_rule_but_starts_the_peak() -> None:
    path = tape(data(market(), bbo([(0, 50, 52), (60, 44, 46)]))).outcome(0)
    assert first_exit(path, at(0), enter(-1, stop_price=cents(43))) is None
    trailing = first_exit(path, at(0), enter(-1, trailing=cents(6)))
    assert trailing is not None
    assert (trailing.at, trailing.quote_ts) == (at(60), at(60))


def test_a_time_that_passed_while_the_entry_waited_ends_it_at_once() -> None:
    found = first_exit(tape(data(market(), bbo(PATH))).outcome(0), at(100), enter(0, exit_at=at(50)))
    assert found is not None
    assert (found.at, found.rule) == (at(100), EndedBy.TIME)


def test_the_end_of_the_data_ends_no_position() -> None:
    assert (
        first_exit(tape(data(market(), bbo(PATH))).outcome(0), at(400), enter(0, stop_price=cents(99)))
        is None
    )


def test_the_rules_are_those_of_the_page_in_their_order() -> None:
    page = [row["rule"] for row in doc_table("engine.md", "Exit rules")]
    assert page == [
        str(r) for r in EndedBy if r in {EndedBy.STOP, EndedBy.TRAILING, EndedBy.TARGET, EndedBy.TIME}
    ]
