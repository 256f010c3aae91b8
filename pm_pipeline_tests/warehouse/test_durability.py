"""What a kill, a full disk and many processes at once do to the lake: nothing."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from pm_pipeline.warehouse import Lake, StorageError, connect, open_warehouse, publish
from pm_pipeline.warehouse.files import atomic_write
from pm_pipeline_tests.warehouse.builders import KEY, lake_at, prices

PRICES = "market_data.prices"

_SLOW_WRITER = """
import sys, time
from pathlib import Path
from pm_pipeline.warehouse import Lake
from pm_pipeline.warehouse.partition_file import ROW_GROUP
from pm_pipeline_tests.warehouse.builders import KEY, prices

rows = prices([{"ts": 1, "mid": 7}] * 1000).combine_chunks().to_batches()[0]

def slowly():
    for n in range(1_000_000):
        yield rows
        if n * 1000 > ROW_GROUP + n_groups * ROW_GROUP:
            print("writing", flush=True)
            time.sleep(60)

n_groups = int(sys.argv[2])
Lake(Path(sys.argv[1])).write("market_data.prices", KEY, slowly())
"""


def _child(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_writer_killed_in_the_middle_leaves_exactly_the_old_partition(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    old = prices([{"ts": 1, "mid": 500_000}])
    before = lake.write(PRICES, KEY, old)
    for groups_written in (0, 1, 2):
        with _child(_SLOW_WRITER, lake.root, groups_written) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "writing\n"
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        assert lake.info(PRICES, KEY) == before
        assert lake.read(PRICES, KEY).equals(old)
        assert lake.partitions(PRICES) == [(KEY,)]
        with connect(lake, [PRICES]) as connection:
            assert connection.execute("SELECT count(*) FROM market_data.prices").fetchall() == [(1,)]
    assert len(lake.sweep(-1)) == 3
    assert not list(lake.root.rglob(".tmp-*"))
    assert lake.read(PRICES, KEY).equals(old)


_BIG_WRITER = """
import sys
from pathlib import Path
from pm_pipeline.warehouse import Lake, StorageError
from pm_pipeline_tests.warehouse.builders import KEY, prices

rows = prices([{"ts": n, "mid": n * 7919 % 1_000_003, "source": str(n * n)} for n in range(20_000)])
try:
    Lake(Path(sys.argv[1])).write("market_data.prices", KEY, rows)
except StorageError as error:
    print(error)
else:
    print("written")
"""


def test_a_full_disk_leaves_the_old_rows_and_says_what_to_do(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root; the file size limit is tested below")
    try:
        lake = Lake(disk / "lake")
        old = prices([{"ts": 1, "mid": 500_000}])
        lake.write(PRICES, KEY, old)
        with _child(_BIG_WRITER, lake.root) as child:
            said, errors = child.communicate()
        assert "the disk is full; free some space and run again" in said
        assert errors == ""
        assert lake.read(PRICES, KEY).equals(old)
        assert not list(lake.root.rglob(".tmp-*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_size_limit_leaves_the_old_rows_and_says_what_to_do(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    old = prices([{"ts": 1, "mid": 500_000}])
    lake.write(PRICES, KEY, old)
    child = subprocess.run(
        [sys.executable, "-c", _BIG_WRITER, str(lake.root)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert "the file size limit of this process is reached" in child.stdout
    assert child.stderr == ""
    assert lake.read(PRICES, KEY).equals(old)
    assert not list(lake.root.rglob(".tmp-*"))


def test_a_folder_that_is_a_file_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="check the disk and run again"),
        atomic_write(tmp_path / "file" / "below"),
    ):
        pass


_WRITER = """
import sys
from pathlib import Path
from pm_pipeline.warehouse import Lake
from pm_pipeline_tests.warehouse.builders import prices, runs

lake, number = Lake(Path(sys.argv[1])), int(sys.argv[2])
for turn in range(1, 21):
    for n in range(3):
        key = f"polymarket:{number}-{n}"
        lake.write("market_data.prices", key, prices([{"ts": t, "mid": turn} for t in range(turn)], key))
        lake.write("backtest.runs", f"{number}-{n}", runs(f"{number}-{n}", turn))
print("done")
"""

_PUBLISHER = """
import sys
from pathlib import Path
from pm_pipeline.warehouse import Lake, publish

for _ in range(4):
    publish(Lake(Path(sys.argv[1])), Path(sys.argv[2]))
print("done")
"""


def test_many_writers_a_publisher_and_a_reader_do_not_disturb_each_other(tmp_path: Path) -> None:
    lake, path = lake_at(tmp_path), tmp_path / "warehouse.duckdb"
    lake.write(PRICES, "polymarket:0-0", prices([{"ts": 0, "mid": 1}], "polymarket:0-0"))
    publish(lake, path)
    children = [_child(_WRITER, lake.root, number) for number in range(4)]
    children.append(_child(_PUBLISHER, lake.root, path))
    reads = 0
    while any(child.poll() is None for child in children):
        for (key,) in lake.partitions(PRICES):
            mids = set(lake.read(PRICES, key, ["mid"]).column("mid").to_pylist())
            assert len(mids) == 1  # never a mixture of two turns
        with open_warehouse(path) as connection:
            try:
                torn = connection.execute(
                    "SELECT market_key FROM market_data.prices GROUP BY ALL "
                    "HAVING count(DISTINCT mid) > 1 OR count(*) != max(mid) * 1000000"
                ).fetchall()
            except duckdb.Error:  # a partition was replaced between its footer and its pages: ask again
                continue
        assert torn == []
        reads += 1
    for child in children:
        said, errors = child.communicate()
        assert (said, errors, child.returncode) == ("done\n", "", 0)
    assert reads > 0
    publish(lake, path)
    with open_warehouse(path) as connection:
        query = "SELECT count(DISTINCT market_key), count(*), min(mid), max(mid) FROM market_data.prices"
        [(markets, rows, low, high)] = connection.execute(query).fetchall()
        assert connection.execute("SELECT count(*), min(seed) FROM backtest.runs").fetchall() == [(240, 20)]
    assert (markets, rows) == (12, 240)
    assert (str(low), str(high)) == ("0.000020", "0.000020")
    assert not list(tmp_path.rglob(".tmp-*"))
