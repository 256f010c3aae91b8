import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pm_pipeline.engine.kernel import Grid, Stream, cache
from pm_pipeline.engine.kernel.grid import MAX_LEVELS, OFF_GRID
from pm_pipeline.engine.kernel.stream import ON_COMPLETE, ON_RESET, ON_TICKS, Rows, encode
from pm_pipeline.errors import UsageError
from pm_pipeline.markets import MICRO, TickRange
from pm_pipeline.sources.sandbox.plans import CENT as CENT_TICKS
from pm_pipeline.sources.sandbox.plans import MILL, TAPERED
from pm_pipeline.warehouse.arrays import LEVEL, RESET
from pm_pipeline_tests.engine.kernel.scripts import CENT, CENTS, book_log, trade_arrays


@pytest.mark.parametrize("ticks", [CENT_TICKS, MILL, TAPERED], ids=["cent", "mill", "tapered"])
def test_levels_and_prices_are_each_others_inverse(ticks: tuple[TickRange, ...]) -> None:
    grid = Grid.of([ticks])
    assert grid.levels(grid.prices).tolist() == list(range(len(grid)))
    assert np.all(np.diff(grid.prices) > 0)
    inside = [r for r in ticks for p in grid.prices if r.start <= p <= r.end and (p - r.start) % r.step == 0]
    assert len(inside) >= len(grid)
    assert grid.valid.tolist() == [[0 < p < MICRO for p in grid.prices.tolist()]]


def test_a_grid_is_the_union_of_its_eras_and_of_what_was_seen() -> None:
    grid = Grid.of([CENTS, (TickRange(5_000, 995_000, 5_000),)], [np.array([123_456])])
    assert grid.level(15_000) != OFF_GRID
    assert grid.level(123_457) == OFF_GRID
    cents, halves = grid.valid
    assert not cents[grid.level(15_000)]
    assert halves[grid.level(15_000)]
    assert not grid.valid[:, grid.level(123_456)].any()


def test_a_limit_between_two_levels_accepts_the_inner_ones() -> None:
    grid = Grid.of([CENTS])
    assert grid.prices[grid.within(475_000, buys=True)] == 470_000
    assert grid.prices[grid.within(475_000, buys=False)] == 480_000
    assert grid.within(1, buys=True) == -1
    assert grid.within(MICRO - 1, buys=False) == len(grid)


def test_a_grid_may_be_too_fine_or_empty() -> None:
    with pytest.raises(UsageError, match=f"1 to {MAX_LEVELS}"):
        Grid.of([(TickRange(0, MICRO, 10),)])
    with pytest.raises(UsageError, match="0 price levels"):
        Grid.of([()])


def test_a_snapshot_is_followed_by_a_mark_and_trades_come_first_at_their_moment() -> None:
    log = book_log(
        [
            (5, 1, RESET, -1, -1, -1),
            (5, 1, LEVEL, 0, 45 * CENT, MICRO),
            (7, 2, LEVEL, 0, 45 * CENT, 0),
        ]
    )
    trades = trade_arrays([(7, -1, 45 * CENT, MICRO), (5, 1, 48 * CENT, 2 * MICRO)])
    later = (TickRange(5 * CENT, 95 * CENT, 5 * CENT),)
    stream = Stream.of(log, [(0, CENTS), (7, later)], trades=trades)
    n = len(stream.grid)
    bid, ask = 2 * 44, 2 * 47 + 1
    told = [2 * n + ask, 4 * n + ON_RESET, bid, 4 * n + ON_COMPLETE, 4 * n + ON_TICKS, 2 * n + bid, bid]
    assert stream.cell.tolist() == told
    assert stream.ts.tolist() == [5, 5, 5, 5, 7, 7, 7]
    assert stream.size.tolist() == [2 * MICRO, 0, MICRO, 0, 1, MICRO, 0]
    assert stream.controls.tolist() == [1, 3, 4]
    assert len(stream) == 7


def test_a_stream_refuses_what_it_cannot_mean() -> None:
    grid, one = Grid.of([CENTS]), np.array([1], np.int64)
    two = np.array([2, 1], np.int64)
    with pytest.raises(UsageError, match="order of time"):
        Stream.of_rows(grid, Rows(two, two, np.array([1, 1], np.uint16), two))
    with pytest.raises(UsageError, match="outside the grid"):
        Stream.of_rows(grid, Rows(one, one, np.array([9_999], np.uint16), one))
    with pytest.raises(UsageError, match="negative size"):
        Stream.of_rows(grid, Rows(one, one, np.array([1], np.uint16), -one))
    with pytest.raises(UsageError, match="at least one era"):
        Stream.of(book_log([]), [])
    with pytest.raises(UsageError, match="two outcomes"):
        Stream.of(book_log([]), [(0, CENTS)], trades=trade_arrays([(1, 1, CENT, 1)], outcome=2))
    with pytest.raises(UsageError, match="impossible price"):
        Stream.of(book_log([]), [(0, CENTS)], trades=trade_arrays([(1, 1, 2 * MICRO, 1)]))
    with pytest.raises(UsageError, match="its grid has not"):
        encode(book_log([(1, 1, LEVEL, 0, 1, 1)]), grid)


def test_read_only_columns_are_copied() -> None:
    columns = [np.array([1], np.int64) for _ in range(3)]
    for column in columns:
        column.flags.writeable = False
    ts, known_at, size = columns
    stream = Stream.of_rows(Grid.of([CENTS]), Rows(ts, known_at, np.array([1], np.uint16), size))
    assert stream.ts.flags.writeable


def test_machine_code_goes_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache.cache_folder.cache_clear()
    try:
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
        assert cache.cache_folder().parent == tmp_path / "numba"
        cache.cache_folder.cache_clear()
        monkeypatch.delenv("NUMBA_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
        assert cache.cache_folder().parent == tmp_path / "home" / "pm_pipeline"
        cache.cache_folder.cache_clear()
        (tmp_path / "file").write_text("no folder can be made below a file")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert tmp_path not in cache.cache_folder().parents
    finally:
        cache.cache_folder.cache_clear()


ONE_FUNCTION = """
from pm_pipeline.engine.kernel.cache import compile_entry, entry, jit

@jit
def twice(x: int) -> int:
    return 2 * x

@entry
def four_times(x: int) -> int:
    return twice(twice(x))

compile_entry(four_times, print)
compile_entry(four_times, print)
print(four_times(3), [len(f.signatures) for f in (twice, four_times)])
"""


def test_the_first_run_says_that_it_compiles_and_the_second_is_silent(tmp_path: Path) -> None:
    script = tmp_path / "one_function.py"
    script.write_text(ONE_FUNCTION)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba"), "PYTHONPATH": str(Path.cwd())}
    told = [
        subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert told[0][0].startswith("compiling four_times for this machine, once")
    assert told[0][1:] == ["12 [1, 1]"]
    assert told[1] == ["12 [0, 1]"]


def test_another_type_of_argument_is_an_error_and_no_second_compilation() -> None:
    from pm_pipeline.engine.kernel import match, warm

    warm()
    with pytest.raises(TypeError):
        match.run(None, 1)  # type: ignore[arg-type]


def test_warming_up_twice_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    from pm_pipeline.engine.kernel import warm

    warm()
    with caplog.at_level(logging.WARNING):
        warm()
    assert not caplog.records
