"""An exact ledger of one bankroll in micro-dollars.

After every operation ``cash + cost of open positions = initial + realised - fees`` holds to the micro-dollar,
or :class:`LedgerError` is raised. Cash and positions are never negative.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.markets.units import Micro


class LedgerError(PipelineError):
    """An entry would break the books: cash or a position below zero, or an identity that does not hold."""


class Holding(NamedTuple):
    """One outcome of one market, as the ledger's account."""

    market_key: MarketKey
    outcome_index: int


@dataclass(frozen=True, slots=True)
class Position:
    """``size`` contracts that cost ``cost`` without fees. ``locked``: trading has ended, not yet paid."""

    size: Micro
    cost: Micro
    locked: bool = False

    def cost_of(self, size: Micro) -> Micro:
        """The average cost of a part, cut to a micro-dollar; that of the whole is all of it."""
        return self.cost if size == self.size else self.cost * size // self.size


class Credit(NamedTuple):
    """What an operation brought in for a holding, and the cost of what left."""

    size: Micro
    cost: Micro
    proceeds: Micro


class Exchange(NamedTuple):
    """What a swap of holdings did: cash that came in (negative: went out), cost that left and that stayed on
    what was taken, and the profit that was realised.
    """

    cash: Micro
    released: Micro
    carried: Micro
    realised: Micro


class Equity(NamedTuple):
    """The bankroll at marks: free cash, open positions, and positions of markets that are not yet paid."""

    cash: Micro
    positions: Micro
    locked: Micro
    open_positions: int

    @property
    def total(self) -> Micro:
        """cash + positions + locked."""
        return self.cash + self.positions + self.locked


