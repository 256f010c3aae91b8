from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND, to_nanos
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.errors import BadResponse, SourceError, UnsupportedError
from pm_pipeline.sources.polymarket import PolymarketAdapter
from pm_pipeline_tests.sources.polymarket.material import (
    CLOSED,
    CONDITION,
    MARKET,
    NOW,
    OPENED,
    page,
    read,
    status,
    trade,
)
from pm_pipeline_tests.sources.server import Server, json_response

START, END = OPENED // SECOND, CLOSED // SECOND


def nanos(value: Any) -> int:
    return to_nanos(value)


def series(start: int, step: int, *, until: int = END) -> list[dict[str, Any]]:
    return [{"t": t, "p": 0.5} for t in range(start, until, step)]


def clob(by_fidelity: dict[int, Any]) -> Server:
    def answer(request: Request) -> Response:
        return json_response({"history": by_fidelity.get(int(request.query_params["fidelity"]), [])})

    return Server({"/prices-history": answer})


def prices(**servers: Any) -> list[dict[str, Any]]:
    return read(lambda adapter: adapter.get_prices(MARKET), **servers)


def test_mid_points_of_both_outcomes_come_in_order_once_and_known_when_true() -> None:
    shuffled = [{"t": START + 60, "p": 0.2155}, {"t": START, "p": 0.2}, {"t": START + 60, "p": 0.2155}]
    rows = prices(clob=clob({1: shuffled}))
    assert [(r["outcome_index"], nanos(r["ts"]) - OPENED, r["mid"]) for r in rows] == [
        (0, 0, 200_000), (0, MINUTE, 215_500), (1, 0, 200_000), (1, MINUTE, 215_500),
    ]  # fmt: skip
    assert {r["known_at"] == r["ts"] for r in rows} == {True}
    assert {(r["resolution_s"], r["bid"], r["source"]) for r in rows} == {(60, None, "clob:/prices-history")}


