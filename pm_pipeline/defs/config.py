"""What a run can be told: strategies, execution, bankroll, sizing, risk. Amounts are whole dollars."""

from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final, TypeVar, cast, get_args

import dagster as dg
from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_core import PydanticUndefined, to_jsonable_python

from pm_pipeline.config import Settings, explain
from pm_pipeline.engine.money.fees import FeeModelName
from pm_pipeline.engine.risk import Returns, RiskLimits
from pm_pipeline.engine.scenarios import ExecutionConfig, LiquidityModel, Mark
from pm_pipeline.engine.simulation.state import RunConfig
from pm_pipeline.engine.sizing import Sizing, SizingMode
from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.markets.units import MICRO, UnitError, to_micro
from pm_pipeline.universe import Universe, universe_of

_Mode = TypeVar("_Mode", bound=StrEnum)

_MILLISECOND: Final = SECOND // 1000


class Strict(dg.Config, extra="forbid"):
    """Configuration in which a key that does not exist is an error."""


class Execution(Strict):
    """What is assumed about execution where no book was recorded, and about our own latency."""

    latency_ms: int = Field(default=1000, ge=0, description="from decision to the venue's door, milliseconds")
    cancel_latency_ms: int | None = Field(
        default=None, ge=0, description="the same for taking an order back; not set: as latency_ms"
    )
    amend_latency_ms: int | None = Field(
        default=None, ge=0, description="the same for changing an order; not set: as latency_ms"
    )
    latency_sigma: float = Field(
        default=0.0, ge=0, le=3, description="spread of the logarithm of latencies around these medians"
    )
    impact_cents: float = Field(
        default=0.0,
        ge=0,
        description="how far taking one contract of a recorded book moves the price of our next, cents; n "
        "contracts: times the root of n",
    )
    impact_half_life_s: int = Field(default=60, gt=0, description="how long half of that lasts; seconds")
    liquidity: str = Field(
        default="measured",
        description="what trades where no book was recorded: measured, constant or prints; docs/liquidity.md",
    )
    half_spread: str = Field(
        default="0.01", description="at least added to a mid that is bought, dollars per contract"
    )
    depth_usd: int = Field(
        default=250, gt=0, description="dollars that rest at most at a quote without a size"
    )
    volume_share_percent: float = Field(
        default=10.0, gt=0, le=100, description="our share of an execution of others that we trade on"
    )
    max_quote_age_s: int = Field(default=900, ge=0, description="an older quote is not traded on; seconds")
    max_wait_s: int = Field(
        default=3600, ge=0, description="how long an entry waits for a fresh quote; seconds"
    )
    fees: str = Field(default="venue", description="venue, flat_2pct, flat_1pct or zero")
    mark: str = Field(
        default="bid", description="value of open positions: bid (what they would bring) or mid"
    )

    def to_engine(self) -> ExecutionConfig:
        """The same for the engine. Raises :class:`UsageError` for a value out of range."""
        if self.mark not in {*Mark}:
            raise UsageError(f"mark is {self.mark!r}; it is bid or mid")
        try:
            half_spread = to_micro(self.half_spread)
        except UnitError as error:
            raise UsageError(f"half_spread: {error}") from error
        return ExecutionConfig(
            latency=self.latency_ms * _MILLISECOND,
            cancel_latency=_milliseconds(self.cancel_latency_ms),
            amend_latency=_milliseconds(self.amend_latency_ms),
            latency_sigma=self.latency_sigma,
            impact=self.impact_cents * 10_000,
            impact_half_life=self.impact_half_life_s * SECOND,
            half_spread=half_spread,
            depth_usd=self.depth_usd * MICRO,
            liquidity=_named(LiquidityModel, self.liquidity, "liquidity model"),
            volume_share=Fraction(_share(self.volume_share_percent)),
            max_quote_age=self.max_quote_age_s * SECOND,
            max_wait=self.max_wait_s * SECOND,
            fees=_fee_model(self.fees),
            mark=Mark(self.mark),
        )


def _milliseconds(latency: int | None) -> int | None:
    return None if latency is None else latency * _MILLISECOND


def _fee_model(name: str) -> FeeModelName:
    for known in get_args(FeeModelName):
        if name == known:
            return cast(FeeModelName, name)
    raise UsageError(f"there is no fee model {name!r}{did_you_mean(name, get_args(FeeModelName))}")


