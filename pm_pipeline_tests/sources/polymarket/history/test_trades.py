"""Trades: what a row says, and that no faulty page passes for the truth."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND, to_nanos
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.history.trades import REACH, SETTLED_AFTER, out_of_reach
from pm_pipeline_tests.sources.polymarket.material import (
    CONDITION,
    MARKET,
    NOW,
    page,
    read,
    status,
    trade,
    venue,
)
from pm_pipeline_tests.sources.server import Server, json_response

T = 1783862192
Spoil = Callable[[int, list[Any]], list[Any]]


def nanos(value: Any) -> int:
    return to_nanos(value)


class Feed:
    """A listing of rows, cut by the limit that is asked for; ``spoil`` changes the page of a request."""

    def __init__(self, rows: Iterable[Any], spoil: Spoil = lambda request, rows: rows) -> None:
        self.rows, self.spoil, self.requests = list(rows), spoil, 0
        self.server = Server({"/v2/status": status(), "/v2/trades": self._page})

    def _page(self, request: Request) -> Response:
        self.requests += 1
        limit, at = int(request.query_params["limit"]), int(request.query_params.get("cursor", "0"))
        rows = self.spoil(self.requests, self.rows[at : at + limit])
        more = at + limit < len(self.rows)
        return json_response(page(rows, str(at + limit) if more else None))

    @property
    def asked(self) -> list[dict[str, str]]:
        return [params for path, params in self.server.asked if path == "/v2/trades"]

    def trades(self, since: int = 0) -> list[dict[str, Any]]:
        return read(lambda a: a.get_trades(MARKET, since), data=self.server)


def trades(*rows: Any) -> list[dict[str, Any]]:
    return Feed(rows).trades()


def test_a_trade_is_known_a_second_later_and_its_outcome_is_told_by_the_token() -> None:
    (row,) = trades(trade(token_id="222", outcome_index=999, side="SELL"))
    assert (row["outcome_index"], row["side"], row["side_evidence"]) == (1, "sell", "feed")
    assert (row["price"], row["size"], row["wallet"]) == (250_000, 10_500_000, "0xw")
    assert nanos(row["known_at"]) - nanos(row["ts"]) == SECOND


def test_rows_that_are_alike_are_kept_and_counted_across_pages_and_out_of_order() -> None:
    other = trade(size=3)
    rows = trades(trade(), other, trade(), trade(timestamp=1783862000), trade())
    assert [(r["size"], nanos(r["ts"]) // SECOND, r["ordinal"]) for r in rows] == [
        (10_500_000, 1783862192, 0),
        (3_000_000, 1783862192, 0),
        (10_500_000, 1783862192, 1),
        (10_500_000, 1783862000, 0),
        (10_500_000, 1783862192, 2),
    ]


@pytest.mark.parametrize("step", [-1, 1])
def test_long_histories_are_counted_in_bounded_memory_whichever_way_they_run(step: int) -> None:
    found = trades(*(trade(timestamp=T + step * (n // 2)) for n in range(24_000)))
    assert [r["ordinal"] for r in found] == [0, 1] * 12_000


def test_rows_too_far_out_of_order_to_be_counted_are_an_error() -> None:
    rows = [trade(timestamp=T - n) for n in range(10_000)]
    with pytest.raises(BadResponse, match="out of order"):
        trades(*rows, rows[0])


def test_every_page_carries_the_filters_and_asks_for_the_smallest_trades() -> None:
    feed = Feed(trade(timestamp=T - n) for n in range(1500))
    feed.trades()
    filters = {
        "condition": CONDITION,
        "taker_only": "true",  # the rows of makers repeat the same contracts
        "filter_type": "TOKENS",
        "filter_amount": "0.000001",
    }
    assert all({**filters, "limit": params["limit"]}.items() <= params.items() for params in feed.asked)
    assert [params.get("cursor") for params in feed.asked] == [None, "1000", None, "993"]


def test_combos_are_left_out() -> None:
    assert trades(trade(condition_id="0x" + "a" * 62)) == []


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
        trades(row)


def test_an_envelope_that_contradicts_itself_is_refused() -> None:
    bad = {"data": [trade()], "pagination": {"has_more": True, "next_cursor": None}}
    with pytest.raises(BadResponse, match="next_cursor disagrees"):
        read(lambda a: a.get_trades(MARKET), data={"/v2/trades": bad})


def test_trades_that_have_not_settled_are_left_to_the_next_reading() -> None:
    edge = (NOW - SETTLED_AFTER) // SECOND
    rows = trades(trade(timestamp=edge + 1), trade(timestamp=edge), trade(timestamp=edge - 1))
    assert [nanos(row["ts"]) // SECOND for row in rows] == [edge - 1]


# two readings


def repeated(rows: list[Any]) -> list[Any]:
    return rows + rows[-1:]


def lost(rows: list[Any]) -> list[Any]:
    return rows[:-1]


def rotated(rows: list[Any]) -> list[Any]:
    return rows[1::2] + rows[0::2]


MATERIAL = [trade(timestamp=T - n // 3, size=1 + n // 2 % 3) for n in range(2300)]
"""Three pages, with rows that are alike."""


def shown(rows: Iterable[dict[str, Any]]) -> Counter[Any]:
    return Counter((nanos(r["ts"]), r["size"], r["ordinal"]) for r in rows)


@pytest.mark.parametrize("change", [repeated, lost, rotated])
@pytest.mark.parametrize("request_number", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("count", [1, 2, 700, 2300])
def test_one_faulty_page_is_outvoted_or_refused(
    change: Callable[[list[Any]], list[Any]], request_number: int, count: int
) -> None:
    truth = shown(trades(*MATERIAL[:count]))
    feed = Feed(MATERIAL[:count], lambda n, rows: change(rows) if n == request_number else rows)
    found = None
    with suppress(BadResponse):
        found = shown(feed.trades())
    assert found in (None, truth)
    assert found == truth or change is not rotated


@pytest.mark.parametrize(
    ("change", "count"), [(repeated, n) for n in (3, 7, 700, 1000, 2300)] + [(lost, 2300)]
)
def test_a_fault_on_every_page_is_never_believed(
    change: Callable[[list[Any]], list[Any]], count: int
) -> None:
    feed = Feed(MATERIAL[:count], lambda n, rows: change(rows))
    with pytest.raises(BadResponse, match=r"no two of \d readings|rows a page, got"):
        feed.trades()


def test_the_second_reading_is_cut_elsewhere_so_that_no_cache_can_answer_it() -> None:
    for count in (1, 2, 5, 999, 1000, 1001, 2300):
        feed = Feed(MATERIAL[:count])
        feed.trades()
        limits = list(dict.fromkeys(params["limit"] for params in feed.asked))
        assert limits == ["1000", str(min(993, count - 1) if count > 2 else 993)]


# going on


def test_a_reading_stops_where_it_is_known_how_it_goes_on() -> None:
    feed = Feed(trade(timestamp=T - n) for n in range(5000))
    rows = feed.trades(since=(T - 1200) * SECOND)
    assert sorted(nanos(row["ts"]) // SECOND for row in rows) == list(range(T - 1200, T + 1))
    assert feed.requests == 2 + 2


def test_pages_that_do_not_keep_the_order_are_read_to_the_end() -> None:
    rows = [trade(timestamp=T - n) for n in range(3000)]
    late = trade(timestamp=T - 5, size=77)
    feed = Feed([*rows[:700], late, *rows[700:]])
    found = feed.trades(since=(T - 100) * SECOND)
    assert sum(row["size"] == 77_000_000 for row in found) == 1
    feed = Feed([rows[500], *rows[:500], *rows[501:], late])
    found = feed.trades(since=(T - 100) * SECOND)
    assert sum(row["size"] == 77_000_000 for row in found) == 1
    assert feed.requests > 6


def test_what_lies_beyond_the_reach_of_the_feed_is_told() -> None:
    assert out_of_reach(NOW - REACH, NOW) == ""
    assert out_of_reach(None, NOW) == ""
    words = out_of_reach(NOW - REACH - DAY, NOW)
    assert "goes back three years, to 2023-08-02" in words
    assert "opened at 2023-08-01" in words

    async def told(opened: int) -> str:
        async with venue() as adapter:
            rows: Any = None
            return adapter.shortfall("market_data.trades", replace(MARKET, opened_at=opened), rows, NOW)

    assert asyncio.run(told(NOW - 4 * 365 * DAY)).startswith("the feed goes back three years")
    assert asyncio.run(told(NOW - HOUR - MINUTE)) == ""
