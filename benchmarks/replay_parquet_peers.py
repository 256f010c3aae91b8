"""The peers of the replay from disk, each in the way its documentation shows: files of its own, then a run.

Runs in an environment of its own, see ``benchmarks/replay.py``. A first command writes a peer's files, which
is not counted; a second one loads and plays them.
"""

import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.replay_market import CONTRACTS, EVERY, STEP_NS, Events
from benchmarks.replay_parquet_market import REPEATS, Report, answer, blocks, orders, report

T0 = 1_700_000_000_000_000_000
NAME = "YES.BENCH"


# ---------------------------------------------------------------------- hftbacktest


def write_hft(folder: Path, count: int) -> None:
    import hftbacktest as hft

    data = np.zeros(count, hft.event_dtype)
    start = 0
    for events in blocks(count):
        part = data[start : start + len(events.trade)]
        kind = np.where(events.trade == 1, hft.TRADE_EVENT, hft.DEPTH_EVENT).astype(np.uint64)
        # a trade is told by the taker's side, a level by its own
        buys = np.where(events.trade == 1, events.side == 1, events.side == 0)
        flags = np.where(buys, hft.BUY_EVENT, hft.SELL_EVENT).astype(np.uint64)
        part["ev"] = kind | flags | np.uint64(hft.EXCH_EVENT) | np.uint64(hft.LOCAL_EVENT)
        part["exch_ts"] = T0 + (start + np.arange(len(part))) * STEP_NS
        part["local_ts"] = part["exch_ts"]
        part["px"], part["qty"] = events.cents / 100, events.size
        start += len(part)
    np.savez(folder / "plain.npz", data=data)
    np.savez_compressed(folder / "compressed.npz", data=data)
    np.savez(folder / "short.npz", data=data[: 2 * EVERY])


def hft_plain(folder: Path, count: int) -> Report:
    return _hft(folder, "plain.npz", count)


def hft_compressed(folder: Path, count: int) -> Report:
    return _hft(folder, "compressed.npz", count)


