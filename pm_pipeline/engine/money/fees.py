"""What a fill costs, to the micro-dollar.

Everything is integer arithmetic on micro-units; the model fee is an exact fraction until the one rounding
that the venue makes. The rates and roundings come from :mod:`pm_pipeline.markets.rules`, so this module knows
three ways to charge, and no venue:

* **per match** (Polymarket): the taker pays once for all its fills of one match, at their average price. The
  curve ``p * (1 - p)`` is concave, so this is never less than the sum over the levels.
* **per fill** (Kalshi until 2026-02, Alpaca, the flat models): each fill is rounded by itself.
* **per fill with an accumulator** (Kalshi since 2026-03): the cash change of each fill is floored to the
  balance grid, and what the order has lost by that so far is paid back in whole units once it exceeds one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final, Literal, NamedTuple, Protocol

from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.rules import FeeRule, Formula, RuleBook
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro, divide, notional, to_micro

FeeModelName = Literal["venue", "flat_2pct", "flat_1pct", "zero"]
"""``venue``: the dated rules. The others charge a share of price times size, on every fill of either side."""

_FLAT: Final = {"flat_2pct": Decimal("0.02"), "flat_1pct": Decimal("0.01"), "zero": Decimal(0)}


class Liquidity(StrEnum):
    """Whether a fill took resting orders, was one, or needed nobody on the other side."""

    TAKER = "taker"
    MAKER = "maker"
    NONE = "none"


class FillLeg(NamedTuple):
    """One execution at one price: ``size`` contracts of the outcome we trade, at that outcome's price."""

    price: Micro
    size: Micro
    side: Side
    liquidity: Liquidity = Liquidity.TAKER


class OrderFees(Protocol):
    """The fees of one order; remembers what the venue carries from one fill of it to the next."""

    def charge(self, fills: Sequence[FillLeg]) -> Micro:
        """The fee of the fills that happen at once, in micro-dollars; never negative."""


class FeeModel(Protocol):
    """How a market charges during one validity interval."""

    @property
    def rule(self) -> FeeRule:
        """The rule behind the model."""

    def open_order(self) -> OrderFees:
        """Start the account of a new order."""

    def max_fee(
        self,
        price: Micro,
        size: Micro,
        *,
        side: Side = Side.BUY,
        liquidity: Liquidity = Liquidity.TAKER,
        fills: int = 1,
    ) -> Micro:
        """An upper bound for an order filled at ``price`` in at most ``fills`` fills, in micro-dollars."""


class Exact(NamedTuple):
    """A fee in micro-dollars before any rounding, as a fraction with a positive denominator."""

    numerator: int
    denominator: int

    def rounded(self, step: Micro, rounding: Literal["floor", "ceil", "half_even"]) -> Micro:
        """The fee as a multiple of ``step``."""
        return divide(self.numerator, self.denominator * step, rounding) * step


def exact_fee(
    formula: Formula, rate: int, exponent: int, value: int, size: Micro, side: Side = Side.BUY
) -> Exact:
    """The model fee of ``size`` contracts worth ``value``, in micro-dollars.

    ``rate`` is in millionths, ``value`` the sum of price times size in 1e-12 dollars, so that the average
    price ``value / size`` stays an exact fraction. ``side`` matters where buyers pay in contracts.

    Raises
    ------
    ValueError
        when a curve is asked about an average price outside [0, 1].
    """
    if formula is Formula.PER_CONTRACT:
        return Exact(size * rate, MICRO)
    if formula is Formula.NOTIONAL:
        return Exact(value * rate, MICRO * MICRO)
    dollar = size * MICRO  # the value of as many contracts at one dollar
    if not 0 <= value <= dollar:
        raise ValueError(f"a fee curve needs a price within [0, 1], got {value}/{dollar}")
    if not size:
        return Exact(0, 1)
    numerator = size * rate * (value * (dollar - value)) ** exponent
    denominator = MICRO * dollar ** (2 * exponent)
    in_contracts = formula is Formula.RECEIVED_CURVE and side is Side.BUY
    if formula is Formula.PRICE_CURVE or in_contracts:
        return Exact(numerator * value, denominator * dollar)
    return Exact(numerator, denominator)


