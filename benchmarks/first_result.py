"""From the start of a process to the first fill in one market: the engine alone, without Dagster and pandas.

A process reads a market of 20,000 events from the lake, sends an order and prints what it got. First on a
machine that has never run the kernel, where it is compiled, then on one that has: the wall and processor time
of whole processes, and what of it is the import.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

EVENTS = 20_000
ROUNDS = 7

IMPORT = "import pm_pipeline.engine.kernel"
FIRST = """
import sys
from pathlib import Path
from pm_pipeline.engine.kernel import NewOrder, Session, StoredStream
from pm_pipeline.markets import Side, TickRange
from pm_pipeline.warehouse import Lake

eras = [(0, (TickRange(10_000, 990_000, 10_000),))]
session = Session(StoredStream.of(Lake(Path(sys.argv[1])), "kalshi:BENCH", eras))
session.submit(NewOrder(side=Side.BUY, size=3_000_000_000), 1_700_000_000_000_000_000 + 10**10)
session.advance()
heavy = [name for name in ("pandas", "scipy.stats", "dagster", "plotly") if name in sys.modules]
filled = int(session.orders[0, 0]["filled"]) // 10**6
print(f"{len(session.fills)} fills for {filled} contracts; imported: {heavy}")
"""


def main() -> None:
    # here, so that a process that only measures imports does not pay for them
    from benchmarks.replay_parquet import write_lake

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_lake(folder, EVENTS)
        environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "compiled")}
        wall, cpu, told = _run(FIRST, folder, environment)
        print(f"first run ever: {wall:.1f} s wall, {cpu:.1f} s of the processor. It says:")
        print("\n".join(f"    {line}" for line in told.replace(name, "...").splitlines()))
        for what, code in (("first result, kernel in the cache", FIRST), ("import alone", IMPORT)):
            times = [_run(code, folder, environment)[:2] for _ in range(ROUNDS)]
            walls, cpus = zip(*times, strict=True)
            print(
                f"{what:<35}{median(walls):>6.2f} s wall [{min(walls):.2f} .. {max(walls):.2f}]"
                f"{median(cpus):>6.2f} s of the processor [{min(cpus):.2f} .. {max(cpus):.2f}]"
            )


def _run(code: str, folder: Path, environment: dict[str, str]) -> tuple[float, float, str]:
    """Wall and processor seconds of a process, and what it printed."""
    before, started = os.times(), time.perf_counter()
    command = [sys.executable, "-c", code, str(folder / "lake")]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    wall, after = time.perf_counter() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu, done.stdout


if __name__ == "__main__":
    main()
