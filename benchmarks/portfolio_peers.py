"""nautilus_trader as a portfolio: the rule, Kelly and the limits in a strategy, as its documentation shows.

Runs in the environment of the peers. It keeps its own books in whole millionths, so that its orders can be
compared.
"""

import sys
from collections import deque
from decimal import Decimal
from fractions import Fraction
from math import sqrt
from typing import Any

import numpy as np

from benchmarks import points_market as world

MICRO, LOT, MILL = 1_000_000, 10_000, 1_000


def fee_of(price: int, size: int) -> int:
    """Two per cent of p (1 - p), floored to a thousandth of a cent; one price, so one product."""
    exact = size * int(world.RATE * MICRO) * price * (MICRO - price)
    return exact // (10**18 * 10) * 10


def lots_for(price: int, stake: int) -> int:
    """The most hundredths of a contract that a stake pays for, with the fee."""
    low, high = 0, stake * MICRO // price // LOT + 1
    while high - low > 1:
        lots = (low + high) // 2
        size = lots * LOT
        fits = -(-price * size // MICRO) + fee_of(price, size) <= stake
        low, high = (lots, high) if fits else (low, lots)
    return low


def kelly(p: float, ask: int, wealth: int) -> int:
    """What to spend on one offer: the set share of Kelly at the all-in cost, cut to a millionth."""
    size = world.DEPTH * MICRO * MICRO // ask // LOT * LOT
    cost = Fraction(ask * size + fee_of(ask, size) * MICRO, size * MICRO)
    even = float(cost)
    if cost >= 1 or p - (1.0 - p) * even / (1.0 - even) <= 0.0:
        return 0
    belief = Fraction(even + world.KELLY * (p - even))
    spent = belief * wealth - (1 - belief) * wealth * cost / (1 - cost)
    return int(min(max(spent, Fraction(0)), cost * size))


def main(path: str, out: str) -> None:
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig, RiskEngineConfig
    from nautilus_trader.model.currencies import USDC
    from nautilus_trader.model.data import QuoteTick
    from nautilus_trader.model.enums import AccountType, AssetClass, OmsType, OrderSide, TimeInForce
    from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
    from nautilus_trader.model.instruments import BinaryOption
    from nautilus_trader.model.objects import Money, Price, Quantity
    from nautilus_trader.trading.strategy import Strategy

    made = world.load(path)
    count, points = made.mids.shape
    prices = [Price(mills / 1000, 3) for mills in range(1001)]
    plenty = Quantity(1_000_000, 2)
    names = [InstrumentId(Symbol(f"M{n:06}"), Venue("BENCH")) for n in range(count)]
    numbers = {name: n for n, name in enumerate(names)}
    last_ts = [world.T0 + n * world.OFFSET_NS + (points - 1) * world.STEP_NS for n in range(count)]

    class Portfolio(Strategy):  # type: ignore[misc]
        def on_start(self) -> None:
            self.past = [deque(maxlen=world.WINDOW) for _ in names]
            self.sums = [[0, 0] for _ in names]
            self.bids = [0] * count
            self.cash = self.peak = world.BANKROLL * MICRO
            self.held: dict[int, tuple[int, int, int, int]] = {}
            self.leaving: set[int] = set()
            self.halted_at: int | None = None
            self.rows: list[tuple[int, int, int, int, int]] = []
            for name in names:
                self.subscribe_quote_ticks(name)

        def on_quote_tick(self, tick: Any) -> None:
            m, now = numbers[tick.instrument_id], tick.ts_event
            bid, ask = round(float(tick.bid_price) * 1000), round(float(tick.ask_price) * 1000)
            self.bids[m] = bid
            mid = (bid + ask) // 2 * MILL
            past, sums = self.past[m], self.sums[m]
            z = None
            if len(past) == world.WINDOW:
                n = world.WINDOW
                spread = n * sums[1] - sums[0] * sums[0]
                if spread > 0:
                    z = (n * mid - sums[0]) / sqrt(spread * (n / (n - 1.0)))
            mean = sums[0] / (world.WINDOW * MICRO) if z is not None else 0.0
            if len(past) == world.WINDOW:
                sums[0] -= past[0]
                sums[1] -= past[0] * past[0]
            past.append(mid)
            sums[0] += mid
            sums[1] += mid * mid
            if m in self.leaving:
                self._sell(m, bid * MILL)
                self.leaving.discard(m)
            if m in self.held and now > self.held[m][3]:
                stop, target = self.held[m][1:3]
                if bid * MILL <= stop or bid * MILL >= target:
                    if now < last_ts[m]:
                        self.leaving.add(m)
                    return
            if z is None:
                return
            if m in self.held:
                if z >= -world.EXIT:
                    self._sell(m, bid * MILL)
            elif z <= -world.ENTRY:
                self._enter(m, now, mid, ask * MILL, mean)

        def _enter(self, m: int, now: int, mid: int, ask: int, p: float) -> None:
            equity = self.cash + sum(self.bids[k] * MILL * row[0] // MICRO for k, row in self.held.items())
            self.peak = max(self.peak, equity)
            if self.halted_at is not None and now < self.halted_at + world.COOLDOWN_NS:
                return
            if (self.peak - equity) * MICRO // self.peak >= int(world.DRAWDOWN * MICRO):
                self.halted_at, self.peak = now, equity
                return
            if len(self.held) >= world.MAX_POSITIONS:
                return
            stake = kelly(p, ask, equity)
            stake = min(stake, int(Decimal(str(world.MAX_STAKE)) * max(self.cash, equity)))
            room = int(Decimal(str(world.GROSS)) * equity) - sum(self.risk[k] for k in self.held)
            stake = min(stake, room)
            if stake <= 0 or stake > self.cash:
                return
            size = min(lots_for(ask, stake) * LOT, world.DEPTH * MICRO * MICRO // ask // LOT * LOT)
            if size < MICRO:
                return
            share = int(world.STOP * MICRO)
            stop = mid * (MICRO - share) // MICRO
            target = min(-(-mid * (MICRO + int(world.TARGET * MICRO)) // MICRO), MICRO)
            self.held[m] = (size, stop, target, now)
            self.risk[m] = -(-ask * size // MICRO) + fee_of(ask, size)
            self.cash -= self.risk[m]
            self._order(m, OrderSide.BUY, size)

        def _sell(self, m: int, bid: int) -> None:
            # nothing is late here and depth is ample, so the books may run ahead of the venue's answer
            size = self.held.pop(m)[0]
            self.cash += bid * size // MICRO - fee_of(bid, size)
            self._order(m, OrderSide.SELL, size)

        def _order(self, m: int, side: Any, size: int) -> None:
            quantity = Quantity(size / MICRO, 2)
            order = self.order_factory.market(names[m], side, quantity, time_in_force=TimeInForce.IOC)
            self.submit_order(order)

        def on_order_filled(self, event: Any) -> None:
            m = numbers[event.instrument_id]
            buys = event.order_side == OrderSide.BUY
            price, size = round(float(event.last_px) * 1000) * MILL, round(float(event.last_qty) * 100) * LOT
            self.rows.append((m, event.ts_event, buys, price, size))

    engine = BacktestEngine(
        BacktestEngineConfig(
            logging=LoggingConfig(bypass_logging=True), risk_engine=RiskEngineConfig(bypass=True)
        )
    )
    engine.add_venue(
        venue=Venue("BENCH"),
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        base_currency=USDC,
        starting_balances=[Money(1_000_000_000, USDC)],
    )
    for n, name in enumerate(names):
        engine.add_instrument(
            BinaryOption(
                instrument_id=name,
                raw_symbol=name.symbol,
                outcome="Yes",
                description="benchmark",
                asset_class=AssetClass.ALTERNATIVE,
                currency=USDC,
                price_precision=3,
                price_increment=Price.from_str("0.001"),
                size_precision=2,
                size_increment=Quantity.from_str("0.01"),
                activation_ns=0,
                expiration_ns=world.T0 * 2,
                max_quantity=None,
                min_quantity=Quantity.from_str("0.01"),
                maker_fee=Decimal(0),
                taker_fee=Decimal(0),
                ts_event=0,
                ts_init=0,
            )
        )
        start = world.T0 + n * world.OFFSET_NS
        ticks = [
            QuoteTick(name, prices[m - world.HALF], prices[m + world.HALF], plenty, plenty, ts, ts)
            for m, ts in zip(
                made.mids[n].tolist(),
                range(start, start + points * world.STEP_NS, world.STEP_NS),
                strict=True,
            )
        ]
        engine.add_data(ticks, sort=n == count - 1)
    portfolio = Portfolio()
    portfolio.risk = {}
    engine.add_strategy(portfolio)
    cpu = world.timed(engine.run)
    np.savez(out, fills=np.array(portfolio.rows, np.int64).reshape(-1, 5))
    world.answer(cpu, cpu, len(portfolio.rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
