"""The state of the risk manager: latches that trip, hold, and let go by their rule."""

from dataclasses import dataclass

from pm_pipeline.engine.risk.rules import EDGES, LATCHES, SEVERITY, Code, Resume, RiskState
from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import Nanos, format_time


class TransitionError(PipelineError):
    """A state was to follow another that it may not follow."""


@dataclass(frozen=True, slots=True)
class Change:
    """A latch tripped or let go: the state before and after it, which may be the same."""

    code: Code
    before: RiskState
    after: RiskState


class Latches:
    """What is latched. ``cooldown`` is how long a latch of that rule holds; ``None``: until a reset."""

    def __init__(self, cooldown: Nanos | None = None) -> None:
        self._cooldown = cooldown
        self._since: dict[Code, Nanos] = {}

    @property
    def state(self) -> RiskState:
        """The strictest state that a latch asks for."""
        return max((LATCHES[c].state for c in self._since), key=SEVERITY.index, default=RiskState.ACTIVE)

    def trip(self, code: Code, now: Nanos) -> Change | None:
        """Trip a latch; nothing changes where it holds already."""
        if code in self._since:
            return None
        before = self.state
        self._since[code] = now
        return self._change(code, before)

    def due(self, now: Nanos, *, new_day: bool) -> list[Code]:
        """The latches that let go now by their own rule."""
        return [code for code, since in self._since.items() if self._is_due(code, since, now, new_day)]

    def free(self, code: Code) -> Change:
        """Let a latch go."""
        before = self.state
        del self._since[code]
        return self._change(code, before)

    def held(self) -> list[Code]:
        """All latches that hold, in the order in which they tripped."""
        return list(self._since)

    def describe(self) -> str:
        """What holds, and since when."""
        return ", ".join(f"{code} since {format_time(since)}" for code, since in self._since.items())

    def _is_due(self, code: Code, since: Nanos, now: Nanos, new_day: bool) -> bool:
        match LATCHES[code].resume:
            case Resume.NEXT_DAY:
                return new_day
            case Resume.COOLDOWN:
                return self._cooldown is not None and now >= since + self._cooldown
            case Resume.RESET:
                return False

    def _change(self, code: Code, before: RiskState) -> Change:
        after = self.state
        if after is not before and after not in EDGES[before]:
            raise TransitionError(f"{code} would lead from {before} to {after}, which no rule allows")
        return Change(code, before, after)