def _hft(folder: Path, name: str, count: int) -> Report:
    import hftbacktest as hft
    from hftbacktest.order import IOC, LIMIT
    from numba import njit

    @njit
    def play(bt: Any, orders: int, first: int, every: int, contracts: float) -> None:
        bt.elapse(first)
        for n in range(orders):
            bt.elapse(every)
            if n % 2 == 0:
                bt.submit_buy_order(0, 10 + n, 0.99, contracts, IOC, LIMIT, False)
            else:
                bt.submit_sell_order(0, 10 + n, 0.01, contracts, IOC, LIMIT, False)
            bt.clear_inactive_orders(0)
        bt.elapse(1)

    def market(file: str) -> Any:
        asset = (
            hft.BacktestAsset()
            .data([str(folder / file)])
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

    warm_up = market("short.npz")
    play(warm_up, 1, STEP_NS // 2, EVERY * STEP_NS, float(CONTRACTS))
    warm_up.state_values(0)  # compiled at its first call
    warm_up.close()
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        bt = market(name)
        play(bt, orders(count), STEP_NS // 2, EVERY * STEP_NS, float(CONTRACTS))
        times.append(time.process_time() - started)
        state = bt.state_values(0)
        booked = int(state.num_trades), round(state.trading_volume), round(-100 * state.balance)
        bt.close()
    return report(median(times), booked, booked)


# ---------------------------------------------------------------------- nautilus_trader


def _instrument() -> Any:
    from nautilus_trader.model.currencies import USDC
    from nautilus_trader.model.enums import AssetClass
    from nautilus_trader.model.identifiers import InstrumentId, Symbol
    from nautilus_trader.model.instruments import BinaryOption
    from nautilus_trader.model.objects import Price, Quantity

    return BinaryOption(
        instrument_id=InstrumentId.from_str(NAME),
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


def write_nautilus(folder: Path, count: int) -> None:
    from nautilus_trader.persistence.catalog import ParquetDataCatalog

    catalog = ParquetDataCatalog(str(folder / "catalog"))
    catalog.write_data([_instrument()])
    start = 0
    for events in blocks(count):
        for first in range(0, len(events.trade), 100_000):
            part = Events(*(column[first : first + 100_000] for column in events))
            deltas, trades = _ticks(part, start)
            catalog.write_data(deltas)
            catalog.write_data(trades)
            start += len(part.trade)


def _ticks(events: Events, start: int) -> tuple[list[Any], list[Any]]:
    from nautilus_trader.model.data import BookOrder, OrderBookDelta, TradeTick
    from nautilus_trader.model.enums import AggressorSide, BookAction, OrderSide
    from nautilus_trader.model.identifiers import InstrumentId, TradeId
    from nautilus_trader.model.objects import Price, Quantity

    name = InstrumentId.from_str(NAME)
    prices = [Price(cents / 100, 2) for cents in range(101)]
    sides, aggressors = (OrderSide.BUY, OrderSide.SELL), (AggressorSide.SELLER, AggressorSide.BUYER)
    deltas: list[Any] = []
    trades: list[Any] = []
    for n, (trade, side, cents, size) in enumerate(zip(*(c.tolist() for c in events), strict=True), start):
        ts = T0 + n * STEP_NS
        if trade:
            quantity, told = Quantity.from_int(max(size, 1)), TradeId(str(n))
            trades.append(TradeTick(name, prices[cents], quantity, aggressors[side], told, ts, ts))
            continue
        action = BookAction.UPDATE if size else BookAction.DELETE
        order = BookOrder(sides[side], prices[cents], Quantity.from_int(size), cents)
        deltas.append(OrderBookDelta(name, action, order, 128, n, ts, ts))
    return deltas, trades


def nautilus(folder: Path, count: int) -> Report:
    from nautilus_trader.backtest.node import BacktestNode
    from nautilus_trader.config import (
        BacktestDataConfig,
        BacktestEngineConfig,
        BacktestRunConfig,
        BacktestVenueConfig,
        LoggingConfig,
        RiskEngineConfig,
    )
    from nautilus_trader.model.enums import OrderSide, TimeInForce
    from nautilus_trader.model.identifiers import InstrumentId
    from nautilus_trader.model.objects import Quantity
    from nautilus_trader.trading.strategy import Strategy

    name = InstrumentId.from_str(NAME)

    class Taker(Strategy):  # type: ignore[misc]
        def on_start(self) -> None:
            self.sent = 0
            self.legs: list[tuple[int, int]] = []
            self.last: dict[str, tuple[int, int]] = {}
            self.subscribe_order_book_deltas(name, managed=False)
            self._next()

        def _next(self) -> None:
            if self.sent < orders(count):
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

    data = [
        BacktestDataConfig(
            catalog_path=str(folder / "catalog"),
            data_cls=f"nautilus_trader.model.data:{kind}",
            instrument_id=name,
        )
        for kind in ("OrderBookDelta", "TradeTick")
    ]
    venue = BacktestVenueConfig(
        name="BENCH",
        oms_type="NETTING",
        account_type="MARGIN",
        base_currency="USDC",
        starting_balances=["1000000000 USDC"],
        book_type="L2_MBP",
    )
    engine = BacktestEngineConfig(
        logging=LoggingConfig(bypass_logging=True), risk_engine=RiskEngineConfig(bypass=True)
    )
    config = BacktestRunConfig(
        engine=engine, venues=[venue], data=data, chunk_size=100_000, dispose_on_completion=False
    )
    taker = Taker()
    started = time.process_time()
    node = BacktestNode(configs=[config])
    node.build()
    node.get_engine(config.id).add_strategy(taker)
    node.run()
    spent = time.process_time() - started
    return report(spent, _summed(taker.legs), _summed(list(taker.last.values())))


def _summed(legs: list[tuple[int, int]]) -> tuple[int, int, int]:
    return len(legs), sum(size for size, _ in legs), sum(cost for _, cost in legs)


WORKERS: dict[str, Callable[[Path, int], Report]] = {
    "hftbacktest npz": hft_plain,
    "hftbacktest npz, compressed": hft_compressed,
    "nautilus_trader catalog": nautilus,
}
WRITERS = {"hftbacktest": write_hft, "nautilus_trader": write_nautilus}

if __name__ == "__main__":
    if sys.argv[1] in WRITERS:
        WRITERS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    else:
        answer(WORKERS)
