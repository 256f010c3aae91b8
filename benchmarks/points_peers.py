"""vectorbt on the worlds of :mod:`benchmarks.points_market`, in the way its documentation shows.

Runs in an environment of its own. A signal at a point is filled at the price of the next one; a stop is seen
at a point and filled at the next one too (``StopExitPrice.Price``). The last point is the payout.
"""

import sys
import time
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import points_market as world

NOTHING = 1e-9
"""Stands for a payout of nothing, which is no price."""

Floats = npt.NDArray[np.float64]


def prepared(mids: npt.NDArray[np.int16], pays: npt.NDArray[np.bool_]) -> dict[str, Floats]:
    """Prices, fill prices, fees and sizes; a column per market, columns contiguous."""
    mills = mids.T
    close = np.asfortranarray(mills / 1000.0)
    price = np.empty_like(close)
    price[:-1], price[-1] = close[1:], np.where(pays, 1.0, NOTHING)
    fees = world.RATE * (1.0 - price)
    fees[-1] = 0.0
    size = np.empty_like(close)
    size[:-1], size[-1] = world.contracts()[mills[1:]], 1.0
    return {"close": close, "price": price, "fees": fees, "size": size}


def z_scores(close: Floats, window: int) -> Floats:
    """Against the window before each point, itself not included."""
    import vectorbt as vbt  # type: ignore[import-not-found]

    mean = vbt.generic.nb.rolling_mean_nb(close, window)
    deviation = vbt.generic.nb.rolling_std_nb(close, window, ddof=1)
    z = np.full_like(close, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        z[1:] = (close[1:] - mean[:-1]) / deviation[:-1]
    return z


def played(data: dict[str, Floats], entries: Any, exits: Any, stop: Any, target: Any) -> Any:
    """The records of all trades."""
    import vectorbt as vbt

    entries[-1], exits[-1] = False, True
    portfolio = vbt.Portfolio.from_signals(
        **data,
        entries=entries,
        exits=exits,
        sl_stop=stop,
        tp_stop=target,
        stop_entry_price=vbt.portfolio.enums.StopEntryPrice.Close,
        stop_exit_price=vbt.portfolio.enums.StopExitPrice.Price,
        init_cash=1e6,
        accumulate=False,
        freq="1min",
    )
    return portfolio.trades.values


def sums(trades: Any, columns: int) -> dict[str, Any]:
    """Trades and profit of each column."""
    return {
        "trades": np.bincount(trades["col"], minlength=columns),
        "pnl": np.bincount(trades["col"], trades["pnl"], minlength=columns),
    }


def points(path: str, out: str) -> None:
    """All markets with one rule, from Parquet to the sums of each market."""
    import pyarrow.parquet as pq

    def run() -> dict[str, Any]:
        table = pq.read_table(path, use_threads=False)
        pays = np.frombuffer(table.schema.metadata[b"pays"], np.bool_)
        data = prepared(table.column("mid").to_numpy().reshape(len(pays), -1), pays)
        z = z_scores(data["close"], world.WINDOW)
        # a hair below, so that a price that meets a stop exactly is a hit whatever the rounding of floats
        stop, target = world.STOP - 1e-9, world.TARGET - 1e-9
        trades = played(data, z <= -world.ENTRY, z >= -world.EXIT, stop, target)
        return sums(trades, len(pays))

    found = run()
    fresh = time.process_time()
    times = [world.timed(run) for _ in range(3)]
    np.savez(out, **found)
    world.answer(median(times), fresh, int(found["trades"].sum()))


def sweep(path: str, out: str, parts: str) -> None:
    """All combinations on all markets, in as many parts as fit into memory; combinations by window."""
    made = world.load(path)
    data = prepared(made.mids, made.pays)
    count = data["close"].shape[1]
    rows = world.grid()
    found = {"trades": np.zeros(len(rows), np.int64), "pnl": np.zeros(len(rows))}
    scores: dict[int, Floats] = {}

    def part(numbers: list[int]) -> None:
        chosen = [rows[n] for n in numbers]
        for row in chosen:
            if row.window not in scores:
                scores[row.window] = z_scores(data["close"], row.window)
        wide = {name: np.tile(values, (1, len(chosen))) for name, values in data.items()}
        entries = np.hstack([scores[row.window] <= -row.entry for row in chosen])
        exits = np.hstack([scores[row.window] >= -row.exit for row in chosen])
        stop = np.repeat([row.stop - 1e-9 for row in chosen], count)[None, :]
        target = np.repeat([row.target - 1e-9 for row in chosen], count)[None, :]
        trades = played(wide, entries, exits, stop, target)
        by_row = sums(trades, len(chosen) * count)
        for name in found:
            found[name][numbers] = by_row[name].reshape(len(chosen), count).sum(axis=1)

    chunks = [chunk.tolist() for chunk in np.array_split(np.arange(len(rows)), int(parts))]
    part(chunks[0][:1])  # the compilation is not what is compared here
    scores.clear()
    fresh = time.process_time()

    def all_parts() -> None:
        for chunk in chunks:
            part(chunk)

    cpu = world.timed(all_parts)
    np.savez(out, trades=found["trades"], pnl=found["pnl"])
    world.answer(cpu, fresh, int(found["trades"].sum()))


if __name__ == "__main__":
    if sys.argv[1] == "points":
        points(*sys.argv[2:])
    else:
        sweep(*sys.argv[2:])
