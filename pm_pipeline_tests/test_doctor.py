"""``bt doctor`` as a user runs it: what it prints, and with which exit status."""

import json

import pytest

from pm_pipeline.doctor import age
from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, write_coverage
from pm_pipeline_tests.workdir import Workdir


def covered(
    market: str, status: CoverageStatus, *, got_to: int | None, reason: str, read_at: int
) -> Coverage:
    return Coverage(
        table="market_data.prices",
        partition=(market,),
        source="market_data.prices",
        status=status,
        asked_from=None,
        asked_to=None,
        got_from=None if got_to is None else 0,
        got_to=got_to,
        rows=0 if got_to is None else 7,
        gaps=2,
        reason=reason,
        ingested_at=read_at,
    )


def test_the_doctor_prints_sources_what_is_retired_and_the_lake(empty: Workdir) -> None:
    found = empty.bt("doctor")
    assert found.exit_code == 1  # Kalshi's markets of the small world closed long ago: stale
    for words in ("goldsky subgraph", "frozen", "retired", "it holds nothing yet"):
        assert words in found.output


def test_the_doctor_says_the_newest_row_of_each_table_and_how_its_readings_ended(empty: Workdir) -> None:
    for number, (status, got_to, reason) in enumerate(
        [
            (CoverageStatus.COMPLETE, 5 * DAY, ""),
            (CoverageStatus.COMPLETE, 7 * DAY, ""),
            (CoverageStatus.FAILED, None, "HTTP 503"),
            (CoverageStatus.FAILED, None, "HTTP 500"),
        ]
    ):
        coverage = covered(
            f"polymarket:{number}", status, got_to=got_to, reason=reason, read_at=(10 + number) * DAY
        )
        write_coverage(empty.lake, coverage)
    found = empty.bt("doctor", "--json")
    assert found.exit_code == 1
    told = json.loads(found.stdout)
    assert {each["source"]: each["verdict"] for each in told["sources"]}["kalshi"] == "stale"
    assert told["world"] == "SANDBOX SMALL_WORLD"
    assert [
        (row["status"], row["partitions"], row["gaps"], row["newest"], row["reason"]) for row in told["lake"]
    ] == [("complete", 2, 4, "1970-01-08T00:00:00Z", ""), ("failed", 2, 4, None, "HTTP 500")]


@pytest.mark.parametrize(
    ("passed", "words"),
    [(40 * SECOND, "40 s"), (12 * MINUTE, "12 min"), (5 * HOUR, "5 h"), (3 * DAY, "3 d"), (-SECOND, "0 s")],
)
def test_an_age_is_told_in_a_unit_that_suits_it(passed: int, words: str) -> None:
    assert age(100 * DAY, 100 * DAY - passed) == words


def test_what_is_unknown_has_no_age() -> None:
    assert age(0, None) == ""
