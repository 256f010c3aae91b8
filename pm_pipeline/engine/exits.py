"""The exit rules of a position: when one is set off, looking at what could be sold, row by row."""

from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.signals import Signal
from pm_pipeline.engine.tape import OutcomeTape
from pm_pipeline.markets.clock import Nanos


class EndedBy(StrEnum):
    """What ended a round trip; the first five are also the reasons of selling orders."""

    SIGNAL = "signal"
    STOP = "stop"
    TRAILING = "trailing"
    TARGET = "target"
    TIME = "time"
    SETTLEMENT = "settlement"
    VOID = "void"
    OPEN = "open"


class Trigger(NamedTuple):
    """A rule was met at ``at``. ``quote_ts`` is the quote that met it; the exit may not trade on that one."""

    at: Nanos
    rule: EndedBy
    quote_ts: Nanos | None


def first_exit(tape: OutcomeTape, entered_at: Nanos, entry: Signal) -> Trigger | None:
    """The first time one of the entry's exit rules is met after ``entered_at``, or ``None``.

    Rows without a bid meet no rule. The peak of the trailing stop begins with the bid at the entry. Where
    several rules are met at once, the order of :class:`EndedBy` decides: stop, trailing, target, time.
    """
    start = tape.at(entered_at) + 1
    bid = tape.touch.bid[start:]
    there = bid >= 0
    met: list[tuple[int, int, EndedBy]] = []

    def note(rule: EndedBy, condition: npt.NDArray[np.bool_]) -> None:
        hits = np.flatnonzero(there & condition)
        if len(hits):
            met.append((int(hits[0]), list(EndedBy).index(rule), rule))

    if entry.stop_price is not None:
        note(EndedBy.STOP, bid <= entry.stop_price)
    if entry.trailing is not None:
        # -1 stands for no bid, so it never raises a peak
        peak = np.maximum.accumulate(tape.touch.bid[max(start - 1, 0) :])[-len(bid) or len(bid) :]
        note(EndedBy.TRAILING, bid <= peak - entry.trailing)
    if entry.target_price is not None:
        note(EndedBy.TARGET, bid >= entry.target_price)
    time_out = None if entry.exit_at is None else Trigger(max(entry.exit_at, entered_at), EndedBy.TIME, None)
    if not met:
        return time_out
    row, _, rule = min(met)
    found = Trigger(int(tape.touch.known_at[start + row]), rule, int(tape.touch.ts[start + row]))
    return time_out if time_out is not None and time_out.at < found.at else found
