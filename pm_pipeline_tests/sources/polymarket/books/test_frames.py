"""Frames of the market WebSocket: recorded, hand-made, and anything at all."""

import csv
import gzip
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.books.frames import (
    BookFrame,
    PriceChange,
    Row,
    TokenLog,
    moment_of,
    parse,
)
from pm_pipeline_tests.shared import SHARED, needs_shared

WS = SHARED / "samples" / "polymarket" / "ws"
MS = 1_000_000
START = 1_750_000_000_000


def book(at: int, bids: str = "0.4x10", asks: str = "0.6x10", token: str = "1") -> dict[str, Any]:
    """A book frame; ``at`` counts milliseconds from a start."""
    sides = {
        name: [dict(zip(("price", "size"), level.split("x"), strict=True)) for level in text.split()]
        for name, text in (("bids", bids), ("asks", asks))
    }
    return {"event_type": "book", "asset_id": token, "timestamp": str(START + at), **sides}


def change(at: int, *levels: str, token: str = "1") -> dict[str, Any]:
    """A change of levels, each written as ``BUY0.4x5``."""
    changes = []
    for level in levels:
        side, rest = (level[:3], level[3:]) if level.startswith("BUY") else (level[:4], level[4:])
        price, size = rest.split("x")
        changes.append({"asset_id": token, "price": price, "size": size, "side": side})
    return {"event_type": "price_change", "timestamp": str(START + at), "price_changes": changes}


def ticks(at: int, token: str = "1") -> dict[str, Any]:
    return {
        "event_type": "tick_size_change",
        "asset_id": token,
        "timestamp": str(START + at),
        "old_tick_size": "0.01",
        "new_tick_size": "0.001",
    }


def feed(log: TokenLog, frame: dict[str, Any], received_at: Nanos | None = None) -> list[Row]:
    rows: list[Row] = []
    for event in parse(json.dumps(frame)):
        if isinstance(event, BookFrame):
            rows += log.book(event.bids, event.asks, moment_of(event.timestamp), received_at)
        elif isinstance(event, PriceChange):
            rows += log.changes(event.price_changes, moment_of(event.timestamp), received_at)
    return rows


def kinds(rows: list[Row]) -> str:
    return "".join(row.kind[0] for row in rows)


BOOK, CHANGED = book(10), change(20, "BUY0.4x5")


@pytest.mark.parametrize(
    ("frames", "rows"),
    [
        ([BOOK], ["rll"]),
        ([BOOK, CHANGED], ["rll", "l"]),
        ([CHANGED], [""]),  # a change of a book that nobody knows
        ([BOOK, CHANGED, CHANGED], ["rll", "l", ""]),  # the same message twice
        ([BOOK, BOOK], ["rll", ""]),
        ([BOOK, CHANGED, change(20, "BUY0.4x6"), CHANGED], ["rll", "l", "l", "l"]),  # the last word is 5
        ([BOOK, change(10, "BUY0.4x6"), BOOK, BOOK], ["rll", "l", "rll", ""]),
        ([BOOK, CHANGED, change(15, "BUY0.4x7")], ["rll", "l", "g"]),  # late: nobody can place it
        ([BOOK, CHANGED, book(15)], ["rll", "l", "g"]),
        ([BOOK, CHANGED, book(15), change(30, "BUY0.4x1"), book(40)], ["rll", "l", "g", "", "rll"]),
        ([BOOK, CHANGED, book(15), book(15), book(19)], ["rll", "l", "g", "", ""]),  # stale ones stay so
        ([BOOK, CHANGED, book(15), book(20)], ["rll", "l", "g", "rll"]),
        ([BOOK, change(20, "BUY0.4x0", "SELL0.6x3")], ["rll", "ll"]),
        ([book(10, "", "")], ["r"]),  # a book that is empty is known
        ([book(10, "0.4x0", "")], ["r"]),
    ],
)
def test_frames_become_rows(frames: list[dict[str, Any]], rows: list[str]) -> None:
    log = TokenLog()
    assert [kinds(feed(log, frame)) for frame in frames] == rows


