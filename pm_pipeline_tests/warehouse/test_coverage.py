from dataclasses import replace
from pathlib import Path

import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.warehouse import Coverage, CoverageStatus, read_coverage, write_coverage
from pm_pipeline_tests.warehouse.builders import KEY, T0, lake_at

RECORD = Coverage(
    table="market_data.prices",
    partition=(KEY,),
    source="clob",
    status=CoverageStatus.COMPLETE,
    asked_from=T0,
    asked_to=T0 + 10**12,
    got_from=T0,
    got_to=None,
    rows=3,
    gaps=0,
    reason="",
    ingested_at=T0 + 10**12,
)


def test_coverage_is_read_back_a_record_per_source(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    other = replace(
        RECORD, source="archive", gaps=2, asked_from=None, status=CoverageStatus.EMPTY, reason="no rows"
    )
    write_coverage(lake, [RECORD, other])
    assert read_coverage(lake, RECORD.table, KEY) == [other, RECORD]
    assert (RECORD.complete, other.complete, replace(RECORD, gaps=1).complete) == (True, False, False)


def test_a_later_record_replaces_the_earlier_one(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    write_coverage(lake, RECORD)
    write_coverage(lake, replace(RECORD, rows=4))
    assert [record.rows for record in read_coverage(lake, RECORD.table, (KEY,))] == [4]
    assert read_coverage(lake, RECORD.table, "polymarket:2") == []


@pytest.mark.parametrize("partition", [("a/b", "c"), ("100%", "%2F"), ("a", "b/c"), ("..",)])
def test_any_partition_can_be_covered(tmp_path: Path, partition: tuple[str, ...]) -> None:
    lake = lake_at(tmp_path)
    record = replace(RECORD, table="backtest.signals", partition=partition)
    write_coverage(lake, record)
    assert read_coverage(lake, "backtest.signals", partition) == [record]


@pytest.mark.parametrize("records", [[], [RECORD, replace(RECORD, partition=("polymarket:2",))]])
def test_records_of_several_partitions_are_refused(tmp_path: Path, records: list[Coverage]) -> None:
    with pytest.raises(UsageError, match=f"not for {len(records)}"):
        write_coverage(lake_at(tmp_path), records)
