"""The recorded books, measured: half-spread and size at the touch, by price, volatility and time to close.

``python -m pm_pipeline_tests.engine.venue.recorded_liquidity`` prints the table of ``docs/liquidity.md``,
where the method stands.
"""

import csv
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.venue.liquidity import CLOSES, EDGES, VOLATILITIES, Bands, bands
from pm_pipeline.markets.clock import FOREVER, MINUTE, SECOND, Nanos, parse_time
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.arrays import Quotes
from pm_pipeline.warehouse.records import MISSING
from pm_pipeline_tests.shared import SHARED

Ints = npt.NDArray[np.int64]

RECORDED: Final = SHARED / "recorded"
QUANTILES: Final = {"half_spread": (0.75, 0.50, 0.25), "contracts": (0.25, 0.50, 0.75)}
"""Pessimistic, base, optimistic."""

PER_SOURCE, PER_CELL = 30, 100
"""A source with fewer samples in a cell is left out of it; a cell with fewer is not measured."""

OLDEST: Final[Nanos] = 15 * MINUTE
LOT: Final[Micro] = 10_000

_CRYPTO: Final = re.compile(r"KX(?:BTC|ETH)-(\d\d[A-Z]{3}\d\d)(\d\d)-")
_NEW_YORK, _LOS_ANGELES = ZoneInfo("America/New_York"), ZoneInfo("America/Los_Angeles")

AXES: Final = {
    "price": ("closer than 5 to 0 or 100", "5 to 20", "20 and farther"),
    "volatility": ("below 2", "2 to 8", "8 and above"),
    "to the close": ("more than 6 h", "6 h and less"),
}
"""The axes of the table, and their bands as the page names them."""

Cell = tuple[int, int, int]
"""Edge, volatility, close: a position in the table."""


class Sample(NamedTuple):
    """The best quotes of YES at a moment; sizes are :data:`MISSING` where the recording has none."""

    ts: Nanos
    bid: Micro
    ask: Micro
    bid_size: Micro = MISSING
    ask_size: Micro = MISSING


@dataclass(frozen=True, slots=True)
class Measured:
    """One cell of the table. ``samples`` and ``markets`` are those of the half-spread, by source."""

    half_spread: tuple[Micro, ...] | None
    contracts: tuple[Micro, ...] | None
    mean_half_spread: float
    samples: dict[str, int]
    markets: int


def micro(dollars: float) -> Micro:
    return round(dollars * MICRO)


