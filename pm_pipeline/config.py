"""Settings of an installation, from the environment (``PM_*``).

Everything of one world lies in one folder, so that sandbox rows can never mix with live ones::

    <data_dir>/pages/              raw pages of the live venues
    <data_dir>/<world>/pages/      raw pages of a sandbox, where they are kept at all
    <data_dir>/<world>/lake/       partition files
    <data_dir>/<world>/frames/     recorded WebSocket frames
    <data_dir>/<world>/reports/    one folder per run
    <data_dir>/<world>/warehouse.duckdb
    <data_dir>/<world>/dagster/    DAGSTER_HOME, unless the environment names another
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.markets.rules import KalshiBalance
from pm_pipeline.sources.connect import FillsFrom, SourceMode
from pm_pipeline.sources.polymarket.endings.resolutions import Asked


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
    kalshi_balance: KalshiBalance = Field(
        "direct", description="how Kalshi keeps the account: direct (to $0.0001) or cents (through a broker)"
    )
    contact: str | None = Field(None, description="address put into the User-Agent, as venues ask")
    onchain: FillsFrom = Field(
        FillsFrom.AUTO, description="where on-chain fills are read: auto, goldsky, node or files"
    )
    resolutions: Asked = Field(
        Asked.AUTO, description="whom to ask how a Polymarket market ended: auto, or all sources about each"
    )
    polygon_rpc: SecretStr | None = Field(None, description="address of a Polygon node, with its key")
    harmless_fields: str = Field(
        "", description="new fields of a venue's answers that may pass, as the error names them; `*` for any"
    )
    polygon_logs: Path | None = Field(None, description="file or folder of exchange logs of Polygon")

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment. Raises :class:`UsageError` that names the variable at fault."""
        try:
            return cls()
        except ValidationError as error:
            problems = (f"PM_{str(p['loc'][0]).upper()}: {_message(p)}" for p in error.errors())
            raise UsageError("environment: " + "; ".join(problems)) from None

    @field_validator("sandbox_url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("write an address such as http://127.0.0.1:8899, where `bt sandbox` listens")
        return url

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
    def frames_dir(self) -> Path:
        """Frames of Polymarket's market WebSocket, as `bt record` keeps them."""
        return self.home / "frames" / "polymarket"

    @property
    def reports_dir(self) -> Path:
        """One folder per run."""
        return self.home / "reports"

    @property
    def archive_dir(self) -> Path:
        """Raw pages: those of the live venues, or a sandbox's own, which bear the same addresses."""
        root = self.home if self.source is SourceMode.SANDBOX else self.data_dir.resolve()
        return root / "pages"

    @property
    def strategy_paths(self) -> list[Path]:
        """Files and folders that hold strategies of the user."""
        return [Path(part) for part in self.strategies.split(":") if part]


def read_yaml(path: Path, example: str) -> Any:
    """What a YAML file holds. Raises :class:`UsageError`; where there is no file it names ``example``."""
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; see {example}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}") from None


def explain(where: str, error: ValidationError, model: type[BaseModel]) -> UsageError:
    """A validation error as a sentence: each key at fault, what it may be, and the nearest name there is."""
    problems = error.errors(include_url=False)
    places = [p["loc"] for p in problems]
    lines = []
    for problem in problems:
        place = problem["loc"]
        if any(len(other) > len(place) and other[: len(place)] == place for other in places):
            continue  # what is wrong within it says more
        text = _message(problem)
        if problem["type"] == "extra_forbidden":
            text = "there is no such key" + did_you_mean(str(place[-1]), _keys(model, place[:-1]))
        elif isinstance(problem["input"], str | int | float):
            text += f", got {problem['input']!r}"
        lines.append(f"{'.'.join(map(str, place))}: {text}" if place else text)
    return UsageError(f"{where}: " + "; ".join(dict.fromkeys(lines)))


def _message(problem: Any) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")


def _keys(model: type[BaseModel], place: Iterable[int | str]) -> Iterable[str]:
    """The keys of the part of a model that lies at ``place``."""
    for name in place:
        if isinstance(name, str):
            annotation = model.model_fields[name].annotation
            model = next(
                part
                for part in (annotation, *get_args(annotation))
                if isinstance(part, type) and issubclass(part, BaseModel)
            )
    return model.model_fields
