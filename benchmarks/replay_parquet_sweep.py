"""Many strategies on the same book: 1,000 taker orders of each, by the events that are replayed for them.

The stream is read once and shared; each strategy has a session of its own and other moments.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.replay_market import CONTRACTS, STEP_NS
from benchmarks.replay_parquet import ERAS, KEY, T0, write_lake
from pm_pipeline.engine.kernel import NewOrder, Session, StoredStream, Stream, VenueRules, warm
from pm_pipeline.engine.kernel.stream import Rows
from pm_pipeline.markets import MICRO, Side
from pm_pipeline.warehouse import Lake

ORDERS = 1_000
SIZES = {1_000_000: 1_000, 10_000_000: 100}
"""Strategies by the events of the book."""


def whole(lake: Lake) -> Stream:
    stored = StoredStream.of(lake, KEY, ERAS)
    pieces = list(stored.pieces())
    columns = [np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("ts", "cell", "size")]
    return Stream.of_rows(stored.grid, Rows(columns[0], columns[0], columns[1], columns[2]))


def main() -> None:
    warm()
    asked = [NewOrder(side=(Side.BUY, Side.SELL)[n % 2], size=CONTRACTS * MICRO) for n in range(ORDERS)]
    for count, strategies in SIZES.items():
        with TemporaryDirectory() as name:
            write_lake(Path(name), count)
            stream = whole(Lake(Path(name) / "lake"))
        rng = np.random.default_rng(1)
        fills = 0
        started = time.process_time()
        for _ in range(strategies):
            session = Session(stream, VenueRules(lot=MICRO))
            session.submit_all(asked, T0 + np.sort(rng.integers(0, count, ORDERS)) * STEP_NS + STEP_NS // 2)
            session.advance()
            fills += len(session.fills)
        cpu = time.process_time() - started
        print(
            f"{count:>12,} events, {strategies:>6,} strategies: {cpu / strategies / ORDERS * 1e6:.2f} us per "
            f"order, {cpu / strategies * 1e3:.1f} ms per strategy, {fills:,} fills"
        )


if __name__ == "__main__":
    main()
