"""A million book events with a 3,000-contract order each 1,000: the kernel beside its peers.

All workers read the same events and run one after the other, round by round; what counts is the processor
time of the replay in one thread, the median over the rounds. A figure counts only if the orders got the same.

The peers need an environment of their own, named by ``PM_BENCH_PEERS``:

    python3.11 -m venv peers && peers/bin/pip install hftbacktest==2.4.4 nautilus_trader==1.221.0
    PM_BENCH_PEERS=peers/bin/python make bench ARGS=replay
"""

import json
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.replay_market import (
    CONTRACTS,
    EVERY,
    MAKERS,
    STEP_NS,
    Events,
    Result,
    answer,
    make,
    save,
    timed,
)
from pm_pipeline.engine.kernel import (
    Grid,
    Lane,
    Latency,
    NewOrder,
    QueueMode,
    Session,
    Stream,
    TimeInForce,
    VenueRules,
    warm,
)
from pm_pipeline.engine.kernel.orders import Records
from pm_pipeline.engine.kernel.stream import ON_COMPLETE, ON_RESET, Rows
from pm_pipeline.markets import MICRO, Side, TickRange

CENT = 10_000
T0 = 1_700_000_000_000_000_000
PEERS = ("hftbacktest takers", "hftbacktest full", "nautilus_trader")


def stream_of(events: Events) -> Stream:
    grid = Grid.of([(TickRange(CENT, MICRO - CENT, CENT),)])
    levels = len(grid)
    cell = 2 * (events.cents - 1) + events.side + 2 * levels * events.trade
    start = [4 * levels + ON_RESET, 4 * levels + ON_COMPLETE]
    ts = np.concatenate(([T0, T0], T0 + np.arange(len(cell)) * STEP_NS))
    size = np.concatenate(([0, 0], events.size * MICRO))
    return Stream.of_rows(grid, Rows(ts, ts, np.concatenate((start, cell)).astype(np.uint16), size))


def kernel(events: Events, lanes: tuple[Lane, ...], *, makers: bool) -> Result:
    warm()
    stream = stream_of(events)
    count = len(events.trade) // EVERY - 1
    at = T0 + np.arange(1, count + 1) * EVERY * STEP_NS + STEP_NS // 2
    orders = [NewOrder(side=(Side.BUY, Side.SELL)[n % 2], size=CONTRACTS * MICRO) for n in range(count)]
    times = []
    for _ in range(5):
        session = Session(stream, VenueRules(lot=MICRO), lanes)
        for side, price in zip((Side.BUY, Side.SELL), MAKERS, strict=True) if makers else ():
            resting = NewOrder(side=side, size=MICRO * MICRO, price=price * CENT, tif=TimeInForce.GTC)
            session.submit(resting, T0 + STEP_NS // 2)
        session.submit_all(orders, at)
        end = int(stream.ts[-1])
        times.append(timed(lambda: session.advance(end)))  # noqa: B023
    base = session.fills[(session.fills["lane"] == len(lanes) // 2) & (session.fills["maker"] == 0)]
    last = base[np.append(np.diff(base["match"]) != 0, True)]
    return Result(median(times), *_summed(session, base), *_summed(session, last))


def _summed(session: Session, fills: Records) -> tuple[int, int, int]:
    signs = np.where(session.orders[0, fills["order"]]["buys"], 1, -1)
    sizes, cents = fills["size"] // MICRO, fills["price"] // CENT
    return len(fills), int(sizes.sum()), int((signs * sizes * cents).sum())


LANES = (
    Lane(depth=Fraction(1, 2), queue=QueueMode.RISK_AVERSE, latency=Latency.constant(5 * 10**9)),
    Lane(queue=QueueMode.PROBABILISTIC),
    Lane(queue=QueueMode.PROPORTIONAL, latency=Latency.constant(750_000_000)),
)

WORKERS = {
    "kernel, takers": lambda events: kernel(events, (Lane(),), makers=False),
    "kernel, full": lambda events: kernel(events, (Lane(),), makers=True),
    "kernel, full, three scenarios": lambda events: kernel(events, LANES, makers=True),
}


def main(count: int = 1_000_000, rounds: int = 5) -> None:
    peers = os.environ.get("PM_BENCH_PEERS")
    commands = {name: [sys.executable, "-m", "benchmarks.replay", name] for name in WORKERS}
    if peers:
        commands |= {name: [peers, "-m", "benchmarks.replay_peers", name] for name in PEERS}
    else:
        print("the peers are left out: see the head of benchmarks/replay.py for how to install them")
    found: dict[str, list[Result]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.npz"
        save(make(count), path)
        for _ in range(rounds):
            for name, command in commands.items():
                done = subprocess.run([*command, str(path)], stdout=subprocess.PIPE, check=True)
                found[name].append(Result(**json.loads(done.stdout.splitlines()[-1])))
    _show(found, count)


def _show(found: dict[str, list[Result]], count: int) -> None:
    cpu = {name: median(result.cpu_s for result in results) for name, results in found.items()}
    expected = found["kernel, takers"][0]
    print(
        f"{'engine':<31}{'ns/event':>9}{'[min .. max]':>22}{'fills':>7}{'contracts':>11}{'cost $':>12}  fills"
    )
    for name, results in found.items():
        times = [result.cpu_s * 1e9 / count for result in results]
        spread = f"[{min(times):,.2f} .. {max(times):,.2f}]"
        first = results[0]
        print(
            f"{name:<31}{median(times):>9,.2f}{spread:>22}{first.fills:>7}{first.contracts:>11}"
            f"{first.cost_cents / 100:>12,.2f}  {_agreement(results, expected)}"
        )
    for peer in (name for name in PEERS if name in cpu):
        ratios = ", ".join(f"{name} {cpu[peer] / cpu[name]:,.0f}x" for name in WORKERS)
        print(f"faster than {peer}: {ratios}")


def _agreement(results: list[Result], expected: Result) -> str:
    if all(result[1:] == expected[1:] for result in results):
        return "equal"
    if all(result[4:] == expected[4:] for result in results):
        return "equal, but books the last level of each order only"
    return "DIFFER: the figure does not count"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        answer(WORKERS)
    else:
        main()
