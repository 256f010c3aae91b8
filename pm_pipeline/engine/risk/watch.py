"""The equity of a bankroll over time: its peak, and the last equity of the day before.

Equity is cash and every position at what it could be sold for. The reference of a day is the *last* equity of
the day before it, not the first of the day: a loss over midnight belongs to the new day.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pm_pipeline.markets.clock import Nanos, to_datetime, to_nanos
from pm_pipeline.markets.units import MICRO, Micro


class EquityWatch:
    """Follows one bankroll from its ``initial`` equity, with days that begin at midnight in ``zone``."""

    def __init__(self, initial: Micro, zone: str = "UTC") -> None:
        self.peak = self.reference = self.last = initial
        self._zone = ZoneInfo(zone)
        self._day_ends: Nanos | None = None

    def note(self, now: Nanos, equity: Micro) -> bool:
        """See the equity at a moment, later than those before; whether a new day has begun since."""
        new_day = self._day_ends is not None and now >= self._day_ends
        if new_day:
            self.reference = self.last
        if new_day or self._day_ends is None:
            self._day_ends = self.day_end(now)
        self.last = equity
        self.peak = max(self.peak, equity)
        return new_day

    def rebase(self) -> None:
        """The equity seen last is the peak from here on."""
        self.peak = self.last

    def day_end(self, now: Nanos) -> Nanos:
        """The first moment of the next day."""
        local = to_datetime(now).astimezone(self._zone)
        tomorrow = datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), self._zone)
        return to_nanos(tomorrow.astimezone(UTC))

    @property
    def drawdown(self) -> Micro:
        """The loss from the peak as a share of it, in millionths, cut."""
        return _share(self.peak - self.last, self.peak)

    @property
    def daily_loss(self) -> Micro:
        """The loss since the reference as a share of it, in millionths, cut; negative for a gain."""
        return _share(self.reference - self.last, self.reference)


def _share(loss: Micro, base: Micro) -> Micro:
    """Cut toward zero, so that a share at a limit of whole millionths is reached exactly when the loss is."""
    if base <= 0:
        return 0
    return loss * MICRO // base if loss >= 0 else -(-loss * MICRO // base)
