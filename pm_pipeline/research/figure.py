"""One figure of a result: a number, or NaN with the reason why there is none."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A statistic. Where it is undefined ``value`` is NaN and ``note`` says why.

    A number that is not finite must carry its reason, so that no NaN or infinity is there by accident.
    """

    value: float
    note: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) and not self.note:
            raise ValueError(f"a figure of {self.value} needs a note that says why")

    @property
    def defined(self) -> bool:
        """Whether there is a number; an infinity with its reason is one."""
        return not math.isnan(self.value)


def undefined(reason: str) -> Figure:
    """A figure that does not exist, and why."""
    return Figure(math.nan, reason)


def ratio(numerator: float, denominator: float, reason: str) -> Figure:
    """The quotient, or NaN for this reason where the denominator is zero."""
    return Figure(numerator / denominator) if denominator else undefined(reason)
