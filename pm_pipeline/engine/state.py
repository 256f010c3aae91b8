"""What a run is given, and what it keeps in mind of each market, order and position."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Self

from pm_pipeline.engine.execution import Execution, TakerMarket
from pm_pipeline.engine.exits import EndedBy
from pm_pipeline.engine.fees import FeeModel, OrderFees
from pm_pipeline.engine.ledger import Holding
from pm_pipeline.engine.risk.history import Closes
from pm_pipeline.engine.risk.limits import RiskLimits
from pm_pipeline.engine.scenarios import ExecutionConfig
from pm_pipeline.engine.settlement import Settlement
from pm_pipeline.engine.signals import Signal, Signals
from pm_pipeline.engine.sizing import Sizing
from pm_pipeline.engine.tape import Evidence, OutcomeTape, Tape
from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.asof import AsOfView, MarketData, view_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """The bankroll of a run and how much of it a position may take.

    A position costs what the signal says, else what ``sizing`` finds (in the mode ``fixed``: ``stake``
    dollars), fees included, and never more than ``max_stake_fraction`` of the equity at the decision.
    ``risk`` are the limits of the run, see ``docs/risk.md``. ``uses_schedule`` says whether the strategy
    counts back from the scheduled close. ``seed`` is kept with the run; takers draw nothing at random.
    """

    bankroll: Micro = 10_000 * MICRO
    stake: Micro = 100 * MICRO
    max_stake_fraction: Decimal = Decimal("0.10")
    sizing: Sizing = field(default_factory=Sizing)
    risk: RiskLimits = field(default_factory=RiskLimits)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    uses_schedule: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bankroll <= 0 or self.stake <= 0:
            raise UsageError("bankroll and stake must be positive")
        if not 0 < self.max_stake_fraction <= 1:
            raise UsageError(f"max_stake_fraction is {self.max_stake_fraction}; it lies in (0, 1]")


@dataclass(frozen=True, slots=True)
class MarketInput:
    """One market of a run. ``load`` reads its data and is called at most once, at its first signal."""

    market: Market
    resolution: Resolution | None
    load: Callable[[], MarketData]
    signals: Signals


@dataclass(slots=True, eq=False)
class Trip:
    """A position from its entry on; several exits may chip away at it."""

    outcome: int
    entered_at: Nanos
    entry: Signal
    size: Micro
    cost: Micro
    fees: Micro
    p_market: float | None
    closing_price: Micro | None
    evidence: list[Evidence]
    proceeds: Micro = 0
    ended: bool = False

    @classmethod
    def of(cls, run: "MarketRun", order: "Order", entry: Signal, found: Execution, now: Nanos) -> Self:
        """The position that a filled entry opens."""
        closed_at, mid = run.settlement.closed_at, order.decision_price
        return cls(
            outcome=order.outcome,
            entered_at=now,
            entry=entry,
            size=found.size,
            cost=found.cash,
            fees=found.fee,
            p_market=mid / MICRO if entry.p_market is None and mid is not None else entry.p_market,
            closing_price=run.tape(order.outcome).last_mid_before(closed_at) if closed_at < FOREVER else None,
            evidence=[found.evidence],
        )


@dataclass(slots=True, eq=False)
class Order:
    """An order from its submission until it is filled or dead.

    ``stake`` is the cash it has reserved, ``expected`` the price that was known at the decision.
    """

    order_id: str
    outcome: int
    side: Side
    reason: EndedBy
    decided_at: Nanos
    arrived_at: Nanos
    limit: Micro | None
    model: FeeModel
    decision_price: Micro | None
    entry: Signal | None = None
    stake: Micro = 0
    expected: Micro = 0
    later_than: Nanos | None = None
    fees: OrderFees | None = None
    asked: Micro = 0
    filled: Micro = 0
    done: bool = False


class MarketRun:
    """One market while the run is concerned with it."""

    def __init__(self, given: MarketInput) -> None:
        self.market = given.market
        self.key = str(given.market.key)
        self.signals = given.signals
        self.load = given.load
        self.settlement = Settlement.of(given.resolution)
        self.next_signal = 0
        self._open: tuple[Tape, TakerMarket, MarketData] | None = None
        self.orders: list[Order] = []
        self.trips: dict[int, Trip] = {}
        self.frozen: dict[int, Micro] = {}
        self.closes: dict[int, tuple[int, Closes]] = {}
        self._number = 0

    def number(self) -> int:
        """A number that grows with every use."""
        self._number += 1
        return self._number

    def holding(self, outcome: int) -> Holding:
        """The account of an outcome in the ledger."""
        return Holding(self.market.key, outcome)

    @property
    def loaded(self) -> bool:
        """Whether its data is in memory."""
        return self._open is not None

    def open(self, tape: Tape, taker: TakerMarket, data: MarketData) -> None:
        """Its data is there."""
        self._open = tape, taker, data

    def release(self) -> None:
        """Let go of its data; of what is held the daily closes stay."""
        self._open = None
        self.closes = {outcome: kept for outcome, kept in self.closes.items() if outcome in self.trips}

    @property
    def taker(self) -> TakerMarket:
        """The market that takes orders. Raises :class:`PipelineError` while the data is not loaded."""
        return self._data()[1]

    def tape(self, outcome: int) -> OutcomeTape:
        """The tape of an outcome. Raises :class:`PipelineError` while the data is not loaded."""
        return self._data()[0].outcome(outcome)

    def view(self, now: Nanos) -> AsOfView:
        """The market as it was known at a moment. Raises :class:`PipelineError` while not loaded."""
        return view_of(self._data()[2], now)

    @property
    def last_ts(self) -> Nanos:
        """The last moment at which something is known of its prices: its close, or the end of the data."""
        return self._open[0].last_ts if self._open is not None else self.settlement.closed_at

    def _data(self) -> tuple[Tape, TakerMarket, MarketData]:
        if self._open is None:
            raise PipelineError(f"the data of {self.key} was asked for before it was loaded")
        return self._open

    @property
    def idle(self) -> bool:
        """Whether nothing more can come of it: no signal, no order, no position."""
        return self.next_signal >= len(self.signals) and not self.orders and not self.trips