def test_a_row_has_two_clocks_and_its_own_number() -> None:
    log = TokenLog()
    at = (START + 10) * MS
    rows = feed(log, BOOK, at + 7) + feed(log, change(11, "SELL0.6x0.5"), at + 5)
    assert [(row.ts, row.known_at) for row in rows[::3]] == [(at, at + 7), (at + MS, at + MS)]
    assert rows[1:3] == [
        Row(at, at + 7, at // 1000, "level", "bid", 400_000, 10_000_000),
        Row(at, at + 7, at // 1000, "level", "ask", 600_000, 10_000_000),
    ]
    assert rows[3] == Row(at + MS, at + MS, at // 1000 + 1000, "level", "ask", 600_000, 500_000)


def test_after_a_gap_a_book_from_before_it_is_not_believed() -> None:
    """A server that begins a new connection with what it sent on the last one tells nothing new."""
    log = TokenLog()
    assert kinds(feed(log, BOOK) + feed(log, CHANGED) + log.lost(None)) == "rlllg"
    assert [kinds(feed(log, frame)) for frame in (BOOK, CHANGED, book(21))] == ["", "", "rll"]


def test_messages_of_one_microsecond_keep_their_order_and_a_resumed_log_goes_on() -> None:
    log = TokenLog()
    rows = feed(log, BOOK) + feed(log, change(10, "BUY0.4x5")) + feed(log, change(10, "BUY0.4x6"))
    assert len({row.seq for row in rows}) == 3
    resumed = TokenLog.resume(log.state())
    assert feed(resumed, change(10, "BUY0.4x7")) == feed(log, change(10, "BUY0.4x7"))
    assert log.lost(None) == resumed.lost(None)
    assert kinds(resumed.lost(None)) == ""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"event_type":"book","asset_id":"1","timestamp":"1750000000000","bids":[]}', "asks"),
        ('{"event_type":"surprise"}', "surprise"),
        ('{"event_type":"price_change","asset_id":"1","price":"0.5","timestamp":"1"}', "price_changes"),
        ('{"asset_id":"1"}', "event_type"),
        ('{"event_type":"book",', "truncated"),
        ("[[1]]", "object"),
    ],
)
def test_what_is_no_frame_says_what_is_wrong(text: str, names: str) -> None:
    with pytest.raises(BadResponse, match=names):
        parse(text)


def test_a_pong_and_what_the_book_does_not_need_say_nothing() -> None:
    assert parse("PONG") == parse(b"PONG") == []
    assert len(parse('[{"event_type":"new_market"},{"event_type":"best_bid_ask"}]')) == 2


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        (change(1, "HOLD0.4x5"), "side"),
        (change(1, "BUY1.4x5"), "not a price"),
        (change(1, "BUY0.4x-5"), "negative"),
        (book(1, "0.4x1 0.4x2"), "twice"),
        (book(-START), "milliseconds"),
    ],
)
def test_an_impossible_level_or_time_is_refused(bad: dict[str, Any], names: str) -> None:
    with pytest.raises(BadResponse, match=names):
        feed(TokenLog(), bad)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
TEXTS = st.sampled_from(["0.4", "1", "-1", "NaN", "Infinity", "1e400", "", "x", "1750000000001", "BUY"])
LIKELY = st.fixed_dictionaries(
    {"event_type": st.sampled_from(["book", "price_change", "tick_size_change", "last_trade_price"])},
    optional={
        **dict.fromkeys(("asset_id", "timestamp", "hash", "new_tick_size"), TEXTS | JSON),
        **{
            name: JSON | st.lists(st.fixed_dictionaries({"price": TEXTS, "size": TEXTS}), max_size=3)
            for name in ("bids", "asks")
        },
        "price_changes": JSON
        | st.lists(
            st.fixed_dictionaries({"asset_id": TEXTS, "price": TEXTS, "size": TEXTS, "side": TEXTS}),
            max_size=3,
        ),
    },
)


