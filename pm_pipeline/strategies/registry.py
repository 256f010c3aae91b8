"""Strategies by name: those that come along, and those of the user's own files."""

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.strategies.base import BaseStrategy, StrategyParams

AnyStrategy = BaseStrategy[Any]
S = TypeVar("S", bound=type[AnyStrategy])


class StrategyError(UsageError):
    """A strategy that does not exist, cannot be loaded, or was given wrong parameters."""


class Registry:
    """A set of strategies by their ``name``."""

    def __init__(self) -> None:
        self._classes: dict[str, type[AnyStrategy]] = {}

    def register(self, cls: S) -> S:
        """Class decorator: make a strategy known under its ``name``.

        The same file may register again, which replaces; another file with the same name may not.
        """
        name, params = getattr(cls, "name", ""), getattr(cls, "Params", None)
        if not name or not getattr(cls, "title", ""):
            raise StrategyError(f"{cls.__qualname__} needs a name and a title as class attributes")
        if not (isinstance(params, type) and issubclass(params, StrategyParams)):
            raise StrategyError(f"{name}: Params must be a nested class derived from StrategyParams")
        known = self._classes.get(name)
        if known is not None and known.__module__ != cls.__module__:
            raise StrategyError(
                f"strategy {name!r} exists already in {known.__module__}; choose another name"
            )
        self._classes[name] = cls
        return cls

    def names(self) -> tuple[str, ...]:
        """All registered names, sorted."""
        return tuple(sorted(self._classes))

    def get(self, name: str) -> type[AnyStrategy]:
        """The strategy of this name. Raises :class:`StrategyError` with the nearest names."""
        if name not in self._classes:
            raise StrategyError(f"there is no strategy {name!r}{did_you_mean(name, self._classes)}")
        return self._classes[name]

    def parse_params(self, name: str, values: Mapping[str, Any]) -> StrategyParams:
        """Check parameters. Raises :class:`StrategyError` that names each wrong one and what it may be."""
        model: type[StrategyParams] = self.get(name).Params
        try:
            return model.model_validate(dict(values))
        except ValidationError as error:
            faults = [_fault(model, fault) for fault in error.errors(include_url=False)]
            raise StrategyError(f"parameters of strategy {name!r}: " + "; ".join(faults)) from error

    def create(self, name: str, values: Mapping[str, Any] | None = None) -> AnyStrategy:
        """The strategy of this name with checked parameters."""
        return self.get(name)(self.parse_params(name, values or {}))


def _fault(model: type[StrategyParams], fault: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"there is no parameter {where!r}{did_you_mean(where, model.model_fields)}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    field = model.model_fields.get(where)
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f"{where or 'all together'}: {message}, got {fault['input']!r}{meaning}" if where else message


REGISTRY: Final = Registry()
"""The registry that the shipped strategies enter when :mod:`pm_pipeline.strategies` is imported."""


def load_user_strategies(paths: Iterable[Path], registry: Registry = REGISTRY) -> tuple[str, ...]:
    """Import Python files, or all of a folder that do not begin with an underscore; return the names added.

    A strategy enters by deriving from :class:`BaseStrategy` in such a file; it needs no decorator. Loading a
    file again replaces what it registered. What a file raises while it is imported reaches the caller.

    Raises
    ------
    StrategyError
        for a path that does not exist, a file that is not Python, imports what is not there, or holds no
        strategy.
    """
    names: list[str] = []
    for file in _files(paths):
        module_name = f"pm_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
        spec = importlib.util.spec_from_file_location(module_name, file)
        if spec is None or spec.loader is None:
            raise StrategyError(f"{file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except (SyntaxError, ImportError) as error:
            del sys.modules[module_name]
            raise StrategyError(f"{file} cannot be imported: {error}") from error
        own = [c for c in vars(module).values() if _is_strategy(c) and c.__module__ == module_name]
        if not own:
            raise StrategyError(f"{file} defines no strategy; derive a class from BaseStrategy")
        names.extend(registry.register(cls).name for cls in own)
    return tuple(names)


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise StrategyError(f"there is no file or folder {path} to load strategies from")
        found = sorted(path.glob("[!_]*.py")) if path.is_dir() else [path]
        files.extend(file.resolve() for file in found)
    return files


def _is_strategy(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseStrategy) and not value.__abstractmethods__
