from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import dagster as dg
import pytest
from pydantic import BaseModel, Field

from pm_pipeline.defs.config import BacktestConfig, Bankroll, Execution, Markets, params_config
from pm_pipeline.engine.scenarios import LiquidityModel, Mark
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import MINUTE, SECOND
from pm_pipeline.markets.units import MICRO
from pm_pipeline.strategies import REGISTRY
from pm_pipeline_tests.workdir import Workdir


def test_dollars_and_seconds_become_the_engines_units_exactly() -> None:
    execution = Execution(
        latency_ms=1500,
        cancel_latency_ms=200,
        impact_cents=0.5,
        half_spread="0.015",
        depth_usd=3,
        fees="flat_2pct",
        mark="mid",
    )
    engine = execution.to_engine()
    assert (engine.cancel_latency, engine.amend_latency) == (SECOND // 5, None)
    assert (engine.impact, engine.impact_half_life) == (5_000, MINUTE)
    assert (engine.latency, engine.half_spread, engine.depth_usd) == (3 * SECOND // 2, 15_000, 3 * MICRO)
    assert (engine.fees, engine.mark, engine.max_quote_age) == ("flat_2pct", Mark.MID, 900 * SECOND)
    assert (engine.liquidity, engine.volume_share) == (LiquidityModel.MEASURED, Fraction(1, 10))
    prints = Execution(liquidity="prints", volume_share_percent=2.5).to_engine()
    assert (prints.liquidity, prints.volume_share) == (LiquidityModel.PRINTS, Fraction(1, 40))
    run = Bankroll(bankroll_usd=500, stake_usd=20, max_stake_percent=7, seed=3).to_engine(
        execution, uses_schedule=False
    )
    assert (run.bankroll, run.stake, run.max_stake_fraction) == (500 * MICRO, 20 * MICRO, Decimal("0.07"))
    assert (run.seed, run.uses_schedule, run.execution) == (3, False, engine)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fees": "flat_3pct"}, "no fee model 'flat_3pct'; did you mean 'flat_2pct'"),
        ({"mark": "ask"}, "mark is 'ask'; it is bid or mid"),
        ({"liquidity": "print"}, "no liquidity model 'print'; did you mean 'prints'"),
        ({"half_spread": "a cent"}, "half_spread: 'a cent' is not a decimal number"),
        ({"half_spread": "0.0000001"}, "half_spread: .* more than six decimals"),
        ({"half_spread": "-0.01"}, "half_spread is -10000; it cannot be negative"),
    ],
)
def test_a_value_out_of_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Execution(**wrong).to_engine()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"strategys": {}}, "strategys: there is no such key; did you mean 'strategies'?"),
        (
            {"execution": {"latency": 3}},
            "execution.latency: there is no such key; did you mean 'latency_ms'",
        ),
        ({"bankroll": {"stake_usd": 0}}, "bankroll.stake_usd: Input should be greater than 0, got 0"),
        ({"execution": {"latency_ms": "x"}}, "execution.latency_ms: .*valid integer.*, got 'x'"),
        ({"strategies": None}, "strategies: Input should be a valid dictionary"),
        ({"strategies": {"favourite": 3}}, "strategies.favourite: .*dictionary.*, got 3"),
        ([1], "Input should be a valid dictionary"),
    ],
)
def test_a_configuration_that_does_not_fit_names_the_key(content: object, message: str) -> None:
    with pytest.raises(UsageError, match=f"^here: {message}"):
        BacktestConfig.parse(content, "here")


def test_a_configuration_comes_back_complete() -> None:
    plan = BacktestConfig.parse({"bankroll": {"stake_usd": 50}}, "here")
    assert plan["bankroll"] == {"bankroll_usd": 10_000, "stake_usd": 50, "max_stake_percent": 10, "seed": 7}
    assert plan["execution"] == Execution().model_dump()
    assert (plan["universe"], plan["strategies"]) == ([], {})
    assert BacktestConfig.parse(plan, "again") == plan


def test_named_filters_come_before_the_configured_universe(empty: Workdir) -> None:
    assert len(Markets().chosen(empty.settings).markets) == 2
    (wanted,) = Markets(universe=[{"venue": "kalshi"}]).chosen(empty.settings).markets
    assert wanted.venue == "kalshi"


class Odd(BaseModel):
    flag: bool = True
    share: Decimal = Decimal("0.25")
    side: Literal["yes", "no"] = "yes"
    maybe: int | None = None
    many: tuple[int, ...] = (1, 2)
    made: list[str] = Field(default_factory=lambda: ["a"], description="made anew")
    needed: int


def test_parameters_of_any_type_are_shown() -> None:
    config = params_config("odd_one", Odd)
    assert issubclass(config, dg.Config)
    assert config.__name__ == "OddOneParams"
    filled = config(needed=3).model_dump()
    assert filled == {
        "flag": True,
        "share": "0.25",
        "side": "yes",
        "maybe": None,
        "many": [1, 2],
        "made": ["a"],
        "needed": 3,
    }
    assert Odd.model_validate(filled).model_dump() == Odd(needed=3).model_dump()
    with pytest.raises(ValueError, match="needed"):
        config()
    assert config.model_fields["made"].description == "made anew"


@pytest.mark.parametrize("name", REGISTRY.names())
def test_the_launchpads_defaults_are_those_of_the_strategy(name: str) -> None:
    params = REGISTRY.get(name).Params
    assert REGISTRY.parse_params(name, params_config(name, params)().model_dump()) == params()
