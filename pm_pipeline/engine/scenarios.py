"""How an order meets the market: latency, spread and depth where none is recorded, and the three scenarios.

A run is reported as the band from pessimistic to optimistic; the scenarios differ only by the rows of
:data:`SCENARIOS`.
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from pm_pipeline.engine.money.fees import FeeModelName
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import FOREVER, HOUR, MINUTE, SECOND, Nanos
from pm_pipeline.markets.units import MICRO, Micro

TRUTHFUL_LATENCY: Final[Nanos] = 750_000_000
"""The floor of an honest latency of our own: decide, sign, send, be matched, from outside the data centre.

A run that assumes less is stamped :data:`OPTIMISTIC_STAMP`. 0x-pm-backtest draws its line at the same place.
"""

OPTIMISTIC_STAMP: Final = "OPTIMISTIC"


class Scenario(StrEnum):
    """The three readings of one run."""

    PESSIMISTIC = "pessimistic"
    BASE = "base"
    OPTIMISTIC = "optimistic"


class QuoteRule(StrEnum):
    """Which quote an order trades at where quotes are points in time and not a whole book.

    ``LAST``: the last quote at arrival if it is fresh, else the next one to come.
    ``WORSE_OF_NEIGHBOURS``: the same moment, but at the worse of that quote and the one after it, because the
    price may have moved right after the last quote was taken.
    """

    LAST = "last"
    WORSE_OF_NEIGHBOURS = "worse_of_neighbours"


class LiquidityModel(StrEnum):
    """What may be traded where no book was recorded; the rules are in ``docs/liquidity.md``.

    ``MEASURED``: half-spread and size of the recorded books, never better than what is declared.
    ``CONSTANT``: what is declared. ``PRINTS``: a share of what others traded, as they traded it.
    """

    MEASURED = "measured"
    CONSTANT = "constant"
    PRINTS = "prints"


class Mark(StrEnum):
    """What an open position is valued at: what it could be sold for, or half-way."""

    BID = "bid"
    MID = "mid"


@dataclass(frozen=True, slots=True)
class ScenarioRow:
    """One scenario: factors on the execution settings, and the rule for quotes."""

    latency: Fraction
    latency_at_most: Nanos
    half_spread: Fraction
    depth: Fraction
    quotes: QuoteRule


_NOT_NEGATIVE: Final = (
    "latency",
    "cancel_latency",
    "amend_latency",
    "latency_sigma",
    "impact",
    "half_spread",
    "max_quote_age",
    "max_wait",
)

SCENARIOS: Final[dict[Scenario, ScenarioRow]] = {
    Scenario.PESSIMISTIC: ScenarioRow(
        Fraction(5), FOREVER, Fraction(2), Fraction(1, 2), QuoteRule.WORSE_OF_NEIGHBOURS
    ),
    Scenario.BASE: ScenarioRow(Fraction(1), FOREVER, Fraction(1), Fraction(1), QuoteRule.LAST),
    Scenario.OPTIMISTIC: ScenarioRow(
        Fraction(1), TRUTHFUL_LATENCY, Fraction(1, 2), Fraction(1), QuoteRule.LAST
    ),
}
"""latency x, latency at most, half-spread x, share of the depth we get, quote rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionConfig:
    """What is assumed about execution; everything a recorded book does not say.

    ``latency`` is ours, from decision to the venue's door; the venue's own dated delay comes on top. Taking
    an order back or changing it takes as long, unless ``cancel_latency`` or ``amend_latency`` say otherwise.
    With ``latency_sigma`` they are medians of a log-normal, drawn by seed and order. ``impact`` is how far
    taking moves the price of a recorded book against our next orders, in micro-dollars per square root of a
    contract, and ``impact_half_life`` how long half of that lasts.
    ``half_spread`` (at least one tick) is added to a mid, and ``depth_usd`` dollars are taken to rest at each
    quote that came without a size. A quote older than ``max_quote_age`` is not traded on; an entry waits up
    to ``max_wait`` for a fresh one, an exit until trading ends. ``liquidity`` is the model of what rests
    there, ``volume_share`` our part of a print. ``lot`` is the
    step of order sizes where the venue's own is not coarser.
    ``fees`` names a fee model of :mod:`pm_pipeline.engine.money.fees`.
    """

    latency: Nanos = SECOND
    cancel_latency: Nanos | None = None
    amend_latency: Nanos | None = None
    latency_sigma: float = 0.0
    impact: float = 0.0
    impact_half_life: Nanos = MINUTE
    half_spread: Micro = 10_000
    depth_usd: Micro = 250 * MICRO
    liquidity: LiquidityModel = LiquidityModel.MEASURED
    volume_share: Fraction = Fraction(1, 10)
    max_quote_age: Nanos = 15 * MINUTE
    max_wait: Nanos = HOUR
    lot: Micro = 10_000
    fees: FeeModelName = "venue"
    mark: Mark = Mark.BID

    def __post_init__(self) -> None:
        for name in _NOT_NEGATIVE:
            if (getattr(self, name) or 0) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it cannot be negative")
        for name in ("depth_usd", "lot"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be positive")
        if not 0 < self.volume_share <= 1:
            raise UsageError(f"volume_share is {self.volume_share}; it lies above 0, up to 1")

    def under(self, scenario: Scenario) -> "Terms":
        """The settings as this scenario reads them."""
        row = SCENARIOS[scenario]

        def scaled(latency: Nanos | None) -> Nanos:
            return min(int((self.latency if latency is None else latency) * row.latency), row.latency_at_most)

        latency = scaled(self.latency)
        return Terms(
            self,
            scenario,
            latency,
            row.half_spread,
            row.depth,
            row.quotes,
            scaled(self.cancel_latency),
            scaled(self.amend_latency),
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """Execution settings under one scenario."""

    config: ExecutionConfig
    scenario: Scenario
    latency: Nanos
    half_spread: Fraction
    depth: Fraction
    quotes: QuoteRule
    cancel_latency: Nanos
    amend_latency: Nanos

    @property
    def stamp(self) -> str:
        """``OPTIMISTIC`` where the latency lies below the truthful floor, else empty."""
        return OPTIMISTIC_STAMP if self.latency < TRUTHFUL_LATENCY else ""
