"""What a run is given, and what it keeps in mind of each market, order and position."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from pm_pipeline.engine.execution import TakerMarket
from pm_pipeline.engine.exits import EndedBy
from pm_pipeline.engine.fees import FeeModel, OrderFees
from pm_pipeline.engine.ledger import Holding
from pm_pipeline.engine.scenarios import ExecutionConfig
from pm_pipeline.engine.settlement import Settlement
from pm_pipeline.engine.signals import Signal, Signals
from pm_pipeline.engine.tape import Evidence, OutcomeTape, Tape
from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.asof import MarketData


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """The bankroll of a run and how much of it a position may take.

    A position costs ``stake`` dollars, or what the signal says, fees included, and never more than
    ``max_stake_fraction`` of the equity at the decision. ``uses_schedule`` says whether the strategy counts
    back from the scheduled close. ``seed`` is kept with the run; takers draw nothing at random.
    """

    bankroll: Micro = 10_000 * MICRO
    stake: Micro = 100 * MICRO
    max_stake_fraction: Decimal = Decimal("0.10")
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


@dataclass(slots=True, eq=False)
class Order:
    """An order from its submission until it is filled or dead. ``stake`` is the cash it has reserved."""

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
        self._open: tuple[Tape, TakerMarket] | None = None
        self.orders: list[Order] = []
        self.trips: dict[int, Trip] = {}
        self.frozen: dict[int, Micro] = {}
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

    def open(self, tape: Tape, taker: TakerMarket) -> None:
        """Its data is there."""
        self._open = tape, taker

    def release(self) -> None:
        """Let go of its data."""
        self._open = None

    @property
    def taker(self) -> TakerMarket:
        """The market that takes orders. Raises :class:`PipelineError` while the data is not loaded."""
        return self._data()[1]

    def tape(self, outcome: int) -> OutcomeTape:
        """The tape of an outcome. Raises :class:`PipelineError` while the data is not loaded."""
        return self._data()[0].outcome(outcome)

    @property
    def last_ts(self) -> Nanos:
        """The last moment at which something is known of its prices: its close, or the end of the data."""
        return self._open[0].last_ts if self._open is not None else self.settlement.closed_at

    def _data(self) -> tuple[Tape, TakerMarket]:
        if self._open is None:
            raise PipelineError(f"the data of {self.key} was asked for before it was loaded")
        return self._open

    @property
    def idle(self) -> bool:
        """Whether nothing more can come of it: no signal, no order, no position."""
        return self.next_signal >= len(self.signals) and not self.orders and not self.trips
