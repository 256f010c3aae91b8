"""The small world as a user has it: an environment, a lake, Dagster's home, and the ``bt`` command."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from pm_pipeline import definitions
from pm_pipeline.cli import main
from pm_pipeline.config import Settings
from pm_pipeline.sources.sandbox import Faults, build_app
from pm_pipeline.sources.sandbox.faults import Planned
from pm_pipeline.sources.sandbox.serve import running_server
from pm_pipeline.strategies import REGISTRY, load_user_strategies
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.small_world import load_world

WORLD = "pm_pipeline_tests.small_world:load_world"
WITHOUT = {"run_id", "ingested_at", "started_at", "finished_at"}
"""Columns that may differ between two runs over the same data."""


@dataclass(frozen=True)
class Workdir:
    """One data folder and what can be done in it."""

    data: Path

    @property
    def home(self) -> Path:
        return self.data / "sandbox-small_world"

    @property
    def lake(self) -> Lake:
        return Lake(self.home / "lake", durability="rename")

    @property
    def settings(self) -> Settings:
        return Settings.from_environment()

    def bt(self, *words: str) -> Result:
        return CliRunner().invoke(main, list(words))

    def json(self, *words: str) -> Any:
        """What a command prints as JSON; it must succeed."""
        found = self.bt(*words, "--json")
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))

    def rows(self, table: str, prefix: tuple[str, ...] | str = ()) -> list[dict[str, Any]]:
        """All rows of a table, in order of its partitions, without what differs between runs."""
        lake = self.lake
        return [
            {name: value for name, value in row.items() if name not in WITHOUT}
            for partition in lake.partitions(table, prefix)
            for row in lake.read(table, partition).to_pylist()
        ]

    def files(self) -> dict[str, bytes]:
        """The lake as it lies on the disk."""
        return {str(path): path.read_bytes() for path in self.lake.root.rglob("*.parquet")}

    def materialise(self, job: str, *keys: str, **options: Any) -> dg.ExecuteInProcessResult:
        """An asset job over one partition, or over the range from the first to the last key."""
        tags = {
            "dagster/asset_partition_range_start": keys[0],
            "dagster/asset_partition_range_end": keys[-1],
        }
        with dg.DagsterInstance.get() as instance:
            return definitions.resolve(job).execute_in_process(
                instance=instance,
                tags=tags if len(keys) > 1 else None,
                partition_key=keys[0] if len(keys) == 1 else None,
                raise_on_error=False,
                **options,
            )


def _enter(patch: pytest.MonkeyPatch, data: Path) -> Workdir:
    workdir = Workdir(data)
    patch.setenv("PM_DATA_DIR", str(data))
    patch.setenv("PM_SANDBOX_WORLD", WORLD)
    patch.setenv("DAGSTER_HOME", str(workdir.home / "dagster"))
    for name in ("PM_SOURCE", "PM_SANDBOX_URL", "PM_UNIVERSE", "PM_STRATEGIES", "PM_ARCHIVE_PAGES"):
        patch.delenv(name, raising=False)
    return workdir


def _made(data: Path, *words: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        found = _enter(patch, data).bt(*words)
        assert found.exit_code == 0, found.output
    return data


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workdir:
    """A data folder in which nothing was done yet."""
    return _enter(monkeypatch, tmp_path / "data")


@pytest.fixture(scope="session")
def fetched_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the whole small world was read, once for all tests."""
    return _made(tmp_path_factory.mktemp("fetched") / "data", "fetch")


@pytest.fixture(scope="session")
def backtested_data(fetched_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shipped strategies were backtested, once for all tests."""
    data = tmp_path_factory.mktemp("backtested") / "data"
    shutil.copytree(fetched_data, data)
    return _made(data, "backtest")


@pytest.fixture
def fetched(fetched_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workdir:
    """A copy of a data folder into which the whole small world was read."""
    shutil.copytree(fetched_data, tmp_path / "data")
    return _enter(monkeypatch, tmp_path / "data")


@pytest.fixture
def backtested(backtested_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workdir:
    """A copy of a data folder in which the shipped strategies were backtested."""
    shutil.copytree(backtested_data, tmp_path / "data")
    return _enter(monkeypatch, tmp_path / "data")


@pytest.fixture
def seen(backtested_data: Path, monkeypatch: pytest.MonkeyPatch) -> Workdir:
    """The backtested folder itself, for the tests that only look."""
    return _enter(monkeypatch, backtested_data)


@pytest.fixture
def user_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Load a strategy file of the user into the code location, for the length of a test."""
    monkeypatch.setattr(REGISTRY, "_classes", dict(REGISTRY._classes))
    monkeypatch.setattr(definitions, "defs", definitions.defs)
    path = tmp_path / "mine.py"

    def load(text: str) -> None:
        path.write_text(text)
        load_user_strategies([path])
        definitions.defs = definitions.build()

    return load


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[str]]:
    """Serve the small world over HTTP with faults, as long as the block lasts."""

    @contextmanager
    def serve(*planned: str) -> Iterator[str]:
        faults = Faults(plan=tuple(Planned.parse(text) for text in planned))
        with running_server(build_app(load_world(), faults)) as url:
            monkeypatch.setenv("PM_SANDBOX_URL", url)
            yield url
        monkeypatch.delenv("PM_SANDBOX_URL")

    return serve