class Bankroll(Strict):
    """Money: what there is, and what one entry may use."""

    bankroll_usd: int = Field(default=10_000, gt=0, description="dollars at the start of the portfolio")
    stake_usd: int = Field(default=100, gt=0, description="dollars per entry, fees included")
    max_stake_percent: int = Field(
        default=10, gt=0, le=100, description="at most this share of equity per entry"
    )
    seed: int = Field(default=7, ge=0, description="seed of everything random")

    def to_engine(self, execution: Execution, *, uses_schedule: bool) -> RunConfig:
        """The engine's run configuration."""
        return RunConfig(
            bankroll=self.bankroll_usd * MICRO,
            stake=self.stake_usd * MICRO,
            max_stake_fraction=Decimal(self.max_stake_percent) / 100,
            execution=execution.to_engine(),
            uses_schedule=uses_schedule,
            seed=self.seed,
        )


class SizingTerms(Strict):
    """How an entry is sized that names no stake of its own; see docs/risk.md."""

    mode: str = Field(default="fixed", description="fixed, fraction, kelly or drawdown_kelly")
    fraction_percent: float = Field(default=2.0, description="mode fraction: share of equity per entry")
    kelly_percent: float = Field(default=25.0, description="mode kelly: share of full Kelly")
    drawdown_to_percent: float = Field(
        default=85.0, description="mode drawdown_kelly: the share of its start that the bankroll shall keep"
    )
    drawdown_chance_percent: float = Field(
        default=10.0, description="mode drawdown_kelly: how likely it may ever fall below that"
    )
    edge_spread: float | None = Field(
        default=None, description="spread of true edges, to shrink beliefs with a standard error by"
    )
    least_percent: float = Field(default=0.0, description="an entry below this share of equity is not made")

    def to_engine(self) -> Sizing:
        """The same for the engine. Raises :class:`UsageError` for a value out of range."""
        return Sizing(
            mode=_named(SizingMode, self.mode, "way of sizing"),
            fraction=_share(self.fraction_percent),
            kelly_share=_share(self.kelly_percent),
            drawdown_to=_share(self.drawdown_to_percent),
            drawdown_chance=_share(self.drawdown_chance_percent),
            edge_spread=None if self.edge_spread is None else Decimal(str(self.edge_spread)),
            least=_share(self.least_percent),
        )


class RiskTerms(Strict):
    """What the bankroll may risk; a limit that is not set is off. See docs/risk.md.

    The name of a field is that of :class:`RiskLimits` and its unit: ``_percent`` or ``_s`` (seconds).
    """

    position_cap_percent: float | None = Field(default=None, description="at risk in one outcome, of equity")
    market_cap_percent: float | None = Field(default=None, description="at risk in one market, of equity")
    group_cap_percent: float | None = Field(
        default=None, description="at risk in markets that settle together, of equity"
    )
    strategy_cap_percent: float | None = Field(default=None, description="at risk by one strategy, of equity")
    venue_cap_percent: float | None = Field(default=None, description="at risk at one venue, of equity")
    gross_cap_percent: float | None = Field(default=None, description="at risk in all, of equity")
    drawdown_percent: float | None = Field(
        default=None, description="loss from the peak at which only exits pass"
    )
    daily_loss_percent: float | None = Field(
        default=None, description="loss since the last equity of the day before at which only exits pass"
    )
    day_zone: str = Field(default="UTC", description="time zone in which a day begins")
    max_positions: int | None = Field(default=None, description="markets held or being entered")
    max_volatility: float | None = Field(
        default=None, description="standard deviation of daily changes, not annualised"
    )
    volatility_window: int = Field(default=20, description="daily changes that the deviation is taken over")
    returns: str = Field(default="logit", description="daily changes are: logit or simple")
    max_correlation: float | None = Field(
        default=None, description="held outcomes that correlate by more count into the group"
    )
    min_common_days: int = Field(default=60, description="common daily changes needed to correlate")
    losing_streak: int | None = Field(default=None, description="losing trips in a row until only exits pass")
    max_data_age_s: int | None = Field(default=None, description="oldest price to enter on, seconds")
    refuse_crossed: bool = Field(default=False, description="no entry while the bid is at or above the offer")
    max_price_jump: float | None = Field(
        default=None, description="move since the last daily close, in deviations of daily changes"
    )
    max_slippage_bps: int | None = Field(
        default=None, description="an entry worse than expected by more lets only exits pass, basis points"
    )
    participation_percent: float | None = Field(
        default=None, description="share of the contracts on offer near the best price"
    )
    depth_ticks: int = Field(default=0, description="how many ticks from the best price are near")
    volume_share_percent: float | None = Field(
        default=None, description="share of the contracts traded lately"
    )
    volume_window_s: int = Field(default=86_400, description="how far back lately reaches, seconds")
    min_time_to_close_s: int | None = Field(
        default=None, description="no entry nearer to the scheduled close, seconds"
    )
    cooldown_s: int | None = Field(
        default=None, description="how long a stop holds, seconds; not set: for good"
    )
    revalue_every_s: int = Field(default=0, description="how old the equity of a decision may be, seconds")

    def to_engine(self) -> RiskLimits:
        """The same for the engine. Raises :class:`UsageError` for a value out of range."""
        limits: dict[str, Any] = {}
        for key, value in self.model_dump().items():
            name, _, unit = key.rpartition("_")
            if unit == "percent":
                limits[name] = None if value is None else _share(value)
            elif unit == "s":
                limits[name] = None if value is None else value * SECOND
            else:
                limits[key] = value
        limits["returns"] = _named(Returns, self.returns, "kind of returns")
        return RiskLimits(**limits)