class Ledger:
    """Cash, positions, realised profit and fees of one bankroll.

    Parameters
    ----------
    initial
        Cash at the start, micro-dollars, not negative.
    """

    def __init__(self, initial: Micro) -> None:
        if initial < 0:
            raise LedgerError(f"a bankroll cannot start at {initial} micro-dollars")
        self.initial = initial
        self.cash = initial
        self.reserved = 0
        self.realised = 0
        self.fees = 0
        self.open_cost = 0
        self._positions: dict[Holding, Position] = {}

    @property
    def available(self) -> Micro:
        """Cash that no order in flight has set aside."""
        return self.cash - self.reserved

    def position(self, holding: Holding) -> Position:
        """The position, empty where nothing is held."""
        return self._positions.get(holding, _EMPTY)

    def positions(self) -> Iterator[tuple[Holding, Position]]:
        """All open positions, in order of market and outcome."""
        return iter(sorted(self._positions.items()))

    def reserve(self, amount: Micro) -> None:
        """Set cash aside for an order in flight. Raises :class:`LedgerError` where it is not there."""
        if not 0 <= amount <= self.available:
            raise LedgerError(f"cannot reserve {amount} of {self.available} available micro-dollars")
        self.reserved += amount

    def release(self, amount: Micro) -> None:
        """Give back what :meth:`reserve` set aside."""
        if not 0 <= amount <= self.reserved:
            raise LedgerError(f"cannot release {amount} of {self.reserved} reserved micro-dollars")
        self.reserved -= amount

    def buy(self, holding: Holding, size: Micro, cost: Micro, fee: Micro) -> None:
        """Pay ``cost`` and ``fee`` for ``size`` contracts."""
        held = self.position(holding)
        if size <= 0 or cost < 0:
            raise LedgerError(f"cannot buy {size} contracts (millionths) for {cost} micro-dollars")
        if held.locked:
            raise LedgerError(f"{holding} no longer trades")
        if cost + fee > self.cash:
            raise LedgerError(f"{cost} + {fee} micro-dollars are due, the cash is {self.cash}")
        self._positions[holding] = Position(held.size + size, held.cost + cost)
        self.open_cost += cost
        self.cash -= cost + fee
        self.fees += fee
        self._check()

    def sell(self, holding: Holding, size: Micro, proceeds: Micro, fee: Micro) -> Credit:
        """Give ``size`` contracts for ``proceeds``, less ``fee``. The cost that leaves is the average cost,
        cut to a micro-dollar; what is cut stays with the rest of the position.
        """
        held = self.position(holding)
        if held.locked:
            raise LedgerError(f"{holding} no longer trades")
        if not 0 < size <= held.size or proceeds < 0:
            raise LedgerError(f"cannot sell {size} of {held.size} contracts (millionths) of {holding}")
        if self.cash + proceeds - fee < 0:
            raise LedgerError(f"a fee of {fee} micro-dollars is due, the cash is {self.cash}")
        cost = held.cost_of(size)
        self._leave(holding, size, cost, proceeds)
        self.cash -= fee
        self.fees += fee
        self._check()
        return Credit(size, cost, proceeds)

    def exchange(
        self, given: Mapping[Holding, Micro], taken: Mapping[Holding, Micro], cash: Micro
    ) -> Exchange:
        """Swap contracts for others and ``cash`` (negative: paid), as the venue's rules allow.

        Nobody is on the other side, so nothing is realised where the cost can stay. What is given leaves at
        its average cost. Cash that comes in pays that back first; the rest of it goes in equal parts to what
        is taken, what cannot be divided as a micro-dollar each to the first of them. Only cash beyond the
        cost, or a cost that nothing is left to carry, is realised.
        """
        for holding, size in given.items():
            held = self.position(holding)
            if not 0 < size <= held.size:
                raise LedgerError(f"cannot give {size} of {held.size} contracts (millionths) of {holding}")
        for holding, size in taken.items():
            if size <= 0:
                raise LedgerError(f"cannot take {size} contracts (millionths) of {holding}")
            if self.position(holding).locked:
                raise LedgerError(f"{holding} no longer trades")
        if self.available + cash < 0:
            raise LedgerError(f"{-cash} micro-dollars are due, {self.available} are available")
        costs = {holding: self.position(holding).cost_of(size) for holding, size in given.items()}
        released = sum(costs.values())
        carried = max(released - cash, 0) if taken else 0
        before = self.realised
        for holding, size in given.items():
            self._leave(holding, size, costs[holding], costs[holding])
        part, rest = divmod(carried, len(taken)) if taken else (0, 0)
        for number, (holding, size) in enumerate(sorted(taken.items())):
            held = self.position(holding)
            self._positions[holding] = Position(held.size + size, held.cost + part + (number < rest))
        self.open_cost += carried
        self.cash += cash - released
        self.realised = before + cash - released + carried
        self._check()
        return Exchange(cash, released, carried, self.realised - before)

    def lock(self, market_key: MarketKey) -> None:
        """Trading of this market has ended: its positions wait for their payment."""
        for holding in self._of(market_key):
            held = self._positions[holding]
            self._positions[holding] = Position(held.size, held.cost, locked=True)

    def settle(self, market_key: MarketKey, amounts: Mapping[int, Micro]) -> dict[int, Credit]:
        """Close all positions of a market; ``amounts`` is what each outcome's position receives in all."""
        credits = {}
        for holding in self._of(market_key):
            held, proceeds = self._positions[holding], amounts[holding.outcome_index]
            if proceeds < 0:
                raise LedgerError(f"a payout of {proceeds} micro-dollars is not a payout")
            self._leave(holding, held.size, held.cost, proceeds)
            credits[holding.outcome_index] = Credit(held.size, held.cost, proceeds)
        self._check()
        return credits

    def refund(self, market_key: MarketKey) -> dict[int, Credit]:
        """Void: every position gets back what it cost. The fees of trading stay paid (``docs/engine.md``)."""
        costs = {h.outcome_index: self._positions[h].cost for h in self._of(market_key)}
        return self.settle(market_key, costs)

    def equity(self, marks: Mapping[Holding, Micro]) -> Equity:
        """The bankroll with each position valued at ``marks``: micro-dollars for the whole position."""
        values = {False: 0, True: 0}
        for holding, held in self._positions.items():
            values[held.locked] += marks[holding]
        return Equity(self.cash, values[False], values[True], len(self._positions))

    def _of(self, market_key: MarketKey) -> list[Holding]:
        return sorted(h for h in self._positions if h.market_key == market_key)

    def _leave(self, holding: Holding, size: Micro, cost: Micro, proceeds: Micro) -> None:
        held = self._positions.pop(holding)
        if size < held.size:
            self._positions[holding] = Position(held.size - size, held.cost - cost, held.locked)
        self.open_cost -= cost
        self.cash += proceeds
        self.realised += proceeds - cost

    def _check(self) -> None:
        if self.cash + self.open_cost != self.initial + self.realised - self.fees or self.cash < 0:
            raise LedgerError(
                f"the books do not balance: cash {self.cash} + cost {self.open_cost} against "
                f"initial {self.initial} + realised {self.realised} - fees {self.fees}"
            )


_EMPTY = Position(0, 0)
