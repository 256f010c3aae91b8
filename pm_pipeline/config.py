"""Settings of an installation, from the environment (``PM_*``).

Everything of one world lies in one folder, so that sandbox rows can never mix with live ones::

    <data_dir>/archive/            raw pages of the live venues
    <data_dir>/<world>/lake/       partition files
    <data_dir>/<world>/reports/    one folder per run
    <data_dir>/<world>/warehouse.duckdb
    <data_dir>/<world>/dagster/    DAGSTER_HOME, unless the environment names another
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pm_pipeline.errors import UsageError
from pm_pipeline.sources.connect import SourceMode


class Settings(BaseSettings):
    """What an installation needs to know. Every field is an environment variable with the prefix ``PM_``."""

    model_config = SettingsConfigDict(env_prefix="PM_", frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(Path(".data"), description="folder of all data")
    source: SourceMode = Field(
        SourceMode.SANDBOX, description="live venues, embedded sandbox, or raw archive"
    )
    sandbox_world: str | None = Field(None, description="module:function that builds the sandbox's world")
    sandbox_url: str | None = Field(None, description="a running sandbox, e.g. http://127.0.0.1:8899")
    archive_pages: Literal["live", "always", "never"] = Field("live", description="when raw pages are kept")
    universe: Path | None = Field(None, description="YAML file that says which markets to follow")
    strategies: str = Field("", description="files or folders with strategies of your own, separated by ':'")
    contact: str | None = Field(None, description="address put into the User-Agent, as venues ask")

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment. Raises :class:`UsageError` that names the variable at fault."""
        try:
            return cls()
        except ValidationError as error:
            problems = (f"PM_{str(p['loc'][0]).upper()}: {p['msg']}" for p in error.errors())
            raise UsageError("environment: " + "; ".join(problems)) from None

    @property
    def world(self) -> str:
        """Name of the world the data belongs to: ``live``, ``archive``, ``sandbox``, ``sandbox-<name>``."""
        if self.source is SourceMode.SANDBOX and self.sandbox_world:
            module = self.sandbox_world.partition(":")[0]
            return f"sandbox-{module.rpartition('.')[2]}"
        return self.source.value

    @property
    def label(self) -> str:
        """The word printed on every output: LIVE, ARCHIVE or SANDBOX (with its world)."""
        return self.world.upper().replace("-", " ")

    @property
    def home(self) -> Path:
        """Folder of this world."""
        return self.data_dir.resolve() / self.world

    @property
    def lake_dir(self) -> Path:
        """Folder of the partition files."""
        return self.home / "lake"

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file for people."""
        return self.home / "warehouse.duckdb"

    @property
    def reports_dir(self) -> Path:
        """One folder per run."""
        return self.home / "reports"

    @property
    def archive_dir(self) -> Path:
        """Raw pages of the live venues."""
        return self.data_dir.resolve() / "archive"

    @property
    def strategy_paths(self) -> list[Path]:
        """Files and folders that hold strategies of the user."""
        return [Path(part) for part in self.strategies.split(":") if part]
