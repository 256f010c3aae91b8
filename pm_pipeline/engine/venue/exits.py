"""The exit rules of a position: when one is set off, looking at what could be sold, row by row."""

from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from pm_pipeline.engine.kernel.cache import compile_entry
from pm_pipeline.engine.kernel.triggers import NEVER, STOP, TARGET, TRAILING, first_met
from pm_pipeline.engine.signals import Signal
from pm_pipeline.engine.venue.tape import OutcomeTape
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.units import Micro


class EndedBy(StrEnum):
    """What ended a round trip; the first seven are also the reasons of orders.

    ``QUOTE``: an order that rested, ``SET``: a full set was made or taken apart.
    """

    SIGNAL = "signal"
    STOP = "stop"
    TRAILING = "trailing"
    TARGET = "target"
    TIME = "time"
    QUOTE = "quote"
    SET = "set"
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
    compile_entry(first_met)
    start, met = tape.at(entered_at) + 1, np.zeros(1, np.int64)
    stop, trailing, target = map(_asked, (entry.stop_price, entry.trailing, entry.target_price))
    row = first_met(np.ascontiguousarray(tape.touch.bid), start, stop, trailing, target, met)
    time_out = None if entry.exit_at is None else Trigger(max(entry.exit_at, entered_at), EndedBy.TIME, None)
    if row == NEVER:
        return time_out
    found = Trigger(int(tape.touch.known_at[row]), _RULES[int(met[0])], int(tape.touch.ts[row]))
    return time_out if time_out is not None and time_out.at < found.at else found


_RULES: Final = {STOP: EndedBy.STOP, TRAILING: EndedBy.TRAILING, TARGET: EndedBy.TARGET}


def _asked(price: Micro | None) -> Micro:
    return NEVER if price is None else price
