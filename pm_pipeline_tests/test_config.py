from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from pm_pipeline.config import Settings, explain, read_yaml
from pm_pipeline.errors import UsageError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PM_{name.upper()}", raising=False)


def test_nothing_set_is_the_embedded_sandbox_beside_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment()
    assert (settings.world, settings.label) == ("sandbox", "SANDBOX")
    home = tmp_path / ".data" / "sandbox"
    assert settings.home == home
    assert settings.lake_dir == home / "lake"
    assert settings.warehouse_path == home / "warehouse.duckdb"
    assert settings.reports_dir == home / "reports"
    assert settings.strategy_paths == []


@pytest.mark.parametrize(
    ("environment", "world", "label"),
    [
        ({"PM_SOURCE": "live"}, "live", "LIVE"),
        ({"PM_SOURCE": "archive"}, "archive", "ARCHIVE"),
        ({"PM_SOURCE": ""}, "sandbox", "SANDBOX"),
        ({"PM_SANDBOX_WORLD": "my.worlds:load"}, "sandbox-worlds", "SANDBOX WORLDS"),
        ({"PM_SOURCE": "live", "PM_SANDBOX_WORLD": "my.worlds:load"}, "live", "LIVE"),
    ],
)
def test_every_world_has_its_own_folder_and_label(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], world: str, label: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environment()
    assert (settings.world, settings.label, settings.home.name) == (world, label, world)


def test_raw_pages_of_a_sandbox_never_lie_with_those_of_the_venues() -> None:
    folders = {source: Settings(source=source).archive_dir for source in ("live", "archive", "sandbox")}
    assert folders["live"] == folders["archive"] == Path(".data/pages").resolve()
    assert folders["sandbox"] == Path(".data/sandbox/pages").resolve()
    # and no world's folder, which a user may remove, holds those of the venues
    assert not folders["live"].is_relative_to(Settings(source="archive").home)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PM_SOURCE", "sandbx", "PM_SOURCE: Input should be 'live', 'sandbox' or 'archive'"),
        ("PM_ARCHIVE_PAGES", "yes", "PM_ARCHIVE_PAGES: Input should be 'live', 'always' or 'never'"),
        (
            "PM_SANDBOX_URL",
            "localhost:8899",
            "PM_SANDBOX_URL: write an address such as http://127.0.0.1:8899",
        ),
    ],
)
def test_a_bad_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"environment: {message}"):
        Settings.from_environment()


def test_strategies_are_separated_by_colons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PM_STRATEGIES", "a.py:folder:")
    assert Settings.from_environment().strategy_paths == [Path("a.py"), Path("folder")]


def test_yaml_is_read_as_plain_data(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [1, x]\n")
    assert read_yaml(tmp_path / "a.yaml", "the example") == {"a": [1, "x"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file .*; see the example"),
        (b"a: [1", "is not YAML: while parsing"),
        (b"\xff\xfe\x00", "cannot be read: .*decode"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_yaml(path, "the example")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read: .*Is a directory"):
        read_yaml(tmp_path, "the example")


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = 1
    height: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    one: Inner = Inner()
    many: tuple[Inner, ...] = ()
    word: str = ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"wrd": 1}, "x: wrd: there is no such key; did you mean 'word'?"),
        ({"one": {"with": 1}}, "x: one.with: there is no such key; did you mean 'width'?"),
        ({"many": [{}, {"heigth": 1}]}, "x: many.1.heigth: there is no such key; did you mean 'height'?"),
        ({"one": {"zzz": 1}}, "x: one.zzz: there is no such key; known: height, width"),
        ({"one": {"width": "a"}, "word": 3}, None),
        ({"many": 3}, "x: many: Input should be a valid tuple, got 3"),
        (7, "x: Input should be a valid dictionary or instance of Outer, got 7"),
    ],
)
def test_a_validation_error_becomes_a_sentence(content: Any, message: str | None) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(content)
    said = str(explain("x", caught.value, Outer))
    if message is None:
        assert said.startswith("x: one.width: ")
        assert "; word: Input should be a valid string, got 3" in said
    else:
        assert said == message
