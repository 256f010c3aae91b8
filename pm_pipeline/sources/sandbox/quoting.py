"""How a latent probability is quoted: a book on the tick grid, trades that take from it, and their log.

No edge by construction: noise of the mid stays below the half-spread, so the latent probability lies
strictly between bid and ask at every moment and no taker has a positive expectation, whatever it knows of
the past. Offers of an exclusive group therefore cost more than a dollar together, and bids less.

Wallets differ in speed only. A fast one sees the next step of the path in the last instant of the current
one and takes the quote that is about to be stale; by the time anybody can read its trade, the quote has
moved. So skill is real and measurable, and following it earns nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from pm_pipeline.markets.clock import DAY, HOUR, Nanos
from pm_pipeline.markets.market import TickRange
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.sandbox.paths import Floats
from pm_pipeline.sources.sandbox.world import ABSENT, BookLog, Ints, Quotes, Trades

LEVELS: Final = 12
"""Price levels on each side of the book, fewer where the grid ends."""

_TAKE: Final = 0.25
"""No trade takes more than this share of the touch, and there are at most three a step."""
_NOISE_WALLETS: Final = 40
_FAST_WALLETS: Final = 4
_FAST_ACTS: Final = 0.5
"""How often a fast wallet uses its chance."""

_Position = tuple[bool, int]
"""A level: whether it is an offer, and its place on the price grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What the quotes and trades of an event look like; see :class:`sandbox.plans.EventPlan`."""

    ticks: tuple[TickRange, ...]
    step: Nanos
    wobble: float
    depth: int
    trades_per_hour: float
    whole_step_seconds: bool
    with_block: bool


class Quoted(NamedTuple):
    """Quotes at every step, with the places of bid and ask on the price grid and each level's appetite."""

    quotes: Quotes
    grid: Ints
    bid_place: Ints
    ask_place: Ints
    appetite: Floats


def price_grid(ticks: Sequence[TickRange]) -> Ints:
    """Every valid price, rising."""
    prices = {price for r in ticks for price in range(r.start, r.end + 1, r.step)}
    return np.array(sorted(prices), np.int64)


def half_spread(chance: Floats, hours_left: Floats) -> Floats:
    """Half the distance of bid and ask: widest at one half, and wider in the last hours."""
    return (0.004 + 0.03 * chance * (1.0 - chance)) * (1.0 + 1.0 / (1.0 + np.maximum(hours_left, 0.0)))


