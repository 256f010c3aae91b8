"""When the exit rules of a position are met: a search that stops at the first row that meets one."""

from pm_pipeline.engine.kernel.cache import entry
from pm_pipeline.warehouse.records import Ints

NEVER = -1

STOP = 0
TRAILING = 1
TARGET = 2


@entry
def first_met(bid: Ints, start: int, stop: int, trailing: int, target: int, rule: Ints) -> int:
    """The first row from ``start`` on whose bid meets a rule, or -1; ``rule[0]`` says which.

    -1 stands for no bid, and for a rule that is not asked for. The peak of the trailing stop begins with the
    bid before ``start``. Met at once, the stop comes before the trailing stop, and that before the target.
    """
    peak = bid[start - 1] if start > 0 else -1
    for row in range(start, len(bid)):
        price = bid[row]
        if price < 0:
            continue
        peak = max(peak, price)
        if price <= stop:
            rule[0] = STOP
            return row
        if trailing >= 0 and price <= peak - trailing:
            rule[0] = TRAILING
            return row
        if target >= 0 and price >= target:
            rule[0] = TARGET
            return row
    return NEVER
