"""Who decides on a market: signals written down beforehand, or a strategy that goes along with the market."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

from pm_pipeline.engine.signals import Signal, Signals, Skip
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import Micro

Decision: TypeAlias = Signal | Skip


class Fill(NamedTuple):
    """What a strategy is told of a fill of its own; ``name`` is that of a quote, else empty."""

    outcome: int
    side: Side
    price: Micro
    size: Micro
    fee: Micro
    ts: Nanos
    name: str


class Decider(Protocol):
    """What the simulation asks of whoever decides on one market."""

    listens: bool
    """Whether it wants to be told of fills."""
    decided: list[Decision]
    """What it has said so far."""

    def next(self, until: Nanos) -> Nanos | None:
        """When it next has something to say.

        Nothing that happens to its own orders comes before ``until``, so it may look at the market up to
        there. ``None`` where it has nothing to say up to then.
        """

    def decide(self, now: Nanos) -> Decision | None:
        """One decision of the moment that :meth:`next` named."""

    def told(self, fill: Fill, now: Nanos) -> None:
        """One of its orders was filled; it learns of it now."""

    def end(self, now: Nanos) -> None:
        """Trading has ended."""


class Listed:
    """Signals that were written down beforehand, one after the other."""

    listens = False

    def __init__(self, signals: Signals) -> None:
        self._signals: Sequence[Signal] = signals.items
        self._position = 0
        self.decided: list[Decision] = []

    def next(self, until: Nanos) -> Nanos | None:
        """The moment of the next signal, however late."""
        return self._signals[self._position].ts if self._position < len(self._signals) else None

    def decide(self, now: Nanos) -> Decision | None:
        """The next signal."""
        found = self._signals[self._position]
        self._position += 1
        self.decided.append(found)
        return found

    def told(self, fill: Fill, now: Nanos) -> None:
        """They do not listen."""

    def end(self, now: Nanos) -> None:
        """They do not care."""
