"""The kernel on recorded sessions and published numbers."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pm_pipeline.engine import ExecutionConfig, Scenario
from pm_pipeline.engine.kernel import (
    REASONS,
    Code,
    Lane,
    NewOrder,
    QueueMode,
    Session,
    Stream,
    TimeInForce,
    VenueRules,
)
from pm_pipeline.engine.money.fees import fee_model
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.venue.execution import size_for_stake, value
from pm_pipeline.markets import MICRO, Level, Side, TickRange, to_micro
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.sources.sandbox.plans import TAPERED
from pm_pipeline.warehouse.arrays import ASK, BID, LEVEL, RESET, BookLog
from pm_pipeline_tests.engine.builders import market
from pm_pipeline_tests.engine.kernel.scripts import CENT, CENTS, book_log
from pm_pipeline_tests.engine.kernel.test_equality import LOT, RULES, KernelMarket, PlainMarket
from pm_pipeline_tests.recorded import read_frames
from pm_pipeline_tests.shared import SHARED, needs_shared

SESSIONS = sorted((SHARED / "recorded" / "kalshi_btc15m_l2_2026").glob("*/session.json"))
needs_sessions = pytest.mark.skipif(not SESSIONS, reason="the recorded sessions are not here")


def log_of(folder: Path, ticker: str, *, by_place: bool = False) -> BookLog:
    """The book of one market; ``by_place``: time is the message's place, as several share a millisecond."""
    told = read_frames(folder / "ws_messages.jsonl.gz", ticker)
    kind = np.where(told.reset, RESET, LEVEL).astype(np.int8)
    side = np.where(told.reset, -1, np.where(told.is_ask, ASK, BID)).astype(np.int8)
    ts = told.seq if by_place else told.ts
    return BookLog(ts.copy(), ts.copy(), told.seq.copy(), kind, side, told.price.copy(), told.size.copy())


def places(folder: Path, ticker: str) -> dict[int, int]:
    """The place of each message of a market by the venue's number of it."""
    found: dict[int, int] = {}
    with gzip.open(folder / "ws_messages.jsonl.gz") as lines:
        for line in lines:
            if ticker.encode() in line and b'"type":"ticker"' not in line:
                frame = json.loads(line)
                if frame["msg"]["market_ticker"] == ticker:
                    found[frame["seq"]] = len(found) + 1
    return found


@needs_sessions
@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.parent.name[-24:])
def test_a_recorded_session_replays_to_every_checkpoint(path: Path) -> None:
    folder = path.parent
    lines = gzip.decompress((folder / "checkpoints_exact.jsonl.gz").read_bytes()).splitlines()
    checkpoints = [json.loads(line) for line in lines]
    checked = 0
    for ticker in json.loads(path.read_text("utf-8"))["markets"]:
        wanted = [c for c in checkpoints if c["market"] == ticker]
        if not wanted:
            continue
        session = Session(Stream.of(log_of(folder, ticker, by_place=True), [(0, TAPERED)]))
        place = places(folder, ticker)
        for checkpoint in wanted:
            session.advance(place[checkpoint["seq"]])
            yes, no = top(session)
            assert yes == [(p, to_micro(str(s))) for p, s in checkpoint["yes"]]
            assert no == [(p, to_micro(str(s))) for p, s in checkpoint["no"]]
            checked += 1
    assert checked == len(checkpoints) > 0


