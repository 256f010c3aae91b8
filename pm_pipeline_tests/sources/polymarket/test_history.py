"""The present book and the positions of a wallet, as the adapter gives them."""

from typing import Any

import pytest
from starlette.responses import Response

from pm_pipeline.markets.clock import to_nanos
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline_tests.sources.polymarket.material import CONDITION, MARKET, page, read, status
from pm_pipeline_tests.sources.polymarket.wallets.wallet_material import WALLET
from pm_pipeline_tests.sources.server import Server, json_response


def nanos(value: Any) -> int:
    return to_nanos(value)


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
        "proxy_wallet": WALLET,
        "condition_id": CONDITION,
        "token_id": "111",
        "current_size": 28.09,
        "total_size": 30.0,
        "avg_price": 0.6699,
        "realized_pnl": -1.25,
        "status": "OPEN",
        "outcome_index": 999,
    }
    server = Server({"/v2/status": status(), "/v2/positions": page([row])})
    (position,) = read(lambda a: a.get_positions(WALLET), data=server)
    assert (position.size, position.avg_price, position.realised_pnl) == (28_090_000, 669_900, -1_250_000)
    assert (position.outcome_index, position.market_key, position.status) == (None, None, "OPEN")
    assert server.asked[0][1]["filter_amount"] == "0.000001"