def quote(rng: np.random.Generator, style: Style, ts: Ints, chance: Floats, closes_at: Nanos) -> Quoted:
    """Quote the latent ``chance``: bid below it, ask above it, both on the grid."""
    half = half_spread(chance, (closes_at - ts) / HOUR)
    shocks = np.repeat(rng.standard_normal(len(ts) // 10 + 1), 10)[: len(ts)]
    drift = np.tanh(lfilter([1.0], [1.0, -0.8], shocks) * 0.6)
    centre = chance + style.wobble * half * drift
    grid = price_grid(style.ticks)
    low = np.floor((centre - half) * MICRO).astype(np.int64)
    high = np.ceil((centre + half) * MICRO).astype(np.int64)
    bid_place = np.maximum(np.searchsorted(grid, low, side="right") - 1, 0)
    ask_place = np.minimum(np.searchsorted(grid, high, side="left"), len(grid) - 1)
    quotes = Quotes.of(
        ts,
        np.where(bid_place == 0, ABSENT, grid[bid_place]),
        np.where(ask_place == len(grid) - 1, ABSENT, grid[ask_place]),
    )
    appetite = style.depth * np.exp(0.4 * rng.standard_normal(len(grid)))
    return Quoted(quotes, grid, bid_place, ask_place, appetite)


def trade(
    rng: np.random.Generator, style: Style, quoted: Quoted, chance: Floats, wallets: Sequence[str]
) -> Trades:
    """Trades at the touch: of slow wallets at random, of fast ones just before the quote moves."""
    quotes = quoted.quotes
    steps = len(quotes.ts)
    counts = np.minimum(rng.poisson(style.trades_per_hour * style.step / HOUR, steps), 2)
    # Fast wallets know the next step; they act where it lies beyond the touch.
    ahead = np.append(chance[1:], chance[-1]) * MICRO
    lifts_next = (quotes.ask != ABSENT) & (ahead > quotes.ask)
    hits_next = (quotes.bid != ABSENT) & (ahead < quotes.bid)
    acts = (lifts_next | hits_next) & (rng.random(steps) < _FAST_ACTS)
    unit = style.step // 60 if not style.whole_step_seconds else style.step // 60 // 10**9 * 10**9
    rows: list[tuple[int, int, int, bool, int, str, bool]] = []
    for step in np.flatnonzero((counts > 0) | acts):
        slots = np.sort(rng.choice(58, size=int(counts[step]), replace=False)) + 1
        for slot in slots:
            rows.extend(_noise_trade(rng, quoted, int(step), int(slot) * unit, wallets))
        if acts[step]:
            lifts = bool(lifts_next[step])
            size = _size(rng, _touch_size(quoted, int(step), lifts))
            wallet = wallets[int(rng.integers(_FAST_WALLETS))]
            price = int(quotes.ask[step] if lifts else quotes.bid[step])
            when = int(quotes.ts[step]) + 59 * unit
            rows.append((when, price, size, lifts, int(rng.integers(2)), wallet, False))
    if style.with_block and steps > 2:
        rows = sorted([*rows, _block_trade(quoted, steps // 2, unit, wallets)])
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    return Trades(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.int64),
        np.array(columns[3], np.bool_),
        np.array(columns[4], np.int64),
        np.array(columns[5], "U42"),
        np.array(columns[6], np.bool_),
    )


def wallet_addresses(names: Iterator[str]) -> tuple[str, ...]:
    """The wallets of the world, fast ones first, from an endless supply of addresses."""
    return tuple(next(names) for _ in range(_FAST_WALLETS + _NOISE_WALLETS))


def is_fast(wallets: Sequence[str], wallet: str) -> bool:
    """Whether this wallet is one of the skilled ones."""
    return wallet in wallets[:_FAST_WALLETS]


def _noise_trade(
    rng: np.random.Generator, quoted: Quoted, step: int, offset: Nanos, wallets: Sequence[str]
) -> list[tuple[int, int, int, bool, int, str, bool]]:
    lifts = bool(rng.random() < 0.5)
    size = _size(rng, _touch_size(quoted, step, lifts))
    wallet = wallets[_FAST_WALLETS + int(rng.integers(_NOISE_WALLETS))]
    outcome = int(rng.integers(2))
    price = int(quoted.quotes.ask[step] if lifts else quoted.quotes.bid[step])
    if price == ABSENT:
        return []
    return [(int(quoted.quotes.ts[step]) + offset, price, size, lifts, outcome, wallet, False)]


def _block_trade(
    quoted: Quoted, step: int, unit: Nanos, wallets: Sequence[str]
) -> tuple[int, int, int, bool, int, str, bool]:
    price = int(quoted.grid[(quoted.bid_place[step] + quoted.ask_place[step]) // 2])
    ts = int(quoted.quotes.ts[step])
    return (ts + 30 * unit, max(price, int(quoted.grid[1])), 5000 * MICRO, True, 0, wallets[-1], True)


def _size(rng: np.random.Generator, touch: int) -> int:
    return max(int(touch * _TAKE * rng.uniform(0.05, 1.0)) // 10_000 * 10_000, 10_000)


def _touch_size(quoted: Quoted, step: int, lifts: bool) -> int:
    place = int(quoted.ask_place[step] if lifts else quoted.bid_place[step])
    return _level_size(quoted, step, place)


def _level_size(quoted: Quoted, step: int, place: int) -> int:
    """Contracts on offer at one price, in millionths: steady within an hour, to the hundredth."""
    hour = int(quoted.quotes.ts[step]) // HOUR
    breath = 1.0 + 0.3 * np.sin(hour * 2.4 + place)
    return max(int(quoted.appetite[place] * breath * 100), 100) * 10_000


def book_log(quoted: Quoted, trades: Trades) -> BookLog:
    """The full-depth log: a reset at the start and once a day, else the levels that changed.

    A trade takes its size out of the touch at once; the level is refilled at the next step. Block trades are
    negotiated away from the book and leave it alone.
    """
    writer = _LogWriter()
    ts = quoted.quotes.ts
    taken: dict[int, list[int]] = {}
    for row, step in enumerate(np.searchsorted(ts, trades.ts, side="right") - 1):
        if not trades.block[row]:
            taken.setdefault(int(step), []).append(row)
    book: dict[_Position, int] = {}
    previous: tuple[int, int, int] | None = None
    for step in range(len(ts)):
        now = int(ts[step])
        state = (int(quoted.bid_place[step]), int(quoted.ask_place[step]), now // HOUR)
        new_day = previous is None or now // DAY != int(ts[step - 1]) // DAY
        if new_day or state != previous or step - 1 in taken:
            target = _levels(quoted, step)
            if new_day:
                writer.reset(now, target, quoted.grid)
            else:
                for level in sorted(book.keys() | target.keys()):
                    if book.get(level) != target.get(level):
                        writer.level(now, level, target.get(level, 0), quoted.grid)
            book = target
        previous = state
        for row in taken.get(step, ()):
            lifts = bool(trades.lifts[row])
            touched = (lifts, state[1] if lifts else state[0])
            book[touched] -= int(trades.size[row])
            writer.level(int(trades.ts[row]), touched, book[touched], quoted.grid)
    return writer.log()


def _levels(quoted: Quoted, step: int) -> dict[_Position, int]:
    bid, ask = int(quoted.bid_place[step]), int(quoted.ask_place[step])
    bids = range(max(bid - LEVELS + 1, 1), bid + 1)
    asks = range(ask, min(ask + LEVELS, len(quoted.grid) - 1))
    return {
        (is_ask, place): _level_size(quoted, step, place)
        for is_ask, places in ((False, bids), (True, asks))
        for place in places
    }


class _LogWriter:
    """Collects the rows of a book log; a message is a reset with its levels, or one level."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, bool, bool, int, int]] = []
        self._seq = 0

    def reset(self, ts: Nanos, levels: Mapping[_Position, int], grid: Ints) -> None:
        self._seq += 1
        self._rows.append((ts, self._seq, True, False, 0, 0))
        for (is_ask, place), size in sorted(levels.items()):
            self._rows.append((ts, self._seq, False, is_ask, int(grid[place]), size))

    def level(self, ts: Nanos, level: _Position, size: int, grid: Ints) -> None:
        self._seq += 1
        self._rows.append((ts, self._seq, False, level[0], int(grid[level[1]]), size))

    def log(self) -> BookLog:
        columns: list[Sequence[int]] = list(zip(*self._rows, strict=True)) if self._rows else [()] * 6
        kinds = (np.int64, np.int64, np.bool_, np.bool_, np.int64, np.int64)
        arrays: list[NDArray[np.int64]] = [
            np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)
        ]
        ts, seq, reset, is_ask, price, size = arrays
        return BookLog(ts, seq, reset.astype(np.bool_), is_ask.astype(np.bool_), price, size)
