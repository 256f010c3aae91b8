"""What a result rests on, as a hash: the same version of a partition need not be computed again."""

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pm_pipeline
from pm_pipeline.markets.market import Market
from pm_pipeline.warehouse.lake import Lake

INPUTS: Final = "inputs"
"""Footer key of a computed partition: the version of all that went into it."""

MARKET_DATA: Final = (
    "market_data.prices",
    "market_data.trades",
    "market_data.book_events",
    "market_data.wallet_fills",
)
"""What a strategy may look at."""

_CORE: Final = ("markets", "warehouse", "engine", "strategies", "research")


def digest(*parts: object) -> str:
    """A short hash of plain values, the same in every process."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def code_version() -> str:
    """Version of the package with a hash of every source and rule file that a result depends on."""
    root = Path(pm_pipeline.__file__).parent
    content = hashlib.sha256()
    for folder in _CORE:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".py", ".csv"}:
                content.update(path.relative_to(root).as_posix().encode())
                content.update(path.read_bytes())
    return f"{pm_pipeline.__version__}+{content.hexdigest()[:12]}"


def strategy_version(cls: type[Any], params: Mapping[str, Any]) -> str:
    """Hash of a strategy's own file and its parameters."""
    return digest(Path(inspect.getfile(cls)).read_text(), dict(params))


def signals_version(lake: Lake, market: Market, strategy: str) -> str:
    """Version of the signals of a strategy (see :func:`strategy_version`) on one market."""
    prints = [_fingerprint(lake, table, str(market.key)) for table in MARKET_DATA]
    return digest(code_version(), strategy, asdict(market.as_listed()), prints)


def fills_version(lake: Lake, market: Market, name: str, terms: Mapping[str, Any]) -> str:
    """Version of the fills of strategy ``name`` on one market under these terms of execution."""
    signals = lake.info("backtest.signals", (name, str(market.key)))
    return digest(
        signals and (signals.fingerprint, signals.meta.get(INPUTS)),
        _fingerprint(lake, "catalog.resolutions", str(market.key)),
        dict(terms),
    )


def is_current(lake: Lake, table: str, name: str, key: str, version: str) -> bool:
    """Whether the partition was computed from exactly this version of its inputs."""
    info = lake.info(table, (name, key))
    return info is not None and info.meta.get(INPUTS) == version


def _fingerprint(lake: Lake, table: str, key: str) -> str | None:
    info = lake.info(table, key)
    return info.fingerprint if info else None
