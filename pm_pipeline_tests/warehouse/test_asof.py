from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.warehouse import (
    AsOfView,
    BookReplay,
    LookAheadError,
    MarketData,
    MissingPartitionError,
    Quote,
    open_view,
    time_array,
    view_of,
)
from pm_pipeline.warehouse.asof import data_shown_by
from pm_pipeline_tests.warehouse.builders import (
    KEY,
    at,
    book_events,
    event,
    lake_at,
    level,
    market,
    prices,
    trades,
)
from pm_pipeline_tests.warehouse.test_replay import SNAPSHOT, logs

PRICES = "market_data.prices"
TRADES = "market_data.trades"
BOOK = "market_data.book_events"


def view(outcomes: int = 2, **tables: pa.Table) -> AsOfView:
    named = {f"market_data.{name}": rows for name, rows in tables.items()}
    return view_of(MarketData.of_tables(market(outcomes=outcomes), named))


def test_a_view_of_a_lake_shows_what_was_known_and_no_more(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, prices([{"ts": t, "known_at": t + 5, "mid": t * 1000} for t in range(10)]))
    lake.write(TRADES, KEY, trades([{"ts": t, "side": "sell" if t % 2 else "buy"} for t in range(10)]))
    lake.write(BOOK, KEY, book_events(SNAPSHOT))
    whole = open_view(lake, market(volume=10**9, traded_until=at(99)))
    assert (whole.market.volume, whole.market.traded_until) == (None, None)
    assert whole.until == FOREVER
    early = whole.as_of(at(7))
    assert early.quotes().mid.tolist() == [0, 1000, 2000]
    assert early.trades().ts.tolist() == [at(t) for t in range(8)]
    assert early.trades().side.tolist() == [1, -1] * 4
    assert repr(early) == f"AsOfView({KEY}, until={at(7)})"
    fresh = open_view(lake, market(), at(7))
    assert fresh.quotes().mid.tolist() == early.quotes().mid.tolist()
    assert fresh.book() == early.book() is not None
    assert len(whole.quotes()) == 10


def test_a_view_can_be_narrowed_and_never_widened() -> None:
    early = view(prices=prices([{"ts": 1, "mid": 1}])).as_of(at(5))
    assert early.as_of(at(5)).as_of(at(3)).until == at(3)
    for widen in (lambda: early.as_of(at(5) + 1), lambda: early.book(at(6)), lambda: early.as_of(FOREVER)):
        with pytest.raises(LookAheadError, match="a strategy may only look back"):
            widen()
    with pytest.raises(AttributeError):
        early.until = FOREVER  # type: ignore[misc]


