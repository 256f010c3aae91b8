import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pm_pipeline.engine import Signals
from pm_pipeline.strategies import (
    REGISTRY,
    BaseStrategy,
    Registry,
    StrategyError,
    StrategyParams,
    load_user_strategies,
)
from pm_pipeline.warehouse.asof import AsOfView, view_of
from pm_pipeline_tests.engine.builders import DOCS, at, data, doc_table, market, mids

USER = """
from pydantic import Field
from pm_pipeline.engine import Signals
from pm_pipeline.strategies import BaseStrategy, StrategyParams

class Mine(BaseStrategy["Mine.Params"]):
    name = "{name}"
    title = "A strategy of the user"

    class Params(StrategyParams):
        x: int = Field(1, ge=0, description="a number")

    def signals(self, view):
        return Signals()
"""


def test_the_shipped_strategies_are_those_of_the_page() -> None:
    page = [row["strategy"] for row in doc_table("strategies.md", "The three that ship")]
    assert page == list(REGISTRY.names())


@pytest.mark.parametrize("name", ["favourite", "mean_reversion", "momentum"])
def test_every_parameter_says_what_it_means(name: str) -> None:
    fields = REGISTRY.get(name).Params.model_fields
    assert all(field.description for field in fields.values())
    page = doc_table("strategies.md", f"Parameters of {name}")
    assert [(row["parameter"], row["default"]) for row in page] == [
        (key, str(field.default)) for key, field in fields.items()
    ]


def test_a_name_that_does_not_exist_gets_the_nearest() -> None:
    with pytest.raises(StrategyError, match=r"no strategy 'momentun'; did you mean 'momentum'\?"):
        REGISTRY.get("momentun")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("favourite", {"led_hours": 3}, r"no parameter 'led_hours'; did you mean 'lead_hours'"),
        (
            "favourite",
            {"lead_hours": -1},
            r"lead_hours: Input should be greater than 0, got -1 \(hours before",
        ),
        (
            "favourite",
            {"outcomes": "maybe"},
            r"outcomes: Input should be 'either', 'yes' or 'no', got 'maybe'",
        ),
        ("favourite", {"min_price": "0.99"}, r"min_price 0.99 is above max_price 0.97"),
        ("mean_reversion", {"entry_z": 1, "exit_z": 2}, r"exit_z 2 must be below entry_z 1"),
        ("momentum", {"threshold": "much", "target": 2}, r"threshold: .*; target: "),
    ],
)
def test_a_wrong_parameter_is_refused_with_a_lesson(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        REGISTRY.parse_params(name, values)


def test_parameters_are_frozen_and_exact() -> None:
    params = REGISTRY.parse_params("favourite", {"min_price": 0.7})
    assert params.model_dump()["min_price"] == Decimal("0.7")
    with pytest.raises(ValueError, match="frozen"):
        params.min_price = Decimal(0)  # type: ignore[attr-defined]


def test_a_strategy_without_parameters_given_has_its_defaults() -> None:
    strategy = REGISTRY.create("momentum")
    assert strategy.params == REGISTRY.get("momentum").Params()
    assert REGISTRY.get("momentum")().params == strategy.params


def test_user_files_and_folders_add_their_strategies(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.py").write_text(USER.format(name="user_a"))
    (folder / "_helper.py").write_text("raise RuntimeError('helpers are not loaded')")
    single = tmp_path / "b.py"
    single.write_text(USER.format(name="user_b"))
    registry = Registry()
    assert load_user_strategies([folder, single], registry) == ("user_a", "user_b")
    assert registry.names() == ("user_a", "user_b")
    assert registry.create("user_a", {"x": 4}).params.x == 4
    assert "user_a" not in REGISTRY.names()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("buy_cheap", [(60, "enter", None)]),
        ("patient", [(0, "quote", 380_000), (60, "quote", 70_000), (120, "quote", 60_000)]),
        ("buy_cheap_compiled", [(60, "enter", None)]),
    ],
)
def test_the_strategies_on_the_page_work_as_written(
    tmp_path: Path, name: str, wanted: list[tuple[int, str, int | None]]
) -> None:
    page = (DOCS / "strategies.md").read_text("utf-8")
    for number, block in enumerate(page.split("```python\n")[1:]):
        (tmp_path / f"page{number}.py").write_text(block.split("```", 1)[0])
    registry = Registry()
    assert set(load_user_strategies([tmp_path], registry)) == {"buy_cheap", "patient", "buy_cheap_compiled"}
    found = registry.create(name).signals(view_of(data(market(), mids([(0, 40), (60, 9), (120, 8)]))))
    assert [(s.ts, s.action, s.limit_price) for s in found] == [(at(t), a, p) for t, a, p in wanted]


def test_a_file_loaded_again_replaces_what_it_registered(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(USER.format(name="user_a"))
    registry = Registry()
    load_user_strategies([file], registry)
    first = registry.get("user_a")
    load_user_strategies([file], registry)
    assert registry.get("user_a") is not first
    assert sys.modules[registry.get("user_a").__module__]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:", "cannot be imported"),
        ("import a_package_that_is_not_there", "cannot be imported: No module named"),
        ("from pm_pipeline.strategies import Momentum", "defines no strategy"),
        (USER.format(name=""), "needs a name and a title"),
        (
            USER.replace("class Params(StrategyParams)", "class Params").format(name="x"),
            "Params must be a nested class",
        ),
    ],
)
def test_a_user_file_that_cannot_serve_says_why(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.py"
    file.write_text(text)
    with pytest.raises(StrategyError, match=message):
        load_user_strategies([file], Registry())


def test_paths_that_are_not_there_or_not_python_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StrategyError, match="no file or folder"):
        load_user_strategies([tmp_path / "nowhere"], Registry())
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(StrategyError, match="not a Python file"):
        load_user_strategies([tmp_path / "a.txt"], Registry())


def test_two_files_may_not_claim_one_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(USER.format(name="same"))
    with pytest.raises(StrategyError, match="'same' exists already in pm_user_a_"):
        load_user_strategies([tmp_path], Registry())


def test_register_serves_as_a_decorator() -> None:
    registry = Registry()

    @registry.register
    class Idle(BaseStrategy["Idle.Params"]):
        name = "idle"
        title = "Never trades"

        class Params(StrategyParams):
            pass

        def signals(self, view: AsOfView) -> Signals:
            return Signals()

    assert registry.get("idle") is Idle
    assert Idle.uses_schedule
