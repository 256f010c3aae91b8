"""What a strategy is: parameters with meaning and bounds, and one method that turns a view into signals."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from pm_pipeline.engine.signals import Signals
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
    must leave all signals up to ``ts`` as they were (:mod:`pm_pipeline.engine.lookahead` tries to refute it).

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
