import pyarrow as pa
import pytest

from pm_pipeline.engine import Mark, Scenario
from pm_pipeline.engine.venue.tape import Evidence, Kind, weakest
from pm_pipeline.markets import Side, TickRange
from pm_pipeline_tests.engine.builders import at, bbo, book, cents, data, market, mids, snapshot, tape
from pm_pipeline_tests.warehouse import builders as warehouse

TAPERED = (
    TickRange(1_000, 100_000, 1_000),
    TickRange(100_000, 900_000, 10_000),
    TickRange(900_000, 999_000, 1_000),
)


@pytest.mark.parametrize(
    ("mid", "half_spread", "bid", "ask"),
    [
        (50, 1, 49, 51),
        (50, 0, 49, 51),
        (50.5, 1, 49, 52),
        (5, 0.2, 4.8, 5.2),
        (5.05, 0.2, 4.8, 5.3),
        (10, 0.5, 9, 11),
        (0.1, 0.2, None, 0.3),
        (99.9, 0.2, 99.7, None),
        (99.7, 0.2, 99.5, 99.9),
    ],
)
def test_a_mid_becomes_prices_on_the_grid_away_from_us(
    mid: float, half_spread: float, bid: float | None, ask: float | None
) -> None:
    of = data(market(ticks=TAPERED), mids([(0, mid)]))
    touch = tape(of, half_spread=cents(half_spread)).outcome(0).touch
    assert (touch.bid[0], touch.ask[0]) == (cents(bid) or -1, cents(ask) or -1)
    assert touch.kind[0] == Kind.MID


@pytest.mark.parametrize(
    ("later", "worth"),
    [
        (mids([(0, 40), (60, 0.5)]), 2),
        (bbo([(0, 39, 41), (60, None, 2)]), 2),
        (bbo([(0, 39, 41), (60, None, 60)]), 39),
        (bbo([(0, 39, 41), (60, None, None)]), 39),
        (bbo([(0, 39, 41), (60, 98, None)]), 98),
    ],
)
def test_where_nobody_bids_any_more_the_offer_bounds_the_worth(
    later: dict[str, pa.Table], worth: int
) -> None:
    path = tape(data(market(), later)).outcome(0)
    assert path.mark(at(0), Mark.BID) == cents(39)
    assert path.mark(at(60), Mark.BID) == cents(worth)


def test_the_other_outcome_is_the_mirror() -> None:
    of = data(market(), book([*snapshot(1, [(45, 100)], [(48, 50)]), warehouse.event(3, "gap")]))
    yes, no = tape(of).outcome(0).touch, tape(of).outcome(1).touch
    assert (yes.bid[0], yes.ask[0], yes.mid[0]) == (450_000, 480_000, 465_000)
    assert (no.bid[0], no.ask[0], no.mid[0]) == (520_000, 550_000, 535_000)
    assert list(yes.kind) == list(no.kind) == [Kind.L2, Kind.GAP]
    assert yes.bid[1] == no.bid[1] == -1


def test_prices_of_zero_and_one_are_nobodys() -> None:
    touch = tape(data(market(), bbo([(0, 0, 100)]))).outcome(0).touch
    assert (touch.bid[0], touch.ask[0], touch.kind[0]) == (-1, -1, Kind.BBO)


def test_rows_are_put_in_the_order_in_which_they_were_true() -> None:
    rows = [{"ts": 10, "known_at": 20, "mid": 400_000}, {"ts": 5, "known_at": 30, "mid": 600_000}]
    of = data(market(), {"market_data.prices": warehouse.prices(rows)})
    path = tape(of).outcome(0)
    assert list(path.touch.ts) == [at(5), at(10)]
    assert path.mid_known_at(at(20)) == 400_000
    assert path.mid_known_at(at(19)) is None


def test_the_last_mark_is_kept_while_nobody_bids() -> None:
    path = tape(data(market(), bbo([(0, 40, 44), (60, None, 44)]))).outcome(0)
    assert [path.mark(at(t), Mark.BID) for t in (-1, 0, 59, 60, 999)] == [
        None,
        400_000,
        400_000,
        400_000,
        400_000,
    ]


def test_a_mark_may_be_the_mid() -> None:
    path = tape(data(market(), mids([(0, 40)])), Scenario.PESSIMISTIC).outcome(0)
    assert (path.mark(at(1), Mark.MID), path.mark(at(1), Mark.BID)) == (400_000, 380_000)


def test_the_closing_price_is_the_last_mid_strictly_before_the_close() -> None:
    path = tape(data(market(), mids([(0, 40), (60, 45), (120, 99)]))).outcome(0)
    assert [path.last_mid_before(at(t)) for t in (0, 60, 61, 120, 121)] == [
        None,
        400_000,
        450_000,
        450_000,
        990_000,
    ]


def test_the_next_row_skips_those_without_the_side() -> None:
    path = tape(data(market(), bbo([(0, 40, 44), (60, 41, None), (120, None, 45)]))).outcome(0)
    assert [path.next_row(Side.BUY, i) for i in (-1, 0, 2)] == [0, 2, None]
    assert [path.next_row(Side.SELL, i) for i in (-1, 0, 1)] == [0, 1, None]


def test_a_tape_knows_until_when_it_knows_something() -> None:
    empty, full = tape(data(market())), tape(data(market(), mids([(7, 40)])))
    assert (empty.last_ts, full.last_ts) == (0, 0)
    full.outcome(0)
    assert full.last_ts == at(7)


def test_the_weakest_evidence_wins() -> None:
    assert weakest([Evidence.L2, Evidence.MID, Evidence.BBO]) is Evidence.MID
    assert weakest([Evidence.L2, Evidence.BBO]) is Evidence.BBO
