"""The compiled pass over trades: one bar at a time for each outcome, in whole numbers."""

from pathlib import Path
from typing import Final

from pm_pipeline.engine.kernel.cache import Package
from pm_pipeline.engine.kernel.weaving import Prints
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.records import Ints

END, OPEN, HIGH, LOW, CLOSE, VOLUME, DOLLARS, REST, BOUGHT, COUNT, KNOWN = range(11)
"""The fields of a bar. Its notional is ``DOLLARS`` (millionths) and ``REST`` (millionths of those): a price
times a size may be beyond 64 bits."""

FIELDS: Final = 11

_entry = Package(Path(__file__).parent).entry


@_entry
def add_trades(prints: Prints, buy: int, period: int, now: Ints, made: Ints, out: Ints) -> None:
    """Put the trades into bars of ``period`` microseconds.

    Parameters
    ----------
    buy:
        what ``prints.sides`` holds for a taker who bought.
    now:
        the bar of each outcome that has not ended, :data:`FIELDS` numbers each; all 0 where there is none.
    made:
        how many bars of each outcome have ended, counted on.
    out:
        where ended bars go: for each outcome and field as much room as there are trades at most.
    """
    room = len(out) // len(now)
    for row in range(len(prints.times)):
        if prints.block[row] or prints.size[row] == 0:
            continue
        ts, price, size, outcome = prints.times[row], prints.price[row], prints.size[row], prints.outcome[row]
        at = outcome * FIELDS
        if ts >= now[at + END] or now[at + COUNT] == 0:
            if now[at + COUNT] > 0:
                for field in range(FIELDS):
                    out[(at + field) * room + made[outcome]] = now[at + field]
                made[outcome] += 1
            end = (ts // period + 1) * period
            now[at + END] = now[at + KNOWN] = end
            now[at + OPEN] = now[at + HIGH] = now[at + LOW] = price
            now[at + VOLUME] = now[at + DOLLARS] = now[at + REST] = now[at + BOUGHT] = now[at + COUNT] = 0
        now[at + HIGH] = max(now[at + HIGH], price)
        now[at + LOW] = min(now[at + LOW], price)
        now[at + CLOSE] = price
        contracts = size // MICRO
        product = price * (size - contracts * MICRO)
        dollars = product // MICRO
        now[at + VOLUME] += size
        now[at + DOLLARS] += price * contracts + dollars
        now[at + REST] += product - dollars * MICRO
        if prints.sides[prints.side[row] + 1] == buy:
            now[at + BOUGHT] += size
        now[at + COUNT] += 1
        now[at + KNOWN] = max(now[at + KNOWN], prints.known[row])