def new_york_minutes() -> Iterator[tuple[str, Nanos, list[Sample]]]:
    """Best quotes of New York's daily highs on each full minute, while the last one is fresh.

    Stamps have no zone; they fit US Pacific, where the day's market begins at 07:00.
    """
    for path in sorted((RECORDED / "kalshi_highny_bbo_2025").glob("*.csv.gz")):
        day = datetime.strptime(path.name[-14:-7], "%y%b%d")  # noqa: DTZ007 - a date
        close = _nanos((day + timedelta(hours=23, minutes=59)).replace(tzinfo=_NEW_YORK))
        ticks: dict[str, list[tuple[Nanos, Micro, Micro]]] = defaultdict(list)
        with gzip.open(path, "rt") as lines:
            for row in csv.DictReader(lines):
                at = _nanos(datetime.fromisoformat(row["timestamp"]).replace(tzinfo=_LOS_ANGELES))
                bid, no = (round(float(row[name])) * 10_000 for name in ("best_yes_bid", "best_no_bid"))
                ticks[row["market_ticker"]].append((at, bid, MICRO - no))
        for ticker, quotes in ticks.items():
            quotes.sort(key=lambda quote: quote[0])
            times = np.array([at for at, _, _ in quotes])
            clock = np.arange(-(-times[0] // MINUTE) * MINUTE, min(times[-1], close), MINUTE)
            rows = np.searchsorted(times, clock, side="right") - 1
            fresh = clock - times[rows] <= OLDEST
            yield (
                ticker,
                close,
                [
                    Sample(int(t), *quotes[i][1:])
                    for t, i in zip(clock[fresh], rows[fresh].tolist(), strict=True)
                ],
            )


def captured_books(folder: str) -> Iterator[tuple[str, Nanos, list[Sample]]]:
    """Whole books captured about every hour, and their best quotes.

    Where the file names no close: that of an hourly crypto ladder is in its ticker; the others are games,
    whose announced close lies days after them.
    """
    found: dict[str, list[Sample]] = defaultdict(list)
    closes: dict[str, Nanos] = {}
    for path in sorted((RECORDED / "kalshi_tape_2026" / folder).glob("dt=*.gz")):
        with gzip.open(path, "rt") as lines:
            for row in map(json.loads, lines):
                (bid, bid_size), (no, ask_size) = (
                    max(row[side], default=(0, 0)) for side in ("yes_bids", "no_bids")
                )
                ticker = row["ticker"]
                at = parse_time(row["captured_at"])
                found[ticker].append(
                    Sample(at, micro(bid), MICRO - micro(no), micro(bid_size), micro(ask_size))
                )
                closes[ticker] = _close(ticker, row.get("close_time"))
    for ticker, samples in found.items():
        yield ticker, closes[ticker], sorted(samples)


def _close(ticker: str, told: str | None) -> Nanos:
    if told:
        return parse_time(told)
    crypto = _CRYPTO.match(ticker)
    if crypto is None:
        return FOREVER
    day = datetime.strptime(crypto[1], "%y%b%d")  # noqa: DTZ007 - a date
    return _nanos((day + timedelta(hours=int(crypto[2]))).replace(tzinfo=_NEW_YORK))


def bitcoin_books() -> Iterator[tuple[str, Nanos, list[Sample]]]:
    """The best quotes of the 15-minute bitcoin markets every five seconds, from the replayed messages."""
    every = 5 * SECOND
    for session in sorted((RECORDED / "kalshi_btc15m_l2_2026").glob("*/session.json")):
        closes = {
            k: parse_time(m["close_time"]) for k, m in json.loads(session.read_text())["markets"].items()
        }
        books: dict[str, dict[str, dict[str, float]]] = {}
        due: dict[str, Nanos] = {}
        found: dict[str, list[Sample]] = defaultdict(list)
        with gzip.open(session.parent / "ws_messages.jsonl.gz", "rt") as lines:
            for message in map(json.loads, lines):
                if message["type"] not in {"orderbook_snapshot", "orderbook_delta"}:
                    continue
                body, at = message["msg"], message["recv_ns"]
                ticker = body["market_ticker"]
                while due.get(ticker, FOREVER) <= at:
                    found[ticker].append(_touch(due[ticker], books[ticker]))
                    due[ticker] += every
                if message["type"] == "orderbook_snapshot":
                    books[ticker] = {
                        side: {p: float(s) for p, s in body.get(f"{side}_dollars_fp", ())}
                        for side in ("yes", "no")
                    }
                    due.setdefault(ticker, -(-at // every) * every)
                else:
                    side, price = books[ticker][body["side"]], body["price_dollars"]
                    side[price] = side.get(price, 0.0) + float(body["delta_fp"])
        for ticker, samples in found.items():
            yield ticker, closes[ticker], samples


def _touch(at: Nanos, book: dict[str, dict[str, float]]) -> Sample:
    best = []
    for side in ("yes", "no"):
        levels = [(micro(float(price)), micro(size)) for price, size in book[side].items() if size > 1e-9]
        best.append(max(levels, default=(0, 0)))
    (bid, bid_size), (no, ask_size) = best
    return Sample(at, bid, MICRO - no, bid_size, ask_size)


SOURCES: Final = {
    "NY highs 2025": new_york_minutes,
    "weather books 2026": lambda: captured_books("weather_books"),
    "games and crypto books 2026": lambda: captured_books("orderbook_depth"),
    "BTC 15 min books 2026": bitcoin_books,
}


def measure() -> dict[Cell, Measured]:
    """Every cell of the table, as recorded."""
    spreads: dict[Cell, dict[str, list[Ints]]] = defaultdict(lambda: defaultdict(list))
    sizes: dict[Cell, dict[str, list[Ints]]] = defaultdict(lambda: defaultdict(list))
    markets: dict[Cell, set[str]] = defaultdict(set)
    for source, read in SOURCES.items():
        for ticker, close, samples in read():
            sample = np.array(samples, dtype=np.int64).reshape(-1, 5)
            sample = sample[(sample[:, 1] > 0) & (sample[:, 2] < MICRO) & (sample[:, 1] < sample[:, 2])]
            sample = sample[sample[:, 0] < close]
            ts, bid, ask, bid_size, ask_size = sample.T
            mid = (bid + ask) // 2
            found = bands(Quotes(ts.copy(), ts.copy(), mid, bid.copy(), ask.copy()), close)
            known = _known(ts)
            yes_low = 2 * mid < MICRO
            low, high = np.where(yes_low, (bid_size, ask_size), (ask_size, bid_size))
            for cell in set(zip(*(axis.tolist() for axis in found), strict=True)):
                here = known & np.logical_and.reduce([a == b for a, b in zip(found, cell, strict=True)])
                if here.any():
                    markets[cell].add(ticker)
                    spreads[cell][source].append((ask - bid)[here])
                    sized = here & (bid_size >= 0)
                    if sized.any():
                        sizes[cell][source].append(np.stack((low[sized], high[sized])))
    return {cell: _cell(spreads[cell], sizes[cell], len(markets[cell])) for cell in sorted(spreads)}


def _known(ts: Ints) -> npt.NDArray[np.bool_]:
    """Whether a volatility can be told: two flat quotes would not count as fast."""
    flat = np.full(len(ts), MICRO // 2)
    none = np.full(len(ts), MISSING)
    calm: Bands = bands(Quotes(ts.copy(), ts.copy(), flat, none, none.copy()), FOREVER)
    known: npt.NDArray[np.bool_] = calm.volatility == 0
    return known


def _cell(spreads: dict[str, list[Ints]], sizes: dict[str, list[Ints]], markets: int) -> Measured:
    values, weights, counts = _pooled(spreads)
    half = mean = None
    if len(values) >= PER_CELL:
        half = tuple(-(-_quantile(values, weights, q) // 2) for q in QUANTILES["half_spread"])
        mean = float(np.average(values, weights=weights)) / 2 / 10_000
    both, weights, _ = _pooled(sizes)
    contracts = None
    if both.shape[-1] >= PER_CELL:
        contracts = tuple(
            min(_quantile(side, weights, q) for side in both) // LOT * LOT for q in QUANTILES["contracts"]
        )
    return Measured(half, contracts, mean or float("nan"), counts, markets)


def _pooled(parts: dict[str, list[Ints]]) -> tuple[Ints, npt.NDArray[np.float64], dict[str, int]]:
    """The samples of all sources that have enough of them; each source weighs the same."""
    joined = {source: np.concatenate(found, axis=-1) for source, found in parts.items()}
    joined = {source: found for source, found in joined.items() if found.shape[-1] >= PER_SOURCE}
    counts = {source: found.shape[-1] for source, found in joined.items()}
    if not joined:
        return np.empty(0, dtype=np.int64), np.empty(0), counts
    weights = np.concatenate([np.full(n, 1 / n) for n in counts.values()])
    return np.concatenate(list(joined.values()), axis=-1), weights, counts


def _quantile(values: Ints, weights: npt.NDArray[np.float64], q: float) -> int:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return int(values[order][np.searchsorted(total, q * total[-1] - 1e-9)])


def table(cells: dict[Cell, Measured]) -> dict[Cell, tuple[tuple[Micro, ...], tuple[Micro, ...]]]:
    """The shipped table: a cell is never better than the calmer one, nor than the one farther from the close.

    A cell that is not measured is as good as those allow.
    """
    rows: dict[Cell, tuple[tuple[Micro, ...], tuple[Micro, ...]]] = {}
    for edge in range(len(EDGES)):
        for close in range(len(CLOSES)):
            for volatility in range(len(VOLATILITIES)):
                own = cells.get((edge, volatility, close))
                better = [rows[edge, volatility - 1, close]] if volatility else []
                better += [rows[edge, volatility, close - 1]] if close else []
                halves = [half for half, _ in better] + ([own.half_spread] if own and own.half_spread else [])
                sizes = [size for _, size in better] + ([own.contracts] if own and own.contracts else [])
                rows[edge, volatility, close] = (
                    tuple(max(column) for column in zip(*halves, strict=True)),
                    tuple(min(column) for column in zip(*sizes, strict=True)),
                )
    return rows


def _nanos(moment: datetime) -> Nanos:
    return round(moment.timestamp() * 1_000_000) * 1000


def page(cells: dict[Cell, Measured]) -> list[dict[str, str]]:
    """The rows of the table in ``docs/liquidity.md``."""
    rows = []
    for cell, (half, contracts) in table(cells).items():
        own = cells.get(cell)
        counts = own.samples if own else {}
        rows.append(
            {
                **{name: names[n] for (name, names), n in zip(AXES.items(), cell, strict=True)},
                "half-spread": " / ".join(f"{x / 10_000:g}" for x in half),
                "contracts": " / ".join(f"{x / MICRO:g}" for x in contracts),
                "mean": f"{own.mean_half_spread:.2f}" if own and own.half_spread else "",
                "samples": " / ".join(str(counts.get(source, 0)) for source in SOURCES),
                "markets": str(own.markets) if own else "0",
            }
        )
    return rows


def main() -> None:
    """Print the table as the page shows it."""
    rows = page(measure())
    for line in ([*rows[0]], ["---"] * len(rows[0]), *([*row.values()] for row in rows)):
        print("|", " | ".join(line), "|")


if __name__ == "__main__":
    main()