def test_windows_are_explicit_and_no_longer_than_fifteen_days() -> None:
    server = clob({1: series(START, 60, until=START + 600)})
    long_lived = Window(OPENED, OPENED + 40 * DAY)
    pieces = list(long_lived.split(15 * DAY))
    assert [(p.end - p.start) // DAY for p in pieces] == [15, 15, 10]
    prices(clob=server)
    assert server.asked[0][1] == {"market": "111", "startTs": str(START), "endTs": str(END), "fidelity": "1"}


def test_where_fine_history_has_expired_a_coarser_one_fills_the_part_before_it() -> None:
    middle = START + 24 * 3600
    rows = [
        r
        for r in prices(clob=clob({1: series(middle, 60), 30: series(START, 1800)}))
        if r["outcome_index"] == 0
    ]
    times = [nanos(r["ts"]) // SECOND for r in rows]
    assert times == sorted(set(times))
    assert {r["resolution_s"] for r in rows if nanos(r["ts"]) // SECOND < middle} == {1800}
    assert {r["resolution_s"] for r in rows if nanos(r["ts"]) // SECOND >= middle} == {60}
    assert times[0] == START


def test_an_empty_answer_asks_for_coarser_points_and_at_last_the_data_api() -> None:
    server = clob({})
    data = Server({"/v2/status": status(), "/v2/prices-history": page([])})
    assert prices(clob=server, data=data) == []
    assert [params["fidelity"] for _, params in server.asked] == ["1", "5", "30", "180"] * 2
    assert [p["bucket_seconds"] for path, p in data.asked if path.endswith("history")] == [
        "60",
        "300",
        "1800",
        "10800",
    ] * 2


def test_a_price_of_the_data_api_is_known_when_its_bucket_ends_and_the_payout_is_no_price() -> None:
    points = [
        {"timestamp": START + 300, "price": 0.3, "resolution_seconds": 300},
        {"timestamp": START, "price": 0.2, "resolution_seconds": 300},
        {"timestamp": END - 60, "price": 1, "resolution_seconds": 0},
    ]
    rows = prices(clob=clob({}), data={"/v2/prices-history": page(points)})
    first = [r for r in rows if r["outcome_index"] == 0]
    assert [(nanos(r["ts"]) - OPENED, nanos(r["known_at"]) - OPENED, r["mid"]) for r in first] == [
        (0, 5 * MINUTE, 200_000),
        (5 * MINUTE, 10 * MINUTE, 300_000),
    ]
    assert {r["source"] for r in rows} == {"data:/v2/prices-history"}


def test_points_outside_the_window_are_dropped() -> None:
    around = [
        {"t": START - 60, "p": 0.1},
        {"t": START, "p": 0.2},
        {"t": END, "p": 0.99},
        {"t": END + HOUR // SECOND, "p": 1},
    ]
    assert {r["mid"] for r in prices(clob=clob({1: around}))} == {200_000}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "missing required field `history`"),
        ({"history": [{"t": START}]}, "missing required field `p`"),
        ({"history": [{"t": START, "p": 1.5}]}, "p is 1.5, not a price"),
        ({"history": [{"t": START * 1000, "p": 0.5}]}, "not a time in seconds"),
        ({"history": [{"t": "x", "p": 0.5}]}, r"history\[0\]\.t"),
    ],
)
def test_a_history_of_another_shape_is_refused(body: object, words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        prices(clob={"/prices-history": body})


def test_a_market_without_an_opening_has_no_window() -> None:
    with pytest.raises(SourceError, match="nobody says when"):
        read(lambda a: a.get_prices(replace(MARKET, opened_at=None)))


def test_the_window_of_an_open_market_ends_now() -> None:
    window = PolymarketAdapter.prices_window
    adapter: Any = None
    assert window(adapter, replace(MARKET, traded_until=None), NOW) == Window(OPENED, NOW)
    assert window(adapter, MARKET, NOW) == Window(OPENED, CLOSED)
    assert window(adapter, MARKET, OPENED - DAY) == Window(OPENED, OPENED)


def test_there_are_no_candles() -> None:
    with pytest.raises(UnsupportedError, match="no candlesticks"):
        read(lambda a: a.get_candles(MARKET))


# trades


def trades(*pages: Any) -> list[dict[str, Any]]:
    return read(lambda a: a.get_trades(MARKET), data={"/v2/trades": list(pages)})


def test_a_trade_is_known_a_second_later_and_its_outcome_is_told_by_the_token() -> None:
    (row,) = trades(page([trade(token_id="222", outcome_index=999, side="SELL")]))
    assert (row["outcome_index"], row["side"], row["side_evidence"]) == (1, "sell", "feed")
    assert (row["price"], row["size"], row["wallet"]) == (250_000, 10_500_000, "0xw")
    assert nanos(row["known_at"]) - nanos(row["ts"]) == SECOND


def test_rows_that_are_alike_are_kept_and_counted_across_pages_and_out_of_order() -> None:
    other = trade(size=3)
    rows = trades(page([trade(), other, trade()], "c"), page([trade(timestamp=1783862000), trade()]))
    assert [(r["size"], nanos(r["ts"]) // SECOND, r["ordinal"]) for r in rows] == [
        (10_500_000, 1783862192, 0),
        (3_000_000, 1783862192, 0),
        (10_500_000, 1783862192, 1),
        (10_500_000, 1783862000, 0),
        (10_500_000, 1783862192, 2),
    ]


@pytest.mark.parametrize("step", [-1, 1])
def test_long_histories_are_counted_in_bounded_memory_whichever_way_they_run(step: int) -> None:
    rows = [trade(timestamp=1783862192 + step * (n // 2)) for n in range(24_000)]
    found = trades(page(rows))
    assert [r["ordinal"] for r in found] == [0, 1] * 12_000


def test_rows_too_far_out_of_order_to_be_counted_are_an_error() -> None:
    rows = [trade(timestamp=1783862192 - n) for n in range(10_000)]
    with pytest.raises(BadResponse, match="out of order"):
        trades(page([*rows, rows[0]]))


def test_every_page_carries_the_filters_and_asks_for_the_smallest_trades() -> None:
    server = Server({"/v2/status": status(), "/v2/trades": [page([trade()], "c"), page([trade(size=1)])]})
    read(lambda a: a.get_trades(MARKET), data=server)
    filters = {"condition_id": CONDITION, "limit": "1000", "filter_amount": "0"}
    assert [p for path, p in server.asked if path == "/v2/trades"] == [filters, {**filters, "cursor": "c"}]


def test_combos_are_left_out() -> None:
    assert trades(page([trade(condition_id="0x" + "a" * 62)])) == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (trade(token_id="333"), "token_id 333 is no outcome"),
        (trade(condition_id="0x" + "cd" * 32), "asked for"),
        (trade(side="MERGE"), "side is 'MERGE'"),
        (trade(price=2), "price is 2"),
        (trade(size=-1), "size is -1, which is negative"),
        ({**trade(), "timestamp": None}, "timestamp"),
    ],
)
def test_an_impossible_trade_is_refused(row: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        trades(page([row]))


def test_an_envelope_that_contradicts_itself_is_refused() -> None:
    bad = {"data": [trade()], "pagination": {"has_more": True, "next_cursor": None}}
    with pytest.raises(BadResponse, match="next_cursor disagrees"):
        trades(bad)


# books and positions

BOOK = {
    "market": CONDITION,
    "asset_id": "111",
    "timestamp": "1784958701198",
    "bids": [{"price": "0.01", "size": "5"}, {"price": "0.02", "size": "10118.155555555"}],
    "asks": [{"price": "0.99", "size": "7"}, {"price": "0.5", "size": "30"}],
}


def books(body: object) -> list[dict[str, Any]]:
    answer = (
        body
        if isinstance(body, Response)
        else json_response(body, 200, {"x-sandbox-now": "1784958702000000000"})
    )
    return read(lambda a: a.get_orderbook(MARKET), clob={"/book": answer})


def test_a_book_is_a_reset_and_its_levels_best_first() -> None:
    rows = books(BOOK)
    assert [(r["kind"], r["side"], r["price"], r["size"]) for r in rows] == [
        ("reset", None, None, None),
        ("level", "bid", 20_000, 10_118_155_555),
        ("level", "bid", 10_000, 5_000_000),
        ("level", "ask", 500_000, 30_000_000),
        ("level", "ask", 990_000, 7_000_000),
    ]
    assert {r["seq"] for r in rows} == {1784958702000000}
    assert {(nanos(r["ts"]), nanos(r["known_at"])) for r in rows} == {
        (1784958701198000000, 1784958702000000000)
    }


def test_no_book_is_not_an_empty_book() -> None:
    assert books(json_response({"error": "No orderbook exists"}, 404)) == []
    assert [r["kind"] for r in books({**BOOK, "bids": [], "asks": []})] == ["reset"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"asset_id": "222"}, "asked for token 111"),
        ({"timestamp": "1784958701"}, "not in milliseconds"),
        ({"bids": [{"price": "1.5", "size": "5"}]}, "price is 1.5"),
        ({"asks": None}, r"\$\.asks"),
    ],
)
def test_an_impossible_book_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        books({**BOOK, **change})


def test_positions_are_read_with_their_dust() -> None:
    row = {
        "proxy_wallet": "0xw",
        "condition_id": CONDITION,
        "token_id": "111",
        "current_size": 28.09,
        "avg_price": 0.6699,
        "realized_pnl": -1.25,
        "status": "OPEN",
        "outcome_index": 999,
    }
    server = Server({"/v2/status": status(), "/v2/positions": page([row])})
    (position,) = read(lambda a: a.get_positions("0xw"), data=server)
    assert (position.size, position.avg_price, position.realised_pnl) == (28_090_000, 669_900, -1_250_000)
    assert (position.outcome_index, position.market_key, position.status) == (None, None, "OPEN")
    assert server.asked[0][1]["filter_amount"] == "0"
