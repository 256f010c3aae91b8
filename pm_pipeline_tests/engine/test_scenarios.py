from fractions import Fraction

import pytest

from pm_pipeline.engine import SCENARIOS, TRUTHFUL_LATENCY, ExecutionConfig, Scenario
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import FOREVER, SECOND
from pm_pipeline_tests.engine.builders import doc_table

MILLISECOND = 10**6


def test_the_scenarios_are_those_of_the_page() -> None:
    rows = doc_table("engine.md", "Scenarios")
    assert [row["scenario"] for row in rows] == [str(s) for s in Scenario]
    for row in rows:
        found = SCENARIOS[Scenario(row["scenario"])]
        limit = row["latency at most"]
        at_most = int(limit.removesuffix(" ms")) * MILLISECOND if limit else FOREVER
        assert (found.latency, found.latency_at_most) == (Fraction(row["latency"]), at_most)
        assert (found.half_spread, found.depth) == (Fraction(row["half-spread"]), Fraction(row["depth"]))
        assert found.quotes == row["quote"]


@pytest.mark.parametrize(
    ("latency", "scenario", "expected", "stamp"),
    [
        (SECOND, Scenario.PESSIMISTIC, 5 * SECOND, ""),
        (SECOND, Scenario.BASE, SECOND, ""),
        (SECOND, Scenario.OPTIMISTIC, TRUTHFUL_LATENCY, ""),
        (100 * MILLISECOND, Scenario.OPTIMISTIC, 100 * MILLISECOND, "OPTIMISTIC"),
        (100 * MILLISECOND, Scenario.BASE, 100 * MILLISECOND, "OPTIMISTIC"),
        (TRUTHFUL_LATENCY, Scenario.BASE, TRUTHFUL_LATENCY, ""),
    ],
)
def test_a_latency_below_the_floor_stamps_the_run(
    latency: int, scenario: Scenario, expected: int, stamp: str
) -> None:
    terms = ExecutionConfig(latency=latency).under(scenario)
    assert (terms.latency, terms.stamp) == (expected, stamp)


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency": -1},
        {"half_spread": -1},
        {"depth_usd": 0},
        {"lot": 0},
        {"volume_share": Fraction(0)},
        {"volume_share": Fraction(11, 10)},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ExecutionConfig(**wrong)  # type: ignore[arg-type]
