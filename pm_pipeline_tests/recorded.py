"""Recorded market histories as a world of the sandbox: real prices and outcomes through the real clients.

Reads the sets beside the repository (``../shared/recorded``), or those in the folder that ``PM_RECORDED_DIR``
names, which has the same layout. A set whose folder is absent is left out. Use it as
``PM_SANDBOX_WORLD=pm_pipeline_tests.recorded:load_world``.

What the recordings do not say is decided here, against us where it matters:

* Polymarket weather histories stop at ``endDate`` (noon UTC of the day), before the answer is known. A bucket
  is resolved six hours after the local midnight that ends its day, or at its last point if that is later.
* Their fee terms: weather markets carried a fee schedule from 2026-03-30 on, none before. A market that still
  traded on that day gets the schedule.
* Their ids: the YES token is the true one; Gamma id, condition, question and NO token are derived from it.
* Raw Gamma objects are served as they were last seen. Their outcome is not recorded, so they stay unresolved.
* KXHIGHNY ticks have no zone: they are read as US/Pacific. Trading ends at 04:59 UTC of the next day (local
  standard midnight), settlement is at 13:00 UTC (8:00 in New York), by the highest temperature that the
  National Weather Service reported.
* 15-minute markets settle five minutes after they close.
* Neither set of Kalshi names trades or volume, so both are empty.
"""

import csv
import gzip
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND, Nanos, parse_time, to_nanos
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import FeeTerms, Instrument, Market, ScheduleEvidence, TickRange
from pm_pipeline.markets.resolution import Resolution, ResolutionStatus
from pm_pipeline.markets.units import MICRO, to_micro
from pm_pipeline.sources.sandbox.generator import hex_id, token_of
from pm_pipeline.sources.sandbox.plans import CENT, MILL, TAPERED, WEATHER_FEES
from pm_pipeline.sources.sandbox.world import (
    ABSENT,
    BookLog,
    Quotes,
    Retention,
    Strike,
    World,
    WorldEvent,
    WorldMarket,
)
from pm_pipeline_tests.shared import SHARED

LABEL: Final = "SANDBOX (recorded)"
WEATHER_FEES_SINCE: Final = parse_time("2026-03-30")
"""When Polymarket began to charge on weather markets."""

_UNRESOLVED_AFTER: Final = 6 * HOUR
_CITIES: Final = {
    "NYC": ("America/New_York", "fahrenheit"),
    "London": ("Europe/London", "celsius"),
    "Munich": ("Europe/Berlin", "celsius"),
    "Tokyo": ("Asia/Tokyo", "celsius"),
}
_PACIFIC: Final = "US/Pacific"


def recorded_dir() -> Path:
    """Where the recorded sets lie. Raises :class:`UsageError` when there are none."""
    folder = Path(os.environ.get("PM_RECORDED_DIR") or SHARED / "recorded")
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder of recorded markets at {folder}; set PM_RECORDED_DIR to one, "
            "or unset PM_SANDBOX_WORLD to use the generated world"
        )
    return folder


def load_world() -> World:
    """Every recorded market of the sets that are present, at a moment after the last of them."""
    folder = recorded_dir()
    histories = list(_polymarket_histories(folder / "polymarket_weather_2026"))
    known = {i.token_id for market in histories for i in market.market.instruments}
    markets = [
        *histories,
        *(
            m
            for m in _raw_gamma(folder / "polymarket_weather_2026")
            if m.market.instrument(0).token_id not in known
        ),
        *_high_ny(folder / "kalshi_highny_bbo_2025", folder / "kalshi_weather_fcst_actual_2022_2026"),
        *_fifteen_minutes(folder / "kalshi_btc15m_l2_2026"),
    ]
    if not markets:
        raise UsageError(f"{folder} holds none of the recorded sets; see the layout in the shared material")
    now = max(market.resolution.known_at for market in markets) + HOUR
    return World.of(LABEL, now, markets, Retention.FULL)


