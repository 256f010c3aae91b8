"""What the generated world holds: events, their markets, when they live and how they end."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from math import inf
from typing import Final

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND, Nanos, parse_time, to_datetime
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import FeeTerms, TickRange
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.sandbox.paths import Interval, Payoff, Share, Tie
from pm_pipeline.sources.sandbox.world import Strike

CENT: Final = (TickRange(0, MICRO, 10_000),)
MILL: Final = (TickRange(0, MICRO, 1_000),)
TAPERED: Final = (
    TickRange(0, 100_000, 1_000),
    TickRange(100_000, 900_000, 10_000),
    TickRange(900_000, MICRO, 1_000),
)
"""Tenths of a cent near 0 and 1, cents between (Kalshi's 15-minute crypto markets)."""

WEATHER_FEES: Final = FeeTerms(Decimal("0.05"), 1, True, Decimal("0.25"))
SPORTS_FEES: Final = FeeTerms(Decimal("0.03"), 1, True, Decimal("0.25"))
POLITICS_FEES: Final = FeeTerms(Decimal("0.04"), 1, True, Decimal("0.25"))
CRYPTO_FEES: Final = FeeTerms(Decimal("0.07"), 1, True, Decimal("0.20"))


class Ending(StrEnum):
    """How the venue deals with the outcome."""

    NORMAL = "normal"
    DISPUTED = "disputed"
    VOID = "void"
    LEFT_CLOSED = "left_closed"


@dataclass(frozen=True, slots=True)
class MarketPlan:
    """One market of an event: ``suffix`` completes its slug or ticker."""

    suffix: str
    question: str
    label: str
    payoff: Payoff
    strike: Strike | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPlan:
    """One event. ``mean`` and ``sd`` describe the hidden figure as known at ``opened_at``.

    ``scheduled_close`` is announced, ``closes_at`` is when trading ends, ``decided_at`` when the figure is
    fully known, ``resolved_at`` when the money moves. ``wobble`` is noise of the mid in half-spreads and
    stays below one unless the event is meant to be mispriced. ``trades_per_hour`` is for each market.
    """

    venue: Venue
    name: str
    title: str
    series: str
    category: str
    tags: tuple[str, ...]
    opened_at: Nanos
    scheduled_close: Nanos
    decided_at: Nanos
    closes_at: Nanos
    resolved_at: Nanos
    mean: float
    sd: float
    markets: tuple[MarketPlan, ...]
    ticks: tuple[TickRange, ...]
    fees: FeeTerms | None = None
    exclusive: bool = False
    ending: Ending = Ending.NORMAL
    step: Nanos = MINUTE
    trades_per_hour: float = 4.0
    depth: int = 400
    outcomes: tuple[str, str] = ("Yes", "No")
    placeholder: bool = False
    wobble: float = 0.6


_CITIES: Final = {"nyc": ("NYC", "LaGuardia Airport"), "london": ("London", "London City Airport")}


def bucket_event(
    city: str, day: str, middle: int, *, sd: float = 3.0, placeholder: bool = False
) -> EventPlan:
    """A Polymarket neg-risk event: seven ranges of the day's highest temperature, exactly one pays.

    As on the venue, ``endDate`` is noon UTC of the day, and trading goes on into the next night. With a
    ``placeholder``, which never trades, an outcome is kept free, as the venue does for names yet unknown.
    """
    noon = parse_time(day) + 12 * HOUR
    date = to_datetime(noon)
    shown, station = _CITIES[city]
    when = f"{date:%B} {date.day}"
    low, high = middle - 5, middle + 5
    ranges = [(f"{low - 1}°F or below", f"{low - 1}forbelow", -inf, low - 0.5)]
    ranges += [(f"{f}-{f + 1}°F", f"{f}-{f + 1}f", f - 0.5, f + 1.5) for f in range(low, high, 2)]
    ranges += [(f"{high}°F or higher", f"{high}forhigher", high - 0.5, inf)]
    return EventPlan(
        venue=Venue.POLYMARKET,
        name=f"highest-temperature-in-{city}-on-{date:%B}-{date.day}-{date.year}".lower(),
        title=f"Highest temperature in {shown} on {when}?",
        series=f"{city}-daily-weather",
        category="Weather",
        tags=("weather", "daily-temperature", city),
        opened_at=noon - 2 * DAY,
        scheduled_close=noon,
        decided_at=noon + 11 * HOUR,
        closes_at=noon + 14 * HOUR,
        resolved_at=noon + 21 * HOUR,
        mean=float(middle),
        sd=sd,
        markets=tuple(
            MarketPlan(
                slug,
                f"Will the highest temperature at {station} be {label} on {when}?",
                label,
                Interval(bottom, top),
            )
            for label, slug, bottom, top in ranges
        ),
        ticks=MILL,
        fees=WEATHER_FEES,
        exclusive=True,
        placeholder=placeholder,
    )


def question_event(
    name: str,
    question: str,
    *,
    opened: str,
    closed: str,
    category: str,
    fees: FeeTerms | None,
    chance: float = 0.0,
    ending: Ending = Ending.NORMAL,
    payoff: Payoff | None = None,
    outcomes: tuple[str, str] = ("Yes", "No"),
    wobble: float = 0.6,
    trades_per_hour: float = 4.0,
) -> EventPlan:
    """A Polymarket event of one binary market. ``chance`` is how likely YES is, as a normal quantile."""
    close = parse_time(closed)
    delay = 6 * DAY if ending is Ending.DISPUTED else 2 * HOUR
    return EventPlan(
        venue=Venue.POLYMARKET,
        name=name,
        title=question,
        series=category.lower(),
        category=category,
        tags=(category.lower(),),
        opened_at=parse_time(opened),
        scheduled_close=close,
        decided_at=close,
        closes_at=close + 30 * MINUTE,
        resolved_at=close + 30 * MINUTE + delay,
        mean=chance,
        sd=1.0,
        markets=(MarketPlan("", question, "", payoff or Interval(0.0, inf)),),
        ticks=CENT,
        fees=fees,
        ending=ending,
        outcomes=outcomes,
        wobble=wobble,
        trades_per_hour=trades_per_hour,
    )


def high_event(day: str, middle: int) -> EventPlan:
    """A Kalshi KXHIGHNY event: two tails and four ranges of two degrees, settled by the climate report."""
    midnight = parse_time(day)
    date = to_datetime(midnight)
    ticker = f"KXHIGHNY-{date:%y}{date:%b}{date:%d}".upper()
    low, high = middle - 4, middle + 3
    when = f"{date:%b} {date.day}, {date.year}"
    markets = [
        MarketPlan(
            f"T{low}",
            f"Will the high temp in NYC be <{low}° on {when}?",
            f"{low - 1}° or below",
            Interval(-inf, low - 0.5),
            Strike("less", None, low),
        )
    ]
    markets += [
        MarketPlan(
            f"B{f}.5",
            f"Will the high temp in NYC be {f}-{f + 1}° on {when}?",
            f"{f}° to {f + 1}°",
            Interval(f - 0.5, f + 1.5),
            Strike("between", f, f + 1),
        )
        for f in range(low, high, 2)
    ]
    markets.append(
        MarketPlan(
            f"T{high}",
            f"Will the high temp in NYC be >{high}° on {when}?",
            f"{high + 1}° or above",
            Interval(high + 0.5, inf),
            Strike("greater", high, None),
        )
    )
    close = midnight + DAY + 5 * HOUR - MINUTE
    return EventPlan(
        venue=Venue.KALSHI,
        name=ticker,
        title=f"Highest temperature in NYC on {when}?",
        series="KXHIGHNY",
        category="Climate and Weather",
        tags=("Daily temperature",),
        opened_at=midnight - 10 * HOUR,
        scheduled_close=close,
        decided_at=midnight + 22 * HOUR,
        closes_at=close,
        resolved_at=close + 7 * HOUR,
        mean=float(middle),
        sd=2.5,
        markets=tuple(markets),
        ticks=CENT,
        exclusive=True,
    )


def fifteen_minute_event(close: str, spot: float) -> EventPlan:
    """A Kalshi 15-minute market on bitcoin: tapered ticks, and a book that moves by the second."""
    end = parse_time(close)
    # Kalshi names these by the close in New York time, four hours behind UTC in summer.
    local = to_datetime(end - 4 * HOUR)
    ticker = f"KXBTC15M-{local:%y%b%d%H%M}".upper()
    return EventPlan(
        venue=Venue.KALSHI,
        name=ticker,
        title="BTC price up in next 15 mins?",
        series="KXBTC15M",
        category="Crypto",
        tags=("15 Minute", "BTC"),
        opened_at=end - 15 * MINUTE,
        scheduled_close=end,
        decided_at=end,
        closes_at=end,
        resolved_at=end + 5 * MINUTE,
        mean=spot,
        sd=spot * 0.0015,
        markets=(
            MarketPlan(
                f"{local:%M}",
                "BTC price up in next 15 mins?",
                f"Target price: ${spot:,.2f}",
                Interval(spot, inf),
                Strike("greater_or_equal", spot, None),
            ),
        ),
        ticks=TAPERED,
        step=SECOND,
        trades_per_hour=720.0,
        depth=900,
    )


def figure_event(
    ticker: str,
    suffix: str,
    question: str,
    *,
    series: str,
    category: str,
    opened: str,
    closed: str,
    payoff: Payoff | None = None,
    ending: Ending = Ending.NORMAL,
) -> EventPlan:
    """A Kalshi event of one market on an economic or other figure."""
    close = parse_time(closed)
    return EventPlan(
        venue=Venue.KALSHI,
        name=ticker,
        title=question,
        series=series,
        category=category,
        tags=(),
        opened_at=parse_time(opened),
        scheduled_close=close,
        decided_at=close,
        closes_at=close,
        resolved_at=close + 2 * HOUR,
        mean=0.1,
        sd=1.0,
        markets=(
            MarketPlan(
                suffix, question, question, payoff or Interval(0.0, inf), Strike("greater", 0.0, None)
            ),
        ),
        ticks=CENT,
        ending=ending,
    )


def default_plans() -> tuple[EventPlan, ...]:
    """The events of the default world: 24 Polymarket markets that trade and 17 on Kalshi."""
    return (
        bucket_event("nyc", "2026-06-26", 84),
        bucket_event("london", "2026-06-30", 75, placeholder=True),
        question_event(
            "fed-cuts-rates-in-june-2026",
            "Will the Fed cut rates in June 2026?",
            opened="2026-06-10T14:00:00Z",
            closed="2026-06-17T18:00:00Z",
            category="Economics",
            fees=WEATHER_FEES,
            chance=-0.5,
        ),
        question_event(
            "btc-above-80k-on-june-20-2026",
            "Will bitcoin be above $80,000 on June 20?",
            opened="2026-06-13T16:00:00Z",
            closed="2026-06-20T16:00:00Z",
            category="Crypto",
            fees=CRYPTO_FEES,
        ),
        question_event(
            "senate-passes-budget-by-june-24-2026",
            "Will the Senate pass the budget by June 24?",
            opened="2026-06-14T12:00:00Z",
            closed="2026-06-24T12:00:00Z",
            category="Politics",
            fees=POLITICS_FEES,
            ending=Ending.LEFT_CLOSED,
        ),
        question_event(
            "mayor-resigns-by-june-18-2026",
            "Will the mayor resign by June 18?",
            opened="2026-06-11T12:00:00Z",
            closed="2026-06-18T12:00:00Z",
            category="Politics",
            fees=POLITICS_FEES,
            chance=-0.8,
            ending=Ending.DISPUTED,
        ),
        question_event(
            "tennis-final-2026-06-21",
            "Tennis final: Alcaraz vs. Sinner",
            opened="2026-06-19T12:00:00Z",
            closed="2026-06-21T17:00:00Z",
            category="Sports",
            fees=SPORTS_FEES,
            payoff=Tie(0.0, 0.25),
            outcomes=("Alcaraz", "Sinner"),
        ),
        question_event(
            "mlb-nyy-bos-2026-06-25",
            "New York Yankees vs. Boston Red Sox",
            opened="2026-06-24T12:00:00Z",
            closed="2026-06-25T23:30:00Z",
            category="Sports",
            fees=SPORTS_FEES,
            chance=0.2,
            outcomes=("New York Yankees", "Boston Red Sox"),
            trades_per_hour=20.0,
        ),
        question_event(
            "ceasefire-by-june-23-2026",
            "Will there be a ceasefire by June 23?",
            opened="2026-06-16T12:00:00Z",
            closed="2026-06-23T12:00:00Z",
            category="Geopolitics",
            fees=None,
            chance=-0.3,
        ),
        question_event(
            "album-released-by-june-12-2026",
            "Will the album be released by June 12?",
            opened="2026-06-05T12:00:00Z",
            closed="2026-06-12T12:00:00Z",
            category="Culture",
            fees=WEATHER_FEES,
            chance=0.6,
        ),
        question_event(
            "eth-above-4k-on-july-3-2026",
            "Will ether be above $4,000 on July 3?",
            opened="2026-06-26T16:00:00Z",
            closed="2026-07-03T16:00:00Z",
            category="Crypto",
            fees=CRYPTO_FEES,
        ),
        question_event(
            "prime-minister-out-by-july-10-2026",
            "Will the prime minister be out by July 10?",
            opened="2026-06-27T12:00:00Z",
            closed="2026-07-10T12:00:00Z",
            category="Politics",
            fees=POLITICS_FEES,
            chance=-1.2,
        ),
        high_event("2026-06-26", 84),
        high_event("2026-06-29", 88),
        fifteen_minute_event("2026-06-28T16:15:00Z", 78_350.5),
        fifteen_minute_event("2026-06-28T16:30:00Z", 78_412.25),
        figure_event(
            "KXALBUM-26JUN20",
            "T70",
            "Will the album score above 70?",
            series="KXALBUM",
            category="Entertainment",
            opened="2026-06-16T14:00:00Z",
            closed="2026-06-20T14:00:00Z",
            ending=Ending.VOID,
        ),
        figure_event(
            "KXSHARE-26JUN22",
            "S",
            "What share of the vote will the measure get?",
            series="KXSHARE",
            category="Elections",
            opened="2026-06-19T14:00:00Z",
            closed="2026-06-22T14:00:00Z",
            payoff=Share(0.0, 1.0),
        ),
        figure_event(
            "KXPAYROLLS-26APR03",
            "T100000",
            "Will more than 100,000 jobs be added in March?",
            series="KXPAYROLLS",
            category="Economics",
            opened="2026-03-28T14:00:00Z",
            closed="2026-04-03T12:29:00Z",
        ),
    )


def mispriced_event() -> EventPlan:
    """A demonstration event, not part of the default world: its mid strays up to four half-spreads from the
    truth and comes back, so that a strategy which trades against the stray earns. Ask for it by name.
    """
    return question_event(
        "mispriced-demonstration",
        "Is this demonstration market mispriced?",
        opened="2026-06-01T00:00:00Z",
        closed="2026-06-14T00:00:00Z",
        category="Demonstration",
        fees=None,
        wobble=4.0,
    )
