"""What a run is given, and what it keeps in mind of each market, order and position."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Self, TypeAlias

from pm_pipeline.engine.forms.deciders import Decider, Listed
from pm_pipeline.engine.kernel import Session
from pm_pipeline.engine.money.fees import FeeModel, OrderFees
from pm_pipeline.engine.money.ledger import Holding
from pm_pipeline.engine.money.settlement import Settlement
from pm_pipeline.engine.risk.history import Closes
from pm_pipeline.engine.risk.limits import RiskLimits
from pm_pipeline.engine.scenarios import ExecutionConfig
from pm_pipeline.engine.signals import Signal, Signals
from pm_pipeline.engine.sizing import Sizing
from pm_pipeline.engine.venue.execution import Execution, TakerMarket
from pm_pipeline.engine.venue.exits import EndedBy
from pm_pipeline.engine.venue.tape import Evidence, OutcomeTape, Tape
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


Decisions: TypeAlias = Signals | Callable[[AsOfView, Nanos], Decider]
"""What a strategy decided beforehand, or how to make what decides as a market goes."""


@dataclass(frozen=True, slots=True)
class MarketInput:
    """One market of a run. ``load`` reads its data and is called at most once, when they are first needed."""

    market: Market
    resolution: Resolution | None
    load: Callable[[], MarketData]
    signals: Decisions


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

    def add(self, found: Execution) -> None:
        """Another fill of the entry."""
        self.size += found.size
        self.cost += found.cash
        self.fees += found.fee
        self.evidence.append(found.evidence)

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


@dataclass(slots=True)
class Resting:
    """What a simulation keeps of an order that rests in a book: its number there and its name, whether it is
    being taken back and until when that may take, and how many changes of it are on their way.
    """

    number: int
    name: str
    leaves_at: Nanos | None = None
    changes: int = 0


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
    ended: str = ""
    done: bool = False
    resting: Resting | None = None


class MarketRun:
    """One market while the run is concerned with it."""

    def __init__(self, given: MarketInput) -> None:
        self.market = given.market
        self.key = str(given.market.key)
        self.load = given.load
        self.settlement = Settlement.of(given.resolution)
        self.decider: Decider = Listed(given.signals if isinstance(given.signals, Signals) else Signals())
        self.make_decider = None if isinstance(given.signals, Signals) else given.signals
        self.due: list[Nanos] = []
        self.looks_at: Nanos | None = None
        self.makes_at: Nanos | None = None
        self.lot: Micro = 1
        self._open: tuple[Tape, TakerMarket, MarketData] | None = None
        self.session: Session | None = None
        self.orders: list[Order] = []
        self.trips: dict[int, Trip] = {}
        self.swaps = 0
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

    def open(
        self,
        tape: Tape,
        taker: TakerMarket,
        session: Session | None,
        data: MarketData,
        lot: Micro,
        now: Nanos,
    ) -> None:
        """Its data are there."""
        self._open, self.session, self.lot = (tape, taker, data), session, lot
        if self.make_decider is not None:
            self.decider, self.make_decider = self.make_decider(view_of(data), now), None

    def release(self) -> None:
        """Let go of its data; of what is held the daily closes stay."""
        self._open = self.session = None
        self.closes = {outcome: kept for outcome, kept in self.closes.items() if outcome in self.trips}

    def committed(self, outcome: int) -> Micro:
        """Contracts of an outcome that our resting sales offer."""
        return sum(
            o.asked - o.filled
            for o in self.orders
            if o.resting is not None and o.outcome == outcome and o.side is Side.SELL
        )

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
        """Whether nothing more can come of it: no decision, no order, no position, no sets on their way."""
        waits = self.looks_at is not None or (self.decider.listens and bool(self.due))
        return not (waits or self.orders or self.trips or self.swaps)
