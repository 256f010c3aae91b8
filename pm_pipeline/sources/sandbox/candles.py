"""Kalshi's candlesticks, built from quotes and trades.

A candle is named by its end, which it includes. Candles are sparse: one exists only where a quote changed
or a trade happened. Daily candles end at midnight in New York, so a day may have 23 or 25 hours.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from pm_pipeline.markets.clock import DAY, MINUTE, SECOND, Nanos, to_datetime, to_nanos
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.sandbox.world import ABSENT, Ints, Quotes, Trades

PERIODS: Final = (1, 60, 1440)
"""Lengths in minutes."""

_NEW_YORK: Final = ZoneInfo("America/New_York")


class Ohlc(NamedTuple):
    """Open, high, low and close of one quantity, micro-dollars."""

    open: Micro
    high: Micro
    low: Micro
    close: Micro


class Candle(NamedTuple):
    """One candle; ``price`` is ``None`` where nothing traded, ``previous`` the trade price before it."""

    end_s: int
    bid: Ohlc
    ask: Ohlc
    price: Ohlc | None
    mean: Micro | None
    previous: Micro | None
    volume: Micro
    open_interest: Micro


def candles(quotes: Quotes, trades: Trades, minutes: int, start_s: int, end_s: int) -> list[Candle]:
    """Candles that end in [start_s, end_s].

    An empty side counts as 0 (bid) or 1 (ask). Open interest takes every trade for a newly minted pair, the
    most that the prints allow. Blocks count as volume, as on the venue.
    """
    if len(quotes.ts) == 0:
        return []
    bid = np.where(quotes.bid == ABSENT, 0, quotes.bid)
    ask = np.where(quotes.ask == ABSENT, MICRO, quotes.ask)
    bought = np.concatenate(([0], np.cumsum(trades.size)))
    first = min(int(quotes.ts[0]), int(trades.ts[0]) if len(trades.ts) else int(quotes.ts[0]))
    final = max(int(quotes.ts[-1]), int(trades.ts[-1]) if len(trades.ts) else int(quotes.ts[-1]))
    edges = _edges(max(first, start_s * SECOND - 2 * DAY), min(final, end_s * SECOND), minutes)
    quote_at = np.searchsorted(quotes.ts, edges, side="right")
    trade_at = np.searchsorted(trades.ts, edges, side="right")
    found: list[Candle] = []
    for place in range(1, len(edges)):
        end = int(edges[place]) // SECOND
        if not start_s <= end <= end_s:
            continue
        q0, q1 = int(quote_at[place - 1]), int(quote_at[place])
        t0, t1 = int(trade_at[place - 1]), int(trade_at[place])
        if q1 == 0:
            continue
        # The quote in force at the start opens the candle.
        prevailing = max(q0 - 1, 0)
        bids, asks = bid[prevailing:q1], ask[prevailing:q1]
        moved = q0 == 0 or bool(np.any(bids != bids[0])) or bool(np.any(asks != asks[0]))
        if not moved and t0 == t1:
            continue
        found.append(
            Candle(
                end,
                _ohlc(bids),
                _ohlc(asks),
                _ohlc(trades.price[t0:t1]) if t1 > t0 else None,
                _mean(trades, t0, t1) if t1 > t0 else None,
                int(trades.price[t0 - 1]) if t0 else None,
                int(bought[t1] - bought[t0]),
                int(bought[t1]),
            )
        )
    return found


def _ohlc(values: Ints) -> Ohlc:
    return Ohlc(int(values[0]), int(values.max()), int(values.min()), int(values[-1]))


def _mean(trades: Trades, start: int, end: int) -> Micro:
    sizes = [int(size) for size in trades.size[start:end]]
    paid = sum(int(p) * s for p, s in zip(trades.price[start:end], sizes, strict=True))
    return paid // sum(sizes) // 100 * 100


def _edges(first: Nanos, final: Nanos, minutes: int) -> Ints:
    """Period ends from the last before ``first`` to the first at or after ``final``."""
    if final < first:
        return np.empty(0, np.int64)
    if minutes != PERIODS[-1]:
        length = minutes * MINUTE
        start = (first - 1) // length * length
        return np.arange(start, final + length, length, dtype=np.int64)
    day = to_datetime(first - 1).astimezone(_NEW_YORK).date()
    edges: list[Nanos] = []
    while not edges or edges[-1] < final:
        edges.append(to_nanos(datetime(day.year, day.month, day.day, tzinfo=_NEW_YORK)))
        day += timedelta(days=1)
    return np.array(edges, np.int64)


def asked(start_s: int, end_s: int, minutes: int) -> int:
    """How many candles a request is counted as: by its range, not by what exists."""
    return max(end_s - start_s, 0) // (minutes * 60)


def live_json(rows: Sequence[Candle]) -> list[dict[str, object]]:
    """Candles with the keys of the live endpoints; a candle without a trade has only ``previous``."""
    return [
        {
            "end_period_ts": row.end_s,
            "yes_bid": _sides(row.bid, "_dollars"),
            "yes_ask": _sides(row.ask, "_dollars"),
            "price": {name: value for name, value in _price(row, "_dollars").items() if value is not None},
            "volume_fp": count(row.volume),
            "open_interest_fp": count(row.open_interest),
        }
        for row in rows
    ]


def historical_json(rows: Sequence[Candle]) -> list[dict[str, object]]:
    """Candles with the key names of the old tier; what did not trade is null."""
    return [
        {
            "end_period_ts": row.end_s,
            "yes_bid": _sides(row.bid, ""),
            "yes_ask": _sides(row.ask, ""),
            "price": _price(row, ""),
            "volume": count(row.volume),
            "open_interest": count(row.open_interest),
        }
        for row in rows
    ]


def _sides(values: Ohlc, suffix: str) -> dict[str, str]:
    return {f"{name}{suffix}": dollars(value) for name, value in values._asdict().items()}


def _price(row: Candle, suffix: str) -> dict[str, str | None]:
    names = ("open", "high", "low", "close", "mean", "previous")
    traded: tuple[Micro | None, ...] = (None,) * 5 if row.price is None else (*row.price, row.mean)
    return {
        f"{name}{suffix}": None if value is None else dollars(value)
        for name, value in zip(names, (*traded, row.previous), strict=True)
    }


def dollars(value: Micro) -> str:
    """``0.4200``: four decimals."""
    return f"{value / MICRO:.4f}"


def count(value: Micro) -> str:
    """``13.00``: two decimals."""
    return f"{value / MICRO:.2f}"