@given(JSON | LIKELY | st.lists(LIKELY, max_size=3))
def test_any_json_is_rows_of_a_possible_book_or_a_source_error(value: Any) -> None:
    log = TokenLog()
    try:
        for frame in value if isinstance(value, list) else [value]:
            for row in feed(log, frame):
                assert row.known_at >= row.ts
                assert (row.kind == "level") == (row.side is not None)
                if row.price is not None and row.size is not None:
                    assert 0 <= row.price <= 1_000_000
                    assert row.size >= 0
    except BadResponse:
        return


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes_are_events_or_a_source_error(value: bytes | str) -> None:
    try:
        assert isinstance(parse(value), list)
    except BadResponse:
        return


@needs_shared
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("nautilus_ws_book_2024.json", "BookFrame"),
        ("nautilus_ws_last_trade_price_2024.json", "LastTrade"),
        ("nautilus_ws_market_best_bid_ask_msg.json", "BestBidAsk"),
        ("nautilus_ws_market_book_msg.json", "BookFrame"),
        ("nautilus_ws_market_last_trade_msg.json", "LastTrade"),
        ("nautilus_ws_market_new_market_msg.json", "NewMarket"),
        ("nautilus_ws_market_price_change_msg.json", "PriceChange"),
        ("nautilus_ws_market_resolved_msg.json", "MarketResolved"),
        ("nautilus_ws_market_tick_size_msg.json", "TickSizeChange"),
        ("nautilus_ws_price_change_v2.json", "PriceChange"),
        ("nautilus_ws_price_change_v1_old.json", None),  # the form of before September 2025
    ],
)
def test_every_sample_frame_is_read_or_refused_for_a_reason(name: str, what: str | None) -> None:
    text = (WS / name).read_text()
    if what is None:
        with pytest.raises(BadResponse, match="missing required field `price_changes`"):
            parse(text)
        return
    [event] = parse(text)
    assert type(event).__name__ == what


def recorded_frames(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(token, type, frame) of a recording that was flattened to a row per level, in its order."""
    with gzip.open(path, "rt") as file:
        rows = csv.DictReader(file)
        for (token, kind, at, _), group in groupby(
            rows, key=lambda row: (row["asset_id"], row["event_type"], row["timestamp"], row["hash"])
        ):
            levels = list(group)
            frame: dict[str, Any] = {"event_type": kind, "asset_id": token, "timestamp": at}
            if kind == "book":
                for name, side in (("bids", "bid"), ("asks", "ask")):
                    frame[name] = [{k: r[k] for k in ("price", "size")} for r in levels if r["side"] == side]
            else:
                frame["price_changes"] = [
                    {"asset_id": token, "side": "BUY" if r["side"] == "bid" else "SELL"}
                    | {k: r[k] for k in ("price", "size")}
                    for r in levels
                ]
            yield token, kind, frame


@needs_shared
@pytest.mark.parametrize("path", sorted(WS.glob("signaldrift_l2_*.csv.gz")), ids=lambda path: path.stem)
def test_a_recorded_game_is_read_whole_and_each_book_is_the_last_word(path: Path) -> None:
    logs: dict[str, TokenLog] = {}
    levels: dict[str, dict[tuple[str | None, int | None], int | None]] = {}
    gaps = books = 0
    for token, kind, frame in recorded_frames(path):
        rows = feed(logs.setdefault(token, TokenLog()), frame)
        gaps += kinds(rows).count("g")
        held = levels.setdefault(token, {})
        for row in rows:
            if row.kind == "reset":
                held.clear()
            elif row.kind == "level":
                held[row.side, row.price] = row.size
        if kind == "book" and rows and rows[0].kind == "reset":
            books += 1
            wanted = {("bid", x["price"]): x["size"] for x in frame["bids"]} | {
                ("ask", x["price"]): x["size"] for x in frame["asks"]
            }
            assert len(held) == len(wanted)
    assert len(logs) == 2
    assert books > 20
    assert gaps == (2 if "pit-det" in path.name else 0)  # where a book came 5 ms after a later one