def _share(percent: float) -> Decimal:
    return Decimal(str(percent)) / 100


def _named(modes: type[_Mode], name: str, what: str) -> _Mode:
    if name not in {*modes}:
        raise UsageError(f"there is no {what} {name!r}{did_you_mean(name, modes)}")
    return modes(name)


class Terms(Strict):
    """How orders are executed, what they may cost, and what may be risked."""

    execution: Execution = Field(default_factory=lambda: Execution())
    bankroll: Bankroll = Field(default_factory=lambda: Bankroll())
    sizing: SizingTerms = Field(default_factory=lambda: SizingTerms())
    risk: RiskTerms = Field(default_factory=lambda: RiskTerms())

    def to_engine(self, *, uses_schedule: bool) -> RunConfig:
        """The engine's run configuration. Raises :class:`UsageError` for a value out of range."""
        run = self.bankroll.to_engine(self.execution, uses_schedule=uses_schedule)
        return replace(run, sizing=self.sizing.to_engine(), risk=self.risk.to_engine())


TERMS: Final = tuple(Terms.model_fields)
"""The sections of a configuration that say on which terms a run trades."""


class Markets(Strict):
    """Which markets."""

    universe: list[dict[str, Any]] = Field(
        default_factory=list, description="market filters as in universe.yaml; empty: the configured universe"
    )

    def chosen(self, settings: Settings) -> Universe:
        """The filters named here, else the configured universe."""
        return (
            Universe.parse({"markets": self.universe}, "universe") if self.universe else universe_of(settings)
        )


class PortfolioConfig(Terms, Markets):
    """One bankroll over the markets of a universe."""


class BacktestConfig(Terms, Markets):
    """One backtest: which markets, which strategies with which parameters, how executed, with what money."""

    strategies: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="name: parameters; empty: every registered strategy, as it comes"
    )

    @classmethod
    def parse(cls, content: object, where: str) -> dict[str, Any]:
        """Validate plain data and return it complete. Raises :class:`UsageError` with the key at fault."""
        try:
            return cls.model_validate(content).model_dump(mode="json")
        except ValidationError as error:
            raise explain(where, error, cls) from None


def params_config(name: str, params: type[BaseModel]) -> type[dg.Config]:
    """A strategy's parameters as the launchpad shows them; the strategy itself checks their bounds."""
    fields: dict[str, Any] = {}
    for key, field in params.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if field.annotation in (bool, int, float, str):
            kind: Any = field.annotation
        else:
            default = default if default is PydanticUndefined else to_jsonable_python(default)
            kind = str if isinstance(default, str) else Any
        fields[key] = (kind, Field(default, description=field.description))
    return create_model(f"{name.title().replace('_', '')}Params", __base__=dg.Config, **fields)
