"""One bankroll over thousands of markets: Kelly, caps, most open positions and a halt, beside
nautilus_trader.

The loop plays 10 million points, nautilus_trader a sub-sample of the markets, since it would take an hour for
all: what is compared is the processor time of a point, in one thread, of processes run one after the other. A
figure counts only if on that sub-sample the loop, ``simulate`` and nautilus_trader make the same fills at the
same prices, and the first two the same money. No side has latency, which is what nautilus_trader does by
default.

nautilus_trader is in the environment of ``benchmarks/replay.py``, named by ``PM_BENCH_PEERS``.
"""

import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import points_market as world

MARKETS, POINTS, SAMPLE = 5_000, 2_000, 20


def ours(path: str, out: str) -> None:
    """The worker."""
    from benchmarks.points_ours import RULE, SHARED
    from pm_pipeline.engine import Scenario
    from pm_pipeline.engine.points import Points, play

    points = Points.read(Path(path))
    play(points.part(0, 1), RULE, SHARED, Scenario.BASE)  # loads the machine code
    times = [world.timed(lambda: play(points, RULE, SHARED, Scenario.BASE)) for _ in range(3)]
    fills = play(points, RULE, SHARED, Scenario.BASE).fills
    columns = [fills[name] for name in ("market", "at", "buys", "price", "size")]
    np.savez(out, fills=np.array(columns, np.int64).T)
    world.answer(median(times), median(times), len(fills))


def _simulated(made: world.World) -> bool:
    """Whether ``simulate`` makes the same of the sub-sample: fills, fees, cash at the end."""
    from benchmarks.points_ours import RULE, SHARED, inputs_of, points_of
    from pm_pipeline.engine import Scenario, simulate
    from pm_pipeline.engine.points import play
    from pm_pipeline.markets.clock import to_nanos

    result = play(points_of(made, True, world.HALF), RULE, SHARED, Scenario.BASE)
    inputs = inputs_of(made, result.signals())
    expected = simulate(inputs, SHARED, Scenario.BASE, strategy="z", run_id="r")
    rows = sorted(
        (row["market_key"], to_nanos(row["ts"]), row["price"], row["size"], abs(row["cash"]), row["fee"])
        for row in expected.fills.to_pylist()
    )
    fields = ("price", "size", "cash", "fee")
    found = sorted(
        (result.keys[row["market"]], int(row["at"]) // 1000 * 1000, *(int(row[name]) for name in fields))
        for row in result.fills
    )
    cash = expected.equity.column("cash").to_pylist()[-1]
    return found == rows and cash == int(result.curve["cash"][-1])


def main(markets: int = MARKETS, points: int = POINTS, sample: int = SAMPLE, rounds: int = 5) -> None:
    from benchmarks.points_ours import points_of

    peer = os.environ.get("PM_BENCH_PEERS")
    with tempfile.TemporaryDirectory() as folder:
        files = {name: str(Path(folder) / name) for name in ("all", "part", "part.npz", "ours", "peer", "x")}
        made = world.make(markets, points)
        points_of(made, True, world.HALF).write(Path(files["all"]))
        few = world.World(made.mids[:sample], made.pays[:sample])
        points_of(few, True, world.HALF).write(Path(files["part"]))
        world.save(few, Path(files["part.npz"]))
        del made
        worker = [sys.executable, "-m", "benchmarks.portfolio"]
        commands = {"portfolio": [*worker, files["all"], files["x"]]}
        if peer:
            commands["nautilus_trader"] = [
                *(peer, "-m", "benchmarks.portfolio_peers", files["part.npz"], files["peer"])
            ]
        else:
            print("nautilus_trader is left out: see the head of benchmarks/replay.py for how to install it")
        world.ask([*worker, files["part"], files["ours"]])  # compiles, once for this machine
        found = world.rounds(commands, rounds)
        equal = _simulated(few)
        if peer:
            with np.load(files["ours"] + ".npz") as a, np.load(files["peer"] + ".npz") as b:
                equal = equal and np.array_equal(_sorted(a["fills"]), _sorted(b["fills"]))
    units = {"portfolio": markets * points, "nautilus_trader": sample * points}
    for name, answers in found.items():
        each = [answer.warm_s * 1e9 / units[name] for answer in answers]
        memory = median(answer.peak_mb for answer in answers)
        print(
            f"{name:<18}{median(each):>12,.1f} ns/point [{min(each):,.1f} .. {max(each):,.1f}]"
            f"{units[name]:>12,} points{answers[0].results:>9,} fills{memory:>7.0f} MB"
        )
    if peer:
        cpu = {n: median(a.warm_s for a in answers) / units[n] for n, answers in found.items()}
        print(f"portfolio against nautilus_trader: {cpu['nautilus_trader'] / cpu['portfolio']:,.0f}x")
    print(
        f"the same fills on {sample} markets, and the same money as simulate"
        if equal
        else "DIFFER: the figure does not count"
    )


def _sorted(fills: world.Ints) -> world.Ints:
    return fills[np.lexsort(fills.T)]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ours(*sys.argv[1:])
    else:
        main()
