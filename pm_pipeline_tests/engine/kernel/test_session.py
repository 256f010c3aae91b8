import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.engine.kernel import (
    Code,
    FillEvidence,
    Lane,
    Latency,
    NewOrder,
    QueueMode,
    Session,
    Status,
    Stream,
    TimeInForce,
    VenueRules,
)
from pm_pipeline.engine.money.fees import Liquidity
from pm_pipeline.errors import UsageError
from pm_pipeline.markets import MICRO, Level, Side
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.warehouse.arrays import ASK, BID, LEVEL, RESET
from pm_pipeline_tests.engine.kernel.scripts import (
    CENT,
    CENTS,
    Script,
    book_log,
    fills,
    reports,
    trade_arrays,
)

Row = tuple[int, int, int, int, int, int]


def snapshot(ts: int, seq: int, bids: dict[int, int], asks: dict[int, int]) -> list[Row]:
    """A whole book; prices in cents, sizes in contracts."""
    sides = ((BID, bids), (ASK, asks))
    levels = [(ts, seq, LEVEL, side, p * CENT, s * MICRO) for side, of in sides for p, s in of.items()]
    return [(ts, seq, RESET, -1, -1, -1), *levels]


def session(rows: list[Row], *lanes: Lane, seed: int = 0, **rules: Any) -> Session:
    stream = Stream.of(book_log(rows), [(0, CENTS)])
    return Session(stream, VenueRules(**rules), lanes or (Lane(),), seed=seed)


DEEP = snapshot(1, 1, {45: 100, 40: 200}, {48: 50, 50: 150})


