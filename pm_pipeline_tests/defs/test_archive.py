"""The schedule that saves fine history, on the small world and a real instance."""

import logging
from itertools import pairwise
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline import definitions
from pm_pipeline.defs.market_data.archive import HISTORY, RESULTS, Followed, ranges
from pm_pipeline.defs.market_data.schedules import archive_history, daily_results, runs_due
from pm_pipeline.defs.partitions import MARKETS
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.markets.clock import DAY
from pm_pipeline.sources.ingest import ASKED_TO, PRICES, TRADES
from pm_pipeline.sources.ingest import RESOLUTIONS as ENDS
from pm_pipeline_tests.small_world import load_world
from pm_pipeline_tests.workdir import Workdir

NAME = MARKETS.name or ""


def tick(instance: dg.DagsterInstance, followed: Followed = HISTORY) -> Any:
    return runs_due(instance, Workspace(), logging.getLogger("test"), followed)


def recent() -> set[str]:
    """The markets of the small world that trade, or closed within a week."""
    now = load_world().now
    closes = {str(m.market.key): m.resolution.closed_at for m in load_world().markets.values()}
    return {key for key, closed in closes.items() if closed is None or closed > now - 7 * DAY}


def older(workdir: Workdir, *keys: str) -> None:
    """Store partitions as they were two hours ago."""
    for key in keys:
        for table in (PRICES, TRADES):
            info = workdir.lake.info(table, key)
            assert info is not None
            earlier = str(int(info.meta[ASKED_TO]) - 2 * 3600 * 10**9)
            workdir.lake.write(table, key, workdir.lake.read(table, key), meta={ASKED_TO: earlier})


def test_they_are_off_until_somebody_turns_them_on() -> None:
    for schedule in (archive_history, daily_results):
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


def test_ends_are_read_until_they_are_final(fetched: Workdir) -> None:
    closed = sorted(
        str(m.market.key) for m in load_world().markets.values() if m.resolution.closed_at is not None
    )
    with dg.DagsterInstance.get() as instance:
        assert isinstance(tick(instance, RESULTS), dg.SkipReason)
        for key in closed:
            assert fetched.lake.delete(ENDS, key)
        trading = {part[0] for part in fetched.lake.partitions(ENDS)}
        for request in tick(instance, RESULTS):
            result = definitions.resolve("ingest_results").execute_in_process(
                instance=instance, tags=request.tags
            )
            assert result.success
        assert {part[0] for part in fetched.lake.partitions(ENDS)} == trading | set(closed)
        assert isinstance(tick(instance, RESULTS), dg.SkipReason)


def test_what_is_stored_to_the_present_is_not_asked_for(fetched: Workdir) -> None:
    with dg.DagsterInstance.get() as instance:
        found = tick(instance)
    assert isinstance(found, dg.SkipReason)
    assert "nothing new can be had" in str(found.skip_message)


def test_markets_that_trade_or_closed_within_a_week_are_read_by_real_runs(fetched: Workdir) -> None:
    keys = {parts[0] for parts in fetched.lake.partitions(PRICES)}
    older(fetched, *keys)
    before = {key: fetched.lake.info(PRICES, key) for key in keys}
    with dg.DagsterInstance.get() as instance:
        requests = tick(instance)
        assert requests
        for request in requests:
            result = definitions.resolve("archive_history").execute_in_process(
                instance=instance, tags=request.tags
            )
            assert result.success
            names = {found.check_name for found in result.get_asset_check_evaluations()}
            assert "fine_history_is_saved" in names
        again = tick(instance)
    assert isinstance(again, dg.SkipReason)
    for key in recent():
        info, former = fetched.lake.info(PRICES, key), before[key]
        assert info is not None
        assert former is not None
        assert info.fingerprint == former.fingerprint
        assert int(info.meta[ASKED_TO]) > int(former.meta[ASKED_TO])


def test_markets_that_are_no_partitions_are_left_to_the_sensor(fetched: Workdir) -> None:
    older(fetched, *recent())
    with dg.DagsterInstance.get() as instance:
        for key in instance.get_dynamic_partitions(NAME):
            instance.delete_dynamic_partition(NAME, key)
        assert isinstance(tick(instance), dg.SkipReason)
        instance.add_dynamic_partitions(NAME, sorted(recent()))
        covered = [(request.tags, request.partition_key) for request in tick(instance)]
    assert covered
    assert all(key is None for _, key in covered)


def test_history_that_nobody_saves_is_warned_of(empty: Workdir, fetched: Workdir) -> None:
    """A week-old catalog without a single price."""
    for key in sorted(recent()):
        if key.startswith("polymarket") and fetched.lake.exists(PRICES, key):
            fetched.lake.delete(PRICES, key)
    result = definitions.resolve("archive_history")
    with dg.DagsterInstance.get() as instance:
        check = dg.AssetCheckKey(dg.AssetKey("prices"), "fine_history_is_saved")
        job = definitions.defs.resolve_implicit_global_asset_job_def()
        found = job.get_subset(asset_check_selection={check}, asset_selection=set()).execute_in_process(
            instance=instance
        )
    [evaluation] = found.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert evaluation.metadata["unsaved"].value not in (0, None)
    assert result.name == "archive_history"


@given(
    wanted=st.sets(st.integers(0, 60)),
    most=st.integers(1, 8),
)
def test_few_ranges_cover_all_that_is_wanted(wanted: set[int], most: int) -> None:
    ordered = [f"m{number:02}" for number in range(61)]
    keys = {f"m{number:02}" for number in wanted}
    found = ranges(ordered, keys, most)
    assert len(found) <= most
    covered = {key for first, last in found for key in ordered if first <= key <= last}
    assert keys <= covered
    assert all(first in keys and last in keys for first, last in found)
    assert all(before[1] < after[0] for before, after in pairwise(found))


def test_the_widest_gaps_are_left_out() -> None:
    ordered = [str(number) for number in range(10)]
    assert ranges(ordered, ["0", "2", "8"], 2) == [("0", "2"), ("8", "8")]
    assert ranges(ordered, [], 2) == []


def test_reading_markets_does_not_look_at_the_whole_universe(fetched: Workdir) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PM_UNIVERSE", str(fetched.data / "absent.yaml"))
        result = fetched.materialise("ingest_markets", next(iter(sorted(recent()))))
    assert result.success