def summary(world: World) -> dict[str, Counter[str]]:
    """Per series: events, markets, and how many are resolved, won or not."""
    found: dict[str, Counter[str]] = {}
    events: set[str] = set()
    for market in world.markets.values():
        counts = found.setdefault(str(market.market.series), Counter())
        event = f"{market.market.key.venue}:{market.event.event_id}"
        counts["events"] += event not in events
        events.add(event)
        counts["markets"] += 1
        payouts = market.resolution.payouts
        counts["resolved"] += payouts is not None
        counts["won"] += payouts is not None and payouts[0] == MICRO
    return found


# --- Polymarket: daily temperature histories ------------------------------------------------------------


class _Point(msgspec.Struct):
    t: int
    p: Decimal


class _Bucket(msgspec.Struct):
    bucket: str
    yes_token: str
    resolved_yes: bool
    history: list[_Point]


class _Day(msgspec.Struct, rename="camel"):
    date: str
    slug: str
    title: str
    end_date: str
    buckets: list[_Bucket]


class _City(msgspec.Struct):
    city: str
    station: str
    markets: list[_Day]


_LISTED_BEFORE: Final = 2 * DAY
"""The venue lists a city's day about two days ahead; stands in where a day was recorded without prices."""


class _Series(NamedTuple):
    """One bucket's points, packed: seconds and mids in micro-dollars."""

    ts: NDArray[np.int64]
    mid: NDArray[np.int64]

    def quotes(self) -> Quotes:
        nobody = np.full(len(self.ts), ABSENT, np.int64)
        return Quotes(self.ts * SECOND, self.mid, nobody, nobody)


def _polymarket_histories(folder: Path) -> Iterator[WorldMarket]:
    for path in sorted(folder.glob("polymarket_*_history.json.gz")):
        city = msgspec.json.decode(gzip.decompress(path.read_bytes()), type=_City)
        for day in city.markets:
            yield from _day_markets(city, day)


def _day_markets(city: _City, day: _Day) -> Iterator[WorldMarket]:
    ends_at = parse_time(day.end_date)
    group = hex_id("group", day.slug)
    stamps = [bucket.history[0].t for bucket in day.buckets if bucket.history]
    opened_at = min(stamps) * SECOND if stamps else ends_at - _LISTED_BEFORE
    event = WorldEvent(
        event_id=_number(f"event:{day.slug}"),
        slug=day.slug,
        title=day.title,
        opened_at=opened_at,
        ends_at=ends_at,
    )
    for bucket in day.buckets:
        series = _packed(bucket.history)
        key = MarketKey(Venue.POLYMARKET, _number(bucket.yes_token))
        market = Market(
            key=key,
            question=f"{day.title} {bucket.bucket}",
            instruments=(
                Instrument(key, 0, "Yes", bucket.yes_token),
                Instrument(key, 1, "No", token_of(bucket.yes_token, 1)),
            ),
            opened_at=opened_at,
            scheduled_close=ends_at,
            schedule_evidence=ScheduleEvidence.LISTED,
            ticks=MILL,
            min_order_size=5 * MICRO,
            slug=f"{day.slug}-{_slug(bucket.bucket)}",
            condition_id=hex_id("condition", bucket.yes_token),
            question_id=hex_id("question", bucket.yes_token),
            event_id=event.event_id,
            event_title=day.title,
            series=f"{city.city.lower()}-daily-weather",
            category="Weather",
            tags=("weather", "daily-temperature", city.city.lower()),
            group_key=group,
            exclusive_group=True,
            fee_terms=_weather_fees(ends_at),
            rules_text=f"{day.title} Station: {city.station}.",
            resolution_source=city.station,
        )
        yield WorldMarket(
            market=market,
            resolution=_day_resolution(city.city, day.date, bucket, key, ends_at),
            event=event,
            quotes=series.quotes,
            label=bucket.bucket,
        )


def _packed(points: list[_Point]) -> _Series:
    """The points, one per second at most and in order, as arrays."""
    by_second = {point.t: to_micro(point.p, "half_even") for point in points}
    ts = sorted(by_second)
    return _Series(np.array(ts, np.int64), np.array([by_second[t] for t in ts], np.int64))


