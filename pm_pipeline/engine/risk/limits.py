"""The limits of a run. Every limit is off until it is set; without any, only the cash binds."""

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pm_pipeline.engine.risk.history import Returns
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, Nanos

_SHARES: Final = (
    "position_cap", "market_cap", "group_cap", "strategy_cap", "venue_cap", "gross_cap",
    "drawdown", "daily_loss", "participation", "volume_share",
)  # fmt: skip
_POSITIVE: Final = (
    "max_positions", "max_volatility", "losing_streak", "max_price_jump", "max_slippage_bps",
    "volatility_window", "volume_window", "min_common_days",
)  # fmt: skip
_NOT_NEGATIVE: Final = (
    "max_data_age", "min_time_to_close", "cooldown", "revalue_every", "depth_ticks",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """What one bankroll may risk. ``None``: no such limit. Shares are of equity unless said otherwise.

    What counts against a cap is the most that can be lost: what positions cost and what orders in flight have
    set aside, fees included.

    ``position_cap`` … ``gross_cap``
        Most at risk in one outcome, market, group, strategy, venue, and in all.
    ``drawdown``, ``daily_loss``
        Loss from the peak, and since the last equity of the day before, at which only exits pass: *at*, not
        beyond. ``day_zone`` says where a day begins.
    ``max_positions``
        Markets held or being entered. Both outcomes of one market count once, adding to one does not count.
    ``max_volatility``
        Standard deviation (ddof 1) of the last ``volatility_window`` daily ``returns``, not annualised.
    ``max_correlation``
        A held outcome whose daily logit changes correlate with the candidate's by more, over at least
        ``min_common_days`` changes, counts into the candidate's group.
    ``losing_streak``
        Trips in a row that ended with a loss.
    ``max_data_age``, ``refuse_crossed``, ``max_price_jump``, ``max_slippage_bps``
        Alarms: age of the last price, a bid at or above the offer, a move since the last daily close in
        standard deviations of daily changes, a fill worse than expected in basis points.
    ``participation``, ``volume_share``
        Share of the contracts on offer within ``depth_ticks`` of the best price, and of those traded within
        the last ``volume_window``.
    ``min_time_to_close``
        No entry nearer to the scheduled close.
    ``cooldown``
        How long a drawdown, a losing streak or a slippage alarm holds; ``None``: until somebody resets it.
    ``revalue_every``
        The equity of a decision may be as old as this; 0 values every position at every decision.
    """

    position_cap: Decimal | None = None
    market_cap: Decimal | None = None
    group_cap: Decimal | None = None
    strategy_cap: Decimal | None = None
    venue_cap: Decimal | None = None
    gross_cap: Decimal | None = None
    drawdown: Decimal | None = None
    daily_loss: Decimal | None = None
    day_zone: str = "UTC"
    max_positions: int | None = None
    max_volatility: float | None = None
    volatility_window: int = 20
    returns: Returns = Returns.LOGIT
    max_correlation: float | None = None
    min_common_days: int = 60
    losing_streak: int | None = None
    max_data_age: Nanos | None = None
    refuse_crossed: bool = False
    max_price_jump: float | None = None
    max_slippage_bps: int | None = None
    participation: Decimal | None = None
    depth_ticks: int = 0
    volume_share: Decimal | None = None
    volume_window: Nanos = DAY
    min_time_to_close: Nanos | None = None
    cooldown: Nanos | None = None
    revalue_every: Nanos = 0

    def __post_init__(self) -> None:
        for name in _SHARES:
            if (share := getattr(self, name)) is not None and not 0 < share <= 1:
                raise UsageError(f"{name} is {share}; it is a share and lies in (0, 1]")
            if share is not None and share != round(share, 6):
                raise UsageError(f"{name} is {share}; shares have at most six decimals")
        for name in _POSITIVE:
            if (value := getattr(self, name)) is not None and not value > 0:
                raise UsageError(f"{name} is {value}; it must be positive")
        for name in _NOT_NEGATIVE:
            if (value := getattr(self, name)) is not None and value < 0:
                raise UsageError(f"{name} is {value}; it cannot be negative")
        if self.max_correlation is not None and not 0 <= self.max_correlation < 1:
            raise UsageError(f"max_correlation is {self.max_correlation}; it lies in [0, 1)")
        if self.max_correlation is not None and self.group_cap is None:
            raise UsageError("max_correlation widens groups; state the group_cap that they are held to")
        if self.volatility_window < 2:
            raise UsageError(f"volatility_window is {self.volatility_window}; a deviation needs two returns")
        try:
            ZoneInfo(self.day_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise UsageError(f"there is no time zone {self.day_zone!r}; write it like UTC") from error

    @property
    def watches_equity(self) -> bool:
        """Whether equity must be followed even while nothing is decided."""
        return self.drawdown is not None or self.daily_loss is not None

    @property
    def needs_closes(self) -> bool:
        """Whether a decision needs the daily closes of its market."""
        return any(v is not None for v in (self.max_volatility, self.max_price_jump, self.max_correlation))

    @property
    def needs_quotes(self) -> bool:
        """Whether a decision needs to look at what its market shows."""
        alarms = (self.max_data_age, self.max_slippage_bps, self.participation, self.volume_share)
        return self.refuse_crossed or self.needs_closes or any(v is not None for v in alarms + self.caps_set)

    @property
    def caps_set(self) -> tuple[Decimal, ...]:
        """The caps that are set."""
        caps = [getattr(self, field.name) for field in fields(self) if field.name.endswith("_cap")]
        return tuple(cap for cap in caps if cap is not None)
