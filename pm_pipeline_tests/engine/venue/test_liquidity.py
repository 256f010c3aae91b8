"""Declared liquidity: the tables of docs/liquidity.md and of bad input in docs/engine.md, played."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.engine import Evidence, Scenario
from pm_pipeline.engine.money.fees import fee_model
from pm_pipeline.engine.scenarios import LiquidityModel
from pm_pipeline.engine.venue.execution import Execution, Refused, TakerMarket, Waiting
from pm_pipeline.engine.venue.grids import Grids
from pm_pipeline.engine.venue.liquidity import (
    CLOSES,
    EDGES,
    FAST,
    MEASURED,
    NEAR,
    VOLATILITIES,
    bands,
    resting,
)
from pm_pipeline.engine.venue.tape import Kind, Tape
from pm_pipeline.markets import MICRO, ScheduleEvidence, TickRange, to_micro
from pm_pipeline.markets.clock import FOREVER, HOUR, SECOND
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.sources.kalshi.history import price_row
from pm_pipeline.warehouse.arrays import Quotes
from pm_pipeline.warehouse.asof import MarketData
from pm_pipeline_tests.engine.builders import (
    CENT,
    at,
    bbo,
    book,
    cents,
    data,
    doc_table,
    enter,
    execution,
    market,
    mids,
    snapshot,
    tape,
)
from pm_pipeline_tests.engine.builders import given as market_input
from pm_pipeline_tests.engine.builders import run as simulated
from pm_pipeline_tests.engine.venue import recorded_liquidity
from pm_pipeline_tests.shared import needs_shared
from pm_pipeline_tests.warehouse import builders as warehouse

FREE = fee_model(RuleBook.default(), market(), at(0), "zero")
PAGE = "liquidity.md"


def taker(of: MarketData, scenario: Scenario = Scenario.BASE, **changes: Any) -> TakerMarket:
    terms = execution(**{"liquidity": LiquidityModel.MEASURED, **changes}).under(scenario)
    return TakerMarket(
        Tape(of, Grids(of.market.ticks), terms),
        terms,
        None,
        outcomes=len(of.market.instruments),
        min_order_size=CENT,
        lot=CENT,
        closed_at=FOREVER,
    )


def steps(script: str) -> list[str]:
    return [part.strip() for part in script.split(";") if part.strip()]


def quotes_of(script: str) -> list[dict[str, Any]]:
    """``0 38/40; 60 50``: best quotes, or a mid."""
    rows = []
    for part in steps(script):
        time, _, prices = part.partition(" ")
        if "/" in prices:
            bid, ask = (cents(float(p)) if p else None for p in prices.split("/"))
            rows.append({"ts": int(time), "bid": bid, "ask": ask})
        else:
            rows.append({"ts": int(time), "mid": cents(float(prices))})
    return rows


def trades_of(script: str) -> list[dict[str, Any]]:
    """``10 sell no 100 at 59 block``: executions of others."""
    rows = []
    for part in steps(script):
        found = re.fullmatch(r"(\d+) (buy|sell) (no )?([\d.]+) at ([\d.]+)( block)?", part)
        assert found, part
        time, side, no, size, price, block = found.groups()
        rows.append(
            {
                "ts": int(time),
                "side": side,
                "outcome_index": 1 if no else 0,
                "size": to_micro(size),
                "price": cents(float(price)),
                "is_block": block is not None,
            }
        )
    return rows


def history(quotes: str = "", executions: str = "") -> MarketData:
    prices = {"market_data.prices": warehouse.prices(quotes_of(quotes))}
    return data(market(), prices, {"market_data.trades": warehouse.trades(trades_of(executions))})


def play(venue: TakerMarket, order: str) -> Iterator[str]:
    """``5 buy $50 limit 40``, ``5 sell no 8``: what came of an order, match by match."""
    found = re.fullmatch(r"(\d+) (buy|sell) (no )?\$?([\d.]+)(?: limit (\d+))?", order)
    assert found, order
    time, side, no, amount, at_best = found.groups()
    outcome, left, arrived = (1 if no else 0), to_micro(amount), at(int(time))
    limit, now, fees = cents(float(at_best)) if at_best else None, arrived, FREE.open_order()
    while True:
        if side == "buy":
            got = venue.buy(outcome, left, limit, now, FREE, arrived=arrived)
        else:
            got = venue.sell(outcome, left, limit, now, fees, arrived=arrived, rest=now > arrived)
        if isinstance(got, Refused):
            yield str(got.reason)
            return
        if isinstance(got, Waiting):
            if got.until > (arrived + HOUR if side == "buy" else at(10**6)):
                yield str(got.reason)
                return
            now = got.until
            continue
        yield f"{(now - at(0)) // SECOND}: {got.price / CENT:g} x {got.size / MICRO:g}"
        left -= got.size
        if side == "buy" or not left:
            return


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize("row", doc_table("engine.md", "Bad input"), ids=lambda row: row["input"])
def test_bad_quotes_have_the_result_of_the_page(row: dict[str, str]) -> None:
    for side, amount in (("buy", "$1"), ("sell", "1")):
        [got] = play(taker(history(row["quotes"])), f"10 {side} {amount}")
        assert (got if "_" in got else got.split()[1]) == row[side]


# ---------------------------------------------------------------------- prints


@pytest.mark.parametrize("row", doc_table(PAGE, "Prints"), ids=lambda row: row["rule"])
def test_prints_fill_as_the_page_says(row: dict[str, str]) -> None:
    venue = taker(
        history(row["quotes"], row["executions"]), Scenario(row["scenario"]), liquidity=LiquidityModel.PRINTS
    )
    found = [match for order in steps(row["order"]) for match in play(venue, order)]
    assert "; ".join(found) == row["outcome"]


def prints_history(*executions: str, **changes: Any) -> TakerMarket:
    return taker(history("0 38/40", "; ".join(executions)), liquidity=LiquidityModel.PRINTS, **changes)


def test_a_fill_on_a_print_says_so_and_when_it_was_known() -> None:
    rows = [{"ts": 10, "known_at": 17, "size": 100 * MICRO, "price": 410_000}]
    of = data(market(), {"market_data.trades": warehouse.trades(rows)})
    got = taker(of, liquidity=LiquidityModel.PRINTS).buy(0, MICRO, None, at(10), FREE, arrived=at(9))
    assert isinstance(got, Execution)
    assert (got.evidence, got.known_at) == (Evidence.TRADE, at(17))


def test_the_share_of_a_print_can_be_declared() -> None:
    venue = prints_history("10 buy 100 at 41", volume_share=Fraction(1, 4))
    assert list(play(venue, "5 buy $50")) == ["10: 41 x 25"]


def test_an_exit_waits_for_a_print_after_the_one_that_set_it_off() -> None:
    venue = prints_history("10 sell 100 at 38", "20 sell 100 at 37")
    first = venue.sell(0, MICRO, None, at(10), FREE.open_order(), arrived=at(5), later_than=at(10))
    assert isinstance(first, Waiting)
    assert first.until == at(20)


@pytest.mark.parametrize("model", [LiquidityModel.MEASURED, LiquidityModel.CONSTANT])
def test_with_quotes_only_the_model_prints_trades_on_executions(model: LiquidityModel) -> None:
    of = history("0 38/40", "10 buy 100 at 41")
    got = taker(of, liquidity=model).buy(0, MICRO, None, at(5), FREE, arrived=at(5))
    assert isinstance(got, Execution)
    assert (got.price, got.evidence) == (400_000, Evidence.BBO)


@pytest.mark.parametrize("model", list(LiquidityModel))
def test_without_any_quote_every_model_trades_on_executions(model: LiquidityModel) -> None:
    venue = taker(history("", "3 buy 10 at 40; 10 buy 100 at 41"), liquidity=model)
    assert list(play(venue, "5 buy $50")) == ["10: 41 x 10"]


def test_from_its_first_message_on_the_book_trades_and_no_print() -> None:
    of = data(
        market(),
        book(snapshot(100, [(38, 50)], [(43, 50)], ts=100)),
        {"market_data.trades": warehouse.trades(trades_of("10 buy 100 at 41; 120 buy 100 at 41"))},
    )
    path = tape(of, liquidity=LiquidityModel.PRINTS)
    assert [path.on_prints(0, at(t)) for t in (50, 99, 100, 110)] == [True, True, False, False]


def test_executions_alone_bound_what_a_position_is_worth() -> None:
    script = "0 buy 1 at 44; 1 sell 1 at 40; 2 buy 1 at 42; 3 buy 1 at 39; 4 sell 1 at 41; 5 sell no 1 at 55"
    yes = tape(history("", script)).outcome(0).touch
    assert (yes.bid // CENT).tolist() == [-1, 40, 40, 39, 41, 41]
    assert (yes.ask // CENT).tolist() == [44, 44, 42, 39, 41, 45]
    assert set(yes.kind) == {Kind.TRADE}
    assert set(yes.mid) == {-1}
    no = tape(history("", script)).outcome(1).touch
    assert (no.ask[1:] // CENT).tolist() == [60, 60, 61, 59, 59]


TRADES = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.sampled_from(["buy", "sell"]),
        st.integers(0, 1),
        st.integers(0, 300 * MICRO),
        st.integers(0, MICRO),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    trades=TRADES,
    orders=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.booleans()), max_size=8),
)
def test_we_never_take_more_than_our_share_nor_spend_more_than_the_stake(
    trades: list[tuple[int, str, int, int, int, bool]], orders: list[tuple[int, int, bool]]
) -> None:
    names = ("ts", "side", "outcome_index", "size", "price", "is_block")
    rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in trades]
    venue = taker(data(market(), {"market_data.trades": warehouse.trades(rows)}))
    taken = 0
    for now, outcome, buys in sorted(orders):
        if buys:
            got = venue.buy(outcome, 7 * MICRO, None, at(now), FREE, arrived=at(now - 1))
        else:
            got = venue.sell(outcome, 9 * MICRO, None, at(now), FREE.open_order(), arrived=at(now - 1))
        if isinstance(got, Execution):
            taken += got.size
            assert not buys or got.cash <= 7 * MICRO
            paid = [
                row["price"] if row["outcome_index"] == outcome else MICRO - row["price"]
                for row in rows
                if row["ts"] == now and not row["is_block"]
                if (row["outcome_index"] == outcome) == (row["side"] == ("buy" if buys else "sell"))
            ]
            assert min(paid) <= got.price <= max(paid) + CENT if buys else min(paid) - CENT <= got.price
    assert taken <= sum(row["size"] for row in rows if not row["is_block"]) / 10


# ---------------------------------------------------------------------- the measured table


def test_the_page_shows_the_table_that_ships() -> None:
    rows = doc_table(PAGE, "Measured")
    assert len(rows) == len(MEASURED) == len(EDGES) * len(VOLATILITIES) * len(CLOSES)
    order = sorted(rows, key=lambda row: [recorded_liquidity.AXES[name].index(row[name]) for name in AXES])
    for row, shipped in zip(order, MEASURED, strict=True):
        assert row["half-spread"] == " / ".join(f"{x / CENT:g}" for x in shipped.half_spread)
        assert row["contracts"] == " / ".join(f"{x / MICRO:g}" for x in shipped.contracts)


AXES = tuple(recorded_liquidity.AXES)


@needs_shared
@pytest.mark.slow
def test_the_recorded_books_say_what_the_page_shows() -> None:
    assert recorded_liquidity.page(recorded_liquidity.measure()) == doc_table(PAGE, "Measured")


def test_no_row_is_better_than_a_calmer_one_or_one_farther_from_the_close() -> None:
    rows = np.array([(row.half_spread, row.contracts) for row in MEASURED]).reshape(3, 3, 2, 2, 3)
    assert (np.diff(rows[:, :, :, 0], axis=1) >= 0).all()
    assert (np.diff(rows[:, :, :, 0], axis=2) >= 0).all()
    assert (np.diff(rows[:, :, :, 1], axis=1) <= 0).all()
    assert (np.diff(rows[:, :, :, 1], axis=2) <= 0).all()
    assert (np.diff(rows[..., 0, :], axis=-1) <= 0).all()
    assert (np.diff(rows[..., 1, :], axis=-1) >= 0).all()


def quotes(points: list[tuple[int, int]], known: list[int] | None = None) -> Quotes:
    """Mids (second, millionths), in the order in which they were known."""
    ts = np.array([at(t) for t, _ in points], dtype=np.int64)
    mid = np.array([m for _, m in points], dtype=np.int64)
    none = np.full(len(ts), -1)
    known_at = ts.copy() if known is None else np.array([at(t) for t in known], dtype=np.int64)
    return Quotes(ts, known_at, mid, none, none.copy())


@pytest.mark.parametrize(
    ("price", "edge"), [(1, 0), (4.9, 0), (5, 1), (19.9, 1), (20, 2), (50, 2), (80, 2), (80.1, 1), (95.1, 0)]
)
def test_a_price_is_as_far_as_from_the_nearer_end(price: float, edge: int) -> None:
    assert bands(quotes([(0, round(price * CENT))]), None).edge.tolist() == [edge]


@pytest.mark.parametrize(
    ("left", "close"), [(7 * HOUR, 0), (6 * HOUR + 1, 0), (6 * HOUR, NEAR), (0, NEAR), (-HOUR, NEAR)]
)
def test_the_announced_close_is_near_from_six_hours_on(left: int, close: int) -> None:
    assert bands(quotes([(0, 500_000)]), at(0) + left).close.tolist() == [close]


def test_a_close_that_nobody_announced_is_near() -> None:
    assert bands(quotes([(0, 500_000)]), None).close.tolist() == [NEAR]
    hindsight = market(schedule_evidence=ScheduleEvidence.HINDSIGHT, scheduled_close=at(10**6))
    listed = market(scheduled_close=at(10**6))
    offers = [
        tape(data(of, mids([(0, 10)])), liquidity=LiquidityModel.MEASURED).outcome(0).touch.ask[0]
        for of in (hindsight, listed)
    ]
    assert offers == [13 * CENT, 12 * CENT]
    assert bands(quotes([(0, 500_000)]), at(10**6)).close.tolist() == [0]


STEP_S = 300


@pytest.mark.parametrize(
    ("moves", "band"),
    [
        ([0] * 30, 0),
        # c cents each 5 minutes is c * sqrt(12) cents per square root of an hour
        ([CENT // 2] * 30, 0),
        ([int(0.6 * CENT)] * 30, 1),
        ([int(2.3 * CENT)] * 30, 1),
        ([int(2.4 * CENT)] * 30, 2),
    ],
)
def test_volatility_is_the_root_of_the_squared_changes_per_hour(moves: list[int], band: int) -> None:
    mid = [500_000 + (move if n % 2 else 0) for n, move in enumerate(moves)]
    start = -at(0) // SECOND % STEP_S
    points = [(start + n * STEP_S, m) for n, m in enumerate(mid)]
    assert bands(quotes(points), None).volatility[-1] == band


def test_finer_recording_of_the_same_path_moves_no_more() -> None:
    start = -at(0) // SECOND % STEP_S
    path = {start + n * STEP_S: 500_000 + 15_000 * (n // 12 % 2) for n in range(60)}
    fine = [(t + s, mid + bounce) for t, mid in path.items() for s, bounce in ((0, 0), (60, 5_000), (200, 0))]
    found = [int(bands(quotes(points), None).volatility[-1]) for points in (list(path.items()), fine)]
    assert found == [0, 0]


def test_a_market_without_history_or_with_a_stale_one_counts_as_fast() -> None:
    found = bands(quotes([(0, 500_000), (60, 500_000), (4 * 3600, 500_000)]), None)
    assert found.volatility.tolist() == [FAST] * 3


POINTS = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(0, 5_000), st.integers(0, 100)), min_size=1, max_size=40
)


@settings(max_examples=200, deadline=None)
@given(points=POINTS, cut=st.integers(0, 25_000))
def test_what_becomes_known_later_changes_no_earlier_row(
    points: list[tuple[int, int, int]], cut: int
) -> None:
    rows = sorted((ts + late, ts, mid * CENT) for ts, late, mid in points)
    whole = quotes([(ts, mid) for _, ts, mid in rows], [known for known, _, _ in rows])
    seen = whole.until(at(cut))
    for full, cut_short in zip(bands(whole, at(15_000)), bands(seen, at(15_000)), strict=True):
        assert full[: len(seen)].tolist() == cut_short.tolist()


@settings(max_examples=100, deadline=None)
@given(points=POINTS)
def test_a_row_says_nothing_of_its_own_volatility(points: list[tuple[int, int, int]]) -> None:
    rows = [(ts, mid * CENT) for ts, _, mid in sorted(points)]
    other = [*rows[:-1], (rows[-1][0], MICRO - rows[-1][1])]
    assert bands(quotes(rows), None).volatility[-1] == bands(quotes(other), None).volatility[-1]


@pytest.mark.parametrize("scenario", list(Scenario))
@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 1000)), min_size=1, max_size=20),
    half=st.integers(0, 60_000),
    depth=st.integers(1, 400),
    tick=st.sampled_from([1_000, 10_000, 50_000]),
)
def test_measured_is_never_better_than_declared_nor_than_the_table(
    scenario: Scenario, points: list[tuple[int, int]], half: int, depth: int, tick: int
) -> None:
    of = data(
        market(ticks=(TickRange(0, MICRO, tick),)),
        {"market_data.prices": warehouse.prices([{"ts": t, "mid": m * 1000} for t, m in sorted(points)])},
    )
    terms = {"half_spread": half, "depth_usd": depth * MICRO}
    measured = tape(of, scenario, **terms, liquidity=LiquidityModel.MEASURED).outcome(0).touch
    constant = tape(of, scenario, **terms).outcome(0).touch
    told = resting(of.quotes(0), of.market.scheduled_close, scenario)
    sold, bought = measured.bid >= 0, measured.ask >= 0
    assert (measured.bid[sold] <= constant.bid[sold]).all()
    assert (measured.ask[bought] >= constant.ask[bought]).all()
    assert (measured.mid[sold] - measured.bid[sold] >= told.half_spread[sold]).all()
    assert (measured.ask[bought] - measured.mid[bought] >= told.half_spread[bought]).all()
    assert (measured.ask_size[bought] <= told.contracts[bought]).all()
    assert (measured.ask_size[bought] * measured.ask[bought] <= depth * MICRO * MICRO).all()
    assert (measured.bid[sold] % tick == 0).all()
    assert (measured.ask[bought] % tick == 0).all()
    assert (constant.ask_size == -1).all()


def test_the_other_outcome_has_the_mirrored_sizes() -> None:
    rows = {"market_data.prices": warehouse.prices([{"ts": 0, "mid": 30 * CENT}])}
    path = tape(data(market(), rows), liquidity=LiquidityModel.MEASURED, depth_usd=3 * MICRO)
    yes, no = path.outcome(0).touch, path.outcome(0).touch.mirrored()
    assert (yes.bid_size[0], yes.ask_size[0]) == (no.ask_size[0], no.bid_size[0])
    assert yes.bid_size[0] > yes.ask_size[0]


def test_measured_contracts_are_what_an_order_gets_and_no_more() -> None:
    # 20 cents from the end, no history, no announced close: 12 contracts at the base
    venue = taker(data(market(scheduled_close=None), mids([(0, 50), (60, 50)])))
    got = venue.buy(0, 100 * MICRO, None, at(1), FREE)
    assert isinstance(got, Execution)
    assert (got.price, got.size, got.evidence) == (520_000, 12 * MICRO, Evidence.MID)
    again = venue.buy(0, 100 * MICRO, None, at(2), FREE)
    assert isinstance(again, Waiting)
    assert again.until == at(60)


# ---------------------------------------------------------------------- candles


def candle(end: int, bid: tuple[int, int, int, int], ask: tuple[int, int, int, int]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "market_key": "polymarket:1",
        "outcome_index": 0,
        "ts": at(end),
        "known_at": at(end),
    }
    for name, line in (("bid", bid), ("ask", ask)):
        row |= {f"{name}_{p}": v * CENT for p, v in zip(("open", "high", "low", "close"), line, strict=True)}
    return row | {"period_s": 60}


def test_a_candle_trades_at_its_close_from_its_end_on_and_never_at_its_extremes() -> None:
    rows = [
        price_row(candle(60, (38, 45, 30, 38), (40, 47, 32, 40))),
        price_row(candle(120, (50, 60, 20, 50), (52, 62, 22, 52))),
    ]
    table = warehouse.prices(
        [
            {**row, "ts": (row["ts"] - at(0)) // SECOND, "known_at": (row["known_at"] - at(0)) // SECOND}
            for row in rows
        ]
    )
    of = data(market(), {"market_data.prices": table})
    assert next(play(taker(of), "30 buy $1")).startswith("60: 40 x")
    assert next(play(taker(of), "61 buy $1")).startswith("61: 40 x")
    assert next(play(taker(of), "119 buy $1")).startswith("119: 40 x")
    assert next(play(taker(of), "120 sell 1")).startswith("120: 50 x")
    assert of.quotes(0).known_at.tolist() == of.quotes(0).ts.tolist() == [at(60), at(120)]


# ---------------------------------------------------------------------- evidence of a whole run


def test_a_position_in_a_market_of_executions_alone_is_sold_to_those_who_bought() -> None:
    script = "10 buy 1000 at 41; 20 sell 400 at 30; 30 sell 900 at 28; 40 sell 900 at 27"
    tables = {"market_data.trades": warehouse.trades(trades_of(script))}
    entry = enter(5, stake=41 * MICRO, stop_price=35 * CENT)
    result = simulated(market_input(tables, [entry]))
    fills = [
        (row["price"] // CENT, row["size"] // MICRO, row["evidence"]) for row in result.fills.to_pylist()
    ]
    assert fills == [(41, 100, "trade"), (28, 90, "trade"), (27, 10, "trade")]
    [trip] = result.trips.to_pylist()
    assert (trip["ended_by"], trip["pnl"]) == ("stop", 25_200_000 + 2_700_000 - 41_000_000)


def test_fills_and_trips_say_what_they_rest_on() -> None:
    trades = {"market_data.trades": warehouse.trades(trades_of("10 buy 1000 at 41; 300 sell 1000 at 44"))}
    given_market = market_input(
        {**bbo([(0, 39, 41), (200, 43, 45)]), **trades},
        [
            enter(1, stake=MICRO * 4),
        ],
    )
    result = simulated(given_market, liquidity=LiquidityModel.PRINTS)
    assert [(row["evidence"], row["price"]) for row in result.fills.to_pylist()] == [("trade", 410_000)]
    assert [row["evidence"] for row in result.trips.to_pylist()] == ["trade"]