def _day_resolution(city: str, day: str, bucket: _Bucket, key: MarketKey, ends_at: Nanos) -> Resolution:
    zone = ZoneInfo(_CITIES[city][0])
    following = date.fromisoformat(day) + timedelta(days=1)
    midnight = to_nanos(datetime(following.year, following.month, following.day, tzinfo=zone))
    last = max([ends_at, *(point.t * SECOND for point in bucket.history[-1:])])
    resolved_at = max(midnight + _UNRESOLVED_AFTER, last)
    yes = MICRO if bucket.resolved_yes else 0
    return Resolution(
        market_key=key,
        status=ResolutionStatus.RESOLVED,
        payouts=(yes, MICRO - yes),
        closed_at=max(midnight, last),
        resolved_at=resolved_at,
        known_at=resolved_at,
        source="recorded:polymarket_weather_2026",
    )


def _weather_fees(ends_at: Nanos) -> FeeTerms | None:
    return WEATHER_FEES if ends_at >= WEATHER_FEES_SINCE else None


def _slug(label: str) -> str:
    return "".join(c for c in label.lower() if c.isalnum() or c == "-")


def _number(name: str) -> str:
    """A stable Gamma-like id of twelve digits, far above the venue's own."""
    return str(10**11 + int(sha256(name.encode()).hexdigest(), 16) % (9 * 10**11))


# --- Polymarket: raw Gamma objects with CLOB quotes -----------------------------------------------------


class _Fetched(msgspec.Struct):
    fetched_at_utc: str


class _Price(msgspec.Struct):
    price: Decimal | None = None


class _Mid(msgspec.Struct):
    mid: Decimal | None = None


class _ClobQuote(msgspec.Struct):
    midpoint: _Mid | None = None
    price_buy: _Price | None = None
    price_sell: _Price | None = None


class _RawLine(msgspec.Struct):
    meta: _Fetched = msgspec.field(name="_meta")
    gamma_events: list[msgspec.Raw] = []
    clob_quotes: dict[str, _ClobQuote] = {}


class _Quote(NamedTuple):
    ts: Nanos
    mid: int
    bid: int
    ask: int


class _Quoted:
    """The quotes of one token, as recorded."""

    def __init__(self, rows: list[_Quote]) -> None:
        ordered = sorted({row.ts: row for row in rows}.values())
        self._table = np.array(ordered, np.int64).reshape(-1, 4)

    def quotes(self) -> Quotes:
        return Quotes(*(np.ascontiguousarray(self._table[:, column]) for column in range(4)))


def _raw_gamma(folder: Path) -> Iterator[WorldMarket]:
    """Each event as it was last seen, with every quote that was taken of it."""
    events: dict[str, tuple[Nanos, bytes]] = {}
    quotes: dict[str, list[_Quote]] = {}
    for path in sorted((folder / "raw_polymarket").glob("*.ndjson.gz")):
        with gzip.open(path) as lines:
            for line in lines:
                page = msgspec.json.decode(line, type=_RawLine)
                at = parse_time(page.meta.fetched_at_utc)
                for event in page.gamma_events:
                    head = msgspec.json.decode(event, type=_Head)
                    if head.id not in events or events[head.id][0] <= at:
                        events[head.id] = (at, bytes(event))
                for token, quote in page.clob_quotes.items():
                    row = _quote_of(at, quote)
                    if row is not None:
                        quotes.setdefault(token, []).append(row)
    for event_id in sorted(events, key=lambda name: (len(name), name)):
        seen_at, raw = events[event_id]
        yield from _raw_event(msgspec.json.decode(raw), seen_at, quotes)


class _Head(msgspec.Struct):
    id: str


