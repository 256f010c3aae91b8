"""The tables of docs/fills.md, row by row."""

import pytest

from pm_pipeline.engine import ExecutionConfig, Scenario
from pm_pipeline.engine.kernel import REASONS, Code, Lane, QueueMode, lane_of
from pm_pipeline.markets.clock import SECOND
from pm_pipeline_tests.engine.builders import doc_table
from pm_pipeline_tests.engine.kernel.scripts import Script, fills, reports

MODES = tuple(QueueMode)
LANES = tuple(Lane(queue=mode) for mode in MODES)


@pytest.mark.parametrize("row", doc_table("fills.md", "Taking") + doc_table("fills.md", "Refusals"), ids=str)
def test_an_order_gets_what_the_page_says(row: dict[str, str]) -> None:
    session = Script(row["script"]).play()
    assert (fills(session), reports(session)) == (row["fills"], row["reports"])


@pytest.mark.parametrize("row", doc_table("fills.md", "Resting"), ids=str)
def test_a_resting_order_gets_what_the_page_says(row: dict[str, str]) -> None:
    session = Script(row["script"], SECOND // 10).play(LANES)
    for lane, mode in enumerate(MODES):
        assert fills(session, lane) == row[mode.name.lower()], mode
        assert reports(session, lane) == row["reports"], mode


def test_each_scenario_reads_a_queue_as_the_page_says() -> None:
    rows = {row["use"]: row["mode"] for row in doc_table("fills.md", "Queueing")}
    terms = [ExecutionConfig().under(scenario) for scenario in Scenario]
    lanes = {str(one.scenario): lane_of(one) for one in terms}
    assert {name: lane.queue.name.lower() for name, lane in lanes.items()} == rows
    assert [lanes[str(one.scenario)].latency.submit for one in terms] == [one.latency for one in terms]
    assert [lanes[str(one.scenario)].depth for one in terms] == [one.depth for one in terms]


def test_every_code_is_in_the_table_of_reasons() -> None:
    assert set(REASONS) == set(Code) - {Code.FILLED}
    assert len({reason.value for reason in REASONS.values()}) == len(REASONS)
    assert all(reason.meaning for reason in REASONS.values())
