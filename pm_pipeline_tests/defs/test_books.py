"""Snapshots on a clock and the asset that reads a recording, on the small world."""

import asyncio
import json

import dagster as dg
import pytest

from pm_pipeline import definitions
from pm_pipeline.defs.catalog.assets import read_catalog, write_catalog
from pm_pipeline.defs.market_data.books import BOOK_SNAPSHOTS
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.markets.keys import Venue
from pm_pipeline.sources.book_log import BOOKS
from pm_pipeline.sources.polymarket.books.segments import Line, Rotation, SegmentWriter
from pm_pipeline.sources.sandbox.clob_ws import frames_of
from pm_pipeline.universe import Universe
from pm_pipeline.warehouse.coverage import read_coverage
from pm_pipeline_tests.small_world import load_world
from pm_pipeline_tests.workdir import Workdir


@pytest.fixture
def listed(empty: Workdir) -> Workdir:
    """An empty lake with the catalog of the small world."""
    workspace = Workspace()
    reading = asyncio.run(read_catalog(workspace, Universe.everything()))
    write_catalog(workspace, ["2026-06-30"], reading)
    return empty


def test_a_snapshot_of_every_book_that_trades_is_added(listed: Workdir) -> None:
    for _ in range(2):  # the sandbox stands still: the same book again adds nothing
        assert definitions.resolve("book_snapshots").execute_in_process().success
    trading = [m for m in Workspace().catalog.markets().values() if m.traded_until is None]
    stored = {parts[0] for parts in listed.lake.partitions(BOOKS)}
    assert stored == {str(market.key) for market in trading}
    for key in stored:
        rows = listed.lake.read(BOOKS, key)
        assert rows["kind"].to_pylist().count("reset") == 1
        [coverage] = read_coverage(listed.lake, BOOKS, key)
        assert (coverage.rows, coverage.source) == (rows.num_rows, "snapshots")


def test_snapshots_are_off_until_somebody_turns_them_on() -> None:
    assert BOOK_SNAPSHOTS.default_status is dg.DefaultScheduleStatus.STOPPED


def test_the_asset_reads_a_recording_on(listed: Workdir) -> None:
    [market] = [m for m in load_world().of_venue(Venue.POLYMARKET) if "stay open" in m.market.question]
    token = str(market.market.instruments[0].token_id)
    token_frames = [frame for _, _, frame in frames_of(load_world().by_token[token], token)][:50]
    root = listed.settings.frames_dir

    async def write(texts: list[str]) -> None:
        writer = SegmentWriter(root, Rotation())
        await writer.put(Line(1, 9, "open", tokens=[token, "404"]))
        for text in texts:
            await writer.put(Line(2, 9, text=text))
        await writer.flush()
        writer.close()

    asyncio.run(write([json.dumps(frame) for frame in token_frames[:30]]))
    result = definitions.resolve("read_recording").execute_in_process()
    [done] = result.asset_materializations_for_node("recorded_books")
    told = {name: value.value for name, value in done.metadata.items()}
    assert (told["frames"], told["markets"], told["tokens_without_a_market"]) == (30, 1, 1)
    key = str(market.market.key)
    assert listed.lake.read(BOOKS, key).num_rows == told["dagster/row_count"]
    again = definitions.resolve("read_recording").execute_in_process()
    [done] = again.asset_materializations_for_node("recorded_books")
    assert done.metadata["frames"].value == 0
    anew = {"ops": {"recorded_books": {"config": {"reading": "anew"}}}}
    result = definitions.resolve("read_recording").execute_in_process(run_config=anew)
    [done] = result.asset_materializations_for_node("recorded_books")
    assert done.metadata["frames"].value == 30
    [check] = result.get_asset_check_evaluations()
    assert check.passed
