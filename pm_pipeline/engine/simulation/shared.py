"""Markets that several scenarios read: loaded once while anybody holds them, and let go with the last."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from weakref import ref

from pm_pipeline.engine.simulation.state import MarketInput
from pm_pipeline.warehouse.asof import MarketData


class _Once:
    """Loads a market's data, or gives those that another scenario still holds."""

    def __init__(self, load: Callable[[], MarketData]) -> None:
        self._load = load
        self._held: Callable[[], MarketData | None] = lambda: None

    def __call__(self) -> MarketData:
        found = self._held()
        if found is None:
            found = self._load()
            self._held = ref(found)
        return found


def shared(inputs: Iterable[MarketInput]) -> list[MarketInput]:
    """The same markets, each with a ``load`` that reads no more often than it must."""
    return [replace(given, load=_Once(given.load)) for given in inputs]