def test_cash_is_rounded_against_us_once_per_match() -> None:
    rows = [(1, 1, RESET, -1, -1, -1)]
    rows += [(1, 1, LEVEL, ASK, 33 * CENT, 1), (1, 1, LEVEL, ASK, 34 * CENT, 10 * MICRO + 1)]
    rows += [(1, 1, LEVEL, BID, 31 * CENT, 10)]
    venue = session(rows)
    bought, sold = venue.take(Side.BUY, 10 * MICRO, 2), venue.take(Side.SELL, 10, 2)
    # 0.33 and 3.39999966 micro-dollars above 3.4 dollars less one millionth of a contract
    assert venue.orders[0, bought]["cash"] == -(-(330_000 + 340_000 * (10 * MICRO - 1)) // MICRO)
    assert venue.orders[0, sold]["cash"] == 3


def test_a_billion_contracts_stay_exact() -> None:
    size = 10**9 * MICRO
    venue = session([(1, 1, RESET, -1, -1, -1), (1, 1, LEVEL, ASK, 99 * CENT, size)])
    number = venue.take(Side.BUY, size - 1, 2)
    assert int(venue.orders[0, number]["cash"]) == -(-990_000 * (size - 1) // MICRO)


def test_a_match_is_handed_to_the_fee_models_as_one() -> None:
    venue = session(DEEP)
    number = venue.take(Side.BUY, 60 * MICRO, 2, outcome=1)
    ((leg,),) = venue.matches(number)
    assert (leg.price, leg.size, leg.side, leg.liquidity) == (
        55 * CENT,
        60 * MICRO,
        Side.BUY,
        Liquidity.TAKER,
    )


def test_each_hit_of_a_resting_order_is_a_match_of_its_own() -> None:
    played = Script("buy 10 at 46 gtc; trade sell 46 4; trade sell 46 9").play()
    matches = played.matches(0)
    assert [[leg.size // MICRO for leg in legs] for legs in matches] == [[4], [6]]
    assert {leg.liquidity for legs in matches for leg in legs} == {Liquidity.MAKER}
    assert set(played.fills["evidence"]) == {FillEvidence.TRADE}
    assert played.orders[0, 0]["status"] == Status.DONE
    assert played.orders[0, 0]["cash"] == 4_600_000


def test_a_fill_names_the_event_that_made_it() -> None:
    played = Script("buy 10 at 46 gtc; trade sell 46 4; ask 46 6").play()
    stream = played.stream
    rows = played.fills["row"]
    assert stream.ts[rows].tolist() == played.fills["at"].tolist()
    assert played.fills["evidence"].tolist() == [FillEvidence.TRADE, FillEvidence.L2]
    assert stream.known_at[rows].tolist() == stream.ts[rows].tolist()


@pytest.mark.parametrize(
    ("share", "expected"), [(Fraction(1), 50), (Fraction(1, 2), 25), (Fraction(1, 3), 16)]
)
def test_a_lane_gets_its_share_of_the_depth_in_whole_lots(share: Fraction, expected: int) -> None:
    venue = session(DEEP, Lane(depth=share), lot=MICRO)
    found = venue.depth(Side.BUY, 2)
    assert isinstance(found, tuple)
    assert found[0] == Level(48 * CENT, expected * MICRO)


def test_lanes_do_not_see_each_others_fills() -> None:
    slow, fast = Lane(latency=Latency.constant(SECOND)), Lane()
    venue = session(DEEP, slow, fast)
    for _ in range(2):
        venue.submit(NewOrder(side=Side.BUY, size=50 * MICRO), 2)
    venue.advance()
    for lane, at in enumerate((2 + SECOND, 2)):
        mine = venue.fills[venue.fills["lane"] == lane]
        assert mine["price"].tolist() == [48 * CENT, 50 * CENT]
        assert set(mine["at"]) == {at}


def test_impact_moves_our_later_prices_and_decays() -> None:
    venue = session(DEEP, Lane(impact=5_000.0, half_life=60 * SECOND), max_age=10**15)
    venue.take(Side.BUY, 16 * MICRO, 2)
    pushed = venue.depth(Side.BUY, 2)
    # sqrt(16) times half a cent: two cents
    assert pushed == (Level(50 * CENT, 34 * MICRO), Level(52 * CENT, 150 * MICRO))
    assert venue.depth(Side.SELL, 2) == (Level(45 * CENT, 100 * MICRO), Level(40 * CENT, 200 * MICRO))
    later = venue.depth(Side.BUY, 2 + 120 * SECOND)
    assert isinstance(later, tuple)
    assert later[0].price == 49 * CENT  # a quarter of the volume is left: one cent
    venue.take(Side.BUY, 34 * MICRO, 2 + 120 * SECOND)
    assert venue.fills[-1]["price"] == 49 * CENT
    assert venue.depth(Side.BUY, 3 + 120 * SECOND, limit=50 * CENT) is Code.PRICE_BEYOND_LIMIT


def test_impact_on_sales_moves_down_and_cutting_an_order_does_not_help() -> None:
    lane = Lane(impact=10_000.0)
    whole, pieces = session(DEEP, lane), session(DEEP, lane)
    whole.take(Side.SELL, 64 * MICRO, 2)
    for _ in range(16):
        pieces.take(Side.SELL, 4 * MICRO, 2)
    first = [venue.depth(Side.SELL, 2) for venue in (whole, pieces)]
    assert first[0] == first[1] == (Level(37 * CENT, 36 * MICRO), Level(32 * CENT, 200 * MICRO))


def test_impact_beyond_the_grid_leaves_nothing() -> None:
    venue = session(snapshot(1, 1, {}, {98: 500}), Lane(impact=10_000.0))
    venue.take(Side.BUY, 100 * MICRO, 2)
    assert venue.depth(Side.BUY, 2) is Code.PRICE_BEYOND_LIMIT


def test_a_command_arrives_after_the_latency_of_its_kind() -> None:
    lane = Lane(latency=Latency(submit=SECOND, cancel=2 * SECOND, amend=3 * SECOND))
    venue = session(DEEP, lane)
    number = venue.submit(NewOrder(side=Side.BUY, size=10 * MICRO, price=46 * CENT, tif=TimeInForce.GTC), 2)
    venue.amend(number, 2, price=47 * CENT)
    venue.cancel(number, 2)
    venue.advance(2 + 2 * SECOND)
    assert venue.orders[0, number]["level"] == 45
    venue.advance(2 + 3 * SECOND)
    # the cancellation was sent after the amendment, so it does not overtake it
    assert venue.orders[0, number]["level"] == 46
    assert venue.reports[["at", "code"]].tolist() == [(2 + 3 * SECOND, Code.CANCELLED)]
    assert venue.orders[0, number]["arrived_at"] == 2 + SECOND


def test_draws_depend_on_seed_and_number_alone() -> None:
    latency = Latency(submit=SECOND, sigma=0.5)
    numbers = np.arange(10_000)
    kinds = np.zeros(10_000, np.int64)
    together = latency.draw(kinds, numbers, 7)
    parts = [latency.draw(kinds[:1], numbers[n : n + 1], 7)[0] for n in range(0, 10_000, 997)]
    assert parts == together[::997].tolist()
    assert latency.draw(kinds, numbers, 8).tolist() != together.tolist()
    assert abs(np.median(together) / SECOND - 1) < 0.05
    assert abs(np.std(np.log(together)) - 0.5) < 0.02
    assert Latency.constant(5).draw(np.array([0, 1, 2]), np.arange(3), 1).tolist() == [5, 5, 5]


def test_the_same_seed_gives_the_same_rows() -> None:
    rows = [r for n in range(40) for r in snapshot(1 + n * SECOND, n, {45: 10 + n}, {48: 5 + n % 7})]
    lanes = [Lane(latency=Latency(submit=SECOND, sigma=1.0), queue=mode) for mode in QueueMode]

    def play(seed: int) -> list[Any]:
        venue = session(rows, *lanes, seed=seed)
        for n in range(20):
            venue.submit(NewOrder(side=Side.BUY, size=3 * MICRO), 1 + n * SECOND)
        venue.advance()
        return list(venue.fills.tolist())

    assert play(1) == play(1)
    assert play(1) != play(2)


@settings(max_examples=40, deadline=None)
@given(stops=st.lists(st.integers(1, 70), max_size=6), data=st.data())
def test_it_does_not_matter_in_how_many_pieces_time_passes(stops: list[int], data: st.DataObject) -> None:
    steps = data.draw(
        st.lists(
            st.sampled_from(
                [
                    "buy 30 at 47 gtc",
                    "sell 30 at 46 gtc",
                    "buy 70",
                    "sell 20 at 45 fok",
                    "buy 5 at 44 gtd 3",
                    "cancel 1",
                    "amend 1 size 10",
                    "bid 46 20",
                    "ask 47 15",
                    "ask 48 0",
                    "bid 45 30",
                    "trade sell 45 60",
                    "trade buy 47 40",
                    "gap",
                    "snapshot",
                    "snapshot 44x10 / 47x5",
                ]
            ),
            min_size=1,
            max_size=40,
        )
    )
    text = "; ".join(["buy 10 at 40 gtc", *steps])
    lanes = [Lane(queue=mode, depth=Fraction(1, 1 + mode)) for mode in QueueMode]
    whole = Script(text).play(lanes)
    script = Script(text)
    cut = Session(whole.stream, VenueRules(min_size=5 * MICRO, lot=MICRO), lanes)
    pauses = {(10 + s) * SECOND for s in stops if (10 + s) * SECOND < script.end}
    for moment in sorted({*pauses, script.end}):
        while script.commands and script.commands[0][0] <= moment:
            script.obey(cut, *script.commands.pop(0))
        cut.advance(moment)
    assert cut.fills.tolist() == whole.fills.tolist()
    assert cut.reports.tolist() == whole.reports.tolist()
    _never_more_than_asked_or_offered(whole)


def _never_more_than_asked_or_offered(venue: Session) -> None:
    """Orders are never overfilled, limits hold, and a trade fills no more than its own size."""
    orders = venue.orders
    assert np.all(orders["filled"] <= np.maximum(orders["size"], orders["filled"]))
    for lane in range(len(venue.lanes)):
        mine = venue.fills[venue.fills["lane"] == lane]
        for number in np.unique(mine["order"]).tolist():
            own = mine[mine["order"] == number]
            assert own["size"].sum() == orders[lane, number]["filled"]
            assert own["size"].min() > 0
        by_trade = mine[mine["evidence"] == FillEvidence.TRADE]
        for row in np.unique(by_trade["row"]).tolist():
            assert by_trade["size"][by_trade["row"] == row].sum() <= venue.stream.size[row]


def test_tables_grow_as_they_fill_up() -> None:
    rows = snapshot(1, 1, dict.fromkeys(range(1, 40), 1), dict.fromkeys(range(60, 100), 1))
    venue = session([(n * SECOND + 1, n, row[2], row[3], row[4], row[5]) for n in range(60) for row in rows])
    for n in range(60):
        venue.submit(NewOrder(side=Side.BUY, size=40 * MICRO), n * SECOND + 1)
        venue.submit(NewOrder(side=Side.SELL, size=50 * MICRO), n * SECOND + 1)
    venue.advance()
    assert len(venue.fills) == 60 * (40 + 39)
    assert len(venue.reports) == 60
    assert venue.orders["filled"].sum() == 60 * (40 + 39) * MICRO


def test_before_the_market_opens_nothing_trades() -> None:
    venue = session(DEEP, opens_at=10)
    venue.submit(NewOrder(side=Side.BUY, size=MICRO), 5)
    venue.submit(NewOrder(side=Side.BUY, size=MICRO), 10)
    venue.advance(10)
    assert (fills(venue), reports(venue)) == ("2:48x1", "1:not_open")


def test_an_order_held_when_the_market_closes_dies() -> None:
    played = Script("buy 10 delay 5; close; wait 9").play()
    assert (fills(played), reports(played)) == ("", "1:market_closed")


def test_a_price_of_one_is_displayed_and_not_traded() -> None:
    rows = [(1, 1, RESET, -1, -1, -1), (1, 1, LEVEL, ASK, MICRO, MICRO), (1, 1, LEVEL, BID, 0, MICRO)]
    venue = session([*rows, (1, 1, LEVEL, BID, 45 * CENT, MICRO)])
    assert venue.depth(Side.BUY, 2) is Code.NO_QUOTE
    assert venue.depth(Side.SELL, 2) == (Level(45 * CENT, MICRO),)


def test_negotiated_trades_do_not_reach_the_book() -> None:
    rows = [*DEEP, (9, 9, LEVEL, BID, 44 * CENT, MICRO)]
    block = trade_arrays([(5, -1, 46 * CENT, 100 * MICRO)], block=True)
    mirrored = trade_arrays([(6, 1, 54 * CENT, 3 * MICRO)], outcome=1)  # who buys NO at 54 sells YES at 46
    for trades, filled in ((block, 0), (mirrored, 3)):
        venue = Session(Stream.of(book_log(rows), [(0, CENTS)], trades=trades))
        order = NewOrder(side=Side.BUY, size=10 * MICRO, price=46 * CENT, tif=TimeInForce.GTC)
        number = venue.submit(order, 2)
        venue.advance(20)
        assert venue.orders[0, number]["filled"] == filled * MICRO


@pytest.mark.parametrize(
    "stated",
    [
        {"tif": TimeInForce.GTC},
        {"outcome": 2},
        {"price": 500_000, "post_only": True},
        {"price": 500_000, "tif": TimeInForce.GTD},
        {"price": 500_000, "tif": TimeInForce.GTC, "expires_at": 5},
    ],
    ids=str,
)
def test_an_order_that_contradicts_itself_is_a_mistake_of_the_caller(stated: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        NewOrder(side=Side.BUY, size=MICRO, **stated)


@pytest.mark.parametrize(
    "make",
    [
        lambda: VenueRules(lot=0),
        lambda: VenueRules(min_size=-1),
        lambda: Lane(depth=Fraction(0)),
        lambda: Lane(depth=Fraction(2)),
        lambda: Lane(impact=-1.0),
        lambda: Lane(half_life=0),
        lambda: Latency(submit=-1),
        lambda: Latency(sigma=float("nan")),
        lambda: Session(Stream.of(book_log([]), [(0, CENTS)]), lanes=()),
    ],
)
def test_impossible_terms_are_refused(make: Any) -> None:
    with pytest.raises(UsageError):
        make()


def test_time_only_moves_on() -> None:
    venue = session(DEEP)
    venue.advance(10)
    with pytest.raises(UsageError, match="cannot go back"):
        venue.advance(9)
    with pytest.raises(UsageError, match="decided before"):
        venue.submit(NewOrder(side=Side.BUY, size=MICRO), 9)
    with pytest.raises(UsageError, match="there is no order 3"):
        venue.cancel(3, 11)


PLAIN = """
from pm_pipeline.engine.kernel import warm
from pm_pipeline_tests.engine.builders import doc_table
from pm_pipeline_tests.engine.kernel.scripts import Script, fills, reports
import numpy as np
np.seterr(over="ignore")
warm()
for heading in ("Taking", "Refusals"):
    for row in doc_table("fills.md", heading):
        played = Script(row["script"]).play()
        assert (fills(played), reports(played)) == (row["fills"], row["reports"]), row
print("same")
"""


def test_the_kernel_means_the_same_when_it_is_not_compiled() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", PLAIN]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr[-2000:]
