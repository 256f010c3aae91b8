"""A market's book from disk, with a 3,000-contract order each 1,000 events: load and replay beside the peers.

The kernel reads the market's partitions of the lake, its peers their own files of the same events. Each
figure is of a process of its own: processor time in one thread from the closed file to the last event, and
the peak of its memory. The files are written before, in blocks. A figure counts only if the orders got the
same.

The peers need an environment of their own, see ``benchmarks/replay.py``:

    PM_BENCH_PEERS=peers/bin/python make bench ARGS=replay_parquet
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from benchmarks.replay_market import CONTRACTS, EVERY, STEP_NS
from benchmarks.replay_parquet_market import BLOCK, REPEATS, Report, answer, blocks, orders, report
from pm_pipeline.engine.kernel import NewOrder, Results, Session, StoredStream, VenueRules, warm
from pm_pipeline.engine.kernel.orders import Records
from pm_pipeline.markets import MICRO, Side, TickRange
from pm_pipeline.warehouse import Lake, table, time_array

CENT = 10_000
T0 = 1_700_000_000_000_000_000
KEY = "kalshi:BENCH"
ERAS = [(0, (TickRange(CENT, MICRO - CENT, CENT),))]
BOOK, TRADES = "market_data.book_events", "market_data.trades"

SIZES = (1_000_000, 10_000_000, 50_000_000)
PEER_SIZES = {
    "hftbacktest npz": SIZES[:2],
    "hftbacktest npz, compressed": SIZES[:2],
    "nautilus_trader catalog": SIZES[:1],
}
Sums: TypeAlias = tuple[int, int, int]
"""Fills, contracts, and what they cost in cents."""

ROUNDS = {1_000_000: 5, 10_000_000: 5, 50_000_000: 3}


def write_lake(folder: Path, count: int) -> None:
    lake = Lake(folder / "lake", durability="rename")
    lake.write(BOOK, KEY, _book(count))
    lake.write(TRADES, KEY, _trades(count))


def _book(count: int) -> Iterator[pa.RecordBatch]:
    seq = start = 0
    yield _rows(BOOK, [T0], {"seq": [0], "kind": ["reset"], "side": [None], "price": [None], "size": [None]})
    for events in blocks(count):
        level = np.flatnonzero(events.trade == 0)
        columns = {
            "seq": np.arange(seq + 1, seq + 1 + len(level)),
            "kind": _words(["level"], np.zeros(len(level), np.int8)),
            "side": _words(["bid", "ask"], events.side[level]),
            "price": events.cents[level] * CENT,
            "size": events.size[level] * MICRO,
        }
        yield _rows(BOOK, T0 + (start + level) * STEP_NS, columns)
        seq, start = seq + len(level), start + len(events.trade)


def _trades(count: int) -> Iterator[pa.RecordBatch]:
    start = 0
    for events in blocks(count):
        trade = np.flatnonzero(events.trade == 1)
        none = np.zeros(len(trade), np.int8)
        columns = {
            "outcome_index": none,
            "trade_id": pa.array(start + trade).cast(pa.string()),
            "ordinal": none,
            "price": events.cents[trade] * CENT,
            "size": events.size[trade] * MICRO,
            "side": _words(["sell", "buy"], events.side[trade]),
            "side_evidence": _words(["feed"], none),
            "wallet": pa.nulls(len(trade), pa.string()),
            "is_block": np.zeros(len(trade), np.bool_),
        }
        yield _rows(TRADES, T0 + (start + trade) * STEP_NS, columns)
        start += len(events.trade)


def _words(words: list[str], codes: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(words)).cast(pa.string())


def _rows(name: str, ts: object, columns: dict[str, object]) -> pa.RecordBatch:
    moments = time_array(np.asarray(ts, np.int64))
    shared = {
        "market_key": pa.array([KEY]).take(pa.array(np.zeros(len(moments), np.int8))),
        "ts": moments,
        "known_at": moments,
        "ingested_at": time_array(np.full(len(moments), T0)),
    }
    arrow = table(name).arrow
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column).cast(arrow.field(n).type)
        for n, column in ((n, (shared | columns)[n]) for n in arrow.names)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=arrow)


def kernel(folder: Path, count: int) -> Report:
    """Load and play; the orders got what the last repeat says."""
    lake = Lake(folder / "lake")
    warm()
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        booked, last = _played(lake, count)
        times.append(time.process_time() - started)
    return report(median(times), booked, last)


def _played(lake: Lake, count: int) -> tuple[Sums, Sums]:
    """The orders are sent block by block, as a strategy does that takes its results on the way."""
    session = Session(StoredStream.of(lake, KEY, ERAS), VenueRules(lot=MICRO))
    both = [NewOrder(side=side, size=CONTRACTS * MICRO) for side in (Side.BUY, Side.SELL)]
    takers = orders(count)
    booked = last = (0, 0, 0)
    for first in range(0, takers, BLOCK // EVERY):
        numbers = np.arange(first + 1, min(first + BLOCK // EVERY, takers) + 1)
        asked = both * (len(numbers) // 2 + 1)  # a block begins with a buyer
        at = T0 + numbers * EVERY * STEP_NS + STEP_NS // 2
        session.submit_all(asked[: len(numbers)], at)
        session.advance(int(at[-1]))
        results = session.take_results()
        ends = np.append(np.diff(results.fills["match"]) != 0, True)
        booked = _summed(booked, results, results.fills)
        last = _summed(last, results, results.fills[ends])
    session.advance(T0 + count * STEP_NS)
    return booked, last


def _summed(before: Sums, results: Results, fills: Records) -> Sums:
    signs = np.where(results.orders[0]["buys"][fills["order"] - results.first], 1, -1)
    sizes, cents = fills["size"] // MICRO, fills["price"] // CENT
    found = len(fills), int(sizes.sum()), int((signs * sizes * cents).sum())
    return before[0] + found[0], before[1] + found[1], before[2] + found[2]


OURS = "kernel from the lake"
WORKERS = {OURS: kernel}


def main(sizes: tuple[int, ...] = SIZES) -> None:
    peers = os.environ.get("PM_BENCH_PEERS")
    if not peers:
        print("the peers are left out: see the head of benchmarks/replay.py for how to install them")
    print(
        f"{'engine':<29}{'events':>11}{'ns/event':>10}{'[min .. max]':>20}{'B/event':>9}{'peak MB':>9}  fills"
    )
    for count in sizes:
        with tempfile.TemporaryDirectory() as name:
            _one_size(Path(name), count, peers)


def _one_size(folder: Path, count: int, peers: str | None) -> None:
    write_lake(folder, count)
    commands = {OURS: [sys.executable, "-m", "benchmarks.replay_parquet", OURS]}
    playing = [name for name, to in PEER_SIZES.items() if peers and count in to]
    for name in playing:
        commands[name] = [str(peers), "-m", "benchmarks.replay_parquet_peers", name]
    for writer in dict.fromkeys(name.split()[0] for name in playing):
        module = [str(peers), "-m", "benchmarks.replay_parquet_peers"]
        subprocess.run([*module, writer, str(folder), str(count)], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, list[Report]] = {name: [] for name in commands}
    for _ in range(ROUNDS.get(count, 5)):
        for name, command in commands.items():
            done = subprocess.run([*command, str(folder), str(count)], stdout=subprocess.PIPE, check=True)
            found[name].append(Report(**json.loads(done.stdout.splitlines()[-1])))
    _show(found, count, folder)


FILES = {
    OURS: "lake/market_data*/**/*.parquet",
    "hftbacktest npz": "plain.npz",
    "hftbacktest npz, compressed": "compressed.npz",
    "nautilus_trader catalog": "catalog/**/*.parquet",
}


def _show(found: dict[str, list[Report]], count: int, folder: Path) -> None:
    expected = found[OURS][0]
    ours = median(result.cpu_s for result in found[OURS])
    for name, results in found.items():
        times = [result.cpu_s * 1e9 / count for result in results]
        spread = f"[{min(times):,.2f} .. {max(times):,.2f}]"
        stored = sum(path.stat().st_size for path in folder.glob(FILES[name])) / count
        peak = median(result.peak_mb for result in results)
        print(
            f"{name:<29}{count:>11,}{median(times):>10,.2f}{spread:>20}{stored:>9.2f}{peak:>9,.1f}"
            f"  {_agreement(results, expected)}"
        )
    for name in found:
        if name != OURS:
            ratio = median(result.cpu_s for result in found[name]) / ours
            print(f"  faster than {name}: {ratio:,.1f}x")


def _agreement(results: list[Report], expected: Report) -> str:
    if all(result[2:] == expected[2:] for result in results):
        return "equal"
    if all(result[5:] == expected[5:] for result in results):
        return "equal, but books the last level of each order only"
    return "DIFFER: the figure does not count"


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in WORKERS:
        answer(WORKERS)
    else:
        main(tuple(map(int, sys.argv[1:])) or SIZES)
