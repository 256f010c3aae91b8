"""The recorded markets computed by hand: the standard library, the files, and nothing of the package.

What the system reports about ``favourite`` must be what these few lines say. Times are unix seconds, prices
and money dollars as ``Decimal``.
"""

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

HOUR = 3600
CENT = Decimal("0.01")
MICRO = Decimal("0.000001")
LEAD, OLDEST_MID = 24 * HOUR, 2 * HOUR
LOW, HIGH = Decimal("0.80"), Decimal("0.97")
LATENCY, OLDEST_QUOTE, LONGEST_WAIT = 1, 900, HOUR
STAKE, HALF_SPREAD, DEPTH = Decimal(100), CENT, Decimal(250)
MARK, MARKS = 300, 36
MEASURED = (
    (("0.005", "148.7"), ("0.005", "148.7"), ("0.005", "148.7")),
    (("0.01", "49"), ("0.01", "18"), ("0.015", "18")),
    (("0.015", "28"), ("0.015", "20.36"), ("0.02", "12")),
)
"""Half-spread and contracts, over six hours before the close: calm, moving, fast; by distance from 0 or 1."""


class Quote(NamedTuple):
    """YES at a moment; ``None`` where nobody quotes, or the recording does not say."""

    t: float
    mid: Decimal | None
    bid: Decimal | None = None
    ask: Decimal | None = None

    def of(self, side: int) -> "Quote":
        """The same for YES (0) or NO (1)."""
        if not side:
            return self
        mid, bid, ask = (None if p is None else 1 - p for p in (self.mid, self.ask, self.bid))
        return Quote(self.t, mid, bid, ask)


class Recorded(NamedTuple):
    """One market of the files. ``pays`` says whether YES won."""

    name: str
    opened: float
    ends: float
    quotes: Sequence[Quote]
    pays: bool


class Pick(NamedTuple):
    """What ``favourite`` must want: which side, at which mid; and whether that side won."""

    side: int
    mid: Decimal
    wins: bool


class Fill(NamedTuple):
    """What one entry must cost and bring."""

    t: float
    price: Decimal
    size: Decimal
    cost: Decimal
    fee: Decimal
    payout: Decimal
    pnl: Decimal


def polymarket(path: Path) -> Iterator[Recorded]:
    """The buckets of a city, named by their YES token."""
    for day in json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)["markets"]:
        ends = datetime.fromisoformat(day["endDate"]).timestamp()
        stamps = [bucket["history"][0]["t"] for bucket in day["buckets"] if bucket["history"]]
        for bucket in day["buckets"]:
            mids = {point["t"]: Decimal(point["p"]) for point in bucket["history"]}
            quotes = [Quote(t, mids[t]) for t in sorted(mids)]
            yield Recorded(
                bucket["yes_token"],
                min(stamps, default=ends - 2 * LEAD),
                ends,
                quotes,
                bucket["resolved_yes"],
            )