def _quote_of(at: Nanos, quote: _ClobQuote) -> _Quote | None:
    """Mid, bid and ask; a price of 0 means that nobody quotes. ``None`` where the mid was not had."""
    if quote.midpoint is None or quote.midpoint.mid is None:
        return None
    sides = (quote.price_buy, quote.price_sell)
    bid, ask = (to_micro(s.price) if s and s.price else ABSENT for s in sides)
    return _Quote(at, to_micro(quote.midpoint.mid, "half_even"), bid, ask)


def _raw_event(raw: dict[str, Any], seen_at: Nanos, quotes: dict[str, list[_Quote]]) -> Iterator[WorldMarket]:
    children = raw.pop("markets")
    event = WorldEvent(
        event_id=raw["id"],
        slug=raw["slug"],
        title=raw["title"],
        opened_at=parse_time(raw["startDate"]),
        ends_at=parse_time(raw["endDate"]),
        raw=msgspec.json.encode(raw),
    )
    for child in children:
        tokens = msgspec.json.decode(child["clobTokenIds"], type=list[str])
        labels = msgspec.json.decode(child["outcomes"], type=list[str])
        key = MarketKey(Venue.POLYMARKET, child["id"])
        schedule = child.get("feeSchedule")
        step = to_micro(str(child["orderPriceMinTickSize"]))
        market = Market(
            key=key,
            question=child["question"],
            instruments=tuple(
                Instrument(key, n, label, token)
                for n, (label, token) in enumerate(zip(labels, tokens, strict=True))
            ),
            opened_at=parse_time(child["startDate"]),
            scheduled_close=parse_time(child["endDate"]),
            schedule_evidence=ScheduleEvidence.LISTED,
            ticks=(TickRange(0, MICRO, step),),
            min_order_size=to_micro(str(child["orderMinSize"])),
            slug=child["slug"],
            condition_id=child["conditionId"],
            question_id=child["questionID"],
            event_id=event.event_id,
            event_title=event.title,
            series=raw.get("seriesSlug"),
            category="Weather",
            tags=tuple(tag["slug"] for tag in raw.get("tags", ())),
            group_key=child.get("negRiskMarketID"),
            exclusive_group=bool(child.get("negRisk")),
            fee_terms=FeeTerms(
                Decimal(str(schedule["rate"])),
                schedule["exponent"],
                schedule["takerOnly"],
                Decimal(str(schedule["rebateRate"])),
            )
            if schedule
            else None,
            volume=to_micro(str(child.get("volumeNum", 0)), "floor"),
            rules_text=child.get("description"),
            resolution_source=child.get("resolutionSource"),
        )
        proposed = child.get("umaResolutionStatus") == "proposed"
        yield WorldMarket(
            market=market,
            resolution=Resolution(
                market_key=key,
                status=ResolutionStatus.PENDING if proposed else ResolutionStatus.OPEN,
                payouts=None,
                closed_at=None,
                resolved_at=None,
                known_at=seen_at,
                source="recorded:polymarket_weather_2026/raw_polymarket",
            ),
            event=event,
            quotes=_Quoted(quotes.get(tokens[0], [])).quotes,
            label=child.get("groupItemTitle", ""),
            raw=msgspec.json.encode(child),
            inactive=not child["active"],
        )


# --- Kalshi: KXHIGHNY, best bid and offer ---------------------------------------------------------------


def _high_ny(folder: Path, settled: Path) -> Iterator[WorldMarket]:
    highs = _nws_highs(settled / "nws_daily" / "KXHIGHNY_nws.csv.gz")
    ticks = lru_cache(maxsize=2)(_read_ticks)
    for path in sorted(folder.glob("market_data_KXHIGHNY-*.csv.gz")):
        yield from _high_event(path, highs, ticks)


