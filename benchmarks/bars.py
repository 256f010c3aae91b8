"""Trades of the lake to one-minute bars, beside DuckDB.

All read the same partitions of market_data.trades and make open, high, low, close, volume, notional, bought
volume and count of each minute with a trade, once as Arrow batches in memory and once in Parquet. DuckDB is
given in three forms: the one that is right for any order of the rows (arg_min and arg_max over all files),
first and last in one thread, which rests on the files being sorted, and the same file by file. Each round is
a process of its own, all take turns, and all bars are compared. To Parquet ours goes the whole way of the
pipeline: schema checks, fingerprints and footers included, which the others do without.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

MARKETS = 40
TRADES = 500_000
ROUNDS = 3
SPACING_S = 17.6
"""Mean seconds between two trades of a market: about half as many bars as trades."""

START = 1_760_000_000


def keys(markets: int) -> Iterator[str]:
    return (f"polymarket:{700_000 + number}" for number in range(markets))


def build(folder: Path, markets: int, count: int) -> None:
    """A lake of ``markets`` partitions of ``count`` trades each."""
    import pyarrow as pa

    from pm_pipeline.warehouse.lake import Lake
    from pm_pipeline.warehouse.schema import table

    lake = Lake(folder, durability="rename")
    schema = table("market_data.trades").arrow
    draw = np.random.default_rng(7)
    for key in keys(markets):
        ts = (START + np.sort(draw.random(count)) * SPACING_S * count).astype(np.int64) * 1_000_000
        times = {name: pa.array(ts + late) for name, late in (("ts", 0), ("known_at", 10**6))}
        walk = 500_000 + np.cumsum(draw.integers(-1, 2, count)) * 1_000
        columns: dict[str, Any] = {
            "market_key": pa.repeat(key, count),
            "outcome_index": pa.array(draw.integers(0, 2, count, np.int32)),
            **{name: values.view(schema.field(name).type) for name, values in times.items()},
            "ingested_at": pa.repeat(pa.scalar(START * 10**6 * 2, schema.field("ts").type), count),
            "trade_id": pa.repeat(f"0x{draw.integers(2**60):064x}", count),
            "ordinal": pa.array(np.arange(count, dtype=np.int32)),
            "price": pa.array(np.abs((walk - 10_000) % 1_960_000 - 980_000) + 10_000),
            "size": pa.array(draw.integers(1, 50_000, count) * 10_000),
            "side": pa.array(np.where(draw.random(count) < 0.6, "buy", "sell").astype(object), pa.string()),
            "side_evidence": pa.repeat("feed", count),
            "wallet": pa.nulls(count, pa.string()),
            "is_block": pa.array(draw.random(count) < 0.001),
        }
        lake.write("market_data.trades", key, pa.table(columns, schema=schema))


def ours(folder: Path, out: Path | None) -> int:
    from pm_pipeline.research.bars import BARS, COLUMNS, PIECE, TRADES, bars_of, write_bars
    from pm_pipeline.warehouse.lake import Lake

    lake, made = Lake(folder, durability="rename"), 0
    for (key,) in lake.partitions(TRADES):
        if out:
            lake.delete(BARS, key)
            made += write_bars(lake, key, outcomes=2).rows
        else:
            pieces = lake.stored(TRADES, key, COLUMNS, coded=("side",), rows=PIECE)
            made += sum(bars.num_rows for bars in bars_of(pieces, key, outcomes=2))
    return made


_QUERY = """
    SELECT market_key, outcome_index, 60000000 * (epoch_us(ts) // 60000000 + 1) AS ends,
           {first} AS open, max(price) AS high, min(price) AS low, {last} AS close,
           sum(size)::BIGINT AS volume, (sum(price::HUGEINT * size) / 1000000)::BIGINT AS notional,
           coalesce(sum(size) FILTER (side = 'buy'), 0)::BIGINT AS bought, count(*) AS trades,
           max(known_at) AS known_at
    FROM read_parquet({files}) WHERE NOT is_block GROUP BY ALL
"""
_SORTED = {"first": "first(price)", "last": "last(price)"}
_ANY_ORDER = {"first": "arg_min(price, (ts, ordinal))", "last": "arg_max(price, (ts, ordinal))"}


def _duckdb(form: dict[str, str], threads: int, *, each: bool) -> Callable[[Path, Path | None], int]:
    def run(folder: Path, out: Path | None) -> int:
        import duckdb

        made = 0
        files = sorted(str(path) for path in (folder / "market_data.trades").rglob("*.parquet"))
        with duckdb.connect(":memory:", config={"threads": threads}) as connection:
            for number, wanted in enumerate([[file] for file in files] if each else [files]):
                query = _QUERY.format(**form, files=wanted)
                if out:
                    where = out / f"{number}.parquet"
                    query = f"COPY ({query}) TO '{where}' (FORMAT parquet)"
                    made += connection.execute(query).fetchall()[0][0]
                else:
                    made += sum(batch.num_rows for batch in connection.sql(query).to_arrow_reader())
        return made

    return run


WAYS: dict[str, Callable[[Path, Path | None], int]] = {
    "ours": ours,
    "duckdb, any order": _duckdb(_ANY_ORDER, 2, each=False),
    "duckdb, sorted files": _duckdb(_SORTED, 1, each=False),
    "duckdb, file by file": _duckdb(_SORTED, 1, each=True),
}
ENDS = ("in memory", "in parquet")


def one(way: str, end: str, folder: Path) -> dict[str, Any]:
    """Make the bars one way; what it took of this process."""
    import duckdb  # noqa: F401 - what both need is no part of a row
    import pyarrow.parquet  # noqa: F401

    from pm_pipeline.engine.kernel.cache import compile_entry
    from pm_pipeline.research.bars.kernel import add_trades

    compile_entry(add_trades)
    out = folder.parent / way
    out.mkdir(exist_ok=True)
    cpu, wall = time.process_time(), time.perf_counter()
    made = WAYS[way](folder, out if end == "in parquet" else None)
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "bars": made,
    }


def check(folder: Path, way: str) -> None:
    """Raise unless the bars of ``way`` are ours, all of them; a notional may be rounded the other way."""
    import duckdb

    ours = f"read_parquet('{folder}/market_data.trade_bars/*/*.parquet')"
    theirs = f"read_parquet('{folder.parent / way}/*.parquet')"
    (apart,) = duckdb.execute(
        f"""
        SELECT count(*) FROM (
            SELECT *, epoch_us(ts) AS ends FROM {ours}
        ) AS o FULL JOIN {theirs} AS t USING (market_key, outcome_index, ends)
        WHERE (o.open, o.high, o.low, o.close, o.volume, o.bought, o.trades)
              IS DISTINCT FROM (t.open, t.high, t.low, t.close, t.volume, t.bought, t.trades)
           OR abs(o.notional - t.notional) > 1 OR o.known_at <> greatest(t.known_at, o.ts)
        """
    ).fetchall()[0]
    if apart:
        raise SystemExit(f"{apart} bars of {way} are not ours")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "lake"
        # in a process of its own: a child's peak begins with what its parent holds
        command = [sys.executable, "-m", "benchmarks.bars", "build", str(folder)]
        subprocess.run(command, check=True)
        told: dict[tuple[str, str], list[dict[str, Any]]] = {(w, e): [] for e in ENDS for w in WAYS}
        for _ in range(ROUNDS):
            for way, end in told:
                command = [sys.executable, "-m", "benchmarks.bars", way, end, str(folder)]
                told[way, end].append(
                    json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                )
        for way in WAYS:
            if way != "ours":
                check(folder, way)
    for end in ENDS:
        for way in WAYS:
            rounds = told[way, end]
            cpu = [done["cpu_s"] / (MARKETS * TRADES) * 1e9 for done in rounds]
            wall, peak = (median(done[what] for done in rounds) for what in ("wall_s", "peak_mb"))
            print(
                f"{way:<22}{end:<12}{median(cpu):>7.1f} ns of the processor per trade "
                f"[{min(cpu):.1f} .. {max(cpu):.1f}]{wall:>7.2f} s{peak:>7.0f} MB  {rounds[0]['bars']:,} bars"
            )
        best = min(
            (way for way in WAYS if way != "ours"),
            key=lambda way: median(done["cpu_s"] for done in told[way, end]),
        )
        pairs = zip(told[best, end], told["ours", end], strict=True)
        faster = median(theirs["cpu_s"] / mine["cpu_s"] for theirs, mine in pairs)
        print(f"{end}: ours is {faster:.2f} times as fast as {best} (goal 2)")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        build(Path(sys.argv[2]), MARKETS, TRADES)
    elif len(sys.argv) == 4:
        print(json.dumps(one(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
    else:
        main()
