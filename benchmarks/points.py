"""Thousands of markets of quotes, z-score entries, stops and targets, from Parquet to the profit of each
market.

Every round runs each engine in a process of its own, one after the other: ``fresh`` is the processor time of
that process up to its first result, ``warm`` that of a further run. One thread; medians over the rounds. A
figure counts only if every market had the same number of trades and the same profit, up to the venue's
rounding of fees.

vectorbt needs an environment of its own, named by ``PM_BENCH_VECTORBT``:

    python3 -m venv vbt && vbt/bin/pip install vectorbt==1.2.0 pyarrow
    PM_BENCH_VECTORBT=vbt/bin/python make bench ARGS=points
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import points_market as world

MARKETS, POINTS = 5_000, 2_000
FEE_STEP = 1e-5


def ours(path: str, out: str) -> None:
    """The worker: read, play, sum up."""
    from benchmarks.points_ours import ALONE, RULE
    from pm_pipeline.engine import Scenario
    from pm_pipeline.engine.points import Points, play

    def run() -> dict[str, Any]:
        result = play(Points.read(Path(path)), RULE, ALONE, Scenario.BASE, bankroll="each")
        trades = np.bincount(result.trades["market"], minlength=len(result.keys))
        return {"trades": trades, "pnl": result.market_pnl() / 1e6}

    found = run()
    fresh = time.process_time()
    times = [world.timed(run) for _ in range(3)]
    np.savez(out, **found)
    world.answer(median(times), fresh, int(found["trades"].sum()))


def main(markets: int = MARKETS, points: int = POINTS, rounds: int = 5) -> None:
    from benchmarks.points_ours import points_of

    peer = os.environ.get("PM_BENCH_VECTORBT")
    with tempfile.TemporaryDirectory() as folder:
        files = {
            name: str(Path(folder) / name) for name in ("ours.parquet", "peer.parquet", "ours", "vectorbt")
        }
        made = world.make(markets, points)
        points_of(made).write(Path(files["ours.parquet"]))
        table = pa.table({"mid": made.mids.ravel()})
        pq.write_table(table.replace_schema_metadata({b"pays": made.pays.tobytes()}), files["peer.parquet"])
        del made, table
        commands = {
            "points": [sys.executable, "-m", "benchmarks.points", files["ours.parquet"], files["ours"]]
        }
        if peer:
            commands["vectorbt"] = [
                *(peer, "-m", "benchmarks.points_peers", "points"),
                *(files["peer.parquet"], files["vectorbt"]),
            ]
        else:
            print("vectorbt is left out: see the head of benchmarks/points.py for how to install it")
        world.ask(commands["points"])  # compiles, once for this machine
        found = world.rounds(commands, rounds)
        says = {name: _agreement(files["ours"], files[name]) for name in commands if name == "vectorbt"}
    world.show(found, markets * points, says)


def _agreement(ours_path: str, peer_path: str) -> str:
    with np.load(ours_path + ".npz") as a, np.load(peer_path + ".npz") as b:
        off = np.abs(a["pnl"] - b["pnl"])
        # each fill of a peer costs the exact fee, the venue's is floored; a payout of nothing stands as 1e-9
        allowed = (a["trades"] * 2 + 1) * (FEE_STEP + 1e-6)
        if (a["trades"] == b["trades"]).all() and (off <= allowed).all():
            return "the same trades in every market, the same profit up to the rounding of fees"
        return f"DIFFER: the figure does not count ({int((a['trades'] != b['trades']).sum())} markets)"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ours(*sys.argv[1:])
    else:
        main()