def _nws_highs(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    text = gzip.decompress(path.read_bytes()).decode()
    return {r["date"]: float(r["nws_high"]) for r in csv.DictReader(StringIO(text)) if r["nws_high"]}


def _high_event(path: Path, highs: dict[str, float], ticks: Any) -> Iterator[WorldMarket]:
    event_ticker = path.name.removeprefix("market_data_").removesuffix(".csv.gz")
    code = event_ticker.partition("-")[2]
    day = datetime.strptime(code, "%y%b%d").replace(tzinfo=UTC)
    close = to_nanos(day) + 29 * HOUR - MINUTE
    opened = close - 39 * HOUR + MINUTE
    event = WorldEvent(
        event_id=event_ticker,
        slug=event_ticker,
        title=f"Highest temperature in NYC on {day:%b} {day.day}, {day.year}?",
        opened_at=opened,
        ends_at=close,
    )
    high = highs.get(f"{day:%Y-%m-%d}")
    for ticker, strike in strikes_of(_tickers(path)).items():
        key = MarketKey(Venue.KALSHI, ticker)
        question = f"{event.title} {_strike_text(strike)}"
        yield WorldMarket(
            market=Market(
                key=key,
                question=question,
                instruments=(Instrument(key, 0, "Yes"), Instrument(key, 1, "No")),
                opened_at=opened,
                scheduled_close=close,
                schedule_evidence=ScheduleEvidence.LISTED,
                ticks=CENT,
                min_order_size=10_000,
                event_id=event_ticker,
                event_title=event.title,
                series="KXHIGHNY",
                category="Climate and Weather",
                tags=("Daily temperature",),
                group_key=event_ticker,
                exclusive_group=True,
                rules_text=question,
                resolution_source="NWS Climatological Report (Daily), Central Park",
            ),
            resolution=_high_resolution(key, strike, high, close),
            event=event,
            quotes=partial(_ticks_of, ticks, path, ticker),
            label=_strike_text(strike),
            strike=strike,
            settled_value="" if high is None else f"{high:.2f}",
        )


def _tickers(path: Path) -> list[str]:
    """The market names in a file of ticks; all are within its first lines or it is read to its end."""
    with gzip.open(path, "rt") as lines:
        next(lines)
        return sorted({line.split(",", 2)[1] for line in lines})


def strikes_of(tickers: Iterable[str]) -> dict[str, Strike]:
    """What each market of an event asks. ``B32.5`` is 32 to 33 degrees; ``T`` is a tail, and only its place
    among the ranges says which: below them all it means less, above them all greater.
    """
    parsed = {ticker: ticker.rpartition("-")[2] for ticker in tickers}
    middles = [float(code[1:]) for code in parsed.values() if code[0] == "B"]
    found: dict[str, Strike] = {}
    for ticker, code in parsed.items():
        value = float(code[1:])
        if code[0] == "B":
            found[ticker] = Strike("between", value - 0.5, value + 0.5)
        elif value < min(middles):
            found[ticker] = Strike("less", None, value)
        else:
            found[ticker] = Strike("greater", value, None)
    return found


def strike_pays(strike: Strike, value: float) -> bool:
    """Whether YES is right when the figure is ``value``: ranges include both ends, tails exclude theirs."""
    if strike.kind == "between":
        assert strike.floor is not None
        assert strike.cap is not None
        return strike.floor <= value <= strike.cap
    if strike.cap is not None:
        return value < strike.cap
    assert strike.floor is not None
    return value > strike.floor


def _strike_text(strike: Strike) -> str:
    if strike.kind == "between":
        return f"{strike.floor:g}° to {strike.cap:g}°"
    return f"below {strike.cap:g}°" if strike.cap is not None else f"above {strike.floor:g}°"


def _high_resolution(key: MarketKey, strike: Strike, high: float | None, close: Nanos) -> Resolution:
    if high is None:
        return Resolution(
            market_key=key,
            status=ResolutionStatus.CLOSED,
            payouts=None,
            closed_at=close,
            resolved_at=None,
            known_at=close,
            source="recorded:kalshi_highny_bbo_2025; no NWS high is recorded for this day",
        )
    yes = MICRO if strike_pays(strike, high) else 0
    settled = close + 8 * HOUR + MINUTE
    return Resolution(
        market_key=key,
        status=ResolutionStatus.RESOLVED,
        payouts=(yes, MICRO - yes),
        closed_at=close,
        resolved_at=settled,
        known_at=settled,
        source="recorded:kalshi_weather_fcst_actual_2022_2026",
    )


def _read_ticks(path: Path) -> dict[str, Quotes]:
    """All quotes of an event by market; of quotes in one microsecond the last counts."""
    columns = ["timestamp", "market_ticker", "best_yes_bid", "best_no_bid"]
    table = pd.read_csv(path, usecols=columns, dtype={"best_yes_bid": "int64", "best_no_bid": "int64"})
    local = pd.to_datetime(table["timestamp"], format="ISO8601").dt.tz_localize(_PACIFIC)
    table["ts"] = local.dt.tz_convert("UTC").astype("datetime64[ns, UTC]").astype("int64")
    return {str(ticker): _top_of_book(rows) for ticker, rows in table.groupby("market_ticker")}


def _top_of_book(rows: pd.DataFrame) -> Quotes:
    last = rows.sort_values("ts", kind="stable").drop_duplicates("ts", keep="last")
    bid = last["best_yes_bid"].to_numpy(np.int64) * 10_000
    no_bid = last["best_no_bid"].to_numpy(np.int64) * 10_000
    return Quotes.of(
        last["ts"].to_numpy(np.int64),
        np.where((bid <= 0) | (bid >= MICRO), ABSENT, bid),
        np.where((no_bid <= 0) | (no_bid >= MICRO), ABSENT, MICRO - no_bid),
    )


def _ticks_of(ticks: Any, path: Path, ticker: str) -> Quotes:
    quotes: Quotes = ticks(path)[ticker]
    return quotes


# --- Kalshi: KXBTC15M, full depth -----------------------------------------------------------------------


class _SessionMarket(msgspec.Struct):
    close_time: str
    market_ticker: str
    strike: float
    result: str | None


class _Session(msgspec.Struct):
    session: str
    markets: dict[str, _SessionMarket]


class _FrameMsg(msgspec.Struct):
    market_ticker: str
    side: str = ""
    price_dollars: str = "0"
    delta_fp: str = "0"
    ts_ms: int = 0
    yes_dollars_fp: list[tuple[str, str]] = []
    no_dollars_fp: list[tuple[str, str]] = []


class _Frame(msgspec.Struct):
    recv_ns: int
    type: str
    msg: _FrameMsg


def _fifteen_minutes(folder: Path) -> Iterator[WorldMarket]:
    book = lru_cache(maxsize=2)(read_frames)
    quotes = lru_cache(maxsize=2)(touch_of)
    found: dict[str, tuple[Path, _SessionMarket]] = {}
    for path in sorted(folder.glob("*/session.json")):
        session = msgspec.json.decode(path.read_bytes(), type=_Session)
        for ticker, market in session.markets.items():
            found.setdefault(ticker, (path.parent / "ws_messages.jsonl.gz", market))
    for ticker in sorted(found):
        frames, market = found[ticker]
        yield _fifteen_minute(ticker, frames, market, book, quotes)


def _fifteen_minute(ticker: str, frames: Path, told: _SessionMarket, book: Any, quotes: Any) -> WorldMarket:
    key = MarketKey(Venue.KALSHI, ticker)
    close = parse_time(told.close_time)
    event_ticker = ticker.rpartition("-")[0]
    event = WorldEvent(
        event_id=event_ticker,
        slug=event_ticker,
        title="BTC price up in next 15 mins?",
        opened_at=close - 15 * MINUTE,
        ends_at=close,
    )
    label = f"Target price: ${told.strike:,.2f}"
    settled = close + 5 * MINUTE
    decided = told.result is not None
    yes = MICRO if told.result == "yes" else 0
    return WorldMarket(
        market=Market(
            key=key,
            question=event.title,
            instruments=(Instrument(key, 0, "Yes"), Instrument(key, 1, "No")),
            opened_at=event.opened_at,
            scheduled_close=close,
            schedule_evidence=ScheduleEvidence.LISTED,
            ticks=TAPERED,
            min_order_size=10_000,
            event_id=event_ticker,
            event_title=event.title,
            series="KXBTC15M",
            category="Crypto",
            tags=("15 Minute", "BTC"),
            rules_text=f"{event.title} {label}",
            resolution_source="CF Benchmarks BRTI",
        ),
        resolution=Resolution(
            market_key=key,
            status=ResolutionStatus.RESOLVED if decided else ResolutionStatus.CLOSED,
            payouts=(yes, MICRO - yes) if decided else None,
            closed_at=close,
            resolved_at=settled if decided else None,
            known_at=settled if decided else close,
            source="recorded:kalshi_btc15m_l2_2026",
        ),
        event=event,
        quotes=partial(quotes, frames, ticker),
        book_log=partial(book, frames, ticker),
        label=label,
        strike=Strike("greater_or_equal", told.strike, None),
    )


def read_frames(path: Path, ticker: str) -> BookLog:
    """The frames of one market as a log of absolute sizes.

    A snapshot carries no venue time, so it takes the recorder's; times are kept from running backwards, as
    the two clocks differ by a fraction of a second.
    """
    rows: list[tuple[int, int, bool, bool, int, int]] = []
    sizes: dict[tuple[bool, int], int] = {}
    wanted, decoder = ticker.encode(), msgspec.json.Decoder(_Frame)
    latest, seq = 0, 0
    with gzip.open(path) as lines:
        for line in lines:
            if wanted not in line or b'"type":"ticker"' in line:
                continue
            frame = decoder.decode(line)
            if frame.msg.market_ticker != ticker:
                continue
            seq += 1
            snapshot = frame.type == "orderbook_snapshot"
            latest = max(latest, frame.recv_ns if snapshot else frame.msg.ts_ms * 1_000_000)
            if snapshot:
                rows.append((latest, seq, True, False, 0, 0))
                sizes = _snapshot_sizes(frame.msg)
                rows.extend((latest, seq, False, *level, size) for level, size in sorted(sizes.items()))
            else:
                level = _level(frame.msg.side == "no", frame.msg.price_dollars)
                sizes[level] = sizes.get(level, 0) + to_micro(frame.msg.delta_fp)
                rows.append((latest, seq, False, *level, sizes[level]))
    columns = np.array(rows, np.int64).reshape(-1, 6).T
    ts, seqs, reset, is_ask, price, size = (np.ascontiguousarray(column) for column in columns)
    return BookLog(ts, seqs, reset.astype(np.bool_), is_ask.astype(np.bool_), price, size)


def _snapshot_sizes(msg: _FrameMsg) -> dict[tuple[bool, int], int]:
    sides = ((False, msg.yes_dollars_fp), (True, msg.no_dollars_fp))
    return {_level(no, price): to_micro(size) for no, levels in sides for price, size in levels}


def _level(no: bool, price: str) -> tuple[bool, int]:
    """A bid for NO at q is an offer of YES at 1 - q."""
    return no, MICRO - to_micro(price) if no else to_micro(price)


def touch_of(path: Path, ticker: str) -> Quotes:
    """Best bid and offer whenever one of them changes, from the full book."""
    log = read_frames(path, ticker)
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    touches: dict[int, tuple[int, int]] = {}
    shown, best = (ABSENT, ABSENT), (ABSENT, ABSENT)
    for row in range(len(log.ts)):
        if log.reset[row]:
            bids, asks = {}, {}
            continue
        side = asks if log.is_ask[row] else bids
        price, size = int(log.price[row]), int(log.size[row])
        if size:
            side[price] = size
        else:
            side.pop(price, None)
        if row + 1 < len(log.ts) and log.seq[row + 1] == log.seq[row]:
            continue
        best = (max(bids, default=ABSENT), min(asks, default=ABSENT))
        if best != shown:
            shown = best
            touches[int(log.ts[row])] = best
    table = np.array([(ts, *touch) for ts, touch in touches.items()], np.int64).reshape(-1, 3)
    return Quotes.of(*(np.ascontiguousarray(table[:, column]) for column in range(3)))