@dataclass(frozen=True, slots=True)
class RuleFees:
    """The fee model of one rule. Effective rates are scaled to millionths once, when it is built."""

    rule: FeeRule
    _rates: Mapping[Liquidity, tuple[Formula, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        taker = self.rule.taker_formula, to_micro(self.rule.taker_rate * self.rule.taker_multiplier)
        maker = self.rule.maker_formula, to_micro(self.rule.maker_rate * self.rule.maker_multiplier)
        object.__setattr__(self, "_rates", {Liquidity.TAKER: taker, Liquidity.MAKER: maker})

    def open_order(self) -> OrderFees:
        """Start the account of a new order."""
        return _PerMatch(self) if self.rule.charged_per == "match" else _PerFill(self)

    def max_fee(
        self,
        price: Micro,
        size: Micro,
        *,
        side: Side = Side.BUY,
        liquidity: Liquidity = Liquidity.TAKER,
        fills: int = 1,
    ) -> Micro:
        """An upper bound for an order filled at ``price`` in at most ``fills`` fills, in micro-dollars.

        Together with the notional it also bounds every fill of a buy order at better prices, since no
        schedule falls faster than the price rises.
        """
        rule = self.rule
        fee = self.exact(price * size, size, liquidity, side).rounded(1, "ceil")
        if rule.rounding != "floor":
            fee += fills * rule.step - 1
        return fee + fills * max(rule.balance_step - 1, 0)

    def exact(self, value: int, size: Micro, liquidity: Liquidity, side: Side = Side.BUY) -> Exact:
        """The fee before rounding; ``value`` as in :func:`exact_fee`."""
        formula, rate = self._rates[liquidity]
        return exact_fee(formula, rate, self.rule.exponent, value, size, side)

    def trade_fee(self, value: int, size: Micro, liquidity: Liquidity, side: Side = Side.BUY) -> Micro:
        """The model fee, rounded to the venue's step."""
        return self.exact(value, size, liquidity, side).rounded(self.rule.step, self.rule.rounding)


@dataclass(slots=True)
class _PerMatch:
    """Takers pay once per match; a resting order pays per fill, since each fill is another match."""

    model: RuleFees

    def charge(self, fills: Sequence[FillLeg]) -> Micro:
        taken = [leg for leg in fills if leg.liquidity is Liquidity.TAKER]
        rested = [leg for leg in fills if leg.liquidity is Liquidity.MAKER]
        return sum(self._match(legs) for legs in (taken, *([leg] for leg in rested)) if legs)

    def _match(self, legs: Sequence[FillLeg]) -> Micro:
        """The fee of fills that the venue counts as one; an order has one side."""
        value, size = sum(leg.price * leg.size for leg in legs), sum(leg.size for leg in legs)
        return self.model.trade_fee(value, size, legs[0].liquidity, legs[0].side)


@dataclass(slots=True)
class _PerFill:
    """Each fill pays by itself; an order's losses by rounding are summed, and paid back in whole units."""

    model: RuleFees
    accumulator: Micro = 0

    def charge(self, fills: Sequence[FillLeg]) -> Micro:
        return sum(self._charge(leg) for leg in fills)

    def _charge(self, leg: FillLeg) -> Micro:
        fee = self.model.trade_fee(leg.price * leg.size, leg.size, leg.liquidity, leg.side)
        net, self.accumulator = settle_rounding(
            fee,
            revenue(leg),
            self.accumulator,
            balance_step=self.model.rule.balance_step,
            rebate_step=self.model.rule.rebate_step,
        )
        return net


def revenue(leg: FillLeg) -> Micro:
    """What a fill brings in, before fees: negative for a buyer. Rounded down, so never in our favour."""
    if leg.side is Side.BUY:
        return -notional(leg.price, leg.size, "ceil")
    return notional(leg.price, leg.size, "floor")


def settle_rounding(
    trade_fee: Micro, revenue: Micro, accumulator: Micro, *, balance_step: Micro, rebate_step: Micro
) -> tuple[Micro, Micro]:
    """The net fee of one fill, and the order's accumulator after it.

    The change of the balance, ``revenue - trade_fee``, is floored to ``balance_step``; the difference is the
    rounding fee. It is added to the accumulator, and while that exceeds ``rebate_step`` a unit is paid back,
    but never more than the fill costs. Source: docs.kalshi.com, "Fee Rounding", 2026-06-01.
    """
    if not balance_step:
        return trade_fee, accumulator
    fee = trade_fee + (revenue - trade_fee) % balance_step
    accumulator += fee - trade_fee
    units = min(max(accumulator - 1, 0) // rebate_step, fee // rebate_step) if rebate_step else 0
    return fee - units * rebate_step, accumulator - units * rebate_step


class Booking(NamedTuple):
    """What a match does to the books: contracts that change hands, their price in cash, and the fee.

    A buyer's cash falls by ``cash + fee``, a seller's rises by ``cash - fee``.
    """

    contracts: Micro
    cash: Micro
    fee: Micro


def booking(rule: FeeRule, side: Side, size: Micro, cash: Micro, fee: Micro) -> Booking:
    """How a match of ``size`` contracts for ``cash`` is booked, given its fee in dollars.

    Where the fee is taken from the proceeds, a buyer pays the price only and gets fewer contracts: those that
    the fee would buy at the average price of the match, rounded up to a millionth of a contract. Their price
    is the fee; the contracts that remain cost the rest, so the average price stays what it was.
    """
    if side is Side.SELL or rule.collected == "cash" or not fee:
        return Booking(size, cash, fee)
    return Booking(size - divide(fee * size, cash, "ceil"), cash - fee, fee)


def fee_model(rules: RuleBook, market: Market, at: Nanos, name: FeeModelName = "venue") -> FeeModel:
    """The fee model of a market at a moment; it holds from ``rule.valid_from`` until ``rule.valid_to``.

    ``flat_2pct`` and ``flat_1pct`` are rules of thumb (2 % for Polymarket, 1 % for Kalshi): that share of
    price times size, for takers and makers alike, each fill rounded up to the micro-dollar.

    Raises
    ------
    NoRuleError
        when the venue's rules do not reach back that far.
    """
    if name == "venue":
        return RuleFees(rules.fee(market, at))
    rate = _FLAT[name]
    return RuleFees(
        FeeRule(
            venue=market.key.venue,
            scope="*",
            valid_from=0,
            valid_to=FOREVER,
            source=f"the named alternative {name}",
            taker_formula=Formula.NOTIONAL,
            taker_rate=rate,
            taker_multiplier=Decimal(1),
            maker_formula=Formula.NOTIONAL,
            maker_rate=rate,
            maker_multiplier=Decimal(1),
            exponent=1,
            charged_per="fill",
            step=1,
            rounding="ceil",
            balance_step=0,
            rebate_step=0,
            maker_rebate=Decimal(0),
            collected="cash",
            own_terms=False,
        )
    )


def all_in_cost(model: FeeModel, price: Micro, size: Micro, *, fills: int = 1) -> Micro:
    """The most that buying ``size`` at ``price`` or better can take from the cash, fees included."""
    return notional(price, size, "ceil") + model.max_fee(price, size, fills=fills)


def affordable_size(model: FeeModel, cash: Micro, price: Micro, *, fills: int = 1) -> Micro:
    """The largest size whose :func:`all_in_cost` fits into ``cash``; 0 where not even a sliver does.

    Raises ``ValueError`` at a price of zero, where any size fits.
    """
    if price <= 0:
        raise ValueError("at a price of zero any size is affordable")
    low, high = 0, max(cash, 0) * MICRO // price + 1
    while high - low > 1:
        size = (low + high) // 2
        low, high = (size, high) if all_in_cost(model, price, size, fills=fills) <= cash else (low, size)
    return low


def maker_rebate(rule: FeeRule, price: Micro, size: Micro) -> Micro:
    """What a maker may expect back of the taker's fee on this fill; never booked, since it is paid per day.

    The fee that a taker of the same size would pay, times the rebate share, both rounded like the fee. The
    true payment is pro rata per market and day, with a minimum.
    """
    fee = RuleFees(rule).trade_fee(price * size, size, Liquidity.TAKER)
    return Exact(fee * to_micro(rule.maker_rebate), MICRO).rounded(rule.step, rule.rounding)
