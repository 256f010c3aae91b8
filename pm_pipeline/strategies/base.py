"""What a strategy is: parameters with meaning and bounds, and one of three forms that say what it wants.

* **vectorised** (:class:`BaseStrategy`): the whole known history in, signals out.
* **event** (:class:`EventStrategy`): callbacks for prices, books, trades and own fills.
* **compiled** (:class:`CompiledStrategy`): the event form as one function in machine code.

All three see a market only through the as-of view, and the same wishes become the same orders.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from pm_pipeline.engine.forms.deciders import Decider, Fill
from pm_pipeline.engine.forms.live import CompiledDecider, Context, EventDecider
from pm_pipeline.engine.forms.rehearsal import rehearse
from pm_pipeline.engine.signals import Signals
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import Micro
from pm_pipeline.warehouse.arrays import Quote
from pm_pipeline.warehouse.asof import AsOfView


class StrategyParams(BaseModel):
    """Parameters of a strategy: frozen, and a name that does not exist is an error.

    Each field says its meaning and unit in its description and has bounds, so that a wrong value is refused
    with a sentence and a sweep knows where it may look.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


P = TypeVar("P", bound=StrategyParams)


class BaseStrategy(ABC, Generic[P]):
    """A strategy over one market, vectorised: the whole history known at ``view.until`` in, signals out.

    A signal at ``ts`` may use only rows whose ``known_at`` is not after ``ts``: cutting the view at ``ts``
    must leave all signals up to ``ts`` as they were, which :mod:`pm_pipeline.engine.forms.lookahead` tries to
    refute.

    Class attributes: ``name`` (registered name), ``title`` (one line for people), ``Params``, and
    ``uses_schedule``: whether decisions depend on the scheduled close, so that a close that was learned in
    hindsight marks the trips.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    uses_schedule: ClassVar[bool] = True
    Params: ClassVar[type[Any]]

    def __init__(self, params: P | None = None) -> None:
        self.params: P = self.Params() if params is None else params

    @abstractmethod
    def signals(self, view: AsOfView) -> Signals:
        """What the strategy would have wanted, and what it passed over with the reason."""


class LiveStrategy(BaseStrategy[P]):
    """A strategy that goes along with a market and is told of its fills.

    What it wants depends on what it gets, so the simulation asks it anew in every run. Its signals are those
    of a rehearsal: alone in its market, under the base scenario with the usual settings.
    """

    @abstractmethod
    def decider(self, view: AsOfView, start: Nanos) -> Decider:
        """Itself, going along with one market from ``start`` on."""

    def signals(self, view: AsOfView) -> Signals:
        """What it wanted in the rehearsal."""
        return rehearse(self.name, self.decider, view)


class EventStrategy(LiveStrategy[P]):
    """The event form. An instance serves one market at a time: its attributes may hold what it remembers.

    Override what is of interest. The context says what is known and takes what is wanted.
    """

    def decider(self, view: AsOfView, start: Nanos) -> Decider:
        """A fresh instance of the same parameters on one market."""
        return EventDecider(self.name, type(self)(self.params), view, start)

    def on_start(self, context: Context) -> None:
        """The market comes into sight."""

    def on_price(self, context: Context, outcome: int, quote: Quote) -> None:
        """A new quote of an outcome."""

    def on_book(self, context: Context) -> None:
        """A message changed the book: ``context.book``."""

    def on_trade(self, context: Context, outcome: int, price: Micro, size: Micro, side: Side) -> None:
        """Somebody took."""

    def on_fill(self, context: Context, fill: Fill) -> None:
        """One of our own orders traded."""

    def on_end(self, context: Context) -> None:
        """Trading has ended; what is wanted now is refused."""


class CompiledStrategy(LiveStrategy[P]):
    """The compiled form: ``step`` is a function decorated with ``compiled_step``.

    ``memory`` is how many numbers it may remember.
    """

    step: ClassVar[Any]
    memory: ClassVar[int] = 16

    @abstractmethod
    def numbers(self) -> Sequence[float]:
        """The parameters as ``step`` reads them."""

    def decider(self, view: AsOfView, start: Nanos) -> Decider:
        """The step on one market."""
        return CompiledDecider(type(self).step, self.numbers(), self.memory, view, start)
