"""Pages of OrderFilled rows to a committed DuckDB table: typed structs against json and pandas.

Both read the same 200 pages of 1,000 rows of the subgraph from memory, in the same order, into a database on
disk, ten pages a commit, and end with a checkpoint. Ours goes the way of the pipeline (msgspec structs,
columns, Arrow) and ends with rows of market_data.wallet_fills, every match put to the conservation test; the
other is what a notebook does (json.loads, DataFrame, numbers by to_numeric, price and side by columns) and
tests nothing. Each round is a process of its own, the two take turns. What memory grew by since a quarter of
the pages is told beside the size of the file, which DuckDB keeps in memory.
"""

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

PAGES = 200
ROWS = 1_000
ROUNDS = 5
AT_ONCE = 10
"""Pages that are inserted and committed together."""

MAKERS = 3
"""Resting orders of a match; a page holds 250 whole matches."""

TOKENS = tuple(str(int(hashlib.sha256(text).hexdigest(), 16)) for text in (b"yes", b"no"))
EXCHANGE = "0x4bfb41d5b3570defd03c39a9a4d8de6bd8b8982e"
START = 1_760_000_000


def pages(count: int) -> Iterator[bytes]:
    """Answers of the subgraph: matches of one to four wallets out of 5,000, two seconds apart."""
    draw = random.Random(7)
    wallets = [f"0x{draw.getrandbits(160):040x}" for _ in range(5_000)]
    second = START
    for _ in range(count):
        rows: list[dict[str, str]] = []
        for _ in range(ROWS // (MAKERS + 1)):
            second += 2
            rows += _match(draw, wallets, second)
        rows.sort(key=lambda row: row["id"])
        bought = [row for row in rows if row["makerAssetId"] == "0"]
        sold = [row for row in rows if row["makerAssetId"] != "0"]
        meta = {"block": {"number": 87_814_766, "timestamp": 1_777_374_040}, "hasIndexingErrors": False}
        yield json.dumps({"data": {"bought": bought, "sold": sold, "_meta": meta}}).encode()


def _match(draw: random.Random, wallets: list[str], second: int) -> list[dict[str, str]]:
    tx, price, buys = f"0x{draw.getrandbits(256):064x}", draw.randrange(10, 990) * 1_000, draw.random() < 0.6
    taker, outcome = draw.choice(wallets), draw.randrange(2)
    size = cash = 0
    rows = []
    for _ in range(MAKERS):
        part = draw.randrange(1, 50_000) * 10_000
        worth = part * price // 1_000_000
        size, cash = size + part, cash + worth
        if draw.random() < 0.4:  # the other outcome on the same side: a set is made or dissolved
            rows.append(
                _row(draw, tx, second, draw.choice(wallets), taker, buys, 1 - outcome, part, part - worth)
            )
        else:
            rows.append(_row(draw, tx, second, draw.choice(wallets), taker, not buys, outcome, part, worth))
    return [*rows, _row(draw, tx, second, taker, EXCHANGE, buys, outcome, size, cash)]


def _row(
    draw: random.Random,
    tx: str,
    second: int,
    maker: str,
    taker: str,
    buys: bool,
    outcome: int,
    size: int,
    cash: int,
) -> dict[str, str]:
    order = f"0x{draw.getrandbits(256):064x}"
    gave, got = ("0", TOKENS[outcome]) if buys else (TOKENS[outcome], "0")
    given, taken = (cash, size) if buys else (size, cash)
    return {
        "id": f"{tx}_{order}",
        "transactionHash": tx,
        "timestamp": str(second),
        "orderHash": order,
        "maker": maker,
        "taker": taker,
        "makerAssetId": gave,
        "takerAssetId": got,
        "makerAmountFilled": str(given),
        "takerAmountFilled": str(taken),
        "fee": "0",
    }


def ours(bodies: Sequence[bytes]) -> Any:
    import pyarrow as pa

    from pm_pipeline.markets.keys import MarketKey, Venue
    from pm_pipeline.sources.polymarket.onchain.fills import to_rows
    from pm_pipeline.sources.polymarket.onchain.goldsky import DECODER, to_events

    outcome_of = {token: outcome for outcome, token in enumerate(TOKENS)}
    key = MarketKey(Venue.POLYMARKET, "654414")

    def rows(body: bytes) -> pa.Table:
        data = DECODER.decode(body).data
        assert data is not None
        return to_rows(to_events(data.bought + data.sold, outcome_of), key, "goldsky", START * 10**9)

    return pa.concat_tables(map(rows, bodies))


def pandas(bodies: Sequence[bytes]) -> Any:
    import pandas as pd

    return pd.concat(map(_frame, bodies), ignore_index=True)


def _frame(body: bytes) -> Any:
    import pandas as pd

    data = json.loads(body)["data"]
    rows = pd.DataFrame(data["bought"] + data["sold"])
    for name in ("timestamp", "makerAmountFilled", "takerAmountFilled", "fee"):
        rows[name] = pd.to_numeric(rows[name])
    rows["timestamp"] = pd.to_datetime(rows["timestamp"], unit="s", utc=True)
    buys = rows["makerAssetId"] == "0"
    rows["side"] = buys.map({True: "buy", False: "sell"})
    rows["token"] = rows["takerAssetId"].where(buys, rows["makerAssetId"])
    rows["size"] = rows["takerAmountFilled"].where(buys, rows["makerAmountFilled"])
    rows["cash"] = rows["makerAmountFilled"].where(buys, rows["takerAmountFilled"])
    rows["price"] = rows["cash"] / rows["size"]
    rows["role"] = (rows["taker"] == EXCHANGE).map({True: "taker", False: "maker"})
    return rows.drop(columns=["makerAmountFilled", "takerAmountFilled"])


def _insert(connection: Any, rows: Any) -> None:
    connection.register("page", rows)
    connection.execute("CREATE TABLE IF NOT EXISTS fills AS SELECT * FROM page LIMIT 0").fetchall()
    connection.execute("INSERT INTO fills SELECT * FROM page").fetchall()
    connection.unregister("page")


WAYS = {"ours": ours, "pandas": pandas}


def one(way: str, source: Path, count: int) -> dict[str, float]:
    """Read ``count`` pages one way; what it took of this process."""
    import resource

    import duckdb

    read = WAYS[way]
    bodies = [path.read_bytes() for path in sorted(source.iterdir())[: count + 1]]
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(":memory:") as warm:
        _insert(warm, read(bodies[-1:]))  # imports and first calls are no part of a row
        path = Path(folder) / "fills.duckdb"
        with duckdb.connect(str(path), config={"threads": 1}) as connection:
            started = time.process_time()
            peaks = []
            for first in range(0, count, AT_ONCE):
                _insert(connection, read(bodies[first : first + AT_ONCE]))
                peaks.append(_resident())
            connection.execute("CHECKPOINT").fetchall()
            cpu = time.process_time() - started
            (stored,) = connection.execute("SELECT count(*) FROM fills").fetchall()[0]
        size = path.stat().st_size
    assert stored == count * ROWS
    return {
        "cpu_us": cpu / stored * 1e6,
        "bytes": size / stored,
        "grown_mb": peaks[-1] - peaks[len(peaks) // 4],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _resident() -> float:
    """Memory of this process now, MB."""
    pages_held = int(Path("/proc/self/statm").read_text().split()[1])
    return pages_held * 4096 / 2**20


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, body in enumerate(pages(PAGES + 1)):
            (folder / f"{number:04d}.json").write_bytes(body)
        told: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in WAYS:
                command = [sys.executable, "-m", "benchmarks.ingest", way, name, str(PAGES)]
                told[way].append(
                    json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                )
    for way, rounds in told.items():
        cpu = [done["cpu_us"] for done in rounds]
        print(
            f"{way:<8}{median(cpu):>7.2f} us of the processor per row [{min(cpu):.2f} .. {max(cpu):.2f}]"
            f"{rounds[0]['bytes']:>8.1f} bytes per row on disk"
            f"{median(r['grown_mb'] for r in rounds):>7.1f} MB more at the end than after {PAGES // 4} pages,"
            f" of a file of {rounds[0]['bytes'] * PAGES * ROWS / 2**20:.1f} MB;"
            f"{median(r['peak_mb'] for r in rounds):>5.0f} MB at most"
        )
    pairs = zip(told["pandas"], told["ours"], strict=True)
    faster = median(theirs["cpu_us"] / mine["cpu_us"] for theirs, mine in pairs)
    smaller = told["ours"][0]["bytes"] / told["pandas"][0]["bytes"]
    print(
        f"ours is {faster:.2f} times as fast per row (goal 1.7), with {smaller:.2f} of the bytes (goal 0.6)"
    )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(one(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()