def test_the_lake_is_not_reachable_through_public_names(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write(PRICES, KEY, prices([{"ts": 1, "mid": 1}]))
    opened = open_view(lake, market())
    public = [name for name in dir(opened) if not name.startswith("_")]
    assert sorted(public) == ["as_of", "book", "book_log", "fills", "market", "quotes", "trades", "until"]


def test_the_data_that_a_view_shows_end_where_it_ends() -> None:
    whole = view(
        prices=prices([{"ts": t, "mid": t} for t in range(9)]),
        trades=trades([{"ts": t, "known_at": t + 1} for t in range(9)]),
        book_events=book_events(SNAPSHOT),
    )
    early = whole.as_of(at(3))
    shown = data_shown_by(early)
    assert shown.quotes().mid.tolist() == [0, 1, 2, 3]
    assert shown.trades.ts.tolist() == early.trades().ts.tolist() == [at(0), at(1), at(2)]
    assert shown.book_log.seq.tolist() == early.book_log().seq.tolist()
    assert len(data_shown_by(whole).trades) == 9


def test_arrays_of_a_view_cannot_be_changed() -> None:
    quotes = view(prices=prices([{"ts": 1, "mid": 1}, {"ts": 2, "mid": 2}])).as_of(at(1)).quotes()
    with pytest.raises(ValueError, match="read-only"):
        quotes.mid[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        view(trades=trades([{"ts": 1}])).trades().price[0] = 5


def test_a_market_that_was_never_fetched_is_an_error_and_not_an_empty_view(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    with pytest.raises(MissingPartitionError, match=f"nothing is stored about {KEY}.*bt fetch"):
        open_view(lake, market())
    lake.write(PRICES, KEY, prices([]))
    empty = open_view(lake, market())
    assert (len(empty.quotes(0)), len(empty.quotes(1)), len(empty.trades()), empty.book()) == (0, 0, 0, None)
    assert empty.quotes().last() is None


def test_rows_that_do_not_say_since_when_they_are_known_are_never_shown() -> None:
    def forget(rows: pa.Table) -> pa.Table:
        position = rows.schema.get_field_index("known_at")
        first, *rest = rows.column("known_at").cast(pa.int64()).to_pylist()
        assert first is not None
        return rows.set_column(position, "known_at", time_array([None, *(us * 1000 for us in rest)]))

    opened = view(
        prices=forget(prices([{"ts": 1, "mid": 1}, {"ts": 2, "mid": 2}])),
        trades=forget(trades([{"ts": 1}, {"ts": 2}])),
        book_events=forget(book_events([event(1, "reset"), level(2, "bid", 1, 1)])),
    )
    assert opened.quotes().mid.tolist() == [2]
    assert opened.trades().ts.tolist() == [at(2)]
    assert opened.book() is None


# --------------------------------------------------------------------------- quotes


def test_quotes_are_sorted_by_when_they_were_known() -> None:
    rows = [(3, 3, 1), (1, 4, 2), (0, 3, 3), (2, 2, 4)]
    quotes = view(prices=prices([{"ts": t, "known_at": k, "mid": m} for t, k, m in rows])).quotes()
    assert quotes.mid.tolist() == [4, 3, 1, 2]
    assert quotes.last() == Quote(at(1), at(4), 2, None, None)


def test_the_other_outcome_of_a_binary_market_is_mirrored_exactly() -> None:
    opened = view(
        prices=prices([{"ts": 1, "mid": 520_001, "bid": 500_000, "ask": 540_002}, {"ts": 2, "bid": 1}])
    )
    no = opened.quotes(1)
    assert no.last() == Quote(at(2), at(2), None, None, 999_999)
    assert (no.mid.tolist(), no.bid.tolist(), no.ask.tolist()) == (
        [479_999, -1],
        [459_998, -1],
        [500_000, 999_999],
    )
    assert opened.quotes(1).mid_float()[0] == pytest.approx(0.479999)
    assert np.isnan(opened.quotes(1).mid_float()[1])
    mirror = view(prices=prices([{"ts": 1, "mid": 300_000, "outcome_index": 1}]))
    assert mirror.quotes(0).mid.tolist() == [700_000]


def test_stored_quotes_of_an_outcome_are_preferred_to_the_mirror() -> None:
    rows = [{"ts": 1, "mid": 500_000}, {"ts": 2, "mid": 490_000, "outcome_index": 1}]
    opened = view(prices=prices(rows), book_events=book_events(SNAPSHOT))
    assert opened.quotes(1).mid.tolist() == [490_000]
    # which source counts is decided by what is known, not by what will be stored
    assert opened.as_of(at(1)).quotes(1).mid.tolist() == [500_000]
    assert opened.as_of(at(1)).quotes(0).mid.tolist() == [500_000]


def test_three_outcomes_are_not_mirrored() -> None:
    opened = view(3, prices=prices([{"ts": 1, "mid": 1}]), book_events=book_events(SNAPSHOT))
    assert opened.quotes(0).mid.tolist() == [1]
    assert len(opened.quotes(2)) == 0
    with pytest.raises(UsageError, match="has no outcome 3; it has 0 to 2"):
        opened.quotes(3)


def test_without_prices_quotes_come_from_the_book() -> None:
    opened = view(book_events=book_events([*SNAPSHOT, event(5, "gap")]))
    assert opened.as_of(at(4)).quotes(0).last() == Quote(at(1), at(1), 500_000, 400_000, 600_000)
    assert opened.as_of(at(4)).quotes(1).last() == Quote(at(1), at(1), 500_000, 400_000, 600_000)
    assert opened.quotes(1).last() == Quote(at(5), at(5), None, None, None)
    assert len(opened.as_of(at(0)).quotes()) == 0


# --------------------------------------------------------------------------- books and trades


def test_the_book_is_right_whichever_way_the_times_go() -> None:
    opened = view(book_events=book_events([*SNAPSHOT, level(3, "bid", 41, 1), event(5, "gap")]))
    for t, bid in [(4, 410_000), (1, 400_000), (0, None), (3, 410_000), (5, None), (2, 400_000)]:
        book = opened.book(at(t))
        assert (book.bid if book else None) == bid
        narrowed = opened.as_of(at(t)).book()
        assert narrowed == book


def test_trades_carry_their_outcome_wallet_and_block_flag() -> None:
    rows: list[dict[str, Any]] = [
        {"ts": 2, "outcome_index": 1, "price": 7, "size": 8, "wallet": "0xa"},
        {"ts": 1, "is_block": True, "known_at": 3},
    ]
    found = view(trades=trades(rows)).trades()
    assert found.outcome_index.tolist() == [1, 0]
    assert (found.price[0], found.size[0]) == (7, 8)
    assert found.wallet.tolist() == ["0xa", None]
    assert found.is_block.tolist() == [False, True]


def test_market_data_shows_the_engine_everything() -> None:
    data = MarketData.of_tables(market(), {BOOK: book_events(SNAPSHOT), TRADES: trades([{"ts": 1}])})
    assert len(data.book_log) == 4
    assert len(data.trades) == 1
    assert BookReplay(data.book_log).advance(FOREVER) == data.book(FOREVER)
    assert data.quotes(0).mid.tolist() == [500_000]


# --------------------------------------------------------------------------- no look-ahead

rows_of_prices = st.lists(
    st.fixed_dictionaries(
        {
            "ts": st.integers(0, 20),
            "known_at": st.integers(0, 30),
            "outcome_index": st.integers(0, 1),
            "mid": st.none() | st.integers(0, 10**6),
            "bid": st.none() | st.integers(0, 10**6),
        }
    ),
    max_size=15,
).map(prices)
rows_of_trades = st.lists(
    st.fixed_dictionaries({"ts": st.integers(0, 20), "known_at": st.integers(0, 30)}), max_size=15
).map(trades)


def _content(opened: AsOfView) -> list[Any]:
    arrays = (opened.quotes(0), opened.quotes(1), opened.trades())
    return [opened.book()] + [
        getattr(columns, name).tolist() for columns in arrays for name in type(columns).__dataclass_fields__
    ]


def _truncated(rows: pa.Table, t: Nanos) -> pa.Table:
    return rows.filter(pc.less_equal(rows.column("known_at"), time_array([t])[0]))


@given(rows_of_prices, rows_of_trades, logs(), st.lists(st.integers(0, 35), min_size=1, max_size=6))
def test_a_view_shows_the_same_whether_or_not_later_rows_are_stored(
    price_rows: pa.Table, trade_rows: pa.Table, book_rows: pa.Table, times: list[int]
) -> None:
    stored = {"prices": price_rows, "trades": trade_rows, "book_events": book_rows}
    whole = view(**stored)
    for t in map(at, times):
        narrowed = whole.as_of(t)
        for columns in (narrowed.quotes(0), narrowed.quotes(1), narrowed.trades()):
            assert (columns.known_at <= t).all()
            assert (np.diff(columns.known_at) >= 0).all()
        alone = view(**{name: _truncated(rows, t) for name, rows in stored.items()})
        assert _content(narrowed) == _content(alone) == _content(view(**stored).as_of(t))
