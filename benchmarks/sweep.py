"""A thousand combinations of a rule's parameters on 200 markets of 2,000 points, beside vectorbt.

As in ``benchmarks/points.py`` (which says how to install vectorbt): processes of their own, one thread,
interleaved, medians. vectorbt goes through the combinations in parts, with its z-scores kept by window,
because all at once do not fit into memory. ``fresh`` is the time up to the end of the sweep here, and up to
its compilation for vectorbt.

A figure counts only if all but one trade in 100,000 are the same: a z-score that meets a threshold to the
last digit is a tie, which floats decide by their rounding. Ties are counted and shown.
"""

import os
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import numpy as np

from benchmarks import points_market as world

MARKETS, POINTS, PARTS = 200, 2_000, 20
TIES = 1e-5
FEE_STEP = 1e-5


def ours(path: str, out: str) -> None:
    """The worker."""
    from benchmarks.points_ours import ALONE
    from pm_pipeline.engine import Scenario
    from pm_pipeline.engine.points import Points, ZRule, sweep

    points = Points.read(Path(path))
    grid = [
        ZRule(
            window=row.window,
            entry=row.entry,
            exit=row.exit,
            stop=Decimal(str(row.stop)),
            target=Decimal(str(row.target)),
        )
        for row in world.grid()
    ]
    sweep(points.part(0, 1), grid[:1], ALONE, Scenario.BASE)  # loads the machine code
    cpu = world.timed(lambda: sweep(points, grid, ALONE, Scenario.BASE))
    fresh = time.process_time()
    rows = sweep(points, grid, ALONE, Scenario.BASE)
    trades, pnl = (rows.column(name).to_numpy() for name in ("trades", "pnl"))
    np.savez(out, trades=trades, pnl=pnl / 1e6)
    world.answer(cpu, fresh, int(trades.sum()))


def main(markets: int = MARKETS, points: int = POINTS, parts: int = PARTS, rounds: int = 5) -> None:
    from benchmarks.points_ours import points_of

    peer = os.environ.get("PM_BENCH_VECTORBT")
    with tempfile.TemporaryDirectory() as folder:
        files = {name: str(Path(folder) / name) for name in ("ours.parquet", "peer.npz", "ours", "vectorbt")}
        made = world.make(markets, points)
        points_of(made).write(Path(files["ours.parquet"]))
        world.save(made, Path(files["peer.npz"]))
        commands = {"sweep": [sys.executable, "-m", "benchmarks.sweep", files["ours.parquet"], files["ours"]]}
        if peer:
            commands["vectorbt"] = [
                *(peer, "-m", "benchmarks.points_peers", "sweep"),
                *(files["peer.npz"], files["vectorbt"], str(parts)),
            ]
        else:
            print("vectorbt is left out: see the head of benchmarks/points.py for how to install it")
        world.ask(commands["sweep"])  # compiles, once for this machine
        found = world.rounds(commands, rounds)
        says = {name: _agreement(files["ours"], files[name]) for name in commands if name == "vectorbt"}
    world.show(found, markets * points * len(world.grid()), says, "bar-combination")


def _agreement(ours_path: str, peer_path: str) -> str:
    with np.load(ours_path + ".npz") as a, np.load(peer_path + ".npz") as b:
        apart = np.abs(a["trades"] - b["trades"])
        off = np.abs(a["pnl"] - b["pnl"])
        close = off <= (a["trades"] * 2 + 1) * (FEE_STEP + 1e-6)
        ties = int(max(apart.sum(), (~close).sum()))
        if apart.sum() <= TIES * a["trades"].sum() and (~close).sum() <= max(
            apart.sum(), TIES * len(off) * 100
        ):
            return f"the same trades and profit ({ties} ties in {int(a['trades'].sum()):,} trades)"
        return f"DIFFER: the figure does not count ({int(apart.sum())} trades, {int((~close).sum())} profits)"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ours(*sys.argv[1:])
    else:
        main()
