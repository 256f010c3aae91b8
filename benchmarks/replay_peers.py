"""The peers of the replay benchmark, each in the way its documentation shows.

Runs in an environment of its own: nautilus_trader 1.221.0 wants an older pandas than this project.
"""

from typing import Any

import numpy as np

from benchmarks.replay_market import CONTRACTS, EVERY, MAKERS, STEP_NS, Events, Result, answer, timed

T0 = 1_700_000_000_000_000_000


def hftbacktest_takers(events: Events) -> Result:
    return _hftbacktest(events, makers=False)


def hftbacktest_full(events: Events) -> Result:
    return _hftbacktest(events, makers=True)


def _hftbacktest(events: Events, *, makers: bool) -> Result:
    import hftbacktest as hft
    from hftbacktest.order import GTC, IOC, LIMIT
    from numba import njit

    data = np.zeros(len(events.trade), hft.event_dtype)
    kind = np.where(events.trade == 1, hft.TRADE_EVENT, hft.DEPTH_EVENT).astype(np.uint64)
    # a trade is told by the taker's side, a level by its own
    buys = np.where(events.trade == 1, events.side == 1, events.side == 0)
    flags = np.where(buys, hft.BUY_EVENT, hft.SELL_EVENT).astype(np.uint64)
    data["ev"] = kind | flags | np.uint64(hft.EXCH_EVENT) | np.uint64(hft.LOCAL_EVENT)
    data["exch_ts"] = T0 + np.arange(len(data)) * STEP_NS
    data["local_ts"] = data["exch_ts"]
    data["px"], data["qty"] = events.cents / 100, events.size

    low, high = MAKERS[0] / 100, MAKERS[1] / 100

    @njit
    def play(bt: Any, orders: int, first: int, every: int, contracts: float, rests: bool) -> None:
        bt.elapse(first)
        if rests:
            bt.submit_buy_order(0, 1, low, 1e6, GTC, LIMIT, False)
            bt.submit_sell_order(0, 2, high, 1e6, GTC, LIMIT, False)
        for n in range(orders):
            bt.elapse(every)
            if n % 2 == 0:
                bt.submit_buy_order(0, 10 + n, 0.99, contracts, IOC, LIMIT, False)
            else:
                bt.submit_sell_order(0, 10 + n, 0.01, contracts, IOC, LIMIT, False)
            bt.clear_inactive_orders(0)
        bt.elapse(1)

    def market() -> Any:
        asset = (
            hft.BacktestAsset()
            .data(data)
            .linear_asset(1.0)
            .constant_order_latency(0, 0)
            .risk_adverse_queue_model()
            .partial_fill_exchange()
            .trading_value_fee_model(0.0, 0.0)
            .tick_size(0.01)
            .lot_size(1.0)
            .roi_lb(0.0)
            .roi_ub(1.0)
            .last_trades_capacity(0)
        )
        return hft.ROIVectorMarketDepthBacktest([asset])

    orders = len(data) // EVERY - 1
    warm_up = market()
    play(warm_up, 1, STEP_NS // 2, EVERY * STEP_NS, float(CONTRACTS), makers)
    warm_up.close()
    bt = market()
    cpu = timed(lambda: play(bt, orders, STEP_NS // 2, EVERY * STEP_NS, float(CONTRACTS), makers))
    state = bt.state_values(0)
    booked = int(state.num_trades), round(state.trading_volume), round(-100 * state.balance)
    result = Result(cpu, *booked, *booked)
    bt.close()
    return result


def nautilus(events: Events) -> Result:
    from decimal import Decimal

    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig, RiskEngineConfig
    from nautilus_trader.model.currencies import USDC
    from nautilus_trader.model.data import BookOrder, OrderBookDelta, TradeTick
    from nautilus_trader.model.enums import (
        AccountType,
        AggressorSide,
        AssetClass,
        BookAction,
        BookType,
        OmsType,
        OrderSide,
        TimeInForce,
    )
    from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue
    from nautilus_trader.model.instruments import BinaryOption
    from nautilus_trader.model.objects import Money, Price, Quantity
    from nautilus_trader.trading.strategy import Strategy

    name = InstrumentId(Symbol("YES"), Venue("BENCH"))
    instrument = BinaryOption(
        instrument_id=name,
        raw_symbol=Symbol("YES"),
        outcome="Yes",
        description="benchmark",
        asset_class=AssetClass.ALTERNATIVE,
        currency=USDC,
        price_precision=2,
        price_increment=Price.from_str("0.01"),
        size_precision=0,
        size_increment=Quantity.from_int(1),
        activation_ns=0,
        expiration_ns=T0 * 2,
        max_quantity=None,
        min_quantity=Quantity.from_int(1),
        maker_fee=Decimal(0),
        taker_fee=Decimal(0),
        ts_event=0,
        ts_init=0,
    )
    prices = [Price(cents / 100, 2) for cents in range(101)]
    book_sides, aggressors = (OrderSide.BUY, OrderSide.SELL), (AggressorSide.SELLER, AggressorSide.BUYER)
    data: list[Any] = []
    for n, (trade, side, cents, size) in enumerate(zip(*(c.tolist() for c in events), strict=True)):
        ts = T0 + n * STEP_NS
        if trade:
            taker = aggressors[side]
            quantity = Quantity.from_int(max(size, 1))
            data.append(TradeTick(name, prices[cents], quantity, taker, TradeId(str(n)), ts, ts))
            continue
        action = BookAction.UPDATE if size else BookAction.DELETE
        order = BookOrder(book_sides[side], prices[cents], Quantity.from_int(size), cents)
        data.append(OrderBookDelta(name, action, order, 128, n, ts, ts))

    class Taker(Strategy):  # type: ignore[misc]
        def on_start(self) -> None:
            self.sent = 0
            self.legs: list[tuple[int, int]] = []
            self.last: dict[str, tuple[int, int]] = {}
            self.subscribe_order_book_deltas(name, managed=False)
            self._next()

        def _next(self) -> None:
            if self.sent < len(events.trade) // EVERY - 1:
                at = T0 + (self.sent + 1) * EVERY * STEP_NS + STEP_NS // 2
                self.clock.set_time_alert_ns(f"order{self.sent}", at, self._send)

        def _send(self, event: Any) -> None:
            side = OrderSide.BUY if self.sent % 2 == 0 else OrderSide.SELL
            order = self.order_factory.market(
                name, side, Quantity.from_int(CONTRACTS), time_in_force=TimeInForce.IOC
            )
            self.submit_order(order)
            self.sent += 1
            self._next()

        def on_order_filled(self, event: Any) -> None:
            sign = 1 if event.order_side == OrderSide.BUY else -1
            size = int(event.last_qty)
            leg = size, sign * size * round(float(event.last_px) * 100)
            self.legs.append(leg)
            self.last[event.client_order_id.value] = leg

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
        book_type=BookType.L2_MBP,
    )
    engine.add_instrument(instrument)
    engine.add_data(data)
    taker = Taker()
    engine.add_strategy(taker)
    cpu = timed(engine.run)
    return Result(cpu, *_summed(taker.legs), *_summed(list(taker.last.values())))


def _summed(legs: list[tuple[int, int]]) -> tuple[int, int, int]:
    return len(legs), sum(size for size, _ in legs), sum(cost for _, cost in legs)


WORKERS = {
    "hftbacktest takers": hftbacktest_takers,
    "hftbacktest full": hftbacktest_full,
    "nautilus_trader": nautilus,
}

if __name__ == "__main__":
    answer(WORKERS)