def kalshi(path: Path, highs: dict[str, Decimal]) -> Iterator[Recorded]:
    """The strikes of a day, named by their ticker: what stood at the end of each minute in which it moved."""
    zone = ZoneInfo("US/Pacific")
    with gzip.open(path, "rt") as lines:
        rows = [
            (datetime.fromisoformat(row["timestamp"]).replace(tzinfo=zone).timestamp(), row)
            for row in csv.DictReader(lines)
        ]
    told: dict[str, dict[int, tuple[int, int]]] = {}
    shown: dict[str, tuple[int, int]] = {}
    for t, row in sorted(rows, key=lambda pair: pair[0]):
        ticker, touch = row["market_ticker"], (int(row["best_yes_bid"]), int(row["implied_yes_ask"]))
        if touch != shown.get(ticker):
            told.setdefault(ticker, {})[-int(-t // 60) * 60] = touch
        shown[ticker] = touch
    day = datetime.strptime(path.name[-14:-7], "%y%b%d").replace(tzinfo=ZoneInfo("UTC"))
    ends = (day + timedelta(hours=28, minutes=59)).timestamp()
    middles = [float(ticker.rpartition("-B")[2]) for ticker in told if "-B" in ticker]
    for ticker, minutes in told.items():
        kind, strike = ticker.rpartition("-")[2][0], Decimal(ticker.rpartition("-")[2][1:])
        high = highs[f"{day:%Y-%m-%d}"]
        if kind == "B":
            pays = abs(high - strike) <= Decimal("0.5")
        else:
            pays = high < strike if strike < min(middles) else high > strike
        quotes = []
        for t, touch in sorted(minutes.items()):
            bid, ask = (p * CENT if 0 < p < 100 else None for p in touch)
            quotes.append(Quote(t, None if bid is None or ask is None else (bid + ask) / 2, bid, ask))
        yield Recorded(ticker, ends - 39 * HOUR + 60, ends, quotes, pays)


def nws_highs(path: Path) -> dict[str, Decimal]:
    """The highest temperature of each day, as the National Weather Service reported it."""
    with gzip.open(path, "rt") as lines:
        return {row["date"]: Decimal(row["nws_high"]) for row in csv.DictReader(lines) if row["nws_high"]}


def favourite(market: Recorded) -> Pick | str:
    """The dearer side a day before the end, where its mid is that of a favourite; else why not."""
    decided = market.ends - LEAD
    if decided < market.opened:
        return "not_open"
    known = [q for q in market.quotes if q.mid is not None and q.t <= decided]
    if not known or decided - known[-1].t > OLDEST_MID:
        return "no_price"
    side, quote = max(enumerate((known[-1], known[-1].of(1))), key=lambda pair: pair[1].mid or 0)
    assert quote.mid is not None
    return Pick(side, quote.mid, market.pays == (side == 0)) if LOW <= quote.mid <= HIGH else "no_candidate"


class Terms(NamedTuple):
    """On what terms an entry trades; ``measured`` chooses the liquidity model."""

    tick: Decimal
    lot: Decimal
    fee_of: "FeeOf"
    measured: bool


def entry(market: Recorded, pick: Pick, terms: Terms) -> Fill | str:
    """The base scenario: a second later, on a quote of at most 15 minutes, or the first within an hour."""
    arrival = market.ends - LEAD + LATENCY
    lot, fee_of = terms.lot, terms.fee_of
    last = [q for q in market.quotes if q.t <= arrival][-1:]
    quotes = last + [q for q in market.quotes if arrival < q.t <= arrival + LONGEST_WAIT]
    rests = {q.t: rest(market, q, terms.measured) for q in quotes}
    ticks = {q.t: tick_of(market, q, terms.tick) for q in quotes}
    offers = [(q.t, _offer(q.of(pick.side), ticks[q.t], rests[q.t][0])) for q in quotes]
    before = [offer for offer in offers if offer[0] <= arrival][-1:]
    fresh = [offer for offer in before if arrival - offer[0] <= OLDEST_QUOTE and offer[1] is not None]
    later = [
        offer for offer in offers if arrival < offer[0] <= arrival + LONGEST_WAIT and offer[1] is not None
    ]
    for t, price in (fresh + later)[:1]:
        assert price is not None
        if price > HIGH:
            return "price_beyond_limit"
        size = (min(STAKE / price, rests[t][1]) / lot).to_integral_value(ROUND_FLOOR) * lot
        while price * size + fee_of(max(t, arrival), price, size) > STAKE:
            size -= lot
        cost = (price * size).quantize(MICRO, ROUND_CEILING)
        fee = fee_of(max(t, arrival), price, size)
        if fee_of.takes_shares(max(t, arrival)):
            withheld = (fee * size / cost).quantize(MICRO, ROUND_CEILING)
            size, cost = size - withheld, cost - fee
        payout = size * pick.wins
        return Fill(max(t, arrival), price, size, cost, fee, payout, payout - cost - fee)
    return "stale_quote" if before and before[0][1] is not None else "no_quote"


def tick_of(market: Recorded, quote: Quote, listed: Decimal) -> Decimal:
    """A cent, until a mid was beyond 0.04 or 0.96, or between half cents; then the tick that is listed."""
    seen = [q.mid for q in market.quotes if q.t <= quote.t and q.mid is not None]
    refined = any(not 4 * CENT <= mid <= 1 - 4 * CENT or 2 * mid % CENT for mid in seen)
    return listed if refined else CENT


def rest(market: Recorded, quote: Quote, measured: bool) -> tuple[Decimal, Decimal]:
    """Half-spread and contracts of a quote: those declared, or the worse of these and of the table."""
    prices = [p for p in (quote.mid, quote.ask, quote.bid) if p is not None]
    if not measured or not prices:
        return HALF_SPREAD, DEPTH / CENT
    price = prices[0] if quote.mid is not None else max(prices)
    edge = sum(min(price, 1 - price) >= bound for bound in (5 * CENT, 20 * CENT))
    half, contracts = MEASURED[edge][_volatility(market, int(quote.t // MARK))]
    return max(HALF_SPREAD, Decimal(half)), Decimal(contracts)


def _volatility(market: Recorded, now: int) -> int:
    """0 calm, 1 moving, 2 fast or unknown: squared changes from mark to mark, over three hours."""
    mids = {int(q.t // MARK): q.mid for q in market.quotes if q.mid is not None and q.t // MARK < now}
    marks = sorted(mids)
    moves = {b: (mids[b] - mids[a]) ** 2 for a, b in pairwise(marks)}
    covered = min(MARKS, now - 1 - marks[0]) if marks else 0
    if covered < 1 or marks[-1] < now - MARKS:
        return 2
    hourly = sum(move for mark, move in moves.items() if mark >= now - MARKS) * (HOUR // MARK) / covered
    return sum(hourly >= (bound * CENT) ** 2 for bound in (2, 8))


def _offer(quote: Quote, tick: Decimal, half_spread: Decimal) -> Decimal | None:
    """What a taker meets: the recorded offer; else the mid and the half-spread, on the grid."""
    if quote.bid is not None or quote.ask is not None or quote.mid is None:
        return quote.ask
    price = ((quote.mid + half_spread) / tick).to_integral_value(ROUND_CEILING) * tick
    return price if price < 1 else None


class FeeOf:
    """``shares * rate * p * (1 - p)``, rounded to ``step``; nothing before ``since``.

    Before ``cash_since`` a buyer's fee was kept back in shares, at the price of the match.
    """

    def __init__(self, rate: str, step: str, rounding: str, since: float = 0, cash_since: float = 0) -> None:
        self._rate, self._step, self._rounding, self.since = Decimal(rate), Decimal(step), rounding, since
        self._cash_since = cash_since

    def takes_shares(self, t: float) -> bool:
        return t < self._cash_since

    def __call__(self, t: float, price: Decimal, size: Decimal) -> Decimal:
        fee = size * self._rate * price * (1 - price) if t >= self.since else Decimal(0)
        return fee.quantize(self._step, self._rounding)


POLYMARKET_FEES = FeeOf(
    "0.05",
    "0.00001",
    ROUND_FLOOR,
    datetime.fromisoformat("2026-03-30T00:00Z").timestamp(),
    datetime.fromisoformat("2026-04-28T00:00Z").timestamp(),
)
"""Charged on weather markets from 30 March 2026; in dollars since the second exchange."""

KALSHI_FEES = FeeOf("0.07", "0.01", ROUND_CEILING)
"""Up to the whole cent, in December 2025."""
