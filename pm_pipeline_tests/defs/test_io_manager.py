import weakref
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pm_pipeline.defs.io_manager import (
    PREFIX,
    TABLE,
    LakeIOManager,
    Partitions,
    PartitionsMissingError,
    with_meta,
)
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.warehouse.lake import MissingPartitionError
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.workdir import Workdir

KEYS = dg.StaticPartitionsDefinition(["m:a", "m:b", "m:c"])
METADATA = {TABLE: "backtest.metrics", PREFIX: "s"}


def metrics(market: str, count: int = 1) -> pa.Table:
    row = {
        "strategy": "s",
        "scenario": "base",
        "value": 1.5,
        "note": "",
        "run_id": "r",
        "market_key": market,
    }
    rows = [{**row, "metric": f"m{number}"} for number in range(count)]
    return pa.Table.from_pylist(rows, schema=table("backtest.metrics").arrow)


def rules() -> pa.Table:
    return pa.Table.from_pylist(
        [dict.fromkeys(("rule", "venue", "scope", "value", "source"), "x") | {"valid_from": 0}],
        schema=table("catalog.rules").arrow,
    )


def run(returned: Any, keys: tuple[str, ...], *more: dg.AssetsDefinition) -> dg.ExecuteInProcessResult:
    """Materialise one asset that returns ``returned`` (called, if it can be) over ``keys``."""

    @dg.asset(
        partitions_def=KEYS,
        io_manager_key="lake",
        metadata=METADATA,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def up() -> dg.Output[Any]:
        return dg.Output(returned() if callable(returned) else returned)

    return dg.materialize(
        [up, *more],
        resources={"lake": LakeIOManager(workspace=Workspace())},
        partition_key=keys[0] if len(keys) == 1 else None,
        tags={
            "dagster/asset_partition_range_start": keys[0],
            "dagster/asset_partition_range_end": keys[-1],
        }
        if len(keys) > 1
        else None,
    )


def reader(seen: list[Any]) -> dg.AssetsDefinition:
    @dg.asset(partitions_def=KEYS, backfill_policy=dg.BackfillPolicy.single_run())
    def down(up: Partitions) -> None:
        seen.append(up)

    return down


@pytest.mark.parametrize(
    ("returned", "keys"),
    [
        (metrics("m:a"), ("m:a",)),
        ({"m:a": metrics("m:a")}, ("m:a",)),
        (lambda: iter([("m:a", metrics("m:a"))]), ("m:a",)),
        ({key: metrics(key) for key in ("m:b", "m:a")}, ("m:a", "m:b")),
        (lambda: ((key, metrics(key, 2)) for key in ("m:a", "m:b", "m:c")), ("m:a", "m:b", "m:c")),
    ],
)
def test_whatever_is_returned_arrives_as_partitions(
    empty: Workdir, returned: Any, keys: tuple[str, ...]
) -> None:
    seen: list[Any] = []
    result = run(returned, keys, reader(seen))
    (arrived,) = seen
    assert type(arrived) is Partitions
    assert (list(arrived), len(arrived)) == (list(keys), len(keys))
    assert [set(arrived[key]["market_key"].to_pylist()) for key in keys] == [{key} for key in keys]
    (event,) = result.asset_materializations_for_node("up")[:1]
    assert event.metadata["partitions"].value == len(keys)
    assert event.metadata["dagster/row_count"].value == sum(len(arrived[key]) for key in keys)


def test_an_asset_without_partitions_is_one_partition(empty: Workdir) -> None:
    seen: list[Any] = []

    @dg.asset(io_manager_key="lake", metadata={TABLE: "catalog.rules"})
    def up() -> pa.Table:
        return rules()

    @dg.asset
    def down(up: Partitions) -> None:
        seen.append({key: rows.num_rows for key, rows in up.items()})

    dg.materialize([up, down], resources={"lake": LakeIOManager(workspace=Workspace())})
    assert seen == [{"all": 1}]
    assert empty.lake.partitions("catalog.rules") == [("all",)]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"m:a": metrics("m:a")}, "all but 1, first 'm:b'"),
        ({}, "all but 2, first 'm:a'"),
        (metrics("m:a"), "one table, and this run holds 2 partitions"),
        ({"m:a": metrics("m:a"), "m:c": metrics("m:c")}, "returned 'm:c', which this run does not hold"),
        (lambda: iter([("m:a", metrics("m:a"))] * 2), "returned 'm:a', twice"),
    ],
)
def test_missing_foreign_and_doubled_partitions_are_refused(
    empty: Workdir, returned: Any, message: str
) -> None:
    with pytest.raises(PartitionsMissingError, match=message):
        run(returned, ("m:a", "m:b"))


def test_notes_lie_in_the_footer(empty: Workdir) -> None:
    run(with_meta(metrics("m:a"), {"inputs": "abc"}), ("m:a",))
    info = empty.lake.info("backtest.metrics", ("s", "m:a"))
    assert info is not None
    assert info.meta == {"inputs": "abc"}


def test_an_iterator_is_drained_one_partition_at_a_time(empty: Workdir) -> None:
    alive: list[weakref.ref[pa.Table]] = []
    counts: list[int] = []

    def rows() -> Iterator[tuple[str, pa.Table]]:
        for key in ("m:a", "m:b", "m:c"):
            counts.append(sum(ref() is not None for ref in alive))
            part = metrics(key)
            alive.append(weakref.ref(part))
            yield key, part
            del part

    run(rows, ("m:a", "m:b", "m:c"))
    assert max(counts) <= 1


def test_a_partition_that_nobody_wrote_says_so_when_it_is_asked_for(empty: Workdir) -> None:
    partitions = Partitions(empty.lake, "backtest.metrics", {"m:a": ("s", "m:a")})
    with pytest.raises(MissingPartitionError, match="run `bt backtest`"):
        partitions["m:a"]
    with pytest.raises(KeyError):
        partitions["m:b"]
