"""What a run can be told: strategies and their parameters, execution, bankroll. Amounts are whole dollars."""

from decimal import Decimal
from typing import Any, cast, get_args

import dagster as dg
from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_core import PydanticUndefined, to_jsonable_python

from pm_pipeline.config import Settings, explain
from pm_pipeline.engine.fees import FeeModelName
from pm_pipeline.engine.scenarios import ExecutionConfig, Mark
from pm_pipeline.engine.state import RunConfig
from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.markets.units import MICRO, UnitError, to_micro
from pm_pipeline.universe import Universe, universe_of


class Strict(dg.Config, extra="forbid"):
    """Configuration in which a key that does not exist is an error."""


class Execution(Strict):
    """What is assumed about execution where no book was recorded, and about our own latency."""

    latency_ms: int = Field(default=1000, ge=0, description="from decision to the venue's door, milliseconds")
    half_spread: str = Field(
        default="0.01", description="added to a mid that is bought, dollars per contract"
    )
    depth_usd: int = Field(default=250, gt=0, description="dollars taken to rest at a quote without a size")
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
            latency=self.latency_ms * SECOND // 1000,
            half_spread=half_spread,
            depth_usd=self.depth_usd * MICRO,
            max_quote_age=self.max_quote_age_s * SECOND,
            max_wait=self.max_wait_s * SECOND,
            fees=_fee_model(self.fees),
            mark=Mark(self.mark),
        )


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


class Terms(Strict):
    """How orders are executed and what they may cost."""

    execution: Execution = Field(default_factory=lambda: Execution())
    bankroll: Bankroll = Field(default_factory=lambda: Bankroll())


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