def top(session: Session) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The best five bids for YES and for NO; read from the cells, as a book may be crossed.

    In whole cents, because the recorder rounded what it wrote down (0.099 to 10).
    """
    prices = session.stream.grid.prices
    bids, asks = session.cells[BID::2], session.cells[ASK::2]
    yes = [(round(int(prices[n]) / CENT), int(bids[n])) for n in np.flatnonzero(bids)[::-1][:5]]
    no = [(round((MICRO - int(prices[n])) / CENT), int(asks[n])) for n in np.flatnonzero(asks)[:5]]
    return yes, no


@needs_sessions
@pytest.mark.parametrize("scenario", list(Scenario))
def test_takers_get_the_same_from_both_on_a_recorded_session(scenario: Scenario) -> None:
    ticker = "KXBTC15M-26MAY130915-15"
    log = log_of(SHARED / "recorded/kalshi_btc15m_l2_2026/rv600_forward_native_shadow_20260513T1259Z", ticker)
    of = market(f"kalshi:{ticker}", ticks=TAPERED)
    terms = ExecutionConfig(lot=LOT).under(scenario)
    model = fee_model(RULES, of, int(log.ts[0]))
    plain, kernel = PlainMarket(log, terms, MICRO), KernelMarket(log, of, terms, MICRO)
    rng, filled = np.random.default_rng(1), 0
    for at in np.linspace(int(log.ts[0]), int(log.ts[-1]), 150).astype(np.int64).tolist():
        outcome, amount = int(rng.integers(2)), int(rng.integers(MICRO, 3000 * MICRO))
        action = "buy" if rng.random() < 0.5 else "sell"
        expected, found = (getattr(x, action)(outcome, amount, None, at, model) for x in (plain, kernel))
        assert found == expected
        filled += len(found) == 3
    assert filled > 100


@needs_sessions
def test_three_readings_in_one_pass_are_those_of_three_passes() -> None:
    ticker = "KXBTC15M-26MAY130915-15"
    log = log_of(SHARED / "recorded/kalshi_btc15m_l2_2026/rv600_forward_native_shadow_20260513T1259Z", ticker)
    stream = Stream.of(log, [(0, TAPERED)])
    lanes = [
        Lane(queue=mode, depth=terms.depth)
        for mode, scenario in zip(QueueMode, Scenario, strict=True)
        for terms in [ExecutionConfig().under(scenario)]
    ]

    def orders(session: Session) -> Session:
        for n, at in enumerate(np.linspace(int(log.ts[0]), int(log.ts[-1]), 60).astype(np.int64).tolist()):
            side = (Side.BUY, Side.SELL)[n % 2]
            price = (20 + n % 60) * CENT
            tif = (TimeInForce.IOC, TimeInForce.GTC)[n % 3 > 0]
            number = session.submit(NewOrder(side=side, size=50 * MICRO, price=price, tif=tif), at)
            session.cancel(number, at + 60 * SECOND)
        session.advance()
        return session

    together = orders(Session(stream, VenueRules(), lanes))
    for n, lane in enumerate(lanes):
        alone = orders(Session(stream, VenueRules(), [lane]))
        for name in ("fills", "reports"):
            mine = getattr(together, name)
            mine = mine[mine["lane"] == n]
            columns = [c for c in mine.dtype.names if c not in ("lane", "match")]
            assert len(mine) > 10
            assert mine[columns].tolist() == getattr(alone, name)[columns].tolist()


def golden(name: str) -> Any:
    return json.loads((SHARED / "golden" / name).read_text("utf-8"))


@needs_shared
def test_the_walk_reaches_the_marginal_price_of_polymarkets_own_client() -> None:
    for case in golden("polymarket_market_price_walk.json")["cases"]:
        buys = case["side"] == "buy"
        rows = [(1, 1, RESET, -1, -1, -1)]
        for level in case["levels_api_order_worst_first"]:
            price, size = to_micro(level["price"]), to_micro(level["size"])
            rows.append((1, 1, LEVEL, ASK if buys else BID, price, size))
        session = Session(Stream.of(book_log(rows), [(0, CENTS)]))
        side, amount = Side(case["side"]), case["amount"] * MICRO
        levels = session.depth(side, 2)
        size = amount
        if buys and not isinstance(levels, Code):
            size = size_for_stake(levels, amount, 1, lambda _: 0)
            size += value(levels, side) < amount  # more than there is
        tif = TimeInForce[case["order_type"].replace("FAK", "IOC")]
        session.submit(NewOrder(side=side, size=size, tif=tif), 2)
        session.advance(2)
        assert (len(session.fills) == 0) == case["raises"], case
        if not case["raises"]:
            assert int(session.fills[-1]["price"]) == to_micro(str(case["expected_marginal_price"])), case


@needs_shared
def test_orders_of_prediction_market_bench_fill_as_published() -> None:
    cases = golden("pmbench_book_and_portfolio.json")
    rows = [(1, 1, RESET, -1, -1, -1)]
    rows += [(1, 1, LEVEL, BID, price * CENT, size * MICRO) for price, size in cases["book"]["yes_bids"]]
    rows += [
        (1, 1, LEVEL, ASK, MICRO - price * CENT, size * MICRO) for price, size in cases["book"]["no_bids"]
    ]
    stream = Stream.of(book_log(rows), [(0, CENTS)])
    book = Session(stream).book(2)
    assert book is not None
    assert [[level.price // CENT, level.size // MICRO] for level in book.asks] == cases["derived"]["yes_asks"]
    assert [[x.price // CENT, x.size // MICRO] for x in book.mirrored().asks] == cases["derived"]["no_asks"]
    for order in cases["orders"]:
        session = Session(stream)
        price = order["limit"] * CENT if "limit" in order else None
        session.submit(NewOrder(side=Side(order["action"]), size=order["count"] * MICRO, price=price), 2)
        session.advance(2)
        if order.get("rejected"):
            assert [REASONS[Code(r["code"])] for r in session.reports] == [Reason.PRICE_BEYOND_LIMIT]
            continue
        fills = [[int(f["price"]) // CENT, int(f["size"]) // MICRO] for f in session.fills]
        assert fills == (order.get("fills") or [[order["first_price"], order["filled"]]])
        assert sum(size for _, size in fills) == order["filled"]


def test_levels_of_a_tapered_grid_trade_at_their_own_prices() -> None:
    rows = [
        (1, 1, RESET, -1, -1, -1),
        *((1, 1, LEVEL, ASK, p, 10 * MICRO) for p in (93_000, 94_000, 110_000)),
    ]
    session = Session(Stream.of(book_log(rows), [(0, TAPERED)]))
    assert session.depth(Side.BUY, 1) == tuple(Level(p, 10 * MICRO) for p in (93_000, 94_000, 110_000))
    mill = Session(Stream.of(book_log(rows), [(0, (TickRange(1_000, 999_000, 1_000),))]))
    assert mill.depth(Side.BUY, 1) == session.depth(Side.BUY, 1)
